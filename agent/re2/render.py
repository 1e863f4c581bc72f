r"""A tree as a pattern of Python's `re` that means the same.

Everything is written out (`\d` as `[0-9]`, a letter of any case as `[aA]`), so that of Python's own classes,
flags and abbreviations nothing is left to differ. The pattern is for DOTALL and ASCII.
"""

from __future__ import annotations

import re

from agent.re2 import chars
from agent.re2.tree import Char, Choice, Edge, Group, Node, Repeat, Sequence

FLAGS = re.DOTALL | re.ASCII

_EDGES = {
    "text start": r"\A",
    "text end": r"\Z",
    "line start": "(?m:^)",
    "line end": "(?m:$)",
    "word": r"\b",
    "no word": r"(?!\b)",  # Python's \B does not match in an empty text
}
_COUNTS = {(0, None): "*", (1, None): "+", (0, 1): "?"}


def render(node: Node) -> str:
    """The pattern. Groups have the numbers that the tree gives them."""
    match node:
        case Char(ranges):
            return _char(ranges)
        case Edge(at):
            return _EDGES[at]
        case Group(_, body):
            return f"({render(body)})"
        case Sequence(parts):
            return "".join(_part(part) for part in parts)
        case Choice(branches):
            return "|".join(render(branch) for branch in branches)
        case Repeat(body, least, most, lazy):
            return _repeat(body, least, most) + ("?" if lazy and least != most else "")


def _part(node: Node) -> str:
    return f"(?:{render(node)})" if isinstance(node, Choice) else render(node)


def _repeat(body: Node, least: int, most: int | None) -> str:
    written = render(body) if isinstance(body, Char | Group) else f"(?:{render(body)})"
    if (least, most) in _COUNTS:
        return written + _COUNTS[least, most]
    if least == most:
        return f"{written}{{{least}}}"
    return f"{written}{{{least},{'' if most is None else most}}}"


def _char(ranges: chars.Ranges) -> str:
    if ranges == chars.ANY:
        return "."
    if not ranges:
        return "(?!)"
    if len(ranges) == 1 and ranges[0][0] == ranges[0][1]:
        return _one(ranges[0][0])
    inside, sign = ranges, ""
    if ranges[0][0] == 0 and ranges[-1][1] == chars.ANY[0][1]:  # the shorter way to say it
        inside, sign = chars.negated(ranges), "^"
    return f"[{sign}{''.join(_range(low, high) for low, high in inside)}]"


def _range(low: int, high: int) -> str:
    between = "" if high - low < 2 else "-"
    return _one(low) + (between + _one(high) if high > low else "")


def _one(code: int) -> str:
    char = chr(code)
    return char if char.isalnum() or not char.isascii() else f"\\{char}"
