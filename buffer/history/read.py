"""Reading history and the log as one: from a position on, also while files move from one to the other.

Promises are those of `buffer.reader`: every entry once, in order, and a reader that has returned None can be called again.
A file that becomes history while it is waited for is read there.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, suppress

from buffer import segment
from buffer.fs import Fs
from buffer.history.keep import FOLDER
from buffer.reader import Entry, File, Reader
from buffer.segment import Record


class WholeReader:
    """The entries of a data directory from position `seq` on: history, then the log.  Not thread-safe."""

    def __init__(self, fs: Fs, data_dir: str, seq: int = 0) -> None:
        self._fs, self._folder, self._seq = fs, f"{data_dir}/{FOLDER}", seq
        self._history: Reader | None = Reader(fs, self._folder, seq)
        self._log = Reader(fs, f"{data_dir}/segments", seq)
        self._waiting: Entry | None = None
        self._damaged = 0

    @property
    def damaged(self) -> int:
        """Stretches of damage, unreadable records and unreadable files met so far."""
        return self._damaged + self._log.damaged + (self._history.damaged if self._history else 0)

    def __iter__(self) -> Iterator[Entry]:
        """Yield the entries that follow, up to the present end of the log."""
        while (entry := self.next()) is not None:
            yield entry

    def next(self) -> Entry | None:
        """Return the next entry; None where the log ends for now.  Raises OSError."""
        entry = self._before() or self._following()
        if entry is not None:
            self._seq = entry.end
        return entry

    def _before(self) -> Entry | None:
        """Return what history has next, before what the log has."""
        while self._history is not None:
            with suppress(FileNotFoundError):  # there is no history
                while (entry := self._history.next()) is not None:
                    if self._waiting is not None and entry.end > self._waiting.seq:
                        break
                    if entry.end > self._seq:
                        return entry
            self._leave_history()
        if self._waiting is None and (found := self._next_of_log()) is not None:
            self._waiting = found
            if found.seq > self._seq:  # what is between the two may have become history meanwhile
                self._history = Reader(self._fs, self._folder, self._seq)
                return self._before()
        return None

    def _following(self) -> Entry | None:
        entry, self._waiting = self._waiting, None
        return entry

    def _next_of_log(self) -> Entry | None:
        while (entry := self._log.next()) is not None:
            if entry.end > self._seq:
                return entry
        return None

    def _leave_history(self) -> None:
        if self._history is not None:
            self._damaged += self._history.damaged
            self._history.close()
            self._history = None

    def close(self) -> None:
        """Close the open files."""
        self._leave_history()
        self._log.close()


def end_of(fs: Fs, data_dir: str) -> int:
    """Return the position after the last record of history where the log does not reach beyond it; else 0.

    Positions are never used again, also where somebody removed the log and left its history.
    """
    with suppress(OSError, segment.Short, segment.NewerVersion):
        kept, log = segment.listed(fs, f"{data_dir}/{FOLDER}"), segment.listed(fs, f"{data_dir}/segments")
        if kept and kept[-1] >= max(log, default=-1):
            with closing(File(fs, f"{data_dir}/{FOLDER}", kept[-1])) as file:
                ends = [found.end for found in file if isinstance(found, Record)]
                return max([*ends, file.header.end_seq, kept[-1] + 1])
    return 0
