"""Series and values as machines read them: Prometheus's text exposition format 0.0.4, and JSON.

Source: "Text-based format" of Prometheus's documentation (instrumenting/exposition_formats).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from typing import Any

from buffer.model import Labels, Series

Reading = tuple[Series, float]

_NAME = re.compile("[a-zA-Z_:][a-zA-Z0-9_:]*")
_LABEL = re.compile("[a-zA-Z_][a-zA-Z0-9_]*")
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
        plain = quoted_name(name)
        lines += [f"# HELP {plain} {first.help.translate(_IN_HELP)}", f"# TYPE {plain} {kind}"]
        lines += [f"{selector(name, series.labels)} {number(value)}" for series, value in group]
    return "".join(f"{line}\n" for line in lines)


def selector(name: str, labels: Labels) -> str:
    """Return a series as `name{label="value"}`, or as `{"name","label"="value"}` where names are not plain."""
    pairs = [
        f'{key if _LABEL.fullmatch(key) else _quoted(key)}="{value.translate(_IN_LABEL)}"'
        for key, value in labels
    ]
    if not _NAME.fullmatch(name):
        return f"{{{','.join([_quoted(name), *pairs])}}}"
    return f"{name}{{{','.join(pairs)}}}" if pairs else name


def quoted_name(name: str) -> str:
    """Return a name as HELP and TYPE have it: in quotes where it is not plain."""
    return name if _NAME.fullmatch(name) else _quoted(name)


def _quoted(text: str) -> str:
    return f'"{text.translate(_IN_LABEL)}"'


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
