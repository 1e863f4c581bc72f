"""Masked names: a key for its owner only, hashes that stay, and nothing that could be read otherwise."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

import pytest

from agent.collect import mask
from agent.collect.mask import KEY_FILE, Mask
from agent.collectors import Sample
from buffer.errors import LimpetError

ALL = ("mountpoint", "device", "interface")
MOUNT = (("device", "/dev/sda1"), ("fstype", "ext4"), ("mountpoint", "/srv/acme"))


def test_what_is_not_masked_is_as_it_was() -> None:
    samples = [Sample("disk_used_bytes", 1.0, MOUNT)]
    assert Mask().samples(samples) is samples
    assert not Mask()
    assert Mask().value("mountpoint", "/srv/acme") == "/srv/acme"
    assert Mask(["device"], b"k").value("mountpoint", "/srv/acme") == "/srv/acme"


def test_only_the_labels_that_are_named(tmp_path: Path) -> None:
    masked = mask.load(str(tmp_path), ["mountpoint"])
    [sample] = masked.samples([Sample("disk_used_bytes", 1.0, MOUNT)])
    assert (sample.name, sample.value) == ("disk_used_bytes", 1.0)
    assert sample.labels[:2] == MOUNT[:2]
    key, value = sample.labels[2]
    assert key == "mountpoint"
    assert re.fullmatch("[0-9a-f]{12}", value)


def test_a_hash_stays_while_the_key_does_and_differs_on_another_host(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    first = mask.load(str(here), ALL).value("mountpoint", "/srv/acme")
    assert mask.load(str(here), ALL).value("mountpoint", "/srv/acme") == first
    assert mask.load(str(here), ["mountpoint"]).value("mountpoint", "/srv/acme") == first
    assert mask.load(str(there), ALL).value("mountpoint", "/srv/acme") != first
    (here / KEY_FILE).unlink()
    assert mask.load(str(here), ALL).value("mountpoint", "/srv/acme") != first


def test_different_names_and_labels_have_different_hashes(tmp_path: Path) -> None:
    masked = mask.load(str(tmp_path), ALL)
    names = [f"/data/{n}" for n in range(10_000)]
    assert len({masked.value("mountpoint", name) for name in names}) == len(names)
    assert masked.value("mountpoint", "data") != masked.value("device", "data")
    assert masked.value("mountpoint", "\udce9")  # what no codec takes


def test_the_same_labels_are_the_same_object_and_do_not_fill_the_memory(tmp_path: Path) -> None:
    masked = mask.load(str(tmp_path), ALL)
    [one], [other] = (masked.samples([Sample("disk_used_bytes", 1.0, MOUNT)]) for _ in range(2))
    assert one.labels is other.labels
    for n in range(3 * mask.MOST_REMEMBERED):
        masked.samples([Sample("x", 1.0, (("device", str(n)),))])
        assert len(masked._made) <= mask.MOST_REMEMBERED + 1
    [again] = masked.samples([Sample("disk_used_bytes", 1.0, MOUNT)])
    assert again.labels == one.labels


def test_the_key_is_made_whole_and_for_its_owner_only(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        mask.load(str(tmp_path), ALL)
    finally:
        os.umask(before)
    file = tmp_path / KEY_FILE
    assert [path.name for path in tmp_path.iterdir()] == [KEY_FILE]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert re.fullmatch("[0-9a-f]{64}\n", file.read_text())


def test_a_key_that_a_kill_left_half_is_made_again(tmp_path: Path) -> None:
    (tmp_path / f"{KEY_FILE}.tmp").write_text("abc")
    mask.load(str(tmp_path), ALL)
    assert [path.name for path in tmp_path.iterdir()] == [KEY_FILE]


@pytest.mark.parametrize("content", [b"", b"abc\n", b"zz" * 32, b"\xff" * 64, b"00" * 31, b"00" * 33])
def test_a_key_that_is_none_is_an_error_that_says_what_to_do(tmp_path: Path, content: bytes) -> None:
    (tmp_path / KEY_FILE).write_bytes(content)
    for read in (mask.load, mask.look):
        with pytest.raises(LimpetError, match="does not hold 64 hex digits"):
            read(str(tmp_path), ALL)
    assert (tmp_path / KEY_FILE).read_bytes() == content


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(LimpetError, match=r"mask\.key cannot be used: no such file"):
        mask.load(str(tmp_path / "none"), ALL)


def test_looking_creates_nothing_and_says_when_the_key_is_another(tmp_path: Path) -> None:
    masked, note = mask.look(str(tmp_path / "none"), ALL)
    assert (
        note
        == "there is no key yet; masked names are hashed with a temporary key and differ from the agent's"
    )
    assert re.fullmatch("[0-9a-f]{12}", masked.value("device", "sda"))
    assert list(tmp_path.iterdir()) == []
    assert mask.look(str(tmp_path), ())[1] is None
    value = mask.load(str(tmp_path), ALL).value("device", "sda")
    masked, note = mask.look(str(tmp_path), ALL)
    assert (masked.value("device", "sda"), note) == (value, None)
    (tmp_path / KEY_FILE).unlink()
    (tmp_path / KEY_FILE).mkdir()
    masked, note = mask.look(str(tmp_path), ALL)
    assert note is not None
    assert "cannot be read: is a directory" in note
    assert masked.value("device", "sda") != value


def test_an_error_says_no_more_than_its_kind() -> None:
    masked = Mask(ALL, b"key")
    told = masked.error(OSError(13, "Permission denied", "/srv/acme"))
    assert str(told) == "[Errno 13] Permission denied"
    assert isinstance(told, PermissionError)
    assert str(masked.error(OSError("/srv/acme is gone"))) == "OSError"
    assert str(masked.error(ValueError("/srv/acme"))) == "ValueError"
