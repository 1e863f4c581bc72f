"""What single parts cost: bytes on disk, an append, opening a full buffer, and the command line."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from itertools import count, cycle, islice
from pathlib import Path
from statistics import median

from buffer import segment
from buffer.buffer import Buffer
from buffer.model import Tick
from tests.bench import replay
from tests.bench.figures import Figure
from tests.bench.process import ask, cpu_of

LIMPET = Path(sys.executable).with_name("limpet")
FULL = 256 << 20
SEGMENT = 4 << 20
RUNS = 5

OPEN = """
import json, resource, sys, time
from buffer.buffer import Buffer
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
before, wall, cpu = peak(), time.perf_counter(), time.process_time()
buffer = Buffer(sys.argv[1])
print(json.dumps({"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu,
                  "memory": peak() - before, "bytes": buffer.log.size}))
"""


def on_disk(folder: Path, recording: replay.Recording) -> Figure:
    """Bytes a sample of the recording takes, played once into a new buffer."""
    size = replay.fill(folder / "disk", recording.rounds)
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
    return Figure(
        "CPU of an append", spent / appends * 1e3, "ms", None, f"{series} series, {appends} appends"
    )


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


def opening(folder: Path, recording: replay.Recording) -> list[Figure]:
    """Time and memory it takes to open a buffer of 256 MiB."""
    fill_up(folder / "full", recording)
    found = ask(OPEN, str(folder / "full"))
    how = f"{found['bytes'] >> 20} MiB, {FULL // SEGMENT} segments, files in the page cache"
    return [
        Figure("opening a full buffer", found["wall"], "s", None, how),
        Figure("CPU of that", found["cpu"], "s", None),
        Figure("memory of that", found["memory"] / 1e6, "MB", None, "what the peak grew by"),
    ]


def fill_up(data_dir: Path, recording: replay.Recording) -> None:
    """Write a full buffer: one segment made by the buffer itself, then copies of its records, renumbered."""
    buffer = Buffer(str(data_dir), segment_size=SEGMENT)
    for ticks in replay.repeated(recording, 1 << 40, 1 << 41):
        buffer.append(ticks)
        if buffer.log.size >= SEGMENT:
            break
    buffer.close()
    folder = data_dir / "segments"
    (original,) = folder.iterdir()
    data = original.read_bytes()
    records = []
    at = segment.HEADER.size
    while isinstance(found := segment.decode(data, at, 0), segment.Record):
        records.append(found)
        at = found.end
    length = records[-1].seq + records[-1].samples
    for nth in range(1, FULL // SEGMENT):
        shift = nth * length
        copies = (segment.encode(shift, record._replace(seq=record.seq + shift)) for record in records)
        (folder / segment.name(shift)).write_bytes(segment.encode_header(shift) + b"".join(copies))


def commands() -> list[Figure]:
    """CPU of the two commands that answer at once."""
    return [
        Figure(
            f"CPU of limpet {argument}",
            median(cpu_of([str(LIMPET), argument]) for _ in range(RUNS)),
            "s",
            0.15,
            f"median of {RUNS}",
        )
        for argument in ("version", "--help")
    ]
