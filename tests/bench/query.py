"""What an answer costs: the evaluation of an expression apart from reading, reading with it, and the whole command.

python -m tests.bench.query            prints a table; a minute
python -m tests.bench.query FOLDER     queries of a day, a month and a year to the buffer in a folder (`tests.bench.year`)
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from array import array
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from agent.query.engine import evaluate
from agent.query.limits import Budget, Limits
from agent.query.parse import parse
from agent.query.source import BufferSource
from agent.query.value import Samples, Steps
from buffer.fs import RealFs
from buffer.history.read import WholeReader
from buffer.history.tiers import Block
from buffer.lookup.cache import Cache
from tests.bench import replay
from tests.bench.figures import Figure, table
from tests.bench.process import cpu_of

LIMPET = Path(sys.executable).with_name("limpet")
END_MS = 1_790_000_000_000
DAY_S = 86_400
RUNS = 7


def counter(span_s: int, every_s: int) -> Samples:
    """Return a counter that grows at random, until `END_MS`, with an hour before the span."""
    chance, total = random.Random(1), 0.0
    times = range(END_MS - (span_s + 3600) * 1000, END_MS + 1, every_s * 1000)
    values = array("d")
    for _ in times:
        total += chance.random() * 10
        values.append(total)
    return Samples((("__name__", "x"),), array("q", times), values)


def evaluated(expression: str, span_s: int, every_s: int, step_s: int, limit: float | None) -> Figure:
    """Return the CPU time of an evaluation, in milliseconds: the best of some runs."""
    one, tree = counter(span_s, every_s), parse(expression)
    steps = Steps(END_MS - span_s * 1000, END_MS, step_s * 1000)
    best = float("inf")
    for _ in range(RUNS):
        began = time.process_time()
        evaluate(
            tree,
            expression,
            steps,
            lambda needs: {key: [one] for key in needs},
            Budget(Limits(), time.monotonic),
        )
        best = min(best, time.process_time() - began)
    name = f"{expression}, {span_s // DAY_S} d of one series"
    return Figure(name, best * 1000, "ms", limit, f"a sample every {every_s} s, {len(steps.times):,} points")


def evaluations() -> Iterator[Figure]:
    """Return the figures of evaluations."""
    for expression in (
        "x",
        "rate(x[5m])",
        "avg_over_time(x[5m])",
        "max_over_time(x[5m])",
        "sum(rate(x[5m]))",
    ):
        yield evaluated(expression, DAY_S, 10, 10, 60)
    for expression in ("quantile_over_time(0.9, x[5m])", "stddev_over_time(x[5m])", "deriv(x[5m])"):
        yield evaluated(expression, DAY_S, 10, 10, None)
        yield evaluated(expression, DAY_S, 10, 360, 60)
    for expression in ("x", "rate(x[3h])", "deriv(x[3h])"):
        yield evaluated(expression, 30 * DAY_S, 3600, 3600, 60)
    yield evaluated("avg_over_time(x[6h])", 365 * DAY_S, 3600, 6 * 3600, 100)


def answered(
    data_dir: Path, expression: str, span_s: int, step_s: int, limit: float | None, form: str
) -> Iterator[Figure]:
    """Return the CPU time of reading and evaluation: the first time, and the best of some runs in the same process."""
    cache, tree, used = Cache(), parse(expression), list[float]()
    for _ in range(RUNS + 1):
        began = time.process_time()
        budget = Budget(Limits(), time.monotonic)
        source = BufferSource(str(data_dir), budget, cache=cache)
        end_ms = source.newest_ms() or 0
        result = evaluate(
            tree, expression, Steps(end_ms - span_s * 1000, end_ms, step_s * 1000), source.read, budget
        )
        used.append(time.process_time() - began)
        assert result.lines
    name = f"{expression}, {span_s // DAY_S} d {form}"
    yield Figure(
        name, min(used[1:]) * 1000, "ms", limit, f"each {step_s} s; {used[0] * 1000:.0f} ms the first time"
    )


def of_tiers(data_dir: Path) -> Iterator[Figure]:
    """Return the figures of a buffer with a year of history."""
    for metric in ("memory_available_bytes", "cpu_usage_percent"):
        yield from answered(data_dir, metric, DAY_S, 10, 60, "of history")
        yield from answered(data_dir, metric, 30 * DAY_S, 3600, 60, "of history")
        yield from answered(data_dir, f"max_over_time({metric}[1h])", 30 * DAY_S, 3600, 60, "of history")
        yield from answered(data_dir, metric, 365 * DAY_S, 6 * 3600, 100, "of history")
        yield from answered(
            data_dir, f"max_over_time({metric}[6h])", 365 * DAY_S, 6 * 3600, 100, "of history"
        )


def packed(data_dir: Path, folder: Path) -> Path:
    """Return a folder that has the log of another one as history."""
    fs = RealFs(str(folder))
    history = f"{folder}/history"
    fs.make_folder(history)
    block: Block | None = None
    for entry in WholeReader(RealFs(str(data_dir)), str(data_dir)):
        block = block or Block(entry.seq, 0)
        block.add(entry)
        if block.is_full:
            deque(block.write(fs, history), 0)
            block = None
    if block is not None:
        deque(block.write(fs, history), 0)
    return folder


def readings(folder: Path) -> Iterator[Figure]:
    """Return the figures of a day of the recorded host, as history and as a backlog."""
    recording = replay.load()
    replay.fill(folder / "rows", replay.repeated(recording, recording.samples * 24, END_MS))
    for data_dir, form in (
        (packed(folder / "rows", folder / "columns"), "of history"),
        (folder / "rows", "of backlog"),
    ):
        for expression, step_s in (
            ("memory_available_bytes", 10),
            ("avg_over_time(memory_available_bytes[5m])", 300),
        ):
            yield from answered(data_dir, expression, DAY_S, step_s, 60, form)


def commands(folder: Path) -> Iterator[Figure]:
    """Return the figures of whole commands, on a day of the recorded host."""
    recording = replay.load()
    now_ms = round(time.time() * 1000)
    replay.fill(folder / "day", replay.repeated(recording, recording.samples * 24, now_ms))
    for words in (
        ["query", "1 + 1"],
        ["query", "cpu_usage_percent", "--last", "1h"],
        ["query", "cpu_usage_percent", "--last", "1d"],
        ["show", "cpu", "--last", "1d"],
    ):
        used = min(cpu_of([str(LIMPET), *words, "--data-dir", str(folder / "day")]) for _ in range(3))
        note = f"a day of {recording.series} series, reading and drawing and all"
        yield Figure(f"CPU of limpet {' '.join(words)}", used * 1000, "ms", None, note)


def main() -> int:
    """Print the figures; 1 where a limit is not kept."""
    with tempfile.TemporaryDirectory(prefix="limpet-bench-") as name:
        if len(sys.argv) > 1:
            figures = list(of_tiers(Path(sys.argv[1])))
        else:
            figures = [*evaluations(), *readings(Path(name)), *commands(Path(name))]
    print(table(figures))
    return 1 if any(one.verdict == "MISSED" for one in figures) else 0


if __name__ == "__main__":
    sys.exit(main())
