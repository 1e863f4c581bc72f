"""Numbers that no packed file can have, under checksums that are right: damage, and never more work than a file may cause."""

from __future__ import annotations

import json
import random
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from typing import Any, NamedTuple

import pytest

from buffer.fs import Fs
from buffer.history import packed, tiers
from buffer.history.packed import HEADER, Damaged, Head, PackedFile
from buffer.history.read import WholeReader
from buffer.lookup.files import Lookup
from buffer.lookup.table import Table
from buffer.model import Instant, Series, Tick
from buffer.reader import Entry
from tests.support.faults import MemoryFs
from tests.support.ticks import BOOT, START_MS, STEP_MS

FOLDER, HISTORY = "d", "d/history"
EVER = (0, 1 << 50)
ROWS, WIDTH = 240, 5
SAMPLES = ROWS * WIDTH
FIELDS = (
    "magic",
    "version",
    "level",
    "first",
    "end",
    "samples",
    "oldest",
    "newest",
    "index_at",
    "size",
    "crc",
)
NUMBERS = (0, 1, 2, 239, 241, 1 << 12, 1 << 22, 1 << 24, 1 << 31, 1 << 40, (1 << 48) - 1, 1 << 62)
OTHERS: tuple[Any, ...] = (-1, 0.5, 1e300, None, "5", [], {}, True, 10**30)
SERIES = tuple(Series(f"probe_{i}", (("hostname", "a"),), "gauge", "", "") for i in range(WIDTH))


class Parts(NamedTuple):
    """A packed file as its writer has it: the fields of the header, the columns' bytes, and the index."""

    head: dict[str, Any]
    columns: bytes
    contents: dict[str, Any]

    def put(self, fs: Fs) -> None:
        """Write it, with checksums that are right. Raises struct.error where a number does not fit into its field."""
        index = zlib.compress(json.dumps(self.contents).encode())
        fields = {"index_at": HEADER.size + len(self.columns), "size": len(index), **self.head}
        fields["crc"] = zlib.crc32(index)
        data = HEADER.pack(*(fields[name] for name in FIELDS), 0)[:-4]
        data += zlib.crc32(data).to_bytes(4, "little") + self.columns + index
        path = f"{HISTORY}/{packed.name(0)}"
        with suppress(FileNotFoundError):
            fs.unlink(path)
        fd = fs.create(path)
        fs.write(fd, data, 0)
        fs.close(fd)


def made(level: int) -> tuple[MemoryFs, Head]:
    """A file system with a packed file of 40 minutes; made coarser to a level."""
    fs = MemoryFs()
    fs.make_folder(FOLDER)
    fs.make_folder(HISTORY)
    block = tiers.Block(0, 0)
    for number in range(ROWS):
        ms = START_MS + number * STEP_MS
        one = Tick(Instant(ms, 0, BOOT), "probe", SERIES, [float(number + i) for i in range(WIDTH)])
        block.add(Entry(number * WIDTH, (number + 1) * WIDTH, ms, WIDTH, [one], 0))
    head = done(block.write(fs, HISTORY))
    return fs, done(tiers.coarser(fs, HISTORY, [head], level)) if level else head


def done(work: tiers.Work) -> Head:
    while True:
        try:
            next(work)
        except StopIteration as end:
            head: Head = end.value
            return head


def parts(fs: MemoryFs) -> Parts:
    path = f"{HISTORY}/{packed.name(0)}"
    fd = fs.open(path)
    data = fs.read(fd, fs.size(path), 0)
    fs.close(fd)
    head = dict(zip(FIELDS, HEADER.unpack(data[: HEADER.size]), strict=False))
    at, size = head.pop("index_at"), head.pop("size")
    return Parts(head, data[HEADER.size : at], json.loads(zlib.decompress(data[at : at + size])))


def looked_up(fs: Fs) -> tuple[int, int]:
    """Read everything of everything; return the values that were found, and the places that are damaged."""

    def visit(table: Table) -> Iterator[int]:
        for index in range(len(table.series)):
            found = table.values(index)
            table.low(index), table.high(index), table.counts()
            rows = table.placed.within(*EVER)
            yield 0 if found is None else len(rows)

    lookup = Lookup(fs, FOLDER)
    found = sum(sum(file) for file in lookup.collect(*EVER, visit))
    return found, lookup.damaged


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How many numbers columns were to give."""
    counted = Counter[str]()
    for name in ("decode", "decode_whole"):
        inner = getattr(packed, name)

        def counting(column: Any, count: int, inner: Any = inner) -> Any:
            counted["numbers"] += count
            return inner(column, count)

        monkeypatch.setattr(packed, name, counting)
    return counted


def places(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The ways to all numbers of a document."""
    if isinstance(node, dict | list):
        for key, value in node.items() if isinstance(node, dict) else enumerate(node):
            yield from places(value, (*path, key))
    elif node is None or isinstance(node, int | float):
        yield path


