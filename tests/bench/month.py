"""A month of a fleet of 200 hosts (`tests.support.month`): every message that people get, with what it was about.

    python -m tests.bench.month            all of it: half an hour on two cores
    python -m tests.bench.month FOLDER     keep what promtool found in a folder, or take it from there if it is there

The rules are evaluated by promtool and the messages sent by Alertmanager, both real, with the configurations that ship. What is coarser
than in real life is said by `tests.support.played` and `tests.support.delivered`. Time runs 1,200 times as fast for Alertmanager, and is
skipped while nothing fires.

Exit status: 0 where there are at most 30 messages to people, none is false, and each event is there in its time; 1 otherwise.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from tests.support import month, troubles
from tests.support.alertmanager import ready
from tests.support.certs import make_certs
from tests.support.delivered import DAY, Message, Told, deliver, is_night
from tests.support.month import DAYS
from tests.support.played import Change, play, trends
from tests.support.troubles import EVENTS, LEARNED
from tools.servers import ensure

MOST = 30
FASTER = 1200
PIECES = 2
"""The days are played in pieces, which need less memory, each after three days in which the rules learn."""


def changes(promtool: Path, folder: Path) -> list[Change]:
    """Play the month; return what alerts begin and end, oldest first, in seconds since the start of the days that are learned.

    What each piece has found is kept in the folder, and taken from there where it is.
    """
    lives = month.fleet()
    found = [
        one
        for one in kept(folder / "trends.json", lambda: trends(promtool, folder / "trends", lives))
        if one.at >= LEARNED * DAY
    ]
    size = -(-(DAYS - LEARNED) // PIECES)
    for first in range(LEARNED, DAYS, size):
        begin, end = (first - LEARNED) * DAY, min(first + size, DAYS) * DAY
        below = folder / f"days-{first}"
        some = [(month.cut(life, begin, end), hosts) for life, hosts in lives]
        piece = kept(below.with_suffix(".json"), lambda: play(promtool, below, some))  # noqa: B023
        found += pieces(piece, begin, first * DAY)
    return sorted(found, key=lambda one: one.at)


def kept(path: Path, make: Callable[[], list[Change]]) -> list[Change]:
    """Return what a file has, or else what is made, which is written to it."""
    if not path.exists():
        path.write_text(json.dumps(make()))
    return [Change(*one) for one in json.loads(path.read_text())]


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


def infos(told: Told) -> dict[str, int]:
    """Return how many messages of level info there were about each alert."""
    of = (one.alerts[0]["labels"]["alertname"] for one in told.messages if one.receiver == "info")
    return dict(Counter(of))


def table(messages: Iterable[Message]) -> str:
    """Return messages as a table: the day of the month and the time, the receiver, its alerts, and what happened."""
    lines = ["| day | time | receiver | message | of |", "|---|---|---|---|---|"]
    for one in messages:
        day, second = divmod(one.at, DAY)
        about = next((event.name for event in EVENTS if troubles.explained(one, event)), "**false**")
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
    return deliver(program, below, certs, found, FASTER, night=is_night, silences=troubles.SILENCES)


def main() -> int:
    """Play the month; return the exit status."""
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="limpet-month-") as name:
        folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        found = changes(ensure("promtool").path, folder)
        evaluated = time.monotonic() - begun
        told = tell(Path(name), found)
    people, (false, late) = troubles.to_people(told), troubles.judged(told)
    print(table(people))
    print(f"\n{len(people)} messages, {len(false)} false; not in time: {[one.name for one in late]}")
    print(f"{len(told.messages) - len(people)} messages of level info, to the webhook alone: {infos(told)}")
    print({channel: len(times) for channel, times in told.channels.items()})
    print(f"{len(found)} changes of alerts in {evaluated:.0f} s, {time.monotonic() - begun:.0f} s in all")
    return 0 if len(people) <= MOST and not false and not late else 1


if __name__ == "__main__":
    sys.exit(main())
