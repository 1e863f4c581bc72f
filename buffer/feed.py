"""What a cursor has read: a feed of entries at its position, and a second one while it also reads ahead."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import ExitStack

from buffer.ledger import Ledger
from buffer.model import Chunk, Series, Tick
from buffer.provisional import Provisional
from buffer.reader import Entry, Reader

MAX_TEXT = 8 << 20
"""Characters of names and labels in a chunk.  Series that change with each tick take far more of them than samples."""


class Feed:
    """A reader, and the entries from it that are not settled: everything that can be read before `upto`."""

    def __init__(self, reader: Reader, upto: int, log: Provisional) -> None:
        self.reader, self.upto, self._log = reader, upto, log
        self.entries: deque[Entry] = deque()
        self._texts: deque[list[tuple[int, int]]] = deque()
        self._known: dict[str, tuple[tuple[Series, ...], int]] = {}

    def first(self) -> Entry | None:
        """Return the first entry that is not settled; None where there is nothing new."""
        return self.entries[0] if self.entries or self.next() else None

    def next(self) -> bool:
        """Read one entry more; False where the log ends for now."""
        while (entry := self.reader.next()) is not None:
            if entry.end > self.upto:
                self.entries.append(entry)
                self._texts.append([(id(tick.series), self._text(tick)) for tick in entry.ticks])
                self.upto = entry.end
                return True
        return False

    def chunk(self, start: int, max_samples: int, until: int, cut: int = 0) -> Chunk:
        """Return the whole records from `start` on, but none from `until` on, nor from where the time is not known.

        They are as many as fit in `max_samples` and in MAX_TEXT, but at least one; and all of them end at `cut` or before, or
        none does.
        """
        until = min(until, self._log.known)
        stored, held = sum(entry.samples for entry in self.entries), _Text()
        for texts in self._texts:
            held.add(texts)
        while stored < max_samples and held.size < MAX_TEXT and self.upto < until and self.next():
            stored += self.entries[-1].samples
            held.add(self._texts[-1])
        ticks: list[Tick] = []
        samples, end, text = 0, start, _Text()
        for entry, texts in zip(self.entries, self._texts, strict=True):
            if entry.seq >= until:
                break
            text.add(texts)
            if ticks and end <= cut < entry.end:
                return Chunk(ticks, start, end, samples)
            if ticks and (samples + entry.samples > max_samples or text.size > MAX_TEXT):
                return Chunk(ticks, start, end, samples)
            ticks += entry.ticks
            samples, end = samples + entry.samples, entry.end
        if self.upto >= until:  # that was all that can be read before it
            end = max(end, until)
        return Chunk(ticks, start, end, samples)

    def _text(self, tick: Tick) -> int:
        """Return the characters of the series of a tick, which mostly are those of the one before."""
        known = self._known.get(tick.group)
        if known is None or known[0] is not tick.series:
            size = sum(
                len(one.name) + len(one.help) + sum(len(key) + len(value) for key, value in one.labels)
                for one in tick.series
            )
            known = self._known[tick.group] = tick.series, size
        return known[1]

    def drop_settled(self, ledger: Ledger) -> None:
        """Let go of the first entries as far as they are settled."""
        while self.entries and (
            self.entries[0].end <= ledger.position
            or (ledger.ahead and not ledger.unsettled(*self.entries[0][:2]))
        ):
            self.entries.popleft()
            self._texts.popleft()


class _Text:
    """The characters of the sets of series that were added, each set once."""

    def __init__(self) -> None:
        self.size, self._seen = 0, set[int]()

    def add(self, texts: list[tuple[int, int]]) -> None:
        for identity, size in texts:
            if identity not in self._seen:
                self._seen.add(identity)
                self.size += size


class Feeds:
    """The feed at a cursor's position, and the one ahead of it.  Each is opened when it is first needed."""

    def __init__(self, reader: Callable[[int], Reader], log: Provisional) -> None:
        self._reader, self._log, self._placings = reader, log, log.placings
        self._main: Feed | None = None
        self._ahead: Feed | None = None
        self._damaged = 0  # of readers that were closed
        self.begun = 0
        """Where the last jump went."""

    def main(self, position: int) -> Feed:
        """Return the feed that continues at the cursor's position."""
        self._main = self._at(self._main, position)
        return self._main

    def ahead(self, position: int) -> Feed:
        """Return the feed that continues at this position ahead."""
        self._ahead = self._at(self._ahead, position)
        return self._ahead

    def _at(self, feed: Feed | None, position: int) -> Feed:
        if feed is not None and feed.upto < position:  # evicted, or settled ahead
            self._leave(feed)
            feed = None
        return feed or Feed(self._reader(position), position, self._log)

    def jump(self, position: int, least: int) -> bool:
        """Start another feed ahead with the record at `position`; `begun` is then where that record starts.

        False, and nothing is changed, where there is no record there that starts after `least`.  Raises OSError.
        """
        feed = Feed(self._reader(position), position, self._log)
        start = -1
        try:
            if (entry := feed.first()) is not None:
                start = entry.seq
        finally:
            if start <= least:
                feed.reader.close()
        if start <= least:
            return False
        feed.reader.damaged = 0  # the main feed meets what is before it
        # First the change, then what can fail: a feed ahead without `begun` would be taken for the main one.
        before, self._ahead, self.begun = self._ahead, feed, start
        self._leave(before)
        return True

    def tidy(self, ledger: Ledger, ahead: int | None) -> None:
        """Let go of what is settled, and of the second feed where nothing is ahead any more."""
        if self._placings != self._log.placings:  # what was read before may have its times as the clock was
            self._placings = self._log.placings
            self._forget()
        if self._ahead is not None and ahead is None:
            self._leave(self._main)
            self._main, self._ahead = self._ahead, None
        for feed in self._open:
            feed.drop_settled(ledger)

    def holes(self, ledger: Ledger, start: int, end: int) -> int:
        """Return how many unsettled positions of the entries that end there hold no sample."""
        read = {e.seq: e for feed in self._open for e in feed.entries if start < e.end <= end}
        return sum(ledger.unsettled(max(e.seq, start), e.end) - e.samples for e in read.values())

    def _forget(self) -> None:
        """Read again whatever is not settled."""
        for feed in self._open:
            self._leave(feed)
        self._main = self._ahead = None

    def take_damaged(self) -> int:
        """Return the damage that was met since the last call."""
        damaged, self._damaged = self._damaged, 0
        for feed in self._open:
            damaged, feed.reader.damaged = damaged + feed.reader.damaged, 0
        return damaged

    def oldest(self) -> Entry | None:
        """Return the oldest entry that was read at the position, without reading."""
        return next(iter(self._main.entries), None) if self._main is not None else None

    @property
    def _open(self) -> list[Feed]:
        return [feed for feed in (self._main, self._ahead) if feed is not None]

    def _leave(self, feed: Feed | None) -> None:
        if feed is not None:
            self._damaged, feed.reader.damaged = self._damaged + feed.reader.damaged, 0
            feed.reader.close()

    def close(self) -> None:
        """Close the readers; they can still be used.  Raises OSError; all are closed all the same."""
        with ExitStack() as stack:
            for feed in self._open:
                stack.callback(feed.reader.close)
