"""Durations and sizes as Prometheus writes them.

Durations follow `ParseDuration` of prometheus/common (model/time.go): whole numbers with the units
y, w, d, h, m, s, ms, each at most once and in that order; a plain `0` is the only number that needs no
unit. A year has 365 days. They become seconds.

Sizes follow `ParseBase2Bytes` of alecthomas/units, which Prometheus uses for its size limits: `KiB` and
`KB` both mean 1024 bytes (and so on for M, G, T, P, E), `kB` is refused because it means 1000 elsewhere.
Unlike there, a plain number is a number of bytes, a fraction must come to whole bytes, and one number with
one unit is all that a size has.

What `format_duration` writes, `parse_duration` reads back to the same value, and so with `format_size` and `parse_size`.
"""

from __future__ import annotations

import re

# Each unit in milliseconds. Years and weeks are only written where nothing is left over.
_MILLISECONDS = {"y": 31_536_000_000, "w": 604_800_000, "d": 86_400_000, "h": 3_600_000}
_MILLISECONDS |= {"m": 60_000, "s": 1000, "ms": 1}
_DURATION = re.compile("".join(f"(?:([0-9]+){unit})?" for unit in _MILLISECONDS))
_LONGEST_MS = (2**63 - 1) // 1_000_000  # what Prometheus can hold, in whole milliseconds

_SIZE = re.compile(r"([0-9]+)(?:\.([0-9]+))?(B|[KMGTPE]i?B)?")
_POWERS = "BKMGTPE"
_LARGEST = 2**63 - 1


def parse_duration(text: str) -> float:
    """Return the seconds of a duration such as `1h30m`, to the millisecond.

    Raises ValueError if it is not a duration, or is longer than Prometheus can hold (292 years).
    """
    if text == "0":
        return 0.0
    match = _DURATION.fullmatch(text)
    if match is None or not text:
        raise ValueError("not a duration")
    parts = zip(match.groups(), _MILLISECONDS.values(), strict=True)
    # 18 digits are over the limit in any unit; int() must not see thousands of them.
    total = sum(
        (int(digits) if len(digits) < 19 else _LONGEST_MS + 1) * unit for digits, unit in parts if digits
    )
    if total > _LONGEST_MS:
        raise ValueError("longer than 292 years")
    return total / 1000


def format_duration(seconds: float) -> str:
    """Return the form that Prometheus would write: `90` is `1m30s`, `90000` is `1d1h`, `0.25` is `250ms`, `0` is `0s`."""
    rest = round(seconds * 1000)
    if rest < 0:
        raise ValueError("a duration is never negative")
    parts = []
    for unit, size in _MILLISECONDS.items():
        if unit in ("y", "w") and rest % size:
            continue
        if rest >= size:
            parts.append(f"{rest // size}{unit}")
            rest %= size
    return "".join(parts) or "0s"


def parse_size(text: str) -> int:
    """Return the bytes of a size such as `256MiB`, `1.5GB` (1024-based, too) or `4096`.

    Raises ValueError if it is not a size, not whole bytes, or more than 8 EiB - 1.
    """
    match = _SIZE.fullmatch(text)
    if match is None or len(text) > 40:
        raise ValueError("not a size")
    whole, fraction, unit = match.groups()
    scale = 1 << 10 * _POWERS.index((unit or "B")[0])
    digits = fraction or ""
    parts: int = 10 ** len(digits)
    scaled, left_over = divmod(int(whole + digits) * scale, parts)
    if left_over:
        raise ValueError("not a whole number of bytes")
    if scaled > _LARGEST:
        raise ValueError("more than 8EiB")
    return scaled


def format_size(size: int) -> str:
    """Return bytes with the largest unit in which they are a whole number: `32768` is `32KiB`."""
    power = 0
    while size and size % 1024 == 0 and power < len(_POWERS) - 1:
        size, power = size // 1024, power + 1
    return f"{size}{_POWERS[power]}iB" if power else f"{size}B"
