"""The cursors of a buffer by name: of the destinations that are configured, and of removed ones for a while.

A destination that is new starts at the oldest record, or at the end of the log (`start_now`).  One that is no longer
configured keeps its cursor, what waits for it, and what its link has cost, for `forget_after`.  A tool that is not the agent knows no
destinations (None): then all cursors are left as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import closing, suppress
from typing import NamedTuple, Protocol

from buffer.cursor import Cursor
from buffer.fs import Fs
from buffer.ledger import Ledger
from buffer.log import Log
from buffer.reader import Reader
from buffer.usage import UsageNote


class Listener(Protocol):
    """Is called for what the buffer does by itself: evicted, trimmed, thinned, cursor_reset, forgotten."""

    def __call__(self, what: str, **fields: object) -> None:
        """Report what happened."""


class Place(NamedTuple):
    """What every part of a buffer needs: its files, its clocks (monotonic, and UTC in seconds), and its listener."""

    fs: Fs
    data_dir: str
    clock: Callable[[], float]
    wall: Callable[[], float]
    report: Listener


class Cursors:
    """See above.  `by_name` is never changed, but replaced: other threads iterate over it at any time."""

    def __init__(
        self,
        place: Place,
        log: Log,
        known: Mapping[str, Ledger | None],
        names: Iterable[str] | None,
        start_now: Collection[str],
    ) -> None:
        self._place, self._log = place, log
        self._names = None if names is None else list(names)
        all_names = dict.fromkeys((*(self._names or ()), *known))
        self.by_name = {name: self._cursor(name, known, start_now) for name in all_names}

    def __iter__(self) -> Iterator[Cursor]:
        return iter(self.by_name.values())

    def configure(self, names: Iterable[str], start_now: Collection[str]) -> None:
        """Have these destinations from now on."""
        names = list(dict.fromkeys(names))
        new = {name: self._cursor(name, {}, start_now) for name in names if name not in self.by_name}
        self._names, self.by_name = names, {**self.by_name, **new}

    def _cursor(self, name: str, known: Mapping[str, Ledger | None], start_now: Collection[str]) -> Cursor:
        place, ledger = self._place, self._ledger(name, known, start_now)
        return Cursor(place.fs, place.data_dir, name, self._log, ledger, place.clock)

    def _ledger(self, name: str, known: Mapping[str, Ledger | None], start_now: Collection[str]) -> Ledger:
        """Bring a cursor's ledger in line with the log, or start one."""
        place, first, ledger = self._place, self._log.first, known.get(name)
        if ledger is not None:
            return ledger.not_before(first)
        if name in known:
            place.report("cursor_reset", destination=name, position=first)
        elif name in start_now:
            return Ledger.starting(*self._log.here())
        missed = self._log.missed
        with suppress(OSError), closing(Reader(place.fs, f"{place.data_dir}/segments", first)) as reader:
            missed = entry.missed if (entry := reader.next()) else missed
        return Ledger.starting(first, missed)

    def forget(self, after: float) -> None:
        """Forget destinations that have not been configured for so many seconds, if their files can be removed."""
        if self._names is None:
            return
        now_ms = int(self._place.wall() * 1000)
        for name, cursor in self.by_name.items():
            since = cursor.ledger.removed_ms
            if name in self._names:
                cursor.removed(None)
            elif since is None:
                cursor.removed(now_ms)
            elif now_ms - since > after * 1000:
                with suppress(OSError):
                    cursor.forget()
                    UsageNote(self._place.fs, self._place.data_dir, name).remove()
                    self.by_name = {known: each for known, each in self.by_name.items() if known != name}
                    self._place.report("forgotten", destination=name, pending_samples=cursor.pending())

    def persist(self) -> None:
        """Write every cursor; one that cannot be written keeps none of the others back.  Raises OSError."""
        failed: OSError | None = None
        for cursor in self:
            try:
                cursor.persist()
            except OSError as error:
                failed = failed or error
        if failed is not None:
            raise failed

    def try_to_persist(self) -> None:
        """Write the cursors before a segment goes, so that what was delivered never counts as evicted, whenever the
        process or the power ends.  Where the disk is too full they are written later.
        """
        with suppress(OSError):
            self.persist()

    @property
    def settled(self) -> int:
        """The position before which every destination has settled everything; 0 without destinations."""
        return min((cursor.position for cursor in self), default=0)
