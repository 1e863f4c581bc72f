"""An expression cut into words, numbers, durations, strings and signs, as Prometheus's lexer cuts it.

Source: promql/parser/lex.go of Prometheus 3.5, and "Literals" of its documentation (querying/basics).
"""

from __future__ import annotations

import re
from typing import NamedTuple

from agent.config.units import parse_duration
from agent.query.tree import wrong

_PARTS = r"""(?P<space>[ \t\r\n]+|\#[^\n]*)
|(?P<duration>(?:[0-9]+(?:ms|[smhdwy]))+)(?![a-zA-Z0-9_])
|(?P<number>0[xX][0-9a-fA-F_]+|(?:[0-9][0-9_]*+\.?[0-9]*+|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)(?![a-zA-Z0-9_.])
|(?P<word>WORD)
|(?P<string>"(?:[^"\\\n]++|\\[^\n])*"|'(?:[^'\\\n]++|\\[^\n])*'|`[^`]*`)
|(?P<sign>==|!=|<=|>=|=~|!~|[-+*/%^=<>(){}\[\],:@])"""
_OUTSIDE = re.compile(_PARTS.replace("WORD", "[a-zA-Z_:][a-zA-Z0-9_:]*"), re.VERBOSE)
# A colon in brackets is between the range and the step of a subquery; elsewhere it is a part of a name.
_IN_BRACKETS = re.compile(_PARTS.replace("WORD", "[a-zA-Z_][a-zA-Z0-9_]*"), re.VERBOSE)


class Token(NamedTuple):
    """A piece of an expression; at its end `kind` and `text` are empty."""

    kind: str
    text: str
    at: int


def cut(text: str) -> list[Token]:
    """Return the tokens of an expression; the last one is its end. Raises QueryError."""
    tokens, at, pattern = list[Token](), 0, _OUTSIDE
    while at < len(text):
        found = pattern.match(text, at)
        if found is None:
            what = "the quotes are not closed" if text[at] in "\"'`" else "there is no such number or sign"
            raise wrong(text, at, what)
        if found.lastgroup != "space":
            tokens.append(Token(found.lastgroup or "", found[0], at))
            pattern = _IN_BRACKETS if found[0] == "[" else _OUTSIDE if found[0] == "]" else pattern
        at = found.end()
    return [*tokens, Token("", "", len(text))]


def number(text: str) -> float:
    """Return the value of a number. Raises ValueError."""
    plain = text.replace("_", "")
    if plain[:2] in ("0x", "0X"):
        return float(int(plain, 16))
    if re.fullmatch("0[0-7]+", plain):  # as Go reads it
        return float(int(plain, 8))
    return float(plain)


def duration(text: str) -> int:
    """Return a duration in milliseconds: units in falling order, each at most once. Raises ValueError."""
    return round(parse_duration(text) * 1000)
