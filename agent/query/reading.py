"""Reading an expression token by token, and the selectors in it with what may follow them."""

from __future__ import annotations

import math

from agent.ops.selector import NAME, Matcher, StringError, unquoted
from agent.query.tokens import Token, cut, duration, number
from agent.query.tree import NAMES, Moment, Node, QueryError, Selector, Subquery, kind, wrong
from agent.regex import RegexError

_MATCH = frozenset(("=", "!=", "=~", "!~"))


class Reading:
    """The tokens of a text, one after the other: the next one is `next`. All methods raise QueryError."""

    def __init__(self, text: str) -> None:
        self._text, self._tokens = text, cut(text)
        self._index = self._depth = self._operators = 0

    @property
    def next(self) -> Token:
        """The next token."""
        return self._tokens[self._index]

    @property
    def sign(self) -> str:
        """The next sign or keyword, in lower case; empty for anything else."""
        token = self.next
        return token.text.lower() if token.kind in ("sign", "word") else ""

    def take(self) -> Token:
        """Return the next token, and continue behind it."""
        token = self.next
        self._index += token.kind != ""
        return token

    def expect(self, sign: str, where: str) -> Token:
        """Return the sign, which must come next."""
        if self.next.text != sign or self.next.kind != "sign":
            raise self.wrong(f"expected {sign} {where}")
        return self.take()

    def wrong(self, what: str, at: int | None = None, do: str = "See docs/query.md.") -> QueryError:
        """Return the error about a character: the next one, if none is given."""
        return wrong(self._text, self.next.at if at is None else at, what, do)

    def labels(self) -> tuple[str, ...]:
        """Read label names in parentheses."""
        self.expect("(", "before the names of labels")
        names: list[str] = []
        while self.sign != ")":
            token = self.take()
            if token.kind == "string":
                names.append(self.unquoted(token))
            elif token.kind == "word" and ":" not in token.text:
                names.append(token.text)
            else:
                raise self.wrong("expected the name of a label", token.at)
            if self.sign != ")":
                self.expect(",", "or ) between the names of labels")
        self.take()
        return tuple(names)

    def value(self, token: Token) -> float:
        """Return the value of a number."""
        try:
            return number(token.text)
        except ValueError:
            raise self.wrong("this is no number", token.at) from None

    def milliseconds(self, token: Token) -> int:
        """Return the value of a duration."""
        try:
            return duration(token.text)
        except ValueError as error:
            raise self.wrong(
                f"a duration has y, w, d, h, m, s, ms in this order, and this one is {error}", token.at
            ) from None

    def unquoted(self, token: Token) -> str:
        """Return the value of a string."""
        try:
            return unquoted(token.text)
        except StringError as error:
            raise self.wrong(error.what, token.at + error.offset) from None

    def duration(self, what: str) -> int:
        """Read a duration, or a number of seconds, in milliseconds."""
        token = self.take()
        if token.kind == "duration":
            return self.milliseconds(token)
        if token.kind != "number":
            raise self.wrong(f"expected a duration such as 5m for {what}", token.at)
        seconds = self.value(token)
        if not seconds < 9.2e9:
            raise self.wrong("the duration is longer than 292 years", token.at)
        return math.floor(seconds * 1e9 + 0.5) // 1_000_000

    def positive(self) -> int:
        """Read a duration above 0, in milliseconds."""
        at = self.next.at
        found = self.duration("a range or a step")
        if found <= 0:
            raise self.wrong("a duration must be greater than 0", at)
        return found


class SelectorReading(Reading):
    """Reads selectors, ranges, `offset` and `@`. All methods raise QueryError."""

    def selector(self, at: int, matchers: list[Matcher]) -> Selector:
        """Read the braces of a selector, if there are any; `matchers` holds its name."""
        if matchers and self.sign != "{":
            return Selector(at, tuple(matchers))
        if matchers:
            self.take()
        while self.sign != "}":
            matcher, where = self.matcher()
            if matcher.label == NAME and any(m.label == NAME for m in matchers[:1]) and self._text[at] != "{":
                raise self.wrong("the name is given twice", where)
            matchers.append(matcher)
            if self.sign != "}":
                self.expect(",", "or } between the matchers")
        self.take()
        if not any(not one.test()("") for one in matchers):
            raise self.wrong("every series would match", at, "Name a metric, or a label that is not empty.")
        return Selector(at, tuple(matchers))

    def matcher(self) -> tuple[Matcher, int]:
        """Read a matcher; return it and where it begins."""
        token = self.take()
        if token.kind == "string":
            label = self.unquoted(token)
            if self.sign not in _MATCH:
                return Matcher(NAME, "=", label), token.at
        elif token.kind == "word" and ":" not in token.text:
            label = token.text
        else:
            raise self.wrong("expected a label or }", token.at)
        if self.sign not in _MATCH:
            raise self.wrong("expected =, !=, =~ or !~")
        operator = self.take().text
        value = self.take()
        if value.kind != "string":
            raise self.wrong("expected a value in quotes", value.at)
        matcher = Matcher(label, operator, self.unquoted(value))
        try:
            matcher.test()
        except RegexError as error:
            raise self.wrong(f"the pattern is not valid: {error.what}", value.at, error.do) from None
        return matcher, token.at

    def brackets(self, node: Node) -> Node:
        """Read a range, or the range and the step of a subquery."""
        at = self.take().at
        range_ms = self.positive()
        if self.sign == ":":
            self.take()
            step_ms = 0 if self.sign == "]" else self.positive()
            self.expect("]", "behind the step of a subquery")
            if kind(node) != "vector":
                raise self.wrong(f"a subquery is of an instant vector, not of {NAMES[kind(node)]}", at)
            return Subquery(node.at, node, range_ms, step_ms)
        self.expect("]", "or : behind a range")
        if not isinstance(node, Selector) or node.range_ms:
            raise self.wrong("a range belongs behind a selector only", at, "Write [5m:1m] for a subquery.")
        if node.offset_ms or node.moment is not None:
            raise self.wrong("the range belongs before offset and @", at)
        return node._replace(range_ms=range_ms)

    def shifted(self, node: Node, at: int, what: str) -> Selector | Subquery:
        """Return the node, which must be one that looks back in time."""
        if not isinstance(node, (Selector, Subquery)):
            raise self.wrong(f"{what} belongs behind a selector or a subquery only", at)
        return node

    def offset(self, node: Node) -> Node:
        """Read an offset."""
        at = self.take().at
        sign = self.take().text if self.sign in ("+", "-") else ""
        found = self.duration("offset")
        shifted = self.shifted(node, at, "offset")
        if shifted.offset_ms:
            raise self.wrong("offset is given twice", at)
        return shifted._replace(offset_ms=-found if sign == "-" else found)

    def moment(self, node: Node) -> Node:
        """Read what belongs behind `@`."""
        at = self.take().at
        shifted = self.shifted(node, at, "@")
        if shifted.moment is not None:
            raise self.wrong("@ is given twice", at)
        if self.sign in ("start", "end"):
            moment: Moment = "start" if self.take().text.lower() == "start" else "end"
            self.expect("(", f"behind {moment}")
            self.expect(")", f"behind {moment}(")
            return shifted._replace(moment=moment)
        sign = self.take().text if self.sign in ("+", "-") else ""
        token = self.take()
        if token.kind != "number":
            raise self.wrong("expected Unix seconds, start() or end() behind @", token.at)
        seconds = self.value(token)
        if not seconds < 9.2e15:
            raise self.wrong("there is no such time", token.at)
        ms = math.floor(seconds * 1000 + 0.5)
        return shifted._replace(moment=-ms if sign == "-" else ms)
