"""What the tools that build packages have in common: files of a stage, and programs run to their end."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from buffer.errors import LimpetError


class DebError(LimpetError):
    """The package cannot be built."""


def write(path: Path, content: str) -> None:
    """Write a text, and its folder if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")


def packed(path: Path, content: str) -> None:
    """Write a text compressed, without a time in it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content.encode(), 9, mtime=0))


def link(path: Path, target: str) -> None:
    """Make a symbolic link."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)


def run(
    command: Sequence[str | Path], more: dict[str, str] | None = None, folder: Path | None = None
) -> None:
    """Run a program to its end. Raises DebError with what it said."""
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, **(more or {})}, cwd=folder
    )
    if done.returncode:
        said = (done.stdout + done.stderr).strip()
        raise DebError(" ".join(map(str, command)), f"ended with {done.returncode}: {said}", "See there.")


def pip(command: str) -> list[str]:
    """Return a command of pip, quiet."""
    return [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", command]
