"""When a counter, histogram or summary of a scraped target began: what a `_created` series next to it says, as OpenMetrics has them.

Promise: a start is after 1970 and before its sample, or there is none; a marker of a series that ended has none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from agent.destinations.columns import Stamps, Values
from buffer.model import Labels, Series, is_stale

_SUFFIXES: Mapping[str, tuple[str, ...]] = {
    "counter": ("_total",),
    "histogram": ("_bucket", "_count", "_sum"),
    "summary": ("_count", "_sum"),
}
"""By the type of a family the ends of the names of what counts in it."""

Counted = tuple[str, Labels]
"""The name of a family, and the labels of what is counted."""


def created(columns: Sequence[tuple[bytes, Series, Values]]) -> dict[Counted | None, Values]:
    """Return what the `_created` series say, in seconds since 1970, by the name and the labels that they are about."""
    return {
        (series.name.removesuffix("_created"), series.labels): values
        for _, series, values in columns
        if series.name.endswith("_created") and series.type in _SUFFIXES
    }


def counted(series: Series) -> Counted | None:
    """Return the name and the labels of what a series counts; None: it counts nothing."""
    suffixes = _SUFFIXES.get(series.type, ())
    suffix = next((one for one in suffixes if series.name.endswith(one)), None)
    if suffix is None:
        return None
    labels = (
        tuple(pair for pair in series.labels if pair[0] != "le") if suffix == "_bucket" else series.labels
    )
    return series.name.removesuffix(suffix), labels


def began(seconds: Values, values: Values, stamps: Stamps) -> Stamps:
    """Return the start of each sample, 0 where there is none; nothing where none has one."""
    starts = tuple(
        [
            int(start * 1000) if 0 < start * 1000 < stamp and not is_stale(value) else 0
            for start, value, stamp in zip(seconds, values, stamps, strict=True)
        ]
    )
    return starts if any(starts) else ()
