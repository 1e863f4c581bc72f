"""JSON lines: what `limpet buffer export --format jsonl` writes and `limpet buffer replay` reads.

    {"name": .., "labels": {name: value ..}, "type": .., "unit": .., "help": .., "samples": [[ms, value] ..]}

A line holds samples of one series, in the order in which they were appended; times are UTC milliseconds.
A value is a number, or one of these strings:

    "NaN" | "+Inf" | "-Inf"        as in Prometheus's own API
    "StaleNaN"                     Prometheus's stale marker: the series ended there
    "NaN:" 16 hex digits           a NaN with other bits, which are these

Promise: every value comes back bit for bit.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence

import msgspec

from buffer.model import STALE_BITS, Series

_NAMES = {STALE_BITS: "StaleNaN", 0x7FF8000000000000: "NaN"}
_encode = msgspec.json.Encoder().encode


def line(series: Series, times: Sequence[int], values: Sequence[float]) -> str:
    """Return the line of these samples of a series, with its end."""
    plain = values if all(map(math.isfinite, values)) else [special(value) for value in values]
    head = {"name": series.name, "labels": dict(series.labels), "type": series.type}
    head |= {"unit": series.unit, "help": series.help}
    text = _encode(head)[:-1] + b',"samples":' + _encode(list(zip(times, plain, strict=True))) + b"}\n"
    return text.decode()


def special(value: float) -> float | str:
    """Return the value for JSON: itself, or the string that represents it."""
    if math.isfinite(value):
        return value
    if not math.isnan(value):
        return "+Inf" if value > 0 else "-Inf"
    number = int.from_bytes(struct.pack("<d", value), "little")
    return _NAMES.get(number) or f"NaN:{number:016x}"


def value(text: float | str) -> float:
    """Return the value that a number or a string of a line represents. Raises ValueError."""
    if not isinstance(text, str):
        return text
    for number, name in _NAMES.items():
        if text == name:
            return _of_bits(number)
    if text in ("+Inf", "-Inf"):
        return math.inf if text == "+Inf" else -math.inf
    kind, _, digits = text.partition(":")
    if kind == "NaN" and len(digits) == 16 and digits.isascii() and digits.isalnum():
        found = _of_bits(int(digits, 16))
        if math.isnan(found):
            return found
    raise ValueError(f"{text[:20]!r} is not a value")


def _of_bits(number: int) -> float:
    found: float = struct.unpack("<d", number.to_bytes(8, "little"))[0]
    return found
