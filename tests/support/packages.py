"""Debian packages of this tree, built as `make deb` builds them."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.support.run import output

ROOT = Path(__file__).resolve().parents[2]


def built(folder: Path, *more: str) -> Path:
    """Build one into this folder, where there is none yet, compressed in a hurry. Raises AssertionError."""
    output(sys.executable, "-m", "tools.deb", "--out", folder, "--level", "0", *more, cwd=ROOT)
    [package] = folder.glob("*.deb")
    return package
