"""When segments were written whose clock nobody believed: their shifts, as arithmetic.

A boot has one monotonic clock.  When its wall clock is known to be right, the difference of the two (the *base*) says at
what time everything of that boot happened.  Promises:

1. What was written in a boot whose clock was right at some time is true to STEP_MS, and never in the future of its writing.
2. A boot that ended before its clock was right lies between what was written before it and the next boot that is known.
   The time that is left over is divided evenly before, between and after such boots: so no other place has a smaller
   greatest error.  Where nothing was written before, it ended LEAD_MS before the next one began.
3. The order of records is kept, and no two get one time, as long as what is known of the boots allows it.
4. Shifts are whole STEP_MS, so a tick keeps its place within the host's grid of that step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import NamedTuple

from buffer.segment import Note

STEP_MS = 1000
LEAD_MS = 60_000
"""So much before its boot the first tick of a boot may be stamped, as it has the newest time of the grid."""


class Unplaced(NamedTuple):
    """A provisional segment: its positions, its boot, the base of its clock, its first and last time by that clock.

    `kept_ms` is the time of the newest record before it whose clock was believed; 0: there is none.  `size` is where its
    records end in the file.
    """

    first: int
    end: int
    boot_id: str
    base_ms: int
    first_ms: int
    last_ms: int
    kept_ms: int
    size: int
    good_ms: int | None = None
    """The base of this boot's clock when it was believed."""
    refuted: bool = False
    """Whether that has turned out to be wrong."""

    @property
    def up_ms(self) -> int:
        """How long after the boot it ends."""
        return self.last_ms - self.base_ms

    @property
    def lead_ms(self) -> int:
        """How long before the boot it begins by its first time; 0: it does not.

        Where more of its boot is before it, what was refuted, it is how long before the boot it could begin at most: less than 0.
        """
        lead_ms = self.base_ms - self.first_ms
        return lead_ms if self.refuted else max(0, lead_ms)


def notes(unplaced: Sequence[Unplaced], known: Mapping[str, int]) -> list[tuple[Unplaced, Note]]:
    """Return the notes for all segments, in their order, but for those behind which no boot is `known` with its base in ms."""
    boots = [(boot_id, list(each)) for boot_id, each in groupby(unplaced, key=lambda one: one.boot_id)]
    found: list[tuple[Unplaced, Note]] = []
    lost: list[list[Unplaced]] = []
    after_ms = unplaced[0].kept_ms if unplaced else 0
    for boot_id, segments in boots:
        base_ms = known.get(boot_id)
        if base_ms is None:
            lost.append(segments)
            continue
        found += _between(lost, after_ms, base_ms - segments[0].lead_ms - 1)
        found += [(one, Note(_whole(base_ms - one.base_ms), base_ms)) for one in segments]
        lost, after_ms = [], base_ms + segments[-1].up_ms
    following = [base_ms for boot_id, base_ms in known.items() if boot_id not in dict(boots)]
    if lost and following:
        before_ms = min((base for base in following if base > after_ms), default=max(following))
        found += _between(lost, after_ms, before_ms, LEAD_MS)
    return _in_order(found)


def _between(
    boots: Sequence[Sequence[Unplaced]], after_ms: int, before_ms: int, lead_ms: int = 0
) -> list[tuple[Unplaced, Note]]:
    """Return the notes of boots between the last record before them and the boot behind them, which may have a lead."""
    if not boots:
        return []
    left_ms = before_ms - after_ms - sum(boot[0].lead_ms + boot[-1].up_ms for boot in boots)
    least_ms = (len(boots) + 1) * STEP_MS  # as shifts are whole, so that no two ticks meet
    lead_ms = min(lead_ms, max(0, left_ms - least_ms))
    gap_ms = max(0, left_ms - lead_ms) // (len(boots) + 1) if after_ms else LEAD_MS
    found: list[tuple[Unplaced, Note]] = []
    end_ms = before_ms - lead_ms
    for boot in reversed(boots):
        base_ms = end_ms - gap_ms - boot[-1].up_ms
        found = [(one, Note(_whole(base_ms - one.base_ms), base_ms, True)) for one in boot] + found
        end_ms = base_ms - boot[0].lead_ms
    return found


def _in_order(found: list[tuple[Unplaced, Note]]) -> list[tuple[Unplaced, Note]]:
    """Return the notes with those moved that begin no later than what is before them ends."""
    ordered: list[tuple[Unplaced, Note]] = []
    for one, note in found:
        if ordered and one.boot_id == ordered[-1][0].boot_id:
            before, its = ordered[-1]
            behind = before.last_ms + its.shift_ms - one.first_ms - note.shift_ms
            if behind >= 0:
                note = note._replace(shift_ms=note.shift_ms + _whole(behind) + STEP_MS)
        ordered.append((one, note))
    return ordered


def _whole(ms: int) -> int:
    return ms // STEP_MS * STEP_MS
