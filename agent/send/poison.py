"""A batch that was refused for good, as ticks: what to send of it next, and which ticks are the culprits'.

What is decided in `bisect` over indices has ticks here; pure. Promise: the same ticks and the same answers always give
the same culprits, in the same order.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from agent.destinations.remote_write.columns import Stamps, Values, merge
from agent.destinations.remote_write.outcome import Outcome
from agent.send.bisect import Bisection, Cells
from agent.send.too_old import age
from buffer.model import Series, Tick

AGED, REJECTED = "aged", "rejected"


class Culprits(NamedTuple):
    """Samples that were refused with the same words. `samples` are those without repeated instants."""

    reason: str
    outcome: Outcome
    samples: int
    ticks: list[Tick]


class _Column(NamedTuple):
    key: bytes
    series: Series
    block: int
    rows: tuple[Tick, ...]
    stamps: Stamps
    values: Values


class Poison:
    """The search for the culprits of a batch that was refused with `whole`.

    `key` is the identity of a series; those in `suspects` are asked apart from the others first. Series without one
    were not in the batch: they are neither asked about nor among the culprits.
    """

    def __init__(
        self,
        ticks: Sequence[Tick],
        key: Callable[[Series], bytes | None],
        whole: Outcome,
        suspects: frozenset[bytes] = frozenset(),
    ) -> None:
        self._ticks, self._key = ticks, key
        columns = [
            _Column(name, series, number, block.rows, block.stamps, values)
            for number, block in enumerate(merge(ticks, key).blocks)
            for name, series, values in block.columns
        ]
        self._columns = sorted(columns, key=lambda column: column.key in suspects)
        cut = sum(column.key not in suspects for column in columns)
        self._bisection = Bisection([column.stamps for column in self._columns], whole, cut)

    @property
    def delivered(self) -> int:
        """Samples that were taken so far."""
        return self._bisection.delivered

    def tell(self, outcome: Outcome) -> None:
        """What the receiver said to `ask`: delivered, or refused for good."""
        self._bisection.tell(outcome)

    def ask(self) -> list[Tick]:
        """What is to be sent next, no instant twice; empty: all is settled."""
        shared: dict[tuple[int, int, int], list[_Column]] = {}
        for at, start, end in self._bisection.ask:
            column = self._columns[at]
            shared.setdefault((column.block, start, end), []).append(column)
        ticks: list[Tick] = []
        for (_, start, end), columns in shared.items():
            names = tuple([column.series for column in columns])
            values = zip(*[column.values[start:end] for column in columns], strict=True)
            rows = columns[0].rows[start:end]
            ticks += [row._replace(series=names, values=cut) for row, cut in zip(rows, values, strict=True)]
        return ticks

    def culprits(self) -> list[Culprits]:
        """What was refused, by the receiver's words, as the ticks that it came in."""
        found: dict[Outcome, list[Cells]] = {}
        for cells, outcome in self._bisection.refused:
            found.setdefault(outcome._replace(after=None), []).append(cells)
        return [
            Culprits(
                AGED if age(outcome.error) else REJECTED,
                outcome,
                sum(end - start for _, start, end in cells),
                self._of(cells),
            )
            for outcome, cells in found.items()
        ]

    def suspects(self) -> frozenset[bytes]:
        """The series that were refused for another reason than their age."""
        refused = self._bisection.refused
        return frozenset(self._columns[cells.series].key for cells, one in refused if not age(one.error))

    def _of(self, cells: Iterable[Cells]) -> list[Tick]:
        """The ticks of the batch, cut down to these samples and what repeats their instants."""
        spans: dict[bytes, list[tuple[int, int]]] = {}
        for at, start, end in cells:
            column = self._columns[at]
            spans.setdefault(column.key, []).append((column.stamps[start], column.stamps[end - 1]))
        for one in spans.values():
            one.sort()
        names: dict[tuple[int, tuple[int, ...]], tuple[Series, ...]] = {}
        ticks: list[Tick] = []
        for tick in self._ticks:
            wall_ms = tick.at.wall_ms
            kept = tuple(
                [i for i, one in enumerate(tick.series) if _within(spans.get(self._key(one) or b""), wall_ms)]
            )
            if len(kept) == len(tick.series) and kept:
                ticks.append(tick)
            elif kept:
                series = names.setdefault((id(tick.series), kept), tuple([tick.series[i] for i in kept]))
                ticks.append(tick._replace(series=series, values=[tick.values[i] for i in kept]))
        return ticks


def _within(spans: list[tuple[int, int]] | None, wall_ms: int) -> bool:
    if spans is None:
        return False
    at = bisect_right(spans, wall_ms, key=lambda span: span[0])
    return at > 0 and wall_ms <= spans[at - 1][1]
