"""Limpet in another root, for that root's own Python: the code under test, and what this environment has of the lock."""

from __future__ import annotations

import os
import re
import shutil
import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest

from tests.support.limpet import ENVIRONMENT
from tools.deb import PACKAGES

PROJECT = Path(__file__).resolve().parents[2]
CODE = next(ENVIRONMENT.glob("lib/python3.*/site-packages")) if "INSTALLED" in os.environ else PROJECT
LOCK = PROJECT / "requirements" / "run.txt"
HOME = "/opt/limpet"
COMMAND = f"""#!/usr/bin/python3 -Es
import sys
sys.path.insert(0, "{HOME}")
from agent.cli.main import main
sys.exit(main())
"""


def locked() -> dict[str, str]:
    """The versions in the lock, by name."""
    return dict(re.findall(r"^([\w.-]+)==([^\s;]+)", LOCK.read_text(), re.MULTILINE))


def install(root: Path) -> None:
    """Put it into /opt/limpet and /usr/bin/limpet. Skips the test if the root's Python is of another version."""
    version = f"python3.{sys.version_info.minor}"
    if not (root / "usr/bin" / version).exists():
        pytest.skip(f"the Debian root has no {version}, for which this environment's packages are built")
    home = root / HOME.removeprefix("/")
    home.mkdir(parents=True)
    for name in locked():
        try:
            files = distribution(name).files or []
        except PackageNotFoundError:  # it is for another system or version
            continue
        for file in files:
            if ".." not in file.parts and "__pycache__" not in file.parts:
                (home / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file.locate(), home / file)
    for package in PACKAGES:
        shutil.copytree(CODE / package, home / package, ignore=shutil.ignore_patterns("__pycache__"))
    command = root / "usr/bin/limpet"
    command.write_text(COMMAND)
    command.chmod(0o755)
