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


def test_the_wheel_has_the_packages_and_their_data(tmp_path: Path) -> None:
    output("sh", "tools/dist.sh", sys.executable, tmp_path, cwd=ROOT)
    [wheel] = tmp_path.glob("limpet-*.whl")
    names = zipfile.ZipFile(wheel).namelist()

    for shell in ("bash", "zsh", "tcsh"):
        assert f"agent/completions/limpet.{shell}" in names
    modules = {str(path.relative_to(ROOT)) for top in PACKAGES for path in (ROOT / top).rglob("*.py")}
    assert modules <= set(names)
    tops = {name.split("/")[0] for name in names}
    assert tops == {*PACKAGES, next(top for top in tops if top.endswith(".dist-info"))}


@pytest.mark.skipif("INSTALLED" not in os.environ, reason="`make test` installs the wheel")
def test_the_command_that_is_tested_is_the_wheel_s() -> None:
    assert Path(LIMPET).read_text().startswith(f"#!{ENVIRONMENT}/bin/python")
    code = f"import {', '.join(PACKAGES)}; print({', '.join(f'{name}.__file__' for name in PACKAGES)}, sep='\\n')"
    found = output(ENVIRONMENT / "bin" / "python", "-c", code, cwd="/").splitlines()
    site = ENVIRONMENT / "lib" / f"python3.{sys.version_info.minor}" / "site-packages"
    assert found == [str(site / package / "__init__.py") for package in PACKAGES]
