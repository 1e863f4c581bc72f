"""Samples to query, recorded and made up, and the answers of Prometheus and of `agent.query` in one form.

Half an hour of a recorded host, and series that show what is special: counters that reset, gaps, series that end
and come back, NaN, infinities, zeros with a sign, histograms, sums that overflow or cancel out, odd times and names.
"""

from __future__ import annotations

import json
import math
import random
import time
import urllib.request
from array import array
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from agent.ops.selector import NAME
from agent.query.engine import Result, evaluate
from agent.query.limits import Budget, Limits
from agent.query.parse import parse
from agent.query.selecting import Data, Span
from agent.query.tree import Matchers
from agent.query.value import Samples, Steps
from buffer.model import STALE, Labels, Series
from tests.bench import replay
from tests.support import wire
from tests.support.prometheus import Prometheus

START_MS = 1_700_000_000_000
"""When the samples begin: long ago, because Prometheus takes none from the future."""
END_MS = START_MS + 3_600_000
RECORDED = (
    "cpu_usage_percent",
    "cpu_usage_per_core_percent",
    "cpu_user_seconds_total",
    "cpu_system_seconds_total",
    "disk_read_bytes_total",
    "host_info",
    "load_average_1m",
    "memory_available_bytes",
    "memory_total_bytes",
    "network_connections",
    "network_received_bytes_total",
)


def stored() -> list[Samples]:
    """Return all series, by their labels."""
    return sorted([*_recorded(), *_made_up()], key=lambda one: one.labels)


def by_series() -> list[tuple[Series, list[tuple[int, float]]]]:
    """Return the same as a buffer takes them."""
    found = []
    for one in stored():
        labels = tuple(label for label in one.labels if label[0] != NAME)
        found.append((Series(dict(one.labels)[NAME], labels), list(zip(one.times, one.values, strict=True))))
    return found


def _samples(name: str, labels: Mapping[str, str], pairs: Sequence[tuple[int, float]]) -> Samples:
    whole = tuple(sorted({NAME: name, **labels}.items()))
    return Samples(whole, array("q", [ms for ms, _ in pairs]), array("d", [value for _, value in pairs]))


def _recorded() -> list[Samples]:
    recording = replay.load()
    first = recording.rounds[0][0].at.wall_ms
    found: dict[Labels, list[tuple[int, float]]] = {}
    for ticks in recording.rounds:
        for tick in ticks:
            for series, value in zip(tick.series, tick.values, strict=True):
                if series.name in RECORDED:
                    key = ((NAME, series.name), *series.labels)
                    found.setdefault(key, []).append((START_MS + tick.at.wall_ms - first, value))
    return [_samples(dict(key)[NAME], dict(key), pairs) for key, pairs in found.items()]


def _grid(every_s: float, offset_ms: int = 0, jitter_ms: int = 0, seed: int = 1) -> list[int]:
    chance = random.Random(seed)
    times = range(START_MS + offset_ms, END_MS, round(every_s * 1000))
    return [ms + chance.randint(0, jitter_ms) for ms in times]


