r"""Series selectors, as Prometheus writes them: `name`, `{job="node"}`, `name{device!="sda",mode=~"user|system"}`.

    selector := (name labels?) | labels                   spaces and line ends may come between all parts
    labels   := "{" (matcher ("," matcher)* ","?)? "}"
    matcher  := (label | string) ("=" | "!=" | "=~" | "!~") string | string          a string alone is the name
    string   := "..." | '...' with Go's escapes, on one line; `...` without any

A matcher sees a missing label as an empty one. Patterns are those of `agent.regex`. As in Prometheus, at least one
matcher must refuse an empty value; to select everything, leave the selector out. The name is the label `__name__`.

Source: "Time series selectors" of Prometheus's documentation (querying/basics) and promql/parser/lex.go.
Why this is not promql-parser: docs/decisions/0031-google-re2.md.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from agent.regex import Regex, RegexError
from buffer.errors import LimpetError
from buffer.model import Series

NAME = "__name__"
_TOKEN = re.compile(
    r"""(?P<space>[ \t\r\n]+)|(?P<name>[a-zA-Z_:][a-zA-Z0-9_:]*)|(?P<operator>=~|!~|!=|=)"""
    r"""|(?P<string>"(?:[^"\\\n]++|\\[^\n])*"|'(?:[^'\\\n]++|\\[^\n])*'|`[^`]*`)|(?P<open>["'`])|(?P<sign>[\s\S])"""
)
_PART = re.compile(
    r"""(?P<plain>[^\\]+)|\\(?:(?P<short>[abfnrtv\\'"])|(?P<octal>[0-3][0-7]{2})|x(?P<byte>[0-9a-fA-F]{2})"""
    r"""|u(?P<u>[0-9a-fA-F]{4})|U(?P<U>[0-9a-fA-F]{8})|(?P<wrong>))"""
)
_SHORT = dict(zip("abfnrtv\\'\"", b"\a\b\f\n\r\t\v\\'\"", strict=True))


class SelectorError(LimpetError):
    """The text is not a selector; the message says at which character."""


class StringError(ValueError):
    """The text in quotes is not a string: what is wrong with it, and at which of its characters."""

    def __init__(self, what: str, offset: int) -> None:
        super().__init__(what)
        self.what, self.offset = what, offset


class Matcher(NamedTuple):
    """One condition: the label, `=`, `!=`, `=~` or `!~`, and the value or pattern."""

    label: str
    operator: str
    value: str

    def test(self) -> Callable[[str], bool]:
        """Return a function that says whether a value of the label matches. Raises RegexError."""
        matches = Regex(self.value).matches if "~" in self.operator else self.value.__eq__
        wanted = not self.operator.startswith("!")
        return lambda found: matches(found) is wanted


class Selector:
    """What `parse` returns. `matchers` are its conditions. Raises RegexError."""

    def __init__(self, matchers: tuple[Matcher, ...]) -> None:
        self.matchers = matchers
        self._tests = [(matcher.label, matcher.test()) for matcher in matchers]

    def matches(self, series: Series) -> bool:
        """Return whether the series is selected."""
        labels = {**dict(series.labels), NAME: series.name}
        return all(test(labels.get(label, "")) for label, test in self._tests)


def parse(text: str) -> Selector:
    """Return the selector that the text is. Raises SelectorError."""
    return _Parser(text).selector()


class _Parser:
    """Reads token by token: the next one is `_word`, of `_kind`, at `_at`; at the end it is empty."""

    def __init__(self, text: str) -> None:
        self._text, self._tokens = text, _TOKEN.finditer(text)
        self._advance()

    def _advance(self) -> None:
        found = next((one for one in self._tokens if one.lastgroup != "space"), None)
        self._kind, self._word = (found.lastgroup, found[0]) if found else ("", "")
        self._at = found.start() if found else len(self._text)

    def _take(self) -> str:
        word = self._word
        self._advance()
        return word

    def selector(self) -> Selector:
        matchers: list[Matcher] = []
        if self._kind == "name":
            matchers.append(Matcher(NAME, "=", self._take()))
        elif self._word != "{":
            raise self._wrong("expected a metric name or {")
        if self._word == "{":
            self._labels(matchers)
        if self._word:
            raise self._wrong("expected the end")
        found = Selector(tuple(matchers))
        if found.matches(Series("", ())):
            raise self._wrong("every series would match", "Leave the selector out to have all of them.", at=0)
        return found

    def _labels(self, matchers: list[Matcher]) -> None:
        self._advance()
        while self._word != "}":
            at = self._at
            matcher = self._matcher()
            if matcher.label == NAME and any(m.label == NAME and m.operator == "=" for m in matchers):
                raise self._wrong("the name is given twice", at=at)
            matchers.append(matcher)
            if self._word == ",":
                self._advance()
            elif self._word != "}":
                raise self._wrong("expected , or }")
        self._advance()

    def _matcher(self) -> Matcher:
        quoted = self._kind in ("string", "open")
        if not quoted and (self._kind != "name" or ":" in self._word):
            raise self._wrong("expected a label name")
        label = self._string() if quoted else self._take()
        if self._kind != "operator":
            if quoted:
                return Matcher(NAME, "=", label)
            raise self._wrong("expected =, !=, =~ or !~")
        operator, at = self._take(), self._at
        if self._kind not in ("string", "open"):
            raise self._wrong("expected a value in quotes")
        matcher = Matcher(label, operator, self._string())
        try:
            matcher.test()
        except RegexError as error:
            raise self._wrong(f"the pattern is not valid: {error.what}", error.do, at=at) from None
        return matcher

    def _string(self) -> str:
        if self._kind == "open":
            raise self._wrong("the quotes are not closed")
        start = self._at
        try:
            return unquoted(self._take())
        except StringError as error:
            raise self._wrong(error.what, at=start + error.offset) from None

    def _wrong(
        self, what: str, do: str = 'Write it as Prometheus does: name{label="value"}.', at: int | None = None
    ) -> SelectorError:
        at = self._at if at is None else at
        rest = self._text[at : at + 12]
        near = f", at {rest!r}" if rest else ", at its end"
        return SelectorError("selector", f"{what}, character {at + 1}{near}", do)


def unquoted(word: str) -> str:
    """Return the value of a string in quotes. Raises StringError."""
    if word[0] == "`":
        return word[1:-1]
    out = b""
    for part in _PART.finditer(word[1:-1]):
        try:
            out += _bytes(part)
        except ValueError:
            raise StringError("not an escape that Prometheus knows", 1 + part.start()) from None
    try:
        return out.decode()
    except UnicodeDecodeError:
        raise StringError("the value is not UTF-8", 0) from None


def _bytes(part: re.Match[str]) -> bytes:
    """Return the UTF-8 of a piece of a string. Raises ValueError."""
    kind = part.lastgroup or ""
    if kind == "plain":
        return part[kind].encode("utf-8", "surrogatepass")
    if kind == "short":
        return bytes((_SHORT[part[kind]],))
    if kind in ("octal", "byte"):
        return bytes((int(part[kind], 8 if kind == "octal" else 16),))
    # This fails for what is no escape, half a surrogate pair, and what is beyond Unicode.
    return chr(int(part[kind], 16)).encode()
