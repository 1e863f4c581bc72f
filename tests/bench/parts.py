"""What single parts cost: bytes on disk, an append, a request, opening a full buffer, and the command line.

`python -m tests.bench.parts` prints what requests cost, without the rest.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from functools import partial
from itertools import count, cycle, islice, product
from pathlib import Path
from statistics import mean, median

import snappy

from agent.collect.local import LocalCollector
from agent.collect.mask import Mask
from agent.collectors import COLLECTORS, HostPaths
from agent.config import InfluxDB, RelabelConfig
from agent.destinations.influxdb.destination import influxdb
from agent.destinations.influxdb.lines import Naming
from agent.destinations.remote_write.encode import Encoded, Encoder
from agent.destinations.remote_write.encode1 import Encoder1
from agent.destinations.remote_write.encode2 import Encoder2
from agent.relabel import compile_rules
from buffer.buffer import Buffer
from buffer.limits import Limits
from buffer.model import Instant, Series, Tick
from tests.bench import replay
from tests.bench.figures import Figure, table
from tests.bench.process import ask, cpu_of

LIMPET = Path(sys.executable).with_name("limpet")
FULL = 256 << 20
SEGMENT = 4 << 20
NOISE = 4_000
RUNS = 5
NAMINGS: tuple[Naming, ...] = ("metric", "telegraf", "table")
FIVE = ("cpu", "memory", "disk_io", "network", "disk_usage")
WARM = 200
FULL_BATCH = 10_000
END_MS = 1_790_000_000_000

OPEN = """
import json, os, sys, time
from buffer.buffer import Buffer
from tests.bench.process import memory
before, wall, cpu = memory(os.getpid()).now, time.perf_counter(), time.process_time()
buffer = Buffer(sys.argv[1])
wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
print(json.dumps({"wall": wall, "cpu": cpu, "memory": memory(os.getpid()).peak - before, "bytes": buffer.log.size}))
"""


def on_disk(folder: Path, recording: replay.Recording) -> Figure:
    """Bytes a sample of the recording takes, played once into a new buffer."""
    size = replay.fill(folder / "disk", recording.rounds).bytes
    hours = recording.span_ms / 3_600_000
    how = f"{recording.samples} samples of {recording.series} series, {hours:.2f} hours at 10 s"
    return Figure("on disk", size / recording.samples, "B/sample", 1, how)


def appending(folder: Path, recording: replay.Recording, series: int, appends: int) -> Figure:
    """CPU of an append of so many series, without the sync."""
    rounds = list(widened(recording, series))
    buffer = Buffer(str(folder / "append"))
    times = (
        ticks[0].at._replace(wall_ms=wall_ms)
        for ticks, wall_ms in zip(cycle(rounds), count(0, 10_000), strict=False)
    )
    prepared = [
        [tick._replace(at=at) for tick in ticks]
        for ticks, at in islice(zip(cycle(rounds), times, strict=False), appends)
    ]
    begun = time.process_time()
    for ticks in prepared:
        buffer.append(ticks)
    spent = time.process_time() - begun
    buffer.close()
    how = f"{series} series, {appends} appends"
    return Figure("CPU of an append", spent / appends * 1e3, "ms", None, how)


def widened(recording: replay.Recording, series: int) -> Iterator[list[Tick]]:
    """Make every round of the recording so wide: a group of its own of the same series again and again."""
    source = [tick for ticks in recording.rounds for tick in ticks]
    widest = max(source, key=lambda tick: len(tick.values)).series
    columns = tuple(
        one._replace(labels=(*one.labels, ("zone", str(i // len(widest)))))
        for i, one in enumerate(islice(cycle(widest), series))
    )
    for ticks in recording.rounds:
        values = [value for tick in ticks for value in tick.values]
        yield [Tick(ticks[0].at, "wide", columns, list(islice(cycle(values), series)))]


def encoding(recording: replay.Recording, samples: int) -> Iterator[Figure]:
    """Bytes and CPU of request bodies in both protocols, for batches of a drain and for steady ones."""
    rounds = list(replay.repeated(recording, samples, END_MS))
    counting = frozenset({"cpu", "disk_io", "network", "memory"})
    encoders: dict[str, Callable[[], Encoder]] = {
        "1.0": Encoder1,
        "2.0": lambda: Encoder2(from_boot=counting),
        "2.0, described": lambda: _Describing(from_boot=counting),
        "2.0, no metadata": lambda: Encoder2(metadata=False, from_boot=counting),
    }
    most = {"full": len(rounds), "steady": 3}
    kinds = {kind: list(batches(rounds, FULL_BATCH, count)) for kind, count in most.items()}
    for (kind, ticks), (name, encoder) in product(kinds.items(), encoders.items()):
        spent, found = min((_encoded(encoder(), ticks) for _ in range(RUNS)), key=lambda run: run[0])
        held = sum(one.samples for one in found)
        size = sum(len(snappy.compress(one.body)) for one in found)
        how = f"{held / len(found):,.0f} samples in a request"
        limit = 4 if kind == "full" else None
        yield Figure(f"{kind} request bodies, {name}", size / held, "B/sample", limit, how)
        name = f"CPU to encode a million, {kind}, {name}"
        yield Figure(name, spent / held * 1e6, "s", None, f"best of {RUNS}")
    for (kind, ticks), naming in product(kinds.items(), NAMINGS):
        yield from _line_protocol(kind, ticks, naming)


def _line_protocol(kind: str, batches: Sequence[Sequence[Tick]], naming: Naming) -> Iterator[Figure]:
    """Bytes and CPU of request bodies for InfluxDB, with compression."""
    to = InfluxDB(url="http://localhost", db="limpet", naming=naming)
    runs = []
    for _ in range(RUNS):
        spoken, begun = influxdb(to)(), time.process_time()
        found = [spoken.encode(ticks, False).request for ticks in batches]
        runs.append((time.process_time() - begun, found))
    spent, found = min(runs, key=lambda run: run[0])
    held = sum(one.samples for one in found)
    how = f"{held / len(found):,.0f} samples in a request"
    name = f"line protocol, {naming}"
    yield Figure(
        f"{kind} request bodies, {name}", sum(len(one.body) for one in found) / held, "B/sample", None, how
    )
    how = f"best of {RUNS}; with gzip"
    yield Figure(f"CPU to encode a million, {kind}, {name}", spent / held * 1e6, "s", None, how)


def batches(rounds: Iterable[Sequence[Tick]], samples: int, most: int) -> Iterator[list[Tick]]:
    """Cut rounds into batches of at most so many samples and rounds."""
    batch: list[Tick] = []
    size = count = 0
    for ticks in rounds:
        more = sum(len(tick.values) for tick in ticks)
        if batch and (size + more > samples or count == most):
            yield batch
            batch, size, count = [], 0, 0
        batch += ticks
        size, count = size + more, count + 1
    yield batch


class _Describing(Encoder2):
    """With the help of every metric in each request: the first of an hour, and after trouble."""

    def encode(
        self, ticks: Iterable[Tick], describe: Collection[str] = (), *, exemplars: bool = True
    ) -> Encoded:
        ticks = list(ticks)
        return super().encode(ticks, self.families(ticks), exemplars=exemplars)


def _encoded(encoder: Encoder, batches: Sequence[Sequence[Tick]]) -> tuple[float, list[Encoded]]:
    begun = time.process_time()
    found = [encoder.encode(ticks) for ticks in batches]
    return time.process_time() - begun, found


RULES = {
    "plain rules": [
        RelabelConfig(source_labels=("__name__",), regex="go_.*", action="drop"),
        RelabelConfig(source_labels=("instance",), regex="(.*):9100", target_label="where"),
        RelabelConfig(regex="core|zone", action="labeldrop"),
    ],
    "rules with groups": [
        RelabelConfig(source_labels=("__name__",), regex="(.*)_(bytes|seconds)_(total)", target_label="unit"),
        RelabelConfig(source_labels=("instance", "job"), regex="(.*):([0-9]+);(.*)", target_label="where"),
        RelabelConfig(source_labels=("device",), regex="/dev/(sd|nvme)([a-z0-9]+)", target_label="disk"),
    ],
}


def relabeling(series: int) -> Iterator[Figure]:
    """CPU of three rules for one of so many series, as a target exposes them."""
    exposed = [
        {
            "__name__": f"node_disk_{('read', 'written', 'time')[i % 3]}_{('bytes', 'seconds')[i % 2]}_total",
            "device": f"/dev/sd{i % 500}",
            "hostname": "web-01",
            "instance": "localhost:9100",
            "job": "app",
            "zone": str(i % 80),
        }
        for i in range(series)
    ]
    for name, rules in RULES.items():
        relabel = compile_rules(rules)
        assert relabel is not None
        spent = []
        for _ in range(RUNS):
            begun = time.process_time()
            for labels in exposed:
                relabel(labels)
            spent.append(time.process_time() - begun)
        how = f"of a series; {series} of them, best of {RUNS}"
        yield Figure(f"CPU of three {name}", min(spent) / series * 1e6, "us", None, how)


def opening(folder: Path, recording: replay.Recording) -> list[Figure]:
    """Time and memory it takes to open a buffer of 256 MiB."""
    fill_up(folder / "full", recording)
    found = ask(OPEN, str(folder / "full"))
    how = f"{found['bytes'] >> 20} MiB in segments of {SEGMENT >> 20} MiB, in the page cache"
    return [
        Figure("opening a full buffer", found["wall"], "s", None, how),
        Figure("CPU of that", found["cpu"], "s", None),
        Figure("memory of that", found["memory"] / 1e6, "MB", None, "what the peak grew by"),
    ]


def fill_up(data_dir: Path, recording: replay.Recording) -> None:
    """Write a full buffer: noise, which takes room quickly, and the newest segment from the recording."""
    buffer = Buffer(str(data_dir), Limits(max_size=2 * FULL, segment_size=SEGMENT))
    noise = random.Random(1)
    series = tuple(Series("noise", (("n", str(n)),)) for n in range(NOISE))
    at = Instant(0, 0, replay.BOOT_ID)
    while buffer.log.size < FULL - 2 * SEGMENT:
        at = at._replace(wall_ms=at.wall_ms + recording.interval_ms)
        buffer.append([Tick(at, "noise", series, [noise.random() for _ in series])])
    for ticks in replay.repeated(recording, SEGMENT * 3, int(time.time() * 1000)):
        if buffer.log.size > FULL - 2 * SEGMENT + SEGMENT // 2:
            break
        buffer.append(ticks)
    buffer.close()


def collecting(rounds: int) -> list[Figure]:
    """CPU of a round of the five collectors: a second apart, when the caches have seen something else, and at once."""
    builds = {name: partial(COLLECTORS[name].build, COLLECTORS[name].options()) for name in FIVE}
    collects = [LocalCollector(name, build, 5.0, HostPaths(), Mask()) for name, build in builds.items()]

    def round_() -> tuple[float, int]:
        begun = time.process_time()
        samples = sum(len(collect(time.monotonic())) for collect in collects)
        return time.process_time() - begun, samples

    round_()
    cold, samples = list[float](), 0
    for _ in range(rounds):
        time.sleep(1)
        spent, samples = round_()
        cold.append(spent)
    warm = median(round_()[0] for _ in range(WARM))
    how = f"{', '.join(FIVE)}: {samples} series; mean of {rounds}, 1 s apart"
    return [
        Figure("CPU of a round of collecting", mean(cold) * 1e3, "ms", 3, how),
        Figure("CPU of that, at once", warm * 1e3, "ms", 3, f"median of {WARM}"),
    ]


def commands() -> list[Figure]:
    """CPU of the two commands that answer at once."""
    found = []
    for argument in ("version", "--help"):
        cpu = median(cpu_of([str(LIMPET), argument]) for _ in range(RUNS))
        found.append(Figure(f"CPU of limpet {argument}", cpu, "s", 0.15, f"median of {RUNS}"))
    return found


if __name__ == "__main__":
    print(table(list(encoding(replay.load(), 200_000))))
