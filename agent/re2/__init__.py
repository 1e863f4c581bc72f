r"""Regular expressions as RE2 has them (Go's regexp package, and so Prometheus), matched by Python's `re`.

A pattern that `Regex` takes matches the same texts here as there, and `Regex.template` fills in the same. It is
read as Go reads it and written anew for `re` (parse, render), with each difference between the two in the
open: ASCII classes, case, flags, anchors, names, counts. What Go refuses is refused, with what `re` alone has
(lookaround, backreferences, possessive and atomic groups). Refused here alone, because the same cannot be
had: patterns that could take exponential time (growth), scripts (`\p{Greek}`), very deep groups, and
parentheses that match only together with those that are put around the pattern.

`re` and RE2 may disagree about one thing that cannot be written otherwise: what groups hold in a pattern with
a repetition of what can be empty (`(a|b*)*`). Whether it matches is certain; `exact` says if the groups are.
"""

from __future__ import annotations

import re

from agent.re2.growth import check
from agent.re2.parse import parse
from agent.re2.render import FLAGS, render
from agent.re2.template import Template
from agent.re2.tree import Char, Choice, Edge, Group, Node, Refused, Repeat, Sequence

__all__ = ["Refused", "Regex", "Template"]


class Regex:
    """A pattern that is matched against whole texts, with `.` for any character, as in relabeling rules.

    Attributes:
        source: the pattern as it was written.
        names: the groups' names by their index, `""` where there is none; 0 is the whole match.
        exact: the groups hold what they would in RE2.
        fullmatch: a text's match, or None.

    Raises:
        Refused: it is no pattern, or one that cannot be had here.
    """

    __slots__ = ("exact", "fullmatch", "names", "source")

    def __init__(self, source: str) -> None:
        tree, self.names = parse(source, dot_all=True)
        check(tree)
        self.source = source
        self.exact = len(self.names) == 1 or not _repeats_nothing(tree)
        try:
            self.fullmatch = re.compile(render(tree), FLAGS).fullmatch
        except (re.error, OverflowError, RecursionError) as error:
            raise Refused(f"it is too large ({error})", "Make several of it.") from None

    def template(self, text: str) -> Template:
        """A text with references to the groups of this pattern."""
        return Template(text, self.names)


def _repeats_nothing(node: Node) -> bool:
    match node:
        case Repeat(body, _, most):
            return (most != 0 and most != 1 and _may_be_empty(body)) or _repeats_nothing(body)
        case Sequence(parts) | Choice(parts):
            return any(_repeats_nothing(part) for part in parts)
        case Group(_, body):
            return _repeats_nothing(body)
    return False


def _may_be_empty(node: Node) -> bool:
    match node:
        case Char():
            return False
        case Edge():
            return True
        case Repeat(body, least):
            return least == 0 or _may_be_empty(body)
        case Sequence(parts):
            return all(_may_be_empty(part) for part in parts)
        case Choice(branches):
            return any(_may_be_empty(branch) for branch in branches)
        case Group(_, body):
            return _may_be_empty(body)
