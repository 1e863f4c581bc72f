"""What is appended under a clock that is not believed: kept, not sent, and given its times by one append."""

from __future__ import annotations

import zlib
from pathlib import Path

import pytest

from agent.ops.replay.source import SegmentHistory
from buffer import segment
from buffer.buffer import Buffer
from buffer.history.read import WholeReader
from buffer.inspect.segments import segments
from buffer.inspect.status import status
from buffer.inspect.verify import verify
from buffer.limits import Limits, Tiers
from buffer.log import Log
from buffer.lookup.cache import Cache
from buffer.lookup.rows import Rows
from buffer.model import Doubted, Instant, Tick
from buffer.placing import LEAD_MS, STEP_MS, Unplaced, notes
from buffer.reader import Reader
from buffer.segment import NOTE_SIZE, Header, Note
from buffer.trim import plan
from tests.support.buffers import assert_balances, entries, settle
from tests.support.faults import MemoryFs
from tests.support.ticks import exactly, tick

GOLDEN = Path(__file__).parents[1] / "fixtures" / "segments" / "v2.hex"
BASE_MS = 1_790_000_000_000
"""Of the right clock of boot B."""
A, B, C = ("a" * 32, "b" * 32, "c" * 32)
NAME = "central"
DAY_MS = 86_400_000


def wrong(number: int, boot: str = B, base_ms: int = 0) -> Tick:
    """Tick `number` of a boot whose clock began in 1970: 10 s apart from each other."""
    return tick(number)._replace(at=Instant(base_ms + number * 10_000, number * 10_000, boot))


def right(number: int) -> Tick:
    """The same by the right clock of boot B."""
    return tick(number)._replace(at=Instant(BASE_MS + number * 10_000, number * 10_000, B))


def opened(folder: Path, **limits: object) -> Buffer:
    return Buffer(str(folder), Limits(segment_size=512, **limits), [NAME])  # type: ignore[arg-type]


def sent(buffer: Buffer) -> list[Tick]:
    """Deliver everything that can be read."""
    cursor, ticks = buffer.cursors[NAME], list[Tick]()
    while (chunk := cursor.read(100)).end > chunk.start:
        ticks += chunk.ticks
        settle(cursor, chunk)
    return ticks


def replayed(history: SegmentHistory) -> list[Tick]:
    return [tick for piece in history.pieces(0) for tick in piece.ticks]


def test_it_is_pending_and_not_read_before_it_has_its_times(tmp_path: Path) -> None:
    buffer = opened(tmp_path)
    cursor = buffer.cursors[NAME]
    for number in range(50):
        buffer.append([wrong(number)], clock=Doubted(0))
    assert (cursor.pending(), cursor.waiting(), buffer.log.provisional) == (150, 0, 150)
    assert status(str(tmp_path)).provisional_samples == 150
    assert all(one.provisional for one in segments(str(tmp_path)))
    assert cursor.read(1000).samples == 0
    assert not cursor.go_ahead(10)
    buffer.append([right(60)])
    assert (cursor.pending(), cursor.waiting()) == (153, 0)  # what is newer waits behind it
    found = buffer.place(B, BASE_MS)
    assert {note for _, note in found} == {Note(BASE_MS, BASE_MS)}
    assert len(found) > 1  # several segments
    assert (cursor.pending(), cursor.waiting(), buffer.log.provisional) == (153, 153, 0)
    assert status(str(tmp_path)).provisional_samples == 0
    assert not any(one.provisional for one in segments(str(tmp_path)))
    wanted = [right(number) for number in (*range(50), 60)]
    assert exactly(sent(buffer)) == exactly(wanted)
    assert_balances(buffer)
    buffer.close()
    assert verify(str(tmp_path), deep=True).ok


def test_a_note_is_an_append_and_nothing_else_changes(tmp_path: Path) -> None:
    buffer = opened(tmp_path)
    for number in range(50):
        buffer.append([wrong(number)], clock=Doubted(0))
    buffer.sync()
    before = {path: path.read_bytes() for path in sorted((tmp_path / "segments").iterdir())}
    buffer.place(B, BASE_MS)
    for path, data in before.items():
        after = path.read_bytes()
        assert (after[: len(data)], len(after)) == (data, len(data) + NOTE_SIZE)
    buffer.close()


