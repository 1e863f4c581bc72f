"""One exposition after another of the same target, as columns: the series once, the values each time.

A target says nearly the same each time: only the values differ. So a line is split into its key (everything up
to the value) and the value, and what a key means is looked up; only a new key is parsed
(`agent.scrape.exposition`). While the keys are the same, which one comparison of two lists shows, an exposition
costs little more than its `float`s; docs/decisions/0013 has the measurements.

Promises:
- The series are the same object for as long as the set of them is the same, in whatever order they come.
- A series that occurs twice counts once, with its first value, and is counted in `duplicates`.
- An exposition that cannot be read as a whole gives nothing: it raises ParseError, and the next one starts from scratch.
- With `honor` a sample that has a timestamp is in `stamped`, and not in the columns; without it the timestamp is read over.
- With `lenient` a line that cannot be read is left out alone, and so is one with a timestamp: `left_out` counts them, and
  `wrong` is what was wrong with the first. The limits hold for the whole all the same.
- Memory is for the series of the last exposition, and at most twice as many. An exposition is read piece by piece, and
  what is kept of it is counted before: MOST_EXPOSED and MOST_KEYS limit it before relabeling. More than
  `most` samples after relabeling are TooMany, and cost no more than `most`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from math import inf, isfinite
from typing import NamedTuple

from agent.collectors.base import Labels
from agent.scrape.exposition import Example, Line, number, sample
from agent.scrape.families import Family, family, metadata
from agent.scrape.lines import Joiner, ParseError, is_comment, lines_of, shown
from buffer.model import Series

Name = Callable[[str, Labels, Family], Series | None]
"""The series of a sample that is exposed with this name, these labels and this metadata; None: it is left out."""

MOST_EXPOSED = 100_000
"""Samples of an exposition, those that relabeling drops included."""
MOST_KEYS = 8 << 20
"""Bytes of the names and labels in the lines of an exposition, each series once, those that relabeling drops included."""
MOST_COMMENTS = 1 << 20
"""Bytes of comments that are kept. If an exposition has more of them, they are read each time."""

_HASH = ord("#")
_EOF = b"# EOF"
_IN_PLAIN_NUMBERS = b"0123456789.+-eE "
_IN_WORDS = b"nNaAiIfFtTyY"
"""The letters of NaN, Inf and Infinity."""
_PERHAPS_NO_SAMPLE = frozenset((b"", b"#", b" ", b"\t"))
"""How a comment or an empty line begins."""
_SIGNED_NAN = (b"+n", b"-n", b"+N", b"-N")


class TooMany(ParseError):
    """There are more samples than the limit allows."""


class _LeftOut(ValueError):
    """A line is left out alone."""


class Stamped(NamedTuple):
    """A sample that has a timestamp of its own, in ms."""

    at_ms: int
    series: Series
    value: float


class Read(NamedTuple):
    """An exposition: its series and their values, in one order; the number of its samples; those with a timestamp.

    `examples` are its exemplars, each with its series.
    """

    series: tuple[Series, ...]
    values: list[float]
    scraped: int
    stamped: list[Stamped]
    examples: list[tuple[Series, Example]]


class _Columns:
    """What one exposition says so far: keys and values in its order, and whether its comments are the known ones."""

    def __init__(self, room: int, comments: bytes | bytearray) -> None:
        self.keys: list[bytes] = []
        self.values: list[float] = []
        self.stamped: list[Stamped] = []
        self.stamped_keys: list[bytes] = []
        self.examples: list[tuple[Series, Example]] = []
        self.room = room
        """How many samples there may be, those included that are as they were; negative: there are too many."""
        self._comments, self._compared, self._differs = comments, 0, False

    def compare(self, comments: Iterable[bytes]) -> None:
        """Compare these comments with the known ones that follow."""
        text = b"\n".join((*comments, b""))
        begun, self._compared = self._compared, self._compared + len(text)
        self._differs = self._differs or self._comments[begun : self._compared] != text

    def are_described(self) -> bool:
        """Return whether all comments were the known ones."""
        return not self._differs and self._compared == len(self._comments)


class Table:
    """Reads the expositions of one target. It calls `name` once for each key, for as long as the key exists."""

    def __init__(self, name: Name, most: int, *, honor: bool = False, lenient: bool = False) -> None:
        self._name, self._most, self._honor, self._lenient = name, most, honor, lenient
        self.duplicates = 0
        self.left_out, self.wrong = 0, ""
        self._undescribed: list[str] = []
        self._forget()

    def _forget(self) -> None:
        self._openmetrics = False
        self._comments: bytearray | None = None  # None: not read yet
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
        found = self._columns(body, end)
        if not found.are_described() and self._describe(body, end, openmetrics):
            found = self._columns(body, end)
        keys, values = found.keys, found.values
        if self._undescribed:
            self.wrong = self.wrong if self.left_out else self._undescribed[0]
            self.left_out += len(self._undescribed)
        if keys != self._keys:
            keys, values = self._ordered(keys, values, found.stamped_keys)
        scraped = len(values) + len(found.stamped_keys)
        if self._kept is not None:
            values = [values[i] for i in self._kept]
        return Read(self._series, values, scraped, found.stamped, found.examples)

    def _describe(self, body: bytes, end: int, openmetrics: bool) -> bool:
        """Read the comments, and return whether they say anything else than before."""
        seen = bytearray()
        comments = _comments(body, end, seen, None if self._lenient else Joiner(openmetrics=openmetrics))
        self._undescribed = []
        families = metadata(
            comments, openmetrics=openmetrics, wrong=self._undescribed if self._lenient else None
        )
        changed = families != self._families or openmetrics != self._openmetrics
        if changed:
            self._forget()
        self._comments, self._families, self._openmetrics = seen, families, openmetrics
        return changed

    def _columns(self, body: bytes, end: int) -> _Columns:
        so_far = _Columns(self._most, self._comments or b"")
        join, same = Joiner(openmetrics=self._openmetrics), not self._lenient
        self._size = self.left_out = 0
        for lines in lines_of(body, end):
            if same:
                same = self._as_before(lines, so_far)
            if not same:
                self._add(lines if self._lenient else join(lines), so_far)
        self._add(join.rest(), so_far)
        return so_far

    def _as_before(self, lines: Sequence[bytes], so_far: _Columns) -> bool:
        """Add lines that differ in nothing but values and comments from those before; return False where others do."""
        empty = not all(lines)
        plain = [line for line in lines if line] if empty else lines
        parts = [line.rpartition(b" ") for line in plain if line[0] != _HASH]
        begun = len(so_far.keys)
        before = self._keys[begun : begun + len(parts)]
        texts = [part[2] for part in parts]
        together = b" ".join(texts)
        if [part[0] for part in parts] != before or (self._openmetrics and empty) or b"\t" in together:
            so_far.room -= sum(self._known[key] is not None for key in so_far.keys)
            return False
        so_far.compare([line for line in plain if line[0] == _HASH])
        so_far.keys += before  # the objects that are kept
        so_far.values += _numbers(texts, together)
        return True

    def _add(self, lines: Sequence[bytes], so_far: _Columns) -> None:
        """Look up each line, and parse what is not known yet."""
        texts: list[bytes] = []
        for line in lines:
            if so_far.room < 0:
                break
            if line[:1] in _PERHAPS_NO_SAMPLE and is_comment(line):
                so_far.compare((line,))
                if self._openmetrics and line[:1] != b"#":
                    raise ParseError(f"not a sample: {shown(line)}")
                continue
            if line[:1] in _PERHAPS_NO_SAMPLE and not line.strip(b" \t"):
                if self._openmetrics:
                    raise ParseError("an empty line")
                continue
            key, _, text = line.rpartition(b" ")
            if key not in self._known or b"\t" in text or self._lenient:
                try:
                    key, text = self._parsed(line, key, text, so_far)
                except _LeftOut as error:
                    self.left_out += 1
                    self.wrong = self.wrong if self.left_out > 1 else str(error)
                    continue
            so_far.room -= self._known[key] is not None
            if text:
                so_far.keys.append(key)
                texts.append(text)
        if so_far.room < 0:
            self._prune([*so_far.keys, *so_far.stamped_keys])
            raise TooMany(f"more than sample_limit ({self._most}) samples")
        so_far.values += _numbers(texts, b" ".join(texts))
        if len(so_far.keys) + len(so_far.stamped_keys) > MOST_EXPOSED:
            raise ParseError(f"more than {MOST_EXPOSED} samples, those that relabeling drops included")

    def _parsed(self, line: bytes, key: bytes, text: bytes, so_far: _Columns) -> tuple[bytes, bytes]:
        """Return the key and the value of a line that was not known; no value, if it has a timestamp that counts."""
        found = self._sample(line)
        # Where nothing is behind the value, the key is what is before it, and is seen at once next time.
        if not found.last or found.value != text or len(key) < len(found.key):
            key = found.key
        if key not in self._known:
            self._size += len(key)
            if self._size > MOST_KEYS:
                raise ParseError(f"names and labels of more than {MOST_KEYS} bytes")
            self._known[key] = self._name(found.name, found.labels, family(found.name, self._families))
        series = self._known[key]
        if found.exemplar is not None and series is not None:
            so_far.examples.append((series, found.exemplar))
        if found.timestamp is None or not self._honor:
            return key, found.value
        so_far.stamped_keys.append(key)
        (value,) = _numbers([found.value], found.value)
        if series is not None:
            so_far.stamped.append(Stamped(found.timestamp, series, value))
        return key, b""

    def _sample(self, line: bytes) -> Line:
        try:
            found = sample(line, self._families, openmetrics=self._openmetrics, lenient=self._lenient)
            if self._lenient and number(found.value) is None:
                raise ParseError(f"not a value: {shown(found.value)}")
        except ParseError as error:
            raise (_LeftOut(str(error)) if self._lenient else error) from None
        if self._lenient and found.timestamp is not None:
            raise _LeftOut("a sample has a timestamp, which is not read here")
        return found

    def _ordered(
        self, keys: list[bytes], values: list[float], stamped: Sequence[bytes]
    ) -> tuple[list[bytes], list[float]]:
        """Return the same in the order of the exposition before, if it has the same keys; if not, make a new table."""
        if len(keys) == len(self._keys) and not self.duplicates:  # of those, which comes first may change
            found = dict(zip(keys, values, strict=True))
            if found.keys() == set(self._keys):
                return self._keys, [found[key] for key in self._keys]
        self._prune([*keys, *stamped])
        self._renew(keys)
        return keys, values

    def _renew(self, keys: list[bytes]) -> None:
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

    def _prune(self, keys: Sequence[bytes]) -> None:
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


def _comments(body: bytes, end: int, seen: bytearray, join: Joiner | None) -> Iterator[bytes]:
    """Yield the lines that are comments, and add them to `seen`, up to MOST_COMMENTS."""
    for lines in lines_of(body, end):
        for line in join(lines) if join else lines:
            if is_comment(line):
                if len(seen) < MOST_COMMENTS:
                    seen += line + b"\n"
                yield line
    yield from filter(is_comment, join.rest() if join else ())  # it is malformed


def _numbers(texts: list[bytes], together: bytes) -> list[float]:
    """Return what the texts say, `together` with blanks between them. Raises ParseError."""
    wrong = (shown(text) for text in texts if number(text) is None)
    # float() takes more than the format has: underscores, white space of any kind, a NaN with a sign.
    rest = together.translate(None, _IN_PLAIN_NUMBERS)
    if rest and (rest.translate(None, _IN_WORDS) or any(sign in together for sign in _SIGNED_NAN)):
        raise ParseError(f"not a value: {next(wrong)}")
    try:
        values = list(map(float, texts))
    except ValueError:
        raise ParseError(f"not a value: {next(wrong)}") from None
    if not isfinite(sum(values)) and (inf in values or -inf in values):
        for text in wrong:
            raise ParseError(f"more than a number can be: {text}")
    return values
