"""Ticks into an OTLP ExportMetricsServiceRequest, before compression (opentelemetry-proto 1.x, metrics/v1 and collector/metrics/v1).

    Request         := (0x0a length ResourceMetrics)*
    ResourceMetrics := 0x0a length (0x0a length KeyValue)* 0x12 length ScopeMetrics
    ScopeMetrics    := 0x0a length (0x0a length "limpet" 0x12 length version) (0x12 length Metric)*
    Metric          := 0x0a length name [0x12 length help] [0x1a length unit]
                       (0x2a length Gauge | 0x3a length Sum | 0x4a length Histogram | 0x5a length Summary)
    Gauge           := (0x0a length Point)*
    Sum             := (0x0a length Point)* 0x10 0x02 [0x18 0x01]          cumulative, monotonic
    Point           := [0x11 start u64] 0x19 time u64 0x21 value f64 (0x3a length KeyValue)*     nanoseconds since 1970
                     | 0x19 time u64 (0x3a length KeyValue)* 0x40 0x01     no value: the series ended
    KeyValue        := 0x0a length key 0x12 length (0x0a length text | 0x18 number)

`length` is a varint of the bytes that follow; numbers are little-endian.

Promises, for any ticks:

1. A counter is a cumulative monotonic sum. The series of a histogram or summary are one point of it at each instant at which they are
   all in the request (`distributions`). Everything else is a gauge, and so is a series of a histogram that was cut, under its own name.
2. Every label of a series is an attribute of each of its points, under its own name. The resource says whose they are:
   `service.name` is the label `job`, or "limpet"; `service.instance.id` is `instance`, or the hostname; `host.name` is `hostname`.
3. Values arrive bit for bit; a stale marker is a point without a value.
4. A sum of a group that counts from the host's boot has the boot's time as its start. A sum, histogram or summary that has a `_created`
   series next to it began when that says. Of others the start is not known, and left out.
5. With `names: semantic` what `semantic` has a meaning for has its name, unit, kind and attributes, and a percentage is a share of 1:
   the value divided by 100. Everything else is as it is.
6. `columns` has the rest: order, repeated instants, counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from struct import Struct
from typing import NamedTuple

from agent import __version__
from agent.destinations.boots import Boots
from agent.destinations.columns import Block, merge
from agent.destinations.created import began, counted, created
from agent.destinations.labels import Relabel, final, utf8
from agent.destinations.otlp import distributions, semantic
from agent.destinations.otlp.distributions import HISTOGRAM, SUMMARY, Member, Role, Whole
from agent.destinations.otlp.semantic import COUNTER, GAUGE, LOGICAL_NUMBER, UP_DOWN
from agent.destinations.protobuf import field
from agent.destinations.remembered import Remembered
from buffer.model import Series, Tick, is_stale
from buffer.varint import varint

UCUM = {
    "bytes": "By",
    "bytes_per_sec": "By/s",
    "celsius": "Cel",
    "hertz": "Hz",
    "ms": "ms",
    "ops_per_sec": "{operation}/s",
    "packets": "{packet}",
    "packets_per_sec": "{packet}/s",
    "percent": "%",
    "requests": "{request}",
    "samples": "{sample}",
    "seconds": "s",
    "volts": "V",
}
"""Units as the Unified Code for Units of Measure writes them; another one is left out."""

_NUMBER = LOGICAL_NUMBER.encode()
_SEPARATOR = b"\xff"  # no byte of UTF-8
_KINDS = {
    GAUGE: (0x2A, b""),
    COUNTER: (0x3A, b"\x10\x02\x18\x01"),
    UP_DOWN: (0x3A, b"\x10\x02"),
    HISTOGRAM: (0x4A, b"\x10\x02"),
    SUMMARY: (0x5A, b""),
}
"""The field of a metric's data by its kind, and what follows its points: cumulative, and monotonic."""
_ATTRIBUTES = {HISTOGRAM: 0x4A, SUMMARY: 0x3A}
"""The field of a point's attributes."""
_DIGITS = 19
"""So many do not always fit in an int64."""
_NO_VALUE = b"\x40\x01"
_MS = 1_000_000
_LATEST = (1 << 64) // _MS
_START, _TIME = Struct("<BQ"), Struct("<BQ")
_VALUE = Struct("<BQBd")


