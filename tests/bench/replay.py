"""A recorded host: what its collectors returned for an hour, kept in a file and played back into buffers.

    file   := xz(json)
    json   := {"about": text, "interval_ms": n, "blocks": [block ..]}
    block  := {"group": .., "series": [[name, type, unit, help, {label: value}] ..],
               "wall_ms": [n ..], "columns": [[value ..] for each series]}

A block is a run of ticks of one group with the same series; columns compress better than rows. The file does
not depend on the buffer's format, so a figure can be compared over changes of it.
"""

from __future__ import annotations

import json
import lzma
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from buffer.buffer import Buffer
from buffer.limits import Limits
from buffer.model import Instant, Series, Tick

HOST = Path(__file__).parents[1] / "fixtures" / "bench" / "host.json.xz"
BOOT_ID = "0" * 31 + "1"
UPTIME_MS = 86_400_000
"""How long the host has been up when the first round begins."""


class Recording(NamedTuple):
    """Rounds of ticks, oldest first: the ticks of a round have one instant."""

    about: str
    interval_ms: int
    rounds: list[list[Tick]]

    @property
    def samples(self) -> int:
        """How many samples there are."""
        return sum(len(tick.values) for ticks in self.rounds for tick in ticks)

    @property
    def series(self) -> int:
        """How many series the largest round has, which is one with the collectors of every interval."""
        return max(sum(len(tick.values) for tick in ticks) for ticks in self.rounds)

    @property
    def span_ms(self) -> int:
        """The time from the first round to the one that would follow the last."""
        return self.rounds[-1][0].at.wall_ms - self.rounds[0][0].at.wall_ms + self.interval_ms


def save(ticks: Iterable[Tick], about: str, interval_ms: int, path: Path) -> None:
    """Write a recording."""
    runs: dict[tuple[str, tuple[Series, ...]], list[Tick]] = {}
    for tick in ticks:
        runs.setdefault((tick.group, tick.series), []).append(tick)
    blocks = [
        {
            "group": group,
            "series": [[s.name, s.type, s.unit, s.help, dict(s.labels)] for s in series],
            "wall_ms": [tick.at.wall_ms for tick in run],
            "columns": [[_short(v) for v in column] for column in zip(*(t.values for t in run), strict=True)],
        }
        for (group, series), run in runs.items()
    ]
    text = json.dumps({"about": about, "interval_ms": interval_ms, "blocks": blocks}, separators=(",", ":"))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(lzma.compress(text.encode(), preset=9 | lzma.PRESET_EXTREME))


def _short(value: float) -> float | int:
    return int(value) if value.is_integer() else value


def load(path: Path = HOST) -> Recording:
    """Read a recording."""
    stored: dict[str, Any] = json.loads(lzma.decompress(path.read_bytes()))
    booted_ms = min(block["wall_ms"][0] for block in stored["blocks"]) - UPTIME_MS
    ticks = [tick for block in stored["blocks"] for tick in _ticks(block, booted_ms)]
    ticks.sort(key=lambda tick: tick.at.wall_ms)
    rounds = [list(round_) for _, round_ in groupby(ticks, key=lambda tick: tick.at)]
    return Recording(stored["about"], stored["interval_ms"], rounds)


def _ticks(block: dict[str, Any], booted_ms: int) -> Iterator[Tick]:
    series = tuple(
        Series(name, tuple(sorted(labels.items())), kind, unit, help_text)
        for name, kind, unit, help_text, labels in block["series"]
    )
    rows = zip(*block["columns"], strict=True)
    for wall_ms, row in zip(block["wall_ms"], rows, strict=True):
        at = Instant(wall_ms, wall_ms - booted_ms, BOOT_ID)
        yield Tick(at, block["group"], series, [float(v) for v in row])


def repeated(recording: Recording, samples: int, end_ms: int) -> Iterator[list[Tick]]:
    """Play the recording again and again, with times that continue, until there are so many samples.

    The last round is one interval before `end_ms`, or as near to it as the recording's own grid allows.
    """
    times = max(1, -(-samples // recording.samples))
    first = recording.rounds[0][0].at.wall_ms
    shift = end_ms - end_ms % recording.interval_ms - times * recording.span_ms - first
    shift += first % recording.interval_ms
    booted_ms = first + shift - UPTIME_MS
    for _ in range(times):
        for ticks in recording.rounds:
            wall_ms = ticks[0].at.wall_ms + shift
            at = Instant(wall_ms, wall_ms - booted_ms, BOOT_ID)
            yield [tick._replace(at=at) for tick in ticks]
        shift += recording.span_ms


class Filled(NamedTuple):
    """What was appended to a buffer, and its size on disk."""

    samples: int
    bytes: int


def fill(data_dir: Path, rounds: Iterable[Sequence[Tick]], destinations: Sequence[str] = ()) -> Filled:
    """Append rounds to a new buffer."""
    buffer = Buffer(str(data_dir), Limits(), destinations)
    samples = 0
    for ticks in rounds:
        buffer.append(ticks)
        samples += sum(len(tick.values) for tick in ticks)
    size = buffer.log.size
    buffer.close()
    return Filled(samples, size)