def changed(document: Any, path: tuple[Any, ...], value: Any) -> Any:
    """The document with another value at a place."""
    copied = json.loads(json.dumps(document))
    node = copied
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
    return copied


def tables(right: Parts, found: list[dict[str, Any]]) -> Parts:
    """The same with these tables, and as many samples in the header."""
    samples = sum(one["rows"] * len(one["series"]) for one in found)
    return right._replace(
        head=right.head | {"samples": samples, "end": 1 << 36}, contents=right.contents | {"tables": found}
    )


def table_with(right: Parts, **fields: Any) -> Parts:
    return tables(right, [right.contents["tables"][0] | fields])


def without_series(right: Parts) -> dict[str, Any]:
    """A table of which nothing but its rows is said, in one byte behind the columns."""
    at = [HEADER.size + len(right.columns), 1, zlib.crc32(b"\0"), 1, 0]
    table: dict[str, Any] = right.contents["tables"][0]
    return table | {
        "rows": 1 << 20,
        "at": at,
        "series": [],
        "values": [],
        "low": [],
        "high": [],
    }


def headed(right: Parts, **fields: Any) -> Parts:
    return right._replace(head=right.head | fields)


NONSENSE: dict[str, Callable[[Parts], Parts]] = {
    "more samples than positions": lambda one: headed(one, end=SAMPLES - 1),
    "other samples than the index": lambda one: headed(one, samples=SAMPLES - 1),
    "older than the oldest": lambda one: headed(one, newest=one.head["oldest"] - 1),
    "a time that no clock has": lambda one: headed(one, newest=1 << 60),
    "an index in the header": lambda one: headed(one, index_at=HEADER.size - 1),
    "an index that ends nowhere": lambda one: headed(one, size=1 << 30),
    "more records than positions": lambda one: one._replace(contents=one.contents | {"records": SAMPLES + 1}),
    "more records than a file may have": lambda one: headed(one, end=1 << 36)._replace(
        contents=one.contents | {"records": (1 << 22) + 1}
    ),
    "more samples than a file may have": lambda one: table_with(one, rows=1 << 21),
    "the same columns again": lambda one: tables(one, one.contents["tables"] * 2),
    "a table without series": lambda one: tables(
        one, [*one.contents["tables"], without_series(one)]
    )._replace(columns=one.columns + b"\0"),
    "a column behind the columns": lambda one: table_with(
        one, at=[HEADER.size + len(one.columns), 9, 0, 2, 0]
    ),
    "rows of records that are not there": lambda one: table_with(
        one, at=one.contents["tables"][0]["values"][4]
    ),
    "rows of no samples": lambda one: table_with(one, counts=one.contents["tables"][0]["values"][0]),
}


@pytest.mark.parametrize("name", NONSENSE)
def test_numbers_that_no_file_has_are_damage(name: str, work: Counter[str]) -> None:
    """For queries and for `verify`."""
    fs, _ = made(0)
    wrong = NONSENSE[name](parts(fs))
    wrong.put(fs)
    _, damaged = looked_up(fs)
    assert damaged
    assert work["numbers"] <= 7 * SAMPLES
    with pytest.raises(Damaged), closing(PackedFile(fs, HISTORY, 0)) as file:
        raise Damaged(*next(file.check(deep=True)))


@pytest.mark.parametrize("level", [0, tiers.MINUTE])
def test_any_number_in_an_index_costs_bounded_work(
    level: int, work: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    most_rows, most_samples = 500, 4 * SAMPLES
    monkeypatch.setattr(packed, "MAX_ROWS", most_rows)
    monkeypatch.setattr(packed, "MAX_SAMPLES", most_samples)
    fs, head = made(level)
    right, chance = parts(fs), random.Random(11)
    right.put(fs)
    assert looked_up(fs) == (head.samples, 0)
    every = list(places(right.contents))
    cases = [(path, value) for path in every for value in (*NUMBERS, *OTHERS)]
    damaged = 0
    for path, value in chance.sample(cases, 500):
        index = changed(right.contents, path, value)
        samples = right.head["samples"]
        if (
            path[-1] == "rows" and type(value) is int and chance.random() < 0.5
        ):  # one that agrees with the header
            samples = value * WIDTH
        if not 0 <= samples < 1 << 64:
            continue
        ahead = right.head | {"samples": samples, "end": max(right.head["end"], min(samples, 1 << 36))}
        Parts(ahead, right.columns, index).put(fs)
        work.clear()
        damaged += looked_up(fs)[1] > 0
        assert work["numbers"] <= 3 * most_samples + 2 * most_samples + most_rows, (path, value)
        entries = WholeReader(fs, FOLDER)
        while entries.next() is not None:
            pass
        entries.close()
        with suppress(ValueError):
            done(tiers.coarser(fs, HISTORY, [head], tiers.HOUR))
    assert damaged > 200