class Encoded(NamedTuple):
    """A request's body before compression, the samples in it and the points that they are, and those that were left out."""

    body: bytes
    samples: int
    points: int
    repeated: int
    relabeled: int


class _Known(NamedTuple):
    """What is made of a series once."""

    identity: bytes | None
    resource: bytes
    head: bytes
    """Of its metric: name, help and unit."""
    kind: int
    attributes: bytes
    divisor: float = 1.0
    part: tuple[Whole, Role] | None = None
    """Of which histogram or summary it is a part, and which."""


class _Metrics:
    """The points of a request by resource and metric."""

    def __init__(self) -> None:
        self.points = 0
        self._found: dict[bytes, dict[tuple[bytes, int], list[bytes]]] = {}

    def add(self, resource: bytes, head: bytes, kind: int, points: list[bytes]) -> None:
        self.points += len(points)
        self._found.setdefault(resource, {}).setdefault((head, kind), []).extend(points)

    def body(self) -> bytes:
        parts = []
        for resource, metrics in sorted(self._found.items()):
            scope = _SCOPE + b"".join([_metric(*key, points) for key, points in sorted(metrics.items())])
            parts.append(field(0x0A, resource + field(0x12, scope)))
        return b"".join(parts)


class PointWriter:
    """Encodes ticks, and remembers their series. `from_boot` are the groups whose counters begin with the host's boot."""

    def __init__(
        self,
        relabel: Relabel | None = None,
        from_boot: frozenset[str] = frozenset(),
        *,
        is_semantic: bool = False,
    ) -> None:
        self._relabel, self._from_boot, self._is_semantic = relabel, from_boot, is_semantic
        self._known = Remembered(self._learn)

    def identity(self, series: Series) -> bytes | None:
        """Return the labels of a series after relabeling, as bytes; None: it is not sent. Series of the same are one."""
        return self._known[series].identity

    def encode(self, ticks: Iterable[Tick]) -> Encoded:
        """Return the request that holds every sample of some ticks, none of them twice."""
        ticks = list(ticks)
        merged = merge(ticks, self.identity)
        boots = Boots([tick for tick in ticks if tick.group in self._from_boot])
        found = _Metrics()
        for block in merged.blocks:
            times = _ns(block.stamps)
            starts = self._starts(block, boots)
            about = created(block.columns)
            wholes: dict[Whole, list[tuple[_Known, Member]]] = {}
            for _, series, values in block.columns:
                known = self._known[series]
                seconds = about.get(counted(series)) if about else None
                begun = _ns(began(seconds, values, block.stamps)) if seconds is not None else ()
                if known.part is not None:
                    whole, role = known.part
                    wholes.setdefault(whole, []).append((known, Member(role, values, begun)))
                    continue
                if known.divisor != 1:  # what is no number keeps its bits
                    values = tuple([v / known.divisor if v == v else v for v in values])
                begun = (begun or starts) if known.kind == COUNTER else ()
                points = _points(times, begun, values, known.attributes)
                found.add(known.resource, known.head, known.kind, points)
            for whole, parts in wholes.items():
                made = distributions.points(whole, [member for _, member in parts], times)
                if made.points:
                    found.add(whole.resource, whole.head, whole.kind, made.points)
                if made.left:
                    at = [times[i] for i in made.left]
                    for known, member in parts:
                        rest = _points(at, (), [member.values[i] for i in made.left], known.attributes)
                        found.add(known.resource, known.head, known.kind, rest)
        return Encoded(found.body(), merged.samples, found.points, merged.repeated, merged.relabeled)

    def _starts(self, block: Block[bytes], boots: Boots) -> tuple[int, ...]:
        """Return when the host booted, by the ticks of a block, in ns; 0 where that is not known; empty where it never is."""
        starts = [boots.start(row) * _MS if row.group in self._from_boot else 0 for row in block.rows]
        return tuple(starts) if any(starts) else ()

    def _learn(self, series: Series) -> _Known:
        found = final(series, self._relabel)
        if found is None:
            return _Known(None, b"", b"", GAUGE, b"")
        meant = semantic.meaning(found) if self._is_semantic else None
        name = found.pop("__name__")
        pairs = sorted((utf8(key), utf8(value)) for key, value in found.items())
        identity = _SEPARATOR.join([utf8(name), *(text for pair in pairs for text in pair)])
        role = distributions.role(series.type, name, found.items())
        host = found.get("hostname", "")
        whose = {
            "host.name": host,
            "service.instance.id": found.get("instance", host),
            "service.name": found.get("job", "limpet"),
        }
        resource = field(0x0A, _attributes(0x0A, ((utf8(k), utf8(v)) for k, v in whose.items() if v)))
        unit, kind, divisor = UCUM.get(series.unit, ""), COUNTER if series.type == "counter" else GAUGE, 1.0
        part = None
        if meant is not None:
            name, unit, kind, divisor = meant.name, meant.unit, meant.kind, meant.divisor
            pairs = sorted(
                (utf8(key), utf8(value)) for key, value in semantic.attributes(meant, found).items()
            )
        elif role is not None:
            common = [pair for pair in pairs if pair[0] != role.label.encode()]
            tag = _ATTRIBUTES[role.kind]
            head = _head(role.metric, series.help, unit)
            part = Whole(role.kind, resource, head, _attributes(tag, common)), role
        head, attributes = _head(name, series.help, unit), _attributes(0x3A, pairs)
        return _Known(identity, resource, head, kind, attributes, divisor, part)


