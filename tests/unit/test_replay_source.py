"""What can be replayed: every sample once, in order, from any position on. What is wrong is reported and not sent."""

from __future__ import annotations

import gzip
import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.ops.replay.selection import FIRST_MS, LAST_MS, Selection
from agent.ops.replay.source import PIECE, FileHistory, History, ItemHistory, Piece, SegmentHistory
from agent.ops.selector import parse
from agent.text import jsonl
from buffer import segment
from buffer.buffer import Buffer
from buffer.errors import LimpetError
from buffer.model import STALE, Series, Tick
from buffer.quarantine import Quarantine
from tests.support.ticks import START_MS, STEP_MS, bits, exactly, tick

NO_LINE = "expected a series with its samples as JSON"


def ticks_of(source: History, position: int = 0) -> list[Tick]:
    return [tick for piece in source.pieces(position) for tick in piece.ticks]


def samples_of(source: History, position: int = 0) -> list[tuple[str, int, float]]:
    return [
        (series.name, tick.at.wall_ms, value)
        for tick in ticks_of(source, position)
        for series, value in zip(tick.series, tick.values, strict=True)
    ]


def gather(source: History, into: list[Tick]) -> None:
    for piece in source.pieces(0):
        into += piece.ticks


def line(name: str, samples: list[Any], **more: Any) -> str:
    return json.dumps({"name": name, "labels": {"hostname": "rock"}, "samples": samples, **more})


def checked(source: History) -> list[Piece]:
    """The pieces; each begins where the one before ended, and all of them are as far as there is to go."""
    pieces = list(source.pieces(0))
    ends = [piece.end for piece in pieces]
    assert ends == sorted(set(ends))
    dones = [piece.done for piece in pieces]
    assert dones == sorted(dones)
    assert dones[-1] <= source.total
    assert [piece.samples for piece in pieces] == [sum(len(t.values) for t in p.ticks) for p in pieces]
    return pieces


# A buffer.


def filled(folder: Path, count: int, **options: Any) -> Buffer:
    buffer = Buffer(str(folder), **options)
    for n in range(count):
        buffer.append([tick(n), tick(n, group="other")])
    return buffer


def test_a_log_is_replayed_whole_while_its_writer_continues(tmp_path: Path) -> None:
    buffer = filled(tmp_path, 50)
    log = SegmentHistory(str(tmp_path), FIRST_MS, LAST_MS)
    buffer.append([tick(50)])  # came after the start: the replay has an end
    expected = [one for n in range(50) for one in (tick(n), tick(n, group="other"))]
    assert exactly(ticks_of(log)) == exactly(expected)
    assert checked(log)[-1].done == log.total
    buffer.close()
    assert exactly(ticks_of(SegmentHistory(str(tmp_path), FIRST_MS, LAST_MS))) == exactly(
        [*expected, tick(50)]
    )


@settings(deadline=None)
@given(st.integers(0, 40))
def test_a_log_continues_at_any_of_its_positions(at: int) -> None:
    log = SegmentHistory(str(FILLED), FIRST_MS, LAST_MS)
    pieces = list(log.pieces(0))
    assert list(log.pieces(pieces[at].end)) == pieces[at + 1 :]


def test_only_segments_that_reach_into_the_span_are_read(tmp_path: Path) -> None:
    # Four runs of the agent: a segment each.
    for run in range(4):
        buffer = Buffer(str(tmp_path))
        for n in range(run * 10, run * 10 + 10):
            buffer.append([tick(n)])
        buffer.close()
    log = SegmentHistory(str(tmp_path), START_MS + 12 * STEP_MS, START_MS + 25 * STEP_MS)
    assert [t.at.wall_ms for t in ticks_of(log)] == [START_MS + n * STEP_MS for n in range(10, 30)]
    assert log.total == 20 * 3
    nothing = SegmentHistory(str(tmp_path), START_MS + 1000 * STEP_MS, LAST_MS)
    assert (nothing.total, ticks_of(nothing)) == (0, [])


