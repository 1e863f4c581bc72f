"""The format: a golden file in both directions, records field by field, and what every damage costs."""

from __future__ import annotations

import random
import shutil
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from buffer import segment
from buffer.codec import FLUSHED
from buffer.errors import NewerFormat
from buffer.fs import RealFs
from buffer.inspect.segments import segments
from buffer.log import Log
from buffer.model import Instant, Series, Tick
from buffer.reader import File, Reader
from buffer.segment import HEADER, RECORD, Damaged, Header, NewerVersion, Record, Short, Torn
from tests.support.buffers import expected, fill
from tests.support.faults import MemoryFs
from tests.support.ticks import exactly, tick

GOLDEN = Path(__file__).parents[1] / "fixtures" / "segments" / "v1.hex"
FIRST = 1000
BOOT = "00112233445566778899aabbccddeeff"
CPU = (
    Series("cpu_usage_percent", (("core", "all"), ("hostname", "rock")), "gauge", "percent", "Busy."),
    Series("cpu_user_seconds_total", (("hostname", "rock"),), "counter", "seconds", "User."),
    Series("odd", (("hostname", "fjörd"), ("zone", '"\\\n')), "gauge", "", ""),
)
NET = (Series("network_sent_bytes_total", (("interface", "eth0"),), "counter", "bytes", "Sent."),)


def at(number: int, boot: str = BOOT) -> Instant:
    return Instant(1_750_000_000_000 + 10_000 * number, 5_000 + 10_000 * number, boot)


NAN = float.fromhex("nan")
GOLDEN_TICKS: list[list[Tick]] = [
    [Tick(at(0), "cpu", CPU, [12.5, 100.25, 0.1]), Tick(at(0), "net", NET, [1e15])],
    [Tick(at(1), "cpu", CPU, [13.75, 101.5, -0.0]), Tick(at(1), "net", NET, [1e15 + 4096])],
    [Tick(at(2), "cpu", CPU[:2], [NAN, 101.5])],
    [Tick(at(3), "net", NET, [float("inf")])],
    [Tick(at(4, "f" * 32), "cpu", CPU, [2.0**53, 5e-324, 1 / 3])],
]


def golden() -> bytes:
    """Return what the committed file says; lines that begin with # are for people."""
    lines = GOLDEN.read_text().splitlines()
    return bytes.fromhex("".join(line for line in lines if not line.startswith("#")))


def write_golden(fs: MemoryFs) -> bytes:
    log = Log(fs, "d", 1 << 20, numbered_from=FIRST)
    for number, ticks in enumerate(GOLDEN_TICKS):
        log.append(ticks, missed=number)
    return bytes(fs.entries[f"d/{segment.name(FIRST)}"].data)


def file_of(data: bytes, first: int = FIRST) -> File:
    fs = MemoryFs()
    fs.write(fs.create(f"d/{segment.name(first)}"), data, 0)
    return File(fs, "d", first)


def records_of(data: bytes, first: int = FIRST) -> list[Record | Damaged]:
    file = file_of(data, first)
    found = list(file)
    assert file.next() is None
    return found


def test_the_golden_segment_says_what_it_always_said() -> None:
    fs = MemoryFs()
    fs.write(fs.create(f"d/{segment.name(FIRST)}"), golden(), 0)
    reader = Reader(fs, "d")
    found = list(reader)
    assert [exactly(entry.ticks) for entry in found] == [exactly(ticks) for ticks in GOLDEN_TICKS]
    assert [(e.seq, e.end) for e in found] == [
        (1000, 1004), (1004, 1008), (1008, 1010), (1010, 1011), (1011, 1014),
    ]  # fmt: skip
    assert [e.missed for e in found] == [0, 1, 3, 6, 10]
    assert [e.wall_ms for e in found] == [ticks[0].at.wall_ms for ticks in GOLDEN_TICKS]
    assert reader.damaged == 0


