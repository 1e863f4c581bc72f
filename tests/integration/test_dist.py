"""What is built is what runs: the wheel holds the packages with their data, and nothing else."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_wheel_has_the_packages_and_their_data(tmp_path: Path) -> None:
    command: list[str | Path] = [sys.executable, "-m", "build", "--no-isolation", "--outdir", tmp_path, ROOT]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    [wheel] = tmp_path.glob("limpet-*.whl")
    names = zipfile.ZipFile(wheel).namelist()

    for shell in ("bash", "zsh", "tcsh"):
        assert f"agent/completions/limpet.{shell}" in names
    modules = {
        str(path.relative_to(ROOT)) for top in ("agent", "buffer") for path in (ROOT / top).rglob("*.py")
    }
    assert modules <= set(names)
    tops = {name.split("/")[0] for name in names}
    assert tops == {"agent", "buffer", next(top for top in tops if top.endswith(".dist-info"))}
