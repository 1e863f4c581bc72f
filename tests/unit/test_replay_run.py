"""A replay as a whole, with a source in memory and a receiver with scripted answers."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from types import SimpleNamespace

import pytest

from agent.cli.arguments import parse_time
from agent.config import QueueConfig, RemoteWrite
from agent.destinations.remote_write.protocol import UNREADABLE
from agent.http.answer import Answer
from agent.ops.replay.cursor import Tally
from agent.ops.replay.run import Ended, Replayed, Watcher, replay
from agent.ops.replay.selection import Selection
from agent.ops.replay.source import Piece
from agent.send.state import Rules
from buffer.errors import LimpetError
from buffer.model import Tick
from tests.support import wire
from tests.support.protocols import EMPTY
from tests.support.scripted import DELIVERED, HELD, HELD_WORDS, RETRY, TOO_LARGE, Samples, Script, by_labels
from tests.support.ticks import tick

THERE = RemoteWrite(
    url="http://127.0.0.1:1/",
    name="there",
    queue_config=QueueConfig(max_samples_per_send=30, min_backoff=0.001),
    protobuf_message="prometheus.WriteRequest",
)
QUICK = Rules(0.001, 0.002, 0.001, 0.002)


def rejected(words: str) -> Answer:
    return Answer(400, {}, words.encode())


class Ticks:
    """A source of ticks, each a piece; `error` comes after them."""

    def __init__(self, ticks: Sequence[Tick], error: Exception | None = None) -> None:
        self.ticks, self._error = ticks, error
        self.total, self.damaged = sum(len(one.values) for one in ticks), 0

    def pieces(self, position: int) -> Iterator[Piece]:
        end = 0
        for one in self.ticks:
            end += len(one.values)
            if end > position:
                yield Piece([one], end, len(one.values), end)
        if self._error:
            raise self._error


def run(
    source: Ticks,
    script: Script | None,
    *,
    start: Tally | None = None,
    give_up_after: float = 60.0,
    said: list[str] | None = None,
    saved: list[Tally] | None = None,
    watcher: Watcher | None = None,
) -> Replayed:
    said, saved = [] if said is None else said, [] if saved is None else saved
    return replay(
        source,
        Selection(),
        THERE,
        script,
        watcher or Watcher(lambda _ledger, _doing: None, said.append),
        start=start,
        save=saved.append,
        give_up_after=give_up_after,
        rules=QUICK,
    )


def everything(source: Ticks) -> Samples:
    return by_labels(source.ticks)


HISTORY = Ticks([tick(n) for n in range(100)])


def test_everything_arrives_merged_and_is_accounted_for() -> None:
    script, saved = Script(), list[Tally]()
    report = run(HISTORY, script, saved=saved)
    assert script.stored == everything(HISTORY)
    assert script.sizes == [30] * 10
    assert {len(series.samples) for series in wire.decode(script.bodies[0]).series} == {10}
    ledger = report.tally
    assert (report.ended, report.refusals, report.error) == (Ended.COMPLETE, [], None)
    assert (ledger.read, ledger.selected, ledger.delivered, ledger.rejected, ledger.retried) == (
        300,
        300,
        300,
        0,
        0,
    )
    assert ledger.bytes == sum(map(len, script.bodies)) + len(UNREADABLE)
    assert (ledger.oldest_timestamp_ms, ledger.newest_timestamp_ms) == (
        HISTORY.ticks[0].at.wall_ms,
        HISTORY.ticks[-1].at.wall_ms,
    )
    assert saved[0].position == 0
    assert saved[-1]._replace(seconds=0) == ledger._replace(seconds=0)


def test_trouble_that_passes_costs_nothing_and_is_said_once() -> None:
    script, said = Script(RETRY, RETRY, HELD, RETRY, DELIVERED, TOO_LARGE, DELIVERED, RETRY), list[str]()
    report = run(HISTORY, script, said=said)
    assert script.stored == everything(HISTORY)
    assert EMPTY in script.bodies  # a held destination is probed, as the agent does
    assert report.ended is Ended.COMPLETE
    assert report.tally.retried == 3
    assert said[:2] == ["waiting: HTTP 503", f"held: {HELD_WORDS}"]
    assert "sending again" in said
    assert "smaller requests from now on: HTTP 413" in said


def test_what_is_refused_is_counted_by_the_receivers_words() -> None:
    history = Ticks([tick(n, width=1) for n in range(300)])  # a series: nothing to bisect
    much, odd = rejected("limit exceeded"), rejected("odd")
    script, said = Script(much, DELIVERED, odd, much), list[str]()
    report = run(history, script, said=said)
    times = [one.at.wall_ms for one in history.ticks]
    assert report.ended is Ended.COMPLETE
    assert [tuple(refusal) for refusal in report.refusals] == [
        (400, "HTTP 400: limit exceeded", 2, 60, times[0], times[119]),
        (400, "HTTP 400: odd", 1, 30, times[60], times[89]),
    ]
    assert (report.tally.delivered, report.tally.rejected) == (210, 90)
    assert said == ["refused: HTTP 400: limit exceeded", "refused: HTTP 400: odd"]


def test_what_is_too_old_is_refused_and_the_rest_delivered() -> None:
    old = rejected("out of bounds")
    script, said = Script(old, old, DELIVERED), list[str]()  # of the first batch the newest sample is too old
    report = run(HISTORY, script, said=said)
    assert report.ended is Ended.COMPLETE
    assert [refusal.message for refusal in report.refusals] == ["HTTP 400: out of bounds"]
    ledger = report.tally
    assert ledger.rejected == sum(refusal.samples for refusal in report.refusals) > 0
    assert ledger.delivered + ledger.rejected == ledger.selected
    assert sum(map(len, script.stored.values())) == ledger.delivered
    assert said == ["refused: HTTP 400: out of bounds"]


def test_a_thousand_kinds_of_words_stay_bounded() -> None:
    history = Ticks([tick(n, width=1) for n in range(1500)])
    script, said = Script(*(rejected(f"{n}") for n in range(50))), list[str]()
    report = run(history, script, said=said)
    assert len(report.refusals) == 21
    assert report.refusals[-1].batches == 30
    assert sum(refusal.samples for refusal in report.refusals) == report.tally.rejected == 1500
    assert len(said) == 20


@pytest.mark.parametrize("trouble", [RETRY, HELD], ids=["waiting", "held"])
def test_it_gives_up_when_nothing_gets_through_and_continues_later(trouble: Answer) -> None:
    saved = list[Tally]()
    began = time.monotonic()
    report = run(HISTORY, Script(*[DELIVERED] * 3, rest=trouble), give_up_after=0.5, saved=saved)
    assert 0.5 <= time.monotonic() - began < 10
    assert report.ended is Ended.GAVE_UP
    assert str(report.error).startswith(f"HTTP {trouble.status}")
    assert report.tally.delivered == 90
    script = Script()
    rest = run(HISTORY, script, start=saved[-1])
    assert rest.ended is Ended.COMPLETE
    assert script.stored == everything(Ticks(HISTORY.ticks[30:]))
    assert (rest.tally.delivered, rest.tally.read) == (300, 300)
    assert rest.tally.bytes > report.tally.bytes
    assert rest.tally.retried == report.tally.retried


def test_progress_does_not_run_out_of_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    # Every batch fails for a while, but each gets through in the end. By a clock that has a hundredth of a second for each
    # answer: 0.6 s for a batch, and 6 s for all.
    outcomes = [
        outcome for _ in range(10) for outcome in (*[RETRY] * 60, DELIVERED, DELIVERED)
    ]  # a probe, a batch
    script = Script(*outcomes)
    clock = SimpleNamespace(monotonic=lambda: (len(outcomes) - len(script.answers)) / 100)
    monkeypatch.setattr("agent.ops.replay.run.time", clock)
    report = run(HISTORY, script, give_up_after=0.7)
    assert report.ended is Ended.COMPLETE


def test_ctrl_c_ends_it_between_two_batches() -> None:
    def stop(ledger: Tally, doing: str) -> None:
        if doing:
            raise KeyboardInterrupt

    saved = list[Tally]()
    watcher = Watcher(stop, lambda _: None)
    report = run(HISTORY, Script(*[DELIVERED] * 2, rest=RETRY), watcher=watcher, saved=saved)
    assert report.ended is Ended.INTERRUPTED
    assert report.tally.delivered == saved[-1].delivered == 60


def test_a_source_that_breaks_off_is_sent_up_to_there_and_reported() -> None:
    broken = Ticks(HISTORY.ticks, LimpetError("f, line 7", "it is no line", "Look."))
    script = Script()
    report = run(broken, script)
    assert (report.ended, report.error) == (Ended.FAILED, "f, line 7: it is no line. Look.")
    assert script.stored == everything(HISTORY)


def test_a_defect_ends_it_at_once() -> None:
    report = run(Ticks(HISTORY.ticks, ZeroDivisionError("a defect")), Script())
    assert (report.ended, report.error) == (Ended.FAILED, "ZeroDivisionError: a defect")


def test_a_dry_run_sends_nothing_and_knows_the_bytes() -> None:
    sent = run(HISTORY, Script()).tally
    sent = sent._replace(bytes=sent.bytes - len(UNREADABLE))  # who asks nobody needs no proof
    report = run(HISTORY, None)
    assert (report.ended, report.tally._replace(seconds=0)) == (Ended.COMPLETE, sent._replace(seconds=0))


def test_nothing_to_replay() -> None:
    script = Script()
    report = run(Ticks([]), script)
    assert (report.ended, report.tally.read, script.bodies) == (Ended.COMPLETE, 0, [])


# Points in time.

NOW = 1_750_000_000.0


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("now", 1_750_000_000_000),
        ("6h", 1_749_978_400_000),
        ("1d12h", 1_749_870_400_000),
        ("90m", 1_749_994_600_000),
        ("1750000000", 1_750_000_000_000),
        ("1750000000.5", 1_750_000_000_500),
        ("2025-06-15T15:06:40Z", 1_750_000_000_000),
        ("2025-06-15T17:06:40.250+02:00", 1_750_000_000_250),
        ("2025-06-15 15:06:40+00:00", 1_750_000_000_000),
    ],
)
def test_times(text: str, ms: int) -> None:
    assert parse_time("--since", text, NOW) == ms


def test_a_time_without_a_zone_is_local(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC-3")  # three hours ahead of UTC
    time.tzset()
    try:
        assert parse_time("--since", "2025-06-15T18:06:40", NOW) == 1_750_000_000_000
        assert parse_time("--since", "2025-06-15", NOW) == 1_750_000_000_000 - (18 * 3600 + 400) * 1000
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize(
    "text", ["", "yesterday", "6", "6x", "2025-13-01", "25:00", "-1h", "1h ago", "9" * 400, "1e9"]
)
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(LimpetError, match=r"--until: .* is not a time"):
        parse_time("--until", text, NOW)
