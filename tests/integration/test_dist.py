"""What is built is what runs: the wheel holds the packages with their data, and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.support.limpet import ENVIRONMENT, LIMPET, ROOT

TOPS = ("agent", "buffer", "limpet")


def test_the_wheel_has_the_packages_and_their_data(tmp_path: Path) -> None:
    command: list[str | Path] = [sys.executable, "-m", "build", "--no-isolation", "--outdir", tmp_path, ROOT]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    [wheel] = tmp_path.glob("limpet-*.whl")
    names = zipfile.ZipFile(wheel).namelist()

    for shell in ("bash", "zsh", "tcsh"):
        assert f"agent/completions/limpet.{shell}" in names
    modules = {str(path.relative_to(ROOT)) for top in TOPS for path in (ROOT / top).rglob("*.py")}
    assert modules <= set(names)
    tops = {name.split("/")[0] for name in names}
    assert tops == {*TOPS, next(top for top in tops if top.endswith(".dist-info"))}


@pytest.mark.skipif("INSTALLED" not in os.environ, reason="`make test` installs the wheel")
def test_the_command_that_is_tested_is_the_wheel_s() -> None:
    assert Path(LIMPET).read_text().startswith(f"#!{ENVIRONMENT}/bin/python")
    code = "import agent, buffer, limpet; print(agent.__file__, buffer.__file__, limpet.__file__, sep='\\n')"
    python = [str(ENVIRONMENT / "bin" / "python"), "-c", code]
    found = subprocess.run(python, capture_output=True, text=True, check=True, cwd="/").stdout.splitlines()
    site = ENVIRONMENT / "lib" / f"python3.{sys.version_info.minor}" / "site-packages"
    assert found == [str(site / package / "__init__.py") for package in TOPS]