def test_where_a_log_ended_is_kept_for_a_replay_that_continues(tmp_path: Path) -> None:
    buffer = filled(tmp_path, 5)
    end = SegmentHistory(str(tmp_path), FIRST_MS, LAST_MS).end
    for n in range(5, 9):
        buffer.append([tick(n)])
    buffer.close()
    later = SegmentHistory(str(tmp_path), FIRST_MS, LAST_MS, end)
    assert {t.at.wall_ms for t in ticks_of(later)} == {START_MS + n * STEP_MS for n in range(5)}


def test_damage_in_a_log_is_counted_and_passed_over(tmp_path: Path) -> None:
    filled(tmp_path, 50).close()
    file = tmp_path / "segments" / segment.name(0)
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 0xFF
    file.write_bytes(data)
    log = SegmentHistory(str(tmp_path), FIRST_MS, LAST_MS)
    found = ticks_of(log)
    assert log.damaged > 0
    assert 0 < len(found) < 100


def test_an_empty_buffer_has_nothing(tmp_path: Path) -> None:
    log = SegmentHistory(str(tmp_path), FIRST_MS, LAST_MS)
    assert (log.total, ticks_of(log)) == (0, [])


# The quarantine.


def test_an_item_is_replayed_whole_and_from_a_position_on(tmp_path: Path) -> None:
    quarantine = Quarantine(str(tmp_path))
    ticks = [tick(n) for n in range(10)]
    quarantine.put("there", 100, ticks, "rejected", 400, "no", 1)
    [item] = quarantine.items()
    source = ItemHistory(quarantine, item)
    assert exactly([t for piece in checked(source) for t in piece.ticks]) == exactly(ticks)
    assert exactly(ticks_of(source, 12)) == exactly(ticks[4:])
    assert source.damaged == 0


def test_a_damaged_item_says_so_and_one_that_is_gone_is_an_error(tmp_path: Path) -> None:
    quarantine = Quarantine(str(tmp_path))
    quarantine.put("there", 100, [tick(n) for n in range(10)], "rejected", 400, "no", 1)
    [item] = quarantine.items()
    [file] = (tmp_path / "quarantine" / item.id).glob("*.seg")
    file.write_bytes(file.read_bytes()[:-1])
    source = ItemHistory(quarantine, item)
    assert len(ticks_of(source)) == 9
    assert source.damaged == 1
    quarantine.drop(item.id)
    with pytest.raises(LimpetError, match="cannot be read"):
        ticks_of(source)


# A file.


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzipped"])
def test_a_file_is_replayed_whole(tmp_path: Path, packed: bool) -> None:
    file = tmp_path / "export.jsonl"
    long = [[1000 + n, n / 2] for n in range(3 * PIECE + 7)]
    text = "\n".join([line("a_total", long, type="counter", unit="s", help="A."), line("b", [[5, 1]]), ""])
    file.write_bytes(gzip.compress(text.encode()) if packed else text.encode())
    source = FileHistory(str(file))
    assert samples_of(source) == [("a_total", ms, value) for ms, value in long] + [("b", 5, 1.0)]
    assert max(piece.samples for piece in checked(source)) == PIECE
    first = ticks_of(source)[0]
    assert first.series == (Series("a_total", (("hostname", "rock"),), "counter", "s", "A."),)


def test_values_that_json_has_no_number_for(tmp_path: Path) -> None:
    file = tmp_path / "f"
    values = [math.nan, STALE, math.inf, -math.inf, -0.0, 7.0, 5e-324]
    file.write_text(jsonl.line(Series("a", ()), range(7), values))
    assert bits([value for _, _, value in samples_of(FileHistory(str(file)))]) == bits(values)


