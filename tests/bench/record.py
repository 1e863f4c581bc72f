"""Records this host for the benchmarks: the real agent at its defaults, and its buffer into one small file.

    python -m tests.bench.record --for 3600          run an agent for an hour, then write the file
    python -m tests.bench.record --from DATA_DIR     write the file from a buffer that is there already

What would identify the host is replaced: its name and the kernel's release in `host_info` are made up, and the mount
points below / are numbered. Devices and interfaces are kept as they are.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from buffer.fs import RealFs
from buffer.model import ENDED, Series, Tick
from buffer.reader import Reader
from tests.bench import replay, steady
from tests.support.receiver import Receiver

INTERVAL_MS = 10_000
HOSTNAME = "web-01"
KERNEL = "6.12.0-1-amd64"


def record(seconds: float, folder: Path) -> Path:
    """Run an agent for so long, with a receiver that takes everything; return its data folder."""
    with Receiver(keep=0) as receiver:
        destination = {"url": receiver.url, "name": "central"}
        agent = steady.at_defaults(folder, HOSTNAME, destination, f"{INTERVAL_MS}ms")
        with agent:
            time.sleep(seconds)
            agent.stop()
    return agent.data_dir


def ticks(data_dir: Path) -> Iterator[Tick]:
    """Return what a buffer holds, without what would name the host."""
    known: dict[tuple[Series, ...], tuple[Series, ...]] = {}
    mounts = {"/": "/"}

    def nameless(series: Series) -> Series:
        labels = dict(series.labels) | {"hostname": HOSTNAME}
        if "kernel_release" in labels:
            labels["kernel_release"] = KERNEL
        if "mountpoint" in labels:
            labels["mountpoint"] = mounts.setdefault(labels["mountpoint"], f"/mnt/{len(mounts)}")
        return series._replace(labels=tuple(sorted(labels.items())))

    reader = Reader(RealFs(), str(data_dir / "segments"))
    while (entry := reader.next()) is not None:
        for tick in entry.ticks:
            if tick.group.endswith(ENDED):  # the stop's, say: nothing to measure by
                continue
            series = known.setdefault(tick.series, tuple(map(nameless, tick.series)))
            yield tick._replace(series=series)
    reader.close()


def main() -> None:
    """Record, and say what came of it."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.record", description="Record this host.")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--for", dest="seconds", type=float, help="seconds to record")
    what.add_argument("--from", dest="data_dir", type=Path, help="the data folder of a buffer")
    parser.add_argument("--out", type=Path, default=replay.HOST, help="default: %(default)s")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="limpet-record-") as folder:
        data_dir = options.data_dir or record(options.seconds, Path(folder))
        about = f"The agent's defaults on a Linux host, recorded {time.strftime('%Y-%m-%d', time.gmtime())}."
        replay.save(ticks(data_dir), about, INTERVAL_MS, options.out)
    kept = replay.load(options.out)
    print(
        f"{options.out}: {kept.samples} samples of {kept.series} series in {len(kept.rounds)} rounds,"
        f" {kept.span_ms / 60_000:.1f} minutes, {options.out.stat().st_size} bytes"
    )


if __name__ == "__main__":
    main()
