"""The table of states in docs/sender.md, made from `agent.send.state.TABLE`: `python -m tools.states_table` renews it.

A test compares the page with the table.
"""

from __future__ import annotations

from pathlib import Path

from agent.send.state import TABLE

PAGE = Path(__file__).parents[1] / "docs" / "sender.md"
BEGIN, END = "<!-- states: made by tools/states_table.py -->\n", "<!-- end of states -->\n"


def table() -> str:
    """Return the table as Markdown."""
    rows = [
        f"| {row.state.value} | {row.verdict.value} | {row.then.value} | {row.wait.value} | {row.samples} |\n"
        for row in TABLE
    ]
    head = "| state | outcome | next state | wait | the samples are |\n|---|---|---|---|---|\n"
    return head + "".join(rows)


def renewed(page: str) -> str:
    """Return a page with the table between its markers."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}{table()}{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(renewed(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
