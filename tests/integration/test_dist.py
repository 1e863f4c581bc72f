"""What is built is what runs: the wheel holds the packages with their data, and nothing else."""

from __future__ import annotations

import os
import sys
import zipfile
from pathlib import Path

import pytest

from tests.support.limpet import ENVIRONMENT, LIMPET, ROOT
from tests.support.run import output
from tools.deb import PACKAGES


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("dist"), "022")


def build(folder: Path, umask: str) -> Path:
    """Build as `make dist` does, as somebody whose files have other modes."""
    command = 'umask "$1" && exec sh tools/dist.sh "$2" "$3"'
    arguments = ["sh", "-c", command, "sh", umask, sys.executable, str(folder)]
    output(*arguments, cwd=ROOT)
    return folder


def test_the_wheel_has_the_packages_and_their_data(built: Path) -> None:
    [wheel] = built.glob("limpet-*.whl")
    names = zipfile.ZipFile(wheel).namelist()

    for shell in ("bash", "zsh", "tcsh"):
        assert f"agent/completions/limpet.{shell}" in names
    modules = {str(path.relative_to(ROOT)) for top in PACKAGES for path in (ROOT / top).rglob("*.py")}
    assert modules <= set(names)
    tops = {name.split("/")[0] for name in names}
    assert tops == {*PACKAGES, next(top for top in tops if top.endswith(".dist-info"))}


def test_the_same_commit_gives_the_same_bytes(built: Path, tmp_path: Path) -> None:
    again = build(tmp_path, "077")
    assert len(list(built.iterdir())) == 2
    for one in built.iterdir():
        assert one.read_bytes() == (again / one.name).read_bytes(), one.name


@pytest.mark.skipif("INSTALLED" not in os.environ, reason="`make test` installs the wheel")
def test_the_command_that_is_tested_is_the_wheel_s() -> None:
    assert Path(LIMPET).read_text().startswith(f"#!{ENVIRONMENT}/bin/python")
    code = f"import {', '.join(PACKAGES)}; print({', '.join(f'{name}.__file__' for name in PACKAGES)}, sep='\\n')"
    found = output(ENVIRONMENT / "bin" / "python", "-c", code, cwd="/").splitlines()
    site = ENVIRONMENT / "lib" / f"python3.{sys.version_info.minor}" / "site-packages"
    assert found == [str(site / package / "__init__.py") for package in PACKAGES]
