"""Which machine this is: the same word after each start, another one on another machine, and nothing that gives the machine away."""

from __future__ import annotations

from pathlib import Path

from agent import running
from agent.system.identity import LETTERS, machine

ID = "0123456789abcdef0123456789abcdef"


def put(root: Path, machine_id: str | None = ID, serial: str | None = None) -> str:
    """Make a machine below a folder, and return the folder."""
    for path, text in (("etc/machine-id", machine_id), ("proc/device-tree/serial-number", serial)):
        if text is not None:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(text)
    return str(root)


def test_a_machine_is_known_by_its_id_and_its_board(tmp_path: Path) -> None:
    first = machine(put(tmp_path / "a", serial="10000000abcdef01\0"))
    assert first == machine(put(tmp_path / "again", ID + "\n", "10000000abcdef01\0"))
    clone = machine(put(tmp_path / "clone", serial="10000000abcdef02\0"))
    other = machine(put(tmp_path / "other", ID[::-1], "10000000abcdef01\0"))
    plain = machine(put(tmp_path / "plain"))
    assert len({first, clone, other, plain}) == 4
    assert all(len(one) == LETTERS and one not in ID for one in (first, clone, other, plain))
    assert machine(str(tmp_path / "nothing")) == ""


def start(data_dir: Path, root: str) -> running.Note:
    """Start an agent, and return its note."""
    keeper = running.Keeper(str(data_dir), "0" * 32, "f", "a", root=root)
    keeper.write()
    return keeper.note


def test_a_copied_data_dir_is_found_at_the_start(tmp_path: Path) -> None:
    a, b, nothing = put(tmp_path / "a"), put(tmp_path / "b", ID[::-1]), str(tmp_path / "nothing")
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    first = start(data_dir, a)
    assert first.copied_ms is None
    again = start(data_dir, a)
    assert (again.home, again.machine, again.copied_ms) == (first.home, first.machine, None)
    moved = start(data_dir, b)
    assert (moved.home, moved.copied_ms) == (first.home, moved.started_ms)
    assert moved.machine != first.machine
    assert start(data_dir, b).copied_ms == moved.copied_ms  # the next start does not forget it
    assert start(tmp_path, a).home != first.home
    assert (
        start(data_dir, nothing).copied_ms == moved.copied_ms
    )  # where nothing identifies a machine, nothing is known
