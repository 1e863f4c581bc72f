"""In which order a backlog goes out, and the probe with which `drain_order: auto` finds out.

    oldest_first   everything in the order of its time
    fresh_first    the newest tick goes out at once, then what is new as it comes, the backlog behind it
    auto           fresh_first, if the receiver takes samples as old as the backlog behind newer ones

Promises:
1. Out of order is only what `fresh_first` is set for, or what the receiver was seen to take.
2. What is fresh never waits for the backlog, nor for the bandwidth that the backlog has used.
3. Outside a `send_window` only what is fresh goes out, but for a request that was under way.
4. `auto` asks once for a backlog (more than a full request): with a sample of PROBE for now, and one for the time of the
   oldest pending sample. A receiver that refuses the second has no such window, and the backlog goes oldest first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from enum import Enum

from agent.destinations.base import Outcome, Verdict
from agent.send.course import Course
from buffer.model import Chunk, Instant, Series, Tick

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


def choose(pending: int, fresh: int | None, limit: int, *, due: bool) -> Work:
    """Return what to send next.

    `pending` are all samples that wait, `fresh` those of them that are not backlog (None: all go in order). A
    request is sent when there are `limit` of them, or when one is due; a backlog is always due.
    """
    if fresh is None:
        return Work.IN_ORDER if pending >= limit or (pending > 0 and due) else Work.NOTHING
    if fresh >= limit or (fresh > 0 and due):
        return Work.FRESH
    return Work.BACKLOG if pending > fresh else Work.NOTHING


class Order:
    """The order of one destination. `labels` are the host's, for the probe; `is_open` says whether a backlog may go out now."""

    def __init__(
        self, drain_order: str, labels: Mapping[str, str], is_open: Callable[[], bool] = lambda: True
    ) -> None:
        self._is_open, self._is_auto, self._labels = is_open, drain_order == "auto", labels
        self._fresh_first: bool | None = None if self._is_auto else drain_order == "fresh_first"

    def work(self, course: Course, limit: int, *, due: bool) -> Work:
        """Return what to send next, and let the cursor go ahead of a backlog where fresh samples go first."""
        if self._fresh_first and course.pending_ahead() > limit:
            course.go_ahead(1)
        fresh = course.pending_ahead() if course.ahead is not None else None
        work = choose(course.pending(), fresh, limit, due=due)
        return work if work is not Work.BACKLOG or self._is_open() else Work.NOTHING

    def is_unknown(self, pending: int, limit: int, *, away: bool) -> bool:
        """Return whether there is a backlog, and the receiver, if it is not away, has to be probed for its order."""
        if not self._is_auto:
            return False
        if pending <= limit:
            self._fresh_first = None  # the next backlog has a probe of its own
        return self._fresh_first is None and not away and pending > limit

    def probes(self, oldest: Chunk, wall_ms: int) -> Iterator[list[Tick]]:
        """Yield a sample for now, and one for the time of the oldest pending tick; nothing where there is none."""
        for tick in oldest.ticks[:1]:
            yield self._probe(wall_ms)
            yield self._probe(tick.at.wall_ms)

    def learn(self, outcome: Outcome | None) -> None:
        """Take the answer to the last probe; None: there was nothing to ask with."""
        self._fresh_first = outcome is not None and outcome.verdict is Verdict.DELIVERED

    def _probe(self, wall_ms: int) -> list[Tick]:
        series = Series(PROBE, tuple(sorted(self._labels.items())), "gauge", "", _HELP)
        return [Tick(Instant(wall_ms, 0, ""), PROBE, (series,), (1.0,))]