def test_the_golden_records_are_encoded_to_the_same_bytes() -> None:
    header = segment.decode_header(golden(), FIRST)
    assert header == Header(FIRST)
    data = segment.encode_header(header)
    for record in records_of(golden()):
        assert isinstance(record, Record)
        data += segment.encode(FIRST, record)
    assert data == golden()


def test_the_golden_bodies_hold_the_same_plain_text() -> None:
    """Deflate may change with its library; what is in it, and everything around it, may not."""
    written, wanted = records_of(write_golden(MemoryFs())), records_of(golden())
    my_stream, their_stream = zlib.decompressobj(-15), zlib.decompressobj(-15)
    assert len(written) == len(wanted)
    for mine, theirs in zip(written, wanted, strict=True):
        assert isinstance(mine, Record)
        assert isinstance(theirs, Record)
        assert mine._replace(body=b"", after=0) == theirs._replace(body=b"", after=0)
        if mine.key:
            my_stream, their_stream = zlib.decompressobj(-15), zlib.decompressobj(-15)
        assert my_stream.decompress(mine.body + FLUSHED) == their_stream.decompress(theirs.body + FLUSHED)


def test_the_golden_header_is_the_documented_layout() -> None:
    data = golden()
    assert data[:4] == b"LMPT"
    assert int.from_bytes(data[4:6], "little") == 1
    assert int.from_bytes(data[8:16], "little") == FIRST
    assert int.from_bytes(data[32:36], "little") == zlib.crc32(data[:32])
    assert data[36] == 0xA7
    assert (HEADER.size, RECORD.size) == (36, 22)


# Records.


records = st.builds(
    lambda offset, span, wall, samples, key, body: Record(
        FIRST + offset, FIRST + offset + span, wall, min(samples, span), key, body
    ),
    st.integers(0, 1 << 20),
    st.integers(1, 1 << 20),
    st.integers(0, (1 << 44) - 1),
    st.integers(0, 1 << 20),
    st.booleans(),
    st.binary(max_size=300),
)


@given(records, st.binary(max_size=40), st.binary(max_size=40))
def test_a_record_comes_back(record: Record, before: bytes, behind: bytes) -> None:
    data = segment.encode(FIRST, record)
    found = segment.decode(before + data + behind, len(before), FIRST)
    assert found == record._replace(after=len(before) + len(data))


@given(records, st.data())
def test_a_record_that_is_cut_anywhere_is_torn(record: Record, data: st.DataObject) -> None:
    whole = segment.encode(FIRST, record)
    cut = data.draw(st.integers(1, len(whole) - 1))
    assert segment.decode(whole[:cut], 0, FIRST) == Torn(0)
    assert segment.decode(b"", 0, FIRST) is None


