"""Verification: what is readable, what is lost, and no alarm where nothing is wrong."""

from __future__ import annotations

import os
import random
import shutil
import threading
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from buffer import segment
from buffer.buffer import Buffer
from buffer.fs import RealFs
from buffer.inspect.verify import verify
from buffer.limits import Limits
from buffer.log import Log
from buffer.model import Tick
from buffer.segment import Header, Record
from tests.support.buffers import fill, samples_in, settle
from tests.support.faults import Counting
from tests.support.ticks import tick

RECORDS, WIDTH = 20, 3
FILE = RECORDS * WIDTH  # samples in each of three files


def build(folder: Path, files: int = 3) -> None:
    """Three runs of a writer: three files of 20 records with 3 samples each, and a cursor that is at 9."""
    for run in range(files):
        buffer = Buffer(str(folder), Limits(), ["prod"])
        fill(buffer, run * RECORDS, (run + 1) * RECORDS, WIDTH)
        if not run:
            cursor = buffer.cursors["prod"]
            chunk = cursor.read(9)
            settle(cursor, chunk)
        buffer.close()


def path(folder: Path, file: int) -> Path:
    return folder / "segments" / segment.name(file * FILE)


def offsets(file: Path) -> list[int]:
    """Where each record of a file starts, and where the last one ends."""
    data, first = file.read_bytes(), int(file.stem)
    at, found = segment.HEADER.size, []
    while isinstance(record := segment.decode(data, at, first), Record):
        found.append(at)
        at = record.after
    return [*found, at]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    build(folder)
    return folder


