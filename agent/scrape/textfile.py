"""The `*.prom` files of a folder, as node_exporter's textfile collector reads them (its collector/textfile.go).

Promises:
- What node_exporter takes is taken. A line that cannot be read, has a timestamp, repeats a series or has no line break at
  its end (it may be half-written) is left out alone: `node_textfile_scrape_error` is 1, and the first one is logged.
- A file that is no regular file, is larger than LARGEST_FILE, exceeds the limits of `agent.scrape.table` or cannot be read is
  left out as a whole: logged once, counted, and `node_textfile_scrape_error` is 1. The other files are not touched by it.
- A file is opened only when it has changed. Nothing that lies in the folder can make a run wait: no pipe is read.
- What is left out for its size is the largest file, so that no file keeps out a smaller one. Of others no more is in
  memory than a record holds. A name that is not valid Unicode is shown with escapes.
- Nothing outside the folder is read, even if any user may write to it: a link is left out, symbolic or hard. What a line holds
  that does not parse is shown only if the file belongs to the user that reads it.
- A series that is in several files counts in the first of them by name; that too is an error.
- Each file that is read has `node_textfile_mtime_seconds`, so that an alert can find a job that stopped.

Files are to be written under another name and renamed: a file that is read half-written is left out at best.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from agent.collect.plan import Collector
from agent.collect.series import MAX_TICK_BYTES, MAX_TICK_SERIES, Collected, Columns, check_size, size_of
from agent.collectors.base import Labels, Metric, Sample
from agent.scrape.lines import ParseError
from agent.scrape.naming import Naming
from agent.scrape.table import Table
from agent.system.events import Event, Logger
from agent.text.human import plural
from buffer.fs import open_foreign
from buffer.model import Series

METRICS = (
    Metric("node_textfile_mtime_seconds", "gauge", "seconds", "When the file was written, UTC since 1970."),
    Metric(
        "node_textfile_scrape_error", "gauge", "", "1 if a file, a series or the folder is left out, else 0."
    ),
    Metric(
        "limpet_textfile_left_out", "gauge", "", "Files that are left out at this moment, whole or in part."
    ),
)
LARGEST_FILE = 16 << 20
MOST_FILES = 1000
"""Files of the folder that are read: the first by name."""
MOST_TEXT = MAX_TICK_BYTES - (1 << 20)
"""Bytes of the names, labels and help texts of all files together, as they are stored."""
CROWDED_OUT = f"all files together have more than {MOST_TEXT} bytes of labels, and this is the largest"
_ROW = MOST_TEXT // (MAX_TICK_SERIES - 2 * MOST_FILES) + 1  # so that no more series fit than a tick may have

_Stamp = tuple[int, int, int]


class _Refused(Exception):
    """A file is left out; the message is a phrase."""


class _Content(NamedTuple):
    """The content of a file, as of `stamp`; why it is left out; or what of it is."""

    stamp: _Stamp | None
    mtime: float
    series: tuple[Series, ...] = ()
    values: tuple[float, ...] = ()
    error: str | None = None
    partial: str | None = None
    size: int = 0
    """What it would take of a record."""

    @property
    def stored(self) -> int:
        """What it takes of the record."""
        return self.size if self.error is None else 0


class Textfile(Collector):
    """A collector that reads a folder. `words` returns what of an error may be shown."""

    def __init__(
        self, folder: str, host: Mapping[str, str], log: Logger, words: Callable[[Exception], str] = str
    ) -> None:
        self._folder, self._log, self._words = os.path.normpath(folder), log, words
        self._host = {name: value for name, value in host.items() if value}
        self._tables: dict[str, Table] = {}
        self._contents: dict[str, _Content] = {}
        self._own = Columns(METRICS, self._host)
        self._sets: list[tuple[Series, ...]] = []
        self._exposed: tuple[Series, ...] = ()
        self._kept: list[int] | None = None  # of the series of all files; None: all of them
        self._parts: tuple[tuple[Series, ...], tuple[Series, ...]] | None = None
        self._series: tuple[Series, ...] = ()
        self._logged: dict[str, str] = {}
        self.error: str | None = None
        """What was wrong at the last run; None: nothing."""

    def __call__(self, _now: float, /) -> Collected:
        """Read what has changed."""
        found, errors = self._look()
        self._contents = found
        self._tables = {name: table for name, table in self._tables.items() if name in found}
        good = {name: one for name, one in sorted(found.items()) if one.error is None}
        errors |= {name: why for name, one in found.items() if (why := one.error or one.partial) is not None}
        left_out = len(errors) - ("" in errors)
        self._join([one.series for one in good.values()])
        values = [value for one in good.values() for value in one.values]
        if self._kept is not None:
            errors[" "] = f"{len(values) - len(self._kept)} series occur twice"
            values = [values[i] for i in self._kept]
        self._log_errors(errors)
        mtime, error, count = (metric.name for metric in METRICS)
        samples = [Sample(mtime, one.mtime, (("file", self._called(name)),)) for name, one in good.items()]
        samples += [Sample(error, 1.0 if errors else 0.0), Sample(count, float(left_out))]
        series, own = self._own(samples)
        if self._parts is None or not (self._parts[0] is self._exposed and self._parts[1] is series):
            check_size(whole := self._exposed + series)
            self._parts, self._series = (self._exposed, series), whole
        return self._series, [*values, *own]

    def _look(self) -> tuple[dict[str, _Content], dict[str, str]]:
        found: dict[str, _Content] = {}
        try:
            folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                names = sorted(name for name in os.listdir(folder) if name.endswith(".prom"))
                self._let_in(names[:MOST_FILES])
                for name in names[:MOST_FILES]:
                    if (one := self._file(folder, name)) is not None:
                        found[name] = one
                        self._crowd_out(found)
            finally:
                os.close(folder)
        except OSError as error:
            return {}, {"": f"the folder cannot be read: {_reason(error)}"}
        return found, {} if len(names) <= MOST_FILES else {"": f"it has more than {MOST_FILES} files"}

    def _crowd_out(self, found: dict[str, _Content]) -> None:
        while not _fits(found.values()):
            largest = max(found, key=lambda name: found[name].stored)
            found[largest] = found[largest]._replace(series=(), values=(), error=CROWDED_OUT)
            self._tables.pop(largest, None)

    def _let_in(self, names: Sequence[str]) -> None:
        """Forget of the files that were left out for their size those that fit now, so that they are read again."""
        known = {name: self._contents[name] for name in names if name in self._contents}
        fitting = [one for one in known.values() if one.error is None]
        for name, one in sorted(known.items(), key=lambda item: item[1].size):
            if one.error == CROWDED_OUT and _fits([*fitting, one._replace(error=None)]):
                fitting.append(one._replace(error=None))
                del self._contents[name]

    def _file(self, folder: int, name: str) -> _Content | None:
        """Return the content of a file; None if it is gone by now."""
        before = self._contents.get(name)
        stamp, mtime, is_mine = None, 0.0, False
        try:
            stamp, mtime, _ = _stamp(os.stat(name, dir_fd=folder, follow_symlinks=False))
            if before is not None and before.stamp == stamp:
                return before
            content, stamp, mtime, is_mine = _read(folder, name)
            series, values, wrong, line = self._parse(name, content)
            wrong += [self._words(ParseError(line))] if line and is_mine else []
        except _Refused as refused:
            return _Content(None, 0.0, error=str(refused))
        except ParseError as error:
            text = self._words(error)  # after a colon it repeats what it did not understand
            return _Content(stamp, mtime, error=text if is_mine else text.partition(": ")[0])
        except FileNotFoundError:
            return None
        except OSError as error:
            return _Content(None, 0.0, error=f"it cannot be read: {_reason(error)}")
        size = max(size_of(series), _ROW * len(series))
        return _Content(stamp, mtime, series, values, partial="; ".join(wrong) or None, size=size)

    def _parse(
        self, name: str, content: bytes
    ) -> tuple[tuple[Series, ...], tuple[float, ...], list[str], str]:
        """Return the series of a file, their values, what of it is left out, and what is wrong with its first such line.

        Raises ParseError.
        """
        table = self._tables.get(name)
        if table is None:
            table = self._tables[name] = Table(Naming(self._host), MAX_TICK_SERIES, lenient=True)
        whole = content.rfind(b"\n") + 1
        read = table.read(content[:whole], openmetrics=False)
        wrong = []
        if whole < len(content):
            wrong.append("its last line has no line break, and may be half-written")
        if table.duplicates:
            wrong.append(f"{plural(table.duplicates, 'series', 'series')} left out as duplicates")
        if table.left_out:
            wrong.append(f"{plural(table.left_out, 'line')} left out")
        return read.series, tuple(read.values), wrong, table.wrong if table.left_out else ""

    def _join(self, sets: Sequence[tuple[Series, ...]]) -> None:
        """Put the series of all files together, unless they are the same objects as before."""
        if len(sets) == len(self._sets) and all(a is b for a, b in zip(sets, self._sets, strict=True)):
            return
        series = [one for each in sets for one in each]
        first: dict[tuple[str, Labels], int] = {}
        for i, one in enumerate(series):
            first.setdefault(one[:2], i)
        self._sets, self._exposed = list(sets), tuple(series[i] for i in first.values())
        self._kept = None if len(first) == len(series) else list(first.values())

    def _log_errors(self, errors: Mapping[str, str]) -> None:
        for name, error in errors.items():
            if self._logged.get(name) != error:
                self._log.warning(Event.TEXTFILE_FAILED, file=self._called(name), error=error)
        for name in self._logged.keys() - errors.keys():
            if name not in self._contents or not (self._contents[name].error or self._contents[name].partial):
                self._log.info(Event.TEXTFILE_RECOVERED, file=self._called(name))
        self._logged = dict(errors)
        self.error = "; ".join(f"{self._called(name)}: {error}" for name, error in errors.items()) or None

    def _called(self, name: str) -> str:
        path = os.path.join(self._folder, name) if name.strip() else self._folder
        return os.fsencode(path).decode("utf-8", "backslashreplace")


def _fits(contents: Iterable[_Content]) -> bool:
    return sum(one.stored for one in contents) <= MOST_TEXT


def _stamp(found: os.stat_result) -> tuple[_Stamp, float, bool]:
    """Return what changes when the file does, when it was written, and whether it belongs to this user."""
    if stat.S_ISLNK(found.st_mode) or (stat.S_ISREG(found.st_mode) and found.st_nlink > 1):
        raise _Refused("it is a link, which can lead anywhere")
    if not stat.S_ISREG(found.st_mode):
        raise _Refused("it is not a regular file")
    if found.st_size > LARGEST_FILE:
        raise _Refused(f"it is larger than {LARGEST_FILE} bytes")
    stamp = found.st_ino, found.st_size, found.st_mtime_ns
    return stamp, float(found.st_mtime_ns // 10**9), found.st_uid == os.geteuid()


def _read(folder: int, name: str) -> tuple[bytes, _Stamp, float, bool]:
    descriptor = open_foreign(name, folder=folder)
    with open(descriptor, "rb") as file:
        found = _stamp(os.fstat(descriptor))
        content = file.read(LARGEST_FILE + 1)
    if len(content) > LARGEST_FILE:
        raise _Refused(f"it is larger than {LARGEST_FILE} bytes")
    return content, *found


def _reason(error: OSError) -> str:
    return (error.strerror or "I/O error").lower()
