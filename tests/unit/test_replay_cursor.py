"""The ledger of a replay against a model: whatever is read and settled, it balances at every position."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.ops.replay import unfinished
from agent.ops.replay.cursor import LOOK_AHEAD, ReplayCursor, Tally
from agent.ops.replay.selection import Selection
from agent.ops.replay.source import Piece
from agent.ops.replay.unfinished import Unfinished
from agent.ops.selector import parse
from agent.send.batch import Settled
from buffer.errors import LimpetError
from buffer.model import Chunk, Instant, Series, Tick

SERIES = tuple(Series(name, ()) for name in ("a", "b", "c"))


class Pieces:
    """A source of pieces of these sizes, with an error at the end if there is one."""

    def __init__(self, sizes: list[int], error: Exception | None = None) -> None:
        self.total, self.damaged = sum(sizes), 0
        self._sizes, self._error = sizes, error

    def pieces(self, position: int) -> Iterator[Piece]:
        end = 0
        for size in self._sizes:
            ticks = [Tick(Instant(end + n, 0, ""), "", SERIES, (1.0, 2.0, 3.0)) for n in range(size)]
            end += 3 * size
            if end > position:
                yield Piece(ticks, end, 3 * size, end)
        if self._error:
            raise self._error


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def cursor(source: Pieces, selector: str | None = None, start: Tally | None = None) -> ReplayCursor:
    selection = Selection(selector=parse(selector) if selector else None)
    return ReplayCursor(source, selection, start or Tally(), lambda _: None, clock=Clock())


def read(it: ReplayCursor, max_samples: int) -> Chunk:
    chunk = it.read(max_samples)
    assert chunk is not None
    return chunk


sizes = st.lists(st.integers(1, 4), max_size=12)


@given(
    sizes,
    st.sampled_from([None, "a", '{__name__=~"a|b"}', "nothing"]),
    st.lists(st.tuples(st.integers(1, 30), st.sampled_from(["delivered", "rejected", "repeated"]))),
    st.booleans(),
)
def test_the_ledger_balances_at_every_position(
    pieces: list[int], selector: str | None, steps: list[tuple[int, str]], again: bool
) -> None:
    share = {None: 3, "a": 1, "nothing": 0}.get(selector, 2)
    it, seen, lost = cursor(Pieces(pieces), selector), list[int](), dict[str, int]()
    for limit, fate in [*steps, *([(1000, "delivered")] * 60)]:
        chunk = it.read(limit)
        if chunk is None:
            break
        assert it.read(limit) == chunk  # until it is settled
        assert chunk.samples == sum(len(tick.values) for tick in chunk.ticks)
        assert chunk.end > it.position
        assert all(tick.values for tick in chunk.ticks)
        seen += [tick.at.wall_ms for tick in chunk.ticks]
        left = {"delivered": 0, "rejected": chunk.samples, "repeated": chunk.samples // 3}[fate]
        repeated, dropped = left if fate == "repeated" else 0, {"rejected": left} if left else {}
        it.settle(Settled(chunk, chunk.samples - left, dropped, repeated))
        tally = it.tally
        lost[fate] = lost.get(fate, 0) + left
        assert (tally.rejected, tally.repeated) == (lost.get("rejected", 0), lost.get("repeated", 0))
        assert it.position == tally.position == tally.done == tally.read == chunk.end
        assert tally.selected == tally.delivered + tally.rejected + tally.repeated == len(seen) * share
        if seen:
            assert (tally.oldest_timestamp_ms, tally.newest_timestamp_ms) == (min(seen), max(seen))
        if again:  # another process continues
            it = cursor(Pieces(pieces), selector, it.tally)
    assert it.read(1) is None
    assert it.position == 3 * sum(pieces)
    assert len(seen) == len(set(seen)) == (sum(pieces) if share else 0)


def test_a_batch_is_no_larger_than_asked_for_but_one_piece_at_least() -> None:
    it = cursor(Pieces([2, 2, 10]))
    assert [read(it, most).samples for most in (11, 12, 1)] == [6, 12, 6]
    it.settle(Settled(read(it, 12), 12, {}))
    assert read(it, 5).samples == 30


def test_a_long_stretch_of_nothing_is_settled_bit_by_bit() -> None:
    count = 4 * LOOK_AHEAD // 300
    it, ends = cursor(Pieces([100] * count), "nothing"), []
    while (chunk := it.read(10_000)) is not None:
        assert chunk.ticks == []
        ends.append(chunk.end)
        it.settle(Settled(chunk, 0, {}))
    assert len(ends) >= 2
    assert it.tally.read == 300 * count


@pytest.mark.parametrize("error", [LimpetError("f", "it is cut", "Look."), OSError("I/O error")])
def test_what_is_before_a_damage_is_sent(error: LimpetError | OSError) -> None:
    it = cursor(Pieces([2, 2], error))
    chunk = read(it, 1000)
    assert chunk.samples == 12
    assert it.problem is error
    it.settle(Settled(chunk, 12, {}))
    assert it.read(1000) is None


def test_the_ledger_is_saved_at_most_once_a_second_and_when_asked() -> None:
    saved, clock = list[int](), Clock()
    it = ReplayCursor(
        Pieces([1] * 30), Selection(), Tally(), lambda tally: saved.append(tally.position), clock=clock
    )
    for _ in range(30):
        clock.now += 0.25
        it.settle(Settled(read(it, 1), 3, {}))
    assert saved == [3, 15, 27, 39, 51, 63, 75, 87]
    it.save()
    assert saved[-1] == 90


# The file of an unfinished replay.


def test_a_state_comes_back_and_goes_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    file = unfinished.path("/data", "there", "https://x/", "6h", None, None)
    assert unfinished.load(file) is None
    for position in (1, 2):
        kept = Unfinished(99, -5, 7, Tally(position, 2, 3, 4, 5, 6, 0, 7, 8, 9, 10.5, 11, 12, None))
        unfinished.save(file, kept)
        assert unfinished.load(file) == kept
    assert [path.name for path in (tmp_path / "state/limpet").iterdir()] == [Path(file).name]
    assert Path(file).stat().st_mode & 0o77 == 0
    unfinished.remove(file)
    unfinished.remove(file)
    assert unfinished.load(file) is None


def test_another_source_destination_or_selection_is_another_replay() -> None:
    keys = [("a", None), ("b", None), (None, "a"), ("a", "b"), ("ab", ""), ("", "ab")]
    assert len({unfinished.path(*key) for key in keys}) == len(keys)


@pytest.mark.parametrize(
    "content",
    [
        *("", "{", "null", "[]", '{"version": 1}', "[" * 60_000),
        json.dumps({"version": 1, "end": 1, "fingerprint": "", "since_ms": 0, "until_ms": 0, "ledger": 1}),
        json.dumps(
            {"version": 1, "end": 1, "fingerprint": "", "since_ms": 0, "until_ms": 0, "ledger": {"x": 1}}
        ),
    ],
)
def test_what_is_no_state_is_none(tmp_path: Path, content: str) -> None:
    file = tmp_path / "f"
    file.write_text(content)
    assert unfinished.load(str(file)) is None