def _ns(stamps: Iterable[int]) -> tuple[int, ...]:
    """Return times in ns by times in ms; 0 for what the format cannot hold."""
    return tuple([at * _MS if 0 <= at < _LATEST else 0 for at in stamps])


def _head(name: str, described: str, unit: str) -> bytes:
    """Return the fields of a metric that are no data."""
    return b"".join(
        [field(tag, utf8(text)) for tag, text in ((0x0A, name), (0x12, described), (0x1A, unit)) if text]
    )


def _points(
    times: Sequence[int], starts: Sequence[int], values: Iterable[float], attributes: bytes
) -> list[bytes]:
    """Return the points of a series, each as a field of its metric's data."""
    head = b"\x0a" + varint(_VALUE.size + len(attributes))
    begun = b"\x0a" + varint(_START.size + _VALUE.size + len(attributes)) if starts else b""
    points = []
    for i, (time, value) in enumerate(zip(times, values, strict=True)):
        if value != value and is_stale(value):
            points.append(field(0x0A, _TIME.pack(0x19, time) + attributes + _NO_VALUE))
        elif starts and starts[i]:
            points.append(
                begun + _START.pack(0x11, starts[i]) + _VALUE.pack(0x19, time, 0x21, value) + attributes
            )
        else:
            points.append(head + _VALUE.pack(0x19, time, 0x21, value) + attributes)
    return points


def _metric(head: bytes, kind: int, points: list[bytes]) -> bytes:
    tag, last = _KINDS[kind]
    return field(0x12, head + field(tag, b"".join(points) + last))


def _attributes(tag: int, pairs: Iterable[tuple[bytes, bytes]]) -> bytes:
    return b"".join([_attribute(tag, key, value) for key, value in pairs])


def _attribute(tag: int, key: bytes, value: bytes) -> bytes:
    if key == _NUMBER and value.isdigit() and len(value) < _DIGITS:
        return field(tag, field(0x0A, key) + field(0x12, b"\x18" + varint(int(value))))
    return field(tag, field(0x0A, key) + field(0x12, field(0x0A, value)))


_SCOPE = field(0x0A, field(0x0A, b"limpet") + field(0x12, __version__.encode()))