@given(records, st.data())
def test_a_record_with_any_bit_flipped_is_not_taken(record: Record, data: st.DataObject) -> None:
    whole = bytearray(segment.encode(FIRST, record))
    bit = data.draw(st.integers(0, 8 * len(whole) - 1))
    whole[bit // 8] ^= 1 << bit % 8
    assert not isinstance(segment.decode(bytes(whole), 0, FIRST), Record)
    assert not isinstance(segment.decode(bytes(whole) + bytes(1 << 12), 0, FIRST), Record)


@given(records)
def test_a_record_is_at_home_in_one_segment_only(record: Record) -> None:
    assert isinstance(segment.decode(segment.encode(FIRST, record), 0, FIRST + 1), Damaged)


@pytest.mark.parametrize(
    "record",
    [
        Record(FIRST, FIRST, 0, 0, True, b""),
        Record(FIRST - 1, FIRST + 1, 0, 2, True, b""),
        Record(FIRST, FIRST + segment.MAX_SPAN + 1, 0, 1, True, b""),
        Record(FIRST, FIRST + 1, -1, 1, True, b""),
        Record(FIRST, FIRST + 1, 1 << 48, 1, True, b""),
        Record(FIRST, FIRST + 1, 0, 1, True, bytes(segment.MAX_LENGTH + 1)),
    ],
    ids=["no sample", "before its segment", "too many", "before 1970", "no time", "too long"],
)
def test_what_the_format_cannot_say_is_refused(record: Record) -> None:
    with pytest.raises(ValueError):
        segment.encode(FIRST, record)


headers = st.builds(
    lambda first, level, span, samples: (
        Header(first, level, first + span, min(span, samples)) if level else Header(first)
    ),
    st.integers(0, segment.MAX_POSITION),
    st.integers(0, 2),
    st.integers(1, segment.MAX_SPAN),
    st.integers(0, segment.MAX_SPAN),
)


@given(headers, st.data())
def test_a_header_comes_back_and_no_flipped_bit_passes(header: Header, data: st.DataObject) -> None:
    written = bytearray(segment.encode_header(header))
    assert segment.decode_header(bytes(written), header.first_seq) == header
    assert segment.decode_header(bytes(written), header.first_seq ^ 1) is None
    bit = data.draw(st.integers(0, 8 * len(written) - 1))
    written[bit // 8] ^= 1 << bit % 8
    assert segment.decode_header(bytes(written), header.first_seq) is None
    with pytest.raises(Short):
        segment.decode_header(bytes(written[:-1]), header.first_seq)


@pytest.mark.parametrize(
    "header",
    [
        Header(FIRST, 0, FIRST + 50, 0),
        Header(FIRST, 0, 0, 9),
        Header(FIRST, 1, 0, 0),
        Header(FIRST, 1, FIRST, 0),
        Header(FIRST, 1, FIRST - 1, 0),
        Header(FIRST, 1, FIRST + 5, 6),
        Header(FIRST, 2, FIRST + segment.MAX_SPAN + 1, 6),
        Header(FIRST, 1, (1 << 64) - 1, 6),
    ],
    ids=str,
)
def test_a_header_that_is_impossible_removes_nothing(header: Header) -> None:
    data = segment.encode_header(header)
    assert segment.decode_header(data, FIRST) is None
    fs = MemoryFs()
    write_golden(fs)
    log = Log(fs, "d", 100)
    log.append([tick(1)])
    log.close()
    fs.entries[f"d/{segment.name(FIRST)}"].data[: HEADER.size] = data
    names = set(fs.entries)
    Log(fs, "d", 100)
    assert set(fs.entries) == names


def newer(first: int) -> bytes:
    head = HEADER.pack(segment.MAGIC, segment.VERSION + 1, 0, first, 0, 0, 0)[:-4]
    return head + zlib.crc32(head).to_bytes(4, "little")


def test_a_newer_version_says_so() -> None:
    with pytest.raises(NewerVersion, match=rf"version {segment.VERSION + 1}\b"):
        segment.decode_header(newer(0), 0)


# Damage: three segments of three records each, of which the first is a key frame and the last two are not.

WIDTH = 3
SPAN = 3 * WIDTH


def write_three(folder: Path) -> list[Path]:
    for process in range(3):
        log = Log(RealFs(), str(folder), 1 << 20)
        fill(log, 3 * process, 3 * process + 3)
        log.close()
    return sorted(folder.iterdir())


def offsets(data: bytes, first: int) -> list[int]:
    file = file_of(data, first)
    return [file.offset, *(file.offset for _ in file)]


def flip(data: bytes, place: int) -> bytes:
    changed = bytearray(data)
    changed[place] ^= 0x10
    return bytes(changed)


Change = Callable[[bytes, list[int]], bytes]
FIELDS = {"mark": 0, "length": 1, "length's high byte": 3, "checksum": 4, "seq": 8, "time": 12, "high time": 16,
          "samples": 18, "flags": 21, "body": 22}  # fmt: skip
HEADER_FIELDS = {
    "magic": 0,
    "version": 4,
    "level": 6,
    "first_seq": 8,
    "end_seq": 16,
    "samples": 24,
    "checksum": 32,
}


def in_record(number: int, place: int) -> Change:
    return lambda data, starts: flip(data, starts[number] + place)


# name: what happens to the segment; which of its three records survive; whether it is reported.
# A record without its key frame is lost; so is every one after a lost record up to the next key frame.
DAMAGE: dict[str, tuple[Change, list[int], bool]] = {
    "nothing": (lambda data, _: data, [0, 1, 2], False),
    "empty": (lambda _data, _: b"", [], False),
    "cut within its header": (lambda data, _: data[:20], [], False),
    "cut behind its header": (lambda data, starts: data[: starts[0]], [], False),
    "cut within a record's head": (lambda data, starts: data[: starts[2] + 5], [0, 1], False),
    "cut behind a mark": (lambda data, starts: data[: starts[2] + 1], [0, 1], False),
    "cut within a body": (lambda data, _: data[:-1], [0, 1], False),
    "cut within the first body": (lambda data, starts: data[: starts[1] - 1], [], False),
    "zeros at the end": (lambda data, _: data + bytes(512), [0, 1, 2], True),
    "zeros for the last record": (lambda data, starts: data[: starts[2]].ljust(len(data), b"\0"), [0, 1], True),
    "zeros for the first record": (
        lambda data, starts: data[: starts[0]] + bytes(starts[1] - starts[0]) + data[starts[1] :], [], True,
    ),
    "zeros for its header": (lambda data, starts: bytes(starts[0]) + data[starts[0] :], [0, 1, 2], True),
    "all zeros": (lambda data, _: bytes(len(data)), [], True),
    "something else behind": (lambda data, _: data + b"#!/bin/sh\necho hello\n" * 9, [0, 1, 2], True),
    "half a record twice": (lambda data, starts: data + data[starts[2] : starts[2] + 23], [0, 1, 2], False),
    "a record twice": (lambda data, starts: data + data[starts[2] :], [0, 1, 2], True),
    "two records swapped": (
        lambda data, starts: data[: starts[1]] + data[starts[2] :] + data[starts[1] : starts[2]], [0], True,
    ),
    "a record cut out": (lambda data, starts: data[: starts[1]] + data[starts[2] :], [0], True),
    "a byte inserted": (lambda data, starts: data[: starts[1]] + b"\xa7" + data[starts[1] :], [0], True),
    "a byte missing": (lambda data, starts: data[: starts[1]] + data[starts[1] + 1 :], [0], True),
    "a stranger's file": (lambda _data, _: b"\x7fELF" + bytes(range(256)) * 40, [], True),
    "a stranger's text": (lambda _data, _: b"cpu_usage 1.0\n" * 100, [], True),
    **{f"bit flip in a header's {f}": (in_record(0, p - 36), [0, 1, 2], True) for f, p in HEADER_FIELDS.items()},
    **{f"bit flip in the {f} of the first record": (in_record(0, p), [], True) for f, p in FIELDS.items()},
    **{f"bit flip in the {f} of the second record": (in_record(1, p), [0], True) for f, p in FIELDS.items()},
    **{
        f"bit flip in the {f} of the last record": (in_record(2, p), [0, 1], not f.startswith("length"))
        for f, p in FIELDS.items()
    },
}  # fmt: skip


def read_all(folder: Path, seq: int = 0) -> tuple[list[Tick], int]:
    reader = Reader(RealFs(), str(folder), seq)
    found = [one for entry in reader for one in entry.ticks]
    assert reader.next() is None
    damaged = reader.damaged
    reader.close()
    return found, damaged


def check_goes_on(folder: Path, survivors: list[int]) -> None:
    """Check that the log opens on it, appends and reads again; nothing readable went, no seq twice."""
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    log = Log(RealFs(), str(folder), 1 << 20)
    begun = log.end
    fill(log, 90, 92)
    log.sync()
    found, _ = read_all(folder)
    assert exactly(found) == expected((*survivors, 90, 91))
    assert exactly(read_all(folder, begun)[0]) == expected([90, 91])
    log.close()
    for name, data in before.items():
        places = (folder / name, folder / f"{name}.damaged")  # as it was, or set aside
        kept = any(path.exists() and path.read_bytes() == data for path in places)
        assert kept or len(data) <= HEADER.size + RECORD.size  # which holds no record
    again = Log(RealFs(), str(folder), 1 << 20)
    assert again.end == begun + 2 * WIDTH
    again.close()


@pytest.mark.parametrize("which", [0, 1, 2], ids=["oldest", "middle", "newest"])
@pytest.mark.parametrize(("change", "left", "reported"), DAMAGE.values(), ids=DAMAGE)
def test_damage_costs_at_most_the_records_up_to_the_next_key_frame(
    tmp_path: Path, change: Change, left: list[int], reported: bool, which: int
) -> None:
    folder = tmp_path / "segments"
    folder.mkdir()
    paths = write_three(folder)
    data = paths[which].read_bytes()
    damaged = change(data, offsets(data, which * SPAN))
    paths[which].write_bytes(damaged)
    survivors = [n for n in range(9) if n // 3 != which or n % 3 in left]

    found, seen = read_all(folder)
    assert exactly(found) == expected(survivors)
    assert (seen > 0) == reported
    shown = segments(str(tmp_path))
    assert sum(s.damaged for s in shown) > 0 or not reported or change in UNSEEN
    assert sum(s.bytes for s in shown) == sum(path.stat().st_size for path in paths)
    # From any position, what is behind it is found.
    for seq in range(0, 3 * SPAN, WIDTH):
        assert exactly(read_all(folder, seq)[0]) == expected([n for n in survivors if n * WIDTH >= seq])
    check_goes_on(folder, survivors)


# Whole records in the wrong place: a reader notices, counting segment by segment does not.
UNSEEN = [DAMAGE[name][0] for name in ("a record twice", "two records swapped", "a record cut out")]


FilesChange = Callable[[list[Path]], Any]


def swap(paths: list[Path]) -> None:
    one, other = paths[0].read_bytes(), paths[1].read_bytes()
    paths[0].write_bytes(other)
    paths[1].write_bytes(one)


# As above; None: only counting segment by segment notices, because no position leads there.
FILES: dict[str, tuple[FilesChange, list[int], bool | None]] = {
    "the oldest is missing": (lambda paths: paths[0].unlink(), [1, 2], False),
    "the middle one is missing": (lambda paths: paths[1].unlink(), [0, 2], False),
    "two are swapped": (swap, [2], True),
    "one is there under another's name": (lambda paths: shutil.copy(paths[0], paths[1]), [0, 2], True),
    "one is there twice": (
        lambda paths: shutil.copy(paths[0], paths[0].with_name(segment.name(4))), [0, 1, 2], None,
    ),
    "a copy with a suffix": (lambda paths: shutil.copy(paths[0], str(paths[0]) + ".bak"), [0, 1, 2], False),
    "a file of another kind": (lambda paths: paths[0].with_name("README").write_text("x"), [0, 1, 2], False),
    "a short name": (lambda paths: paths[0].with_name("7.seg").write_text("x"), [0, 1, 2], False),
    "a name of other digits": (
        lambda paths: paths[0].with_name("\u0660" * 20 + ".seg").write_text("x"), [0, 1, 2], False,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("change", "left", "reported"), FILES.values(), ids=FILES)
def test_what_happens_to_files_costs_only_what_is_in_them(
    tmp_path: Path, change: FilesChange, left: list[int], reported: bool | None
) -> None:
    folder = tmp_path / "segments"
    folder.mkdir()
    change(write_three(folder))
    survivors = [n for n in range(9) if n // 3 in left]
    found, seen = read_all(folder)
    assert exactly(found) == expected(survivors)
    assert (seen > 0) == bool(reported)
    assert (sum(s.damaged for s in segments(str(tmp_path))) > 0) == (reported is not False)
    check_goes_on(folder, survivors)


def test_the_newest_file_of_a_newer_version_is_read_around_and_not_written_behind(tmp_path: Path) -> None:
    folder = tmp_path / "segments"
    folder.mkdir()
    paths = write_three(folder)
    paths[2].write_bytes(newer(2 * SPAN) + paths[2].read_bytes()[HEADER.size :])
    assert exactly(read_all(folder)[0]) == expected(range(6))
    reader = Reader(RealFs(), str(folder))
    assert len(list(reader)) == 6
    assert reader.next() is None
    assert reader.damaged == 1  # once, however often it is read
    with pytest.raises(NewerFormat):
        Log(RealFs(), str(folder), 1 << 20)
    assert sorted(folder.iterdir()) == paths


# What a search for records in damage may cost.


def headed(data: bytes) -> bytes:
    return segment.encode_header(Header(FIRST)) + data


def record_of(number: int) -> bytes:
    return segment.encode(FIRST, Record(FIRST + number, FIRST + number + 1, 0, 1, True, b"body"))


def fake(length: int) -> bytes:
    return RECORD.pack(segment.MARK | length << 8, 1, 1, 1, 1, 1 << 2)


HARD: dict[str, bytes] = {
    "noise": random.Random(1).randbytes(4 << 20),
    "marks": bytes([segment.MARK]) * (1 << 18),
    "heads of long records": fake(1 << 19) * ((1 << 20) // RECORD.size),
    "heads of records that run over the end": fake(segment.MAX_LENGTH) * ((1 << 20) // RECORD.size),
    "a long head before each record": b"".join(fake(1 << 18) + record_of(n) for n in range(10_000)),
    "zeros": bytes(4 << 20),
}


@pytest.mark.parametrize("data", HARD.values(), ids=HARD)
def test_damage_takes_bounded_time_and_memory(data: bytes) -> None:
    file = file_of(headed(data))
    began, largest, found = time.process_time(), 0, 0
    for item in file:
        largest = max(largest, len(file._data))
        found += isinstance(item, Record)
    assert time.process_time() - began < 25
    assert largest <= 2 * len(data) + (1 << 17)
    assert found <= 10_000


def test_a_record_behind_any_amount_of_noise_is_found() -> None:
    for seed in range(20):
        noise = random.Random(seed).randbytes(200_000)
        last = records_of(headed(record_of(1) + noise + record_of(2) + noise[:50] + record_of(3)))
        assert [r.seq - FIRST for r in last if isinstance(r, Record)] == [1, 2, 3]


def test_stretches_of_damage_and_records_cover_the_file_exactly() -> None:
    noise = random.Random(7).randbytes(3000)
    data = headed(record_of(1) + noise + record_of(2) + record_of(3) + noise[:70] + record_of(4))
    place = HEADER.size
    for item in records_of(data):
        if isinstance(item, Damaged):
            assert item.at == place
            place = item.after
        else:
            place += len(record_of(1))
    assert place == len(data)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 300_000), st.integers(60_000, 70_000))
def test_a_record_of_any_size_at_any_place_is_read(large: int, before: int) -> None:
    first = segment.encode(FIRST, Record(FIRST, FIRST + 1, 0, 1, True, bytes(before)))
    body = random.Random(large).randbytes(large)
    second = segment.encode(FIRST, Record(FIRST + 1, FIRST + 2, 0, 1, True, body))
    found = records_of(headed(first + second + record_of(3)))
    assert [len(r.body) for r in found if isinstance(r, Record)] == [before, large, 4]
    assert not any(isinstance(r, Damaged) for r in found)
