"""Ticks into the bytes of a remote write 2.0 request, before compression.

    Request    := (0x22 length symbol)* (0x2a length TimeSeries)*
    TimeSeries := 0x0a length (ref varint)* (0x12 length Sample)* (0x22 length Exemplar)* [0x2a length Metadata]
    Exemplar   := 0x0a length (ref varint)* 0x11 value f64 0x18 timestamp varint
    Metadata   := 0x08 type 0x18 help ref 0x20 unit ref

The first symbol is empty; every other one is used, and is there once. Beyond the promises of `encode`:

1. With `metadata` each series carries its type, as the last tick with it says, and where it is to be described help and unit.
2. A sample of a counter carries when it started to count, where its group counts from the host's boot: the boot as
   the tick's clocks have it, in whole seconds, the same for all ticks of a boot in a request. Where the clock was set
   by more than ten seconds, ticks before and after it have their own. A start is never at or after its sample, and
   never at or before 1970. A staleness marker has none.
3. A counter, histogram or summary that has a `_created` series next to it, as OpenMetrics has them, began when that says.
4. An exemplar is in one request that goes out at most (`sent`): the next one that may have exemplars, and that has its series.
   Of a series there are MOST_OF_SERIES at most in a request, the newest. No sample depends on them.

A batch has mostly the same series as the one before: symbols and references are made once for these, and kept.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Sequence
from io import BytesIO
from struct import Struct
from typing import NamedTuple

from agent.destinations.boots import Boots
from agent.destinations.columns import Stamps, Values
from agent.destinations.created import began, counted, created
from agent.destinations.labels import Relabel, utf8
from agent.destinations.protobuf import field
from agent.destinations.remote_write.encode import (
    TYPES,
    Encoded,
    Encoder,
    Heads,
    Pairs,
    runs,
    varint,
)
from buffer.exemplars import MOST, Exemplar, Exemplars
from buffer.model import Series, Tick, is_stale

MOST_OF_SERIES = 10

MAX_LAYOUTS = 2
"""A collector that runs less often is in every other batch."""


_SEPARATOR = b"\xff"  # no byte of UTF-8


class _Layout(NamedTuple):
    """What of a request depends on its series alone: the symbols, and labels and metadata by identity.

    `described` are the families with help and unit. `symbols` are the references, for exemplars; empty where there are to be none.
    """

    series: dict[bytes, Series]
    described: frozenset[str]
    table: bytes
    heads: dict[bytes, tuple[bytes, bytes]]
    symbols: dict[bytes, bytes]


class Encoder2(Encoder):
    """Encodes ticks. `from_boot` are the groups whose counters begin with the host's boot."""

    def __init__(
        self,
        relabel: Relabel | None = None,
        *,
        metadata: bool = True,
        from_boot: frozenset[str] = frozenset(),
        exemplars: Exemplars | None = None,
    ) -> None:
        super().__init__(relabel)
        self._metadata, self._from_boot = metadata, from_boot
        self._exemplars = exemplars
        self._taken = 0 if exemplars is None else exemplars.after(0)[0]
        self._waiting: deque[tuple[bytes, Exemplar]] = deque(maxlen=MOST)
        self._layouts: list[_Layout] = []  # the one that was used last at the end

    def encode(
        self, ticks: Iterable[Tick], describe: Collection[str] = (), *, exemplars: bool = True
    ) -> Encoded:
        """The Request that holds every sample of `ticks`, none of them twice, and help and unit of these families.

        `exemplars`: it may have some, too.
        """
        ticks = list(ticks)
        merged = self._merged(ticks)
        boots = Boots([tick for tick in ticks if tick.group in self._from_boot])
        every = {key: series for block in merged.blocks for key, series, _ in block.columns}
        layout = self._layout(every, frozenset(describe))
        heads = layout.heads
        examples: dict[bytes, bytes] = {}
        table, found = layout.table, list[Exemplar]()
        if exemplars and self._exemplars:
            table, examples, found = self._examples(layout, self._exemplars)
        shared: dict[tuple[Stamps, Stamps], list[tuple[tuple[bytes, bytes], Values]]] = {}
        for block in merged.blocks:
            starts = tuple([boots.start(row) if row.group in self._from_boot else 0 for row in block.rows])
            starts = starts if any(starts) else ()
            gauges, counters = [shared.setdefault((block.stamps, begun), []) for begun in ((), starts)]
            about = created(block.columns)
            if not starts and not about:
                gauges += [(heads[key], values) for key, _, values in block.columns]
                continue
            for key, series, values in block.columns:
                seconds = about.get(counted(series)) if about else None
                if seconds is not None:
                    begun = began(seconds, values, block.stamps)
                    shared.setdefault((block.stamps, begun), []).append((heads[key], values))
                elif not starts or series.type != "counter":
                    gauges.append((heads[key], values))
                elif (begun := _without_markers(starts, values)) is starts:
                    counters.append((heads[key], values))
                else:
                    shared.setdefault((block.stamps, begun), []).append((heads[key], values))
        body, sizes = BytesIO(), Heads(0x2A)
        body.write(table)
        for run in runs(shared):
            parts: list[bytes] = []
            for (labels, metadata), values in run.columns:
                written = run.write(values)
                if examples and run.is_last:
                    written += examples.get(labels, b"")
                parts += (sizes[len(labels) + len(written) + len(metadata)], labels, written, metadata)
            body.write(b"".join(parts))
        return Encoded(body.getvalue(), merged.samples, merged.repeated, merged.relabeled, found)

    def sent(self, exemplars: Sequence[Exemplar]) -> None:
        """Take it that a request with these went out."""
        if exemplars:
            gone = set(map(id, exemplars))
            self._waiting = deque([one for one in self._waiting if id(one[1]) not in gone], MOST)

    def _identity(self, pairs: Pairs) -> bytes:
        return _SEPARATOR.join([text for pair in pairs for text in pair])

    def _layout(self, series: dict[bytes, Series], described: frozenset[str]) -> _Layout:
        for layout in self._layouts:
            if layout.series == series and layout.described == described:
                break
        else:
            symbols = {b"": b"\x00"}
            heads = {key: self._head(key, series[key], symbols, described) for key in sorted(series)}
            table = b"".join([field(0x22, symbol) for symbol in symbols])
            layout = _Layout(series, described, table, heads, symbols if self._exemplars else {})
        self._layouts = [*(one for one in self._layouts if one is not layout), layout][-MAX_LAYOUTS:]
        return layout

    def _examples(
        self, layout: _Layout, exemplars: Exemplars
    ) -> tuple[bytes, dict[bytes, bytes], list[Exemplar]]:
        """Return the symbols of a request, the exemplars that go along by the labels of their series as written, and all of
        these series.
        """
        self._taken, new = exemplars.after(self._taken)
        for one in new:
            if (identity := self.labels(one.series)) is not None:
                self._waiting.append((identity, one))
        chosen: dict[bytes, deque[Exemplar]] = {}
        found: list[Exemplar] = []
        for identity, one in self._waiting:
            if identity in layout.heads:
                found.append(one)
                chosen.setdefault(identity, deque(maxlen=MOST_OF_SERIES)).append(one)
        if not chosen:
            return layout.table, {}, found
        symbols, written = dict(layout.symbols), {}
        for identity, some in chosen.items():
            ordered = sorted(some, key=lambda one: one.at_ms)
            written[layout.heads[identity][0]] = b"".join([_exemplar(one, symbols) for one in ordered])
        own = list(symbols)[len(layout.symbols) :]
        return layout.table + b"".join([field(0x22, symbol) for symbol in own]), written, found

    def _head(
        self, identity: bytes, series: Series, symbols: dict[bytes, bytes], described: frozenset[str]
    ) -> tuple[bytes, bytes]:
        labels = field(0x0A, b"".join([_ref(symbols, text) for text in identity.split(_SEPARATOR)]))
        if not self._metadata:
            return labels, b""
        kind = TYPES.get(series.type, 0)
        written = bytes((0x08, kind)) if kind else b""
        if described and self._known[series].family in described:
            if series.help:
                written += b"\x18" + _ref(symbols, utf8(series.help))
            if series.unit:
                written += b"\x20" + _ref(symbols, utf8(series.unit))
        return labels, field(0x2A, written) if written else b""


def _exemplar(one: Exemplar, symbols: dict[bytes, bytes]) -> bytes:
    texts = [utf8(text) for pair in sorted(one.labels) for text in pair]
    refs = field(0x0A, b"".join([_ref(symbols, text) for text in texts]))
    return field(0x22, refs + b"\x11" + _DOUBLE.pack(one.value) + b"\x18" + varint(one.at_ms))


_DOUBLE = Struct("<d")


def _ref(symbols: dict[bytes, bytes], text: bytes) -> bytes:
    ref = symbols.get(text)
    if ref is None:
        ref = symbols[text] = varint(len(symbols))
    return ref


def _without_markers(starts: Stamps, values: Values) -> Stamps:
    total = sum(values)
    if total == total:  # no NaN among them
        return starts
    return tuple([0 if is_stale(value) else start for start, value in zip(starts, values, strict=True)])
