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
from buffer.quarantine import FEW, FILES, MAX_ITEMS, SHARE, Item, Quarantine
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


def test_what_is_put_again_after_a_kill_is_there_once(tmp_path: Path) -> None:
    batches = [[tick(n), tick(n + 1)] for n in range(0, 20, 2)]
    quarantine = Quarantine(str(tmp_path))
    for n, batch in enumerate(batches):
        put(quarantine, n, batch, at_ms=n)
    again = Quarantine(str(tmp_path))
    for n, batch in enumerate(batches[6:], 6):
        put(again, n, batch, at_ms=n)
    put(again, 10, [tick(20)])
    [item] = again.items()
    assert exactly(kept(again, item.id)) == exactly([one for batch in batches for one in batch] + [tick(20)])
    # Put together differently it is there twice, and nothing of it is missing.
    put(Quarantine(str(tmp_path)), 10, [tick(20), tick(21)])
    [item] = again.items()
    assert exactly(kept(again, item.id))[-3:] == exactly([tick(20), tick(20), tick(21)])


def test_what_is_refused_in_other_words_at_the_same_place_is_another_item(tmp_path: Path) -> None:
    quarantine = Quarantine(str(tmp_path))
    for n in range(3):
        quarantine.put("there", 7, [tick(n)], "rejected", 400, f"word {n}", n)
    assert [item.message for item in quarantine.items()] == ["word 0", "word 1", "word 2"]
    assert [exactly(kept(quarantine, item.id)) for item in quarantine.items()] == [
        exactly([tick(n)]) for n in range(3)
    ]


def test_weeks_of_the_same_refusal_are_few_files(tmp_path: Path) -> None:
    quarantine = Quarantine(str(tmp_path), fs=Unsynced(str(tmp_path)))
    for n in range(1000):
        put(quarantine, n, [tick(n)], n)
    items = quarantine.items()
    assert sum(item.samples for item in items) == 3000
    assert len(items) == 1
    found = [one for item in items for one in kept(quarantine, item.id)]
    assert exactly(found) == exactly([tick(n) for n in range(1000)])
    assert len(list((tmp_path / "quarantine").rglob("*"))) <= FILES * len(items)


def test_an_item_that_has_its_share_of_the_room_grows_no_more(tmp_path: Path) -> None:
    quarantine = Quarantine(str(tmp_path), max_size=1 << 20, fs=Unsynced(str(tmp_path)))
    for n in range(700):
        put(quarantine, n, [tick(n)], n)
    sizes = [item.bytes for item in quarantine.items()]
    assert len(sizes) > 1
    assert max(sizes) <= (1 << 20) // SHARE


def test_an_item_that_has_grown_since_it_was_read_is_not_dropped(tmp_path: Path) -> None:
    quarantine, other = Quarantine(str(tmp_path)), Quarantine(str(tmp_path))
    put(quarantine, 0, [tick(0)])
    [read] = other.items()
    put(quarantine, 1, [tick(1)])
    assert not other.drop(read.id, read)
    [now] = other.items()
    assert other.drop(now.id, now)
    put(quarantine, 2, [tick(2)])  # which is not lost with what it would have been added to
    [item] = quarantine.items()
    assert exactly(kept(quarantine, item.id)) == exactly([tick(2)])


def test_what_the_receiver_has_goes_first(tmp_path: Path) -> None:
    quarantine = Quarantine(str(tmp_path), max_size=40_000)
    gone: list[Item] = []
    for n in range(6):
        reason = "duplicate" if n in (2, 3) else "rejected"
        gone += quarantine.put("there", n, [tick(n, width=60)], reason, 400, f"word {n}", n)
    assert [item.refused_at_ms for item in gone] == [2, 3, 0]


def test_items_are_listed_in_the_order_of_their_refusal(tmp_path: Path) -> None:
    quarantine = Quarantine(str(tmp_path))
    for at, to, position in ((30, "a", 1), (10, "b", 9), (20, "c", 0)):
        put(quarantine, position, [tick(at)], at, to)
    assert [item.refused_at_ms for item in quarantine.items()] == [10, 20, 30]


