"""What really happens in a month of a fleet (`tests.support.month`), and which messages must be there about it, and no others."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from tests.support.delivered import DAY, Message, Silence, Told
from tests.support.played import Labels

HOUR = 3600
LEARNED = 3
"""Days before the month begins, in which the rules learn when shops are closed."""


class Event(NamedTuple):
    """Something that must cause a message: what, where (regular expressions of labels), and from when to when (seconds).

    A message about `first` must be there within `within` seconds; those about `alerts` are true too.
    """

    name: str
    where: Labels
    begin: int
    end: int
    alerts: tuple[str, ...]
    first: str
    within: int


def at(day: int, hour: float) -> int:
    """Return a time in seconds since the start; the first day of the month is 1."""
    return int((LEARNED + day - 1) * DAY + hour * HOUR)


EVENTS = (
    Event(
        "a disk becomes slow, then read-only",
        {"hostname": "edge-disk-a"},
        at(5, 11),
        at(5, 17),
        ("HostDiskSlow", "HostDiskReadOnly", "HostDiskBusy"),
        "HostDiskSlow",
        10 * 60,
    ),
    Event(
        "a link is down for 40 minutes",
        {"hostname": "edge-link-a"},
        at(7, 15),
        at(7, 15) + 40 * 60,
        ("LimpetHostSilent",),
        "LimpetHostSilent",
        15 * 60,
    ),
    Event(
        "a bad deploy on 54 hosts: all of the processor",
        {"hostname": "edge-(east|west)-.*", "region": "east|west"},
        at(10, 14),
        at(10, 15.5),
        ("HostCpuHigh", "LimpetManyHosts"),
        "LimpetManyHosts",
        5 * 60,
    ),
    Event(
        "a clock is 45 s behind",
        {"hostname": "edge-clock"},
        at(13, 9),
        at(13, 20),
        ("LimpetClockSkewed",),
        "LimpetClockSkewed",
        20 * 60,
    ),
    Event(
        "a power cut of 2 minutes, then a clock that is 6 hours behind",
        {"hostname": "edge-power"},
        at(15, 13),
        at(15, 18),
        ("LimpetHostSilent",),
        "LimpetHostSilent",
        15 * 60,
    ),
    Event(
        "a region is out for 2 hours",
        {"region": "north"},
        at(17, 10),
        at(17, 12),
        ("LimpetFleetSilent", "LimpetHostSilent", "LimpetManyHosts"),
        "LimpetFleetSilent",
        15 * 60,
    ),
    Event(
        "a program leaks memory for 4 days",
        {"hostname": "edge-leak"},
        at(20, 0),
        at(24, 6),
        ("HostMemoryHigh", "HostOomKill"),
        "HostMemoryHigh",
        7 * DAY // 2,
    ),
    Event(
        "a disk fails at night",
        {"hostname": "edge-disk-b"},
        at(27, 3),
        at(27, 8),
        ("HostDiskReadOnly",),
        "HostDiskReadOnly",
        10 * 60,
    ),
)
WORK = "cpu|disk_io|network|memory"
SILENCES = tuple(
    Silence(at(day, 2), at(day, 5.5), matching)
    for day in (2, 9, 16, 23, 30)
    for matching in ({"group": WORK}, {"alertname": "LimpetManyHosts", "of": WORK})
)
"""Planned work: Tuesdays from 2 to 5, and half an hour more, in which its alerts end."""


def explained(message: Message, known: Event) -> bool:
    """Whether all alerts of a message are about this event, and the message came while it was, or within two hours of its end."""
    return known.begin <= message.at <= known.end + 2 * HOUR and all(
        alert["labels"]["alertname"] in known.alerts
        and all(
            re.fullmatch(pattern, alert["labels"][name])
            for name, pattern in known.where.items()
            if name in alert["labels"]
        )
        for alert in message.alerts
    )


def to_people(told: Told) -> list[Message]:
    """Return the messages without those of level `info`, which are for a log: that a link or a host was down."""
    return [one for one in told.messages if one.receiver != "info"]


def judged(told: Told, events: Sequence[Event] = EVENTS) -> tuple[list[Message], list[Event]]:
    """Return the messages to people that nothing explains, and the events without a message in time."""
    false = [one for one in to_people(told) if not any(explained(one, event) for event in events)]
    late = [
        event
        for event in events
        if not any(
            explained(one, event)
            and one.at <= event.begin + event.within
            and any(alert["labels"]["alertname"] == event.first for alert in one.alerts)
            for one in to_people(told)
        )
    ]
    return false, late
