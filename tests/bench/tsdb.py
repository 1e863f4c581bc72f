"""What a sample takes in Prometheus's own storage: blocks that promtool makes of the recorded host, weighed.

    python -m tests.bench.tsdb            half a minute; prints a line for each step between samples

The recorded hour is played again and again on a grid of 10 s and of 1 min (the last value of each minute), and made
into blocks as long as Prometheus's own compaction makes them with a retention of 30 days: a tenth of it. Blocks of two
hours are weighed too, because that is what the newest are. At 1 h the recording would repeat itself with every sample,
so there each hour gets one of its rounds, in another order, over 31 days, the longest block there is.
docs/capacity.md uses the result (`tools.sizing`).
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from buffer.model import Tick
from tests.bench import replay
from tools.servers import ensure

HOUR_MS = 3_600_000
SPAN_H = 72
LONG_H = 744
# Multiples of the blocks' length, so that nothing falls into a second block.
END_MS = 1_790_000_000_000 // (SPAN_H * HOUR_MS) * (SPAN_H * HOUR_MS)
LONG_END_MS = 1_790_000_000_000 // (LONG_H * HOUR_MS) * (LONG_H * HOUR_MS)


class Weight(NamedTuple):
    """What was weighed: the blocks of `series` at one sample every `step_s`, each block so many hours long."""

    step_s: int
    block_hours: int
    series: int
    samples: int
    bytes: int

    @property
    def per_sample(self) -> float:
        """Bytes for a sample, index and all."""
        return self.bytes / self.samples


def played(step_ms: int, span_ms: int) -> Iterator[tuple[int, list[Tick]]]:
    """The recorded host's rounds with their times, until `END_MS`."""
    recording = replay.load()
    for ticks in replay.repeated(recording, recording.samples * -(-span_ms // recording.span_ms), END_MS):
        at = ticks[0].at.wall_ms
        if at >= END_MS - span_ms:
            yield at - at % step_ms, ticks


def shuffled(span_ms: int) -> Iterator[tuple[int, list[Tick]]]:
    """A round for each hour until `LONG_END_MS`: those with every collector in them, out of their order."""
    rounds = replay.load().rounds
    most = max(map(len, rounds))
    full = [ticks for ticks in rounds if len(ticks) == most]
    hours = span_ms // HOUR_MS
    for hour in range(hours):
        yield LONG_END_MS - (hours - hour) * HOUR_MS, full[hour * 7 % len(full)]


def exposition(rounds: Iterable[tuple[int, list[Tick]]]) -> Iterator[str]:
    """Rounds as OpenMetrics: of those with one time the last."""
    last: dict[str, tuple[int, str]] = {}
    for at, ticks in rounds:
        for tick in ticks:
            for series, value in zip(tick.series, tick.values, strict=True):
                labels = ",".join(f'{name}="{text}"' for name, text in series.labels)
                name = f"{series.name}{{{labels}}}"
                before = last.get(name)
                if before and before[0] != at:
                    yield f"{name} {before[1]} {before[0] / 1000:.3f}\n"
                last[name] = (at, f"{value:.15g}")
    for name, (at, text) in last.items():
        yield f"{name} {text} {at / 1000:.3f}\n"
    yield "# EOF\n"


def weigh(promtool: Path, step_s: int, block_hours: int, folder: Path) -> Weight:
    """Make the blocks below `folder`, and weigh them."""
    text, blocks = folder / "samples.om", folder / "blocks"
    samples, names = 0, set[str]()
    span_ms = max(block_hours, 24) * HOUR_MS
    rounds = shuffled(span_ms) if step_s == 3600 else played(step_s * 1000, span_ms)
    with text.open("w") as file:
        for line in exposition(rounds):
            file.write(line)
            if not line.startswith("#"):
                samples += 1
                names.add(line.rpartition("}")[0])
    command = [str(promtool), "tsdb", "create-blocks-from", "openmetrics", "--quiet"]
    subprocess.run([*command, f"--max-block-duration={block_hours}h", text, blocks], check=True)
    size = sum(path.stat().st_size for path in blocks.rglob("*") if path.is_file())
    return Weight(step_s, block_hours, len(names), samples, size)


def main() -> None:
    """Weigh, and print."""
    promtool = ensure("promtool").path
    for step_s, block_hours in ((10, 2), (10, SPAN_H), (60, SPAN_H), (3600, LONG_H)):
        with tempfile.TemporaryDirectory() as folder:
            found = weigh(promtool, step_s, block_hours, Path(folder))
        print(
            f"every {step_s:>4} s, blocks of {block_hours:>3} h: {found.per_sample:6.2f} B/sample"
            f"  ({found.series} series, {found.samples} samples, {found.bytes} bytes)"
        )


if __name__ == "__main__":
    main()
