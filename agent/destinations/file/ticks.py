"""Ticks as a file gets them: after the relabeling of its destination; and by what one is known again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import blake2b
from struct import pack
from typing import Any, NamedTuple

from agent.destinations.labels import Relabel, final
from agent.destinations.remembered import Remembered
from buffer.model import Series, Tick

DIGEST = 6
"""Bytes: among 100,000 ticks, the chance that another one has the digest of one is below one in a billion."""
_KEPT = 64


class Final(NamedTuple):
    """Ticks with the series as they are written, and how many samples relabeling has dropped."""

    ticks: list[Tick]
    relabeled: int


class Relabeling:
    """Gives the series of ticks their final labels. The same series give the same objects again, which makes encoding cheap."""

    def __init__(self, relabel: Relabel | None) -> None:
        self._relabel = relabel
        self._known = Remembered(self._final)
        # By identity: the tuple is held too, so that no other one can come to have its address.
        self._picked: dict[int, tuple[tuple[Series, ...], list[int], tuple[Series, ...]]] = {}

    def identity(self, series: Series) -> bytes | None:
        """Return what two series have in common that are one in the file; None: it is not written."""
        found = self._known[series]
        return None if found is None else repr(found[:2]).encode("utf-8", "backslashreplace")

    def of(self, ticks: Iterable[Tick]) -> Final:
        """Return the ticks as they are written, none without a sample."""
        kept, relabeled = list[Tick](), 0
        for tick in ticks:
            _, indices, series = self._pick(tick.series)
            relabeled += len(tick.series) - len(indices)
            if len(indices) == len(tick.series):
                kept.append(tick._replace(series=series))
            elif indices:
                kept.append(tick._replace(series=series, values=[tick.values[i] for i in indices]))
        return Final(kept, relabeled)

    def _pick(self, series: tuple[Series, ...]) -> tuple[tuple[Series, ...], list[int], tuple[Series, ...]]:
        if (found := self._picked.get(id(series))) is None:
            if len(self._picked) >= _KEPT:
                self._picked.clear()
            finals = [self._known[one] for one in series]
            indices = [i for i, one in enumerate(finals) if one is not None]
            found = self._picked[id(series)] = (
                series,
                indices,
                tuple(one for one in finals if one is not None),
            )
        return found

    def _final(self, series: Series) -> Series | None:
        labels = final(series, self._relabel)
        if labels is None:
            return None
        name = labels.pop("__name__")
        return series._replace(name=name, labels=tuple(sorted(labels.items())))


def digests(ticks: Sequence[Tick]) -> list[bytes]:
    """Return the digest of each tick: of its instant, group, series and values. The same in every process."""
    heads: dict[int, Any] = {}
    found = []
    for at, group, series, values in ticks:
        if (head := heads.get(id(series))) is None:
            head = heads[id(series)] = blake2b(
                repr(series).encode("utf-8", "backslashreplace"), digest_size=DIGEST
            )
        one = head.copy()
        one.update(f"{at.boot_id} {at.mono_ms} {at.wall_ms} {group}\0".encode("utf-8", "backslashreplace"))
        one.update(pack(f"<{len(values)}d", *values))
        found.append(one.digest())
    return found
