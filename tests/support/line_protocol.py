"""A strict reader of line protocol, which shares nothing with the writer.

It reads what InfluxDB 1.x and 2.x read (models/points.go): a comma, a space or an equals sign with a backslash before it
belongs to its name, every other backslash is itself. Beyond that it wants what a writer should do: tags in order, no tag
without a key or a value, no white space but one space between the parts, a timestamp, and numbers.
"""

from __future__ import annotations

import gzip
import math
import re
import zlib
from collections.abc import Mapping
from typing import NamedTuple

from tests.support.wire import Labels, TimeSeries, WireError, Write


class Point(NamedTuple):
    """One line: a measurement, its tags, its fields, and milliseconds since 1970."""

    measurement: str
    tags: Labels
    fields: tuple[tuple[str, float], ...]
    ms: int


class LineError(WireError):
    """The line cannot be read; the text is that of InfluxDB 1.8."""


def unpacked(body: bytes, headers: Mapping[str, str]) -> str:
    """Return the text of a request. Raises WireError."""
    if (
        headers.get("content-encoding") != "gzip"
        or headers.get("content-type") != "text/plain; charset=utf-8"
    ):
        raise WireError(f"headers of no line protocol: {dict(headers)}")
    try:
        return gzip.decompress(body).decode()
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise WireError(str(error)) from None


def parse(line: str) -> Point:
    """Return the point of a line. Raises LineError."""
    parts = re.split(r"(?<!\\) ", line)
    if len(parts) != 3 or re.search(r"[\t\r\f\0]", line):
        raise LineError(f"unable to parse '{line}': missing fields")
    name, *tags = re.split(r"(?<!\\),", parts[0])
    pairs = [_pair(tag, line) for tag in tags]
    if pairs != sorted(pairs) or len(dict(pairs)) < len(pairs) or not name:
        raise LineError(f"unable to parse '{line}': duplicate tags")
    fields = [_pair(field, line) for field in re.split(r"(?<!\\),", parts[1])]
    try:
        numbers = tuple((_plain(key), float(text)) for key, text in fields)
        ms = int(parts[2])
    except ValueError:
        raise LineError(f"unable to parse '{line}': invalid number") from None
    if not all(math.isfinite(number) for _, number in numbers):
        raise LineError(f"unable to parse '{line}': invalid number")
    labels = tuple((_plain(key), _plain(value)) for key, value in pairs)
    return Point(re.sub(r"\\([ ,])", r"\1", name), labels, numbers, ms)


def _pair(text: str, line: str) -> tuple[str, str]:
    found = re.split(r"(?<!\\)=", text)
    if len(found) != 2 or not all(found):
        raise LineError(f"unable to parse '{line}': missing tag value")
    return found[0], found[1]


def _plain(text: str) -> str:
    return re.sub(r"\\([ ,=])", r"\1", text)


def lines(text: str) -> list[str]:
    """Return the lines with points."""
    return [line for line in text.split("\n") if line and not line.startswith("#")]


def decode(body: bytes, headers: Mapping[str, str]) -> Write:
    """Return a request by the naming `metric`, as remote write has it. Raises WireError."""
    found: dict[Labels, list[tuple[int, float]]] = {}
    for point in map(parse, lines(unpacked(body, headers))):
        [(field, value)] = point.fields
        if field != "value":
            raise WireError(f"a field of another name: {field}")
        labels = tuple(sorted([*point.tags, ("__name__", point.measurement)]))
        found.setdefault(labels, []).append((point.ms, value))
    return Write(tuple(TimeSeries(labels, tuple(samples)) for labels, samples in found.items()))
