"""The samples of a buffer, by series: for expressions, and to see what there is.

Reads from outside, takes no lock, and changes nothing: an agent may run, be stopped or be dead. Whatever was delivered
or not counts alike. What damage hides is missing; `damaged` counts its places. Names are as they were collected, so
what is masked in the buffer is masked here. Of two samples of a series at the same time the one that was written last counts.

Only what has something of the series and the time that are wanted is read (`buffer.lookup`).
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice, pairwise
from operator import lt
from typing import Any, NamedTuple

from agent.ops.selector import NAME
from agent.query.limits import Budget
from agent.query.selecting import Data, Span, Whole
from agent.query.tree import Matchers
from agent.query.value import Samples, Thinned, rows_of
from agent.text import human
from buffer.fs import RealFs
from buffer.lookup.cache import Cache
from buffer.lookup.files import Lookup
from buffer.lookup.table import Rows, Table, taken
from buffer.model import Labels, Series

Progress = Callable[[int, int], None]
"""Called now and then with how far it is, and how far there is to go."""
_Key = tuple[Matchers, Labels]


class Found(NamedTuple):
    """A series of a buffer: when its first and last sample were, and how many there are."""

    labels: Labels
    type: str
    unit: str
    first_ms: int
    last_ms: int
    samples: int


class _Part(NamedTuple):
    """Samples of one series from one table of a file, which were written in the order that `order` has."""

    key: _Key
    file: int
    order: array[int]
    times: array[int]
    values: array[float]
    low: array[float]
    high: array[float]
    counts: array[float] | None
    step_ms: int


class BufferSource:
    """The buffer in a folder, for one query. A process that answers many gives all of them one `cache`.

    Attributes:
        damaged: places that could not be read.
        units: those of the metrics that were read, by name.
        host: the labels that all series carry that were met, selected or not.
    """

    def __init__(
        self, data_dir: str, budget: Budget, progress: Progress | None = None, cache: Cache | None = None
    ) -> None:
        self._lookup = Lookup(RealFs(data_dir), data_dir, cache)
        self._budget, self._progress = budget, progress
        self.units: dict[str, str] = {}
        self._shared: set[tuple[str, str]] | None = None

    @property
    def damaged(self) -> int:
        """The places that could not be read."""
        return self._lookup.damaged

    def warnings(self) -> list[str]:
        """Return what people must know about what was read."""
        said = []
        if self.damaged:
            places = human.plural(self.damaged, "stretch", "stretches")
            what = f"{places} of damage passed over, so samples may be missing"
            said.append(f"{what}; `limpet buffer verify` says what is")
        if not self._lookup.is_whole:
            what = "the agent changed its files faster than they could be read"
            said.append(f"{what}, so samples may be missing; try again")
        return said

    @property
    def host(self) -> Labels:
        """The labels that all series carry that were met."""
        return tuple(sorted(self._shared or ()))

    def _meet(self, series: tuple[Series, ...]) -> None:
        for one in series:
            self._shared = set(one.labels) if self._shared is None else self._shared & set(one.labels)

    def newest_ms(self) -> int | None:
        """Return when the newest sample was, None where there is none. Raises OSError."""
        return self._lookup.newest_ms()

    def read(self, needs: Mapping[Matchers, Span]) -> Data:
        """Return the samples of each selector in its span. Raises QueryError, OSError."""
        data: dict[Matchers, list[Samples]] = {matchers: [] for matchers in needs}
        if not needs:
            return data
        selected = self._selecting(needs)

        def visit(table: Table) -> Iterator[_Part]:
            self._budget.check_time()
            rows: dict[Span, Rows] = {}
            for index, key in selected(table.series):
                span = needs[key[0]]
                if span not in rows:
                    rows[span] = table.placed.within(span[0] - table.step_ms, span[1])
                if rows[span]:
                    self._budget.read(len(rows[span]))
                    columns = span.columns if isinstance(span, Whole) else frozenset[str]()
                    if (part := _part(table, index, key, rows[span], columns)) is not None:
                        yield part

        first, last = min(first for first, _ in needs.values()), max(last for _, last in needs.values())
        parts: dict[_Key, list[_Part]] = {}
        for number, file in enumerate(self._lookup.collect(first, last, visit, self._progress)):
            for part in file:
                parts.setdefault(part.key, []).append(part._replace(file=number))
        for key in sorted(parts, key=lambda one: one[1]):
            data[key[0]].append(_samples(key[1], parts[key]))
        return data

    def _selecting(
        self, wanted: Iterable[Matchers]
    ) -> Callable[[tuple[Series, ...]], list[tuple[int, _Key]]]:
        tests = {matchers: _test(matchers) for matchers in wanted}
        known: dict[int, tuple[tuple[Series, ...], list[tuple[int, _Key]]]] = {}
        keys: set[_Key] = set()

        def selected(series: tuple[Series, ...]) -> list[tuple[int, _Key]]:
            # By identity: the same set is mostly the same object. It is held too, so that no other can have its address.
            if (found := known.get(id(series))) is not None:
                return found[1]
            self._meet(series)
            pairs: list[tuple[int, _Key]] = []
            for index, one in enumerate(series):
                labels = labels_of(one)
                for matchers, matches in tests.items():
                    if matches(labels):
                        keys.add((matchers, labels))
                        self._budget.series(len(keys))
                        self.units[one.name] = one.unit
                        pairs.append((index, (matchers, labels)))
            known[id(series)] = series, pairs
            return pairs

        return selected

    def series(self, matchers: Matchers, span: Span) -> list[Found]:
        """Return the series that match and have a sample in the span, by their labels. Raises QueryError, OSError."""
        selected = self._selecting([matchers])

        def visit(table: Table) -> Iterator[tuple[Series, Labels, int, int, int]]:
            self._budget.check_time()
            if (pairs := selected(table.series)) and (rows := table.placed.within(*span)):
                times = taken(table.placed.times, rows)
                first, last = min(times), max(times)
                for index, (_, labels) in pairs:
                    yield table.series[index], labels, first, last, len(times)

        found: dict[Labels, Found] = {}
        for file in self._lookup.collect(*span, visit, self._progress):
            for one, labels, first, last, count in file:
                _, _, _, oldest, newest, samples = found.get(labels, (labels, "", "", first, last, 0))
                found[labels] = Found(
                    labels, one.type, one.unit, min(first, oldest), max(last, newest), samples + count
                )
        return sorted(found.values())


def labels_of(series: Series) -> Labels:
    """Return the labels of a series, with its name among them and without empty ones."""
    return tuple(sorted([(NAME, series.name), *(one for one in series.labels if one[1])]))


def _test(matchers: Matchers) -> Callable[[Labels], bool]:
    tests = [(matcher.label, matcher.test()) for matcher in matchers]

    def matches(labels: Labels) -> bool:
        found = dict(labels)
        return all(test(found.get(label, "")) for label, test in tests)

    return matches


def _part(table: Table, index: int, key: _Key, rows: Rows, columns: frozenset[str]) -> _Part | None:
    """Return some rows of a series; None where its values are damaged. Columns that are not wanted are as the values are."""
    if (column := table.values(index)) is None:
        return None
    values = low = high = taken(column, rows)
    counts = None
    if table.step_ms:
        if "low" in columns and (found := table.low(index)) is not None:
            low = taken(found, rows)
        if "high" in columns and (found := table.high(index)) is not None:
            high = taken(found, rows)
        if "counts" in columns and (found := table.counts()) is not None:
            counts = taken(found, rows)
    times, order = taken(table.placed.times, rows), taken(table.placed.order, rows)
    return _Part(key, 0, order, times, values, low, high, counts, table.step_ms)


def _samples(labels: Labels, parts: list[_Part]) -> Samples:
    """Return the samples of some parts, the oldest first; of two at the same time the last one."""
    times = _joined("q", [one.times for one in parts])
    values = _joined("d", [one.values for one in parts])
    thinned = None
    if any(one.step_ms for one in parts):
        steps = _joined("q", [array("q", [one.step_ms]) * len(one.times) for one in parts])
        low, high = _joined("d", [one.low for one in parts]), _joined("d", [one.high for one in parts])
        counts = [one.counts or array("d", [1.0]) * len(one.times) for one in parts]
        thinned = Thinned(steps, low, high, _joined("d", counts))
    found = Samples(labels, times, values, thinned)
    return found if all(map(lt, times, islice(times, 1, None))) else _ordered(found, parts)


def _joined(code: str, columns: list[array[Any]]) -> array[Any]:
    if len(columns) == 1:
        return columns[0]
    joined = array(code)
    for one in columns:
        joined += one
    return joined


def _ordered(found: Samples, parts: list[_Part]) -> Samples:
    """Return samples in order of time; of two at the same time the one that was written last."""
    times = found.times
    rows = sorted(range(len(times)), key=times.__getitem__)
    if any(times[a] == times[b] for a, b in pairwise(rows)):
        written = [(one.file, order) for one in parts for order in one.order]
        rows.sort(key=lambda row: (times[row], written[row]))
        rows = [row for row, after in pairwise([*rows, -1]) if after < 0 or times[row] != times[after]]
    return rows_of(found, rows)