def test_it_is_the_same_for_a_process_that_comes_later(tmp_path: Path) -> None:
    buffer = opened(tmp_path)
    for number in range(50):
        buffer.append([wrong(number)], clock=Doubted(0))
    buffer.close()
    buffer = opened(tmp_path)
    assert (buffer.log.provisional, buffer.cursors[NAME].waiting()) == (150, 0)
    buffer.place(B, BASE_MS)
    buffer.close()
    buffer = opened(tmp_path)
    assert buffer.log.provisional == 0
    assert buffer.log.last["probe"][0] == BASE_MS + 490_000
    wanted = [right(number) for number in range(50)]
    assert exactly(sent(buffer)) == exactly(wanted)
    buffer.close()


def test_history_has_the_times_that_were_given(tmp_path: Path) -> None:
    buffer = opened(tmp_path, history=Tiers(1e12, 0, 0, 1 << 20))
    for number in range(50):
        buffer.append([wrong(number)], clock=Doubted(0))
    buffer.place(B, BASE_MS)
    buffer.append([right(60)])
    sent(buffer)
    buffer.sync()
    assert buffer.history.size
    reader = WholeReader(buffer._fs, str(tmp_path))
    found = [one.at for entry in reader for one in entry.ticks]
    reader.close()
    assert found == [right(number).at for number in (*range(50), 60)]
    buffer.close()


def test_a_query_finds_them_at_the_times_that_were_given(tmp_path: Path) -> None:
    buffer, cache = opened(tmp_path), Cache()
    for number in range(3):
        buffer.append([wrong(number)], clock=Doubted(0))

    def oldest() -> int:
        rows = Rows(buffer._fs, f"{tmp_path}/segments", 0, cache)
        rows.close()
        return min(one.oldest_ms for one in rows.stretches)

    assert oldest() == 0
    buffer.place(B, BASE_MS)
    assert oldest() == BASE_MS
    buffer.close()


def test_samples_with_priority_wait_for_their_times_too(tmp_path: Path) -> None:
    buffer = opened(tmp_path)
    buffer.append([right(0)])
    buffer.append([wrong(1)], clock=Doubted(0))
    cursor = buffer.cursors[NAME]
    assert exactly(cursor.read_priority(list).ticks) == exactly([right(0)])
    buffer.place(B, BASE_MS)
    assert exactly(cursor.read_priority(list).ticks) == exactly([right(0), right(1)])
    buffer.close()


def test_what_has_no_times_is_not_thinned_and_goes_when_the_buffer_is_full(tmp_path: Path) -> None:
    buffer = opened(tmp_path, max_size=4096)
    for number in range(1000):
        buffer.append([wrong(number)], clock=Doubted(0))
    assert not buffer.log.thinned
    assert buffer.log.first > 0
    assert buffer.log.size <= 4096 + 512
    assert buffer.log.provisional == buffer.log.end - buffer.log.first
    assert_balances(buffer)
    buffer.place(B, BASE_MS)
    assert exactly(sent(buffer))[-1] == exactly([right(999)])[0]
    assert_balances(buffer)
    buffer.close()


def test_a_step_begins_a_segment_and_each_has_a_shift_of_its_own(tmp_path: Path) -> None:
    buffer = opened(tmp_path)
    later = wrong(1)._replace(at=Instant(5_000_000, 10_000, B))
    buffer.append([wrong(0)], clock=Doubted(0))
    buffer.append([later], clock=Doubted(4_990_000))
    buffer.append([right(2)])
    buffer.place(B, BASE_MS)
    assert [one.at for one in sent(buffer)] == [right(number).at for number in range(3)]
    buffer.close()


