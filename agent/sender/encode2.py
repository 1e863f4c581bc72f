"""Ticks into the bytes of a remote write 2.0 request, before compression.

    Request    := (0x22 length symbol)* (0x2a length TimeSeries)*
    TimeSeries := 0x0a length (ref varint)* (0x12 length Sample)* [0x2a length Metadata]
    Metadata   := 0x08 type 0x18 help ref 0x20 unit ref

The first symbol is empty; every other one is used, and stands once. What is promised stands in `encode`, and:

1. With `metadata` each series carries type, help and unit, as the last tick with it says.
2. A sample of a counter carries when it started to count, where its group counts from the host's boot: the boot as
   the tick's clocks tell it, in whole seconds, the same for all ticks of a boot in a request. Where the clock was set
   by more than TOLERANCE_MS, ticks before and after it have their own. A start is never at or after its sample, and
   never at or before 1970. A staleness marker has none.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from struct import Struct

from agent.sender.columns import Stamps, Values, merge
from agent.sender.encode import TYPES, Encoded, Encoder, Pairs, Relabel, field, samples, utf8, varint
from buffer.model import Series, Tick

TOLERANCE_MS = 10_000
"""A tick may be as late as its interval: then its clocks tell an earlier boot. That is no other boot."""

_SEPARATOR = b"\xff"  # no byte of UTF-8
_DOUBLE = Struct("<d")
_STALE = (0x7FF0000000000002).to_bytes(8, "little")


class Encoder2(Encoder):
    """Encodes ticks. `from_boot` are the groups whose counters begin with the host's boot."""

    def __init__(
        self,
        relabel: Relabel | None = None,
        *,
        metadata: bool = True,
        from_boot: frozenset[str] = frozenset(),
    ) -> None:
        super().__init__(relabel)
        self._metadata, self._from_boot = metadata, from_boot

    def encode(self, ticks: Iterable[Tick], describe: Collection[str] = ()) -> Encoded:
        """The Request that holds every sample of `ticks`, none of them twice. Metadata needs no asking."""
        ticks = list(ticks)
        boots = _Boots([tick for tick in ticks if tick.group in self._from_boot])
        merged = merge(ticks, self.labels)
        symbols = {b"": 0}
        shared: dict[tuple[Stamps, Stamps], list[tuple[tuple[bytes, bytes], Values]]] = {}
        for block in merged.blocks:
            starts = tuple([boots.start(row) if row.group in self._from_boot else 0 for row in block.rows])
            if not any(starts):
                starts = ()
            for identity, series, values in block.columns:
                begun = _without_markers(starts, values) if starts and series.type == "counter" else ()
                head = self._head(identity, series, symbols)
                shared.setdefault((block.stamps, begun), []).append((head, values))
        parts: list[bytes] = []
        for (stamps, begun), columns in shared.items():
            for (refs, metadata), written in samples(stamps, begun, columns):
                size = len(refs) + len(written) + len(metadata)
                parts += (b"\x2a" + varint(size) + refs, written, metadata)
        table = [field(0x22, symbol) for symbol in symbols] if parts else []
        return Encoded(b"".join(table + parts), merged.samples, merged.repeated, merged.relabeled)

    def families(self, ticks: Iterable[Tick]) -> set[str]:
        """None: each request has the metadata of its series, or is to have none."""
        return set()

    def _identity(self, pairs: Pairs) -> bytes:
        return _SEPARATOR.join([text for pair in pairs for text in pair])

    def _head(self, identity: bytes, series: Series, symbols: dict[bytes, int]) -> tuple[bytes, bytes]:
        refs = [symbols.setdefault(text, len(symbols)) for text in identity.split(_SEPARATOR)]
        labels = field(0x0A, b"".join(map(varint, refs)))
        if not self._metadata:
            return labels, b""
        kind = TYPES.get(series.type, 0)
        written = bytes((0x08, kind)) if kind else b""
        for tag, text in ((b"\x18", series.help), (b"\x20", series.unit)):
            if text:
                written += tag + varint(symbols.setdefault(utf8(text), len(symbols)))
        return labels, field(0x2A, written) if written else b""


class _Boots:
    """When the host was booted, by what the clocks of some ticks tell."""

    def __init__(self, ticks: Sequence[Tick]) -> None:
        told: dict[str, set[int]] = {}
        for wall_ms, mono_ms, boot_id in {tick.at for tick in ticks}:
            told.setdefault(boot_id, set()).add(wall_ms - mono_ms)
        self._boots: dict[tuple[str, int], int] = {}
        for boot_id, times in told.items():
            newest: int | None = None  # the tick that was least late
            for time in sorted(times, reverse=True):
                if newest is None or newest - time > TOLERANCE_MS:
                    newest = time
                self._boots[boot_id, time] = newest - newest % 1000

    def start(self, tick: Tick) -> int:
        """The boot that a tick belongs to; 0: there is none that can be told."""
        wall_ms, mono_ms, boot_id = tick.at
        boot = self._boots[boot_id, wall_ms - mono_ms]
        return boot if 0 < boot < wall_ms else 0


def _without_markers(starts: Stamps, values: Values) -> Stamps:
    total = sum(values)
    if total == total:
        return starts
    return tuple(
        [0 if _DOUBLE.pack(value) == _STALE else start for start, value in zip(starts, values, strict=True)]
    )
