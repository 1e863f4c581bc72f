"""The package's copyright file: what is vendored in our own folders is in it too."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.debian_copyright import copyright_file
from tools.sbom import SbomError

ROOT = Path(__file__).resolve().parents[2]
SITE = Path("opt/limpet/lib")


def test_what_is_vendored_has_its_holder_and_its_whole_license(tmp_path: Path) -> None:
    text = (ROOT / "agent/serve/page/uplot.LICENSE").read_text()
    license_file = tmp_path / SITE / "agent/serve/page/uplot.LICENSE"
    license_file.parent.mkdir(parents=True)
    license_file.write_text(text)
    found = copyright_file(tmp_path, SITE, {})
    assert (
        "\nFiles: /opt/limpet/lib/agent/serve/page/uplot.*\nCopyright: 2022 Leon Sorokin\nLicense: MIT\n"
        in found
    )
    assert all(line.strip() in found for line in text.splitlines())
    license_file.write_text("GNU GENERAL PUBLIC LICENSE\n")
    with pytest.raises(SbomError, match="not the MIT license"):
        copyright_file(tmp_path, SITE, {})
