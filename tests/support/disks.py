"""Disks that are made up, six weeks of each: what returns each day and week, what grows, what is one event; and what a rule
does on them.

A disk that does not fill has no `full`; the others have the hour in which nothing is free any more, and end there.
"""

from __future__ import annotations

import random
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from agent.query.limits import Limits
from agent.query.value import Samples, Steps
from tests.support.queried import Memory, ours

DAYS = 42
STEP_S, HOUR, DAY = 600, 3600, 86400
MONDAY = 1_700_438_400
"""When they begin: a Monday, 0:00 UTC."""
GB = 1e9


class Disk(NamedTuple):
    """Size and use in GB; `used` by the days since Monday. `known` are the hours in which its host is on."""

    name: str
    size: float
    used: Callable[[float], float]
    is_on: Callable[[float], bool] = lambda _: True

    def free(self) -> Iterator[tuple[int, float]]:
        """Yield seconds since Monday and free bytes, until it is full."""
        for second in range(0, DAYS * DAY, STEP_S):
            room = max(0.0, self.size - self.used(second / DAY))
            if self.is_on(second / DAY):
                yield second, room * GB
            if not room:
                return

    def full(self) -> float | None:
        """Return the hour in which it is full."""
        *_, (second, room) = self.free()
        return None if room else second / HOUR


def noise(size: float, seed: int) -> Callable[[float], float]:
    """Return caches that come and go: another value each half hour."""
    chance = random.Random(seed)
    values = [chance.uniform(-size, size) for _ in range(DAYS * 48)]
    return lambda day: values[int(day * 48)]


def office(day: float) -> float:
    """Return the office hours of Monday to Friday, 9 to 17, that have passed: in days of work."""
    whole, part = divmod(day, 1)
    weeks, weekday = divmod(int(whole), 7)
    today = min(max((part * 24 - 9) / 8, 0), 1) if weekday < 5 else 0
    return weeks * 5 + min(weekday, 5) + today


def today(day: float) -> float:
    """Return how much of this office day is worked; nothing from 17 hours to midnight is cleared."""
    return office(day) - office(float(int(day)))


def irregular(longest: float, seed: int) -> Callable[[float], float]:
    """Return the days since it was last cleared up, which is each three to so many days."""
    chance, at, cleared = random.Random(seed), 0.0, [0.0]
    while at < DAYS:
        at += chance.uniform(3, longest)
        cleared.append(at)
    return lambda day: day - max(one for one in cleared if one <= day)


def by_day(day: float) -> bool:
    return 7 <= day % 1 * 24 < 20


def since(day: float, begin: float) -> float:
    return max(0.0, day - begin)


N2, N3, N5 = noise(2, 1), noise(0.3, 2), noise(0.2, 3)
DOCKER, CI = irregular(9, 4), irregular(5, 5)

NEVER = (
    Disk("constant", 100, lambda d: 40.0),
    Disk("caches that come and go", 100, lambda d: 80 + N2(d)),
    Disk("nearly full, and stays so", 100, lambda d: 93 + N3(d)),
    Disk("rotation each week, to 70 %", 100, lambda d: 28 + 6 * (d % 7)),
    Disk("rotation each week, to 85 %", 100, lambda d: 15 + 10 * (d % 7)),
    Disk("rotation each week, to 95 %", 100, lambda d: 60 + 5 * (d % 7)),
    Disk("rotation each night, 3 of 20 GB", 20, lambda d: 3 * (d % 1)),
    Disk("rotation each night, to 92 %", 100, lambda d: 80 + 12 * (d % 1)),
    Disk("saw-teeth of an hour, a tenth", 20, lambda d: 10 + 2 * (d * 24 % 1)),
    Disk("office hours, 8 of 50 GB", 50, lambda d: 25 + 8 * today(d)),
    Disk("office hours, 30 of 60 GB", 60, lambda d: 25 + 30 * today(d)),
    Disk("set up in five hours, 12 GB", 32, lambda d: 4 + 12 * min(1, d * 4.8) + 3 * (d > 1.4)),
    Disk("set up in two days, 20 GB", 32, lambda d: 3 + 10 * min(1, int(d * 24) / 48) + 10 * min(1, d)),
    Disk("a copy of 25 GB that stays", 100, lambda d: 50 + 25 * min(1, since(d, 20.4) * 48)),
    Disk("a copy of 25 GB, for two days", 100, lambda d: 60 + 25 * (20.4 < d < 22.4)),
    Disk("a copy of 25 GB, five hours long", 100, lambda d: 50 + 25 * min(1, since(d, 20.4) * 4.8)),
    Disk("two copies of 10 GB, a week apart", 64, lambda d: 20 + 10 * (d > 15.3) + 10 * (d > 22.5)),
    Disk("a backup each night, 7 are kept", 100, lambda d: 20 + 5 * min(7, int(since(d, 10.1)))),
    Disk("slow growth, full in 60 days", 100, lambda d: 40 + d),
    Disk("rotation each 30 days, to 75 %", 100, lambda d: 45 + d % 30),
    Disk("an update each Tuesday, 4 GB for 2 h", 16, lambda d: 8 + 4 * (1.1 < d % 7 < 1.19)),
    Disk("a database, packed on Sundays", 100, lambda d: 50 + 5 * ((d - 6.2) % 7)),
    Disk("images, removed at odd times", 64, lambda d: 20 + 3 * DOCKER(d)),
    Disk("a builder, cleared at odd times", 64, lambda d: 24 + 7 * CI(d)),
    Disk("nights off, logs that go in the morning", 32, lambda d: 10 + 6 * today(d), by_day),
)
FILLING = (
    Disk("a leak, 2 GB a day", 100, lambda d: 40 + 2 * d),
    Disk("a leak from day 12 on, 6 GB a day", 100, lambda d: 50 + 6 * since(d, 12)),
    Disk("a leak of a card of 16 GB", 16, lambda d: 6 + 0.3 * d + N5(d)),
    Disk("5 GB each night, from day 10 on", 100, lambda d: 40 + 5 * int(since(d, 10.1))),
    Disk("a leak below saw-teeth of a day", 64, lambda d: 12 + 1.5 * d + 3 * (d % 1)),
    Disk("growth on office days", 100, lambda d: 30 + 3 * office(d)),
    Disk("a backup each week that stays, 14 GB", 100, lambda d: 20 + 14 * int((d + 1.9) / 7)),
    Disk("rotation each week that keeps 7 GB", 100, lambda d: 40 + d + 3 * (d % 7)),
    Disk("a leak after a copy of 25 GB", 100, lambda d: 30 + 25 * (d > 14.5) + 2 * since(d, 14.5)),
    Disk("a leak, cleared up once by 20 GB", 100, lambda d: 40 + 2.5 * d - 20 * (d > 15)),
    Disk("a leak, nights off", 32, lambda d: 8 + 0.9 * d, by_day),
    Disk("a leak that doubles each week", 100, lambda d: 20 + 2 ** (d / 7) * 2),
    Disk("a log that runs away, 8 GB an hour", 100, lambda d: 20 + N5(d) + 192 * since(d, 20.5)),
    Disk("a new host that leaks, 5 GB a day", 32, lambda d: 5 + 5 * d),
)
ALL = (*NEVER, *FILLING)


