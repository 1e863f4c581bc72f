r"""Series selectors, as Prometheus writes them: `name`, `{job="node"}`, `name{device!="sda",mode=~"user|system"}`.

    selector := (name labels?) | labels                   spaces and line ends may stand between all parts
    labels   := "{" (matcher ("," matcher)* ","?)? "}"
    matcher  := (label | string) ("=" | "!=" | "=~" | "!~") string | string          a string alone is the name
    string   := "..." | '...' with Go's escapes, on one line; `...` as it is

Source: "Time series selectors" of Prometheus's documentation (querying/basics) and promql/parser/lex.go.
A label that a series does not have is empty to a matcher.  A pattern must match the whole value, and its
dot matches line ends too.  At least one matcher must refuse an empty value, as there: a selector of
everything is a selector left out.  The name of the series is the label `__name__`.

Patterns are Python's, with RE2's meaning of \d, \w, \s and \b (ASCII).  What only RE2 knows, such as
\pN, \z and [[:alpha:]], is an error, never a different meaning.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from typing import NamedTuple

from buffer.errors import LimpetError
from buffer.model import Series

NAME = "__name__"
_METRIC = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_SPACE = re.compile(r"[ \t\r\n]*")
_OPERATOR = re.compile(r"=~|!~|!=|=")
_PLAIN = {"a": 7, "b": 8, "f": 12, "n": 10, "r": 13, "t": 9, "v": 11, "\\": 92, "'": 39, '"': 34}
_ESCAPE = re.compile(r"""[abfnrtv\\'"]|[0-7]{3}|x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}""")


class SelectorError(LimpetError):
    """The text is not a selector; the message says at which character."""


class Matcher(NamedTuple):
    """One condition: the label, `=`, `!=`, `=~` or `!~`, and the value or pattern."""

    label: str
    operator: str
    value: str


class Selector:
    """What `parse` returns.  `matchers` are its conditions; `matches` tells whether a series fulfils all."""

    def __init__(self, matchers: tuple[Matcher, ...]) -> None:
        self.matchers = matchers
        self._tests = [(matcher.label, _test(matcher)) for matcher in matchers]

    def matches(self, series: Series) -> bool:
        """Return whether the series is selected."""
        labels = {**dict(series.labels), NAME: series.name}
        return all(test(labels.get(label, "")) for label, test in self._tests)


def parse(text: str) -> Selector:
    """Return the selector that the text is.  Raises SelectorError."""
    return Selector(_Parser(text).selector())


def _test(matcher: Matcher) -> Callable[[str], bool]:
    _, operator, value = matcher
    if operator in ("=", "!="):
        wanted = operator == "="
        return lambda found: (found == value) is wanted
    with warnings.catch_warnings():
        warnings.simplefilter("error", FutureWarning)  # sets in sets, which RE2 has and Python does not
        whole, wanted = re.compile(value, re.DOTALL | re.ASCII).fullmatch, operator == "=~"
    return lambda found: (whole(found) is not None) is wanted


class _Parser:
    def __init__(self, text: str) -> None:
        self._text, self._at = text, 0

    def selector(self) -> tuple[Matcher, ...]:
        self._space()
        matchers: list[Matcher] = []
        name = self._match(_METRIC)
        if name:
            matchers.append(Matcher(NAME, "=", name))
        self._space()
        if self._next("{"):
            self._labels(matchers)
            self._space()
        elif not name:
            raise self._wrong("expected a metric name or {")
        if self._at < len(self._text):
            raise self._wrong("expected the end")
        if all(_test(matcher)("") for matcher in matchers):
            self._at = 0
            raise self._wrong("every series would match", "Leave the selector out to have all of them.")
        return tuple(matchers)

    def _labels(self, matchers: list[Matcher]) -> None:
        while True:
            self._space()
            if self._next("}"):
                return
            at = self._at
            matcher = self._matcher()
            if matcher.label == NAME and any(m.label == NAME and m.operator == "=" for m in matchers):
                self._at = at
                raise self._wrong("the name is given twice")
            matchers.append(matcher)
            self._space()
            if not self._next(","):
                if not self._next("}"):
                    raise self._wrong("expected , or }")
                return

    def _matcher(self) -> Matcher:
        label = self._match(_LABEL)
        quoted = None if label else self._string()
        if not label and quoted is None:
            raise self._wrong("expected a label name")
        self._space()
        operator = self._match(_OPERATOR)
        if not operator:
            if quoted is not None:
                return Matcher(NAME, "=", quoted)
            raise self._wrong("expected =, !=, =~ or !~")
        self._space()
        at = self._at
        value = self._string()
        if value is None:
            raise self._wrong("expected a value in quotes")
        matcher = Matcher(label or quoted or "", operator, value)
        try:
            _test(matcher)
        except (re.error, FutureWarning, OverflowError, RecursionError) as error:
            self._at = at
            raise self._wrong(f"the pattern is not valid: {error}", "Correct the pattern.") from None
        return matcher

    def _string(self) -> str | None:
        quote = self._text[self._at : self._at + 1]
        if quote not in ('"', "'", "`") or not quote:
            return None
        start = self._at
        self._at += 1
        out = bytearray()
        while (char := self._text[self._at : self._at + 1]) != quote:
            if not char or (char == "\n" and quote != "`"):
                self._at = start
                raise self._wrong("the quotes are not closed")
            self._at += 1
            out += self._escape() if char == "\\" and quote != "`" else char.encode("utf-8", "surrogatepass")
        self._at += 1
        try:
            return out.decode("utf-8")
        except UnicodeDecodeError:
            self._at = start
            raise self._wrong("the value is not UTF-8") from None

    def _escape(self) -> bytes:
        escape = self._match(_ESCAPE)
        kind, digits = escape[:1], escape[1:]
        if kind and kind in _PLAIN:
            return bytes((_PLAIN[kind],))
        number = int(digits, 16) if digits and kind in "xuU" else int(escape, 8) if escape else -1
        small = kind not in ("u", "U")
        if not 0 <= number < (256 if small else 0x110000) or (not small and 0xD800 <= number < 0xE000):
            self._at -= len(escape) + 1
            raise self._wrong("not an escape that Prometheus knows")
        return bytes((number,)) if small else chr(number).encode()

    def _space(self) -> None:
        self._match(_SPACE)

    def _next(self, char: str) -> bool:
        found = self._text.startswith(char, self._at)
        self._at += found
        return found

    def _match(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self._text, self._at)
        if found is None:
            return ""
        self._at = found.end()
        return found.group()

    def _wrong(
        self, what: str, do: str = 'Write it as Prometheus does: name{label="value"}.'
    ) -> SelectorError:
        rest = self._text[self._at : self._at + 12]
        near = f", at {rest!r}" if rest else ", at its end"
        return SelectorError("selector", f"{what}, character {self._at + 1}{near}", do)
