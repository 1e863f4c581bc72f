"""A month of a fleet of small hosts, made up: what they send.

It begins on a Monday at midnight, after three days in which the rules learn when shops are closed. Hosts have usual days and nights,
disks that fill by day and are cleared at night, updates on Tuesdays; shops close at night, and links come and go. That is nobody's
trouble. The events of `tests.support.troubles` are. The same seed gives the same month.

A box whose clock is hours wrong sends nothing, as docs/clock.md says: NTP has been blocked for six hours when its power fails, so it wakes
with the time of the last synchronization, which is behind what it has stored. When NTP is back, it knows its boot, its start and its
outage (of the cause `clock`) by the right clock, and reports them.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Sequence
from typing import NamedTuple

from tests.support.delivered import DAY
from tests.support.played import STEP_S, Labels, Life
from tests.support.troubles import EVENTS, HOUR, LEARNED, at

REGIONS = ("north", "south", "east", "west")
UPDATE = 2 * HOUR
"""When updates begin on Tuesdays: hosts do them within two and a half hours."""
CENTRAL = 'destination="central"'
DISK, ROOT = 'device="mmcblk0"', 'device="/dev/mmcblk0p2", fstype="ext4", mountpoint="/"'
BUFFER_STATES = ("ok", "full", "readonly", "failing", "memory")
TROUBLES = ("failures", "timeouts", "unreadable")
SIZE = 32e9
TEN_DAYS = 10 * DAY
DAYS = LEARNED + 30


def _during(name: str) -> tuple[int, int]:
    [found] = [(one.begin, one.end) for one in EVENTS if one.name == name]
    return found


class Kind(NamedTuple):
    """So many hosts of a region that live alike in so many ways."""

    name: str
    region: str
    lives: int
    hosts: int
    is_shop: bool = False
    is_lte: bool = False
    deploys: bool = False
    own: str = ""


KINDS = (
    *(Kind("edge", region, 3, 27, deploys=region in ("east", "west")) for region in REGIONS),
    *(Kind("shop", region, 2, 10, is_shop=True) for region in REGIONS),
    *(Kind("lte", region, 2, 9, is_lte=True) for region in REGIONS),
    *(Kind("pi", region, 2, 10) for region in REGIONS[:1]),
    *(
        Kind(name, region, 1, 1, own=name)
        for name, region in (
            ("edge-disk-a", "south"),
            ("edge-disk-b", "east"),
            ("edge-link-a", "west"),
            ("edge-leak", "south"),
            ("edge-clock", "east"),
            ("edge-power", "south"),
        )
    ),
)


def cut(life: Life, begin: int, end: int, start: int = 0) -> Life:
    """Return a life from one time to another, in seconds, of which `start` is its first; what it sends as a time counts from the begin."""
    steps = slice((begin - start) // STEP_S, (end - start) // STEP_S)
    return {
        name: [None if value is None else value - begin for value in values[steps]]
        if re.match(r"\w+_time_seconds\b", name)
        else values[steps]
        for name, values in life.items()
    }


def fleet(begin: int = 0, end: int = DAYS * DAY, seed: int = 1) -> list[tuple[Life, Sequence[Labels]]]:
    """Return each life from one time to another, in seconds, and the labels of the hosts that have it."""
    kept = range(begin // STEP_S, end // STEP_S)
    found: list[tuple[Life, Sequence[Labels]]] = []
    for kind in KINDS:
        names = [kind.own or f"{kind.name}-{kind.region}-{n:02}" for n in range(kind.hosts)]
        for n in range(kind.lives):
            labels = [
                {"hostname": name, "environment": "production", "region": kind.region}
                for name in names[n :: kind.lives]
            ]
            life = _life(kind, random.Random(f"{seed} {kind} {n}"), kept)
            found.append((cut(life, begin, end, begin), labels))
    return found


def _life(kind: Kind, dice: random.Random, kept: range) -> Life:
    """Make up what a host of a kind sends: all days, of which these steps are returned."""
    times = range(0, DAYS * DAY, STEP_S)
    off, out = _off(kind, dice), _out(kind, dice)
    updates = {at(day, 0) + UPDATE + dice.randrange(0, 9000, STEP_S) for day in range(2, 31, 7)}
    if kind.is_shop:  # which is off at that time
        updates = {one + 11 * HOUR for one in updates}
    for one in updates:  # a reboot at the end
        off.append((one + 10 * 60, one + 14 * 60))
    runs = [True] * len(times)
    heard = [True] * len(times)
    for begin, end in off:
        for step in range(begin // STEP_S, min(end // STEP_S, len(times))):
            runs[step] = heard[step] = False
    for begin, end in out:
        for step in range(begin // STEP_S, min(end // STEP_S, len(times))):
            heard[step] = False
    boot, missed, appended, waiting = -TEN_DAYS, 0, 0, 0
    down: int | None = None
    last: tuple[int, int] | None = None
    """Begin and end of the last outage that this agent knows."""
    peak, usual = dice.uniform(8, 30), dice.uniform(30, 55)
    per_day, first = dice.uniform(0.2e9, 2e9), dice.uniform(0.4, 0.65)
    columns: dict[str, list[float | None]] = {}
    for step in range(kept.stop):
        t = step * STEP_S
        if not runs[step]:
            missed += 1000
        else:
            if step and not runs[step - 1]:
                was, boot = boot, t
                down = t - max((one for one, _ in off if one < t), default=was)
                last = last if last and last[1] < last[0] else None
            appended += 1000
            waiting = 300 if heard[step] else waiting + 1000
            if not heard[step] and not (last and last[1] < last[0]):
                last = (t + 5, last[1] if last else 0)
            elif heard[step] and last and last[1] < last[0]:
                last = (last[0], t)
        if step < kept.start or not heard[step]:
            continue
        day = 0.5 - 0.5 * math.cos(2 * math.pi * (t % DAY) / DAY)
        busy = any(one <= t < one + 10 * 60 for one in updates)
        cpu = 3 + peak * day + dice.uniform(0, 6)
        if busy:
            cpu = 100 if kind.name == "pi" else dice.uniform(40, 70)
        hours = ((t - 3 * HOUR) % DAY) / DAY  # logs go at 3
        weeks = (t - LEARNED * DAY) % (7 * DAY) / (7 * DAY)
        used = first * SIZE + per_day * hours + 0.5 * per_day * weeks + (0.3e9 if busy else 0)
        values = {
            "cpu": round(cpu, 1),
            "memory": round(usual + 5 * day + dice.uniform(0, 2), 1),
            "util": round(4 + 10 * day + (30 if busy else 0) + dice.uniform(0, 3), 1),
            "await": round(6 + 10 * day + (30 if busy else 0) + dice.uniform(0, 4), 1),
            "network": round(1 + 15 * day + dice.uniform(0, 3), 1),
            "readonly": 0,
            "kills": 0,
            "skew": round(dice.uniform(-0.3, 0.3), 1),
        }
        if kind.own or kind.deploys:
            _happens(kind, t, values)
        values |= {"boot": boot, "missed": missed, "appended": appended, "waiting": waiting}
        values |= {"used": round(100 * used / SIZE, 1), "free": round(SIZE - used), "ran": t - boot}
        named = _series(values) | _own(kind, t)
        named[f'limpet_boot_info{{reason="{_reason(down)}"}}'] = 1
        if down is not None:
            named["limpet_boot_down_seconds"] = down
        if last:
            named[f"limpet_outage_start_time_seconds{{{CENTRAL}}}"] = last[0]
            named[f"limpet_outage_end_time_seconds{{{CENTRAL}}}"] = last[1]
        for name, value in named.items():
            if name not in columns:
                columns[name] = [None] * len(kept)
            columns[name][step - kept.start] = value
    return columns


def _happens(kind: Kind, t: int, values: dict[str, float]) -> None:
    """Change what a host sends by what happens to it."""
    begin = {one.where.get("hostname"): one.begin for one in EVENTS}.get(kind.own, 0)
    end = {one.where.get("hostname"): one.end for one in EVENTS}.get(kind.own, 0)
    if kind.deploys and at(10, 14) <= t < at(10, 15.5):
        values["cpu"] = 99.4
    elif kind.own == "edge-disk-a" and begin <= t < end:
        values |= {"await": 300 if t < begin + 2 * HOUR else 800, "util": 65}
        values["readonly"] = t >= begin + 4 * HOUR
    elif kind.own == "edge-disk-b" and begin <= t < end:
        values["readonly"] = 1
    elif kind.own == "edge-clock" and begin <= t < end:
        values["skew"] = -45
    elif kind.own == "edge-leak" and begin <= t < end:
        values["memory"] = min(98.0, values["memory"] + (98 - values["memory"]) * (t - begin) / (4 * DAY))
    if kind.own == "edge-leak" and t >= at(24, 5):
        values["kills"] = 1


def _reason(down: int | None) -> str:
    """Return why a host was booted last: for an update, which takes four minutes, or because it had no power."""
    return "clean" if down is None or down == 4 * 60 else "power_loss"


def _own(kind: Kind, t: int) -> dict[str, float]:
    """Return what only hosts of a kind send: mobile ones have a data budget, and boards have sensors."""
    if kind.is_lte:
        of = f'{CENTRAL}, period="day"'
        return {
            f"limpet_destination_budget_bytes{{{of}}}": 5e6,
            f"limpet_destination_budget_used_bytes{{{of}}}": round(4e6 * (t % DAY) / DAY),
        }
    if kind.name == "pi":
        sensor = 'sensor="cpu"'
        warm = round(50 + 15 * math.sin(math.pi * (t % DAY) / DAY))
        return {
            f"sensor_temperature_celsius{{{sensor}}}": warm,
            "sensor_undervoltage": 0,
            "sensor_throttled": 0,
        }
    return {}


def _off(kind: Kind, dice: random.Random) -> list[tuple[int, int]]:
    """Return when a host is without power: a shop from about 20:00 to 07:00."""
    if kind.own == "edge-power":
        return [(at(15, 13), at(15, 13) + 120)]
    if not kind.is_shop:
        return []
    found = [(0, 7 * HOUR)]
    for day in range(1 - LEARNED, 31):
        begin, end = (at(day, hour) + dice.randrange(-900, 900, STEP_S) for hour in (20, 31))
        found.append((begin, end))
    return found


def _out(kind: Kind, dice: random.Random) -> list[tuple[int, int]]:
    """Return when nothing of a host arrives though it runs: of a mobile one five times a day, for 2 to 9 minutes."""
    found = [(at(17, 10), at(17, 12))] if kind.region == "north" else []
    if kind.own == "edge-link-a":
        found.append(_during("a link is down for 40 minutes"))
    if kind.own == "edge-power":
        found.append((at(15, 13) + 120, at(15, 18)))
    t = dice.expovariate(5 / DAY)
    while kind.is_lte and t < DAYS * DAY:
        found.append((int(t), int(t) + dice.randrange(120, 540)))
        t += 600 + dice.expovariate(5 / DAY)
    return found


def _series(values: dict[str, float]) -> dict[str, float]:
    """Name the series as an agent does."""
    return {
        "limpet_start_time_seconds": values["boot"],
        "host_boot_time_seconds": values["boot"],
        'cpu_usage_percent{core="all"}': values["cpu"],
        "memory_usage_percent": values["memory"],
        "memory_oom_kills_total": values["kills"],
        f"disk_io_util_percent{{{DISK}}}": values["util"],
        f"disk_await_time_ms{{{DISK}}}": values["await"],
        'network_bandwidth_usage_percent{interface="eth0"}': values["network"],
        f"disk_usage_percent{{{ROOT}}}": values["used"],
        f"disk_free_bytes{{{ROOT}}}": values["free"],
        f"disk_readonly{{{ROOT}}}": values["readonly"],
        f"inode_usage_percent{{{ROOT}}}": 12.5,
        f"disk_read_ops_per_sec{{{DISK}}}": 2,
        f"disk_write_ops_per_sec{{{DISK}}}": 5,
        'network_received_packets_total{interface="eth0"}': 40 * values["ran"],
        'network_sent_packets_total{interface="eth0"}': 30 * values["ran"],
        'network_missed_in_total{interface="eth0"}': values["ran"] // 600,
        'network_drops_out_total{interface="eth0"}': 0,
        'limpet_identity_info{machine="1", data_dir="1"}': 1,
        "limpet_config_reload_successful": 1,
        "limpet_buffer_written_bytes_total": 40 * values["ran"],
        **{f'limpet_buffer_state{{state="{state}"}}': state == "ok" for state in BUFFER_STATES},
        **{f'limpet_collector_{what}_total{{collector="disk"}}': 0 for what in TROUBLES},
        "limpet_buffer_appended_samples_total": values["appended"],
        "limpet_buffer_missed_samples_total": values["missed"],
        "limpet_buffer_max_bytes": 256e6,
        "limpet_buffer_bytes": 2e6 + 2 * values["waiting"],
        f"limpet_destination_appended_samples_total{{{CENTRAL}}}": values["appended"],
        f"limpet_destination_pending_samples{{{CENTRAL}}}": values["waiting"],
        f'limpet_destination_dropped_samples_total{{{CENTRAL}, reason="evicted"}}': 0,
        f"limpet_destination_clock_skew_seconds{{{CENTRAL}}}": values["skew"],
        f"limpet_destination_held{{{CENTRAL}}}": 0,
        f"limpet_destination_interval_seconds{{{CENTRAL}}}": 40,
        f"limpet_destination_certificate_end_time_seconds{{{CENTRAL}}}": (DAYS + 60) * DAY,
    }
