"""The syntax tree of an expression: what `parse` returns and `engine` evaluates. All nodes are values.

`at` is the index of the first character of a node in its text. Durations are in milliseconds.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from agent.ops.selector import Matcher
from buffer.errors import LimpetError

Matchers = tuple[Matcher, ...]
Moment = int | Literal["start", "end"] | None
"""What `@` names: UTC milliseconds, the start or the end of the query; None where there is no `@`."""
Kind = Literal["scalar", "vector", "matrix", "string"]
"""The type of an expression. A vector is Prometheus's instant vector, a matrix its range vector."""
NAMES: dict[Kind, str] = {
    "vector": "an instant vector",
    "matrix": "a range vector such as x[5m]",
    "scalar": "a scalar",
    "string": "a string",
}
"""The types as people know them."""


class QueryError(LimpetError):
    """The expression is not valid, not supported, or cannot be evaluated; the message says where."""


def wrong(text: str, at: int, what: str, do: str = "See docs/query.md.") -> QueryError:
    """Return the error about a character of the expression."""
    rest = text[at : at + 16]
    near = f"at {rest!r}" if rest else "at its end"
    return QueryError("expression", f"{what}, character {at + 1}, {near}", do)


class Number(NamedTuple):
    """A number, or a duration in seconds."""

    at: int
    value: float


class Text(NamedTuple):
    """A string."""

    at: int
    value: str


class Paren(NamedTuple):
    """An expression in parentheses."""

    at: int
    inner: Node


class Selector(NamedTuple):
    """Series by matchers. With `range_ms` it is a matrix, without a vector."""

    at: int
    matchers: Matchers
    range_ms: int = 0
    offset_ms: int = 0
    moment: Moment = None


class Subquery(NamedTuple):
    """An expression evaluated at the multiples of `step_ms` within a range; 0 is the default step."""

    at: int
    inner: Node
    range_ms: int
    step_ms: int
    offset_ms: int = 0
    moment: Moment = None


class Call(NamedTuple):
    """A function with its arguments."""

    at: int
    function: str
    arguments: tuple[Node, ...]


class Aggregation(NamedTuple):
    """`operator(parameter, inner)`, by or without some labels."""

    at: int
    operator: str
    inner: Node
    parameter: Node | None
    labels: tuple[str, ...]
    without: bool


class Matching(NamedTuple):
    """How the series of two vectors find each other. `many` is the side with many series for one, if any."""

    on: bool = False
    labels: tuple[str, ...] = ()
    many: Literal["", "left", "right"] = ""
    include: tuple[str, ...] = ()


class Binary(NamedTuple):
    """Two expressions with an operator. `at` is where the operator is."""

    at: int
    operator: str
    left: Node
    right: Node
    as_bool: bool
    matching: Matching
    scalar: bool
    """Whether both sides are scalars, and so the result."""


class Negation(NamedTuple):
    """A unary minus."""

    at: int
    inner: Node


Node = Number | Text | Paren | Selector | Subquery | Call | Aggregation | Binary | Negation

COMPARISONS = frozenset(("==", "!=", "<", ">", "<=", ">="))
SETS = frozenset(("and", "or", "unless"))
_SCALARS = frozenset(("time", "scalar", "pi"))


def kind(node: Node) -> Kind:
    """Return the type of an expression."""
    while isinstance(node, (Paren, Negation)):
        node = node.inner
    if isinstance(node, Selector):
        return "matrix" if node.range_ms else "vector"
    if isinstance(node, Binary):
        return "scalar" if node.scalar else "vector"
    if isinstance(node, Call):
        return "scalar" if node.function in _SCALARS else "vector"
    if isinstance(node, Aggregation):
        return "vector"
    return "scalar" if isinstance(node, Number) else "string" if isinstance(node, Text) else "matrix"


def bare(node: Node) -> Node:
    """Return the expression without the parentheses around it."""
    while isinstance(node, Paren):
        node = node.inner
    return node
