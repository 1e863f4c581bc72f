"""Which messages people get where a value swings, and where a disk fills: by the rules that ship, and a real Alertmanager.

See `tests.support.plays` for the size and the pace.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import pytest

from tests.support.delivered import DAY
from tests.support.disks import FILLING, GB, NEVER, Disk
from tests.support.played import Life
from tests.support.plays import HOSTS, IS_WHOLE, Plays, hosts, spoken, summary

pytestmark = pytest.mark.timeout(1800)
IN_ORDER = True
HALF_S, EVALUATED_S = 5, 15
"""Samples are each 10 s, at one of two distances to the evaluations."""
CPU = {'cpu_usage_percent{core="all"}': [100.0] * 5 + [20]}
DISK = {
    'disk_await_time_ms{device="sda"}': [0.0, 0, 3000],
    'disk_read_ops_per_sec{device="sda"}': [0.0, 0, 0],
    'disk_write_ops_per_sec{device="sda"}': [0, 0, 0.1],
    'disk_io_util_percent{device="sda"}': [0.0, 0, 30],
}


def at_each_phase(
    pattern: dict[str, list[float]], well: dict[str, float], begin: int, end: int, all_: int
) -> list[Life]:
    """Return a life for each distance between what happens, the samples and the evaluations, with a pattern between two times."""
    [length] = {len(values) for values in pattern.values()}
    found: list[Life] = []
    for turn in range(length):
        for late in range(2):
            times = range(0, all_, HALF_S)
            found.append(
                {
                    name: [
                        None
                        if (t // HALF_S + late) % 2
                        else values[(t // (2 * HALF_S) + turn) % length]
                        if begin <= t < end
                        else well[name]
                        for t in times
                    ]
                    for name, values in (pattern | {"limpet_start_time_seconds": [1.0] * length}).items()
                }
            )
    return found


def test_what_is_said_about_a_swinging_value_is_the_same_at_every_phase(played: Plays) -> None:
    """CPU at 100 % for 50 s and at 20 % for 10 s, on nearly all hosts, is no message at any phase between samples and evaluations.

    A disk that completes one request of 3 s in 30 s is one at each.
    """
    idle = dict.fromkeys(CPU, 20.0) | {"limpet_start_time_seconds": 1.0}
    rests = dict(zip(DISK, (2.0, 10, 10, 1), strict=True)) | {"limpet_start_time_seconds": 1.0}
    begin, end, all_ = 300, 1200, 1800
    busy = at_each_phase(CPU, idle, begin, end, all_)
    slow = at_each_phase(DISK, rests, begin, end, all_)
    assert (len(busy), len(slow)) == (12, 6)
    ill = hosts("slow", len(slow))
    share = -(-(HOSTS - len(slow)) // len(busy))
    changes, told = played(
        [
            *((one, hosts(f"busy-{n}", share)) for n, one in enumerate(busy)),
            *((one, [host]) for one, host in zip(slow, ill, strict=True)),
        ],
        sampled_s=HALF_S,
        evaluated_s=EVALUATED_S,
    )
    assert {one.labels["alertname"] for one in changes} == {"HostDiskSlow"}
    first = {one.labels["hostname"]: one.at for one in reversed(changes) if one.begins}
    assert first.keys() == {one["hostname"] for one in ill}
    assert max(first.values()) <= begin + 180
    assert summary(told) == {("HostDiskSlow", status): 6 for status in ("firing", "resolved")}
    assert len(told.channels["pagerduty"]) == 12


EVERY_S = 1200
"""Seconds between the samples of disks: of 17 days."""
STEPS = 17 * DAY // EVERY_S
REPORTED = 11.0
"""The day at which the disks that fill are to be reported."""
CLEARED = 11.1
BEGIN = 4
"""The day of the others' lives at which the play begins."""
NEARLY = {
    "a copy of 25 GB, five hours long",
    "images, removed at odd times",
    "a builder, cleared at odd times",
}
"""Disks that are reported for hours, since nothing distinguishes them (docs/decisions/0106)."""
FORECAST = (
    *("limpet-live", "limpet-presence", "limpet-many"),
    *("host-disk-trends", "host-disk-weeks", "host-disk-forecast"),
)


class Fills(NamedTuple):
    """A disk that fills: the days before it is full at which it is reported, and of which there must be this many."""

    name: str
    reported: float
    warning: float


FILLS = (
    Fills("a leak, 2 GB a day", 7.0, 6.5),
    Fills("a leak from day 12 on, 6 GB a day", 4.1, 4),
    Fills("5 GB each night, from day 10 on", 5.9, 5),
    Fills("growth on office days", 6.9, 6.5),
    Fills("a log that runs away, 8 GB an hour", 0.2, 0.1),
)


def free(disk: Disk, begin: float, cleared: float | None = None) -> Life:
    """Return a disk's host from a day of its life on.

    On the day `cleared` of the play three fifths of it are cleared up, and no more is written.
    """
    found: dict[str, list[float | None]] = {"limpet_start_time_seconds": [], "disk_free_bytes": []}
    for step in range(STEPS):
        day = step * EVERY_S / DAY
        is_cleared = cleared is not None and day >= cleared
        used = disk.used(begin + (cleared if cleared is not None and is_cleared else day))
        room = min(max(disk.size - used, 0) + 0.6 * disk.size * is_cleared, 0.95 * disk.size)
        is_on = disk.is_on(begin + day)
        found["limpet_start_time_seconds"].append(1 if is_on else None)
        found["disk_free_bytes"].append(room * GB if is_on else None)
    device = 'device="/dev/sda2", fstype="ext4", mountpoint="/"'
    return {name if name.startswith("limpet") else f"{name}{{{device}}}": v for name, v in found.items()}


def test_disks_that_never_fill_cause_no_message_and_those_that_do_one_each_in_time(played: Plays) -> None:
    """Two weeks and a half of the disks that are made up for the forecast, on all hosts (in the suite, each second one). Five fill, are reported and are cleared up."""
    never = [disk for disk in NEVER if disk.name not in NEARLY][:: 1 if IS_WHOLE else 2]
    by_name = {disk.name: disk for disk in FILLING}
    share = -(-(HOSTS - len(FILLS)) // len(never))
    lives: list[tuple[Life, Sequence[dict[str, str]]]] = [
        (free(disk, BEGIN), hosts(f"never-{n}", share)) for n, disk in enumerate(never)
    ]
    full: dict[str, float] = {}
    for one, host in zip(FILLS, hosts("fills", len(FILLS)), strict=True):
        disk = by_name[one.name]
        hour = disk.full()
        assert hour
        full[host["hostname"]] = REPORTED + one.reported
        begin = hour / 24 - one.reported - REPORTED
        lives.append((free(disk, begin, CLEARED), [host]))
    changes, told = played(lives, FORECAST, sampled_s=EVERY_S, evaluated_s=EVERY_S, faster=1200)
    assert {one.labels["alertname"] for one in changes} == {"HostDiskFilling"}
    began = {one.labels["hostname"]: one.at / DAY for one in changes if one.begins}
    assert began.keys() == full.keys()
    for one, (name, at) in zip(FILLS, sorted(began.items()), strict=True):
        assert full[name] - at >= one.warning, one.name
    assert spoken(told, "HostDiskFilling") == {name: ["firing", "resolved"] for name in full}
    assert {one.receiver for one in told.messages} == {"critical"}
