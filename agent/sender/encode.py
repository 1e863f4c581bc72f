"""Ticks into the bytes of a remote write 1.0 request, before compression.

    WriteRequest := (0x0a length TimeSeries)*
    TimeSeries   := (0x0a length Label)* (0x12 length Sample)*
    Label        := 0x0a length name 0x12 length value           utf-8
    Sample       := 0x09 value f64 0x10 timestamp varint         little-endian
                  | 0x10 timestamp varint                        0.0, in a series of nothing else

`length` is a varint of the bytes that follow; proto/*.proto hold the same as protobuf definitions.

What is promised, for any ticks:

1. A series stands once in a request, its labels sorted by name with `__name__` among them; labels
   with an empty value are left out, since for a receiver the two are the same series.
2. The samples of a series are in time order and no instant stands twice. Where ticks hold several
   values for one (a clock was set back), the first of those that came with the same set of series is
   kept; the same ticks always give the same bytes.
3. Values arrive bit for bit, markers that hide in a NaN among them.
4. `samples + repeated` is what the ticks hold, so that a ledger balances.

Speed comes from work per series instead of per sample: rows become columns in one `zip`, and one
`struct` call writes all samples of a series. Values that are all zero, as in half the series of a host,
are left out, which saves 5 to 6 % on the wire. Series are ordered by their first value, so that constants
of the same value (mostly zeros) stand together, which costs nothing and saves 4 to 7 % on the wire.
A receiver does not care about the order of series.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from itertools import pairwise
from struct import Struct
from typing import Generic, NamedTuple, TypeVar

from buffer.model import Series, Tick
from buffer.varint import varint as leb128

K = TypeVar("K", bound=Hashable)
Stamps = tuple[int, ...]
Values = tuple[float, ...]

MAX_CACHED_SERIES = 4096


class Block(NamedTuple, Generic[K]):
    """Series that share their instants. `columns` holds the values of each, oldest first."""

    stamps: Stamps
    columns: list[tuple[K, Values]]


class Merged(NamedTuple, Generic[K]):
    """The samples of some ticks by series, and how many were left out for a repeated instant."""

    blocks: list[Block[K]]
    samples: int
    repeated: int


class Encoded(NamedTuple):
    """A request's body before compression, the samples in it, and those left out as repeated."""

    body: bytes
    samples: int
    repeated: int


def merge(ticks: Iterable[Tick], key: Callable[[Series], K]) -> Merged[K]:
    """Turn ticks into columns. Series for which `key` gives the same value become one."""
    by_set: dict[int, tuple[tuple[Series, ...], list[Tick]]] = {}
    for tick in ticks:
        by_set.setdefault(id(tick.series), (tick.series, []))[1].append(tick)

    by_key: dict[K, tuple[Stamps, Values]] = {}
    for series, rows in by_set.values():
        stamps = tuple([row.at.wall_ms for row in rows])
        for one, column in zip(series, zip(*[row.values for row in rows], strict=True), strict=True):
            name = key(one)
            before = by_key.get(name)
            by_key[name] = (stamps, column) if before is None else (before[0] + stamps, before[1] + column)

    shared: dict[Stamps, list[tuple[K, Values]]] = {}
    for name, (stamps, column) in by_key.items():
        shared.setdefault(stamps, []).append((name, column))

    blocks, samples, repeated = [], 0, 0
    for stamps, columns in shared.items():
        order = _time_order(stamps)
        if order is not None:
            repeated += (len(stamps) - len(order)) * len(columns)
            columns = [(name, tuple([column[i] for i in order])) for name, column in columns]
            stamps = tuple([stamps[i] for i in order])
        samples += len(stamps) * len(columns)
        blocks.append(Block(stamps, columns))
    return Merged(blocks, samples, repeated)


def _time_order(stamps: Stamps) -> list[int] | None:
    """The indices that put `stamps` in order, the first of equal ones only; None: they are."""
    if all(a < b for a, b in pairwise(stamps)):
        return None
    first: dict[int, int] = {}
    for i, stamp in enumerate(stamps):
        first.setdefault(stamp, i)
    return [first[stamp] for stamp in sorted(first)]


class Encoder:
    """Encodes ticks, and remembers the encoded labels of up to MAX_CACHED_SERIES series."""

    def __init__(self) -> None:
        self._labels: dict[Series, bytes] = {}

    def encode(self, ticks: Iterable[Tick]) -> Encoded:
        """The WriteRequest that holds every sample of `ticks`, none of them twice."""
        merged = merge(ticks, self.labels)
        parts: list[bytes] = []
        for stamps, columns in merged.blocks:
            parts += _encode_block(stamps, columns)
        return Encoded(b"".join(parts), merged.samples, merged.repeated)

    def labels(self, series: Series) -> bytes:
        """The labels of a series as the fields of a TimeSeries: the identity of a series."""
        known = self._labels.get(series)
        if known is None:
            if len(self._labels) >= MAX_CACHED_SERIES:
                self._labels.clear()
            known = self._labels[series] = encode_labels(series)
        return known


def encode_labels(series: Series) -> bytes:
    """The label fields of a series. What is not valid unicode (a mount point may hold any bytes) is
    written as an escape, since one such name must not cost the request.
    """
    pairs = dict(series.labels) | {"__name__": series.name}
    return b"".join(
        _field(0x0A, _field(0x0A, _utf8(name)) + _field(0x12, _utf8(value)))
        for name, value in sorted(pairs.items())
        if value
    )


def _encode_block(stamps: Stamps, columns: list[tuple[bytes, Values]]) -> Iterable[bytes]:
    # Between two values of a series stand the same bytes in every series of the block: the end of
    # one sample and the start of the next. So a series is fixed bytes and values in turn.
    ends = [b"\x10" + varint(stamp) for stamp in stamps]
    starts = [bytes((0x12, 9 + len(end), 0x09)) for end in ends]
    fixed = [starts[0], *(end + start for end, start in zip(ends, starts[1:], strict=False)), ends[-1]]
    packer = Struct(f"<{len(fixed[0])}s" + "".join([f"d{len(part)}s" for part in fixed[1:]]))
    arguments: list[bytes | float] = [b""] * (2 * len(stamps) + 1)
    arguments[0::2] = fixed
    zeros = b"".join([bytes((0x12, len(end))) + end for end in ends])  # a value that is not there is 0.0
    doubles = Struct(f"{len(stamps)}d")
    all_zero = bytes(doubles.size)
    for labels, values in sorted(columns, key=_first_value):
        if (
            not any(values) and doubles.pack(*values) == all_zero
        ):  # no -0.0 among them, which is another value
            samples = zeros
        else:
            arguments[1::2] = values
            samples = packer.pack(*arguments)
        yield b"\x0a" + varint(len(labels) + len(samples)) + labels
        yield samples


def _first_value(column: tuple[bytes, Sequence[float]]) -> float:
    return column[1][0]


def varint(number: int) -> bytes:
    """A 64-bit integer as protobuf writes it: 7 bits a byte, low ones first, two's complement."""
    return leb128(number & 0xFFFF_FFFF_FFFF_FFFF)


def _field(tag: int, content: bytes) -> bytes:
    return bytes((tag,)) + varint(len(content)) + content


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace")
