"""A month of a fleet of 200 hosts (`tests.support.month`): every message that people get, with what it was about.

    python -m tests.bench.month        all of it: half an hour on two cores

The rules are evaluated by promtool and the messages sent by Alertmanager, both real, with the configurations that ship. What is coarser
than in real life is said by `tests.support.played` and `tests.support.delivered`. Time runs 1,200 times as fast for Alertmanager, and is
skipped while nothing fires.

Exit status: 0 where there are at most 30 messages, none is false, and each event is there in its time; 1 otherwise.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from tests.support import month
from tests.support.alertmanager import ready
from tests.support.certs import make_certs
from tests.support.delivered import DAY, Message, Told, deliver, is_night
from tests.support.month import DAYS, EVENTS, LEARNED
from tests.support.played import Change, play
from tools.servers import ensure

MOST = 30
FASTER = 1200
PIECES = 2
"""The days are played in pieces, which need less memory, each after three days in which the rules learn."""


def changes(promtool: Path, folder: Path) -> Iterator[Change]:
    """Play the days of the month; return what alerts begin and end, in seconds since the start of the days that are learned."""
    size = -(-(DAYS - LEARNED) // PIECES)
    for first in range(LEARNED, DAYS, size):
        begin, end = (first - LEARNED) * DAY, min(first + size, DAYS) * DAY
        yield from pieces(
            play(promtool, folder / f"days-{first}", month.fleet(begin, end)), begin, first * DAY
        )


def pieces(found: Iterable[Change], begin: int, counted: int) -> Iterator[Change]:
    """Return changes that are counted from another beginning, those in the days that are learned left out.

    Raises AssertionError where an alert fires at the end of the days that are learned: the piece before does not know it.
    """
    firing = set[str]()
    for one in found:
        at = begin + one.at
        if at >= counted:
            yield one._replace(at=at)
        else:
            (firing.add if one.begins else firing.discard)(str(sorted(one.labels.items())))
    assert not firing, firing


def table(told: Told) -> str:
    """Return all messages as a table: the day of the month and the time, the receiver, its alerts, and what happened."""
    lines = ["| day | time | receiver | message | of |", "|---|---|---|---|---|"]
    for one in told.messages:
        day, second = divmod(one.at, DAY)
        about = next((event.name for event in EVENTS if month.explained(one, event)), "**false**")
        when = f"{second // 3600:02}:{second % 3600 // 60:02}"
        lines.append(f"| {day - LEARNED + 1} | {when} | {one.receiver} | {said(one)} | {about} |")
    return "\n".join(lines)


def said(message: Message) -> str:
    """Return the alerts of a message in few words."""
    groups: dict[tuple[str, ...], int] = {}
    for one in message.alerts:
        labels, is_over = one["labels"], one["status"] == "resolved"
        what = " of ".join(filter(None, (labels["alertname"], labels.get("of"))))
        where = labels.get("hostname") or labels.get("region", "")
        key = ("over: " if is_over else "", labels["severity"], what, where)
        groups[key] = groups.get(key, 0) + 1
    return ", ".join(f"{over}{level} {what} ({where})" for over, level, what, where in groups)


def tell(folder: Path, found: Sequence[Change]) -> Told:
    """Hand the changes of the month to an Alertmanager; return what it sent."""
    below = folder / "alertmanager"
    below.mkdir()
    program = ready(ensure("alertmanager").path, below)
    certs = make_certs(folder)
    return deliver(program, below, certs, found, FASTER, night=is_night, silences=month.SILENCES)


def main() -> int:
    """Play the month; return the exit status."""
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="limpet-month-") as name:
        folder = Path(name)
        found = list(changes(ensure("promtool").path, folder))
        evaluated = time.monotonic() - begun
        told = tell(folder, found)
    false, late = month.judged(told)
    print(table(told))
    print(f"\n{len(told.messages)} messages, {len(false)} false; not in time: {[one.name for one in late]}")
    print({channel: len(times) for channel, times in told.channels.items()})
    print(f"{len(found)} changes of alerts in {evaluated:.0f} s, {time.monotonic() - begun:.0f} s in all")
    return 0 if len(told.messages) <= MOST and not false and not late else 1


if __name__ == "__main__":
    sys.exit(main())
