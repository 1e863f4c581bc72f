"""The note of a running agent: it is replaced as a whole, and nothing that somebody else put there is taken for it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from msgspec.structs import replace

from agent import running
from agent.running import Note

NOTE = Note(
    version="0.1.0",
    pid=812,
    boot_id="0" * 32,
    started_ms=1_800_000_000_000,
    config="/etc/limpet/limpet.yaml",
    digest="a" * 64,
    loaded_ms=1_800_000_000_000,
)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    for note in (
        NOTE,
        replace(NOTE, refused_ms=5, problem="limpet.yaml:3: \u00fc"),
        replace(NOTE, ended_ms=6),
    ):
        running.write(str(tmp_path), note)
        assert running.read(str(tmp_path)) == note
    assert os.listdir(tmp_path) == [running.NAME]
    assert (tmp_path / running.NAME).stat().st_mode & 0o777 == 0o600


def test_a_keeper_keeps_what_happened(tmp_path: Path) -> None:
    keeper = running.Keeper(str(tmp_path), "0" * 32, "/etc/limpet/limpet.yaml", "a" * 64)
    assert running.read(str(tmp_path)) is None
    keeper.write()
    first = running.read(str(tmp_path))
    assert first is not None
    assert (first.pid, first.digest, first.loaded_ms) == (os.getpid(), "a" * 64, first.started_ms)
    keeper.refused("wrong" + "\U0001f980" * 100_000)
    found = running.read(str(tmp_path))
    assert found is not None
    assert (found.refused_ms is not None, found.digest) == (True, "a" * 64)
    assert found.problem == "wrong" + "\U0001f980" * (running.LONGEST_PROBLEM - 5)
    keeper.applied("b" * 64)
    keeper.ended()
    found = running.read(str(tmp_path))
    assert found is not None
    assert (found.digest, found.refused_ms, found.problem) == ("b" * 64, None, None)
    assert found.ended_ms is not None


def test_a_disk_that_takes_nothing_is_no_obstacle(tmp_path: Path) -> None:
    keeper = running.Keeper(str(tmp_path / "gone"), "0" * 32, "f", "a")
    keeper.refused("wrong")
    assert keeper.note.problem == "wrong"
    assert running.read(str(tmp_path / "gone")) is None
    (tmp_path / "gone").mkdir()
    for _ in range(2):  # and what was removed comes again
        keeper.keep()
        assert running.read(str(tmp_path / "gone")) == keeper.note
        (tmp_path / "gone" / running.NAME).unlink()


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b"[]", b"null", b'{"pid": "812"}', b"\xff\xfe", b"[" * 10_000, b" " * (running.LARGEST + 1)],
    ids=repr,
)
def test_what_is_no_note_is_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / running.NAME).write_bytes(content)
    assert running.read(str(tmp_path)) is None


def test_what_is_no_file_is_none_and_nothing_waits(tmp_path: Path) -> None:
    """A link to a good note elsewhere is none either: data_dir belongs to a user who need not see that file."""
    place = tmp_path / "data" / running.NAME
    place.parent.mkdir()
    assert running.read(str(place.parent)) is None
    os.mkfifo(place)
    assert running.read(str(place.parent)) is None
    place.unlink()
    place.mkdir()
    assert running.read(str(place.parent)) is None
    place.rmdir()
    running.write(str(tmp_path), NOTE)
    place.symlink_to(tmp_path / running.NAME)
    assert running.read(str(place.parent)) is None
