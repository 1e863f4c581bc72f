"""The series of a histogram or summary into points that hold it whole (opentelemetry-proto 1.x, metrics/v1): pure.

    Histogram      := (0x0a length HistogramPoint)* 0x10 0x02                                   cumulative
    HistogramPoint := [0x11 start u64] 0x19 time u64 0x21 count u64 0x29 sum f64 0x32 length (u64)* 0x3a length (f64)* (0x4a length KeyValue)*
                      [0x50 0x01]                                           no value: the series ended
    Summary        := (0x0a length SummaryPoint)*
    SummaryPoint   := [0x11 start u64] 0x19 time u64 0x21 count u64 0x29 sum f64 (0x32 0x12 0x09 quantile f64 0x11 value f64)* (0x3a length KeyValue)*
                      [0x40 0x01]

Promises:

1. A point has the count, the sum and each bucket or quantile of its instant, bit for bit. A bucket of OTLP counts what is above the
   bound before it, so it is the difference of two series.
2. There is no point for an instant at which these are no histogram or summary: a part is missing, counts are not whole numbers or fall
   from bucket to bucket, the largest bucket is not the count, a quantile is negative, or only some of the series ended. Such an
   instant is in `left`, and its samples are sent as those of any other series.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from math import inf
from struct import Struct, pack
from typing import NamedTuple

from agent.destinations.protobuf import field
from buffer.model import is_stale

HISTOGRAM, SUMMARY = 3, 4
"""Kinds of a metric, behind those of `semantic`."""

COUNT, SUM, AT = "_count", "_sum", "_bucket"
_MOST = 1 << 53
"""Whole numbers below it are exact as a double."""
_TIME, _HEAD = Struct("<BQ"), Struct("<BQBQBd")
_QUANTILE = Struct("<BdBd")
_ENDED = {HISTOGRAM: b"\x50\x01", SUMMARY: b"\x40\x01"}
_BY = {HISTOGRAM: "le", SUMMARY: "quantile"}
_KINDS = {"histogram": HISTOGRAM, "summary": SUMMARY}


class Role(NamedTuple):
    """What a series is in a histogram or summary: the kind and name of that, and which of its series."""

    kind: int
    metric: str
    label: str
    """The label that it has besides those of the whole; empty for count and sum."""
    what: str
    at: float = 0.0
    """The bucket's upper bound, or the quantile."""


class Whole(NamedTuple):
    """What the series of a histogram or summary have in common. Two that are equal are of the same."""

    kind: int
    resource: bytes
    head: bytes
    attributes: bytes


class Member(NamedTuple):
    """A series of a histogram or summary, with its samples."""

    role: Role
    values: Sequence[float]
    starts: Sequence[int] = ()
    """When it began by each of its samples, in ns, 0 where that is not known; empty: it never is."""


class Points(NamedTuple):
    """Points, each as a field of its metric's data, and the indices of the instants for which there is none."""

    points: list[bytes]
    left: list[int]


def role(kind: str, name: str, labels: Iterable[tuple[str, str]]) -> Role | None:
    """Return what a series of a metric of this type is; None where it is a series like any other."""
    found = _KINDS.get(kind)
    if found is None:
        return None
    by = _BY[found]
    text = dict(labels).get(by)
    if text is None:
        for what in (COUNT, SUM):
            if name.endswith(what) and name != what:
                return Role(found, name.removesuffix(what), "", what)
        return None
    at = _number(text)
    if found == HISTOGRAM:
        is_one = name.endswith(AT) and name != AT and at is not None and at > -inf
        return Role(found, name.removesuffix(AT), by, AT, at) if is_one and at is not None else None
    return Role(found, name, by, AT, at) if at is not None and 0 <= at <= 1 else None


def points(whole: Whole, members: Sequence[Member], times: Sequence[int]) -> Points:
    """Return the points of a histogram or summary. `times` are in ns, and each member has a value for each."""
    ordered = _ordered(whole.kind, members)
    if ordered is None:
        return Points([], list(range(len(times))))
    count, total, *steps = ordered
    make = _histogram(steps) if whole.kind == HISTOGRAM else _summary(steps)
    columns = zip(times, count.values, total.values, *[one.values for one in steps], strict=True)
    found = Points([], [])
    for i, (time, counted, added, *values) in enumerate(columns):
        ended = [is_stale(value) for value in (counted, added, *values)]
        body = None
        if all(ended):
            body = make(time, 0.0, 0.0, [0.0] * len(values))
        elif not any(ended) and _is_whole(counted):
            body = make(time, counted, added, values)
        if body is None:
            found.left.append(i)
            continue
        start = _TIME.pack(0x11, count.starts[i]) if count.starts and count.starts[i] else b""
        last = _ENDED[whole.kind] if all(ended) else b""
        found.points.append(field(0x0A, start + body + whole.attributes + last))
    return found


def _ordered(kind: int, members: Sequence[Member]) -> list[Member] | None:
    """Return the count, the sum, and the others by bound or quantile; None where one is missing or there twice."""
    found = {(one.role.what, one.role.at): one for one in members}
    count, total = found.pop((COUNT, 0.0), None), found.pop((SUM, 0.0), None)
    steps = [one for _, one in sorted(found.items())]
    if count is None or total is None or len(steps) + 2 != len(members):
        return None
    if kind == HISTOGRAM and (not steps or steps[-1].role.at != inf):
        return None
    return [count, total, *steps]


_Make = Callable[[int, float, float, Sequence[float]], bytes | None]
"""Makes the body of a point, without attributes, of time, count, sum and the values of the buckets or quantiles."""


def _histogram(steps: Sequence[Member]) -> _Make:
    bounds = [one.role.at for one in steps[:-1]]
    packed = field(0x3A, pack(f"<{len(bounds)}d", *bounds)) if bounds else b""
    counts = Struct(f"<{len(steps)}Q")

    def make(time: int, count: float, total: float, values: Sequence[float]) -> bytes | None:
        if not all(map(_is_whole, values)) or values[-1] != count:
            return None
        each = [int(values[0]), *(int(high) - int(low) for low, high in pairwise(values))]
        if min(each) < 0:
            return None
        return (
            _HEAD.pack(0x19, time, 0x21, int(count), 0x29, total) + field(0x32, counts.pack(*each)) + packed
        )

    return make


def _summary(steps: Sequence[Member]) -> _Make:
    quantiles = [one.role.at for one in steps]

    def make(time: int, count: float, total: float, values: Sequence[float]) -> bytes | None:
        if any(value < 0 for value in values):
            return None
        pairs = zip(quantiles, values, strict=True)
        each = [field(0x32, _QUANTILE.pack(0x09, quantile, 0x11, value)) for quantile, value in pairs]
        return _HEAD.pack(0x19, time, 0x21, int(count), 0x29, total) + b"".join(each)

    return make


def _is_whole(value: float) -> bool:
    return 0 <= value < _MOST and value.is_integer()


def _number(text: str) -> float | None:
    """Return the number that a bound or quantile is; None where it is none."""
    if "_" in text or text != text.strip() or not text.isascii():  # Python takes all of them
        return None
    try:
        found = float(text)
    except ValueError:
        return None
    return None if found != found else found
