"""How far one destination is, in memory and in its cursor file: position, stretches, sums, and what is kept besides.

`buffer.ledger` has the file, and `buffer.cursor` what is read.

Samples of some series can be settled before the rest (`Priority`):

    position ......... until ......... end of the log
    |  the rest is pending  |  everything is pending  |
    |  these are settled    |

The ledger knows nothing of it: such a sample counts as pending until its position is settled. Promises:

1. Everything of these series before `until` is settled, and nothing behind it that a stretch has not settled.
2. `until` is written with the ledger: after a kill, what was settled since the last write goes out again.
3. While there is anything between position and `until`, the selectors are those by which it was chosen, whatever is configured.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from buffer.fs import Fs
from buffer.hints import UNKNOWN, Hints, Priority, Progress, Size
from buffer.ledger import MAX_ERROR, Ledger, LedgerFile, load_hints
from buffer.log import Log

NEWS_MS = 10_000
"""A next try that is so much later than the one in the file is worth a write of it."""
PERSIST_EVERY = 1.0
"""Seconds between two writes of the cursor file while a backlog drains."""


class Position:
    """A ledger, and its file. Changed from one thread; read, noted and written from any."""

    def __init__(
        self, fs: Fs, data_dir: str, name: str, log: Log, start: Ledger, clock: Callable[[], float]
    ) -> None:
        self.name, self.ledger, self.log = name, start, log
        self._clock, self._file = clock, LedgerFile(fs, data_dir, name)
        self.size, self.progress, self._priority = load_hints(fs, self._file.path)
        self._lock = threading.Lock()
        self._dirty, self._persisted = True, -PERSIST_EVERY
        self._forgotten = False

    @property
    def position(self) -> int:
        """In samples: everything before it is settled."""
        return self.ledger.position

    @property
    def priority(self) -> Priority | None:
        """What of the pending samples is settled already; None where nothing is."""
        found = self._priority
        return found if found is not None and self.position < found.until <= self.log.end else None

    @property
    def written(self) -> int:
        """Bytes written to the cursor file."""
        return self._file.written

    def skip(self, to: int, reason: str, start: int = 0) -> None:
        """Give up everything from `start` to before `to` that is not settled, for this reason."""
        with self._lock, suppress(ValueError):  # a stretch too many: it is found missing, and is corrupt then
            if to > self.ledger.position:
                self._change(self.ledger.settle(max(start, self.ledger.position), to, {}, reason))

    def returned(self, reason: str, samples: int) -> None:
        """Count samples as delivered that had been dropped for this reason."""
        with self._lock:
            early = max(0, samples - self.ledger.dropped.get(reason, 0))
            self._take({reason: early})
            self._change(self.ledger.returned(reason, samples))

    @property
    def priority_at(self) -> int:
        """Where the samples with priority continue."""
        return self.priority.until if self.priority is not None else self.position

    def commit_priority(self, until: int, selectors: Sequence[str], dropped: Mapping[str, int]) -> None:
        """Settle the samples before `until` whose series match; `dropped` of them by reason.

        Raises OSError where the file cannot be written; they are settled all the same, and the next sync writes it.
        """
        with self._lock:
            before = self.priority.dropped if self.priority is not None else {}
            sums = {key: before.get(key, 0) + dropped.get(key, 0) for key in (*before, *dropped)}
            self._priority, self._dirty = Priority(until, tuple(selectors), sums), True
        self._persist_soon()

    def _counted(self, samples: int) -> dict[str, int]:
        """Take as many samples from those dropped before that are in no ledger; return them by reason."""
        found: dict[str, int] = {}
        for reason, count in (self.priority.dropped if self.priority else {}).items():
            found[reason] = min(count, samples - sum(found.values()))
        self._take(found)
        return found

    def _take(self, counts: Mapping[str, int]) -> None:
        if (priority := self.priority) is not None:
            left = {
                reason: max(0, count - counts.get(reason, 0)) for reason, count in priority.dropped.items()
            }
            self._priority = priority._replace(
                dropped={reason: count for reason, count in left.items() if count}
            )

    def removed(self, now_ms: int | None) -> None:
        """Keep since when the destination is not configured; None: it is."""
        with self._lock:
            if self.ledger.removed_ms != now_ms:
                self._change(self.ledger._replace(removed_ms=now_ms))

    def note(self, state: str, error: str | None, size: Size | None = None, now: Progress = UNKNOWN) -> None:
        """Keep the destination's state and last error for `limpet buffer status`, and hints; cheap when unchanged.

        Trouble, its end, and a size are written at once.  What else is new waits for the next sync.
        """
        error = error and error[:MAX_ERROR]
        with self._lock:
            self._dirty |= abs((now.next_try_ms or 0) - (self.progress.next_try_ms or 0)) >= NEWS_MS
            self.progress = now
            before = self.ledger.state, self.ledger.error
            is_same_size, self.size = self.size == size, size
            if before == (state, error) and is_same_size:
                return
            self._change(self.ledger._replace(state=state, error=error))
        if not is_same_size or before[1] != error or not {before[0], state} <= {"sending", "idle"}:
            self._persist_soon()

    def forget(self) -> None:
        """Remove the cursor file, for good: what is read and settled afterwards changes no file.  Raises OSError."""
        with self._lock:
            self._file.remove()
            self._forgotten = True
            self.close()

    def persist(self) -> None:
        """Write the cursor file if something changed.  Raises OSError."""
        with self._lock:
            # The log first: after a power cut no cursor may point behind the log's end.
            if self._reach > self.log.synced:
                self.log.sync()
            if self._dirty and not self._forgotten:
                self._file.write(self.ledger, Hints(self.size, self.progress, self.priority))
                self._dirty, self._persisted = False, self._clock()

    def _change(self, ledger: Ledger) -> None:
        self.ledger, self._dirty = ledger, True

    @property
    def _reach(self) -> int:
        """The position after the last one of which something is settled."""
        return max(self.ledger.reach, self.priority.until if self.priority else 0)

    def _persist_soon(self) -> None:
        # A tick that is not durable itself would cost a sync of the log: the next sync of the buffer does both.
        durable = self._reach <= self.log.synced
        if self._dirty and durable and self._clock() - self._persisted >= PERSIST_EVERY:
            self.persist()

    def close(self) -> None:
        """Close the file; it can still be written.  Raises OSError."""
        self._file.close()
