"""Samples as text: OpenMetrics, JSON lines, CSV. Ticks go in, pieces of text come out.

Memory is bounded in all three: by `SAMPLES` that wait, and a few numbers for each series.

- JSON lines (`agent.text.jsonl`): the samples of up to half an hour of each series on a line, then the next half
  hour. Half an hour, because a receiver without an out-of-order window takes nothing older than an hour.
- CSV: a sample a line, in the order of the log.
- OpenMetrics wants all samples of a family together, and those of a series together and in time order, while
  the log has them by time. One pass over the log sorts them by series into a scratch file, compressed; a
  second one over that file writes them. (A pass over the log for each family would decode it a hundred times;
  decoding is what takes the time.) A series whose clock went back is sorted in memory, one at a time, and of
  samples with the same time the last one counts.

Source: OpenMetrics 1.0, sections "Overall Structure" and "Interleaving" (one family, one metric at a time),
"Counter" (`_total`), "Unit" (a suffix of the family's name), "Timestamps" (seconds).
"""

from __future__ import annotations

import json
import math
import zlib
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import IO, NamedTuple

from agent.text import jsonl
from agent.text.exposition import number, quoted_name, selector
from buffer.model import ENDED, Labels, Series, Tick, is_stale

SAMPLES = 1 << 18
"""Samples that wait at most."""
SPAN_MS = 30 * 60_000
_IN_HELP = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})


class _Block(NamedTuple):
    """Ticks of one group while its series stay the same."""

    series: tuple[Series, ...]
    times: list[int]
    rows: list[Iterable[float]]


class _Waiting:
    """Samples that wait for others of their series.

    Of a collector one block at a time is open, so that the samples of a series and its markers, which are in
    another group, come in the order of the log.
    """

    def __init__(self) -> None:
        self._clear()

    def _clear(self) -> None:
        self.samples, self.start_ms = 0, 0
        self._blocks: list[_Block] = []
        self._last: dict[str, _Block] = {}

    def add(self, tick: Tick) -> None:
        collector = tick.group.removesuffix(ENDED)
        block = self._last.get(collector)
        if block is None or (block.series is not tick.series and block.series != tick.series):
            block = self._last[collector] = _Block(tick.series, [], [])
            self._blocks.append(block)
        if not self.samples:
            self.start_ms = tick.at.wall_ms
        block.times.append(tick.at.wall_ms)
        block.rows.append(tick.values)
        self.samples += len(tick.values)

    def take(self) -> Iterator[tuple[Series, list[int], tuple[float, ...]]]:
        """Yield the samples by series, and forget them; of each series in the order they came."""
        for block in self._blocks:
            for series, column in zip(block.series, zip(*block.rows, strict=True), strict=True):
                yield series, block.times, column
        self._clear()


def json_lines(ticks: Iterable[Tick]) -> Iterator[str]:
    """Yield lines of `agent.text.jsonl`."""
    waiting = _Waiting()
    for tick in ticks:
        within = 0 <= tick.at.wall_ms - waiting.start_ms < SPAN_MS and waiting.samples < SAMPLES
        if waiting.samples and not within:
            yield from (jsonl.line(*one) for one in waiting.take())
        waiting.add(tick)
    yield from (jsonl.line(*one) for one in waiting.take())


def csv(ticks: Iterable[Tick]) -> Iterator[str]:
    """Yield a header and a line for each sample: time in ms and as ISO 8601, name, labels as JSON, value.

    NaN, +Inf, -Inf and the stale marker are written as in JSON lines.
    """
    yield "timestamp_ms,time,name,labels,value\n"
    known: dict[int, tuple[tuple[Series, ...], list[str]]] = {}
    for tick in ticks:
        found = known.get(id(tick.series))
        if found is None:
            if len(known) >= 64:
                known.clear()
            # The series are held too, so that no others can come to have their address.
            found = known[id(tick.series)] = tick.series, [_cells(one) for one in tick.series]
        at = tick.at.wall_ms
        head = f"{at},{_iso(at)},"
        yield "".join(
            f"{head}{cells}{jsonl.special(v)}\n" for cells, v in zip(found[1], tick.values, strict=True)
        )


def _cells(series: Series) -> str:
    labels = json.dumps(dict(series.labels), separators=(",", ":"), ensure_ascii=False).replace('"', '""')
    return f'{series.name},"{labels}",'


