r"""Lines of Prometheus's text format 0.0.4 and of OpenMetrics 1.0, one at a time, as Prometheus reads them.

    text 0.0.4   blank* name blank* [{ pairs }] blank* value [blank+ timestamp] blank*
    OpenMetrics  name[{pairs}] value [timestamp] [# {exemplar} ..]      single spaces; the last line is # EOF
    pairs        label="value", ..    a comma at the end is allowed; \" \\ \n are escapes, in HELP \\ \n
                 "name"               a name or label in quotes can be any UTF-8; a name is then between the pairs

Promises:
- What Prometheus's own parser takes is read with the same names, labels and values, and what it refuses is refused
  (docs/scraping.md lists the exceptions); `le` of a histogram and
  `quantile` of a summary are written as it has written them since version 3: `0.5`, `1.0`, `1e+06`.
- Reading a line takes time linear in its length, whatever it is.
- A malformed line is a ParseError that names the line: the exposition as a whole is refused, as Prometheus does.
- An exemplar is checked. An empty label is no label.

Sources: "Exposition formats" of Prometheus's documentation, the OpenMetrics 1.0 specification; of Prometheus's
source model/textparse (promlex.l, openmetricslex.l, normalizeFloatsInLabelValues).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import isfinite, isinf
from sys import intern
from typing import NamedTuple

from agent.collectors.base import Labels
from agent.scrape.families import Family, family
from agent.scrape.lines import BETWEEN, NAME, QUOTED, ParseError, quoted_name, shown, unquoted

# The time is linear in the line, as in agent.scrape.lines.
_LABEL = rb"[a-zA-Z_][a-zA-Z0-9_]*+"
_QUOTED_LINE = rb'"(?:[^"\\\n]++|\\.)*"'
_SERIES = rb"(?:(" + NAME + rb")|(?![a-zA-Z_:]))%s(?:\{(" + BETWEEN + rb")\})?"
_TEXT_LINE = re.compile(
    rb"[ \t]*+" + _SERIES % rb"[ \t]*+" + rb"[ \t]*+([^ \t\n{]++)(?:[ \t]++([0-9]++))?[ \t]*+"
)
_EXEMPLAR = rb" # \{(" + BETWEEN + rb")\} ([^ \n]++)(?: ([^ \n]++))?"
_OPEN_LINE = re.compile(_SERIES % b"" + rb" ([^ \n]++)(?: (?!# \{)([^ \n]++))?(?:" + _EXEMPLAR + rb")?")
_TEXT = rb"(" + _LABEL + rb"|" + QUOTED + rb")"
_VALUE = rb"=[ \t]*+(" + QUOTED + rb")[ \t]*+,?+"
_PAIR = re.compile(rb"[ \t]*+" + _TEXT + rb"[ \t]*+(?:" + _VALUE + rb"|(?:,|\Z))[ \t]*+")
_OPEN_PAIR = re.compile(_TEXT + rb"(?:=(" + _QUOTED_LINE + rb"))?(?:,|\Z)")
_NUMBER = re.compile(
    rb"(?i:[+-]?(?:[0-9]++\.?[0-9]*+(?:e[+-]?[0-9]++)?|\.[0-9]++(?:e[+-]?[0-9]++)?|inf(?:inity)?)|nan)"
)
_LATEST = 1 << 63


class Example(NamedTuple):
    """An exemplar: its labels, its value, and when it was, in seconds since 1970; None: it does not say."""

    labels: Labels
    value: float
    seconds: float | None


class Line(NamedTuple):
    """A sample: the bytes that are the same each time, and what they say; `value` as it is written.

    The labels are in the order of the line, the empty ones left out. `timestamp` is in ms, None where there is none.
    `last`: nothing is behind the value.
    """

    key: bytes
    name: str
    labels: Labels
    value: bytes
    timestamp: int | None
    last: bool
    exemplar: Example | None = None


def sample(line: bytes, families: Mapping[str, Family], *, openmetrics: bool, lenient: bool = False) -> Line:
    """Read a line that is no comment and not empty. Raises ParseError; the value is not looked at.

    `lenient`: a name between the pairs may be without quotes, which node_exporter takes and Prometheus does not.
    """
    match = (_OPEN_LINE if openmetrics else _TEXT_LINE).fullmatch(line)
    if match is None:
        raise ParseError(f"not a sample: {shown(line)}")
    raw, inside, value, timestamp = match.group(1, 2, 3, 4)
    pattern = _OPEN_PAIR if openmetrics else _PAIR
    quoted, labels = _labels(inside, pattern, line, bare=lenient) if inside else (None, [])
    if (raw is None) == (quoted is None):
        raise ParseError(f"not a sample: {shown(line)}")
    name = intern(raw.decode()) if quoted is None else quoted
    if not name:
        raise ParseError(f"a name that is empty: {shown(line)}")
    exemplar = None
    if openmetrics and match.group(5) is not None:
        exemplar = _exemplar(match[5], match[6], match[7], line)
    kind = family(name, families).type
    if kind in _NORMALIZED:
        normalized = _NORMALIZED[kind]
        labels = [(key, go_float(text) if key == normalized else text) for key, text in labels]
    end = match.end(1) if inside is None else match.end(2) + 1
    return Line(
        line[:end],
        name,
        tuple(pair for pair in labels if pair[1]),
        value,
        None if timestamp is None else _milliseconds(timestamp, line, openmetrics=openmetrics),
        match.end(3) == len(line),
        exemplar,
    )


_NORMALIZED = {"histogram": "le", "summary": "quantile"}


def _milliseconds(text: bytes, line: bytes, *, openmetrics: bool) -> int:
    if not openmetrics:
        digits = text.lstrip(b"0") or b"0"
        if len(digits) < 20 and int(digits) < _LATEST:
            return int(digits)
    elif (seconds := number(text)) is not None and isfinite(seconds):
        return int(max(-_LATEST, min(_LATEST, seconds * 1000)))
    raise ParseError(f"not a timestamp: {shown(line)}")


def _exemplar(inside: bytes, value: bytes, timestamp: bytes | None, line: bytes) -> Example:
    named, labels = _labels(inside, _OPEN_PAIR, line, is_exemplar=True) if inside else (None, [])
    found, seconds = number(value), 0.0 if timestamp is None else number(timestamp)
    if named is not None or b"\0" in inside or found is None or seconds is None or not isfinite(seconds):
        raise ParseError(f"not an exemplar: {shown(line)}")
    return Example(tuple(labels), found, None if timestamp is None else seconds)


def _labels(
    inside: bytes, pattern: re.Pattern[bytes], line: bytes, *, is_exemplar: bool = False, bare: bool = False
) -> tuple[str | None, list[tuple[str, str]]]:
    """Return the labels, and the name where it is between them: in quotes, or `bare` too. Raises ParseError."""
    found: dict[str, str] = {}
    name: str | None = None
    at = len(inside) if pattern is _PAIR and not inside.strip(b" \t") else 0
    while at < len(inside):
        match = pattern.match(inside, at)
        if match is None:
            raise ParseError(f"not labels: {shown(line)}")
        at = match.end()
        raw, text = match.group(1, 2)
        key = quoted_name(raw, line) if raw[:1] == b'"' else intern(raw.decode())
        if text is None:
            if name is not None or not (bare or raw[:1] == b'"'):
                raise ParseError(f"not labels: {shown(line)}")
            name = key
            continue
        value = unquoted(text, line)
        if is_exemplar:
            found[key] = value  # Prometheus has no rule for a name that is there twice
            continue
        if key in found:
            if value and found[key]:
                raise ParseError(f"the label {key} occurs twice: {shown(line)}")
            value = ""  # as Prometheus has it: of a label that is empty once nothing is left
        if key == "__name__" or (value and not key):
            raise ParseError(f"a label must not be called {key!r}: {shown(line)}")
        found[key] = value
    return name, list(found.items())


def number(text: bytes) -> float | None:
    """Return a number as Go reads it; None: it is none, or more than a float can hold."""
    if _NUMBER.fullmatch(text) is None:
        return None
    value = float(text)
    return None if isinf(value) and text[-1:].isdigit() else value


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
