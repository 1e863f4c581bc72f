"""The arithmetic of differences: pure, and never negative, infinite or made up.

Every value is rounded to the digits that carry information, as a float `v` for which
`round(v * 10**digits) / 10**digits == v` holds up to 1e11: the buffer stores such values as small integers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def deltas(before: Sequence[int], now: Sequence[int]) -> list[int] | None:
    """By how much each counter of a device grew.

    None if any of them went backwards: after a wrap or a re-plug the others cannot be trusted either.
    """
    grown = [b - a for a, b in zip(before, now, strict=True)]
    return None if min(grown, default=0) < 0 else grown


def rate(grown: float, seconds: float, digits: int) -> float:
    """Per second over an interval of `seconds` > 0."""
    return round(grown / seconds, digits)


def mean(total: float, count: int) -> float:
    """Per completed piece, 2 digits; 0 when none completed."""
    return round(total / count, 2) if count else 0.0


def percent(part: float, whole: float) -> float:
    """100 x part / whole, 2 digits, for 0 <= part and 0 < whole; not above 100.

    Counters are read one after the other, so a part can seem to be larger than the whole by a tick or two.
    """
    return min(100.0, round(100.0 * part / whole, 2))


class Growth:
    """By how much the counters of each device grew since the run before, which it remembers."""

    def __init__(self) -> None:
        self._before: Mapping[bytes, Sequence[int]] = {}
        self._at = 0.0

    def step(
        self, now: float, counters: Mapping[bytes, Sequence[int]]
    ) -> tuple[float, dict[bytes, list[int]]]:
        """The seconds since the run before, and the growth by device.

        A device is left out if the run before did not have it or one of its counters went backwards; all are
        left out if no time passed. So seconds > 0 wherever there is a growth.
        """
        before, seconds = self._before, now - self._at
        self._before, self._at = counters, now
        if seconds <= 0:
            return seconds, {}
        grown = {name: deltas(before[name], values) for name, values in counters.items() if name in before}
        return seconds, {name: delta for name, delta in grown.items() if delta is not None}