class Outcome(NamedTuple):
    """What a rule does on a disk: how often it began to fire, the hours in which it did although the disk is not full within two
    weeks from then, and the days from the last time it began until the disk is full; none where it was silent then.
    """

    times: int
    false_hours: int
    warning_days: float


def outcome(disk: Disk, firing: Sequence[bool]) -> Outcome:
    full = disk.full()
    end = len(firing) if full is None else int(full)
    begins = [hour for hour in range(end) if firing[hour] and not (hour and firing[hour - 1])]
    false = sum(firing[hour] and (full is None or full - hour > 14 * 24) for hour in range(end))
    warns = bool(full and begins and firing[end - 1])
    return Outcome(len(begins), false, (full - begins[-1]) / 24 if full and warns else 0.0)


def firing(
    records: Iterable[tuple[str, str]], alert: str, pending_h: int, keep_h: int, disks: Iterable[Disk] = ALL
) -> dict[str, list[bool]]:
    """Return of each disk whether the alert fires, hour by hour, as a server that evaluates each hour has it.

    `alert` is evaluated without `ALERTS` and with it: it fires once the first was true for `pending_h`, and until both were not
    for `keep_h`.
    """
    series: list[Samples] = []
    for disk in disks:
        points = list(disk.free())
        series.append(made("disk_free_bytes", disk.name, points))
        series.append(made("limpet:live:bool", "", [(second, 1.0) for second, _ in points], disk.name))
        off = [(hour * HOUR, 1.0) for hour in range(DAYS * 24) if not disk.is_on(hour / 24)]
        series.append(made("limpet:not_live:bool", "", off, disk.name))
    steps = Steps(MONDAY * 1000, (MONDAY + DAYS * DAY - HOUR) * 1000, HOUR * 1000)
    limits = Limits(values=50_000_000, samples=500_000_000, seconds=600)
    for name, expression in records:
        found = ours(expression, steps, Memory(series), limits).series
        for labels, values in found.items():
            of = dict(labels)
            series.append(
                made(
                    name,
                    of["mountpoint"],
                    [(ms // 1000 - MONDAY, v) for ms, v in values.items()],
                    of["hostname"],
                )
            )
    begins = by_disk(ours(alert, steps, Memory(series), limits).series)
    fires = [
        made(
            "ALERTS",
            disk.name,
            [(second, 1.0) for second in range(0, DAYS * DAY, HOUR)],
            alertname="HostDiskFilling",
            alertstate="firing",
        )
        for disk in disks
    ]
    stays = by_disk(ours(alert, steps, Memory([*series, *fires]), limits).series)
    return {
        disk.name: states(begins.get(disk.name, set()), stays.get(disk.name, set()), pending_h, keep_h)
        for disk in disks
    }


def made(name: str, disk: str, points: Iterable[tuple[int, float]], host: str = "", **more: str) -> Samples:
    """Return a series of a disk, of whose host it is the only one."""
    labels = {"__name__": name, "hostname": host or disk, "mountpoint": disk, **more}
    pairs = list(points)
    times, values = (
        array("q", [(MONDAY + second) * 1000 for second, _ in pairs]),
        array("d", [v for _, v in pairs]),
    )
    return Samples(tuple(sorted((key, value) for key, value in labels.items() if value)), times, values)


def by_disk(series: Mapping[tuple[tuple[str, str], ...], Mapping[int, float]]) -> dict[str, set[int]]:
    """Return the hours of each disk in which there is a value."""
    return {
        dict(of)["mountpoint"]: {(ms // 1000 - MONDAY) // HOUR for ms in values}
        for of, values in series.items()
    }


def states(begins: set[int], stays: set[int], pending_h: int, keep_h: int) -> list[bool]:
    found, last, since_when = [], -1, -1
    is_firing = False
    for hour in range(DAYS * 24):
        if is_firing:
            last = hour if hour in stays or hour in begins else last
            is_firing = hour - last < keep_h
            since_when = -1
        if not is_firing:
            since_when = -1 if hour not in begins else hour if since_when < 0 else since_when
            is_firing = since_when >= 0 and hour - since_when >= pending_h
            last = hour
        found.append(is_firing)
    return found