@settings(deadline=None)
@given(st.integers(0, 2 * PIECE + 30))
def test_a_file_continues_at_any_position(position: int) -> None:
    source = FileHistory(str(EXPORT))
    pieces = list(source.pieces(0))
    assert list(source.pieces(position)) == [piece for piece in pieces if piece.end > position]


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        ("{", NO_LINE),
        ("[1]", NO_LINE),
        ('{"name": "a", "labels": {}}', NO_LINE),
        (line("a", [[1]]), NO_LINE),
        (line("a", [[1.5, 1]]), NO_LINE),
        (line("a", [["1", 1]]), NO_LINE),
        (line("a", [[1, "one"]]), NO_LINE),
        (line("a", [[1, "inf"]]), NO_LINE),
        (line("", [[1, 1]]), "the series has no name"),
        (line("a", [[1, 1]])[:-5], NO_LINE),
        ("", NO_LINE),
        ('{"name": "a", "samples": ' + "[" * 100_000, NO_LINE),
    ],
)
def test_a_line_that_is_wrong_is_named_and_what_is_before_it_is_replayed(
    tmp_path: Path, bad: str, error: str
) -> None:
    file = tmp_path / "f"
    file.write_text(f"{line('a', [[1, 1]])}\n{bad}\n{line('a', [[3, 3]])}\n")
    found = list[Tick]()
    with pytest.raises(LimpetError, match=f"f, line 2: .*{error}"):
        gather(FileHistory(str(file)), found)
    assert [one.at.wall_ms for one in found] == [1]


def test_a_compressed_file_that_is_cut_short_is_reported(tmp_path: Path) -> None:
    file = tmp_path / "f.gz"
    whole = gzip.compress("".join(f"{line('a', [[n, n]])}\n" for n in range(5000)).encode())
    file.write_bytes(whole[: len(whole) // 2])
    found = list[Tick]()
    with pytest.raises(LimpetError, match="the compressed file is damaged"):
        gather(FileHistory(str(file)), found)
    assert [one.at.wall_ms for one in found] == list(range(len(found)))
    assert found


# What is selected of it.


def test_a_span_includes_both_its_ends() -> None:
    ticks = [tick(n) for n in range(10)]
    chosen = Selection(ticks[3].at.wall_ms, ticks[6].at.wall_ms).of(ticks)
    assert exactly(chosen) == exactly(ticks[3:7])


def test_a_selector_picks_series_and_leaves_no_tick_empty() -> None:
    selection = Selection(selector=parse('{__name__=~"probe_.*", place!="1"}'))
    ticks = [tick(1, width=3), tick(1, width=3, group="other"), tick(2, width=3)]
    first, second = selection.of(ticks)
    assert [series.name for series in first.series] == ["probe_0_total", "probe_2_total"]
    assert (list(first.values), list(second.values)) == ([64.0, 66.0], [128.0, 130.0])
    assert first.series is second.series  # by identity: that is what makes encoding cheap
    assert Selection(selector=parse("nothing")).of(ticks) == []


def test_ticks_without_samples_are_left_out() -> None:
    assert Selection().of([tick(1)._replace(series=(), values=[])]) == []


def test_many_sets_of_series_take_no_more_memory() -> None:
    selection = Selection(selector=parse("probe_0_total"))
    for n in range(300):
        one = tick(n)
        assert len(selection.of([one._replace(series=(*one.series[:1], *one.series[1:]))])) == 1
    assert len(selection._picked) <= 64


@pytest.fixture(scope="module", autouse=True)
def _sources(tmp_path_factory: pytest.TempPathFactory) -> None:
    global FILLED, EXPORT
    FILLED = tmp_path_factory.mktemp("filled")
    filled(FILLED, 50).close()
    EXPORT = FILLED / "export.jsonl"
    sizes = (1, PIECE, 3, PIECE + 20)
    EXPORT.write_text(
        "".join(f"{line(f's{i}', [[n, n] for n in range(size)])}\n" for i, size in enumerate(sizes))
    )


FILLED: Path
EXPORT: Path
