"""A program as a process, run to its end."""

from __future__ import annotations

import subprocess
import sys
from typing import Any


def run(*command: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a program, and return its exit status and what it printed, as text."""
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, **options)


def output(*command: object, **options: Any) -> str:
    """Return what a program printed. Raises AssertionError with all of it where the program failed."""
    done = run(*command, **options)
    assert done.returncode == 0, f"{command[0]}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


def python(code: str, *arguments: str, **options: Any) -> str:
    """Return what this code printed in a process of its own."""
    return output(sys.executable, "-c", code, *arguments, **options)
