"""The formats of a file: ticks go in, the bytes of one whole file come out.

| format        | name           | what it is                                                                       |
|---------------|----------------|----------------------------------------------------------------------------------|
| `jsonl`       | `.jsonl.gz`    | a series with its samples a line (`agent.text.jsonl`), compressed by gzip            |
| `segments`    | `.seg`         | a whole segment as in the buffer (`buffer.whole`): every tick as it was collected    |
| `openmetrics` | `.om.gz`       | OpenMetrics text, compressed by gzip, for programs such as promtool                  |

Promises: the same ticks give the same bytes. `jsonl` and `segments` carry every value bit for bit. OpenMetrics has no stale
markers, they are counted as unstorable; of several values for an instant of a series it has one, the rest count as rejected.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from io import BytesIO
from typing import NamedTuple

from agent.destinations.base import REJECTED, UNSTORABLE
from agent.destinations.columns import merge
from agent.destinations.gzipped import gzipped
from agent.text import export
from buffer.model import Series, Tick, is_stale
from buffer.whole import pack

ENDINGS = {"jsonl": ".jsonl.gz", "segments": ".seg", "openmetrics": ".om.gz"}


class Rendered(NamedTuple):
    """The bytes of a file, the samples in it, and by reason those that are left out."""

    body: bytes
    samples: int
    dropped: dict[str, int]


def render(form: str, ticks: Sequence[Tick]) -> Rendered:
    """Return the file of some ticks; without bytes where it would have no sample."""
    samples = sum(len(tick.values) for tick in ticks)
    if form == "openmetrics":
        return _openmetrics(ticks)
    if not samples:
        return Rendered(b"", 0, {})
    if form == "segments":
        return Rendered(pack(ticks), samples, {})
    return Rendered(gzipped("".join(export.json_lines(ticks)).encode()), samples, {})


def storable(form: str, ticks: Sequence[Tick]) -> Sequence[Tick]:
    """Return the ticks without what the format cannot store."""
    return _without_markers(ticks) if form == "openmetrics" else ticks


def _openmetrics(ticks: Sequence[Tick]) -> Rendered:
    kept = _without_markers(ticks)
    markers = sum(len(tick.values) for tick in ticks) - sum(len(tick.values) for tick in kept)
    found = merge(kept, _name)
    dropped = {UNSTORABLE: markers, REJECTED: found.repeated}
    body = gzipped("".join(export.openmetrics(kept, BytesIO())).encode()) if found.samples else b""
    return Rendered(body, found.samples, {reason: count for reason, count in dropped.items() if count})


def _without_markers(ticks: Iterable[Tick]) -> list[Tick]:
    kept = []
    for tick in ticks:
        indices = [i for i, value in enumerate(tick.values) if value == value or not is_stale(value)]
        if len(indices) == len(tick.values):
            kept.append(tick)
        elif indices:
            series, values = tuple(tick.series[i] for i in indices), [tick.values[i] for i in indices]
            kept.append(tick._replace(series=series, values=values))
    return kept


def _name(series: Series) -> Series:
    return series._replace(type="", unit="", help="")
