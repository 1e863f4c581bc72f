"""One exposition after another of the same target, as columns: the series once, the values each time.

A target says nearly the same each time: only the values differ. So a line is split into its key (everything up
to the value) and the value, and what a key means is looked up; only a new key is parsed
(`agent.scrape.exposition`). While the keys are the same, which one comparison of two lists shows, an exposition
costs little more than its `float`s; docs/decisions/0013 has the measurements.

Promises:
- The series are the same object for as long as the set of them is the same, in whatever order they come.
- A series that occurs twice counts once, with its first value, and is counted in `duplicates`.
- An exposition that cannot be read as a whole gives nothing: it raises ParseError, and the next one starts from scratch.
- Memory is for the series of the last exposition, and at most twice as many. More than `most` samples after
  relabeling are TooMany, and cost no more than `most`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from agent.collectors.base import Labels
from agent.scrape.exposition import Family, ParseError, family, metadata, sample, shown
from buffer.model import Series

Name = Callable[[str, Labels, Family], Series | None]
"""The series of a sample that is exposed with this name, these labels and this metadata; None: it is left out."""

_IN_NUMBERS = b"0123456789.+-eEnNaAiIfFtTyY \t"


class TooMany(ParseError):
    """There are more samples than the limit allows."""


class Read(NamedTuple):
    """An exposition: its series and their values, in one order, and the number of its samples.

    `timestamps`: some sample had one of its own, which was read over.
    """

    series: tuple[Series, ...]
    values: list[float]
    scraped: int
    timestamps: bool


class Table:
    """Reads the expositions of one target. It calls `name` once for each key, for as long as the key exists."""

    def __init__(self, name: Name, most: int) -> None:
        self._name, self._most = name, most
        self.duplicates = 0
        self._forget()

    def _forget(self) -> None:
        self._openmetrics = False
        self._comments: list[bytes] = []
        self._families: dict[str, Family] = {}
        self._known: dict[bytes, Series | None] = {}
        self._keys: list[bytes] = []
        self._series: tuple[Series, ...] = ()
        self._kept: list[int] | None = None  # of the keys; None: all of them

    def read(self, body: bytes, *, openmetrics: bool) -> Read:
        """Read one exposition. Raises ParseError."""
        try:
            return self._read(body, openmetrics)
        except TooMany:
            raise
        except BaseException:
            self._forget()
            raise

    def _read(self, body: bytes, openmetrics: bool) -> Read:
        lines = body.split(b"\n")
        if openmetrics:
            _cut_end(lines)
        comments = [line for line in lines if line[:1] == b"#"]
        if comments != self._comments or openmetrics != self._openmetrics:
            families = metadata(comments, openmetrics=openmetrics)
            if families != self._families or openmetrics != self._openmetrics:
                self._forget()
            self._comments, self._families, self._openmetrics = comments, families, openmetrics
        parts = [line.rpartition(b" ") for line in lines if line and line[:1] != b"#"]
        keys, texts = [part[0] for part in parts], [part[2] for part in parts]
        timestamps = False
        if keys != self._keys:
            keys, texts, timestamps = self._looked_up(parts)
            if keys != self._keys:
                keys, texts = self._ordered(keys, texts)
        values = _numbers(texts)
        if self._kept is not None:
            values = [values[i] for i in self._kept]
        return Read(self._series, values, len(texts), timestamps)

    def _looked_up(
        self, parts: Sequence[tuple[bytes, bytes, bytes]]
    ) -> tuple[list[bytes], list[bytes], bool]:
        """Return the key and the value of each line; parse what is not known yet."""
        known, keys, texts, timestamps = self._known, [], [], False
        room = self._most
        for key, space, text in parts:
            if room < 0:
                break
            if key in known:
                room -= known[key] is not None
                keys.append(key)
                texts.append(text)
                continue
            line = key + space + text
            if not line.strip(b" \t") or line.lstrip(b" \t")[:1] == b"#":
                if self._openmetrics:
                    raise ParseError(f"not a sample: {shown(line)}")
                continue  # blanks, or a comment behind some
            found = sample(line, self._families, openmetrics=self._openmetrics)
            timestamps = timestamps or found.timestamp
            # Where nothing is behind the value, the key is what is before it, and is seen at once next time.
            if not found.last or found.value != text or len(key) < len(found.key):
                key = found.key
            if key not in known:
                known[key] = self._name(found.name, found.labels, family(found.name, self._families))
            room -= known[key] is not None
            keys.append(key)
            texts.append(found.value)
        if room < 0:
            self._prune(keys)
            raise TooMany(f"more than sample_limit ({self._most}) samples")
        return keys, texts, timestamps

    def _ordered(self, keys: list[bytes], texts: list[bytes]) -> tuple[list[bytes], list[bytes]]:
        """Return the same in the order of the exposition before, if it has the same keys; if not, make a new table."""
        if len(keys) == len(self._keys) and not self.duplicates:  # of those, which comes first may change
            found = dict(zip(keys, texts, strict=True))
            if found.keys() == set(self._keys):
                return self._keys, [found[key] for key in self._keys]
        self._renew(keys)
        return keys, texts

    def _renew(self, keys: list[bytes]) -> None:
        self._prune(keys)
        kept: dict[Series, int] = {}
        seen: set[tuple[str, Labels]] = set()
        named = 0
        for i, key in enumerate(keys):
            series = self._known[key]
            if series is not None:
                named += 1
                if series[:2] not in seen:
                    seen.add(series[:2])
                    kept[series] = i
        self.duplicates = named - len(kept)
        self._kept = None if len(kept) == len(keys) else list(kept.values())
        self._keys = keys
        if set(kept) == set(self._series) and len(kept) == len(self._series):
            # Other lines, such as a duplicate that went, for the same series.
            self._kept = [kept[series] for series in self._series]
        else:
            self._series = tuple(kept)

    def _prune(self, keys: list[bytes]) -> None:
        if len(self._known) > 2 * len(keys) + 100:
            self._known = {key: self._known[key] for key in keys}


def _cut_end(lines: list[bytes]) -> None:
    """Remove the end that OpenMetrics requires. Raises ParseError if it is missing."""
    if lines[-1] == b"":
        lines.pop()
    if not lines or lines.pop() != b"# EOF":
        raise ParseError("the exposition does not end with # EOF")
    if b"" in lines:
        raise ParseError("an empty line")


def _numbers(texts: list[bytes]) -> list[float]:
    # float() takes more than the format has: underscores, and white space of any kind.
    if b" ".join(texts).translate(None, _IN_NUMBERS):
        raise ParseError(f"not a value: {shown(next(t for t in texts if t.translate(None, _IN_NUMBERS)))}")
    try:
        return list(map(float, texts))
    except ValueError:
        if len(texts) > 1:  # which of them?
            for text in texts:
                _numbers([text])
        raise ParseError(f"not a value: {shown(texts[0])}") from None
