"""Ticks into the bytes of a remote write 1.0 request, before compression.

    WriteRequest   := (0x0a length TimeSeries)* (0x1a length MetricMetadata)*
    TimeSeries     := (0x0a length Label)* (0x12 length Sample)*
    Label          := 0x0a length name 0x12 length value           utf-8
    MetricMetadata := 0x08 type 0x12 length family 0x22 length help 0x2a length unit

`length` is a varint of the bytes that follow. `encode` has the promises. A family's metadata is that of the last of its series.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from io import BytesIO

from agent.destinations.columns import Stamps, Values
from agent.destinations.labels import utf8
from agent.destinations.protobuf import field
from agent.destinations.remote_write.encode import (
    TYPES,
    Encoded,
    Encoder,
    Heads,
    Pairs,
    runs,
)
from buffer.model import Series, Tick


class Encoder1(Encoder):
    """Encodes ticks, and remembers the encoded labels of their series (`Remembered`)."""

    def encode(self, ticks: Iterable[Tick], describe: Collection[str] = ()) -> Encoded:
        """The WriteRequest that holds every sample of `ticks`, none of them twice, and the metadata of these
        families where they are among the ticks.
        """
        merged = self._merged(list(ticks))
        shared: dict[tuple[Stamps, Stamps], list[tuple[bytes, Values]]] = {}
        for block in merged.blocks:
            columns = [(labels, values) for labels, _, values in block.columns]
            shared.setdefault((block.stamps, ()), []).extend(columns)
        body, heads = BytesIO(), Heads(0x0A)
        for run in runs(shared):
            parts: list[bytes] = []
            for labels, values in run.columns:
                written = run.write(values)
                parts += (heads[len(labels) + len(written)], labels, written)
            body.write(b"".join(parts))
        described: dict[str, Series] = {}
        if describe:
            for block in merged.blocks:
                for _, series, _ in block.columns:
                    family = self._known[series].family
                    if family in describe:
                        described[family] = series
        body.write(b"".join([_metadata(family, described[family]) for family in sorted(described)]))
        return Encoded(body.getvalue(), merged.samples, merged.repeated, merged.relabeled)

    def _identity(self, pairs: Pairs) -> bytes:
        return b"".join([field(0x0A, field(0x0A, name) + field(0x12, value)) for name, value in pairs])


def _metadata(family: str, series: Series) -> bytes:
    kind, texts = TYPES.get(series.type, 0), ((0x12, family), (0x22, series.help), (0x2A, series.unit))
    written = bytes((0x08, kind)) if kind else b""
    return field(0x1A, written + b"".join([field(tag, utf8(text)) for tag, text in texts if text]))
