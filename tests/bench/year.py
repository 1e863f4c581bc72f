"""A year of history in a few minutes: what the tiers of a host take on disk, and what it costs to make them.

    python -m tests.bench.year               365 days at the default tiers; LIMPET_YEAR_DAYS=40 for a shorter time
    nice python -m tests.bench.year          the same, out of the way

The host is the recorded one (`tests.bench.replay`), continued for as long as it takes without a repetition: each hour has
the recorded steps of every series in another order, chosen by a seed, and gauges go back the way they came. That has no
pattern that the recording does not have, and is harder to compress than a host is. A week has an outage of some hours.
Everything goes through the real files, in a temporary folder, by a clock that is handed in; the log is left out, since
a segment that is packed says no more than its entries.
"""

from __future__ import annotations

import itertools
import os
import random
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from agent.config.schema import HistorySection
from buffer.fs import RealFs
from buffer.history.keep import History
from buffer.history.tiers import Block
from buffer.history.work import AGING, Worker
from buffer.limits import Tiers
from buffer.model import Instant, Series, Tick
from buffer.reader import Entry
from buffer.thin import STEPS_MS
from tests.bench import replay
from tests.bench.figures import table
from tests.bench.query import of_tiers

HOUR_MS = 3_600_000
BEGINS_MS = 1_750_000_000_000 // HOUR_MS * HOUR_MS
OUTAGE = range(160, 165)
"""The hours of each week in which the host is off."""


class Report(NamedTuple):
    """What a simulation came to: files, bytes and rows of each step, and the CPU seconds of the work."""

    days: float
    samples: int
    bytes: int
    most_bytes: int
    by_step: dict[int, tuple[int, int, int]]
    seconds: float
    history: str


def default_tiers() -> Tiers:
    """Return the tiers of a configuration that does not name any."""
    given = HistorySection()
    return Tiers(given.raw, given.minute, given.hour, given.max_size)


class Host:
    """A host like the recorded one, for any time."""

    def __init__(self, recording: replay.Recording, seed: int) -> None:
        self._chance = random.Random(seed)
        self._groups: list[tuple[str, tuple[Series, ...], list[int]]] = []
        self._steps: list[list[list[float]]] = []
        self._values: list[list[float]] = []
        self._digits: list[list[int]] = []
        sets: dict[str, dict[tuple[Series, ...], list[Tick]]] = {}
        for ticks in recording.rounds:
            for tick in ticks:
                sets.setdefault(tick.group, {}).setdefault(tick.series, []).append(tick)
        for group, found in sets.items():
            # A host whose disks and interfaces stay what they are: the set of series that was there for longest.
            series, of = max(found.items(), key=lambda pair: len(pair[1]))
            interval_ms = min(b.at.wall_ms - a.at.wall_ms for a, b in itertools.pairwise(of))
            columns = list(zip(*(tick.values for tick in of), strict=True))
            self._groups.append((group, series, list(range(0, HOUR_MS, interval_ms))))
            self._values.append([column[0] for column in columns])
            steps = [[b - a for a, b in itertools.pairwise(column)] for column in columns]
            count = HOUR_MS // interval_ms - 1
            self._steps.append([list(itertools.islice(itertools.cycle(one), count)) for one in steps])
            self._digits.append([0 if all(v == int(v) for v in column) else 4 for column in columns])

    def hour(self, number: int) -> Iterator[Entry]:
        """Yield the entries of an hour; their positions are not those of a log yet."""
        start = BEGINS_MS + number * HOUR_MS
        rounds: dict[int, list[Tick]] = {}
        for index, (group, series, times) in enumerate(self._groups):
            columns = []
            for place, one in enumerate(series):
                steps = self._steps[index][place]
                self._chance.shuffle(steps)
                value, digits = self._values[index][place], self._digits[index][place]
                moves = steps if one.type != "gauge" or number % 2 == 0 else [-step for step in steps]
                column = list(itertools.accumulate(moves, initial=value))
                columns.append([round(v, digits) for v in column] if digits else column)
                self._values[index][place] = columns[-1][-1]
            for at, values in zip(times, zip(*columns, strict=True), strict=True):
                instant = Instant(start + at, start + at, "0" * 32)
                rounds.setdefault(at, []).append(Tick(instant, group, series, values))
        for at in sorted(rounds):
            samples = sum(len(tick.values) for tick in rounds[at])
            yield Entry(0, samples, start + at, samples, rounds[at], 0)


def simulate(days: float, limits: Tiers, folder: str, seed: int = 1, *, loud: bool = False) -> Report:
    """Let the days pass, and return what is left of them."""
    fs, host = RealFs(folder), Host(replay.load(), seed)
    history = History(fs, folder)
    history.make_folder()
    now = [0.0]
    spent = [0.0]
    worker = Worker(fs, history, lambda: now[0], lambda: BEGINS_MS / 1000 + now[0], cpu=lambda: 0.0)
    block, position, samples, most = None, 0, 0, 0
    for number in range(int(days * 24)):
        for entry in () if number % 168 in OUTAGE else host.hour(number):
            began = time.thread_time()
            block = block or Block(position, 0)
            block.add(entry._replace(seq=position, end=position + entry.samples))
            position, samples = position + entry.samples, samples + entry.samples
            if block.is_full:
                work = block.write(fs, history.folder)
                while True:
                    try:
                        next(work)
                    except StopIteration as stop:
                        history.took_packed(
                            stop.value, fs.size(f"{history.folder}/{block.first_seq:020d}.col")
                        )
                        break
                block = None
            spent[0] += time.thread_time() - began
        began = time.thread_time()
        for part in range(1, 1 + 3600 // int(AGING)):
            now[0] = number * 3600 + part * AGING
            worker.work(limits, 1.0)
        spent[0] += time.thread_time() - began
        most = max(most, history.size)
        if loud and number % 240 == 239:
            sizes = {step: size for step, (_, size, _) in _by_step(history).items()}
            print(
                f"day {(number + 1) // 24}: {samples:,} samples, {history.size:,} bytes {sizes}", flush=True
            )
    return Report(days, samples, history.size, most, _by_step(history), spent[0], history.folder)


def _by_step(history: History) -> dict[int, tuple[int, int, int]]:
    found: dict[int, tuple[int, int, int]] = {}
    for one in history.files:
        if one.head is not None:
            step = STEPS_MS[one.head.level] // 1000
            files, size, rows = found.get(step, (0, 0, 0))
            found[step] = files + 1, size + one.size, rows + one.head.samples
    return found


def main() -> None:
    """Simulate, and print what it came to."""
    days = float(os.environ.get("LIMPET_YEAR_DAYS", "365"))
    with tempfile.TemporaryDirectory() as folder:
        report = simulate(days, default_tiers(), folder, loud=True)
        print(
            f"{days:g} days, {report.samples:,} samples: {report.bytes:,} bytes, at most {report.most_bytes:,}"
        )
        for step, (files, size, rows) in sorted(report.by_step.items()):
            print(
                f"  step {step or 10} s: {files} files, {size:,} bytes, {rows:,} rows, {size / rows:.3f} bytes a row"
            )
        share = 100 * report.seconds / (days * 86400)
        print(f"  {report.seconds:.0f} CPU seconds of work, {share:.4f} % of a core")
        print(table(list(of_tiers(Path(folder)))))


if __name__ == "__main__":
    main()
