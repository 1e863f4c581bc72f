"""The tables of docs/sender.md that say what happens to a batch: `python -m tools.states_table` renews them.

One is `agent.send.state.TABLE`; the other has all statuses, and is made by sending to receivers that answer so. A test
compares the page with both.
"""

from __future__ import annotations

import functools
from enum import StrEnum
from itertools import groupby
from pathlib import Path

from structlog.testing import capture_logs

from agent.http.answer import Answer
from agent.send.state import TABLE, State
from tests.support.scripted import DELIVERED, UNREAD, Rig, Script

PAGE = Path(__file__).parents[1] / "docs" / "sender.md"
BEGIN, END = "<!-- states: made by tools/states_table.py -->\n", "<!-- end of states -->\n"
BEGIN_STATUSES, END_STATUSES = (
    "<!-- statuses: made by tools/states_table.py -->\n",
    "<!-- end of statuses -->\n",
)
STATUSES = range(100, 600)


class Fate(StrEnum):
    """What becomes of a batch."""

    DELIVERED = "delivered"
    REFUSED = "refused for good: bisected"
    HALVED = "sent again in smaller requests"
    REPEATED = "waiting: sent again"
    HELD = "held"


@functools.cache
def fate(status: int, *, probe: bool) -> Fate:
    """Return what becomes of samples that are answered so.

    `probe`: the receiver takes an empty write and refuses what nobody can read; else it gives both the same answer.
    """
    answer = Answer(status, {}, b"because")
    script = Script(rest=answer)
    script.to_empty, script.to_unreadable = (DELIVERED, UNREAD) if probe else (answer, answer)
    with capture_logs():
        return _fate(Rig(script=script))


def _fate(rig: Rig) -> Fate:
    rig.collect(2)
    rig.step()
    if rig.ledger[0]:
        return Fate.DELIVERED
    if rig.lane.state is not State.IDLE:
        return Fate.HELD if rig.lane.state is State.HELD else Fate.REPEATED
    for _ in range(8):
        rig.step()
    return Fate.REFUSED if rig.ledger[1] else Fate.HALVED


def statuses() -> str:
    """Return the table of all statuses as Markdown."""
    fates = [(fate(status, probe=True), fate(status, probe=False), status) for status in STATUSES]
    rows = ""
    for (good, bad), group in groupby(fates, lambda one: one[:2]):
        found = [status for *_, status in group]
        shown = str(found[0]) if len(found) == 1 else f"{found[0]} to {found[-1]}"
        rows += f"| {shown} | {good.value} | {bad.value} |\n"
    return "| status | with a good probe | without |\n|---|---|---|\n" + rows


def table() -> str:
    """Return the table of states as Markdown."""
    rows = [
        f"| {row.sent.value} | {row.verdict.value} | {row.then.value} | {row.wait.value} | {row.samples} |\n"
        for row in TABLE
    ]
    head = "| answer to | outcome | next state | wait | the samples are |\n|---|---|---|---|---|\n"
    return head + "".join(rows)


def renewed(page: str) -> str:
    """Return a page with the tables between their markers."""
    for begin, made, end in ((BEGIN, table(), END), (BEGIN_STATUSES, statuses(), END_STATUSES)):
        before, _, rest = page.partition(begin)
        _, _, after = rest.partition(end)
        page = f"{before}{begin}{made}{end}{after}"
    return page


if __name__ == "__main__":
    PAGE.write_text(renewed(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
