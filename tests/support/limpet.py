"""The command, as a process or in this one: what it prints, and its exit status.

`make test` runs the command of the wheel, in an environment that has the wheel and what is locked for it: INSTALLED names
its folder. Without INSTALLED it is the command of this environment, which is this tree's code.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import sysconfig
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

from agent.cli.main import main
from tests.support.server import tied

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = Path(os.environ.get("INSTALLED", sys.prefix)).absolute()
LIMPET = str(ENVIRONMENT / "bin" / "limpet")


class Done(NamedTuple):
    """How a command ended."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What it printed, as JSON."""
        return json.loads(self.out)


def command(*arguments: str | Path) -> list[str]:
    """Return the command line; the first argument may be several, parted by spaces: "buffer status --data-dir".

    The process ends with the one that starts it.
    """
    first, *more = map(str, arguments)
    return tied([LIMPET, *first.split(), *more])


def environment(home: Path) -> dict[str, str]:
    """Return the environment of a user whose files are below `home`."""
    known = {key: value for key, value in os.environ.items() if key not in ("XDG_STATE_HOME", "COLUMNS")}
    return known | {"HOME": str(home)}


def limpet(home: Path, *arguments: str | Path, **options: Any) -> Done:
    """Run a command to its end."""
    done = subprocess.run(
        command(*arguments),
        cwd=ROOT,
        env=environment(home),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        **options,
    )
    return Done(done.returncode, done.stdout, done.stderr)


def started_by_root(home: Path, config: Path) -> subprocess.Popen[str]:
    """Start this tree's agent, which becomes another user: with a Python that anybody may read."""
    return subprocess.Popen(
        tied([*_for_anybody(), "run", "--config", str(config)]),
        env=_environment_for_anybody(home),
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )


def as_user(uid: int, home: Path, *arguments: str | Path) -> Done:
    """Run a command of this tree as another user, to its end; for root alone, with a Python that anybody may read."""
    first, *more = map(str, arguments)
    done = subprocess.run(
        [*_for_anybody(), *first.split(), *more],
        env=_environment_for_anybody(home),
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        user=uid,
        group=uid,
        extra_groups=[],
    )
    return Done(done.returncode, done.stdout, done.stderr)


def _for_anybody() -> list[str]:
    python = next(
        one for one in (sys.executable, "/usr/bin/python3") if "/root/" not in os.path.realpath(one)
    )
    return [python, "-m", "agent"]


def _environment_for_anybody(home: Path) -> dict[str, str]:
    return environment(home) | {"PYTHONPATH": f"{ROOT}:{sysconfig.get_path('purelib')}"}


def called(home: Path, *arguments: str | Path, columns: int | None = None) -> Done:
    """Run a command to its end in this process: where the process is not the matter, its start is time lost."""
    first, *more = map(str, arguments)
    out, err = io.StringIO(), io.StringIO()
    size = {} if columns is None else {"COLUMNS": str(columns)}
    with (
        patch.dict(os.environ, environment(home) | size, clear=True),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        status = main([*first.split(), *more])
    return Done(status, out.getvalue(), err.getvalue())