def _made_up() -> list[Samples]:
    chance = random.Random(7)
    out = []
    for number, (job, instance) in enumerate((j, i) for j in ("api", "web") for i in ("1", "2", "3")):
        labels = {"job": job, "instance": instance}
        total, pairs = float(number * 7), []
        for ms in _grid(15, 137 * number, 900, number):
            if chance.random() < 0.02:
                total = chance.choice((0.0, 3.5))
            if 1200 <= (ms - START_MS) / 1000 < 1200 + 240 * number:
                continue  # a gap, longer for each series
            total += chance.random() * 10
            pairs.append((ms, total))
        out.append(_samples("requests_total", labels, pairs))
        walk, pairs = 50.0, []
        for ms in _grid(20, 1000 * number):
            walk += chance.uniform(-3, 3)
            pairs.append((ms, walk))
        out.append(_samples("temperature", labels, pairs))
        out.append(
            _samples("build_info", {**labels, "version": f"v{number % 2}"}, [(ms, 1.0) for ms in _grid(30)])
        )
        out.append(_samples("limit", labels, [(ms, 50.0 + number) for ms in _grid(60)]))
    out.append(_samples("team_info", {"job": "api", "team": "north"}, [(ms, 2.0) for ms in _grid(30)]))
    out.append(_samples("team_info", {"job": "web", "team": "south"}, [(ms, 3.0) for ms in _grid(30)]))
    for part in ("a", "b"):
        ending = [(ms, float(i)) for i, ms in enumerate(_grid(30))]
        for place in (20, 21, 60):
            ending[place] = (ending[place][0], STALE)
        out.append(_samples("ending", {"part": part}, ending if part == "a" else ending[:80]))
    special = [math.nan, math.inf, -math.inf, -0.0, 0.0, 1.5, -1.5, 2.5, 1e300, -1e300, 2.3e-308, math.nan]
    for number in range(3):
        values = [special[(i * (number + 1) + number) % len(special)] for i in range(120)]
        out.append(_samples("special", {"n": str(number)}, list(zip(_grid(30), values, strict=True))))
    for number, value in enumerate((1.7e308, 1.6e308, 1.0, -1.7e308)):
        out.append(_samples("huge", {"n": str(number)}, [(ms, value) for ms in _grid(30)]))
    for number, value in enumerate((1e16, 1.0, -1e16, 3.0)):
        out.append(_samples("cancelling", {"n": str(number)}, [(ms, value) for ms in _grid(30)]))
    mixed = [(ms, (1e16, 1.0, -1e16, 0.125)[i % 4]) for i, ms in enumerate(_grid(10))]
    out.append(_samples("cancelling_over_time", {}, mixed))
    out.append(_samples("overflowing", {}, [(ms, 1.7e308) for ms in _grid(10)]))
    out.append(_samples("sparse", {"every": "4m"}, [(ms, ms / 1000) for ms in _grid(240, 5)]))
    out.append(_samples("sparse", {"every": "10m"}, [(ms, ms / 1e6) for ms in _grid(600, 7)]))
    out.append(_samples("constant", {}, [(ms, 42.0) for ms in _grid(30)]))
    out.append(_samples("negative_total", {}, [(ms, float(i % 30) - 15) for i, ms in enumerate(_grid(30))]))
    out.append(_samples("exactly", {}, [(ms, float(i)) for i, ms in enumerate(_grid(60))]))
    odd = {"path": "/dev/sd.a", "text": 'a "b"\\c\n\u20ac'}
    out.append(_samples("odd:name", odd, [(ms, float(i)) for i, ms in enumerate(_grid(30, 3))]))
    out.append(_samples("dotted.name", {"x.y": "1"}, [(ms, float(i)) for i, ms in enumerate(_grid(30))]))
    out.extend(_histograms(chance))
    return out


def _histograms(chance: random.Random) -> list[Samples]:
    out = []
    bounds = ("0.01", "0.1", "0.5", "1", "2.5", "+Inf")
    for job in ("api", "web"):
        counts = [0.0] * len(bounds)
        columns: list[list[tuple[int, float]]] = [[] for _ in bounds]
        sums = []
        for ms in _grid(15):
            for _ in range(chance.randint(0, 8)):
                value = chance.expovariate(2)
                for i, bound in enumerate(bounds):
                    counts[i] += value <= float(bound)
            if chance.random() < 0.01:
                counts = [0.0] * len(bounds)
            sums.append((ms, counts[-1] * 0.5))
            for i, count in enumerate(counts):
                columns[i].append((ms, count))
        for bound, pairs in zip(bounds, columns, strict=True):
            out.append(_samples("latency_bucket", {"job": job, "le": bound}, pairs))
        out.append(_samples("latency_sum", {"job": job}, sums))
        out.append(_samples("latency_count", {"job": job}, columns[-1]))
    broken = {"1": 5.0, "2": 4.0, "4": 9.0, "4.0": 2.0, "+Inf": 11.0, "text": 3.0, "": 1.0}
    for bound, count in broken.items():
        out.append(
            _samples("broken_bucket", {"le": bound} if bound else {}, [(ms, count) for ms in _grid(30)])
        )
    out.append(_samples("endless_bucket", {"le": "1"}, [(ms, 5.0) for ms in _grid(30)]))
    for bound, count in {"-2": 3.0, "0": 6.0, "+Inf": 9.0}.items():
        out.append(_samples("below_bucket", {"le": bound}, [(ms, count) for ms in _grid(30)]))
    return out


