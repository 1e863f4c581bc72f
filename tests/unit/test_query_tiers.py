"""The answers of queries to samples that were made coarser, compared with those to the samples that they were made of."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from agent.cli.chart import summarized
from agent.ops.selector import Matcher
from agent.query.engine import evaluate
from agent.query.limits import Budget, Limits
from agent.query.parse import parse
from agent.query.selecting import Whole
from agent.query.source import BufferSource
from agent.query.value import Steps
from buffer.fs import RealFs
from buffer.history import tiers
from buffer.history.tiers import HOUR, MINUTE, Block
from buffer.model import ENDED, STALE, Instant, Series, Tick
from buffer.reader import Entry
from buffer.thin import STEPS_MS
from tests.support.queried import Answer, alike, answer
from tests.support.tiers import done

HOUR_MS, EVERY_MS = 3_600_000, 10_000
BEGINS = 1_750_000_000_000 // (24 * HOUR_MS) * 24 * HOUR_MS
HOURS = 12
ENDS = BEGINS + HOURS * HOUR_MS
SERIES = (Series("warm", (), "gauge"), Series("packets_total", (), "counter"), Series("thing", (), "unknown"))


def entries(hours: range, is_there: Callable[[int], bool]) -> list[Entry]:
    """A gauge, a counter, and something without a type; the same at each call."""
    chance, warm, count, position = random.Random(1), 20.0, 0.0, 0
    found = []
    for ms in range(BEGINS, ENDS, EVERY_MS):
        warm = round(warm + chance.uniform(-1, 1), 2)
        count, other = count + chance.randint(0, 50), chance.choice([0.0, 1.0])
        if (ms - BEGINS) // HOUR_MS in hours and is_there(ms):
            tick = Tick(Instant(ms, 0, ""), "probe", SERIES, [warm, count, other])
            found.append(Entry(position, position + 3, ms, 3, [tick], 0))
        position += 3
    return found


def buffer(
    folder: Path, *levels: tuple[int, range], is_there: Callable[[int], bool] = lambda _: True
) -> Path:
    """Return a folder whose history has some hours at each level."""
    history, fs = folder / "history", RealFs(str(folder))
    history.mkdir(parents=True)
    for level, hours in levels:
        found = entries(hours, is_there)
        block = Block(found[0].seq, 0)
        for one in found:
            block.add(one)
        head = done(block.write(fs, str(history)))
        if level:
            done(tiers.coarser(fs, str(history), [head], level))
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """The same samples as collected, by the minute, and by the hour."""
    root = tmp_path_factory.mktemp("tiers")
    return {level: buffer(root / str(level), (level, range(HOURS))) for level in (0, MINUTE, HOUR)}


def asked(folder: Path, expression: str, steps: Steps) -> Answer:
    budget = Budget(Limits(), time.monotonic)
    source = BufferSource(str(folder), budget)
    result = answer(evaluate(parse(expression), expression, steps, source.read, budget))
    assert source.warnings() == []
    return result


def compare(folders: dict[int, Path], level: int, expression: str, steps: Steps, relative: float) -> None:
    raw, found = asked(folders[0], expression, steps), asked(folders[level], expression, steps)
    assert raw.series.keys() == found.series.keys() != set()
    for labels, values in raw.series.items():
        assert found.series[labels].keys() == values.keys() != set()
        for ms, value in values.items():
            assert alike(found.series[labels][ms], value, relative), (expression, ms)


def just_before(level: int, steps: int) -> Steps:
    """Times a millisecond before a step of the level ends: a window up to there holds whole steps."""
    step_ms = STEPS_MS[level] * steps
    return Steps(BEGINS + step_ms - 1, ENDS - 1, step_ms)


@pytest.mark.parametrize("level", [MINUTE, HOUR], ids=["minute", "hour"])
@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("name", ["warm", "packets_total", "thing"])
def test_whole_steps_are_exact(folders: dict[int, Path], level: int, steps: int, name: str) -> None:
    window = f"[{steps * STEPS_MS[level] // 1000}s]"
    at = just_before(level, steps)
    functions = ["count_over_time", "present_over_time"]
    if name != "packets_total":
        functions += ["min_over_time", "max_over_time"]
    if name != "warm":
        functions.append("last_over_time")
    for function in functions:
        compare(folders, level, f"{function}({name}{window})", at, 0.0)
    if name == "warm":
        compare(folders, level, f"avg_over_time({name}{window})", at, 1e-5)
        compare(folders, level, f"sum_over_time({name}{window})", at, 1e-5)


@pytest.mark.parametrize("level", [MINUTE, HOUR], ids=["minute", "hour"])
def test_growth_over_some_steps_is_close(folders: dict[int, Path], level: int) -> None:
    for function in ("rate", "increase"):
        window = f"[{6 * STEPS_MS[level] // 1000}s]"
        relative = 0.35 if level == MINUTE else 0.05  # of six minutes with random growth, and of six hours
        compare(folders, level, f"{function}(packets_total{window})", just_before(level, 6), relative)


@pytest.mark.parametrize("level", [MINUTE, HOUR], ids=["minute", "hour"])
def test_at_any_time_there_is_a_value(folders: dict[int, Path], level: int) -> None:
    """Also in the middle of a step: a chart of a year has no holes because its points are not at full hours."""
    at = Steps(BEGINS + 2 * HOUR_MS, ENDS - 1, 7 * 60_000)
    for name in ("warm", "packets_total"):
        found = asked(folders[level], name, at)
        assert len(next(iter(found.series.values()))) == len(at.times)
    counted = asked(folders[level], "packets_total", at).series
    raw = asked(folders[0], "packets_total", Steps(BEGINS, ENDS, EVERY_MS)).series
    known = set(next(iter(raw.values())).values())
    assert set(next(iter(counted.values())).values()) <= known


def test_a_host_that_is_off_has_no_value_for_longer_than_a_step(tmp_path: Path) -> None:
    def on(ms: int) -> bool:
        return not BEGINS + 4 * HOUR_MS <= ms < BEGINS + 9 * HOUR_MS

    folder = buffer(tmp_path, (HOUR, range(HOURS)), is_there=on)
    found = asked(folder, "warm", Steps(BEGINS + HOUR_MS, ENDS - 1, 60_000))
    times = sorted(next(iter(found.series.values())))
    last = BEGINS + 4 * HOUR_MS - EVERY_MS
    assert max(ms for ms in times if ms < BEGINS + 8 * HOUR_MS) < last + HOUR_MS + 5 * 60_000
    assert min(ms for ms in times if ms > BEGINS + 8 * HOUR_MS) >= BEGINS + 10 * HOUR_MS - EVERY_MS


def test_a_series_that_ended_has_no_value_from_then_on(tmp_path: Path) -> None:
    folder, at = tmp_path, BEGINS + 30 * 60_000
    (folder / "history").mkdir()
    block = Block(0, 0)
    for number, ms in enumerate(range(BEGINS, at, EVERY_MS)):
        block.add(Entry(number, number + 1, ms, 1, [Tick(Instant(ms, 0, ""), "probe", SERIES[:1], [1.0])], 0))
    end = Tick(Instant(at, 0, ""), f"probe{ENDED}", SERIES[:1], [STALE])
    block.add(Entry(block.end_seq, block.end_seq + 1, at, 1, [end], 0))
    fs, history = RealFs(str(folder)), str(folder / "history")
    done(tiers.coarser(fs, history, [done(block.write(fs, history))], HOUR))
    assert asked(folder, "warm", Steps(at, at + 2 * HOUR_MS, 60_000)).series == {}
    (value,) = asked(folder, "warm", Steps(at - 1, at - 1, 1)).series.values()
    assert value == {at - 1: 1.0}
    minutes = asked(folder, "count_over_time(warm[1h])", Steps(at, at, 1))
    assert next(iter(minutes.series.values())) == {at: 180.0}


def test_tiers_follow_each_other_in_one_answer(tmp_path: Path, folders: dict[int, Path]) -> None:
    mixed = buffer(tmp_path, (HOUR, range(6)), (MINUTE, range(6, 9)), (0, range(9, HOURS)))
    both = {0: folders[0], HOUR: mixed}
    at = just_before(HOUR, 1)
    for expression in ("max_over_time(warm[1h])", "min_over_time(thing[2h])", "count_over_time(warm[3h])"):
        compare(both, HOUR, expression, at, 0.0)
    compare(both, HOUR, "avg_over_time(warm[5h])", at, 1e-5)
    compare(both, HOUR, "last_over_time(packets_total[1h])", at, 0.0)
    ends = Steps(BEGINS + 9 * HOUR_MS + 300_000, ENDS, 30_000)
    compare(both, HOUR, "rate(packets_total[5m])", ends, 0.0)


def test_selectors_of_one_metric_share_what_they_need(folders: dict[int, Path]) -> None:
    at = Steps(ENDS - 1, ENDS - 1, 1)
    found = asked(
        folders[HOUR],
        "max_over_time(warm[12h]) - min_over_time(warm[12h]) + 0 * stddev_over_time(warm[12h])",
        at,
    )
    raw = asked(folders[0], "max_over_time(warm[12h]) - min_over_time(warm[12h])", at)
    assert _only(found) == pytest.approx(_only(raw))


def test_the_numbers_next_to_a_chart_are_those_of_every_sample(folders: dict[int, Path]) -> None:
    selector = (Matcher("__name__", "=", "warm"),)
    span = Whole(BEGINS, ENDS)
    found = []
    for level in (0, HOUR):
        source = BufferSource(str(folders[level]), Budget(Limits(), time.monotonic))
        ((one,),) = source.read({selector: span}).values()
        found.append(summarized(one))
    raw, coarse = found
    assert (raw.lowest, raw.highest) == (coarse.lowest, coarse.highest)
    assert raw.mean == pytest.approx(coarse.mean, rel=1e-5)


def _only(found: Answer) -> Sequence[float]:
    ((values),) = found.series.values()
    return list(values.values())
