"""How Grafana would spell a value, a series' name and a color: with unit, as short as it can be."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

NAMED = {"green": "#56a64b", "red": "#e0394b", "blue": "#5794f2", "purple": "#b877d9", "orange": "#ff9830"}


def legend(template: str, labels: Mapping[str, str]) -> str:
    """The name of a series."""
    return " ".join(re.sub(r"\{\{(\w+)\}\}", lambda match: labels.get(match[1], ""), template).split())


def plain(color: str) -> str:
    """A color that matplotlib knows."""
    return NAMED.get(color, color)


def shade(value: float, steps: Sequence[Mapping[str, Any]]) -> str:
    """The color of a value among the steps of its limits."""
    return plain([step["color"] for step in steps if step["value"] is None or value >= step["value"]][-1])


BINARY = ("B", "KiB", "MiB", "GiB", "TiB")
THOUSANDS = ("", " K", " Mil", " Bil")


def spelled(value: float, unit: str, decimals: int | None = None) -> str:
    """A value with its unit, as short as Grafana has it."""
    if value != value:
        return "-"
    if unit in ("percent", "percentunit"):
        value = value * 100 if unit == "percentunit" else value
        return f"{_rounded(value, decimals)}%"
    if unit == "s":
        for size, name in ((86400.0, "days"), (3600.0, "hours"), (60.0, "min")):
            if abs(value) >= size:
                return f"{_rounded(value / size, 1 if decimals is None else max(1, decimals))} {name}"
        if 0 < abs(value) < 1 and decimals is None:
            return f"{_rounded(value * 1000, None)} ms"
        return f"{_rounded(value, decimals)} s"
    if unit in ("bytes", "Bps"):
        base = 1024.0 if unit == "bytes" else 1000.0
        names = BINARY if unit == "bytes" else ("B/s", "kB/s", "MB/s", "GB/s", "TB/s")
        power = 0
        while abs(value) >= base and power < 4:
            value, power = value / base, power + 1
        return f"{_rounded(value, decimals)} {names[power]}"
    if unit == "currencyUSD":
        return f"${value:,.2f}"
    endings = {
        "ms": " ms",
        "h": " hours",
        "d": " days",
        "cps": " c/s",
        "iops": " io/s",
        "pps": " p/s",
        "reqps": " req/s",
    }
    power = 0
    while abs(value) >= 1000 and power < 3 and unit not in ("h", "d"):
        value, power = value / 1000, power + 1
    return f"{_rounded(value, decimals)}{THOUSANDS[power]}{endings.get(unit, '')}"


def _rounded(value: float, decimals: int | None) -> str:
    if decimals is None:
        decimals = 0 if abs(value) >= 100 or value == int(value) else 1 if abs(value) >= 10 else 2
        return f"{value:.{decimals}f}".rstrip("0").rstrip(".") if decimals else f"{value:.0f}"
    return f"{value:.{decimals}f}"


def over(color: str) -> str:
    """The color of text that can be read on this one."""
    return "#202226" if color == plain("#EAB839") else "#ffffff"
