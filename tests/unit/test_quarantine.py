"""The quarantine's promises: whole or not at all, one of each, bounded, and no name leads out of it."""

from __future__ import annotations

import itertools
import json
import math
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buffer.fs import RealFs
from buffer.model import Instant, Series, Tick
from buffer.quarantine import FILES, MAX_ITEMS, Item, Quarantine
from tests.support.faults import Failing, Fault, PowerLost, died, died_in_write, disk_full, eio, short_write
from tests.support.ticks import exactly, tick

WORDS = "HTTP 400: out of bounds, said “Müller”"


def put(
    quarantine: Quarantine, position: int, ticks: list[Tick], at_ms: int = 5, to: str = "there"
) -> list[Item]:
    return quarantine.put(to, position, ticks, "rejected", 400, WORDS, at_ms)


def kept(quarantine: Quarantine, name: str) -> list[Tick]:
    return [tick for entry in quarantine.entries(name) for tick in entry.ticks]


def test_what_is_put_comes_back_with_the_receivers_words(tmp_path: Path) -> None:
    quarantine = Quarantine(str(tmp_path))
    assert quarantine.items() == []
    ticks = [tick(n, width=1 + n % 5) for n in range(20)]
    assert put(quarantine, 1234, ticks) == []
    [item] = quarantine.items()
    times = [one.at.wall_ms for one in ticks]
    samples = sum(len(one.values) for one in ticks)
    size = sum(path.stat().st_size for path in (tmp_path / "quarantine" / item.id).glob("*.seg"))
    name = "there-00000000000000001234"
    assert item == Item(name, "there", 5, "rejected", 400, WORDS, samples, size, times[0], times[-1])
    assert quarantine.get(name) == item
    assert exactly(kept(quarantine, name)) == exactly(ticks)


def test_values_and_times_come_back_whatever_they_are(tmp_path: Path) -> None:
    quarantine = Quarantine(str(tmp_path))
    odd = [math.nan, -0.0, math.inf, 5e-324, 1e308]
    series = tuple(Series(f"s{i}", (("path", "/é\n"),)) for i in range(len(odd)))
    ticks = [
        Tick(Instant(2000, 7, "0" * 32), "b", series, odd),
        Tick(Instant(1000, 3, "f" * 32), "a", series[:1], [1.0]),  # a clock that was set back, another boot
    ]
    put(quarantine, 0, ticks)
    [item] = quarantine.items()
    assert (item.oldest_timestamp_ms, item.newest_timestamp_ms) == (1000, 2000)
    assert exactly(kept(quarantine, item.id)) == exactly(ticks)


def test_the_same_batch_twice_is_one_item_the_newer_one(tmp_path: Path) -> None:
    quarantine = Quarantine(str(tmp_path))
    put(quarantine, 7, [tick(1), tick(2)], at_ms=1)
    put(quarantine, 7, [tick(1)], at_ms=2)
    [item] = quarantine.items()
    assert item.refused_at_ms == 2
    assert exactly(kept(quarantine, item.id)) == exactly([tick(1)])


def test_items_are_listed_in_the_order_of_their_refusal(tmp_path: Path) -> None:
    quarantine = Quarantine(str(tmp_path))
    for at, to, position in ((30, "a", 1), (10, "b", 9), (20, "a", 0)):
        put(quarantine, position, [tick(at)], at, to)
    assert [item.refused_at_ms for item in quarantine.items()] == [10, 20, 30]


def test_the_oldest_go_when_there_is_no_room_and_are_named(tmp_path: Path) -> None:
    ticks = [tick(n, width=20) for n in range(30)]
    trial = Quarantine(str(tmp_path / "trial"))
    put(trial, 0, ticks)
    size = sum(path.stat().st_blocks for path in (tmp_path / "trial" / "quarantine").rglob("*")) * 512
    quarantine = Quarantine(str(tmp_path / "real"), max_size=3 * size)
    gone = [put(quarantine, n, ticks, at_ms=n) for n in range(5)]
    assert [[item.refused_at_ms for item in one] for one in gone] == [[], [], [], [0], [1]]
    assert [item.refused_at_ms for item in quarantine.items()] == [2, 3, 4]
    assert put(quarantine, 4, ticks, at_ms=9) == []  # replaces itself: nobody has to go


def test_no_ticks_are_no_item(tmp_path: Path) -> None:
    quarantine = Quarantine(str(tmp_path))
    with pytest.raises(ValueError, match="nothing to keep"):
        put(quarantine, 0, [])
    assert quarantine.items() == []


def test_an_item_is_dropped_once(tmp_path: Path) -> None:
    quarantine = Quarantine(str(tmp_path))
    put(quarantine, 0, [tick(0)])
    put(quarantine, 1, [tick(1)])
    first, second = quarantine.items()
    assert quarantine.drop(first.id)
    assert not quarantine.drop(first.id)
    assert quarantine.items() == [second]
    with pytest.raises(FileNotFoundError):
        list(quarantine.entries(first.id))


@given(st.text() | st.sampled_from(["..", "../cursors", "/etc", ".there-" + "0" * 20, "a/b-" + "0" * 20]))
def test_no_name_leads_out_of_the_folder(name: str) -> None:
    quarantine = Quarantine("/nowhere", fs=Untouchable())
    assert quarantine.get(name) is None
    assert not quarantine.drop(name)
    with pytest.raises(FileNotFoundError):
        quarantine.entries(name)


