"""What the buffer writes to flash in a day, for several sync intervals: `python -m tests.bench.wear`, as root.

The buffer is on an ext4 file system of its own, in a file behind a loop device, whose counter of
written sectors is read: it includes data and journal. A quarter of a day of recorded ticks is appended as fast
as it goes; syncs and requests come as often as they would in real time, by the clock that is handed in.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle, islice
from pathlib import Path

from buffer.buffer import Buffer
from buffer.limits import Limits
from tests.bench import replay

DAY_MS = 86_400_000
PARTS = 4
SECTOR = 512
SYNCS_MS = (10_000, 30_000, 60_000, 300_000)
SEND_MS = 30_000


@contextmanager
def loop_device(folder: Path) -> Iterator[tuple[Path, Path]]:
    """Yield a mounted ext4 file system and the statistics file of its device."""
    image, mount = folder / "image", folder / "mount"
    mount.mkdir()
    with image.open("wb") as file:
        file.truncate(512 << 20)
    subprocess.run(["mkfs.ext4", "-q", image], check=True)
    subprocess.run(["mount", "-o", "loop", image, mount], check=True)
    try:
        listed = subprocess.run(["losetup", "-j", image], check=True, capture_output=True, text=True).stdout
        yield mount, Path("/sys/block") / Path(listed.split(":")[0]).name / "stat"
    finally:
        subprocess.run(["umount", mount], check=True)
        image.unlink()


def written(stat: Path) -> int:
    """Return the bytes that were written to the device so far."""
    os.sync()
    return int(stat.read_text().split()[6]) * SECTOR


def a_day(recording: replay.Recording, sync_ms: int, send_ms: int | None) -> tuple[float, float, float]:
    """MB a day: of segments, of all that the buffer writes, and of what reaches the device."""
    step = recording.interval_ms
    with tempfile.TemporaryDirectory() as folder, loop_device(Path(folder)) as (mount, stat):
        before, now = written(stat), 0
        buffer = Buffer(str(mount / "data"), Limits(), ["d"], clock=lambda: now / 1000)
        cursor = buffer.cursors["d"]
        for ticks in islice(cycle(recording.rounds), DAY_MS // step // PARTS):
            now += step
            at = ticks[0].at._replace(wall_ms=1_800_000_000_000 + now, mono_ms=now)
            buffer.append([tick._replace(at=at) for tick in ticks])
            if send_ms and now % send_ms == 0:
                chunk = cursor.read(20_000)
                cursor.commit(chunk.start, chunk.end, chunk.samples, {})
            if now % sync_ms == 0:
                buffer.sync()
        buffer.close()
        own, segments = buffer.written, buffer.log.written
        return tuple(n * PARTS / 1e6 for n in (segments, own, written(stat) - before))  # type: ignore[return-value]


def main() -> int:
    """Print the table."""
    if os.geteuid() != 0:
        sys.stderr.write("this mounts a file system: run it as root\n")
        return 2
    recording = replay.load()
    sys.stdout.write(f"{recording.series} series at {recording.interval_ms / 1000:g} s, MB a day\n")
    sys.stdout.write("sync_interval  segments  agent  device  device without a link\n")
    for sync_ms in SYNCS_MS:
        segments, own, device = a_day(recording, sync_ms, SEND_MS)
        alone = a_day(recording, sync_ms, None)[2]
        row = f"{sync_ms / 1000:>9.0f} s  {segments:>8.2f}  {own:>5.2f}  {device:>6.0f}  {alone:>6.0f}\n"
        sys.stdout.write(row)
    return 0


if __name__ == "__main__":
    sys.exit(main())