def test_an_estimate_is_not_sent_before_it_is_marked(tmp_path: Path) -> None:
    buffer = opened(tmp_path)
    cursor = buffer.cursors[NAME]
    buffer.append([wrong(0, A)], clock=Doubted(0))
    ((_, note),) = buffer.place(B, BASE_MS)
    assert (note.is_estimated, cursor.waiting()) == (True, 0)
    buffer.close()
    buffer = opened(tmp_path)
    cursor = buffer.cursors[NAME]
    assert (len(buffer.log.unmarked), cursor.waiting()) == (1, 0)
    buffer.log.sync()
    buffer.log.mark()
    assert cursor.waiting() == 3
    buffer.close()
    buffer = opened(tmp_path)
    assert (buffer.log.unmarked, buffer.cursors[NAME].waiting()) == ([], 3)
    buffer.close()


def test_an_estimate_is_not_thinned_before_it_is_marked(tmp_path: Path) -> None:
    """Its mark is a byte at the end of its file: by then another file could have that place."""
    buffer = opened(tmp_path, max_size=8800)
    for number in range(200):
        buffer.append([wrong(number, A)], clock=Doubted(0))
    buffer.place(B, BASE_MS)
    for number in range(60):  # for these the buffer has no room any more
        buffer.append([right(number)])
    assert buffer.log.unmarked
    assert not buffer.log.thinned
    buffer.log.sync()
    buffer.log.mark()
    for number in range(60, 120):
        buffer.append([right(number)])
    assert buffer.log.thinned
    assert [one.at for one in sent(buffer)][-1] == right(119).at
    assert_balances(buffer)
    buffer.close()
    assert verify(str(tmp_path), deep=True).ok


def test_what_has_no_times_has_no_age(tmp_path: Path) -> None:
    """By the clock it is of 1970, but it may be of today."""
    buffer = opened(tmp_path)
    for number in range(100):
        buffer.append([wrong(number)], clock=Doubted(0))
    assert plan(str(tmp_path), before_ms=BASE_MS) is None
    buffer.place(B, BASE_MS)
    assert plan(str(tmp_path), before_ms=BASE_MS) is None
    assert plan(str(tmp_path), before_ms=BASE_MS + 10_000_000) is not None
    buffer.close()


def test_what_has_no_times_says_nothing_of_the_pace(tmp_path: Path) -> None:
    buffer = opened(tmp_path)
    for number in range(100):
        buffer.append([right(number)])
    buffer.append([wrong(100)], clock=Doubted(0))
    buffer.close()
    left = status(str(tmp_path), 1 << 20).time_until_full_seconds
    assert left is not None
    assert left < 10 * DAY_MS / 1000  # and not of all the time since 1970
    buffer = opened(tmp_path / "another")
    buffer.append([wrong(0)], clock=Doubted(0))
    buffer.append([wrong(1)], clock=Doubted(0))
    buffer.close()
    assert status(str(tmp_path / "another"), 1 << 20).time_until_full_seconds is None


def test_a_replay_leaves_out_what_has_no_times(tmp_path: Path) -> None:
    buffer = opened(tmp_path)
    buffer.append([right(0)])
    buffer.append([wrong(1)], clock=Doubted(0))
    buffer.append([right(2)])
    everything = 0, BASE_MS + DAY_MS
    history = SegmentHistory(str(tmp_path), *everything)
    assert (history.unplaced, exactly(replayed(history))) == (3, exactly([right(0), right(2)]))
    assert len(replayed(SegmentHistory(str(tmp_path), *everything, unplaced_wanted=True))) == 3
    buffer.place(B, BASE_MS)
    history = SegmentHistory(str(tmp_path), *everything)
    assert (history.unplaced, len(replayed(history))) == (0, 3)
    buffer.close()


def test_an_estimate_that_nobody_wants_is_counted_and_kept(tmp_path: Path) -> None:
    buffer = opened(tmp_path)
    buffer.append([wrong(0, A)], clock=Doubted(0))
    buffer.append([wrong(1, B, 5000)], clock=Doubted(5000))
    buffer.place(B, BASE_MS, drop=True)
    buffer.log.mark()
    cursor = buffer.cursors[NAME]
    assert [one.at for one in sent(buffer)] == [right(1).at]
    assert cursor.ledger.dropped == {"unplaced": 3}
    assert_balances(buffer)
    buffer.close()


