"""The samples of a buffer, by series: for expressions, and to see what there is.

Reads from outside, takes no lock, and changes nothing: an agent may run, be stopped or be dead. Whatever was delivered
or not counts alike. What damage hides is missing; `damaged` counts its places. Names are as they were collected, so
what is masked in the buffer is masked here. Of two samples of a series at the same time the one that was written last counts.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from agent.ops.replay.source import SegmentHistory
from agent.ops.selector import NAME
from agent.query.limits import Budget
from agent.query.selecting import Data, Span
from agent.query.tree import Matchers
from agent.query.value import Samples
from buffer.inspect.segments import segments
from buffer.model import Labels, Series, Tick

_KEPT = 256
"""Sets of series of which it is remembered what is selected."""

Progress = Callable[[int, int], None]
"""Called now and then with how far it is, and how far there is to go."""


class Found(NamedTuple):
    """A series of a buffer: when its first and last sample were, and how many there are."""

    labels: Labels
    type: str
    unit: str
    first_ms: int
    last_ms: int
    samples: int


class _Column:
    """The samples of one series for one selector."""

    def __init__(self, labels: Labels, span: Span) -> None:
        self.labels, (self.first, self.last) = labels, span
        self.times, self.values = array("q"), array("d")
        self._in_order, self._newest = True, span[0] - 1

    def add(self, ms: int, value: float) -> None:
        if self.first <= ms <= self.last:
            self._in_order = self._in_order and ms > self._newest
            self._newest = ms
            self.times.append(ms)
            self.values.append(value)

    def samples(self) -> Samples:
        if self._in_order:
            return Samples(self.labels, self.times, self.values)
        newest = dict(zip(self.times, self.values, strict=True))
        ordered = sorted(newest)
        return Samples(self.labels, array("q", ordered), array("d", [newest[ms] for ms in ordered]))


class BufferSource:
    """The buffer in a folder, for one query.

    Attributes:
        damaged: places that could not be read.
        units: those of the metrics that were read, by name.
        host: the labels that all series carry that were met, selected or not.
    """

    def __init__(self, data_dir: str, budget: Budget, progress: Progress | None = None) -> None:
        self._data_dir, self._budget, self._progress = data_dir, budget, progress
        self.damaged = 0
        self.units: dict[str, str] = {}
        self._shared: set[tuple[str, str]] | None = None

    @property
    def host(self) -> Labels:
        """The labels that all series carry that were met."""
        return tuple(sorted(self._shared or ()))

    def _meet(self, series: tuple[Series, ...]) -> None:
        for one in series:
            self._shared = set(one.labels) if self._shared is None else self._shared & set(one.labels)

    def newest_ms(self) -> int | None:
        """Return when the newest sample was, None where there is none. Raises OSError."""
        times = [one.newest_timestamp_ms for one in segments(self._data_dir)]
        return max((ms for ms in times if ms is not None), default=None)

    def read(self, needs: Mapping[Matchers, Span]) -> Data:
        """Return the samples of each selector in its span, in one pass over the log. Raises QueryError, OSError."""
        tests = {matchers: _test(matchers) for matchers in needs}
        columns: dict[tuple[Matchers, Labels], _Column] = {}

        def picked(series: tuple[Series, ...]) -> list[tuple[int, _Column]]:
            found = []
            self._meet(series)
            for index, one in enumerate(series):
                labels = labels_of(one)
                for matchers, matches in tests.items():
                    if matches(labels):
                        column = columns.get((matchers, labels))
                        if column is None:
                            self._budget.series(len(columns) + 1)
                            column = columns[matchers, labels] = _Column(labels, needs[matchers])
                        self.units[one.name] = one.unit
                        found.append((index, column))
            return found

        if needs:
            known: dict[int, tuple[tuple[Series, ...], list[tuple[int, _Column]]]] = {}
            spans = needs.values()
            for tick in self._ticks(min(first for first, _ in spans), max(last for _, last in spans)):
                pick = known.get(id(tick.series))
                if pick is None:
                    if len(known) >= _KEPT:
                        known.clear()
                    # The series are held too, so that no others can come to have their address.
                    pick = known[id(tick.series)] = tick.series, picked(tick.series)
                ms, values = tick.at.wall_ms, tick.values
                for index, column in pick[1]:
                    column.add(ms, values[index])
                self._budget.read(len(pick[1]))
        data: dict[Matchers, list[Samples]] = {matchers: [] for matchers in needs}
        for (matchers, _), column in sorted(columns.items(), key=lambda one: one[0][1]):
            if column.times:
                data[matchers].append(column.samples())
        return data

    def series(self, matchers: Matchers, span: Span) -> list[Found]:
        """Return the series that match and have a sample in the span, by their labels. Raises QueryError, OSError."""
        matches = _test(matchers)
        found: dict[Labels, Found] = {}
        known: dict[int, tuple[tuple[Series, ...], list[tuple[Labels, Series]]]] = {}
        for tick in self._ticks(*span):
            ms, picked = tick.at.wall_ms, known.get(id(tick.series))
            if picked is None:
                if len(known) >= _KEPT:
                    known.clear()
                self._meet(tick.series)
                pairs = [(labels_of(one), one) for one in tick.series]
                picked = known[id(tick.series)] = tick.series, [pair for pair in pairs if matches(pair[0])]
            for labels, one in picked[1]:
                _, _, _, first, last, count = found.get(labels, (labels, "", "", ms, ms, 0))
                found[labels] = Found(labels, one.type, one.unit, min(first, ms), max(last, ms), count + 1)
            self._budget.check_time()
        self._budget.series(len(found))
        return sorted(found.values())

    def _ticks(self, first_ms: int, last_ms: int) -> Iterable[Tick]:
        history = SegmentHistory(self._data_dir, first_ms, last_ms)
        try:
            for number, piece in enumerate(history.pieces(0)):
                if self._progress is not None and not number % 256:
                    self._progress(piece.done, history.total)
                for tick in piece.ticks:
                    if first_ms <= tick.at.wall_ms <= last_ms:
                        yield tick
        finally:
            self.damaged += history.damaged


def labels_of(series: Series) -> Labels:
    """Return the labels of a series, with its name among them and without empty ones."""
    return tuple(sorted([(NAME, series.name), *(one for one in series.labels if one[1])]))


def _test(matchers: Matchers) -> Callable[[Labels], bool]:
    tests = [(matcher.label, matcher.test()) for matcher in matchers]

    def matches(labels: Labels) -> bool:
        found = dict(labels)
        return all(test(found.get(label, "")) for label, test in tests)

    return matches
