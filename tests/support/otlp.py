"""OTLP requests, read by OpenTelemetry's own definitions (opentelemetry-proto), and stricter than receivers are.

`decode` is what a `Receiver` reads with: a series is a metric's name with all attributes of its points. `partial` is the body of an
answer that rejected points.
"""

from __future__ import annotations

import gzip
import math
import zlib
from collections.abc import Callable, Iterator, Mapping
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

import cramjam
from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)

from agent.scrape.exposition import go_float
from buffer.model import STALE, Labels
from tests.support.wire import TimeSeries, WireError, Write

UNPACKED: Mapping[str | None, Callable[[bytes], bytes]] = {
    "gzip": gzip.decompress,
    "zstd": lambda body: bytes(cramjam.zstd.decompress(body)),
    None: bytes,
}
CUMULATIVE, NO_VALUE, MS = 2, 1, 1_000_000


class Point(NamedTuple):
    """A point: whose it is, what it counts, and when, in ms."""

    resource: Mapping[str, str]
    metric: str
    help: str
    unit: str
    is_sum: bool
    labels: Labels
    start_ms: int
    at_ms: int
    value: float
    is_monotonic: bool = True
    of: str = ""
    """The kind of point that it is a part of: histogram or summary."""


def request(body: bytes, headers: Mapping[str, str]) -> Any:
    """Return the message of a request. Raises WireError."""
    if headers.get("content-type") != "application/x-protobuf":
        raise WireError(f"headers of no OTLP: {dict(headers)}")
    try:
        plain = UNPACKED[headers.get("content-encoding")](body)
        found = ExportMetricsServiceRequest()
        found.ParseFromString(plain)
    except (OSError, EOFError, zlib.error, cramjam.DecompressionError, DecodeError) as error:
        raise WireError(str(error)) from None
    return found


def points(body: bytes, headers: Mapping[str, str]) -> Iterator[Point]:
    """Yield the points of a request. Raises WireError where it is not as OTLP has it."""
    for resource in request(body, headers).resource_metrics:
        whose = dict(_labels(resource.resource.attributes))
        for scope in resource.scope_metrics:
            if scope.scope.name != "limpet" or not scope.scope.version:
                raise WireError("a scope without name and version")
            names = [(metric.name, metric.WhichOneof("data")) for metric in scope.metrics]
            if not all(name for name, _ in names):
                raise WireError("a metric without a name")
            for metric in scope.metrics:
                yield from _points(whose, metric)


def _points(whose: Mapping[str, str], metric: Any) -> Iterator[Point]:
    kind = metric.WhichOneof("data")
    if kind not in ("gauge", "sum", "histogram", "summary"):
        raise WireError(f"a metric of the kind {kind}")
    data = getattr(metric, kind)
    if kind in ("sum", "histogram") and data.aggregation_temporality != CUMULATIVE:
        raise WireError("a sum that is not cumulative")
    if not data.data_points:
        raise WireError("a metric without points")
    for point in data.data_points:
        if len(UnknownFieldSet(point)):
            raise WireError("a point with a field that nobody knows")
        if kind in ("histogram", "summary"):
            yield from _parts(whose, metric, kind, point)
            continue
        ended = bool(point.flags & NO_VALUE)
        if ended == (point.WhichOneof("value") == "as_double") or point.time_unix_nano % MS:
            raise WireError(f"a point that is none: {point}")
        if point.start_time_unix_nano >= point.time_unix_nano:
            raise WireError(f"a point before its start: {point}")
        if kind == "gauge" and point.start_time_unix_nano:
            raise WireError("a gauge with a start")
        yield Point(
            whose,
            metric.name,
            metric.description,
            metric.unit,
            kind == "sum",
            _labels(point.attributes),
            point.start_time_unix_nano // MS,
            point.time_unix_nano // MS,
            STALE if ended else point.as_double,
            kind == "gauge" or data.is_monotonic,
        )


def _parts(whose: Mapping[str, str], metric: Any, kind: str, point: Any) -> Iterator[Point]:
    """Yield the series that a point of a histogram or summary is."""
    ended, labels = bool(point.flags & NO_VALUE), _labels(point.attributes)
    values: dict[tuple[str, Labels], float] = {("_count", ()): float(point.count), ("_sum", ()): point.sum}
    if kind == "histogram":
        bounds = [*point.explicit_bounds, math.inf]
        if len(point.bucket_counts) != len(bounds) or sum(point.bucket_counts) != point.count:
            raise WireError(f"buckets that are none: {point}")
        counts = accumulate(point.bucket_counts)
        values |= {
            ("_bucket", (("le", go_float(str(at))),)): float(n) for at, n in zip(bounds, counts, strict=True)
        }
    else:
        bounds = [one.quantile for one in point.quantile_values]
        if any(one.value < 0 for one in point.quantile_values) or any(not 0 <= at <= 1 for at in bounds):
            raise WireError(f"quantiles that are none: {point}")
        values |= {
            ("", (("quantile", go_float(str(one.quantile))),)): one.value for one in point.quantile_values
        }
    if any(low >= high for low, high in pairwise(bounds)):
        raise WireError(f"bounds out of order: {point}")
    if point.time_unix_nano % MS or point.start_time_unix_nano >= point.time_unix_nano:
        raise WireError(f"a time that is none: {point}")
    if ended and any(values.values()):
        raise WireError(f"a point without a value that has one: {point}")
    for (suffix, own), value in values.items():
        yield Point(
            whose,
            metric.name + suffix,
            metric.description,
            metric.unit,
            False,
            tuple(sorted((*labels, *own))),
            point.start_time_unix_nano // MS,
            point.time_unix_nano // MS,
            STALE if ended else value,
            of=kind,
        )


def _labels(attributes: Any) -> Labels:
    found = tuple((one.key, str(getattr(one.value, one.value.WhichOneof("value")))) for one in attributes)
    if list(found) != sorted(found) or len(dict(found)) < len(found) or not all(map(all, found)):
        raise WireError(f"attributes out of order, twice or empty: {found}")
    return found


def decode(body: bytes, headers: Mapping[str, str]) -> Write:
    """Return a request as remote write has it. Raises WireError."""
    found: dict[Labels, list[tuple[int, float]]] = {}
    for one in points(body, headers):
        labels = tuple(sorted([*one.labels, ("__name__", one.metric)]))
        found.setdefault(labels, []).append((one.at_ms, one.value))
    return Write(tuple(TimeSeries(labels, tuple(samples)) for labels, samples in found.items()))


def partial(rejected: int, why: str) -> bytes:
    """Return the body of an answer that rejected so many points."""
    answer = ExportMetricsServiceResponse()
    answer.partial_success.rejected_data_points = rejected
    answer.partial_success.error_message = why
    written: bytes = answer.SerializeToString()
    return written
