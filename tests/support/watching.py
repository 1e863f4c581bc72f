"""What the collector of file systems returns: `python -m tests.support.watching RUNS SECONDS [PROC GO]` prints a line of JSON a run.

A line has the series by name and mount point, and what the run reported. For processes in namespaces of their own.
With GO, a pipe, it waits before each run until somebody writes to it; PROC is read in the place of /proc.
"""

from __future__ import annotations

import json
import sys
import time

from agent.collectors import COLLECTORS, HostPaths, Trouble


def main(runs: int, seconds: float, proc: str = "/proc", go: str = "") -> None:
    troubles: list[Trouble] = []
    kind = COLLECTORS["disk_usage"]
    collect = kind.build(kind.options(include_fstypes=(".*",)), HostPaths(proc, report=troubles.append))
    for _ in range(runs):
        if go:
            with open(go, encoding="utf-8") as pipe:
                pipe.read()
        troubles.clear()
        samples = collect(time.monotonic())
        series = {f"{one.name} {dict(one.labels)['mountpoint']}": one.value for one in samples}
        print(
            json.dumps({"series": series, "reported": {one.name: one.denied for one in troubles}}), flush=True
        )
        time.sleep(seconds)


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]), *sys.argv[3:])
