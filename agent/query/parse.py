"""PromQL to a syntax tree, with the same meaning as in Prometheus 3.5. Errors name the character.

Binary operators bind, weakest first: `or`; `and unless`; comparisons; `+ -`; `* / % atan2`; `^`, the only one that
groups to the right. A unary minus binds as `*` does: `-x^2` is `-(x^2)`. Behind an operand come `[range]`,
`[range:step]`, `offset` and `@`. The names of aggregations and keywords are metrics too where nothing else fits.

Source: promql/parser/generated_parser.y and parse.go of Prometheus 3.5. Why it is our own:
docs/decisions/0072-promql-parsed-here.md.
"""

from __future__ import annotations

from typing import Literal

from agent.ops.selector import NAME, Matcher
from agent.query.reading import SelectorReading
from agent.query.signatures import FUNCTIONS, NOT_SUPPORTED, PARAMETERS, arguments
from agent.query.tokens import Token
from agent.query.tree import (
    COMPARISONS,
    NAMES,
    SETS,
    Aggregation,
    Binary,
    Call,
    Kind,
    Matching,
    Negation,
    Node,
    Number,
    Paren,
    QueryError,
    Text,
    kind,
)

LONGEST = 16_384
"""Characters of an expression."""
DEEPEST = 60
"""Parentheses, functions and operators inside one another."""
MOST_OPERATORS = 200
"""Operators between two operands in an expression."""
_BINDS = {
    "or": 1,
    **dict.fromkeys(("and", "unless"), 2),
    **dict.fromkeys(COMPARISONS, 3),
    **dict.fromkeys("+-", 4),
    **dict.fromkeys(("*", "/", "%", "atan2"), 5),
    "^": 6,
}
_WORDS = frozenset(("and", "or", "unless", "atan2"))
_NO_METRICS = frozenset(("on", "ignoring", "group_left", "group_right", "bool", "atan2"))


def parse(text: str) -> Node:
    """Return the tree of an expression. Raises QueryError."""
    if len(text) > LONGEST:
        raise QueryError("expression", f"it is longer than {LONGEST:,} characters", "Ask for less at once.")
    return _Parser(text).whole()


