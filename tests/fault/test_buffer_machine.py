"""A buffer with two cursors against a list and two sets, through anything in any order."""

from __future__ import annotations

import random
import shutil
import tempfile

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from buffer.buffer import Buffer
from buffer.ledger import MAX_STRETCHES
from buffer.limits import Limits
from buffer.model import Chunk, Tick
from tests.support.buffers import assert_balance, entries, kill, numbers, places
from tests.support.faults import MemoryFs
from tests.support.ticks import exactly, tick

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
        # For each destination every position that is settled, and what of that is on the medium for sure.
        self.settled: dict[str, set[int]] = {name: set() for name in NAMES}
        self.kept: dict[str, set[int]] = {name: set() for name in NAMES}
        self.on_its_way: dict[str, Chunk] = {}
        self.open()

    def open(self) -> None:
        self.buffer = Buffer(
            self.folder,
            Limits(max_size=4_000, segment_size=500, on_full="drop_oldest"),
            NAMES,
            fs=self.fs,
            clock=lambda: 0.0,
        )
        self.begun = dict.fromkeys(NAMES, 0)  # where a cursor went ahead; no file has that
        self.on_its_way = {}

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
        for settled in self.settled.values():
            settled.update(range(self.buffer.log.first))  # evicted

    @rule()
    def sync(self) -> None:
        self.buffer.sync()
        self.durable()

    def durable(self) -> None:
        self.synced = self.buffer.log.end
        self.kept = {name: set(settled) for name, settled in self.settled.items()}

    def expected(self, name: str, begun: int, limit: int) -> list[Tick]:
        """What a destination has to get from a position on: up to the limit, or what is settled already."""
        until = min((p for p in self.settled[name] if p >= begun), default=1 << 62)
        found: list[Tick] = []
        samples = 0
        for position, number, width in self.records:
            if position >= begun:
                if position >= until or (found and samples + width > limit):
                    break
                found.append(tick(number, width))
                samples += width
        return found

    def ahead(self, name: str) -> int | None:
        """Return where a destination that is ahead of its position continues; None: it is not ahead."""
        at = max(self.begun[name], max(self.settled[name], default=-1) + 1)
        return at if at > self.buffer.cursors[name].position else None

    @rule(
        name=st.sampled_from(NAMES),
        limit=st.integers(1, 80),
        ahead=st.booleans(),
        settle=st.sampled_from(["at once", "later", "never"]),
        refuse=st.booleans(),
    )
    def read(self, name: str, limit: int, ahead: bool, settle: str, refuse: bool) -> None:
        cursor = self.buffer.cursors[name]
        begun = self.ahead(name) if ahead else cursor.position
        chunk = cursor.read_ahead(limit) if ahead else cursor.read(limit)
        assert chunk == (cursor.read_ahead(limit) if ahead else cursor.read(limit))
        if begun is None:
            assert chunk == Chunk([], cursor.position, cursor.position, 0)
            return
        assert chunk.start == begun
        assert exactly(chunk.ticks) == exactly(self.expected(name, begun, limit))
        assert chunk.samples == sum(len(one.values) for one in chunk.ticks)
        if settle == "at once":
            self.commit(name, chunk, refuse)
        elif settle == "later":
            self.on_its_way[name] = chunk

    @rule(name=st.sampled_from(NAMES), refuse=st.booleans())
    def settle_what_was_on_its_way(self, name: str, refuse: bool) -> None:
        """Meanwhile its front may have been evicted, or all of it settled by another way."""
        if (chunk := self.on_its_way.pop(name, None)) is not None:
            self.commit(name, chunk, refuse)

    def commit(self, name: str, chunk: Chunk, refuse: bool) -> None:
        cursor, settled = self.buffer.cursors[name], self.settled[name]
        new = set(range(chunk.start, chunk.end)) - settled
        refused = min(2, chunk.samples) if refuse else 0
        before = cursor.ledger
        cursor.commit(
            chunk.start, chunk.end, chunk.samples - refused, {"rejected": refused} if refused else {}
        )
        settled |= new
        counted = cursor.ledger.dropped.get("rejected", 0) - before.dropped.get("rejected", 0)
        assert counted == min(refused, len(new))
        counted += cursor.ledger.dropped.get("corrupt", 0) - before.dropped.get("corrupt", 0)
        assert cursor.ledger.delivered == before.delivered + len(new) - counted

    @rule(name=st.sampled_from(NAMES), samples=st.integers(0, 60))
    def go_ahead(self, name: str, samples: int) -> None:
        cursor = self.buffer.cursors[name]
        was, at, wanted = cursor.ledger, self.ahead(name), self.buffer.log.end - max(1, samples)
        at = cursor.position if at is None else at
        following = next((p + width for p, _, width in self.records if p + width > at), 0)
        begins = next((p for p, _, width in self.records if p + width > wanted), 0)
        gain = wanted >= following and begins > at and len(was.ahead) < MAX_STRETCHES
        assert cursor.go_ahead(samples) == gain
        if gain:
            self.begun[name] = begins
        assert cursor.ledger == was
        assert cursor.ahead == self.ahead(name)

    @rule()
    def close_and_open(self) -> None:
        self.buffer.close()
        positions = {name: cursor.ledger for name, cursor in self.buffer.cursors.items()}
        self.open()
        assert {name: cursor.ledger for name, cursor in self.buffer.cursors.items()} == positions
        self.durable()

    @rule()
    def kill(self) -> None:
        end = self.buffer.log.end
        kill(self.buffer)
        self.fs.kill()
        self.open()
        assert self.buffer.log.end == end
        self.go_on_with_what_was_kept()

    @rule(seed=st.integers(0, 1 << 30))
    def lose_power(self, seed: int) -> None:
        kill(self.buffer)
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
        for cursor in self.buffer.cursors.values():  # nothing is settled that is not there
            assert cursor.ledger.reach <= max([first, *(p + width for p, _, width in found)])
        self.records = found
        self.synced = self.buffer.log.end  # what survived is on the medium
        self.go_on_with_what_was_kept()

    def go_on_with_what_was_kept(self) -> None:
        """What was written of a cursor counts: no less than what was synced, no more than there was."""
        for name, cursor in self.buffer.cursors.items():
            left = places(cursor.ledger)
            evicted = set(range(self.buffer.log.first))
            assert self.kept[name] <= left <= self.settled[name] | evicted
            self.settled[name] = left

    def found(self) -> list[tuple[int, int, int]]:
        found = entries(self.fs, f"{self.folder}/segments")
        return [(entry.seq, numbers(entry.ticks)[0], entry.samples) for entry in found]

    @invariant()
    def everything_is_where_it_was_put(self) -> None:
        first = self.buffer.log.first
        assert self.found() == [record for record in self.records if record[0] >= first]
        self.records = [record for record in self.records if record[0] >= first]

    @invariant()
    def every_ledger_balances(self) -> None:
        for name, cursor in self.buffer.cursors.items():
            assert_balance(cursor)
            assert places(cursor.ledger) == self.settled[name]
            assert cursor.ledger.start == 0
            assert cursor.pending() == self.buffer.log.end - len(self.settled[name])
            assert self.buffer.log.first <= cursor.position
            assert len(cursor.ledger.ahead) <= MAX_STRETCHES

    @invariant()
    def the_cap_is_kept(self) -> None:
        on_disk = sum(len(node.data) for path, node in self.fs.entries.items() if path.endswith(".seg"))
        assert on_disk <= 4_000 + 1_500  # and a record with its table


TestBufferMachine = BufferMachine.TestCase
TestBufferMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
