"""The tick codec: how the ticks of one instant become the body of a record, and back.

    body       := the next part of a raw deflate stream (RFC 1951), which begins with a key frame and is
                  flushed after each plain (Z_SYNC_FLUSH), without the flush's last bytes 00 00 ff ff
    plain      := key:   base_ms i64 | missed u64 | boot_id u8[16]
                  other: since s | missed v         changes since the record before
                | n v | definition[n]               groups that this record defines
                | n v | column[n]                   the ticks of this record, in order
    definition := n v | scale u8[n] | size v | json u8[size]
    json       := [group, [[name, type, unit, help, {label: value ..}] ..n]]
    column     := group v | n v | remode[n] | row                        row: see `buffer.scaled`
    remode     := cell v | scale u8

Fixed numbers are little-endian, v is LEB128, s the same of a zigzag-coded number.  A group is the set
of series that one collector returns; groups are numbered in the order of their definition since the
key frame.  A key frame forgets all groups, so it can be read without anything before it; every other
record needs all records since its key frame.

A row holds each cell's difference to the group's tick before.  The cells of a group just defined,
and those in the remode list (which get a new scale), count from zero.  Scales only grow.
`base_ms` is wall time minus monotonic time, in ms; `missed` is the running total of samples that could
not be collected, see `buffer.log`.

Promise: every value comes back bit for bit, NaN payloads and -0.0 included.  Decoding takes memory and
time within the limits below, whatever the bytes are.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Sequence
from typing import NamedTuple

from buffer import scaled
from buffer.model import Instant, Series, Tick
from buffer.varint import Bytes, unzigzag, varint, zigzag

MAX_PLAIN = 8 << 20
MAX_SAMPLES = 1 << 17
"""In one record, each tick counted as one more; a key frame is due after definitions of as many series."""
MAX_TABLES = 64
FLUSHED = b"\x00\x00\xff\xff"
"""What ends every part of a flushed deflate stream, and is not stored."""
_MOST_OF_SAMPLE = 24
"""Bytes that a sample takes at most, next to its definition's text. A tick's own numbers take no more, a record's no more than two."""
KEY_COST = 8
"""A key frame is due when the records since the last one take this many times its own size."""

_KEY = struct.Struct("<qQ16s")


class CodecError(ValueError):
    """The body is not what this module writes, or needs records that are not there."""


class Frame(NamedTuple):
    """A decoded body: its ticks, and the running total of missed samples."""

    ticks: list[Tick]
    missed: int


class _Group:
    """What both sides remember of a group since the key frame."""

    __slots__ = ("cells", "index", "modes", "name", "raw", "scales", "series", "values")

    def __init__(self, index: int, name: str, series: tuple[Series, ...], modes: bytes) -> None:
        self.index, self.name, self.series = index, name, series
        self.cells = [0] * len(series)
        self.values = [0.0] * len(series)
        self.modes = bytearray(modes)
        self.rescale()

    def rescale(self) -> None:
        self.scales = scaled.divisors(self.modes)
        self.raw = {i for i, mode in enumerate(self.modes) if mode == scaled.RAW}


