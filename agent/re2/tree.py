"""What a regular expression is made of, once it is read: values without behavior."""

from __future__ import annotations

from typing import Literal, NamedTuple

from agent.re2.chars import Ranges


class Refused(ValueError):
    """A pattern cannot be had. `what` is a phrase, `do` whole sentences."""

    def __init__(self, what: str, do: str) -> None:
        super().__init__(what)
        self.what, self.do = what, do


class Char(NamedTuple):
    """One character of a set."""

    ranges: Ranges


class Edge(NamedTuple):
    """A place between characters."""

    at: Literal["text start", "text end", "line start", "line end", "word", "no word"]


class Sequence(NamedTuple):
    """One part after the other; without parts it matches nothing but the empty text."""

    parts: tuple[Node, ...]


class Choice(NamedTuple):
    """The first branch with which the rest matches."""

    branches: tuple[Node, ...]


class Repeat(NamedTuple):
    """`least` to `most` times the body (None: any number), as many as can be or, if `lazy`, as few."""

    body: Node
    least: int
    most: int | None
    lazy: bool


class Group(NamedTuple):
    """A group that is kept, counted from 1."""

    number: int
    body: Node


Node = Char | Edge | Sequence | Choice | Repeat | Group
