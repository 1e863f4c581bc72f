"""As which user the agent runs, by systemd's files and by whose folder it is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent.ops import service
from buffer.owner import User


def made(folder: Path, **files: str) -> tuple[str, ...]:
    (folder / "limpet.service.d").mkdir(exist_ok=True)
    for name, text in files.items():
        path = "limpet.service" if name == "unit" else f"limpet.service.d/{name}.conf"
        (folder / path).write_text(text)
    return (str(folder),)


def test_the_unit_and_what_drop_ins_change(tmp_path: Path) -> None:
    run = str(tmp_path)
    assert service.unit((str(tmp_path),), run) is None
    folders = made(tmp_path, unit="[Service]\nUser=limpet\nSupplementaryGroups=a\n")
    assert service.unit(folders, run) == service.Unit(user="limpet", groups=("a",))
    made(tmp_path, one="[Service]\n User = other \nSupplementaryGroups=b c\n")
    assert service.unit(folders, run) == service.Unit(user="other", groups=("a", "b", "c"))
    made(tmp_path, two="[Service]\nSupplementaryGroups=\n")
    assert service.unit(folders, run) == service.Unit(user="other")
    assert service.unit(folders, f"{run}/nowhere") is None


def test_a_masked_unit(tmp_path: Path) -> None:
    (tmp_path / "limpet.service").symlink_to(os.devnull)
    assert service.unit((str(tmp_path),), str(tmp_path)) == service.Unit(is_masked=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="to others it is of no use")
def test_whose_rights_root_takes(tmp_path: Path) -> None:
    data_dir = str(tmp_path)
    nobody = service.Unit(user="nobody")
    assert service.user(data_dir, service.CONFIG, None) is None
    found = service.user(data_dir, service.CONFIG, nobody)
    assert found is not None
    assert found.uid == 65534
    assert service.user(data_dir, "/elsewhere.yaml", nobody) is None  # it is not the service's
    os.chown(tmp_path, 60123, 60124)  # a user without a name
    assert service.user(data_dir, "/elsewhere.yaml", nobody) == User(60123, 60124)
    assert service.user(f"{data_dir}/none", "/elsewhere.yaml", nobody) is None
    assert service.owner(data_dir) == "60123"
