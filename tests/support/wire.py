"""Remote write 1.0 and 2.0 as the specifications have them, by protobuf's own library.

The agent's encoders are its own; this is what they are checked against. The messages are those of the `.proto` files,
the rules those of the specifications: of 1.0 the sections "Protocol", "Labels" and "Ordering", of 2.0 (2.0-rc.4)
"Symbols", "Series Labels" and "Samples". `decode` refuses what breaks a MUST of them, so that a receiver built on
it is stricter than Prometheus is; and what breaks a SHOULD, or is waste: a symbol that nobody uses, the name of a
metric that PromQL cannot write, a start that is after its sample.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, NamedTuple

import snappy
from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet

import agent.destinations.remote_write
from agent.send import fresh
from tests.support import proto

Labels = tuple[tuple[str, str], ...]
Version = Literal["1.0", "2.0"]

PROTO = Path(agent.destinations.remote_write.__file__).parent / "proto"
POOL = proto.load(PROTO / "types.proto", PROTO / "remote.proto", PROTO / "write_v2.proto")
WriteRequest = proto.message(POOL, "prometheus.WriteRequest")
Request = proto.message(POOL, "io.prometheus.write.v2.Request")

TYPES = ("unknown", "counter", "gauge", "histogram", "gaugehistogram", "summary", "info", "stateset")
"""By their numbers, which are the same in both protocols."""

_METRIC_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_LABEL_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")


class WireError(ValueError):
    """The bytes are no valid remote write request."""


class Metadata(NamedTuple):
    """What a metric family is."""

    name: str
    type: str
    unit: str
    help: str


class Exemplar(NamedTuple):
    """An example, of 2.0 only: its labels, its value, and when it was (milliseconds since 1970)."""

    labels: Labels
    value: float
    at_ms: int


class TimeSeries(NamedTuple):
    """Labels, the name among them, and samples as (milliseconds since 1970, value).

    Only 2.0 has the rest: `starts` has one for each sample, 0 for none; it is empty where no sample has any.
    """

    labels: Labels
    samples: tuple[tuple[int, float], ...]
    metadata: Metadata | None = None
    starts: tuple[int, ...] = ()
    exemplars: tuple[Exemplar, ...] = ()


class Write(NamedTuple):
    """One request. With 2.0 `metadata` are those of the series, each once."""

    series: tuple[TimeSeries, ...]
    metadata: tuple[Metadata, ...] = ()
    version: Version = "1.0"

    @property
    def samples(self) -> int:
        """How many samples the request carries."""
        return sum(len(series.samples) for series in self.series)


def is_fresh(write: Write) -> bool:
    """Return whether a request is nothing but a sample for now, which the agent sends after everything was refused."""
    return len(write.series) == 1 and ("__name__", fresh.SERIES) in write.series[0].labels


def encode(
    series: Iterable[TimeSeries], version: Version = "1.0", metadata: Iterable[Metadata] = ()
) -> bytes:
    """Return the body of a request, compressed as it goes over the wire. `metadata` is for 1.0 alone."""
    request = _request1(series, metadata) if version == "1.0" else _request2(series)
    compressed: bytes = snappy.compress(request.SerializeToString())
    return compressed


def _request1(series: Iterable[TimeSeries], metadata: Iterable[Metadata]) -> Any:
    request = WriteRequest()
    for one in series:
        entry = request.timeseries.add()
        for name, value in one.labels:
            entry.labels.add(name=name, value=value)
        for timestamp, number in one.samples:
            entry.samples.add(timestamp=timestamp, value=number)
    for name, kind, unit, text in metadata:
        request.metadata.add(type=TYPES.index(kind), metric_family_name=name, unit=unit, help=text)
    return request


def _request2(series: Iterable[TimeSeries]) -> Any:
    symbols: dict[str, int] = {"": 0}

    def ref(text: str) -> int:
        return symbols.setdefault(text, len(symbols))

    request = Request()
    for one in series:
        entry = request.timeseries.add(labels_refs=[ref(text) for label in one.labels for text in label])
        for (timestamp, number), start in zip(one.samples, one.starts or [0] * len(one.samples), strict=True):
            entry.samples.add(timestamp=timestamp, value=number, start_timestamp=start)
        if one.metadata is not None:
            _, kind, unit, text = one.metadata
            entry.metadata.type = TYPES.index(kind)
            entry.metadata.help_ref, entry.metadata.unit_ref = ref(text), ref(unit)
    request.symbols.extend(symbols)
    return request


def decode(body: bytes, version: Version = "1.0") -> Write:
    """Return the request in a compressed body. Raises WireError where it breaks a rule of remote write."""
    try:
        plain = snappy.uncompress(body)
    except Exception as error:  # its errors differ with the version of the library below it
        raise WireError(f"no snappy block: {error}") from error
    return decode_message(plain, version)


def decode_message(plain: bytes, version: Version = "1.0") -> Write:
    """Return the request in an uncompressed message. Raises WireError where it breaks a rule of remote write."""
    request = WriteRequest() if version == "1.0" else Request()
    try:
        request.ParseFromString(plain)
    except DecodeError as error:
        raise WireError(f"no protobuf message: {error}") from error
    _refuse_unknown(request)
    write = _write1(request) if version == "1.0" else _write2(request)
    for series in write.series:
        _check(series)
    return write


def _write1(request: Any) -> Write:
    series = tuple(
        TimeSeries(
            tuple((label.name, label.value) for label in entry.labels),
            tuple((sample.timestamp, sample.value) for sample in entry.samples),
        )
        for entry in request.timeseries
    )
    metadata = tuple(
        Metadata(entry.metric_family_name, _type(entry.type), entry.unit, entry.help)
        for entry in request.metadata
    )
    names = [one.name for one in metadata]
    if not all(names) or len(names) > len(set(names)):
        raise WireError(f"metadata without a name, or twice of one: {names}")
    return Write(series, metadata)


def _write2(request: Any) -> Write:
    symbols = list(request.symbols)
    if not symbols or symbols[0]:
        raise WireError(f"the first symbol is not empty: {symbols[:1]}")
    if len(symbols) > len(set(symbols)):
        raise WireError(f"a symbol is there twice: {sorted(symbols)}")
    used = {0}
    series = tuple(_series2(entry, symbols, used) for entry in request.timeseries)
    if len(used) < len(symbols):
        raise WireError(f"nobody uses {[text for at, text in enumerate(symbols) if at not in used]}")
    metadata = dict.fromkeys(one.metadata for one in series if one.metadata is not None)
    return Write(series, tuple(metadata), "2.0")


def _series2(entry: Any, symbols: Sequence[str], used: set[int]) -> TimeSeries:
    def text(ref: int) -> str:
        if ref >= len(symbols):
            raise WireError(f"there is no symbol {ref}")
        used.add(ref)
        return symbols[ref]

    def pairs(refs: Iterable[int]) -> Labels:
        texts = [text(ref) for ref in refs]
        if len(texts) % 2:
            raise WireError(f"a label without a value: {texts}")
        return tuple(zip(texts[::2], texts[1::2], strict=True))

    labels = pairs(entry.labels_refs)
    metadata = None
    if entry.HasField("metadata"):
        found = entry.metadata
        name = dict(labels).get("__name__", "")
        metadata = Metadata(name, _type(found.type), text(found.unit_ref), text(found.help_ref))
    starts = tuple(sample.start_timestamp for sample in entry.samples)
    samples = tuple((sample.timestamp, sample.value) for sample in entry.samples)
    exemplars = tuple(Exemplar(pairs(one.labels_refs), one.value, one.timestamp) for one in entry.exemplars)
    return TimeSeries(labels, samples, metadata, starts if any(starts) else (), exemplars)


def _type(number: int) -> str:
    if not 0 <= number < len(TYPES):
        raise WireError(f"there is no type {number}")
    return TYPES[number]


def _refuse_unknown(message: Any) -> None:
    unknown: Any = UnknownFieldSet(message)  # its types do not say that it can be iterated
    if numbers := [field.field_number for field in unknown]:
        raise WireError(f"{message.DESCRIPTOR.name} has unknown fields {numbers}")
    for field, value in message.ListFields():
        if field.message_type is not None:
            for entry in value if field.is_repeated else (value,):
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
    if any(start > at for start, (at, _) in zip(series.starts, series.samples, strict=False) if start):
        raise WireError(f"a start is after its sample: {shown}")