class _Parser(SelectorReading):
    """The grammar."""

    def whole(self) -> Node:
        if not self.next.kind:
            raise self.wrong("there is no expression")
        node = self._expression(1)
        if self.next.kind:
            raise self.wrong("expected an operator or the end")
        return node

    def _expression(self, least: int) -> Node:
        self._depth += 1
        if self._depth > DEEPEST:
            raise self.wrong(f"more than {DEEPEST} expressions are inside one another")
        node = self._unary()
        while (binds := _BINDS.get(self.sign, 0)) >= least:
            token = self.take()
            self._operators += 1
            if self._operators > MOST_OPERATORS:
                raise self.wrong(f"there are more than {MOST_OPERATORS} operators", token.at)
            as_bool = self._next_is_bool()
            matching = self._matching()
            right = self._expression(binds if token.text == "^" else binds + 1)
            node = self._binary(token, node, right, as_bool, matching)
        self._depth -= 1
        return node

    def _unary(self) -> Node:
        if self.sign not in ("+", "-"):
            return self._operand()
        token = self.take()
        inner = self._expression(_BINDS["^"])
        if kind(inner) not in ("scalar", "vector"):
            raise self.wrong(
                f"a sign belongs before a scalar or an instant vector, not before {NAMES[kind(inner)]}",
                token.at,
            )
        if isinstance(inner, Number):
            return Number(token.at, -inner.value if token.text == "-" else inner.value)
        return Negation(token.at, inner) if token.text == "-" else Paren(token.at, inner)

    def _matching(self) -> Matching | None:
        if self.sign not in ("on", "ignoring"):
            return None
        on, labels = self.take().text.lower() == "on", self.labels()
        many: Literal["", "left", "right"] = ""
        include: tuple[str, ...] = ()
        if self.sign in ("group_left", "group_right"):
            many = "left" if self.take().text.lower() == "group_left" else "right"
            include = self.labels() if self.sign == "(" else ()
        return Matching(on, labels, many, include)

    def _next_is_bool(self) -> bool:
        return self.sign == "bool" and bool(self.take())

    def _binary(
        self, token: Token, left: Node, right: Node, as_bool: bool, matching: Matching | None
    ) -> Binary:
        kinds = (kind(left), kind(right))
        scalar = kinds == ("scalar", "scalar")
        node = Binary(token.at, token.text.lower(), left, right, as_bool, matching or Matching(), scalar)
        if node.as_bool and node.operator not in COMPARISONS:
            raise self.wrong("bool belongs behind a comparison only", node.at)
        for side, found in zip((node.left, node.right), kinds, strict=True):
            if found not in ("scalar", "vector"):
                what = f"{node.operator} takes scalars and instant vectors, not {NAMES[found]}"
                raise self.wrong(what, side.at)
        if scalar and node.operator in COMPARISONS and not node.as_bool:
            raise self.wrong("a comparison of two scalars needs bool", node.at, "Write 1 > bool 2.")
        if "scalar" in kinds and node.operator in SETS:
            raise self.wrong(f"{node.operator} takes instant vectors only", node.at)
        if "scalar" in kinds and matching is not None and matching.labels:
            raise self.wrong("on and ignoring belong between instant vectors only", node.at)
        if matching is not None and matching.many and node.operator in SETS:
            raise self.wrong(f"{node.operator} takes no group_left and no group_right", node.at)
        if matching is not None and matching.on and set(matching.labels) & set(matching.include):
            raise self.wrong("a label is named in on and in the group", node.at)
        return node

    def _operand(self) -> Node:
        node = self._primary()
        while True:
            if self.sign == "[":
                node = self.brackets(node)
            elif self.sign == "offset":
                node = self.offset(node)
            elif self.sign == "@":
                node = self.moment(node)
            else:
                return node

    def _primary(self) -> Node:
        token = self.take()
        if token.kind == "number":
            return Number(token.at, self.value(token))
        if token.kind == "duration":
            return Number(token.at, self.milliseconds(token) / 1000)
        if token.kind == "string":
            return Text(token.at, self.unquoted(token))
        if token.text == "(":
            inner = self._expression(1)
            self.expect(")", "at the end of the parentheses")
            return Paren(token.at, inner)
        if token.text == "{":
            return self.selector(token.at, [])
        if token.kind != "word":
            raise self.wrong("expected a metric, a number, a function or (", token.at)
        return self._word(token)

    def _word(self, token: Token) -> Node:
        word = token.text.lower()
        if word in PARAMETERS and self.sign in ("(", "by", "without"):
            return self._aggregation(token.at, word)
        if word in ("inf", "nan"):
            return Number(token.at, float(word))
        if self.sign == "(":
            return self._call(token)
        if word in _NO_METRICS:
            raise self.wrong(f"{word} belongs between operands only", token.at)
        return self.selector(token.at, [Matcher(NAME, "=", token.text)])

    def _call(self, token: Token) -> Call:
        name = token.text
        if name not in FUNCTIONS:
            known = "is not supported here" if name.lower() in NOT_SUPPORTED else "does not exist"
            raise self.wrong(f"the function {name} {known}", token.at, "docs/query.md lists what there is.")
        given = self._arguments(name)
        kinds, least, most = arguments(name)
        if len(given) < least or (most is not None and len(given) > most):
            number_of = (
                str(least) if most == least else f"{least} or more" if most is None else f"{least} to {most}"
            )
            raise self.wrong(f"{name} takes {number_of} arguments, not {len(given)}", token.at)
        for index, argument in enumerate(given):
            self._check(argument, kinds[min(index, len(kinds) - 1)], name)
        return Call(token.at, name, tuple(given))

    def _check(self, node: Node, wanted: Kind, name: str) -> None:
        if kind(node) != wanted:
            raise self.wrong(f"{name} takes {NAMES[wanted]}, not {NAMES[kind(node)]}", node.at)

    def _arguments(self, name: str) -> list[Node]:
        self.expect("(", f"before the arguments of {name}")
        given: list[Node] = []
        while self.sign != ")" or given:
            given.append(self._expression(1))
            if self.sign == ")":
                break
            self.expect(",", f"or ) between the arguments of {name}")
        self.take()
        return given

    def _aggregation(self, at: int, name: str) -> Aggregation:
        grouping = self._grouping()
        given = self._arguments(name)
        labels, without = grouping or self._grouping() or ((), False)
        parameter = PARAMETERS[name]
        expected = 1 if parameter is None else 2
        if len(given) != expected:
            raise self.wrong(f"{name} takes {expected} arguments, not {len(given)}", at)
        self._check(given[-1], "vector", name)
        if parameter is not None:
            self._check(given[0], parameter, name)
        return Aggregation(at, name, given[-1], given[0] if parameter else None, labels, without)

    def _grouping(self) -> tuple[tuple[str, ...], bool] | None:
        if self.sign not in ("by", "without"):
            return None
        without = self.take().text.lower() == "without"
        return self.labels(), without
