"""Numbers, times and names as people read them. Pure functions from values to text."""

from __future__ import annotations

import math
import time

from buffer.model import is_stale

SIZES = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
UNITS = {"percent": " %", "seconds": " s", "ms": " ms", "": ""}
DAY, HOUR, MINUTE = 86400, 3600, 60
EXACT_BELOW = 1_000_000


def size(count: float) -> str:
    """Return bytes with a binary unit: 512 B, 1.5 KiB, 256 MiB."""
    power = 0
    while abs(count) >= 1023.95 and power < len(SIZES) - 1:
        count, power = count / 1024, power + 1
    return f"{count:.1f}".removesuffix(".0") + f" {SIZES[power]}" if power else f"{count:.0f} B"


def spent(
    day: int,
    month: int,
    of_day: int | None,
    of_month: int | None,
    day_forecast: int | None,
    month_forecast: int | None,
) -> str:
    """Return what was spent in this day and month, of which budgets, and what it comes to."""
    periods = ("day", day, of_day, day_forecast), ("month", month, of_month, month_forecast)
    return ", ".join(
        f"{size(used)} this {name}"
        + (f" of {size(limit)}" if limit else "")
        + (f" (comes to {size(forecast)})" if forecast is not None else "")
        for name, used, limit, forecast in periods
    )


def count(number: int) -> str:
    """Return a number of things: exact below a million (12,345), else with three digits and more (1.23 M)."""
    if number < EXACT_BELOW:
        return f"{number:,}"
    return f"{number / 1e9:,.2f} G" if number >= 1e9 else f"{number / 1e6:.2f} M"


def plural(number: int, thing: str, things: str = "") -> str:
    """Return a number of things with its noun: 1 segment, 2 segments."""
    return f"{count(number)} {thing if number == 1 else things or thing + 's'}"


def duration(seconds: float) -> str:
    """Return a length of time in its two largest units: 0.4 s, 12 s, 2 min 5 s, 3 h 4 min, 5 d 3 h."""
    if not 0 <= seconds < math.inf:
        return "?"
    if seconds < 9.95:
        return f"{seconds:.1f} s".replace(".0 ", " ")
    whole = round(seconds)
    for large, small, names in ((DAY, HOUR, "d h"), (HOUR, MINUTE, "h min"), (MINUTE, 1, "min s")):
        if whole >= large:
            first, rest = divmod(whole, large)
            first_name, rest_name = names.split()
            return f"{first:,} {first_name}" + (f" {rest // small} {rest_name}" if rest // small else "")
    return f"{whole} s"


def moment(milliseconds: float) -> str:
    """Return a UTC time in ms as local time, to the second; as the number where no calendar reaches it."""
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(milliseconds / 1000))
    except (ValueError, OverflowError, OSError):
        return f"{milliseconds:.0f} ms"


def span(oldest_ms: int | None, newest_ms: int | None) -> str:
    """Return two moments as text, empty where one is missing."""
    return "" if oldest_ms is None or newest_ms is None else f"{moment(oldest_ms)} to {moment(newest_ms)}"


def number(value: float) -> str:
    """Return a value without its unit: whole numbers with separators, others with up to 2 decimals."""
    if math.isnan(value):
        return "ended" if is_stale(value) else "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    if abs(value) >= 1e15 or 0 < abs(value) < 0.005:
        return f"{value:.3g}"
    return f"{value + 0.0:,.2f}".rstrip("0").rstrip(".")


def quantity(name: str, value: float, unit: str) -> str:
    """Return a sample's value with its unit. A `_time_seconds` is a point in time, as Prometheus names them."""
    if not math.isfinite(value):
        return number(value)
    if name.endswith("_time_seconds"):
        return moment(value * 1000)
    if unit == "bytes":
        return size(value)
    if unit == "bytes_per_sec":
        return f"{size(value)}/s"
    rate = unit.removesuffix("_per_sec")
    return number(value) + (UNITS.get(unit, f" {unit}") if rate == unit else f" {rate}/s")


def bar(share: float, width: int) -> str:
    """Return a bar of `width` characters: any share above 0 shows, and only the whole fills the bar."""
    filled = min(width, max(0, math.floor(share * width)))
    if share > 0:
        filled = max(1, filled)
    return "█" * filled + "░" * (width - filled)


def reason(error: OSError) -> str:
    """Return what the system says about a call that failed, such as "no such file or directory"."""
    return (error.strerror or str(error)).lower()


def plain(text: str) -> str:
    """Return the text with escapes for what a terminal would obey or not show."""
    return text if text.isprintable() else "".join(c if c.isprintable() else _escape(c) for c in text)


def _escape(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")
