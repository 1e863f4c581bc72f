"""What the collector of file systems returns: `python -m tests.support.watching RUNS SECONDS` prints a line of JSON a run.

A line has the series by name and mount point, and what the run reported. For processes in namespaces of their own.
"""

from __future__ import annotations

import json
import sys
import time

from agent.collectors import COLLECTORS, HostPaths, Trouble


def main(runs: int, seconds: float) -> None:
    troubles: list[Trouble] = []
    kind = COLLECTORS["disk_usage"]
    collect = kind.build(kind.options(include_fstypes=(".*",)), HostPaths(report=troubles.append))
    for _ in range(runs):
        troubles.clear()
        samples = collect(time.monotonic())
        series = {f"{one.name} {dict(one.labels)['mountpoint']}": one.value for one in samples}
        print(
            json.dumps({"series": series, "reported": {one.name: one.denied for one in troubles}}), flush=True
        )
        time.sleep(seconds)


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]))