@pytest.mark.parametrize("torn", [1, NOTE_SIZE - 1])
def test_a_note_that_was_not_finished_is_none(tmp_path: Path, torn: int) -> None:
    buffer = opened(tmp_path)
    buffer.append([wrong(0)], clock=Doubted(0))
    buffer.close()
    path = next((tmp_path / "segments").iterdir())
    path.write_bytes(path.read_bytes() + segment.encode_note(0, Note(BASE_MS, BASE_MS))[:torn])
    buffer = opened(tmp_path)
    assert buffer.log.provisional == 3
    buffer.place(B, BASE_MS)
    buffer.close()
    assert [one.wall_ms for one in entries(buffer._fs, tmp_path / "segments")] == [BASE_MS]
    report = verify(str(tmp_path))
    assert (report.ok, report.samples_lost) == (True, 0)


def test_a_base_that_was_refuted_is_forgotten_also_by_a_process_that_comes_later(tmp_path: Path) -> None:
    """What was sent by a wrong clock stays; what follows is placed by an estimate, between that and the next boot."""
    buffer = opened(tmp_path)
    buffer.append([right(0)])
    buffer.append([right(1)], clock=Doubted(BASE_MS, None, refuted=True))
    assert buffer.log.recalled(B) == (None, BASE_MS, None)
    buffer.close()
    buffer = opened(tmp_path)
    assert buffer.log.recalled(B) == (None, BASE_MS, None)
    later = right(0)._replace(at=Instant(BASE_MS + 1_000_000, 0, C))
    ((_, note),) = buffer.place(C, BASE_MS + 1_000_000)
    assert note.is_estimated
    buffer.log.mark()
    buffer.append([later])
    first, second, third = (one.at.wall_ms for one in sent(buffer))
    assert (first, third) == (BASE_MS, BASE_MS + 1_000_000)
    assert first < second < third
    buffer.close()


def test_a_base_that_was_right_is_known_to_a_process_that_comes_later(tmp_path: Path) -> None:
    buffer = opened(tmp_path)
    buffer.append([right(0)])
    buffer.close()
    buffer = opened(tmp_path)
    assert buffer.log.recalled(B) == (BASE_MS, None, None)
    assert buffer.log.recalled(A) == (None, None, None)
    buffer.append([wrong(1)], clock=Doubted(0, BASE_MS))
    buffer.close()
    buffer = opened(tmp_path)
    assert buffer.log.recalled(B) == (BASE_MS, None, BASE_MS)
    buffer.close()


def damage_headers(folder: Path) -> None:
    """Damage the header of each segment of the folder, but leave its records."""
    for path in (folder / "segments").iterdir():
        data = bytearray(path.read_bytes())
        data[20] ^= 0xFF
        path.write_bytes(data)


@pytest.mark.parametrize("placed", [False, True])
def test_a_damaged_header_lets_no_wrong_time_out(tmp_path: Path, placed: bool) -> None:
    """Of a board that boots in 1970: what the header said is in the note, or in the times themselves."""
    buffer = opened(tmp_path)
    for number in range(50):
        buffer.append([wrong(number)], clock=Doubted(0))
    if placed:
        buffer.place(B, BASE_MS)
    buffer.close()
    damage_headers(tmp_path)
    buffer = opened(tmp_path)
    assert (buffer.log.provisional, buffer.cursors[NAME].waiting()) == ((0, 150) if placed else (150, 0))
    buffer.place(B, BASE_MS)
    wanted = [right(number) for number in range(50)]
    assert exactly(sent(buffer)) == exactly(wanted)
    assert_balances(buffer)
    buffer.close()


# The format.


