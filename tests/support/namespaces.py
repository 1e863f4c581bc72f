"""Commands in mount namespaces of their own: what they mount is theirs, and goes with them.

With root or, where the kernel lets everybody, in a user namespace in which the caller is root. A test that needs
a namespace is skipped, with the reason, where neither is possible.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from functools import cache

import pytest

# The script must never mount in the namespace of its caller, however it is called.
GUARD = '[ "$(readlink /proc/self/ns/mnt)" != "$OUTSIDE" ] || { echo "not in a namespace of its own"; exit 99; }\n'


@cache
def reason() -> str | None:
    """Why there are no namespaces here; None where there are."""
    if not shutil.which("unshare"):
        return "there is no unshare"
    done = subprocess.run([*_unshare(()), "true"], capture_output=True, text=True, check=False)
    return f"no namespaces: {done.stderr.strip()}" if done.returncode else None


def _unshare(more: Sequence[str]) -> list[str]:
    own = [] if os.geteuid() == 0 else ["--map-root-user"]
    return ["unshare", "--mount", "--propagation", "private", *own, *more]


def inside(
    script: str, *, more: Sequence[str] = (), command: Sequence[object] = ()
) -> tuple[list[str], Mapping[str, str]]:
    """Return the command, and its environment, that runs `script` (sh) and becomes `command`, in new namespaces.

    Skips the test where they are not available. `more` are further options of unshare.
    """
    if why := reason():
        pytest.skip(why)
    last = f"exec {shlex.join(map(str, command))}\n" if command else ""
    environment = {**os.environ, "LC_ALL": "C", "OUTSIDE": os.readlink("/proc/self/ns/mnt")}
    return [*_unshare(more), "sh", "-ec", GUARD + script + last], environment


def entering(pid: int, *more: str) -> list[str]:
    """What to put in front of a command so that it runs in the namespaces of a process that `inside` made.

    `more` are further options of nsenter, such as `--net`, which then means that of the process.
    """
    user = [] if os.geteuid() == 0 else [f"--user=/proc/{pid}/ns/user", "--preserve-credentials"]
    return ["nsenter", f"--target={pid}", *user, "--mount", *more, "--"]
