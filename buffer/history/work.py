"""The work on history: what is packed, made coarser or given up for its age, in small pieces.

Promises:
- It takes SHARE of one core at most, measured over some syncs: each has so much CPU time as the time since the last one allows,
  and MOST at most, so that no sync waits for it.
- At every moment, also after a kill or a power cut, each position is in the files that there were, or in the one that takes their
  place, whole: that one is written next to them, made durable and renamed, and then they are removed.  What was not finished is
  begun again.
- What makes history coarser, or removes it, for its age is done once in AGING seconds at most, because boxes wake up with wrong clocks:
  one that is ahead for a while costs the detail of some hours.  What lies in the future has no age.
- What is damaged, or of a later version, stays as it is, until room is needed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator

from buffer.codec import Decoder
from buffer.fs import Fs
from buffer.history import packed, tiers
from buffer.history.keep import MOST_FILES, History, Kept
from buffer.history.packed import Head
from buffer.history.tiers import Block
from buffer.limits import Tiers
from buffer.reader import entries_of, opened

SHARE = 0.005
MOST = 0.2
"""CPU seconds at once."""
AGING = 600.0
TIGHT = 0.9
"""Above this share of `max_size` history becomes coarser before its time; only at the limit the oldest goes."""
AT_ONCE = 1 << 20
"""Bytes of segments that are packed by one piece of work."""

Job = Generator[None, None, None]


class Worker:
    """Works on the files of a history.  One thread at a time."""

    def __init__(
        self,
        fs: Fs,
        history: History,
        clock: Callable[[], float],
        wall: Callable[[], float],
        cpu: Callable[[], float] = time.thread_time,
    ) -> None:
        self._fs, self._history, self._clock, self._wall, self._cpu = fs, history, clock, wall, cpu
        self._job: Job | None = None
        self._sources: list[Kept] = []
        self._stuck: set[tuple[int, bool]] = set()
        self._aged = self._failed = -AGING
        self._worked: float | None = None
        self.written = 0
        """Bytes."""

    def keep_to(self, limits: Tiers) -> None:
        """Remove what is over the limits, and work on for as long as the time since the last call allows."""
        history = self._history
        if not limits.raw:
            self.rest()
            while history.drop_oldest():
                pass
        while (history.size > limits.max_size or len(history.files) > MOST_FILES) and history.drop_oldest():
            pass
        now = self._clock()
        since, self._worked = now - (now if self._worked is None else self._worked), now
        self.work(limits, min(MOST, SHARE * since))

    def work(self, limits: Tiers, seconds: float) -> None:
        """Work for so many seconds of CPU time, or until nothing is due."""
        began = self._cpu()
        while self._cpu() - began < seconds:
            if self._job is not None and any(one not in self._history.files for one in self._sources):
                self.rest()  # a file has gone for the sake of the log
            if self._job is None and not self._begin(limits):
                return
            try:
                next(self._job or iter(()))
            except StopIteration:
                self._job = None
            except ValueError:
                self._stuck |= {one[:2] for one in self._sources}
                self.rest()
            except OSError:
                self._failed = self._clock()
                self.rest()

    def rest(self) -> None:
        """Give up what is under way."""
        job, self._job = self._job, None
        if job is not None:
            job.close()

    def _begin(self, limits: Tiers) -> bool:
        """Begin with what is due next; False where nothing is."""
        now = self._clock()
        if now - self._failed < AGING:
            return False
        files = [one for one in self._history.files if one[:2] not in self._stuck]
        heads = [one.head if one in files else None for one in self._history.files]
        if run := self._segments():
            self._start(self._pack(run), [one for one, _ in run])
        elif small := tiers.small(heads):
            self._start(self._merge(small, small[0].level), self._of(small))
        else:
            is_tight = self._history.size > TIGHT * limits.max_size
            level, run_of = tiers.due(heads, limits, 0, is_tight=True) if is_tight else (0, [])
            if not run_of and now - self._aged < AGING:
                return False
            if not run_of:
                self._aged = now
                level, run_of = self._old(heads, limits)
            if not run_of:
                return False
            self._start(self._merge(run_of, level), self._of(run_of))
        return True

    def _old(self, heads: list[Head | None], limits: Tiers) -> tuple[int, list[Head]]:
        """Return what is to become coarser for its age; or remove the oldest file, if that is over its."""
        now_ms = self._wall() * 1000
        oldest = next((one for one in self._history.files if one.head is not None), None)
        if oldest is not None and oldest.head is not None and tiers.is_over(oldest.head, limits, now_ms):
            self._history.drop(oldest)
            return 0, []
        return tiers.due(heads, limits, now_ms, is_tight=False)

    def _start(self, job: Job, sources: list[Kept]) -> None:
        self._job, self._sources = job, sources

    def _of(self, heads: list[Head]) -> list[Kept]:
        return [one for one in self._history.files if one.head in heads]

    def _segments(self) -> list[tuple[Kept, int | None]]:
        """Return consecutive segments that are to be packed, each with where the next one begins."""
        found: list[tuple[Kept, int | None]] = []
        segments = [one for one in self._history.files if one.is_segment]
        for number, one in enumerate(segments):
            if one[:2] in self._stuck or sum(each.size for each, _ in found) >= AT_ONCE:
                if found:
                    break
                continue
            found.append((one, segments[number + 1].first if number + 1 < len(segments) else None))
        return found

    def _pack(self, run: list[tuple[Kept, int | None]]) -> Job:
        folder, decoder = self._history.folder, Decoder()
        block: Block | None = None
        done: list[Kept] = []
        for one, following in run:
            try:
                with_level = _level(self._fs, folder, one.first)
            except ValueError:
                self._stuck.add(one[:2])
                continue
            if block is not None and block.level != with_level:
                yield from self._finish(block, done)
                block, done = None, []
            at, count = self._history.packed_until(one.first, following), 0
            upto = at
            for entry in entries_of(self._fs, folder, one.first, decoder):
                count += 1
                if not count % tiers.RECORDS:
                    yield
                if entry.end <= at:
                    continue
                if block is None:
                    block = Block(upto, with_level)
                block.add(entry)
                upto = entry.end
                if block.is_full:
                    yield from self._finish(block, done)
                    block, done = None, []
            if count:
                done.append(one)
            else:  # it may be readable for another version
                self._stuck.add(one[:2])
        if block is not None:
            yield from self._finish(block, done)
        else:
            for one in done:
                self._history.drop(one)

    def _finish(self, block: Block, done: list[Kept]) -> Job:
        """Write a packed file, and remove the segments that are packed as a whole by that."""
        yield from self._write(block.write(self._fs, self._history.folder), done)

    def _merge(self, run: list[Head], level: int) -> Job:
        sources = [one for one in self._of(run) if one.first != run[0].first_seq]
        yield from self._write(tiers.coarser(self._fs, self._history.folder, run, level), sources)

    def _write(self, work: tiers.Work, instead_of: list[Kept]) -> Job:
        head = yield from work
        size = self._fs.size(f"{self._history.folder}/{packed.name(head.first_seq)}")
        self.written += size
        self._sources = [
            one for one in self._sources if one not in instead_of and one.first != head.first_seq
        ]
        self._history.took_packed(head, size, instead_of)


def _level(fs: Fs, folder: str, first: int) -> int:
    """Return the level of a segment.  Raises OSError, ValueError."""
    file = opened(fs, folder, first)
    try:
        return file.header.level
    finally:
        file.close()
