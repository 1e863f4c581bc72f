"""An expression written as Prometheus writes it: one form for each meaning, and lines that are not too long.

`formatted` gives what `/api/v1/format_query` of Prometheus 3.5 gives: comments are gone, names of operators are in lower
case, matchers are sorted, and what is longer than `WIDTH` bytes is broken at its operators and arguments. What it
gives has the same meaning as the text, and `formatted` changes it no more.

Where Prometheus 3.5.3 itself writes something that means something else, the later form is written: names of labels that
need quotes have them everywhere, and `ignoring ()` in front of a group stays.

Source: promql/parser/printer.go and prettier.go of Prometheus 3.5, model/labels/matcher.go, and `Quote` of Go's strconv.
"""

from __future__ import annotations

import re
from decimal import Decimal

from agent.config.units import format_duration
from agent.ops.selector import NAME, Matcher
from agent.query.parse import parse
from agent.query.tokens import cut
from agent.query.tree import (
    Aggregation,
    Binary,
    Call,
    Matching,
    Negation,
    Node,
    Number,
    Paren,
    Selector,
    Subquery,
    Text,
)

WIDTH = 100
"""Bytes of a line from which an expression is broken, without its indentation."""
INDENT = "  "
_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*", re.ASCII)
_SHORT = dict(zip('\a\b\f\n\r\t\v\\"', 'abfnrtv\\"', strict=True))


def formatted(text: str) -> str:
    """Return the expression as Prometheus writes it. Raises QueryError."""
    return _Printer(text).broken(parse(text), 0)


class _Printer:
    """Writes nodes of the tree of a text. The text says how a number or a name was written, which the tree does not."""

    def __init__(self, text: str) -> None:
        self._tokens = cut(text)
        self._index = {token.at: i for i, token in enumerate(self._tokens)}

    # On one line.

    def line(self, node: Node) -> str:
        """Return a node on one line."""
        if isinstance(node, Number):
            return self._number(node)
        if isinstance(node, Text):
            return quoted(node.value)
        if isinstance(node, Paren):
            inner = self.line(node.inner)
            return f"+{inner}" if self._is_sign(node) else f"({inner})"
        if isinstance(node, Negation):
            return f"-{self.line(node.inner)}"
        if isinstance(node, Selector):
            return self._selector(node)
        if isinstance(node, Subquery):
            return self.line(node.inner) + _window(node)
        if isinstance(node, Call):
            return f"{node.function}({', '.join(map(self.line, node.arguments))})"
        if isinstance(node, Aggregation):
            return f"{_head(node)}({', '.join(map(self.line, _arguments(node)))})"
        return f"{self.line(node.left)} {_operator(node)} {self.line(node.right)}"

    def _number(self, node: Number) -> str:
        i = self._index[node.at]
        while self._tokens[i].text in ("+", "-"):
            i += 1
        if self._tokens[i].kind == "duration":
            return ("-" if node.value < 0 else "") + format_duration(abs(node.value))
        return number(node.value)

    def _is_sign(self, node: Paren) -> bool:
        """Whether it is a unary plus, which has no node of its own."""
        return self._tokens[self._index[node.at]].text == "+"

    def _selector(self, node: Selector) -> str:
        matchers, name = list(node.matchers), ""
        if self._tokens[self._index[node.at]].text != "{":
            name = matchers.pop(0).value
        inside = sorted(_matcher(one) for one in matchers if one != Matcher(NAME, "=", name))
        shown = name + (f"{{{','.join(inside)}}}" if inside else "")
        return shown + (f"[{_duration(node.range_ms)}]" if node.range_ms else "") + _shift(node)

    # On several lines.

    def broken(self, node: Node, level: int) -> str:
        """Return a node on as many lines as it needs, indented by a level."""
        indent = INDENT * level
        if isinstance(node, Negation) or (isinstance(node, Paren) and self._is_sign(node)):
            sign = "-" if isinstance(node, Negation) else "+"
            return f"{indent}{sign}{self.broken(node.inner, level).strip()}"
        line = self.line(node)
        if isinstance(node, Subquery):  # one that is short is not indented there either
            return line if _fits(line) else self.broken(node.inner, level) + _window(node)
        if _fits(line) or isinstance(node, (Number, Text, Selector)):
            return indent + line
        if isinstance(node, Binary):
            left, right = self.broken(node.left, level + 1), self.broken(node.right, level + 1)
            return f"{left}\n{indent}{_operator(node)}\n{right}"
        arguments: tuple[Node, ...]
        if isinstance(node, Paren):
            head, arguments = "", (node.inner,)
        elif isinstance(node, Call):
            head, arguments = node.function, node.arguments
        else:
            head, arguments = _head(node), _arguments(node)
        inside = ",\n".join(self.broken(one, level + 1) for one in arguments)
        return f"{indent}{head}(\n{inside}\n{indent})"


def _fits(line: str) -> bool:
    return len(line.encode()) <= WIDTH


def _head(node: Aggregation) -> str:
    if not (node.labels or node.without):
        return node.operator
    return f"{node.operator} {'without' if node.without else 'by'} {_labels(node.labels)} "


def _arguments(node: Aggregation) -> tuple[Node, ...]:
    return (node.inner,) if node.parameter is None else (node.parameter, node.inner)


def _operator(node: Binary) -> str:
    return node.operator + (" bool" if node.as_bool else "") + _matching(node.matching)


def _matching(matching: Matching) -> str:
    text = ""
    if matching.on or matching.labels or matching.many:
        text = f" {'on' if matching.on else 'ignoring'} {_labels(matching.labels)}"
    return text + (f" group_{matching.many} {_labels(matching.include)}" if matching.many else "")


def _labels(names: tuple[str, ...]) -> str:
    return f"({', '.join(map(_label, names))})"


def _label(name: str) -> str:
    return name if _LABEL.fullmatch(name) else quoted(name)


def _matcher(matcher: Matcher) -> str:
    return f"{_label(matcher.label)}{matcher.operator}{quoted(matcher.value)}"


def _window(node: Subquery) -> str:
    step = _duration(node.step_ms) if node.step_ms else ""
    return f"[{_duration(node.range_ms)}:{step}]{_shift(node)}"


def _shift(node: Selector | Subquery) -> str:
    moment = node.moment
    shown = f" @ {moment / 1000:.3f}" if isinstance(moment, int) else f" @ {moment}()" if moment else ""
    if not node.offset_ms:
        return shown
    return f"{shown} offset {'-' if node.offset_ms < 0 else ''}{_duration(abs(node.offset_ms))}"


def _duration(ms: int) -> str:
    return format_duration(ms / 1000)


def number(value: float) -> str:
    """Return a number without an exponent, as short as it can be to be read as the same one."""
    text = repr(value)
    if text in ("inf", "-inf", "nan"):
        return {"inf": "+Inf", "-inf": "-Inf", "nan": "NaN"}[text]
    return format(Decimal(text), "f").removesuffix(".0")


def quoted(text: str) -> str:
    """Return a text in quotes, with Go's escapes for what cannot be seen."""
    return '"' + "".join(map(_escaped, text)) + '"'


def _escaped(one: str) -> str:
    if one in _SHORT:
        return f"\\{_SHORT[one]}"
    if one.isprintable():
        return one
    code = ord(one)
    if code < 0x20 or code == 0x7F:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
