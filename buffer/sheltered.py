"""A buffer that works while its disk does not: the agent's.

Promises:
- It opens whatever state the disk is in; only another process that uses the data directory, and a newer format, raise.
- While the disk is full, read-only or failing, the log continues in memory, with the same numbering and the same cursors,
  in at most `memory` bytes: beyond that the oldest of it is evicted.  What was appended there counts as `unbuffered`.
- Each sync tries the disk again.  When it is well, what is in memory is written to it, and the log continues there.
- `state` says what is wrong, and the listener is called when that changes: "sheltered" and "unsheltered".  Other
  processes see it in the lock (`buffer.lock`), since nothing can be written.
- Where the directory cannot even be read, it is left alone (`buffer.shelter`).  If it turns out later that a log is in
  it, `must_restart` is set, because that log has a numbering of its own.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from contextlib import suppress

from buffer import segment
from buffer.buffer import Buffer
from buffer.errors import BufferFull, BufferInUse
from buffer.fs import Fs, names
from buffer.ledger import SUFFIX, Ledger
from buffer.lock import STATES
from buffer.log import Log
from buffer.model import Doubted, Tick
from buffer.shelter import BLOCK, Shelter

SEGMENTS = 16
"""So many segments share the memory, so that evicting one is a small loss."""
OK, FULL, READONLY, FAILING = STATES
_STATE = {
    errno.ENOSPC: FULL,
    errno.EDQUOT: FULL,
    errno.EROFS: READONLY,
    errno.EACCES: READONLY,
    errno.EPERM: READONLY,
}


class ShelteredBuffer(Buffer):
    """See above.  Raises BufferInUse and NewerFormat when it is opened."""

    memory = 8 << 20
    """Bytes that the log may take in memory."""

    # Opening.

    def _over(self, disk: Fs) -> Fs:
        self._shelter = Shelter(disk, self.memory)
        return self._shelter

    def _take(self) -> None:
        try:
            super()._take()
        except OSError as error:
            self._begin(error)

    def _known(self) -> dict[str, Ledger | None]:
        try:
            return super()._known()
        except OSError as error:
            return self._be_blind(error)

    def _open_log(self, segment_size: int, numbered_from: int) -> Log:
        try:
            self._shelter.real.list(f"{self._dir}/segments")
        except FileNotFoundError:
            pass
        except OSError as error:
            self._be_blind(error)
        if not self._shelter.blind:
            try:
                return self._settled_in(super()._open_log(segment_size, numbered_from))
            except OSError as error:
                self._be_blind(error)
        return self._settled_in(super()._open_log(segment_size, 0))

    def _be_blind(self, error: OSError) -> dict[str, Ledger | None]:
        self._begin(error)
        self._shelter.blind = True
        return {}

    # Going to memory, and back.

    def append(self, ticks: Sequence[Tick], missed: int = 0, clock: Doubted | None = None) -> int:
        """Append as `Buffer.append` does, in memory where the disk does not take it.

        Raises BufferFull where `on_full` forbids more, OSError where there is no room in memory either.
        """
        if not self._shelter.active:
            try:
                return super().append(ticks, missed, clock)
            except OSError as error:
                self._begin(error)
            except BufferFull:
                with suppress(OSError):
                    if self._room.is_above_floor():
                        raise
                self._begin(OSError(errno.ENOSPC, "less than buffer.min_free_space is free"))
            self._settled_in(self.log)
        self._make_room_in_memory()
        end = self._append(ticks, missed, clock)
        self.unbuffered += sum(len(tick.values) for tick in ticks)
        self._show()
        return end

    def sync(self) -> None:
        """Sync as `Buffer.sync` does, and take up the disk again if it is well.  Raises OSError."""
        if self._lock is not None and not self._lock.is_there:  # another process could take the same lock
            self._release()
            self._lock = None
            self._begin(OSError(errno.ENOENT, "the data directory was removed", self._dir))
            self._settled_in(self.log)
        if self._shelter.active:
            self._try_disk()
            self._show()
        super().sync()

    def _show(self) -> None:
        if self._lock is not None:
            self._lock.show(self.state, self.unbuffered, self.log.missed)

    def _begin(self, error: OSError) -> None:
        """Have new segments in memory from now on."""
        self._shelter.active = True
        state = _STATE.get(error.errno or 0, FAILING)
        if state != self.state:
            self.state = state
            self._report("sheltered", state=state, error=str(error))

    def _settled_in(self, log: Log) -> Log:
        """Have the log's next segment in memory, if the disk is ill."""
        if self._shelter.active:
            log.leave(lambda: setattr(self._shelter, "active", True), in_memory=True)
        return log

    def _try_disk(self) -> None:
        """Continue on the disk, if it is well, or if it is well without history."""
        while not self._take_up_disk() and self.state == FULL and self._room.give_way():
            pass

    def _take_up_disk(self) -> bool:
        """Continue on the disk, if it is well."""
        try:
            self._take_again()
            if self._shelter.blind:
                return True
            self._release_last()
            if not self._room.is_above_floor():
                raise OSError(errno.ENOSPC, "less than buffer.min_free_space is free")
            self._shelter.probe(f"{self._dir}/segments")
            self.log.segment_size = self.limits.sealed_at
            self.log.leave(lambda: setattr(self._shelter, "active", False), in_memory=False)
            self._shelter.settle_down()
        except (OSError, BufferInUse) as error:
            self._begin(error if isinstance(error, OSError) else OSError(errno.EBUSY, str(error)))
            self._settled_in(self.log)
            return False
        self.state = OK
        self._report("unsheltered", samples=self.unbuffered)
        return True

    def _take_again(self) -> None:
        """Have the folders and the lock, and see whether the directory is one that may be used."""
        was_blind, self._shelter.blind = self._shelter.blind, False
        try:
            super()._take()
            if was_blind:
                found = segment.listing(self._shelter.real, f"{self._dir}/segments")
                cursors = [n for n in names(self._shelter.real, f"{self._dir}/cursors") if n.endswith(SUFFIX)]
                self.must_restart = was_blind = bool(found or cursors)
        finally:
            self._shelter.blind = was_blind

    def _release_last(self) -> None:
        """Remove the newest segment on the disk, if everybody has it and its room is what the disk lacks."""
        with self._room.lock:
            begins, memory = self.log.in_memory_from or 0, self._shelter.memory
            last = max((first for first in self.log.sizes if first < begins), default=None)
            if last is None or min((each.position for each in self.cursors.values()), default=0) < begins:
                return
            free, volume = self._shelter.free(self._dir)
            needed = self.limits.min_free(volume) + memory.used + BLOCK * (len(memory.files) + 2)
            if free < needed <= free + self.log.sizes[last]:
                self.log.drop(last)

    def _make_room_in_memory(self) -> None:
        """Evict the oldest segments in memory, except the newest one, until the next record fits."""
        memory = self._shelter.memory
        self.log.segment_size = min(self.limits.sealed_at, memory.capacity // SEGMENTS)
        while memory.used > memory.capacity - 2 * self.log.segment_size and len(memory.files) > 1:
            with self._room.lock:
                first = int(min(memory.files).rpartition("/")[2].removesuffix(segment.SUFFIX))
                end = min(each for each in self.log.sizes if each > first)
                for cursor in self.cursors.values():
                    cursor.skip(end, "evicted", first)
                self.log.drop(first)
            self._report("evicted", upto=end)