def send(server: Prometheus, series: Sequence[Samples]) -> None:
    """Write all samples to a Prometheus."""
    written = [wire.TimeSeries(one.labels, tuple(zip(one.times, one.values, strict=True))) for one in series]
    headers = {
        "Content-Type": "application/x-protobuf",
        "Content-Encoding": "snappy",
        "X-Prometheus-Remote-Write-Version": "0.1.0",
    }
    request = urllib.request.Request(server.write_url, wire.encode(written), headers)
    urllib.request.urlopen(request, timeout=60).close()


class Memory:
    """Selects from series in memory; `asked` is what was requested."""

    def __init__(self, series: Sequence[Samples]) -> None:
        self.series = series
        self.asked: dict[Matchers, Span] = {}

    def read(self, needs: Mapping[Matchers, Span]) -> Data:
        """Return the samples within the spans, and none beyond them."""
        self.asked = dict(needs)
        found: dict[Matchers, list[Samples]] = {}
        for matchers, (first, last) in needs.items():
            tests = [(one.label, one.test()) for one in matchers]
            found[matchers] = [
                _within(one, first, last)
                for one in self.series
                if all(test(dict(one.labels).get(name, "")) for name, test in tests)
            ]
        return found


def _within(one: Samples, first: int, last: int) -> Samples:
    kept = [i for i, ms in enumerate(one.times) if first <= ms <= last]
    return Samples(
        one.labels, array("q", [one.times[i] for i in kept]), array("d", [one.values[i] for i in kept])
    )


class Answer(NamedTuple):
    """An answer: its type, and for each series the values by their milliseconds. The order is that of the answer."""

    type: str
    series: dict[Labels, dict[int, float]]
    text: str = ""


def ours(expression: str, steps: Steps, memory: Memory, limits: Limits | None = None) -> Answer:
    """Return our own answer. Raises QueryError."""
    budget = Budget(limits or Limits(), time.monotonic)
    return answer(evaluate(parse(expression), expression, steps, memory.read, budget))


def answer(result: Result) -> Answer:
    """Return a result in the form in which it can be compared."""
    series = {
        line.labels: {ms: v for ms, v in zip(result.times, line.values, strict=True) if v is not None}
        for line in result.lines
    }
    series |= {one.labels: dict(zip(one.times, one.values, strict=True)) for one in result.raw}
    return Answer(result.type, series, result.text)


def theirs(expression: str, steps: Steps, server: Prometheus) -> Answer:
    """Return Prometheus's answer. Raises ServerFailed."""
    if steps.start_ms == steps.end_ms:
        path, when = "query", {"time": f"{steps.end_ms / 1000:.3f}"}
    else:
        path, times = "query_range", ("start", "end", "step")
        when = {key: f"{ms / 1000:.3f}" for key, ms in zip(times, steps, strict=True)}
    data: Any = json.loads(server.get(f"/api/v1/{path}", {"query": expression, **when}))["data"]
    kind, result = data["resultType"], data["result"]
    if kind == "string":
        return Answer(kind, {}, result[1])
    if kind == "scalar":
        return Answer(kind, {(): {round(result[0] * 1000): float(result[1])}})
    series = {}
    for entry in result:
        pairs = entry["values"] if kind == "matrix" else [entry["value"]]
        series[tuple(sorted(entry["metric"].items()))] = {round(at * 1000): float(v) for at, v in pairs}
    return Answer(kind, series)


def difference(mine: Answer, other: Answer, *, relative: float = 1e-12) -> str:
    """Return where two answers differ, empty where they do not."""
    if (mine.type, mine.text) != (other.type, other.text):
        return f"{mine.type} {mine.text!r}, not {other.type} {other.text!r}"
    if mine.series.keys() != other.series.keys():
        return f"only ours: {mine.series.keys() - other.series.keys()}, only theirs: {other.series.keys() - mine.series.keys()}"
    for labels, values in mine.series.items():
        expected = other.series[labels]
        if values.keys() != expected.keys():
            return f"{labels}: the times differ: {sorted(values.keys() ^ expected.keys())[:5]}"
        for ms, value in values.items():
            if not alike(value, expected[ms], relative):
                return f"{labels} at {ms}: {value!r}, not {expected[ms]!r}"
    return ""


def alike(a: float, b: float, relative: float) -> bool:
    """Return whether two values are the same but for rounding."""
    return (
        (a != a and b != b) or a == b or (math.isfinite(a) and abs(a - b) <= relative * max(abs(a), abs(b)))
    )
