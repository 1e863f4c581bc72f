"""Pictures of the dashboards for the documentation: `python -m tools.dashboards_pictures docs/dashboards`.

Starts a Prometheus, sends it the made-up past of eight hosts (`tests.support.history`) with `limpet buffer replay`, adds what
the rules would have recorded, asks it every query of the dashboards, and draws what it answers. Takes a minute or two.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dashboards.expressions import filled, panels, values
from dashboards.made import dashboards
from tests.support.fleet import HOUR, WEEK, Fleet, every
from tests.support.history import DAY, Disk, Story
from tests.support.prometheus import Prometheus
from tools.drawing import Answers, Marks, Matrix, draw
from tools.servers import ensure

SHOWN = {  # dashboard: the host, seconds back, seconds between points
    "limpet-fleet": (".*", 6 * HOUR, 60.0),
    "limpet-host": ("edge-02", 3 * HOUR, 60.0),
    "limpet-agents": (".*", 6 * HOUR, 60.0),
    "limpet-capacity": (".*", 7 * DAY, 900.0),
}
PLACES = {
    "edge-01": {"environment": "production", "region": "eu-west", "datacenter": "ams1", "role": "gateway"},
    "edge-02": {"environment": "production", "region": "eu-west", "datacenter": "ams1", "role": "gateway"},
    "edge-03": {"environment": "production", "region": "us-east", "datacenter": "nyc2", "role": "sensor"},
    "edge-04": {"environment": "production", "region": "us-east", "datacenter": "nyc2", "role": "gateway"},
    "edge-05": {"environment": "production", "region": "us-east", "datacenter": "nyc2", "role": "sensor"},
    "edge-06": {"environment": "production", "region": "ap-south", "datacenter": "bom1", "role": "gateway"},
    "edge-07": {"environment": "production", "region": "ap-south", "datacenter": "bom1", "role": "sensor"},
    "edge-08": {"environment": "staging", "region": "eu-west", "role": "lab"},
}
STORIES = {
    "edge-01": Story(disks={"/": Disk(32, 46, 0.05), "/var": Disk(120, 83, 1.6)}, cpu=24),
    "edge-02": Story(
        memory=74,
        missed=180,
        lossy=0.03,
        boots=(9 * DAY, 100 * 60),
        outages=((75 * 60, 40 * 60),),
        slow_disk=((2.6 * HOUR, 2.1 * HOUR),),
        busy=((30 * 60, 8 * 60),),
        disks={"/": Disk(16, 88.5, 1.7), "/srv": Disk(64, 41, 0.1, inodes=58)},
    ),
    "edge-03": Story(cpu=8, version="0.5.2", disks={"/": Disk(8, 71, 0.2)}),
    "edge-04": Story(cpu=30, memory=58, starved=((20 * 60, -60),), received=300e3),
    "edge-05": Story(cpu=6, memory=35, memory_gib=2, disks={"/": Disk(8, 52, 0.9)}),
    "edge-06": Story(cpu=35, cpu_day=30, lossy=0.08, outages=((5 * HOUR, 3.2 * HOUR),), received=220e3),
    "edge-07": Story(cpu=9, memory_gib=2, missed=1900, lossy=0.02, outages=((4.4 * HOUR, 4 * HOUR),)),
    "edge-08": Story(cpu=4, cpu_day=2, memory=22, version="0.5.2", freed=((3 * HOUR, -60),)),
}


def fill(fleet: Fleet) -> None:
    """Send the past, and what the rules would have recorded: denser the nearer it is."""
    times = every(900, fleet.end - 4 * WEEK - HOUR, fleet.end - 8 * DAY)
    times += every(300, fleet.end - 8 * DAY, fleet.end - 6.5 * HOUR) + every(
        60, fleet.end - 6.5 * HOUR, fleet.end
    )
    fleet.start(times, agents=False)
    weeks = ["anomalies.rules.yml"]
    fleet.record(fleet.end - 4 * WEEK, fleet.end, 900, weeks, 1)
    fleet.record(fleet.end - 7.2 * DAY, fleet.end - 6.5 * HOUR, 900, [*weeks, "hosts.rules.yml"], 3)
    rules = [f"{name}.rules.yml" for name in ("fleet", "hosts", "limpet")]
    fleet.record(fleet.end - 6 * HOUR, fleet.end, 60, rules, 2, alerts=True)
    fleet.record(fleet.end - 6.5 * HOUR, fleet.end, 60, weeks, 3)


def series(server: Prometheus, expr: str, since: float, until: float, step: float) -> Matrix:
    """What the server answers: series of points."""
    window = {"start": f"{since:.3f}", "end": f"{until:.3f}", "step": f"{step:g}"}
    data = json.loads(server.get("/api/v1/query_range", {"query": expr} | window))["data"]["result"]
    return [
        (
            {key: value for key, value in one["metric"].items() if key != "__name__"},
            [(float(at), float(value)) for at, value in one["values"]],
        )
        for one in data
    ]


def picture(server: Prometheus, dashboard: Mapping[str, Any], end: float, path: Path) -> None:
    """Ask every query of a dashboard, and draw it."""
    host, span, step = SHOWN[dashboard["uid"]]
    end = end // step * step
    since, answers = end - span, {}
    chosen = values(host, span=span, step=step) | {"__rate_interval": f"{max(240.0, 4 * step):.0f}s"}
    for panel in panels(dashboard):
        found = {}
        for target in panel["targets"]:
            start = end if target["instant"] else since
            found[target["refId"]] = series(server, filled(target["expr"], chosen), start, end, step)
        answers[panel["id"]] = Answers(found, since, end)
    instants, stretches = [], []
    for mark in dashboard["annotations"]["list"]:
        if not mark["enable"] or dashboard["uid"] != "limpet-host":
            continue  # of many hosts they would cover each other here
        for _, points in series(server, filled(mark["expr"], chosen), since, end, step):
            if mark.get("useValueForTime"):
                instants += [(at, mark["iconColor"]) for at in {value / 1000 for _, value in points}]
            else:
                stretches.append((points[0][0], points[-1][0], mark["iconColor"]))
    draw(dashboard, answers, Marks(instants, stretches), path)


def main(folder: Path) -> None:
    """Draw all of them into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    begun = time.monotonic()
    with (
        tempfile.TemporaryDirectory() as below,
        Fleet(Path(below), ensure("prometheus").path, None, STORIES, PLACES) as fleet,
    ):
        fill(fleet)
        for uid, dashboard in dashboards().items():
            picture(fleet.server, dashboard, fleet.end, folder / f"{uid}.png")
            print(folder / f"{uid}.png", f"{time.monotonic() - begun:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