class Encoder:
    """Turns ticks into bodies.  Not thread-safe.  One for each segment file."""

    def __init__(self) -> None:
        self._modes: dict[tuple[str, Series], int] = {}
        self._groups: dict[str, _Group] = {}
        self.reset()

    def reset(self) -> None:
        """Make the next body a key frame: the last one was not stored, or a segment begins."""
        if self._groups:  # only what is still there is worth remembering
            self._modes = {
                (group.name, series): mode
                for group in self._groups.values()
                for series, mode in zip(group.series, group.modes, strict=True)
                if mode
            }
        self._groups = {}
        self._defined = self._next = 0
        self._boot: str | None = None
        self._base = self._missed = 0
        self._key_size = self._since_key = 0

    def encode(self, ticks: Sequence[Tick], missed: int) -> tuple[bytes, bool]:
        """Return the body for these ticks of one instant, and whether it is a key frame.

        Raises ValueError where the ticks do not belong together or cannot be stored; nothing has changed then.
        """
        if len({tick.at for tick in ticks}) != 1:
            raise ValueError("a record holds the ticks of one instant")
        key = (
            ticks[0].at.boot_id != self._boot
            or self._since_key > KEY_COST * self._key_size
            or self._defined > MAX_SAMPLES
        )
        texts = self._checked(ticks, key)
        try:
            return self._encode(ticks, missed, key, texts), key
        except BaseException:
            self.reset()
            raise

    def _checked(self, ticks: Sequence[Tick], key: bool) -> list[bytes | None]:
        """Return the definition that each tick needs, or None. Raises ValueError for what cannot be stored."""
        known = {} if key else {name: group.series for name, group in self._groups.items()}
        texts: list[bytes | None] = []
        samples = 0
        for tick in ticks:
            samples += 1 + len(tick.series)
            if samples > MAX_SAMPLES:
                raise ValueError(f"more than {MAX_SAMPLES} samples of one instant do not fit in one record")
            if len(tick.values) != len(tick.series):
                raise ValueError(f"{len(tick.values)} values for {len(tick.series)} series")
            before = known.get(tick.group)
            is_known = before is tick.series or before == tick.series
            texts.append(None if is_known else _text(tick))
            known[tick.group] = tick.series
        if sum(len(text) for text in texts if text) + _MOST_OF_SAMPLE * (samples + 2) > MAX_PLAIN:
            raise ValueError(f"the {len(ticks)} ticks of one instant do not fit in one record")
        return texts

    def _encode(self, ticks: Sequence[Tick], missed: int, key: bool, texts: Sequence[bytes | None]) -> bytes:
        at = ticks[0].at
        base = at.wall_ms - at.mono_ms
        if key:
            self.reset()
            self._boot = at.boot_id
            head = _KEY.pack(base, missed, bytes.fromhex(at.boot_id))
        else:
            head = varint(zigzag(base - self._base)) + varint(missed - self._missed)
        self._base, self._missed = base, missed
        definitions, columns = [], []
        for tick, text in zip(ticks, texts, strict=True):
            if text is not None:
                modes = self._define(tick).modes
                definitions.append(varint(len(modes)) + modes + varint(len(text)) + text)
            columns.append(self._column(self._groups[tick.group], tick.values))
        parts = head, varint(len(definitions)), *definitions, varint(len(columns)), *columns
        if key:
            self._stream = zlib.compressobj(6, zlib.DEFLATED, -15)
        plain = self._stream.compress(b"".join(parts))
        body = (plain + self._stream.flush(zlib.Z_SYNC_FLUSH)).removesuffix(FLUSHED)
        if key:
            self._key_size = len(body)
        else:
            self._since_key += len(body)
        return body

    def _define(self, tick: Tick) -> _Group:
        # A scale that earlier ticks needed will be needed again: better said now than cell by cell.
        modes = bytes(self._modes.get((tick.group, series), 0) for series in tick.series)
        group = self._groups[tick.group] = _Group(self._next, tick.group, tick.series, modes)
        self._next += 1
        self._defined += 1 + len(tick.series)
        return group

    def _column(self, group: _Group, values: Sequence[float]) -> bytes:
        new = scaled.to_cells(values, group.scales, group.raw)
        changed = []
        if new is None:
            modes = [scaled.scale_of(v, mode) for v, mode in zip(values, group.modes, strict=True)]
            changed = [i for i, mode in enumerate(modes) if mode != group.modes[i]]
            for i in changed:
                group.cells[i], group.modes[i] = 0, modes[i]
                self._modes[group.name, group.series[i]] = modes[i]
            group.rescale()
            new = scaled.to_cells(values, group.scales, group.raw)
            assert new is not None  # every scale is now the one that its value needs
        remodes = [varint(i) + group.modes[i : i + 1] for i in changed]
        row = scaled.to_row(new, group.cells)
        group.cells = new
        return b"".join((varint(group.index), varint(len(changed)), *remodes, row))


