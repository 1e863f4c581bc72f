"""What a query may cost at most. It is stopped where it exceeds a limit, or where its time is over."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from agent.query.tree import QueryError

_CHECKED_EVERY = 20_000
_SHORTER = "Make shorter labels, or of fewer series."
_LESS = "Ask for a shorter time, a longer step, or fewer series."


class Limits(NamedTuple):
    """The limits of a query.

    Attributes:
        read: samples that selectors read into memory, at 16 bytes each.
        samples: samples that are touched; one that is in several windows counts in each.
        series: series that all selectors together find.
        points: steps of a query, and of each subquery in it.
        seconds: time of the clock.
        values: values that selectors and functions of ranges have at all steps together, at 32 bytes each.
        text: characters of the labels that `label_replace` and `label_join` make.
    """

    read: int = 5_000_000
    samples: int = 50_000_000
    series: int = 20_000
    points: int = 11_000
    seconds: float = 60.0
    values: int = 5_000_000
    text: int = 20_000_000


class Budget:
    """What a query has left. `clock` returns seconds; `spend` is called before the work is done."""

    def __init__(self, limits: Limits, clock: Callable[[], float]) -> None:
        self.limits, self._clock = limits, clock
        self._end = clock() + limits.seconds
        self.samples = 0
        """Samples touched so far."""
        self._read = self._values = self._text = 0
        self._check_at = 0

    def spend(self, samples: int) -> None:
        """Count samples that are about to be touched. Raises QueryError."""
        self.samples += samples
        if self.samples >= self._check_at:
            self._check()

    def read(self, samples: int) -> None:
        """Count samples that were read into memory, and look at the clock. Raises QueryError."""
        self._read += samples
        if self._read > self.limits.read:
            raise _stopped(f"it reads more than {self.limits.read:,} samples into memory")
        self.check_time()

    def values(self, count: int) -> None:
        """Count values that are about to be made. Raises QueryError."""
        self._values += count
        if self._values > self.limits.values:
            raise _stopped(f"its series have more than {self.limits.values:,} values at all steps together")

    def text(self, characters: int) -> None:
        """Count the characters of a label that is about to be made. Raises QueryError."""
        self._text += characters
        if self._text > self.limits.text:
            raise Stopped(
                "expression", f"it makes labels of more than {self.limits.text:,} characters", _SHORTER
            )
        self.check_time()

    def _check(self) -> None:
        self._check_at = self.samples + _CHECKED_EVERY
        if self.samples > self.limits.samples:
            raise _stopped(f"it touches more than {self.limits.samples:,} samples")
        self.check_time()

    def check_time(self) -> None:
        """Look at the clock. Raises QueryError."""
        if self._clock() > self._end:
            raise _stopped(f"it takes longer than {self.limits.seconds:g} s")

    def points(self, count: int) -> None:
        """Check the number of steps. Raises QueryError."""
        if count > self.limits.points:
            raise _stopped(f"it has {count:,} steps, and {self.limits.points:,} are allowed")
        self.spend(count)

    def series(self, count: int) -> None:
        """Check the number of series. Raises QueryError."""
        if count > self.limits.series:
            raise _stopped(f"it selects {count:,} series, and {self.limits.series:,} are allowed")


class Stopped(QueryError):
    """The query exceeds a limit."""


def _stopped(what: str) -> Stopped:
    return Stopped("expression", what, _LESS)
