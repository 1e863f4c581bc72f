"""The view of `limpet doctor`; like those in `show`, a pure function from values."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from agent.cli.show import DANGER, DIM, GOOD, HEAD, WARNING
from agent.ops.doctor.step import NOT_TRIED, Step
from agent.text import human

WIDEST = 24


def part(steps: Sequence[Step]) -> RenderableType:
    """The steps of one part below its name, each with a sign, a word, and below it what to do."""
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True, min_width=len("✗ wrong") + 4)
    table.add_column(no_wrap=True, min_width=WIDEST)
    table.add_column(overflow="fold")
    for step in steps:
        sign, style = _sign(step)
        said = Text("" if step.said == NOT_TRIED else human.plain(step.said), DIM if step.ok is None else "")
        if step.do:
            said.append(f"\n→ {human.plain(step.do)}", style if step.needs_doing else DIM)
        table.add_row(Text(sign, style), Text(step.step), said)
    return Group(Text(human.plain(steps[0].part), HEAD), table, Text())


def _sign(step: Step) -> tuple[str, str]:
    if step.ok is None:
        return ("- not tried" if step.said == NOT_TRIED else "? unknown"), DIM
    if step.ok is False:
        return "✗ wrong", DANGER
    return ("! warning", WARNING) if step.do else ("✓ fine", GOOD)
