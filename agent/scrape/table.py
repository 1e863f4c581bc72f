"""One exposition after another of the same target, as columns: the series once, the values each time.

A target says nearly the same each time: only the values differ. So a line is split into its key (everything up
to the value) and the value, and what a key means is looked up; only a new key is parsed
(`agent.scrape.exposition`). While the keys are the same, which one comparison of two lists shows, an exposition
costs little more than its `float`s; docs/decisions/0013 has the measurements.

Promises:
- The series are the same object for as long as the set of them is the same, in whatever order they come.
- A series that occurs twice counts once, with its first value, and is counted in `duplicates`.
- An exposition that cannot be read as a whole gives nothing: it raises ParseError, and the next one starts from scratch.
- Memory is for the series of the last exposition, and at most twice as many. An exposition is read piece by piece, and
  what is kept of it is counted before: MOST_EXPOSED and MOST_KEYS limit it before relabeling. More than
  `most` samples after relabeling are TooMany, and cost no more than `most`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from hashlib import blake2b
from typing import NamedTuple

from agent.collectors.base import Labels
from agent.scrape.exposition import Family, ParseError, family, lines_of, metadata, sample, shown
from buffer.model import Series

Name = Callable[[str, Labels, Family], Series | None]
"""The series of a sample that is exposed with this name, these labels and this metadata; None: it is left out."""

MOST_EXPOSED = 100_000
"""Samples of an exposition, those that relabeling drops included."""
MOST_KEYS = 8 << 20
"""Bytes of the names and labels in the lines of an exposition, each series once, those that relabeling drops included."""

_EOF = b"# EOF"
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
        self._comments: bytes | None = None  # a digest; None: not read yet
        self._families: dict[str, Family] = {}
        self._known: dict[bytes, Series | None] = {}
        self._size = 0  # of the keys that this exposition brought
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
        end = _end(body, openmetrics)
        if self._comments is None or openmetrics != self._openmetrics:
            self._describe(body, end, openmetrics)
        keys, values, timestamps, comments = self._columns(body, end)
        if comments != self._comments and self._describe(body, end, openmetrics):
            keys, values, timestamps, _ = self._columns(body, end)
        if keys != self._keys:
            keys, values = self._ordered(keys, values)
        scraped = len(values)
        if self._kept is not None:
            values = [values[i] for i in self._kept]
        return Read(self._series, values, scraped, timestamps)

    def _describe(self, body: bytes, end: int, openmetrics: bool) -> bool:
        """Read the comments, and return whether they say anything else than before."""
        digest = blake2b()
        families = metadata(_comments(body, end, digest), openmetrics=openmetrics)
        changed = families != self._families or openmetrics != self._openmetrics
        if changed:
            self._forget()
        self._comments, self._families, self._openmetrics = digest.digest(), families, openmetrics
        return changed

    def _columns(self, body: bytes, end: int) -> tuple[list[bytes], list[float], bool, bytes]:
        """Return the keys, the values, whether there are timestamps, and a digest of the comments."""
        keys: list[bytes] = []
        values: list[float] = []
        timestamps, digest = False, blake2b()
        room: int | None = None  # None: all is as it was
        self._size = 0
        for lines in lines_of(body, end):
            if self._openmetrics and b"" in lines:
                raise ParseError("an empty line")
            digest.update(b"".join([line + b"\n" for line in lines if line[:1] == b"#"]))
            parts = [line.rpartition(b" ") for line in lines if line and line[:1] != b"#"]
            found, texts = [part[0] for part in parts], [part[2] for part in parts]
            before = self._keys[len(keys) : len(keys) + len(found)]
            if room is None and found == before:
                found = before  # the objects that are kept
            else:
                if room is None:
                    room = self._most - sum(self._known[key] is not None for key in keys)
                found, texts, stamped, room = self._looked_up(parts, room)
                timestamps = timestamps or stamped
            keys += found
            if room is not None and room < 0:
                self._prune(keys)
                raise TooMany(f"more than sample_limit ({self._most}) samples")
            values += _numbers(texts)
            if len(keys) > MOST_EXPOSED:
                raise ParseError(f"more than {MOST_EXPOSED} samples, those that relabeling drops included")
        return keys, values, timestamps, digest.digest()

    def _looked_up(
        self, parts: Sequence[tuple[bytes, bytes, bytes]], room: int
    ) -> tuple[list[bytes], list[bytes], bool, int]:
        """Return the key and the value of each line, and how many more samples there may be; parse what is not known yet."""
        known, timestamps = self._known, False
        keys: list[bytes] = []
        texts: list[bytes] = []
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
                self._size += len(key)
                if self._size > MOST_KEYS:
                    raise ParseError(f"names and labels of more than {MOST_KEYS} bytes")
                known[key] = self._name(found.name, found.labels, family(found.name, self._families))
            room -= known[key] is not None
            keys.append(key)
            texts.append(found.value)
        return keys, texts, timestamps, room

    def _ordered(self, keys: list[bytes], values: list[float]) -> tuple[list[bytes], list[float]]:
        """Return the same in the order of the exposition before, if it has the same keys; if not, make a new table."""
        if len(keys) == len(self._keys) and not self.duplicates:  # of those, which comes first may change
            found = dict(zip(keys, values, strict=True))
            if found.keys() == set(self._keys):
                return self._keys, [found[key] for key in self._keys]
        self._renew(keys)
        return keys, values

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


def _end(body: bytes, openmetrics: bool) -> int:
    """Return where the lines end: before the last line break, and before the end that OpenMetrics requires."""
    end = len(body) - body.endswith(b"\n")
    if openmetrics:
        if body[end - len(_EOF) : end] != _EOF or body[end - len(_EOF) - 1 : end - len(_EOF)] not in (
            b"",
            b"\n",
        ):
            raise ParseError("the exposition does not end with # EOF")
        if body.startswith(b"\n"):
            raise ParseError("an empty line")
        end = max(0, end - len(_EOF) - 1)
    return end


def _comments(body: bytes, end: int, digest: blake2b) -> Iterator[bytes]:
    """Yield the lines that are comments, and add them to the digest."""
    for lines in lines_of(body, end):
        for line in lines:
            if line[:1] == b"#":
                digest.update(line + b"\n")
                yield line


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
