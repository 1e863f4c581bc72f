"""Plays of a fleet: lives of hosts, the rules that ship under promtool, and a real Alertmanager with all four channels.

In the suite there are two hundred hosts, and Alertmanager's time runs 300 times as fast; LIMPET_PLAYS_HOSTS=1000 is the whole, with a minute
in a second. Each play prints a row of the table in docs/scale.md: its messages on each channel, and the most of an hour.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from tests.support.certs import Certs
from tests.support.delivered import Told, deliver
from tests.support.played import STEP_S, Change, Labels, Life, play

HOSTS = int(os.environ.get("LIMPET_PLAYS_HOSTS", "200"))
IS_WHOLE = HOSTS >= 1000
FASTER = 60 if IS_WHOLE else 300
HOUR = 3600 // STEP_S
"""Steps."""
ROOT = 'disk_usage_percent{device="/dev/sda2", fstype="ext4", mountpoint="/"}'
CHANNELS = ("email", "slack", "pagerduty", "webhook")
AN_HOUR = 20
"""The most messages on a channel within an hour, whatever happens to the fleet."""


class Plays(NamedTuple):
    """The programs, and the name of the test; called with lives and the hosts that have them."""

    promtool: Path
    alertmanager: Path
    certs: Certs
    folder: Path
    name: str

    def __call__(
        self,
        lives: Sequence[tuple[Life, Sequence[Labels]]],
        groups: Collection[str] = (),
        *,
        optional: Collection[str] = (),
        sampled_s: int = STEP_S,
        evaluated_s: int = STEP_S,
        faster: int = FASTER,
    ) -> tuple[list[Change], Told]:
        """Return what alerts begin and end, and what was sent: at most 20 messages an hour on each channel.

        In the suite time runs `faster` times as fast, and never in the whole.
        """
        assert sum(len(hosts) for _, hosts in lives) >= HOSTS
        changes = play(
            self.promtool,
            self.folder / "played",
            lives,
            groups,
            optional=optional,
            sampled_s=sampled_s,
            evaluated_s=evaluated_s,
        )
        by = FASTER if IS_WHOLE else faster
        told = deliver(self.alertmanager, self.folder / "alertmanager", self.certs, changes, by)
        most = {channel: told.most_in_an_hour(channel) for channel in CHANNELS}
        cells = [f"{len(told.channels[channel])} ({most[channel]})" for channel in CHANNELS]
        print(f"| {self.name} | {' | '.join(cells)} |")
        assert max(most.values()) <= AN_HOUR, most
        return changes, told


def hosts(name: str, count: int, region: str | None = None, environment: str = "production") -> list[Labels]:
    """So many hosts of a region, or of ten."""
    return [
        {"hostname": f"{name}-{n:03}", "environment": environment, "region": region or f"region-{n % 10}"}
        for n in range(count)
    ]


def life(
    steps: int,
    values: Mapping[str, Callable[[int], float]] = MappingProxyType({}),
    *,
    out: Callable[[int], bool] = lambda _: False,
) -> Life:
    """A host that is well and heard, but for these values."""
    usual: dict[str, Callable[[int], float]] = {
        "limpet_start_time_seconds": lambda _: 1,
        'cpu_usage_percent{core="all"}': lambda _: 20,
        ROOT: lambda _: 40,
    }
    return {
        name: [None if out(step) else value(step) for step in range(steps)]
        for name, value in (usual | dict(values)).items()
    }


def pulse(begin: int, end: int, high: float, low: float) -> Callable[[int], float]:
    """Be high from one step to another, and low before and after."""
    return lambda step: high if begin <= step < end else low


def summary(told: Told) -> Counter[tuple[str, str]]:
    """How many messages were about alerts of a name, that had begun or all had ended."""
    return Counter(
        (
            one.alerts[0]["labels"]["alertname"],
            max((alert["status"] for alert in one.alerts), key="resolved".__ne__),
        )
        for one in told.messages
    )


def spoken(told: Told, alertname: str) -> dict[str, list[str]]:
    """Return what each host's messages about an alert said, oldest first, repeated ones once."""
    found: dict[str, list[str]] = {}
    for one in told.messages:
        for alert in one.alerts:
            if alert["labels"]["alertname"] == alertname:
                said = found.setdefault(alert["labels"]["hostname"], [])
                if said[-1:] != [alert["status"]]:
                    said.append(alert["status"])
    return found
