"""The messages about alerts that were played (`tests.support.played`): by a real Alertmanager, whose time runs faster.

Alertmanager has the configuration that ships, its waits divided by `by`. Each change of an alert is handed in at its time, those of
one step in one request, those of the fleet first. When nothing has fired for 70 minutes, time is skipped until shortly before the
next change. Quiet hours and a silence for planned work go by the time of the play: the configuration is loaded again when night falls
and when it ends.
"""

from __future__ import annotations

import bisect
import itertools
import json
import os
import signal
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from tests.support.alertmanager import Alertmanager, shipped
from tests.support.certs import Certs
from tests.support.channels import PATHS, Channels
from tests.support.net import wait_for
from tests.support.played import STEP_S, Change

DAY = 86400
QUIET_S = 40 * 60
"""How long after the last change time runs on: longer than a message to people may wait for its group."""
SETTLED_S = 70 * 60
"""How long nothing has fired before time is skipped: longer than any message may wait for its group."""
SKIP_TO_S = 60
"""How long before the next change the skip ends, so that it meets the configuration of its time of the day."""
LOADED = "Completed loading of configuration file"


class Silence(NamedTuple):
    """Planned work, from one time to another: alerts whose labels match these regular expressions cause no message."""

    begin: int
    end: int
    matching: dict[str, str]


class Message(NamedTuple):
    """What was sent at a time (seconds since the start of the play), by which receiver, and its alerts as Alertmanager has them."""

    at: int
    receiver: str
    alerts: list[dict[str, Any]]


class Told(NamedTuple):
    """All messages, by the webhook that each receiver has or by mail, and when each channel had one."""

    messages: list[Message]
    channels: dict[str, list[int]]

    def most_in_an_hour(self, channel: str) -> int:
        """Return the largest number of messages on a channel within 60 minutes."""
        times = sorted(self.channels[channel])
        return max((bisect.bisect_left(times, at + 3600) - n for n, at in enumerate(times)), default=0)


def is_night(at: int) -> bool:
    """Whether it is between 22:00 and 07:00, where a play starts at midnight."""
    return not 7 * 3600 <= at % DAY < 22 * 3600


def by_day(at: int) -> bool:
    """Be no night, ever."""
    return False


def deliver(
    program: Path,
    folder: Path,
    certs: Certs,
    changes: Sequence[Change],
    by: int,
    *,
    night: Callable[[int], bool] = by_day,
    silences: Sequence[Silence] = (),
) -> Told:
    """Hand changes to an Alertmanager whose time runs `by` times as fast, and return what it sent."""
    clock, firing = _Clock(by), set[str]()
    forget = f"--alerts.gc-interval={30 * 60 * 1000 // by}ms"  # what is over, after 30 minutes as by default
    with Channels(certs) as channels:
        config = folder / "config"
        file = shipped(config, channels, certs, night=night(0), by=by)
        with Alertmanager(program, folder, file, flags=(forget,)) as alertmanager:
            dark = night(0)
            for at, do in _timeline(alertmanager, changes, silences, firing):
                while (now := clock.now()) < at:
                    is_quiet = not firing and now > clock.busy + SETTLED_S
                    if night(now) != dark:
                        dark, loads = not dark, _loads(alertmanager)
                        clock.busy = clock.busy if is_quiet else now
                        shipped(config, channels, certs, night=dark, by=by)
                        assert alertmanager.pid
                        os.kill(alertmanager.pid, signal.SIGHUP)
                        wait_for(lambda: _loads(alertmanager) > loads, 30, "the configuration")  # noqa: B023
                    elif is_quiet and now < at - SKIP_TO_S:
                        clock.skip(at - SKIP_TO_S)
                    else:
                        time.sleep(min(STEP_S, at - now) / by)
                clock.busy = at
                do()
            end = clock.now() + QUIET_S
            wait_for(lambda: clock.now() > end, 2 * QUIET_S / by, "the last messages")
        assert not channels.refused
        posts, mails = list(channels.posts), list(channels.mails)
    times = {name: [clock.at(post.at) for post in posts if post.channel == name] for name in PATHS}
    return Told(
        [
            Message(clock.at(post.at), post.said["receiver"], post.said["alerts"])
            for post in posts
            if post.channel == "webhook"
        ],
        times | {"email": [clock.at(mail.at) for mail in mails]},
    )


def _timeline(
    alertmanager: Alertmanager, changes: Sequence[Change], silences: Sequence[Silence], firing: set[str]
) -> list[tuple[int, Callable[[], None]]]:
    """Return what is to be done at each time, oldest first; it keeps account of what fires."""
    found: list[tuple[int, Callable[[], None]]] = []

    def hand_in(some: list[Change]) -> None:
        for one in some:
            (firing.add if one.begins else firing.discard)(json.dumps(one.labels, sort_keys=True))
        alertmanager.fire(*map(_alert, sorted(some, key=_of_host)))

    for at, some in itertools.groupby(changes, key=lambda one: one.at):
        found.append((at, partial(hand_in, list(some))))
    for silence in silences:
        known: list[str] = []

        def begin(silence: Silence = silence, known: list[str] = known) -> None:
            known.append(alertmanager.silence(silence.matching))

        found.append((silence.begin, begin))
        found.append((silence.end, lambda known=known: alertmanager.unsilence(known[0])))  # type: ignore[misc]
    return sorted(found, key=lambda one: one[0])


def _of_host(change: Change) -> bool:
    """Let the alerts of the fleet be handed in first: group_wait gives them a minute, which is a moment here, for hundreds of others to be read."""
    return "hostname" in change.labels


def _alert(change: Change) -> dict[str, Any]:
    ends = datetime.now(UTC) + (timedelta(hours=6) if change.begins else timedelta(0))
    name = change.labels["alertname"]
    where = change.labels.get("hostname") or change.labels.get("region")
    return {
        "labels": change.labels,
        "annotations": {
            "summary": f"{name} of {where}",
            "runbook_url": f"https://docs.example.com/{name}.md",
        },
        "endsAt": ends.isoformat(),
    }


def _loads(alertmanager: Alertmanager) -> int:
    return alertmanager.log.read_text().count(LOADED)


class _Clock:
    """The time of the play, which runs `by` times as fast as the machine's and can skip."""

    def __init__(self, by: int) -> None:
        self._by = by
        self._anchors = [(time.monotonic(), 0.0)]
        self.busy = 0
        """When something was done last."""

    def now(self) -> int:
        return self.at(time.monotonic())

    def at(self, real: float) -> int:
        """Return the time of the play at a time of `time.monotonic`."""
        begun, then = self._anchors[bisect.bisect_right(self._anchors, (real, float("inf"))) - 1]
        return int(then + (real - begun) * self._by)

    def skip(self, to: int) -> None:
        self._anchors.append((time.monotonic(), float(to)))
