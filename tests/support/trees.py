"""Trees of /proc whose numbers are made up: those of a recorded host, with other numbers of any size that the kernel writes."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from pathlib import Path

CORES = 8
FIELDS = 10
"""Of a processor in /proc/stat."""
MILLISECONDS = frozenset((3, 7, 8, 9, 10, 14, 16))
"""Of the numbers of a disk in /proc/diskstats those with 32 bits: times, and the requests in flight (Documentation/iostats)."""
NUMBER = re.compile(r"(?<![-\w.])\d+")


class Tree:
    """The files below `proc`, with numbers from `dice`. Processor times only grow, since node_exporter holds what falls."""

    def __init__(self, proc: Path, dice: random.Random) -> None:
        self._proc, self._dice = proc, dice
        self._times = [[0] * FIELDS for _ in range(CORES)]
        self._plain = {name: (proc / name).read_text() for name in self._writers()}

    def make_up(self) -> None:
        """Write other numbers into every file."""
        for name, write in self._writers().items():
            (self._proc / name).write_text(write(self._plain[name]))

    def _writers(self) -> dict[str, Callable[[str], str]]:
        return {
            "stat": self._stat,
            "loadavg": lambda _: " ".join(f"{self._dice.expovariate(1):.2f}" for _ in range(3)) + " 1/2 3\n",
            "meminfo": self._meminfo,
            "vmstat": lambda text: re.sub(r"oom_kill \d+", lambda _: f"oom_kill {self._any(40)}", text),
            "diskstats": self._diskstats,
            "net/dev": lambda text: NUMBER.sub(lambda _: str(self._any(63)), text),
            "net/sockstat": lambda text: NUMBER.sub(lambda _: str(self._any(31)), text),
            "net/sockstat6": lambda text: NUMBER.sub(lambda _: str(self._any(31)), text),
            "net/snmp": lambda text: NUMBER.sub(lambda _: str(self._any(31)), text),
        }

    def _any(self, bits: int) -> int:
        """Return a number of at most so many bits; each size is as likely as another."""
        return self._dice.getrandbits(self._dice.randint(1, bits))

    def _stat(self, text: str) -> str:
        for core in self._times:
            for i in range(FIELDS):
                core[i] += self._any(36)
        rest = re.sub(r"btime \d+", lambda _: f"btime {self._any(31)}", text[text.index("intr") :])
        lines = [[sum(fields) for fields in zip(*self._times, strict=True)], *self._times]
        names = ["cpu ", *(f"cpu{i}" for i in range(CORES))]
        shown = (f"{name} {' '.join(map(str, fields))}\n" for name, fields in zip(names, lines, strict=True))
        return "".join(shown) + rest

    def _meminfo(self, text: str) -> str:
        total = self._any(40) + 1024
        found = re.sub(r"(\w+:\s+)\d+", lambda match: f"{match[1]}{self._dice.randint(0, total)}", text)
        return re.sub(r"((?:Mem|Swap)Total:\s+)\d+", lambda match: f"{match[1]}{total}", found)

    def _diskstats(self, text: str) -> str:
        lines = []
        for line in text.splitlines():
            major, minor, name, *numbers = line.split()
            some = [str(self._any(32 if i in MILLISECONDS else 50)) for i in range(len(numbers))]
            lines.append(f"{major:>4} {minor:>7} {name} {' '.join(some)}\n")
        return "".join(lines)
