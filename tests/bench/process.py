"""What a process costs, seen from outside: CPU to the nanosecond, memory as the kernel counts it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tests.support.run import python

ROOT = Path(__file__).parents[2]


class Memory(NamedTuple):
    """Resident memory in bytes: now, and the most there ever was."""

    now: int
    peak: int


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process, of its ended threads too: its CPU clock (clock_getcpuclockid(3))."""
    return time.clock_gettime(~pid << 3 | 2)


def memory(pid: int) -> Memory:
    """Return VmRSS and VmHWM of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    kib = {
        key: int(rest.split()[0]) for key, _, rest in (line.partition(":") for line in lines) if "Vm" in key
    }
    return Memory(kib["VmRSS"] * 1024, kib["VmHWM"] * 1024)


def compiled(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment in which Python finds its modules compiled, as an installed agent does.

    To compile them at each start would cost 2 MB of memory and a second of CPU that no host pays.
    """
    found = {**environment, "PYTHONPYCACHEPREFIX": str(ROOT / ".cache" / "bytecode")}
    found.pop("PYTHONDONTWRITEBYTECODE", None)
    subprocess.run([sys.executable, "-c", "import agent.process"], env=found, cwd=ROOT, check=True)
    return found


def cpu_of(command: Sequence[str]) -> float:
    """Run a command to its end, and return its CPU time in seconds.  Raises where it fails."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=ROOT)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{command} ended with status {process.returncode}")
    return usage.ru_utime + usage.ru_stime


def ask(code: str, *arguments: str) -> dict[str, Any]:
    """Run Python code in a process of its own, and return the JSON it prints."""
    answer: dict[str, Any] = json.loads(python(code, *arguments, cwd=ROOT))
    return answer
