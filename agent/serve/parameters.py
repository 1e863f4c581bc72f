"""The values of parameters, as Prometheus reads them. Source: web/api/v1/api.go of Prometheus 3.5, `parseTime`,
`parseDuration`, `parseMatchersParam` and `parseLimitParam`.
"""

from __future__ import annotations

import math
import re
from datetime import datetime

from agent.ops.selector import Matcher
from agent.ops.selector import parse as parse_selector
from agent.query import tokens
from agent.query.tree import Matchers
from agent.serve.message import Parameters, bad_data
from buffer.errors import LimpetError

FIRST_MS, LAST_MS = -(1 << 53), 1 << 53
"""The beginning and the end of time."""
LONGEST = 9.2e9
"""Seconds that no duration reaches: Prometheus has 292 years."""
MOST = 10**18 - 1
"""The largest limit."""
_RFC3339 = re.compile(
    r"(\d{4}-\d{2}-\d{2})[Tt](\d{2}:\d{2}:\d{2})(?:\.(\d{1,9}))?([Zz]|[+-]\d{2}:\d{2})", re.ASCII
)
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)


def time_ms(found: Parameters, name: str, default_ms: int | None = None) -> int:
    """Return a time in UTC milliseconds: Unix seconds or RFC 3339. Raises Refusal, also where it is missing without a default."""
    text = found.get(name)
    if not text and default_ms is not None:
        return default_ms
    if _NUMBER.fullmatch(text):
        ms = float(text) * 1000
        if abs(ms) <= LAST_MS:
            return round(ms)
    elif (parts := _RFC3339.fullmatch(text)) is not None:
        date, day_time, fraction, zone = parts.groups()
        try:
            at = datetime.fromisoformat(f"{date}T{day_time}{'+00:00' if zone in 'Zz' else zone}")
            return int(at.timestamp()) * 1000 + int(f"{fraction or '0':0<3}"[:3])
        except (ValueError, OverflowError):
            pass
    raise bad_data(f'invalid parameter "{name}": cannot parse {quoted(text)} to a valid timestamp')


def duration(found: Parameters, name: str) -> float:
    """Return a length of time in seconds: a number, or a duration such as 5m. Raises Refusal."""
    text = found.get(name)
    if _NUMBER.fullmatch(text):
        seconds = float(text)
        if abs(seconds) < LONGEST:
            return seconds
    else:
        try:
            return tokens.duration(text) / 1000
        except (ValueError, OverflowError):
            pass
    raise bad_data(f'invalid parameter "{name}": cannot parse {quoted(text)} to a valid duration')


def limit(found: Parameters, name: str = "limit") -> int:
    """Return how many entries are wanted at most; 0: all. Raises Refusal."""
    text = found.get(name)
    if not text:
        return 0
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(MOST))):
        raise bad_data(f'invalid parameter "{name}": limit must be non-negative')
    return int(text)


def selectors(found: Parameters) -> list[Matchers]:
    """Return the selectors of all `match[]`. Raises Refusal."""
    out: list[Matchers] = []
    for text in found.all("match[]"):
        try:
            selector = parse_selector(text)
            _not_everything(selector.matchers)
            out.append(selector.matchers)
        except LimpetError as error:
            raise bad_data(f'invalid parameter "match[]": {error.what}') from None
    return out


def _not_everything(matchers: tuple[Matcher, ...]) -> None:
    if all(one.test()("") for one in matchers):
        raise bad_data('invalid parameter "match[]": match[] must contain at least one non-empty matcher')


def span(found: Parameters) -> tuple[int, int]:
    """Return the times from `start` to `end`, all time where they are missing. Raises Refusal."""
    return time_ms(found, "start", FIRST_MS), time_ms(found, "end", LAST_MS)


def seconds(found: Parameters, name: str) -> float:
    """Return a length of time that bounds something; infinity where it is missing. Raises Refusal."""
    if not found.get(name):
        return math.inf
    bound = duration(found, name)
    if bound <= 0:
        raise bad_data(f'invalid parameter "{name}": a length of time must be greater than 0')
    return bound


def quoted(text: str) -> str:
    """Return a text in quotes, cut where it is long."""
    short = text if len(text) <= 100 else f"{text[:100]}..."
    return '"' + short.replace("\\", "\\\\").replace('"', '\\"') + '"'
