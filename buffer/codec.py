"""The tick codec: how the ticks of one instant become the body of a record, and back.

    body       := deflate(plain)                    raw deflate, RFC 1951
    plain      := mono_ms i64 | missed u64
                | boot_id u8[16]                    key frames only
                | n u16 | definition[n]             groups that this record defines
                | n u16 | column[n]                 the ticks of this record, in order
    definition := n u32 | scale u8[n] | size u32 | json u8[size]
    json       := [group, [[name, type, unit, help, {label: value ..}] ..n]]
    column     := group u16 | n u32 | remode[n] | row         row: see `buffer.lanes`
    remode     := lane u32 | scale u8

Little-endian, no padding.  A group is the set of series that one collector returns; groups are
numbered in the order of their definition since the key frame.  A key frame forgets all groups, so
it can be read without anything before it; every other record needs all records since its key frame.

A row holds each lane's difference to the group's tick before.  The lanes of a group just defined,
and those in the remode list (which get a new scale), count from zero.  Scales only grow.

Promise: every value comes back bit for bit, NaN payloads and -0.0 included.
`missed` is the running total of samples that could not be collected, see `buffer.log`.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Sequence
from typing import NamedTuple

from buffer import lanes
from buffer.model import Instant, Series, Tick

MAX_PLAIN = 16 << 20
KEY_COST = 8
"""A key frame is due when the records since the last one take this many times its own size."""
MAX_GROUPS = 1 << 15

_HEAD = struct.Struct("<qQ")
_COLUMN = struct.Struct("<HI")
_REMODE = struct.Struct("<IB")
_U16, _U32 = struct.Struct("<H"), struct.Struct("<I")


class CodecError(ValueError):
    """The body is not what this module writes, or needs records that are not there."""


class Frame(NamedTuple):
    """A decoded body: its ticks, and the running total of missed samples."""

    ticks: list[Tick]
    missed: int


class _Group:
    """What both sides remember of a group since the key frame."""

    __slots__ = ("index", "lanes", "modes", "name", "raw", "scales", "series", "values")

    def __init__(self, index: int, name: str, series: tuple[Series, ...], modes: bytes) -> None:
        self.index, self.name, self.series = index, name, series
        self.lanes = [0] * len(series)
        self.values = [0.0] * len(series)
        self.modes = bytearray(modes)
        self.rescale()

    def rescale(self) -> None:
        self.scales = lanes.divisors(self.modes)
        self.raw = [i for i, mode in enumerate(self.modes) if mode == lanes.RAW]


class Encoder:
    """Turns ticks into bodies.  Not thread-safe.  One for each segment file."""

    def __init__(self) -> None:
        self._modes: dict[tuple[str, Series], int] = {}
        self.reset()

    def reset(self) -> None:
        """Make the next body a key frame: the last one was not stored, or a segment begins."""
        self._groups: dict[str, _Group] = {}
        self._defined = 0
        self._boot: str | None = None
        self._key_size = self._since_key = 0

    def encode(self, ticks: Sequence[Tick], missed: int) -> tuple[bytes, bool]:
        """Return the body for these ticks of one instant, and whether it is a key frame.

        Raises ValueError where the ticks do not belong together or do not fit in one record.
        """
        if len({tick.at for tick in ticks}) != 1:
            raise ValueError("a record holds the ticks of one instant")
        at = ticks[0].at
        key = at.boot_id != self._boot or self._since_key > KEY_COST * self._key_size
        if key or self._defined + len(ticks) > MAX_GROUPS:
            key = True
            self.reset()
            self._boot = at.boot_id
        definitions, columns = [], []
        samples = 0
        for tick in ticks:
            group = self._groups.get(tick.group)
            if group is None or (group.series is not tick.series and group.series != tick.series):
                group = self._define(tick)
                definitions.append(_definition(group))
            columns.append(self._column(group, tick.values))
            samples += len(tick.values)
        plain = b"".join(
            (
                _HEAD.pack(at.mono_ms, missed),
                bytes.fromhex(at.boot_id) if key else b"",
                _U16.pack(len(definitions)),
                *definitions,
                _U16.pack(len(columns)),
                *columns,
            )
        )
        if len(plain) > MAX_PLAIN:
            raise ValueError(f"{samples} samples of one instant do not fit in one record")
        body = zlib.compress(plain, 6, -15)
        if key:
            self._key_size = len(body)
        else:
            self._since_key += len(body)
        return body, key

    def _define(self, tick: Tick) -> _Group:
        # A scale that earlier ticks needed will be needed again: better said now than lane by lane.
        modes = bytes(self._modes.get((tick.group, series), 0) for series in tick.series)
        group = self._groups[tick.group] = _Group(self._defined, tick.group, tick.series, modes)
        self._defined += 1
        return group

    def _column(self, group: _Group, values: Sequence[float]) -> bytes:
        new = lanes.to_lanes(values, group.scales, group.raw)
        changed = []
        if new is None:
            modes = [lanes.scale_of(v, mode) for v, mode in zip(values, group.modes, strict=True)]
            changed = [i for i, mode in enumerate(modes) if mode != group.modes[i]]
            for i in changed:
                group.lanes[i], group.modes[i] = 0, modes[i]
                self._modes[group.name, group.series[i]] = modes[i]
            group.rescale()
            new = lanes.to_lanes(values, group.scales, group.raw)
            assert new is not None  # every scale is now the one that its value needs
        head = _COLUMN.pack(group.index, len(changed))
        remodes = [_REMODE.pack(i, group.modes[i]) for i in changed]
        row = lanes.to_row(new, group.lanes)
        group.lanes = new
        return b"".join((head, *remodes, row))


class Decoder:
    """Turns bodies back into ticks.  Feed it every body from a key frame on, in order."""

    def __init__(self) -> None:
        self._tables: dict[bytes, tuple[str, tuple[Series, ...]]] = {}
        self.reset()

    def reset(self) -> None:
        """Forget what came before, because a record was skipped: only a key frame can come next."""
        self._groups: list[_Group] = []
        self._boot: str | None = None

    def decode(self, body: bytes, wall_ms: int, key: bool) -> Frame:
        """Decode one body, which is a key frame or not.  Raises `CodecError`, after which only a key frame can come next."""
        try:
            return self._decode(_inflate(body), wall_ms, key)
        except (ValueError, LookupError, TypeError, struct.error, zlib.error, RecursionError) as error:
            self.reset()
            raise CodecError(str(error)) from None

    def _decode(self, plain: bytes, wall_ms: int, key: bool) -> Frame:
        mono_ms, missed = _HEAD.unpack_from(plain)
        at = _HEAD.size
        if key:
            self._groups = []
            self._boot = plain[at : at + 16].hex()
            at += 16
        if self._boot is None:
            raise CodecError("the key frame before it is missing")
        at = self._definitions(plain, at)
        (count,) = _U16.unpack_from(plain, at)
        at += 2
        instant = Instant(wall_ms, mono_ms, self._boot)
        ticks = []
        for _ in range(count):
            index, remodes = _COLUMN.unpack_from(plain, at)
            group = self._groups[index]
            group.values = values = group.values.copy()  # the tick before keeps its own
            at = _remode(plain, at + _COLUMN.size, remodes, group)
            at = lanes.from_row(plain, at, group.lanes, values, group.scales, group.raw)
            ticks.append(Tick(instant, group.name, group.series, values))
        if at != len(plain):
            raise CodecError("the body is longer than its ticks")
        return Frame(ticks, missed)

    def _definitions(self, plain: bytes, at: int) -> int:
        (count,) = _U16.unpack_from(plain, at)
        at += 2
        for _ in range(count):
            (size,) = _U32.unpack_from(plain, at)
            modes = plain[at + 4 : at + 4 + size]
            at += 4 + size
            (length,) = _U32.unpack_from(plain, at)
            text = plain[at + 4 : at + 4 + length]
            at += 4 + length
            # The same table again, after a key frame, gives the same object: cheaper here, and the
            # sender sees at once that the series are the same.
            known = self._tables.get(text)
            if known is None:
                if len(self._tables) >= 64:
                    self._tables.clear()
                known = self._tables[text] = _table(text)
            if len(known[1]) != len(modes) or max(modes, default=0) > lanes.RAW:
                raise CodecError("a definition's scales do not fit its series")
            self._groups.append(_Group(len(self._groups), *known, modes))
        return at


def _definition(group: _Group) -> bytes:
    rows = [[s.name, s.type, s.unit, s.help, dict(s.labels)] for s in group.series]
    text = json.dumps([group.name, rows], separators=(",", ":"), ensure_ascii=False).encode()
    return _U32.pack(len(group.modes)) + group.modes + _U32.pack(len(text)) + text


def _table(text: bytes) -> tuple[str, tuple[Series, ...]]:
    name, rows = json.loads(text)
    series = []
    for metric, kind, unit, help_text, labels in rows:
        if not all(isinstance(s, str) for s in (metric, kind, unit, help_text, *labels.values())):
            raise CodecError("a series is not made of strings")
        series.append(Series(metric, tuple(labels.items()), kind, unit, help_text))
    return str(name), tuple(series)


def _remode(plain: bytes, at: int, count: int, group: _Group) -> int:
    for _ in range(count):
        i, mode = _REMODE.unpack_from(plain, at)
        at += _REMODE.size
        if mode > lanes.RAW:
            raise CodecError(f"no scale {mode}")
        group.modes[i], group.lanes[i], group.values[i] = mode, 0, 0.0
    if count:
        group.rescale()
    return at


def _inflate(body: bytes) -> bytes:
    inflater = zlib.decompressobj(-15)
    plain = inflater.decompress(body, MAX_PLAIN)
    if not inflater.eof or inflater.unused_data:
        raise CodecError("the body does not end where it should")
    return plain