def golden_log(fs: MemoryFs) -> list[bytes]:
    log = Log(fs, "d", 1 << 20, numbered_from=1000)
    log.append([right(0)])
    log.append([wrong(1, A, 7000)], clock=Doubted(7000))
    log.append([wrong(2, B, -5000)], clock=Doubted(-5000, BASE_MS))
    log.append([wrong(3, C)], clock=Doubted(0))
    log.place(log.plan(B, BASE_MS))
    log.mark()
    return [bytes(fs.entries[path].data) for path in sorted(fs.entries)]


def test_the_golden_segments_are_written_and_read_as_they_were() -> None:
    lines = [line for line in GOLDEN.read_text().splitlines() if not line.startswith("#")]
    fs = MemoryFs()
    assert [data.hex() for data in golden_log(fs)] == lines
    reader = Reader(fs, "d", 1000)
    times = [entry.wall_ms - BASE_MS for entry in reader]
    assert (times[0], times[2], times[3]) == (0, 20_000, 30_000 - BASE_MS)
    assert reader.damaged == 0


def test_the_header_is_the_documented_layout() -> None:
    known = Header(1000, base_ms=-5, good_ms=BASE_MS)
    never = Header(1000, base_ms=7, kept_ms=BASE_MS)
    refuted = never._replace(refuted=True)
    for header, level, value in ((known, 1, BASE_MS), (never, 0, BASE_MS), (refuted, 2, BASE_MS)):
        data = segment.encode_header(header)
        assert (data[:4], data[4:6], data[6:8]) == (b"LMPT", b"\2\0", bytes([level, 0]))
        assert int.from_bytes(data[16:24], "little", signed=True) == header.base_ms
        assert int.from_bytes(data[24:32], "little", signed=True) == value
        assert int.from_bytes(data[32:36], "little") == zlib.crc32(data[:32])
        assert segment.decode_header(data, 1000) == header


def test_a_clock_that_is_believed_writes_the_version_before() -> None:
    assert segment.encode_header(Header(1000))[4:6] == b"\1\0"


# Where boots are placed.


def boot(name: str, number: int, seconds: int, *, up: int = 20, kept_ms: int = 0) -> Unplaced:
    """A boot in 1970 of so many seconds, which has a first tick 20 s after it began."""
    return Unplaced(number, number + 1, name, 0, up * 1000, seconds * 1000, kept_ms, 100)


def spans(found: list[tuple[Unplaced, Note]]) -> list[tuple[int, int, bool]]:
    return [
        (one.first_ms + note.shift_ms, one.last_ms + note.shift_ms, note.is_estimated) for one, note in found
    ]


def test_the_time_left_over_is_divided_evenly_around_lost_boots() -> None:
    kept = 1_000_000_000
    lost = [boot(A, 1, 100, kept_ms=kept), boot(B, 2, 200)]
    found = notes([*lost, boot(C, 3, 50)], {C: kept + 900_000})
    first, second, third = spans(found)
    assert third == (kept + 920_000, kept + 950_000, False)
    gaps = (first[0] - 20_000 - kept, second[0] - 20_000 - first[1], kept + 900_000 - second[1])
    assert all(abs(gap - 200_000) <= 2 * STEP_MS for gap in gaps)
    assert (first[2], second[2]) == (True, True)


def test_without_anything_before_it_a_lost_boot_ended_shortly_before_the_next() -> None:
    ((begin, end, estimated), _) = spans(notes([boot(A, 1, 100), boot(C, 2, 50)], {C: 1_000_000_000}))
    assert estimated
    assert end - begin == 80_000
    assert abs(1_000_000_000 - LEAD_MS - end) <= 2 * STEP_MS


def test_a_boot_behind_the_last_known_one_waits() -> None:
    assert [one.boot_id for one, _ in notes([boot(A, 1, 9, up=1), boot(B, 2, 9, up=1)], {A: 10**9})] == [A]
    assert notes([], {A: 10**9}) == []


def test_no_room_is_no_reason_to_go_into_the_future() -> None:
    kept = 1_000_000_000
    (first, _) = spans(notes([boot(A, 1, 5000, kept_ms=kept), boot(C, 2, 50)], {C: kept + 60_000}))
    assert first[1] <= kept + 60_000
