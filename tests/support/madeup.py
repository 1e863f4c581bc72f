"""A host whose values are made up, and which is a real agent otherwise.

The collectors of the values are switched off, and their series, under their own names, come from a text file that the
`textfile` collector reads: so they take the way of every other sample, through the buffer. What such a host had
collected before, in an outage or while it was delivered, is written into its buffer beforehand (`past`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Self

from buffer.buffer import Buffer
from buffer.limits import Limits
from buffer.model import Instant, Series, Tick
from tests.support.agent import Agent
from tests.support.ticks import BOOT

PLACE = {"environment": "production", "region": "eu-west", "datacenter": "dc1", "role": "gateway"}
OFF = ("cpu", "memory", "disk_io", "network", "disk_usage", "sensors")

Values = Mapping[tuple[str, tuple[tuple[str, str], ...]], float]
"""Name and labels of a series (without those of the host), and its value."""


def disk(percent: float, mountpoint: str = "/var", size: int = 100 << 30) -> Values:
    """Return the series of a file system that is so full."""
    labels = (("device", "/dev/sda2"), ("fstype", "ext4"), ("mountpoint", mountpoint))
    used = int(size * percent / 100)
    return {
        ("disk_total_bytes", labels): size,
        ("disk_used_bytes", labels): used,
        ("disk_free_bytes", labels): size - used,
        ("disk_usage_percent", labels): percent,
        ("inode_total", labels): 6_553_600,
        ("inode_used", labels): 786_432,
        ("inode_free", labels): 5_767_168,
        ("inode_usage_percent", labels): 12.0,
    }


def cpu(percent: float) -> Values:
    """Return the series of a processor that is so busy."""
    return {
        ("cpu_usage_percent", (("core", "all"),)): percent,
        ("load_average_1m", ()): round(percent / 25, 2),
    }


class Host:
    """A context manager: the agent of `hostname`, which pushes the values it is given to `url`, and nothing of its own."""

    def __init__(
        self, folder: Path, hostname: str, remote_write: Mapping[str, Any], place: Mapping[str, str] = PLACE
    ) -> None:
        self.labels = {"hostname": hostname, **place}
        self._file = folder / "textfile" / "host.prom"
        self._file.parent.mkdir(parents=True)
        collectors: dict[str, Any] = {name: {"enabled": False} for name in OFF}
        collectors["textfile"] = {"directory": str(self._file.parent)}
        to, collect = {"name": "central", **remote_write}, {"interval": "1s", "collectors": collectors}
        self.agent = Agent(folder, [to], hostname=hostname, labels=dict(place), collect=collect)

    def tell(self, values: Values) -> None:
        """Have these values from the next tick on."""
        families: dict[str, str] = {}
        for (name, labels), value in values.items():
            head = families.setdefault(name, f"# TYPE {name} gauge\n")
            families[name] = f"{head}{name}{_text(labels)} {value!r}\n"
        new = self._file.with_suffix(".new")
        new.write_text("".join(families.values()))
        new.replace(self._file)

    def past(self, times_ms: Iterable[int], values: Callable[[int], Values]) -> int:
        """Write what it had at these times into its buffer, before it starts; return the number of samples."""
        buffer = Buffer(str(self.agent.data_dir), Limits(), ["central"])
        known: dict[tuple[str, tuple[tuple[str, str], ...]], Series] = {}
        count = 0
        for at in times_ms:
            now = values(at)
            for name, labels in now:
                if (name, labels) not in known:
                    known[name, labels] = Series(name, tuple(sorted([*labels, *self.labels.items()])))
            series = tuple(known[each] for each in now)
            buffer.append([Tick(Instant(at, at, BOOT), "madeup", series, list(now.values()))])
            count += len(series)
        buffer.close()
        return count

    def __enter__(self) -> Self:
        self.agent.__enter__()
        return self

    def __exit__(self, *failure: object) -> None:
        self.agent.__exit__(*failure)


def _text(labels: tuple[tuple[str, str], ...]) -> str:
    return "{" + ",".join(f'{name}="{value}"' for name, value in labels) + "}" if labels else ""
