r"""Lines of Prometheus's text format 0.0.4 and of OpenMetrics 1.0, one at a time, as Prometheus reads them.

    text 0.0.4   blank* name blank* [{ pairs }] blank* value [blank+ timestamp] blank*
    OpenMetrics  name[{pairs}] value [timestamp] [# {exemplar} ..]      single spaces; the last line is # EOF
    pairs        label="value", ..    a comma at the end is allowed; \" \\ \n are escapes, in HELP \\ \n

Promises:
- What Prometheus's own parser takes is read with the same names, labels and values; `le` of a histogram and
  `quantile` of a summary are written as it has written them since version 3: `0.5`, `1.0`, `1e+06`.
- Reading a line takes time linear in its length, whatever it is. Lines are cut by `lines_of`, which refuses one that
  is longer than LONGEST_LINE, and more than MOST_LINES.
- A malformed line is a ParseError that names the line: the exposition as a whole is refused, as Prometheus does.
- Timestamps and exemplars are read over: a tick has one time for all its samples. An empty label is no label.

Not read: names in quotes (UTF-8 names), which a target sends to nobody who does not ask for them, and a line
break within a label's value, which the format wants escaped.

Sources: "Exposition formats" of Prometheus's documentation, the OpenMetrics 1.0 specification; of Prometheus's
source model/textparse (promlex.l, openmetricslex.l, normalizeFloatsInLabelValues).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from sys import intern
from typing import NamedTuple

from agent.collectors.base import Labels

TEXT_TYPES = {b"counter": "counter", b"gauge": "gauge", b"histogram": "histogram", b"summary": "summary"} | {
    b"untyped": "unknown"
}
TYPES = {b"unknown": "unknown"} | {
    kind: kind.decode()
    for kind in (b"counter", b"gauge", b"histogram", b"gaugehistogram", b"summary", b"info", b"stateset")
}
SUFFIXES = ("_total", "_bucket", "_count", "_sum", "_created", "_info", "_gcount", "_gsum")
"""Endings of series names that the name of their family does not have."""

LONGEST_LINE = 1 << 16
"""Bytes of a line, and so of a name and of a label's value."""
MOST_LINES = 300_000
"""Lines of an exposition, comments and empty ones included: the most samples, with HELP and TYPE for each."""
MOST_FAMILIES = 20_000
"""Metrics that an exposition may describe with HELP, TYPE and UNIT."""
MOST_METADATA = 4 << 20
"""Bytes of these descriptions together."""

# Every repetition is possessive: none is tried again in another length, so the time is linear in the line.
_NAME = rb"[a-zA-Z_:][a-zA-Z0-9_:]*+"
_PAIRS = rb'(?:\{((?:[^"}\n]++|"(?:[^"\\\n]++|\\.)*+")*+)\})?+'
_TEXT_LINE = re.compile(
    rb"[ \t]*+(" + _NAME + rb")[ \t]*+" + _PAIRS + rb"[ \t]*+([^ \t{]++)([ \t]++[0-9]++)?+[ \t]*+"
)
_OPEN_LINE = re.compile(rb"(" + _NAME + rb")" + _PAIRS + rb" ([^ ]++)( [^ #]++)?+( # \{.*+)?+")
_PAIR = re.compile(rb'[ \t]*+([a-zA-Z_][a-zA-Z0-9_]*+)[ \t]*+=[ \t]*+"((?:[^"\\]++|\\.)*+)"[ \t]*+,?+[ \t]*+')
_OPEN_PAIR = re.compile(rb'([a-zA-Z_][a-zA-Z0-9_]*+)="((?:[^"\\]++|\\.)*+)"(?:,|$)')
_META = re.compile(rb"[ \t]*+#[ \t]++(HELP|TYPE)[ \t]++(" + _NAME + rb")(?:[^a-zA-Z0-9_:](.*+))?+")
_OPEN_META = re.compile(rb"# (HELP|TYPE|UNIT) (" + _NAME + rb")(?: (.*+))?+")
_LIKE_META = re.compile(rb"[ \t]*+#[ \t]++(?:HELP|TYPE)[ \t]")
_ESCAPE = re.compile(rb'\\([\\"n])')
_HELP_ESCAPE = re.compile(rb"\\([\\n])")
_UNESCAPED = {b"\\": b"\\", b'"': b'"', b"n": b"\n"}
_LONGEST_SHOWN = 80


class ParseError(ValueError):
    """An exposition is malformed; the message says what is wrong and shows the beginning of the line."""


class Family(NamedTuple):
    """The metadata of a metric in an exposition."""

    type: str = "unknown"
    unit: str = ""
    help: str = ""


class Line(NamedTuple):
    """A sample: the bytes that are the same each time, and what they say; `value` as it is written.

    The labels are in the order of the line, the empty ones left out. `last`: nothing is behind the value.
    """

    key: bytes
    name: str
    labels: Labels
    value: bytes
    timestamp: bool
    last: bool


NO_FAMILY = Family()


def lines_of(body: bytes, end: int) -> Iterator[list[bytes]]:
    """Yield the lines before `end`, in pieces of LONGEST_LINE bytes at most, so that few are in memory. Raises ParseError."""
    at, count = 0, 0
    while at < end:
        stop = end if end - at <= LONGEST_LINE else body.rfind(b"\n", at, at + LONGEST_LINE + 1)
        if stop < 0:
            raise ParseError(
                f"a line of more than {LONGEST_LINE} bytes: {shown(body[at : at + LONGEST_LINE])}"
            )
        lines = body[at:stop].split(b"\n")
        count += len(lines)
        if count > MOST_LINES:
            raise ParseError(f"more than {MOST_LINES} lines")
        yield lines
        at = stop + 1