class Untouchable:
    """A file system that must not be asked."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"{name} was called")


SOUND = Item("", "x", 1, "rejected", 400, "no", 1, 1, 1, 1).document()


@pytest.mark.parametrize(
    "about",
    [
        *(b"", b"null", b"[]", b"{", b'{"id": 1}', b"\xff", b"[" * 50_000, b'{"surplus": 1}'),
        *(json.dumps(SOUND | {key: None}).encode() for key in SOUND if key != "id"),
        json.dumps(SOUND | {"surplus": 1}).encode(),
    ],
)
def test_what_is_no_item_is_left_out_and_left_alone(tmp_path: Path, about: bytes) -> None:
    quarantine = Quarantine(str(tmp_path))
    put(quarantine, 1, [tick(1)])
    strange = tmp_path / "quarantine" / ("x-" + "0" * 20)
    strange.mkdir()
    (strange / "about.json").write_bytes(about)
    (tmp_path / "quarantine" / "README").touch()
    assert [item.destination for item in quarantine.items()] == ["there"]
    assert quarantine.get(strange.name) is None
    assert not quarantine.drop(strange.name)
    assert (strange / "about.json").read_bytes() == about


def test_a_damaged_item_gives_what_is_readable(tmp_path: Path) -> None:
    quarantine = Quarantine(str(tmp_path))
    ticks = [tick(n, width=8) for n in range(200)]
    put(quarantine, 0, ticks)
    [item] = quarantine.items()
    [file] = (tmp_path / "quarantine" / item.id).glob("*.seg")
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    found = exactly(kept(quarantine, item.id))
    assert found == exactly(ticks[: len(found)])
    assert len(found) == 199


@pytest.mark.parametrize(
    "fault", [eio, disk_full, short_write, died, died_in_write], ids=lambda f: f.__name__
)
def test_any_call_may_fail_and_an_item_is_whole_or_not_there(tmp_path: Path, fault: Fault) -> None:
    before, ticks = [tick(n) for n in range(3)], [tick(n) for n in range(3, 9)]
    for n in itertools.count(1):
        folder = str(tmp_path / f"{n}")
        put(Quarantine(folder), 0, before)
        fs = Failing(RealFs(), n, fault)
        try:
            put(Quarantine(folder, fs=fs), 50, ticks)
            acknowledged = True
        except (OSError, PowerLost):
            acknowledged = False
        after = Quarantine(folder)
        found = {item.id: exactly(kept(after, item.id)) for item in after.items()}
        assert found.pop("there-" + "0" * 20) == exactly(before)
        assert acknowledged <= bool(found)
        assert set(found) <= {f"there-{50:020d}"}
        assert all(ticks_found == exactly(ticks) for ticks_found in found.values())
        put(after, 50, ticks)  # it is refused once more
        assert exactly(kept(after, f"there-{50:020d}")) == exactly(ticks)
        assert len(after.items()) == 2
        assert sorted(path.name[0] for path in (Path(folder) / "quarantine").iterdir()) == ["t", "t"]
        if fs.failed is None:
            assert n > 8
            return


def test_two_that_put_at_once_and_one_that_drops(tmp_path: Path) -> None:
    import threading

    quarantine, failures = Quarantine(str(tmp_path), max_size=20_000), list[BaseException]()

    def work(name: str) -> None:
        try:
            for n in range(25):
                put(quarantine, n, [tick(n, width=16) for _ in range(3)], n, name)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(name,)) for name in ("a", "b")]
    for thread in threads:
        thread.start()
    choose = random.Random(1)
    while any(thread.is_alive() for thread in threads):
        for item in quarantine.items():
            if choose.random() < 0.2:
                quarantine.drop(item.id)
    for thread in threads:
        thread.join()
    assert failures == []
    for item in quarantine.items():
        assert sum(len(one.values) for one in kept(quarantine, item.id)) == item.samples
        json.loads((tmp_path / "quarantine" / item.id / "about.json").read_text())


class Counting(RealFs):
    """Counts the files that are opened; the volume has as much room as the test says."""

    opened, room = 0, 1 << 30

    def open(self, path: str) -> int:
        self.opened += 1
        return super().open(path)

    def free(self, folder: str) -> tuple[int, int]:
        return self.room, 1 << 40


def test_many_small_items_are_bounded_in_blocks_and_inodes(tmp_path: Path) -> None:
    """A receiver that refuses each batch in other words: what counts is what the disk counts."""
    fs = Counting(str(tmp_path))
    quarantine = Quarantine(str(tmp_path), max_size=1 << 20, fs=fs)
    gone = sum(len(put(quarantine, n, [tick(n)], n)) for n in range(120))
    inside = list((tmp_path / "quarantine").rglob("*"))
    assert sum(path.stat().st_blocks for path in inside) * 512 <= 1 << 20
    assert gone == 120 - len(quarantine.items()) > 20
    before = fs.opened
    put(quarantine, 999, [tick(1)], 999)
    assert fs.opened - before <= 2  # however many there are
    quarantine.limit(1 << 40)
    for n in range(1000, 1000 + MAX_ITEMS):
        put(quarantine, n, [tick(n)], n)
    assert len(list((tmp_path / "quarantine").rglob("*"))) <= MAX_ITEMS * FILES


def test_segments_keep_the_room_that_the_volume_has_left(tmp_path: Path) -> None:
    fs = Counting(str(tmp_path))
    quarantine = Quarantine(str(tmp_path), fs=fs, min_free=lambda volume: volume // 1000)
    for n in range(3):
        fs.room = 2 << 30
        put(quarantine, n, [tick(n)], n)
    assert quarantine.give_way() == []
    fs.room = (1 << 40) // 1000
    with pytest.raises(OSError, match="No space left"):
        put(quarantine, 9, [tick(9)], 9)
    assert len(quarantine.items()) == 3  # nothing goes for what is not kept
    assert len(quarantine.give_way()) == 3
    assert quarantine.items() == []
