"""In which order a backlog goes out: pure decisions, and the probe that `drain_order: auto` asks with.

    oldest_first   everything in the order of its time
    fresh_first    the newest tick goes out at once, then what is new as it comes, the backlog behind it
    auto           fresh_first, if the receiver takes samples as old as the backlog behind newer ones

Promises:
1. Out of order is only what `fresh_first` was asked for, or what the receiver has shown to take.
2. What is fresh never waits for the backlog, nor for the bandwidth that the backlog has used.
3. `auto` asks once for a backlog (more than a full batch): with a sample of PROBE for now, and one for the time of the
   oldest pending sample. A receiver that refuses the second has no such window, and the backlog goes oldest first.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from buffer.model import Instant, Series, Tick

PROBE = "limpet_out_of_order_probe"
_HELP = "Whether the receiver takes samples as old as this one behind newer ones; always 1."


class Work(Enum):
    """What a lane has to do."""

    NOTHING = "nothing"
    IN_ORDER = "in order"
    """The oldest pending samples, and there is no backlog besides."""
    FRESH = "fresh"
    """What came in since the last fresh request; the backlog is left where it is."""
    BACKLOG = "backlog"
    """The oldest pending samples, while fresh ones go ahead."""


def work(pending: int, fresh: int | None, limit: int, *, due: bool) -> Work:
    """What is to be sent next.

    `pending` are all samples that wait, `fresh` those of them that are not backlog (None: all go in order). A
    request is sent when there are `limit` of them, or when one is due; a backlog is always due.
    """
    if fresh is None:
        return Work.IN_ORDER if pending >= limit or (pending > 0 and due) else Work.NOTHING
    if fresh >= limit or (fresh > 0 and due):
        return Work.FRESH
    return Work.BACKLOG if pending > fresh else Work.NOTHING


def probe(labels: Mapping[str, str], wall_ms: int) -> list[Tick]:
    """One sample that shows whether the receiver takes that time, with the host's labels."""
    series = Series(PROBE, tuple(sorted(labels.items())), "gauge", "", _HELP)
    return [Tick(Instant(wall_ms, 0, ""), PROBE, (series,), (1.0,))]