def _iso(ms: int) -> str:
    try:
        moment = datetime.fromtimestamp(ms // 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return ""
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{ms % 1000:03d}Z"


class _Stored:
    """A series, and where its samples are in the scratch file: offset, size and number, chunk by chunk."""

    def __init__(self, series: Series) -> None:
        self.series = series
        self.chunks = array("Q")
        self.in_order, self._newest_ms = True, -(1 << 62)

    def seen(self, series: Series, times: Sequence[int]) -> None:
        self.series = series  # what its newest help and type are
        for ms in times:
            self.in_order = self.in_order and ms > self._newest_ms
            self._newest_ms = ms


class Family(NamedTuple):
    """A metric's name and type in OpenMetrics."""

    name: str
    type: str


def openmetrics(ticks: Iterable[Tick], scratch: IO[bytes]) -> Iterator[str]:
    """Yield OpenMetrics text; `scratch` is an empty file that may be written and read.

    Stale markers are left out: the format has none. Raises OSError of the scratch file.
    """
    names: dict[str, list[_Stored]] = {}
    for stored in sorted(_store(ticks, scratch), key=lambda one: one.series[:2]):
        names.setdefault(stored.series.name, []).append(stored)
    meta = {name: found[-1].series for name, found in names.items()}
    for name, found in names.items():
        yield _head(family(name, meta), meta[name])
        for one in found:
            yield from _samples(one, scratch)
    yield "# EOF\n"


def family(name: str, all_names: Mapping[str, Series]) -> Family:
    """Return the family of a metric among all metrics.

    A counter's family has no `_total`. Where another metric has that name, or the counter's own name does
    not end in `_total`, the type is `unknown`, because only then may the sample keep its name.
    """
    kind = all_names[name].type
    if kind == "gauge":
        return Family(name, "gauge")
    short = name.removesuffix("_total")
    if kind == "counter" and short and short != name and short not in all_names:
        return Family(short, "counter")
    return Family(name, "unknown")


def _store(ticks: Iterable[Tick], scratch: IO[bytes]) -> Iterable[_Stored]:
    stored: dict[tuple[str, Labels], _Stored] = {}
    waiting, offset = _Waiting(), 0

    def put() -> int:
        at = offset
        for series, times, values in waiting.take():
            one = stored.setdefault(series[:2], _Stored(series))
            one.seen(series, times)
            data = zlib.compress(array("q", times).tobytes() + array("d", values).tobytes(), 1)
            scratch.write(data)
            one.chunks.extend((at, len(data), len(times)))
            at += len(data)
        return at

    for tick in ticks:
        if waiting.samples >= SAMPLES:
            offset = put()
        waiting.add(tick)
    put()
    scratch.flush()
    return stored.values()


def _head(found: Family, series: Series) -> str:
    lines = [f"# TYPE {quoted_name(found.name)} {found.type}"]
    if series.unit and found.name.endswith(f"_{series.unit}"):
        lines.append(f"# UNIT {quoted_name(found.name)} {series.unit}")
    if series.help:
        lines.append(f"# HELP {quoted_name(found.name)} {series.help.translate(_IN_HELP)}")
    return "".join(f"{line}\n" for line in lines)


def _samples(stored: _Stored, scratch: IO[bytes]) -> Iterator[str]:
    head = selector(*stored.series[:2])
    if stored.in_order:
        for times, values in _chunks(stored, scratch):
            yield _lines(head, times, values)
        return
    newest: dict[int, float] = {}
    for times, values in _chunks(stored, scratch):
        newest |= zip(times, values, strict=True)
    ordered = sorted(newest)
    yield _lines(head, ordered, [newest[ms] for ms in ordered])


def _chunks(stored: _Stored, scratch: IO[bytes]) -> Iterator[tuple[array[int], array[float]]]:
    for i in range(0, len(stored.chunks), 3):
        at, size, count = stored.chunks[i : i + 3]
        scratch.seek(at)
        data = zlib.decompress(scratch.read(size))
        times, values = array("q"), array("d")
        times.frombytes(data[: count * 8])
        values.frombytes(data[count * 8 :])
        yield times, values


def _lines(head: str, times: Iterable[int], values: Sequence[float]) -> str:
    texts = [number(v) for v in values] if not all(map(math.isfinite, values)) else map(repr, values)
    rows = zip(map(seconds, times), texts, values, strict=True)
    return "".join([f"{head} {text} {at}\n" for at, text, v in rows if v == v or not is_stale(v)])


def seconds(ms: int) -> str:
    """Return a time in ms as seconds, with three decimals where it is not whole."""
    return f"{ms // 1000}.{ms % 1000:03d}" if ms % 1000 else str(ms // 1000)
