"""Which samples say nothing new: those equal to the one before of their series (`send_unchanged_every`). No input and output.

Promises:

1. A sample counts as unchanged only where the receiver has acknowledged an equal one of the same series, bit for bit, from less
   than `every` before, and all samples of the series in between were equal too.
2. What was left out because of a sample of the same chunk shares its fate: where that one is refused or set apart, so are these,
   with the same words. (To send them after it would be out of order: newer ones of the chunk may be stored by then.)
3. Stale markers always go, and so does the first sample of a series after one, after a boot of the host, after a restart of the agent
   or a reload of the destination, after something that was not sent (evicted, too old, apart), and with a time that is not later.
4. What is left out is counted, once for each sample. The samples that are sent are a part of the ticks, in their order.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from agent.destinations.base import UNCHANGED, Speaks
from agent.send.batch import Settled
from agent.send.culprits import Culprits
from agent.send.parts import cut
from buffer.model import STALE_BITS, Chunk, Series, Tick

Keys = Sequence[bytes | None]


class _Sent(NamedTuple):
    """The last sample of a series that is not left out: its value's bits, its time and the boot that it is of."""

    bits: int
    wall_ms: int
    boot_id: str


class Unchanged:
    """Leaves out samples of a destination that says what it carries by `speaks`. `every` is in seconds. Used from one thread."""

    def __init__(self, speaks: Speaks, every: float) -> None:
        self._speaks, self._every_ms = speaks, round(every * 1000)
        self._last: dict[bytes, _Sent] = {}
        self._end = -1  # of the chunk that was settled last
        self._ticks: Sequence[Tick] = ()  # of the chunk at hand, as are the next two
        self._hidden: set[bytes | None] = set()
        self._new: dict[bytes, _Sent] = {}

    def split(self, chunk: Chunk, ticks: Sequence[Tick], others: Iterable[Tick]) -> tuple[list[Tick], int]:
        """Return the ticks without what is left out, and how many samples that is. `others` of the chunk are not sent now."""
        if chunk.start != self._end:  # something between the two was given up, or went another way
            self._last.clear()
        self._ticks, self._hidden = ticks, self._keys_in(others)
        # One object for the same series, since that is what makes columns of ticks cheap.
        names: dict[tuple[int, tuple[int, ...]], tuple[Series, ...]] = {}
        found: list[Tick] = []
        count = 0
        for tick, bases in self._walk():
            if not any(bases):
                found.append(tick)
                continue
            kept = tuple([i for i, base in enumerate(bases) if not base])
            count += len(bases) - len(kept)
            if kept:
                place = id(tick.series), kept
                if place not in names:
                    names[place] = tuple([tick.series[i] for i in kept])
                found.append(tick._replace(series=names[place], values=[tick.values[i] for i in kept]))
        return found, count

    def settled(self, settled: Settled) -> Settled:
        """Take it that the chunk at hand is done with. Return what became of it, with what was left out for what was refused."""
        if settled.culprits:
            settled = self._shared(settled)
        bad = {key for one in settled.culprits for key in self._keys_in(one.ticks)} | self._hidden
        newest = max((one.wall_ms for one in self._new.values()), default=0)
        self._last = {
            key: one
            for key, one in {**self._last, **self._new}.items()
            if key not in bad and newest - one.wall_ms < self._every_ms
        }
        self._end, self._ticks = settled.chunk.end, ()
        return settled

    def _walk(self) -> Iterator[tuple[Tick, list[int]]]:
        """Yield the ticks of the chunk at hand; for each sample the time of the one for which it is left out, 0: it goes."""
        carries, keys = self._speaks().carries, dict[int, Keys]()
        self._new = {}
        for tick in self._ticks:
            if id(tick.series) not in keys:
                keys[id(tick.series)] = [carries(one) for one in tick.series]
            numbers = memoryview(array("d", tick.values)).cast("B").cast("Q")
            yield tick, [self._base(tick, *pair) for pair in zip(keys[id(tick.series)], numbers, strict=True)]

    def _base(self, tick: Tick, key: bytes | None, bits: int) -> int:
        if key is None:  # counted for its own reason
            return 0
        wall, boot = tick.at.wall_ms, tick.at.boot_id
        was = self._new.get(key) or (self._last.get(key) if key not in self._hidden else None)
        if was is not None and wall <= was.wall_ms:  # which of the two a receiver has is not known
            bits = STALE_BITS
        elif (
            was is not None
            and was.bits == bits != STALE_BITS
            and was.boot_id == boot
            and wall - was.wall_ms < self._every_ms
        ):
            return was.wall_ms
        self._new[key] = _Sent(bits, wall, boot)
        return 0

    def _shared(self, settled: Settled) -> Settled:
        """Return it with what was left out for a sample that was refused."""
        carries = self._speaks().carries
        left: dict[tuple[bytes | None, int], list[Tick]] = {}
        for tick, bases in self._walk():
            for i, base in enumerate(bases):
                if base:
                    left.setdefault((carries(tick.series[i]), base), []).append(cut(tick, i, i + 1))
        dropped, culprits = dict(settled.dropped), list[Culprits]()
        for one in settled.culprits:
            refused = [(carries(series), tick.at.wall_ms) for tick in one.ticks for series in tick.series]
            more = [tick for place in refused for tick in left.pop(place, ())]
            if more:
                dropped[UNCHANGED] -= len(more)
                dropped[one.reason] = dropped.get(one.reason, 0) + len(more)
                ticks = sorted([*one.ticks, *more], key=lambda tick: tick.at.wall_ms)
                one = one._replace(samples=one.samples + len(more), ticks=ticks)
            culprits.append(one)
        return settled._replace(dropped=dropped, culprits=culprits)

    def _keys_in(self, ticks: Iterable[Tick]) -> set[bytes | None]:
        carries, sets = self._speaks().carries, {id(tick.series): tick.series for tick in ticks}
        return {carries(one) for series in sets.values() for one in series}
