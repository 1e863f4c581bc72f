"""What is put in the place of a match: text with `$1`, `${1}`, `$name`, `${name}`, and `$$` for a dollar sign.

As Go's Regexp.Expand has it. A name is the longest row of letters, digits and `_`, so `$1x` is the group `1x`,
which is no group: write `${1}x`. What refers to no group, or to one that took no part, is empty. A `$` that
begins none of these stands for itself. Of several groups of one name the first that took part counts.
"""

from __future__ import annotations

import re
from collections.abc import Sequence


class Template:
    """A text with references to groups.

    Attributes:
        groups: the indices of all groups that are referred to, the whole match (0) included.
        unknown: the references, as they were written, to groups that there are not.
    """

    __slots__ = ("_parts", "groups", "unknown")

    def __init__(self, text: str, names: Sequence[str]) -> None:
        self._parts: list[str | tuple[int, ...]] = []
        self.unknown: list[str] = []
        at = 0
        while (dollar := text.find("$", at)) >= 0:
            self._parts.append(text[at:dollar])
            at = dollar + 1
            if text.startswith("$", at):
                self._parts.append("$")
                at += 1
            elif name := _name(text, at):
                at += len(name)
                groups = _groups(name.strip("{}"), names)
                self._parts.append(groups)
                if not groups:
                    self.unknown.append(f"${name}")
            else:
                self._parts.append("$")
        self._parts.append(text[at:])
        self.groups = frozenset(index for part in self._parts if isinstance(part, tuple) for index in part)

    def expand(self, match: re.Match[str]) -> str:
        """The text for this match."""
        return "".join([part if isinstance(part, str) else _held(match, part) for part in self._parts])


def _name(text: str, at: int) -> str:
    """The reference behind a dollar sign, with its braces; empty: there is none."""
    start = end = at + text.startswith("{", at)
    while end < len(text) and (text[end].isalpha() or text[end].isdecimal() or text[end] == "_"):
        end += 1
    if end == start:
        return ""
    if start > at:
        return text[at : end + 1] if text.startswith("}", end) else ""
    return text[at:end]


def _groups(name: str, names: Sequence[str]) -> tuple[int, ...]:
    if re.fullmatch("0|[1-9][0-9]{0,8}", name):
        return (int(name),) if int(name) < len(names) else ()
    return tuple(index for index, one in enumerate(names) if one == name)


def _held(match: re.Match[str], groups: tuple[int, ...]) -> str:
    return next((text for index in groups if (text := match[index]) is not None), "")
