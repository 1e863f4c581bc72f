"""A buffer with two cursors against a list and two numbers, through anything in any order."""

from __future__ import annotations

import random
import shutil
import tempfile

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from buffer.buffer import Buffer
from buffer.model import Tick
from buffer.reader import Reader
from tests.support.faults import MemoryFs
from tests.support.ticks import STEP_MS, exactly, tick

NAMES = ("a", "b")


class BufferMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.mkdtemp()  # for the lock alone
        self.fs = MemoryFs()
        self.records: list[tuple[int, int, int]] = []  # position, tick number, width
        self.ever: set[tuple[int, int, int]] = set()
        self.synced = 0
        self.number = 0
        self.delivered = dict.fromkeys(NAMES, 0)  # by position: everything up to here was settled
        self.read_upto: dict[str, int] = {}
        self.open()

    def open(self) -> None:
        self.buffer = Buffer(
            self.folder,
            NAMES,
            max_size=4_000,
            segment_size=500,
            on_full="drop_oldest",
            fs=self.fs,
            clock=lambda: 0.0,
        )
        self.read_upto = {}

    def teardown(self) -> None:
        self.buffer.close()
        assert not self.fs.open_files
        shutil.rmtree(self.folder)

    @rule(width=st.integers(1, 6), count=st.integers(1, 12))
    def append(self, width: int, count: int) -> None:
        for _ in range(count):
            end = self.buffer.append([tick(self.number, width)])
            self.records.append((end - width, self.number, width))
            self.ever.add(self.records[-1])
            self.number += 1

    @rule()
    def sync(self) -> None:
        self.buffer.sync()
        self.synced = self.buffer.log.end

    @rule(name=st.sampled_from(NAMES), limit=st.integers(1, 80), settle=st.booleans(), refuse=st.booleans())
    def read(self, name: str, limit: int, settle: bool, refuse: bool) -> None:
        cursor = self.buffer.cursors[name]
        begun = cursor.position
        chunk = cursor.read(limit)
        waiting = [(n, w) for p, n, w in self.records if p >= begun]
        expected: list[Tick] = []
        samples = 0
        for number, width in waiting:
            if expected and samples + width > limit:
                break
            expected.append(tick(number, width))
            samples += width
        assert exactly(chunk.ticks) == exactly(expected)
        assert chunk.samples == samples
        if settle and chunk.samples:
            refused = min(2, samples) if refuse else 0
            before = cursor.ledger
            cursor.commit(chunk.start, chunk.end, samples - refused, {"rejected": refused} if refused else {})
            assert cursor.position == chunk.end
            assert cursor.ledger.delivered == before.delivered + samples - refused
            self.delivered[name] = max(self.delivered[name], chunk.end)

    @rule()
    def close_and_open(self) -> None:
        self.buffer.close()
        positions = {name: cursor.ledger for name, cursor in self.buffer.cursors.items()}
        self.open()
        assert {name: cursor.ledger for name, cursor in self.buffer.cursors.items()} == positions
        self.synced = self.buffer.log.end

    @rule()
    def kill(self) -> None:
        end = self.buffer.log.end
        self.die()
        self.fs.kill()
        self.open()
        assert self.buffer.log.end == end

    @rule(seed=st.integers(0, 1 << 30))
    def lose_power(self, seed: int) -> None:
        self.die()
        self.fs.cut(random.Random(seed))
        self.open()
        found = self.found()
        first = min(cursor.position for cursor in self.buffer.cursors.values())
        # Nothing that was not written there; what was let go may be back.
        assert set(found) <= self.ever
        assert [r for r in found if r[0] >= first] == [
            r for r in self.records if r in found and r[0] >= first
        ]
        assert [r for r in self.records if first <= r[0] < self.synced and r not in found] == []
        self.records = found
        self.synced = self.buffer.log.end  # what survived is on the medium

    def die(self) -> None:
        self.was = {name: cursor.ledger for name, cursor in self.buffer.cursors.items()}
        self.buffer._lock.close()

    def found(self) -> list[tuple[int, int, int]]:
        reader, found = Reader(self.fs, f"{self.folder}/segments"), []
        while (entry := reader.next()) is not None:
            [one] = entry.ticks
            found.append((entry.seq, one.at.mono_ms // STEP_MS, len(one.values)))
        reader.close()
        return found

    @invariant()
    def everything_is_where_it_was_put(self) -> None:
        first = self.buffer.log.first
        assert self.found() == [record for record in self.records if record[0] >= first]
        self.records = [record for record in self.records if record[0] >= first]

    @invariant()
    def every_ledger_balances(self) -> None:
        for name, cursor in self.buffer.cursors.items():
            ledger = cursor.ledger
            dropped = sum(ledger.dropped.values())
            assert self.buffer.log.end - ledger.start == ledger.delivered + cursor.pending() + dropped
            assert ledger.delivered <= self.delivered[name] - ledger.start + dropped
            assert self.buffer.log.first <= max(cursor.position, self.buffer.log.first)
            assert min(ledger.delivered, cursor.pending(), *ledger.dropped.values(), 0) == 0

    @invariant()
    def the_cap_is_kept(self) -> None:
        on_disk = sum(len(node.data) for path, node in self.fs.entries.items() if path.endswith(".seg"))
        assert on_disk <= 4_000 + 1_500  # and a record with its table


TestBufferMachine = BufferMachine.TestCase
TestBufferMachine.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
