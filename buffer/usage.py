"""What a destination has cost on the wire, by day and month (UTC), what may be spent, and what it will come to.

at < the end of the period:   bytes of the period are kept        at >= it:   they begin at 0
"""

from __future__ import annotations

import json
import time
from calendar import monthrange
from contextlib import suppress
from typing import NamedTuple

from buffer.fs import Fs, read_all, write_atomic

FOLDER, VERSION = "usage", 1
_MAX_FILE, _LARGEST = 4096, 1 << 48
"""No time in ms and no bytes of a month are more than that: it is the year 10889."""
DAY_MS = 86_400_000
_SURE_MS = 3_600_000
"""Shorter than that says nothing about a period."""


class Usage(NamedTuple):
    """Bytes up to the time `at_ms`; times are UTC in ms. A budget of 0 is none."""

    at_ms: int = 0
    since_ms: int = 0
    """When counting began."""
    day_bytes: int = 0
    month_bytes: int = 0
    day_budget: int = 0
    month_budget: int = 0

    def at(self, now_ms: int) -> Usage:
        """Return it at another time. A time that is earlier begins no period."""
        day = self.day_bytes if now_ms < _day(self.at_ms)[1] else 0
        month = self.month_bytes if now_ms < _month(self.at_ms)[1] else 0
        return self._replace(at_ms=now_ms, day_bytes=day, month_bytes=month)

    def plus(self, count: int) -> Usage:
        """Return it with so many bytes more."""
        return self._replace(day_bytes=self.day_bytes + count, month_bytes=self.month_bytes + count)

    @property
    def share(self) -> float:
        """The share of the budget that is used, of the one of which more is used; 0 without any."""
        return max(used / budget if budget else 0.0 for used, budget, _ in self.periods())

    def room(self, share: float) -> int:
        """Return the bytes until so much of a budget is used, of the one of which less is left; there is one."""
        return min(round(budget * share) - used for used, budget, _ in self.periods() if budget)

    def left_ms(self, share: float) -> int:
        """Return how long until a budget begins again of which so much is used; 0 where none is."""
        ends = [end for used, budget, (_, end) in self.periods() if budget and used >= budget * share]
        return max(0, max(ends, default=0) - self.at_ms)

    def periods(self) -> tuple[tuple[int, int, tuple[int, int]], ...]:
        """Return bytes, budget and span of the day and of the month."""
        day = self.day_bytes, self.day_budget, _day(self.at_ms)
        return day, (self.month_bytes, self.month_budget, _month(self.at_ms))


class Link(NamedTuple):
    """What a person may want to know of it: bytes so far, what may be spent (None: no limit), and what it comes to at this pace."""

    day_bytes: int
    month_bytes: int
    day_budget_bytes: int | None
    month_budget_bytes: int | None
    day_forecast_bytes: int | None
    month_forecast_bytes: int | None


def link(used: Usage | None, now_ms: int) -> Link | None:
    """Return what is known at this time; None: nothing was counted yet."""
    if used is None:
        return None
    used = used.at(max(now_ms, used.at_ms))
    forecasts = [_forecast(used, count, *span) for count, _, span in used.periods()]
    return Link(
        used.day_bytes, used.month_bytes, used.day_budget or None, used.month_budget or None, *forecasts
    )


def _forecast(used: Usage, count: int, begin: int, end: int) -> int | None:
    begun = max(begin, used.since_ms)
    if used.at_ms - begun < _SURE_MS:
        return None
    return round(count + count / (used.at_ms - begun) * (end - used.at_ms))


def _day(at_ms: int) -> tuple[int, int]:
    begin = at_ms // DAY_MS * DAY_MS
    return begin, begin + DAY_MS


def _month(at_ms: int) -> tuple[int, int]:
    now = time.gmtime(at_ms // 1000)
    begin = _day(at_ms)[0] - (now.tm_mday - 1) * DAY_MS
    return begin, begin + monthrange(now.tm_year, now.tm_mon)[1] * DAY_MS


class UsageNote:
    """The file that has the usage of one destination: usage/<name>.json, which is replaced as a whole.

    One that is missing, damaged or not understood has none: then counting begins again.
    """

    def __init__(self, fs: Fs, data_dir: str, name: str) -> None:
        self._fs, self._folder, self._path = fs, f"{data_dir}/{FOLDER}", f"{data_dir}/{FOLDER}/{name}.json"

    def load(self) -> Usage | None:
        """Return what was written last."""
        try:
            fields = json.loads(read_all(self._fs, self._path, _MAX_FILE))
            if fields.pop("version") != VERSION:
                return None
            found = Usage(**fields)
        except (OSError, ValueError, TypeError, AttributeError, LookupError, RecursionError):
            return None
        return found if all(type(one) is int and 0 <= one <= _LARGEST for one in found) else None

    def save(self, used: Usage) -> None:
        """Write it, and make it durable.  Raises OSError."""
        self._fs.make_folder(self._folder)
        write_atomic(self._fs, self._path, json.dumps({"version": VERSION, **used._asdict()}).encode())
        self._fs.sync_folder(self._folder)

    def remove(self) -> None:
        """Remove the file.  Raises OSError."""
        with suppress(FileNotFoundError):
            self._fs.unlink(self._path)
