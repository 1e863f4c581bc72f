"""A figure of a benchmark: what was measured, what it may be at most, and how both are shown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple


class Figure(NamedTuple):
    """A measured value in its unit; `limit` is the most it may be, None where there is no promise."""

    name: str
    value: float
    unit: str
    limit: float | None = None
    note: str = ""

    @property
    def verdict(self) -> str:
        """Say "met" or "MISSED"; nothing where there is no limit."""
        if self.limit is None:
            return ""
        return "met" if self.value <= self.limit else "MISSED"

    def as_json(self) -> dict[str, Any]:
        """Return the figure for machines."""
        return {**self._asdict(), "verdict": self.verdict or None}


HEAD = ("figure", "limit", "measured", "unit", "", "how")


def table(figures: Sequence[Figure]) -> str:
    """Return the figures as a Markdown table that can be read as text, too."""
    rows = [HEAD, *(_row(figure) for figure in figures)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(HEAD))]
    numbers = (1, 2)
    lines = []
    for row in rows:
        cells = [
            c.rjust(w) if i in numbers else c.ljust(w)
            for i, (c, w) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("| " + " | ".join(cells) + " |")
    rule = ["-" * (w - 1) + ":" if i in numbers else "-" * w for i, w in enumerate(widths)]
    lines.insert(1, "| " + " | ".join(rule) + " |")
    return "\n".join(lines)


def _row(figure: Figure) -> tuple[str, ...]:
    limit = "" if figure.limit is None else number(figure.limit)
    return figure.name, limit, number(figure.value), figure.unit, figure.verdict, figure.note


def number(value: float) -> str:
    """Return a number with the three digits that count, and all of them before the point."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