def test_the_oldest_go_when_there_is_no_room_and_are_named(tmp_path: Path) -> None:
    ticks = [tick(n, width=20) for n in range(30)]
    trial = Quarantine(str(tmp_path / "trial"))
    put(trial, 0, ticks)
    size = sum(path.stat().st_blocks for path in (tmp_path / "trial" / "quarantine").rglob("*")) * 512
    quarantine = Quarantine(str(tmp_path / "real"), max_size=3 * size)
    gone = [put(quarantine, n, ticks, n, f"to{n}") for n in range(5)]
    assert [[item.refused_at_ms for item in one] for one in gone] == [[], [], [], [0], [1]]
    assert [item.refused_at_ms for item in quarantine.items()] == [2, 3, 4]


def test_no_ticks_are_no_item(tmp_path: Path) -> None:
    quarantine = Quarantine(str(tmp_path))
    with pytest.raises(ValueError, match="nothing to keep"):
        put(quarantine, 0, [])
    assert quarantine.items() == []


def test_an_item_is_dropped_once(tmp_path: Path) -> None:
    quarantine = Quarantine(str(tmp_path))
    put(quarantine, 0, [tick(0)], to="here")
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
    """A file system that must not be used."""

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
@pytest.mark.parametrize("to", ["here", "there"], ids=["new", "grown"])
def test_any_call_may_fail_and_an_item_is_whole_or_not_there(tmp_path: Path, fault: Fault, to: str) -> None:
    before, ticks = [tick(n) for n in range(3)], [tick(n) for n in range(3, 9)]
    for n in itertools.count(1):
        folder = str(tmp_path / f"{n}")
        put(Quarantine(folder), 0, before, to=to)
        fs = Failing(RealFs(), n, fault)
        try:
            put(Quarantine(folder, fs=fs), 50, ticks)
            acknowledged = True
        except (OSError, PowerLost):
            acknowledged = False
        after = Quarantine(folder)
        found = [one for item in after.items() for one in exactly(kept(after, item.id))]
        assert found == exactly(before + ticks) or (found == exactly(before) and not acknowledged)
        assert sum(item.samples for item in after.items()) == sum(len(values) // 8 for *_, values in found)
        put(after, 50, ticks)  # it is refused once more
        assert [one for item in after.items() for one in exactly(kept(after, item.id))] == exactly(
            before + ticks
        )
        assert not [path for path in (Path(folder) / "quarantine").iterdir() if path.name.startswith(".")]
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


class Unsynced(RealFs):
    """Does not wait for the disk."""

    def sync(self, fd: int) -> None:
        pass

    def sync_folder(self, folder: str) -> None:
        pass


class Counting(Unsynced):
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

    def refuse(n: int) -> list[Item]:
        to = f"host{n % 3}"
        return quarantine.put(to, n, [tick(n)], "rejected", 400, f"request {n}: no", n)

    gone = sum(len(refuse(n)) for n in range(600))
    inside = list((tmp_path / "quarantine").rglob("*"))
    assert sum(path.stat().st_blocks for path in inside) * 512 <= 1 << 20
    assert len(quarantine.items()) <= FEW + 3 * SHARE
    assert len(inside) <= FILES * len(quarantine.items())
    assert gone < 64
    before = fs.opened
    refuse(600)
    assert fs.opened - before <= 3  # however many there are
    quarantine.limit(1 << 40)
    for n in range(MAX_ITEMS + 10):
        quarantine.put(f"to{n}", n, [tick(n)], "rejected", 400, "no", 2000 + n)
    assert len(list((tmp_path / "quarantine").rglob("*"))) <= MAX_ITEMS * FILES


def test_segments_keep_the_room_that_the_volume_has_left(tmp_path: Path) -> None:
    fs = Counting(str(tmp_path))
    quarantine = Quarantine(str(tmp_path), fs=fs, min_free=lambda volume: volume // 1000)
    for n in range(3):
        fs.room = 2 << 30
        put(quarantine, n, [tick(n)], n, f"to{n}")
    assert quarantine.give_way() == []
    fs.room = (1 << 40) // 1000
    with pytest.raises(OSError, match="No space left"):
        put(quarantine, 9, [tick(9)], 9)
    assert len(quarantine.items()) == 3  # nothing goes for what is not kept
    assert len(quarantine.give_way()) == 3
    assert quarantine.items() == []
