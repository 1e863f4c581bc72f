"""What a receiver shows about itself: its clock, and how old samples may be. Pure functions."""

from __future__ import annotations

import re
from urllib.parse import urlsplit, urlunsplit

import msgspec

from agent.config.units import format_duration, parse_duration
from agent.destinations import clocks
from agent.http.answer import date as http_date
from agent.ops.doctor.step import Finding, fine, unknown, warning, wrong
from agent.text import human

CLOCK_WARNING, CLOCK_WRONG = 5.0, clocks.WRONG
"""Seconds that two clocks may differ."""

WRITE, CONFIG = "/api/v1/write", "/api/v1/status/config"
LARGEST_CONFIG = 8 << 20
_KEY = "out_of_order_time_window"
_ADVICE = f"For Prometheus, set storage.tsdb.{_KEY} to the longest outage you expect, such as 30d."


def difference(date: str, begun: float, ended: float) -> float | None:
    """Return the least seconds by which the receiver's clock is ahead (+) of ours; None where `date` is no date.

    The answer came between `begun` and `ended` (our Unix seconds); a Date has whole seconds (RFC 9110, 6.6.1).
    """
    time = http_date(date)
    return None if time is None else 0.0 - clocks.skew(time, begun, ended)


def agree(date: str | None, begun: float, ended: float) -> Finding:
    """Compare the Date of an answer with our clock."""
    off = None if date is None else difference(date, begun, ended)
    if off is None:
        return unknown("the answer has no usable Date")
    if abs(off) < 1:
        return fine("the receiver's clock and ours agree to a second")
    way = "ahead of" if off > 0 else "behind"
    span = f"{abs(off):.0f} s" if abs(off) < 100 else human.duration(abs(off))
    said = f"the receiver's clock is {span} {way} ours"
    if abs(off) <= CLOCK_WARNING:
        return fine(said)
    said += f": here it is {human.moment(ended * 1000)}, there {human.moment((ended + off) * 1000)}"
    do = "Set the clock that is wrong: timedatectl set-ntp true; chronyc tracking. Samples carry this host's time."
    return (warning if abs(off) <= CLOCK_WRONG else wrong)(said, do)


def config_url(url: str) -> str | None:
    """Return where a Prometheus that takes writes at `url` shows its configuration; None for another path."""
    parts = urlsplit(url)
    if not parts.path.endswith(WRITE):
        return None
    return urlunsplit(parts._replace(path=parts.path.removesuffix(WRITE) + CONFIG))


def window(answer: bytes) -> Finding:
    """Return how old samples may be, by the answer of `config_url`; b"" where there was none."""
    try:
        found = msgspec.json.decode(answer)
        text = found["data"]["yaml"]
        seconds = _window(text)
    except (ValueError, KeyError, TypeError, msgspec.DecodeError):
        said = "unknown from outside: the receiver does not show a Prometheus's configuration"
        return unknown(said, _ADVICE)
    if not seconds:
        said = f"{_KEY} is not set: after an outage of an hour or more, the backlog is refused"
        return warning(said, _ADVICE)
    return fine(f"{_KEY} is {format_duration(seconds)}: a backlog of that age is taken")


def _window(config: str) -> float:
    """Return the seconds, 0 where it is not set. The text is as Prometheus writes it, which is plain block style."""
    storage = re.search(r"(?m)^storage:\n((?:[ ].*+\n?)*)", config)
    key = storage and re.search(rf"(?m)^ +{_KEY}: (\S+)$", storage[1])
    return parse_duration(key[1]) if key else 0.0
