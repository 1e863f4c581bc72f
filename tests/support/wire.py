"""Remote write 1.0 as the specification has it, by protobuf's own library.

The agent's encoder is its own; this is what it is checked against. The field numbers are those of
prometheus/prompb (types.proto, remote.proto), the rules those of the remote write 1.0 specification,
sections "Protocol", "Labels" and "Ordering". `decode` refuses what breaks a MUST of them, so that a receiver
built on it is stricter than Prometheus is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import pairwise
from typing import Any, NamedTuple

import snappy
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet

Labels = tuple[tuple[str, str], ...]

_F = descriptor_pb2.FieldDescriptorProto
_MESSAGES = {
    "Label": (("name", 1, _F.TYPE_STRING), ("value", 2, _F.TYPE_STRING)),
    "Sample": (("value", 1, _F.TYPE_DOUBLE), ("timestamp", 2, _F.TYPE_INT64)),
    "TimeSeries": (("labels", 1, "Label"), ("samples", 2, "Sample")),
    "MetricMetadata": (
        ("type", 1, _F.TYPE_INT32),  # an enum has the same form on the wire
        ("metric_family_name", 2, _F.TYPE_STRING),
        ("help", 4, _F.TYPE_STRING),
        ("unit", 5, _F.TYPE_STRING),
    ),
    "WriteRequest": (("timeseries", 1, "TimeSeries"), ("metadata", 3, "MetricMetadata")),
}
_TYPES = {0: "unknown", 1: "counter", 2: "gauge"}
_METRIC_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_LABEL_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")


class WireError(ValueError):
    """The bytes are no valid remote write 1.0 request."""


class TimeSeries(NamedTuple):
    """Labels, the name among them, and samples as (milliseconds since 1970, value)."""

    labels: Labels
    samples: tuple[tuple[int, float], ...]


class Metadata(NamedTuple):
    """What a metric family is."""

    name: str
    type: str
    unit: str
    help: str


class Write(NamedTuple):
    """One request."""

    series: tuple[TimeSeries, ...]
    metadata: tuple[Metadata, ...] = ()

    @property
    def samples(self) -> int:
        """How many samples the request carries."""
        return sum(len(series.samples) for series in self.series)


def _write_request() -> Any:
    file = descriptor_pb2.FileDescriptorProto(name="remote.proto", package="prometheus", syntax="proto3")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, number, kind in fields:
            if isinstance(kind, str):
                message.field.add(
                    name=field,
                    number=number,
                    label=_F.LABEL_REPEATED,
                    type=_F.TYPE_MESSAGE,
                    type_name=f".prometheus.{kind}",
                )
            else:
                message.field.add(name=field, number=number, label=_F.LABEL_OPTIONAL, type=kind)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("prometheus.WriteRequest"))


WriteRequest = _write_request()


def encode(series: Iterable[TimeSeries]) -> bytes:
    """Return the body of a request with these series, compressed as it goes over the wire."""
    request = WriteRequest()
    for labels, samples in series:
        entry = request.timeseries.add()
        for name, value in labels:
            entry.labels.add(name=name, value=value)
        for timestamp, number in samples:
            entry.samples.add(timestamp=timestamp, value=number)
    compressed: bytes = snappy.compress(request.SerializeToString())
    return compressed


def decode(body: bytes) -> Write:
    """Return the request in a compressed body. Raises WireError where the specification is broken."""
    try:
        plain = snappy.uncompress(body)
    except Exception as error:  # its errors differ with the version of the library below it
        raise WireError(f"no snappy block: {error}") from error
    return decode_message(plain)


def decode_message(plain: bytes) -> Write:
    """Return the request in an uncompressed message. Raises WireError where the specification is broken."""
    request = WriteRequest()
    try:
        request.ParseFromString(plain)
    except DecodeError as error:
        raise WireError(f"no protobuf message: {error}") from error
    _refuse_unknown(request)
    write = Write(
        tuple(
            TimeSeries(
                tuple((label.name, label.value) for label in entry.labels),
                tuple((sample.timestamp, sample.value) for sample in entry.samples),
            )
            for entry in request.timeseries
        ),
        tuple(
            Metadata(
                entry.metric_family_name, _TYPES.get(entry.type, str(entry.type)), entry.unit, entry.help
            )
            for entry in request.metadata
        ),
    )
    for series in write.series:
        _check(series)
    return write


def _refuse_unknown(message: Any) -> None:
    unknown: Any = UnknownFieldSet(message)  # its types do not say that it can be iterated
    if numbers := [field.field_number for field in unknown]:
        raise WireError(f"{message.DESCRIPTOR.name} has unknown fields {numbers}")
    for field, value in message.ListFields():
        if field.message_type is not None:
            for entry in value:
                _refuse_unknown(entry)


def _check(series: TimeSeries) -> None:
    names = [name for name, _ in series.labels]
    shown = dict(series.labels)
    if any(left >= right for left, right in pairwise(names)):
        raise WireError(f"labels are not sorted, or repeated: {names}")
    if not _METRIC_NAME.fullmatch(shown.get("__name__", "")):
        raise WireError(f"no valid metric name: {shown}")
    if not all(_LABEL_NAME.fullmatch(name) and value for name, value in series.labels):
        raise WireError(f"an empty or invalid label: {shown}")
    if not series.samples:
        raise WireError(f"no samples: {shown}")
    if any(left >= right for (left, _), (right, _) in pairwise(series.samples)):
        raise WireError(f"samples are not in time order: {shown}")
