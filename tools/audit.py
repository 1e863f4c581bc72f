"""`make audit`: asks OSV for known vulnerabilities of what ships and of what builds it.

Exit status 0: every package of the locks was looked up, and none has a known vulnerability. 1: one has, or the locks are
not as pip-audit wants them. 2: the database gave no answer that can be read, so nothing is known; one line says so.
Further arguments are pip-audit's own, such as `--osv-url URL`.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

LOCKS = ("requirements/run.txt", "requirements/build.txt")
OPTIONS = (
    "--strict",
    "--require-hashes",
    "--disable-pip",
    "--progress-spinner=off",
    "--vulnerability-service=osv",
)
BROKEN = "Traceback (most recent call last)"
"""What pip-audit says when the database gives no answer that it can read: it has no message of its own for that."""


def main(arguments: Sequence[str]) -> int:
    """Run pip-audit over the locks, and return the exit status."""
    locks = [f"--requirement={lock}" for lock in LOCKS]
    command = [sys.executable, "-m", "pip_audit", *OPTIONS, *locks, *arguments]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
    if BROKEN not in done.stderr:
        print(done.stderr, end="", file=sys.stderr)
        return done.returncode
    why = done.stderr.rstrip().rpartition("\n")[2]
    print(
        f"audit: the database of vulnerabilities gave no answer, so nothing is known: {why}. "
        "Try again where it can be reached.",
        file=sys.stderr,
    )
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
