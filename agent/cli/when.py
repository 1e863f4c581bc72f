"""Points in time as people type them: `--since` and `--until`."""

from __future__ import annotations

import re
from datetime import datetime

from agent.config.units import parse_duration
from buffer.errors import LimpetError

FORMS = "a time such as 2026-05-01T12:30 or 2026-05-01 (local, unless it ends in Z or +02:00), 6h or 7d (ago), now"


def parse_time(option: str, text: str, now: float) -> int:
    """UTC milliseconds of a time, at Unix time `now` in seconds. Raises LimpetError that names the option.

    A duration is that long ago; ten digits and more are Unix seconds, with decimals or without.
    """
    if text == "now":
        return round(now * 1000)
    try:
        if re.fullmatch(r"[0-9]{9,11}(\.[0-9]{1,9})?", text):
            return round(float(text) * 1000)
        if re.fullmatch(r"([0-9]+[a-z]+)+", text):
            return round((now - parse_duration(text)) * 1000)
        return round(datetime.fromisoformat(text).astimezone().timestamp() * 1000)
    except (ValueError, OverflowError, OSError):
        raise LimpetError(option, f"{text!r} is not a time", f"Give {FORMS}.") from None