def sample(line: bytes, families: Mapping[str, Family], *, openmetrics: bool) -> Line:
    """Read a line that is no comment and not empty. Raises ParseError; the value is not looked at."""
    match = (_OPEN_LINE if openmetrics else _TEXT_LINE).fullmatch(line)
    if match is None:
        raise ParseError(f"not a sample: {shown(line)}")
    raw, inside, value, timestamp = match.group(1, 2, 3, 4)
    name = intern(raw.decode())
    labels = _labels(inside, line, openmetrics=openmetrics) if inside else []
    kind = family(name, families).type
    if kind in _NORMALIZED:
        normalized = _NORMALIZED[kind]
        labels = [(key, go_float(text) if key == normalized else text) for key, text in labels]
    key = line[: match.end(2) + 1] if inside is not None else line[: match.end(1)]
    return Line(
        key,
        name,
        tuple(pair for pair in labels if pair[1]),
        value,
        timestamp is not None,
        match.end(3) == len(line),
    )


_NORMALIZED = {"histogram": "le", "summary": "quantile"}


def _labels(inside: bytes, line: bytes, *, openmetrics: bool) -> list[tuple[str, str]]:
    found: dict[str, str] = {}
    at, pattern = 0, _OPEN_PAIR if openmetrics else _PAIR
    if not openmetrics and not inside.strip(b" \t"):
        return []
    while at < len(inside):
        match = pattern.match(inside, at)
        if match is None:
            raise ParseError(f"not labels: {shown(line)}")
        at = match.end()
        name, raw = match.group(1, 2)
        if b"\\" in raw:
            raw = _ESCAPE.sub(lambda escape: _UNESCAPED[escape[1]], raw)
        key = intern(name.decode())
        if key in found:
            raise ParseError(f"the label {key} occurs twice: {shown(line)}")
        if key == "__name__":
            raise ParseError(f"a label must not be called __name__: {shown(line)}")
        try:
            found[key] = raw.decode()
        except UnicodeDecodeError:
            raise ParseError(f"a label's value is not UTF-8: {shown(line)}") from None
    return list(found.items())


def metadata(comments: Iterable[bytes], *, openmetrics: bool) -> dict[str, Family]:
    """Return what the lines that begin with # say of each metric. Raises ParseError."""
    families: dict[str, Family] = {}
    pattern, kinds = (_OPEN_META, TYPES) if openmetrics else (_META, TEXT_TYPES)
    size = 0
    for line in comments:
        match = pattern.fullmatch(line)
        if match is None:
            if openmetrics or _LIKE_META.match(line):
                raise ParseError(f"not HELP, TYPE or UNIT as they should be: {shown(line)}")
            continue
        word, raw, text = match.group(1, 2, 3)
        name, text = raw.decode(), text or b""
        size += len(line)
        if size > MOST_METADATA or len(families) > MOST_FAMILIES:
            raise ParseError(
                f"the descriptions of more than {MOST_FAMILIES} metrics, or more than {MOST_METADATA} bytes of them"
            )
        known = families.get(name, NO_FAMILY)
        if word == b"TYPE":
            if text not in kinds:
                raise ParseError(f"not a type: {shown(line)}")
            families[name] = known._replace(type=kinds[text])
            continue
        if b"\\" in text:
            escape = _ESCAPE if openmetrics else _HELP_ESCAPE
            text = escape.sub(lambda match: _UNESCAPED[match[1]], text)
        try:
            plain = text.decode()
        except UnicodeDecodeError:
            raise ParseError(f"not UTF-8: {shown(line)}") from None
        if word == b"UNIT":
            if plain and not name.endswith(f"_{plain}"):
                raise ParseError(f"the unit is not the end of the name: {shown(line)}")
            families[name] = known._replace(unit=plain)
        else:
            families[name] = known._replace(help=plain)
    return families


def family(name: str, families: Mapping[str, Family]) -> Family:
    """Return the metadata of the metric that a series of this name belongs to."""
    found = families.get(name)
    if found is None:
        for suffix in SUFFIXES:
            if name.endswith(suffix):
                found = families.get(name.removesuffix(suffix))
                break
    return found or NO_FAMILY


def shown(line: bytes) -> str:
    """Return the beginning of a line, for a message."""
    text = line[: 4 * _LONGEST_SHOWN].decode("utf-8", "replace")
    return repr(text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}...")


def go_float(text: str) -> str:
    """Return a number as Prometheus writes it in a label: shortest, with a point or an exponent; else as it is."""
    if "_" in text or text.strip() != text:
        return text
    try:
        value = float(text)
    except ValueError:
        return text
    if value != value:
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "+Inf" if value > 0 else "-Inf"
    shortest = repr(value + 0.0)  # -0 is written 0.0
    if abs(value) < 1e6 or "e" in shortest:
        return shortest
    digits = shortest.lstrip("-").removesuffix(".0").replace(".", "").rstrip("0")
    return f"{value:.{len(digits) - 1}e}"  # Go has an exponent from 1e+06 on, Python from 1e+16