@pytest.fixture
def data(whole: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "data"
    shutil.copytree(whole, copy)
    return copy


def test_a_whole_log_is_fine_and_every_sample_counts(data: Path) -> None:
    report = verify(str(data))
    assert report.ok
    assert [one.samples for one in report.segments] == [FILE] * 3
    assert (report.samples, report.samples_lost, report.gaps, report.notes) == (3 * FILE, 0, [], [])
    assert [(one.name, one.position, one.problem) for one in report.cursors] == [("prod", 9, None)]
    assert report == verify(str(data), deep=True)
    first, last = report.segments[0], report.segments[-1]
    assert first.oldest_timestamp_ms == tick(0).at.wall_ms
    assert last.newest_timestamp_ms == tick(3 * RECORDS - 1).at.wall_ms


def test_nothing_is_written_locked_or_created(data: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in data.rglob("*")}
    fs = Counting()
    verify(str(data), fs=fs)
    assert set(fs.calls) <= {"open", "read", "size", "list", "close"}
    assert {p: p.stat().st_mtime_ns for p in data.rglob("*")} == before
    assert verify(str(data / "nothing")).segments == []
    assert not (data / "nothing").exists()


def flip(file: Path, at: int) -> None:
    data = bytearray(file.read_bytes())
    data[at] ^= 0x10
    file.write_bytes(data)


def cut(file: Path, at: int) -> None:
    os.truncate(file, at)


def swap(one: Path, other: Path) -> None:
    kept = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(kept)


def twice(file: Path, record: int) -> None:
    at, data = offsets(file), file.read_bytes()
    file.write_bytes(data[: at[record + 1]] + data[at[record] : at[record + 1]] + data[at[record + 1] :])


def without(file: Path, record: int) -> None:
    at, data = offsets(file), file.read_bytes()
    file.write_bytes(data[: at[record]] + data[at[record + 1] :])


# What happens to the log, how many samples are lost, and (file, words of the reason) where it shows.
# The records of a file are one key frame and what follows it, so damage costs the rest of the file.
DAMAGE: dict[str, tuple[Callable[[Path], object], int, tuple[int, str] | None]] = {
    "a torn tail": (lambda d: cut(path(d, 2), offsets(path(d, 2))[-1] - 1), 0, None),
    "a torn header": (lambda d: (d / "segments" / segment.name(3 * FILE)).write_bytes(b"LMPT"), 0, None),
    "a flip in record 5": (lambda d: flip(path(d, 1), offsets(path(d, 1))[5] + 23), 45, (1, "checksum")),
    "a flip in a mark": (lambda d: flip(path(d, 1), offsets(path(d, 1))[5]), 45, (1, "no record starts")),
    "a flip in the key frame": (lambda d: flip(path(d, 1), offsets(path(d, 1))[0] + 40), 60, (1, "checksum")),
    "a flip in the header": (lambda d: flip(path(d, 1), 10), 0, (1, "header")),
    "cut in the middle": (lambda d: cut(path(d, 0), offsets(path(d, 0))[7] + 4), 39, (0, "cut short")),
    "cut to nothing": (lambda d: cut(path(d, 0), 0), 60, (0, "cut short")),
    "a record is missing": (lambda d: without(path(d, 1), 15), 15, (1, "expected the record of seq 105")),
    "a record is there twice": (lambda d: twice(path(d, 1), 15), 12, (1, "expected the record of seq 108")),
    "two files swapped": (lambda d: swap(path(d, 0), path(d, 1)), 120, (0, "header")),
    "a newer version": (lambda d: newer(path(d, 1)), 60, (1, "version 3")),
    "zeros in the last file": (lambda d: zeros(path(d, 1)), 30, (1, "no record starts")),
}


def newer(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[4] = segment.VERSION + 1
    head = bytes(data[: segment.HEADER.size - 4])
    data[: segment.HEADER.size] = head + zlib.crc32(head).to_bytes(4, "little")
    file.write_bytes(data)


def zeros(file: Path) -> None:
    at, size = offsets(file)[10], file.stat().st_size
    file.write_bytes(file.read_bytes()[:at] + bytes(size - at))


@pytest.mark.parametrize(("break_it", "lost", "where"), DAMAGE.values(), ids=list(DAMAGE))
def test_what_damage_costs(
    data: Path, break_it: Callable[[Path], object], lost: int, where: tuple[int, str] | None
) -> None:
    break_it(data)
    report = verify(str(data))
    torn = 3 if where is None and len(report.segments) == 3 else 0  # never acknowledged: not there, not lost
    assert (report.samples, report.samples_lost) == (3 * FILE - lost - torn, lost)
    assert report.samples == samples_in(data)
    assert report.ok is (where is None)
    shown = [(i, one.damage.reason) for i, one in enumerate(report.segments) if one.damage]
    if where is not None:
        assert (shown[0][0], where[1] in shown[0][1]) == (where[0], True), shown
        assert len(shown) == (2 if "swapped" in str(break_it) or len(shown) == 2 else 1)
    assert report.gaps == []


def test_a_missing_file_is_a_gap(data: Path) -> None:
    path(data, 1).unlink()
    report = verify(str(data))
    assert not report.ok
    assert [(gap.first_seq, gap.end_seq) for gap in report.gaps] == [(FILE, 2 * FILE)]
    assert (report.samples, report.samples_lost) == (2 * FILE, FILE)
    assert all(one.damage is None for one in report.segments)


def test_a_file_that_goes_while_the_folder_is_listed_is_no_gap(data: Path) -> None:
    """A writer that thins replaces a file, and removes those that it has taken in: the list of before is worth nothing then."""
    second, last, moments = str(path(data, 1)), str(path(data, 2)), list[str]()

    class Thins(RealFs):
        def open(self, file: str) -> int:
            moments.extend(["all were read"] * (file == last and not moments))
            return super().open(file)

        def size(self, file: str) -> int:
            if file == second and moments == ["all were read"]:
                moments.append("the list is made again")
                thinned(data)
            return super().size(file)

    report = verify(str(data), fs=Thins())
    assert len(moments) == 2
    assert report.ok, report


def test_the_oldest_files_may_be_gone(data: Path) -> None:
    path(data, 0).unlink()
    report = verify(str(data))
    assert report.ok
    assert (report.samples, report.samples_lost) == (2 * FILE, 0)


def thinned(data: Path) -> None:
    log = Log(RealFs(), str(data / "segments"), 1 << 20)
    log.thin([header for header, _ in log.segments()[:2]], 1)
    log.close()


def test_a_thinned_segment_has_no_gaps_and_loses_what_is_damaged_only(data: Path) -> None:
    thinned(data)
    report = verify(str(data))
    assert report.ok
    assert [one.level for one in report.segments] == [1, 0]
    coarse = report.segments[0].samples
    assert 0 < coarse < 2 * FILE
    assert (report.segments[0].end_seq, report.samples_lost) == (2 * FILE, 0)
    assert report.samples == samples_in(data) == coarse + FILE

    flip(path(data, 0), path(data, 0).stat().st_size - 3)
    report = verify(str(data))
    assert (report.ok, report.gaps) == (False, [])
    assert report.samples == samples_in(data)
    assert report.samples + report.samples_lost == coarse + FILE


def test_a_file_that_a_thinned_one_covers_is_a_leftover_and_no_damage(data: Path) -> None:
    kept = path(data, 1).read_bytes()
    thinned(data)
    path(data, 1).write_bytes(kept)
    report = verify(str(data))
    assert report.ok
    assert [one.leftover for one in report.segments] == [False, True, False]
    assert report.samples == samples_in(data)


def test_two_files_that_hold_the_same_positions_are_damage(data: Path) -> None:
    third = path(data, 2)
    records = [segment.decode(third.read_bytes(), at, 2 * FILE) for at in offsets(third)[:-1]]
    first = 2 * FILE - 6
    head = segment.encode_header(Header(first))
    moved = [segment.encode(first, one._replace(seq=one.seq - 6, end=one.end - 6)) for one in _all(records)]
    (data / "segments" / segment.name(first)).write_bytes(head + b"".join(moved))
    third.unlink()
    report = verify(str(data))
    assert not report.ok
    assert [one.damage.reason for one in report.segments if one.damage] == [
        f"what it holds up to {2 * FILE} is in another file"
    ]


def _all(records: Iterable[object]) -> list[Record]:
    return [one for one in records if isinstance(one, Record)]


def test_files_that_are_not_the_logs_are_named_and_no_damage(data: Path) -> None:
    (data / "segments" / "notes.txt").write_text("mine")
    (data / "segments" / (segment.name(0) + ".damaged")).write_bytes(b"x")
    (data / "segments" / (segment.name(0) + ".tmp")).write_bytes(b"x")
    (data / "cursors" / "prod.json~").write_text("mine")
    report = verify(str(data))
    assert report.ok
    assert {note.path: note.what for note in report.notes} == {
        "segments/notes.txt": "not a file of Limpet's",
        f"segments/{segment.name(0)}.damaged": "kept aside when the agent started: no record in it could be read",
        f"segments/{segment.name(0)}.tmp": (
            "left by a process that died while thinning; the next start removes it"
        ),
        "cursors/prod.json~": "not a file of Limpet's",
    }


def test_a_cursor_file_that_is_damaged_or_ahead_of_the_log_is_a_problem(data: Path) -> None:
    file = data / "cursors" / "prod.json"
    kept = file.read_bytes()
    file.write_bytes(kept.replace(b'"position"', b'"positiom"'))
    report = verify(str(data))
    assert not report.ok
    assert report.cursors[0].position is None
    assert "none is lost" in (report.cursors[0].problem or "")
    assert report.samples_lost == 0

    file.write_bytes(kept)
    for number in range(3):
        path(data, number).unlink()
    report = verify(str(data))
    assert not report.ok
    assert "9 samples ahead of the log" in (report.cursors[0].problem or "")


def test_a_file_that_cannot_be_read_is_damage_and_the_rest_is_read(data: Path) -> None:
    class Bad(Counting):
        def open(self, name: str) -> int:
            if name == str(path(data, 1)):
                raise OSError(5, "Input/output error")
            return RealFs().open(name)

    report = verify(str(data), fs=Bad())
    assert not report.ok
    damage = report.segments[1].damage
    assert damage is not None
    assert damage.reason == "it cannot be read: input/output error"
    assert (report.samples, report.samples_lost) == (2 * FILE, FILE)


def test_deep_finds_a_body_that_its_writer_got_wrong(data: Path) -> None:
    file = path(data, 1)
    at, raw = offsets(file), file.read_bytes()
    record = segment.decode(raw, at[10], FILE)
    assert isinstance(record, Record)
    wrong = segment.encode(FILE, record._replace(body=record.body[:-1] + b"\xff"))
    file.write_bytes(raw[: at[10]] + wrong + raw[at[11] :])
    assert verify(str(data)).ok
    report = verify(str(data), deep=True)
    assert [one.damage.reason for one in report.segments if one.damage] == [
        f"the record of seq {FILE + 30} cannot be decoded"
    ]
    assert report.samples == samples_in(data)
    assert report.samples_lost == 30


@pytest.mark.parametrize("stretch", [1, 512], ids=["anywhere", "by sectors"])
def test_one_percent_of_the_bytes_flipped(tmp_path: Path, stretch: int) -> None:
    buffer = Buffer(str(tmp_path), Limits(segment_size=1 << 20))
    for number in range(4000):
        buffer.append([_spread(number, 8)])
    buffer.close()
    (file,) = (tmp_path / "segments").iterdir()
    raw, choose = bytearray(file.read_bytes()), random.Random(3)
    for start in choose.sample(range(segment.HEADER.size, len(raw), stretch), len(raw) // stretch // 100):
        for at in range(start, min(start + stretch, len(raw))):
            raw[at] ^= 1 << choose.randrange(8)
    file.write_bytes(raw)
    report = verify(str(tmp_path))
    assert not report.ok
    assert report.samples == samples_in(tmp_path)
    # Flips all over hit nearly every key frame; a hundredth of the sectors does no such harm.
    assert 0 < report.samples < 32_000
    assert (report.samples > 8000) is (stretch > 1)
    # How many were after the last record cannot be known.
    unknown = 32_000 - report.samples - report.samples_lost
    assert 0 <= unknown < 32_000 // 20
    assert len(raw) // 100 <= report.segments[0].damaged_bytes < len(raw)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_whatever_happens_to_the_bytes_verify_agrees_with_the_reader(
    whole: Path, tmp_path_factory: pytest.TempPathFactory, choose: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("any") / "data"
    shutil.copytree(whole, folder)
    files = choose.draw(st.lists(st.integers(0, 2), min_size=1, max_size=3))
    for number in files:
        file = path(folder, number)
        raw = bytearray(file.read_bytes())
        if not raw:
            continue
        at = choose.draw(st.integers(0, len(raw) - 1))
        match choose.draw(st.sampled_from(["flip", "cut", "zeros", "insert", "remove"])):
            case "flip":
                raw[at] ^= 1 << choose.draw(st.integers(0, 7))
            case "cut":
                del raw[at:]
            case "zeros":
                raw[at : at + 40] = bytes(len(raw[at : at + 40]))
            case "insert":
                raw[at:at] = choose.draw(st.binary(max_size=60))
            case "remove":
                del raw[at : at + choose.draw(st.integers(1, 60))]
        file.write_bytes(raw)
    report = verify(str(folder), deep=True)
    assert report.samples == samples_in(folder)
    known = report.samples + report.samples_lost
    # What was after the last record of the log cannot be known; before it, every sample counts.
    assert known <= 3 * FILE if 2 in files else known == 3 * FILE
    assert not report.ok or report.samples_lost == 0
    shutil.rmtree(folder)


def test_while_a_writer_appends_thins_and_drops_there_is_no_false_alarm(tmp_path: Path) -> None:
    buffer = Buffer(str(tmp_path), Limits(max_size=96 << 10, segment_size=4 << 10), ["slow", "fast"])
    stop, number, failed = threading.Event(), 0, list[BaseException]()

    def write() -> None:
        nonlocal number
        try:
            while not stop.is_set():
                width = 1 + number * 7 % 40
                buffer.append([_spread(number, width)])
                number += 1
                if number % 50 == 0:
                    fast = buffer.cursors["fast"]
                    chunk = fast.read(200)
                    settle(fast, chunk)
                    buffer.sync()
        except BaseException as error:
            failed.append(error)

    writer = threading.Thread(target=write)
    writer.start()
    levels: set[int] = set()
    try:
        looks = 0
        while looks < 40 or number < 1500 or not {0, 1} <= levels:
            report = verify(str(tmp_path))
            assert report.ok, [one for one in report.segments if one.damage] or report
            levels |= {one.level for one in report.segments}
            looks += 1
            assert not failed
    finally:
        stop.set()
        writer.join()
        buffer.close()
    assert verify(str(tmp_path), deep=True).ok


def _spread(number: int, width: int) -> Tick:
    at = tick(number, width)
    choose = random.Random(number)
    return at._replace(values=[choose.random() for _ in range(width)])
