"""Series and values as machines read them: Prometheus's text exposition format 0.0.4, and JSON.

Source: "Text-based format" of Prometheus's documentation (instrumenting/exposition_formats).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from buffer.model import Labels, Series

Reading = tuple[Series, float]

_IN_LABEL = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})
_IN_HELP = str.maketrans({"\\": r"\\", "\n": r"\n"})


def exposition(readings: Iterable[Reading]) -> str:
    """Return the text of these readings: the lines of a name together, after one HELP and one TYPE."""
    by_name: dict[str, list[Reading]] = {}
    for reading in readings:
        by_name.setdefault(reading[0].name, []).append(reading)
    lines = []
    for name, group in by_name.items():
        first = group[0][0]
        kind = first.type if first.type in ("gauge", "counter") else "untyped"  # of a whole histogram, say
        lines += [f"# HELP {name} {first.help.translate(_IN_HELP)}", f"# TYPE {name} {kind}"]
        lines += [f"{selector(name, series.labels)} {number(value)}" for series, value in group]
    return "".join(f"{line}\n" for line in lines)


def selector(name: str, labels: Labels) -> str:
    """Return a series as `name{label="value"}`."""
    inside = ",".join(f'{key}="{value.translate(_IN_LABEL)}"' for key, value in labels)
    return f"{name}{{{inside}}}" if inside else name


def number(value: float) -> str:
    """Return a value with all its digits, as the format has it."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return repr(value)


def json_number(value: float) -> float | str:
    """Return a value for JSON, which has no NaN and no infinities: they are strings, as in Prometheus's own API."""
    return value if math.isfinite(value) else number(value)


def documents(readings: Sequence[Reading]) -> list[dict[str, Any]]:
    """Return what `limpet collect --json` prints for each series."""
    return [
        {
            "name": series.name,
            "labels": dict(series.labels),
            "value": json_number(value),
            "type": series.type,
            "unit": series.unit,
            "help": series.help,
        }
        for series, value in readings
    ]