class Decoder:
    """Turns bodies back into ticks.  Feed it every body from a key frame on, in order."""

    def __init__(self) -> None:
        self._tables: dict[bytes, tuple[str, tuple[Series, ...]]] = {}
        self.reset()

    def reset(self) -> None:
        """Forget what came before, because a record was skipped: only a key frame can come next."""
        self._groups: list[_Group] = []
        self._boot: str | None = None
        self._base = self._missed = self._defined = 0

    def decode(self, body: bytes, wall_ms: int, key: bool) -> Frame:
        """Decode one body, which is a key frame or not.  Raises `CodecError`, after which only a key frame can come next."""
        try:
            return self._decode(Bytes(self._inflate(body, key)), wall_ms, key)
        except (
            ValueError,
            LookupError,
            TypeError,
            AttributeError,
            struct.error,
            zlib.error,
            RecursionError,
        ) as error:
            self.reset()
            raise CodecError(str(error)) from None

    def _inflate(self, body: bytes, key: bool) -> bytes:
        if key:
            self._stream = zlib.decompressobj(-15)
        elif self._boot is None:
            raise CodecError("the key frame before it is missing")
        plain = self._stream.decompress(body + FLUSHED, MAX_PLAIN)
        if self._stream.unconsumed_tail or self._stream.eof:
            raise CodecError("the body does not end where it should")
        return plain

    def _decode(self, plain: Bytes, wall_ms: int, key: bool) -> Frame:
        if key:
            self._base, self._missed, boot = _KEY.unpack(plain.take(_KEY.size))
            self._boot, self._groups, self._defined = boot.hex(), [], 0
        else:
            self._base += unzigzag(plain.varint())
            self._missed += plain.varint()
        for _ in range(plain.varint()):
            self._define(plain)
        instant = Instant(wall_ms, wall_ms - self._base, self._boot or "")
        ticks = []
        room = MAX_SAMPLES
        for _ in range(plain.varint()):
            group = self._groups[plain.varint()]
            room -= 1 + len(group.values)
            if room < 0:
                raise CodecError("more samples than a record may have")
            group.values = values = group.values.copy()  # the tick before keeps its own
            if count := plain.varint():
                _remode(plain, group, count)
            plain.at = scaled.from_row(plain.data, plain.at, group.cells, values, group.scales, group.raw)
            ticks.append(Tick(instant, group.name, group.series, values))
        if plain.at != len(plain.data):
            raise CodecError("the body is longer than its ticks")
        return Frame(ticks, self._missed)

    def _define(self, plain: Bytes) -> None:
        modes = plain.take(plain.varint())
        self._defined += 1 + len(modes)
        if self._defined > 2 * MAX_SAMPLES:
            raise CodecError("more series than may follow a key frame")
        text = plain.take(plain.varint())
        # The same table again, after a key frame, gives the same object: cheaper here, and the sender
        # sees at once that the series are the same.
        known = self._tables.get(text)
        if known is None:
            if len(self._tables) >= MAX_TABLES or sum(map(len, self._tables)) > MAX_PLAIN:
                self._tables.clear()
            known = self._tables[text] = _table(text)
        if len(known[1]) != len(modes) or max(modes, default=0) > scaled.RAW:
            raise CodecError("a definition's scales do not fit its series")
        self._groups.append(_Group(len(self._groups), *known, modes))


def _text(tick: Tick) -> bytes:
    """Return the definition of a tick's group. Raises ValueError where a text is not valid Unicode."""
    rows = [[s.name, s.type, s.unit, s.help, dict(s.labels)] for s in tick.series]
    return json.dumps([tick.group, rows], separators=(",", ":"), ensure_ascii=False).encode()


def _table(text: bytes) -> tuple[str, tuple[Series, ...]]:
    name, rows = json.loads(text)
    series = []
    for metric, kind, unit, help_text, labels in rows:
        if not all(isinstance(s, str) for s in (metric, kind, unit, help_text, *labels.values())):
            raise CodecError("a series is not made of strings")
        series.append(Series(metric, tuple(labels.items()), kind, unit, help_text))
    return str(name), tuple(series)


def _remode(plain: Bytes, group: _Group, count: int) -> None:
    if count > len(group.modes):
        raise CodecError("more new scales than cells")
    for _ in range(count):
        i, mode = plain.varint(), plain.take(1)[0]
        if mode > scaled.RAW:
            raise CodecError(f"no scale {mode}")
        group.modes[i], group.cells[i], group.values[i] = mode, 0, 0.0
    group.rescale()
