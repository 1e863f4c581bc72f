r"""Ticks into line protocol: a line is `measurement,tag=value,.. field=number,.. milliseconds`.

What is promised, for any ticks:

1. The same ticks give the same lines. Tags are sorted by key; those with an empty value are left out.
2. Series that are one to InfluxDB after escaping are one here, with no instant twice.
3. Numbers are the shortest text that reads back as the same bits. NaN and infinities, which InfluxDB cannot store, are
   not in the lines (`finite`).
4. With `metric` a metric is a measurement and its value a field, with `telegraf` each is a field of one measurement, with
   `table` of the measurement of its collector: what has the same labels and time is one line then.
5. A name of any label can do no more than be a name: it ends neither its line nor its part of it.

| text                                         | is written as                                            |
|----------------------------------------------|----------------------------------------------------------|
| space, comma; `=` but in a measurement       | with a backslash before it                               |
| line feed, carriage return, tab, form feed, NUL | backslash and n, r, t, f, 0: they stay so, as with Telegraf |
| backslash                                    | itself: it escapes nothing else                          |
| backslashes at the end of a name or value    | left out: they would escape what follows, as with Telegraf |
| `#` at the beginning of a measurement        | with a backslash before it, which stays: else it is a comment |

Sources: "Line protocol reference" of InfluxDB 1.8, 2.7 and 3 Core; issues 5231 and 6037 of influxdata/influxdb; Telegraf's
plugins/serializers/influx (pull request 7652), and its plugins/inputs/prometheus for `telegraf`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from math import isfinite
from struct import Struct
from typing import Literal, NamedTuple

from agent.destinations.columns import Block, merge
from agent.destinations.labels import Relabel, final
from agent.destinations.remembered import Remembered
from buffer.model import Series, Tick

Naming = Literal["metric", "telegraf", "table"]

_COMMON = {" ": "\\ ", ",": "\\,", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\f": "\\f", "\0": "\\0"}
_MEASUREMENT = str.maketrans(_COMMON)
_COLLECTOR = re.compile(r"\w+")
_REST = str.maketrans({**_COMMON, "=": "\\="})


class Lines(NamedTuple):
    """Line protocol, the samples and lines in it, and the samples that were left out: as repeated, by relabeling, as
    no number that can be stored.
    """

    text: str
    samples: int
    lines: int
    repeated: int
    relabeled: int
    unstorable: int


class _Known(NamedTuple):
    identity: bytes | None
    head: str = ""
    """What is before the field: tags, and the measurement where it depends on the series alone."""
    field: str = ""


class LineWriter:
    """Writes ticks, and remembers their series (`Remembered`)."""

    def __init__(self, relabel: Relabel | None = None, naming: Naming = "metric") -> None:
        self._relabel, self._naming = relabel, naming
        self._known = Remembered(self._learn)

    def write(self, ticks: Sequence[Tick]) -> Lines:
        """Return the lines that hold every sample of `ticks` that can be stored, none of them twice."""
        kept = self.finite(ticks)
        unstorable = _samples(ticks) - _samples(kept) if kept is not ticks else 0
        merged = merge(kept, self.identity)
        lines: list[str] = []
        for block in merged.blocks:
            (self._by_metric if self._naming == "metric" else self._by_tags)(block, lines)
        text = "".join(lines)
        count = merged.samples if self._naming == "metric" else len(lines)
        return Lines(text, merged.samples, count, merged.repeated, merged.relabeled, unstorable)

    def identity(self, series: Series) -> bytes | None:
        """Return what InfluxDB knows a series by: measurement, tags and field; None: it is not sent."""
        return self._known[series].identity

    def finite(self, ticks: Sequence[Tick]) -> Sequence[Tick]:
        """Return the ticks without the samples that cannot be stored; the same object where there are none.

        Samples of series that are not sent stay.
        """
        if all(isfinite(sum(tick.values)) for tick in ticks):  # no NaN and no infinity is among the terms
            return ticks
        names: dict[tuple[int, tuple[int, ...]], tuple[Series, ...]] = {}
        found: list[Tick] = []
        for tick in ticks:
            series, values = tick.series, tick.values
            kept = tuple(
                [i for i, value in enumerate(values) if isfinite(value) or self.identity(series[i]) is None]
            )
            if len(kept) == len(values):
                found.append(tick)
            elif kept:
                # One object for the same series, since that is what makes columns of ticks cheap.
                own = names.setdefault((id(series), kept), tuple([series[i] for i in kept]))
                found.append(tick._replace(series=own, values=[values[i] for i in kept]))
        return found if len(found) < len(ticks) or names else ticks

    def _by_metric(self, block: Block[bytes], lines: list[str]) -> None:
        """Add a line for each sample."""
        ends = [f" {stamp}\n" for stamp in block.stamps]
        doubles = Struct(f"{len(ends)}d")
        for _, series, values in block.columns:
            known = self._known[series]
            start = f"{known.head} {known.field}="
            bits = doubles.pack(*values)
            if bits[:8] * len(ends) == bits:  # as in half the series of a host: one text, and one call
                lines.append(f"{start}{values[0]!r}".join(["", *ends]))
            else:
                lines += [f"{start}{value!r}{end}" for value, end in zip(values, ends, strict=True)]

    def _by_tags(self, block: Block[bytes], lines: list[str]) -> None:
        """Add a line for each instant of the series that have the same tags."""
        names = [""] * len(block.rows)
        if self._naming == "table":
            names = [measurement(collector(row.group)) for row in block.rows]
        heads: dict[str, tuple[list[str], list[tuple[float, ...]]]] = {}
        for _, series, values in block.columns:
            known = self._known[series]
            fields, columns = heads.setdefault(known.head, ([], []))
            fields.append(f"{known.field}=")
            columns.append(values)
        for head, (fields, columns) in heads.items():
            for name, stamp, row in zip(names, block.stamps, zip(*columns, strict=True), strict=True):
                pairs = [f"{field}{value!r}" for field, value in zip(fields, row, strict=True)]
                lines.append(f"{name}{head} {','.join(pairs)} {stamp}\n")

    def _learn(self, series: Series) -> _Known:
        labels = final(series, self._relabel)
        if labels is None:
            return _Known(None)
        name = labels.pop("__name__")
        pairs = {escaped(key): escaped(value) for key, value in sorted(labels.items())}
        tags = "".join([f",{key}={value}" for key, value in sorted(pairs.items()) if key and value])
        if self._naming == "metric":
            head, field = f"{measurement(name)}{tags}", "value"
        else:
            head, field = f"prometheus{tags}" if self._naming == "telegraf" else tags, escaped(name)
        if not (field and measurement(name)):
            return _Known(None)
        return _Known(f"{head} {field}".encode(), head, field)


def collector(group: str) -> str:
    """Return the collector that ticks of a group are from: those of all scrape targets are one."""
    found = _COLLECTOR.match(group)
    return found[0] if found else "limpet"


def measurement(name: str) -> str:
    """Return the name of a measurement as it is written; empty where nothing of it can be."""
    text = name.rstrip("\\").translate(_MEASUREMENT)
    return f"\\{text}" if text.startswith("#") else text


def escaped(text: str) -> str:
    """Return a tag's key or value, or a field's key, as it is written; empty where nothing of it can be."""
    return text.rstrip("\\").translate(_REST)


def _samples(ticks: Iterable[Tick]) -> int:
    return sum(len(tick.values) for tick in ticks)
