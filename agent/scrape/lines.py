"""The lines of an exposition, and what is in quotes in them: linear in the text, and limited.

Lines are cut by `lines_of`, which refuses one that is longer than LONGEST_LINE, and more than MOST_LINES. A line break within
quotes ends no line: `Joiner` puts such lines together again, up to LONGEST_LINE.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

LONGEST_LINE = 1 << 16
"""Bytes of a line, and so of a name and of a label's value."""
MOST_LINES = 300_000
"""Lines of an exposition, comments and empty ones included: the most samples, with HELP and TYPE for each."""

# Linear in the line: a repetition of characters is possessive, so none is tried again in another length, and what a group
# repeats begins with a character of its own, so there is one way to read a line. Groups are not possessive: Python before
# 3.11.5 (Debian 12 has 3.11.2) stays behind what such a group tried in vain (github.com/python/cpython/issues/106052).
NAME = rb"[a-zA-Z_:][a-zA-Z0-9_:]*+"
QUOTED = rb'"[^"\\]*+(?:\\.[^"\\]*+)*"'
BETWEEN = rb'[^"}]*+(?:' + QUOTED + rb'[^"}]*+)*'
"""What is between braces."""
_REST = rb'"(?:[^"\\]++|\\.)*\\?+'
_OPEN_SAMPLE = re.compile(rb"[ \t]*+(?:" + NAME + rb")?[ \t]*+\{" + BETWEEN + _REST)
_STILL_OPEN_SAMPLE = re.compile(rb'(?:[^"\\]++|\\.)*(?:\\|"' + BETWEEN + _REST + rb")?")
_OPEN_COMMENT = re.compile(rb"[ \t]*+#[ \t]++(?:HELP|TYPE)[ \t]++" + _REST)
_OPEN_COMMENT_IN_OPENMETRICS = re.compile(rb"# (?:HELP|TYPE|UNIT) " + _REST)
_STILL_OPEN_COMMENT = re.compile(rb'(?:[^"\\]++|\\.)*\\?+')
_ESCAPE = re.compile(rb'\\([\\"n])')
_UNESCAPED = {b"\\": b"\\", b'"': b'"', b"n": b"\n"}
_LONGEST_SHOWN = 80


class ParseError(ValueError):
    """An exposition is malformed; the message says what is wrong and shows the beginning of the line."""


def lines_of(body: bytes, end: int) -> Iterator[list[bytes]]:
    """Yield the lines before `end`, in pieces of LONGEST_LINE bytes at most, so that few are in memory. Raises ParseError."""
    at, count = 0, 0
    while at < end:
        stop = end if end - at <= LONGEST_LINE else body.rfind(b"\n", at, at + LONGEST_LINE + 1)
        if stop < 0:
            raise _too_long(body[at : at + LONGEST_LINE])
        lines = body[at:stop].split(b"\n")
        count += len(lines)
        if count > MOST_LINES:
            raise ParseError(f"more than {MOST_LINES} lines")
        yield lines
        at = stop + 1


class Joiner:
    """Puts lines together that a line break within quotes divides."""

    def __init__(self, *, openmetrics: bool) -> None:
        self._comment = _OPEN_COMMENT_IN_OPENMETRICS if openmetrics else _OPEN_COMMENT
        self._parts: list[bytes] = []
        self._size = 0

    def __call__(self, lines: Iterable[bytes]) -> list[bytes]:
        """Return the lines that end here; keep the beginning of one that does not. Raises ParseError."""
        whole = []
        for line in lines:
            # What is open has an odd number of quotes, those that are escaped apart.
            if not self._parts and line.count(b'"') % 2 == 0 and b"\\" not in line:
                whole.append(line)
                continue
            self._size += len(line) + 1
            if self._size > LONGEST_LINE + 1:
                raise _too_long(self._parts[0] if self._parts else line)
            is_over = not self._is_open(line)
            self._parts.append(line)
            if is_over:
                whole += self.rest()
        return whole

    def _is_open(self, line: bytes) -> bool:
        if not self._parts:
            pattern = self._comment if is_comment(line) else _OPEN_SAMPLE
        else:
            pattern = _STILL_OPEN_COMMENT if is_comment(self._parts[0]) else _STILL_OPEN_SAMPLE
        return pattern.fullmatch(line) is not None

    def rest(self) -> list[bytes]:
        """Return the line that was begun, if there is one."""
        whole = [b"\n".join(self._parts)] if self._parts else []
        self._parts, self._size = [], 0
        return whole


def _too_long(line: bytes) -> ParseError:
    return ParseError(f"a line of more than {LONGEST_LINE} bytes: {shown(line)}")


def is_comment(line: bytes) -> bool:
    """Return whether a line is no sample: a comment, HELP, TYPE or UNIT."""
    return line.lstrip(b" \t")[:1] == b"#"


def quoted_name(text: bytes, line: bytes) -> str:
    """Return a name that is in quotes. Raises ParseError."""
    if b"\0" in text:
        raise ParseError(f"a name with a zero byte: {shown(line)}")
    return unquoted(text, line)


def unquoted(text: bytes, line: bytes) -> str:
    """Return the text that is in quotes. Raises ParseError."""
    text = unescaped(text[1:-1])
    try:
        return text.decode()
    except UnicodeDecodeError:
        raise ParseError(f"not UTF-8: {shown(line)}") from None


def unescaped(text: bytes, escape: re.Pattern[bytes] = _ESCAPE) -> bytes:
    """Return the text without its escapes."""
    return escape.sub(lambda match: _UNESCAPED[match[1]], text) if b"\\" in text else text


def shown(line: bytes) -> str:
    """Return the beginning of a line, for a message."""
    text = line[: 4 * _LONGEST_SHOWN].decode("utf-8", "replace")
    return repr(text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}...")
