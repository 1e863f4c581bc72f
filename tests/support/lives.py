"""Lives of a host whose clock is often wrong, and what must be true of them whatever happens.

The schedule, the guard, and the buffer are the real ones; the clocks, the file system, and the receiver are models.  Each
sample's value is the true time at which it was collected, so the receiver shows by how much its timestamp is off.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

from agent.collect import plan
from agent.collect.guard import CONTRADICTED, RECEIVERS, SYNCED, UNSET, Guard, Trust
from agent.collect.plan import Plan
from agent.collect.schedule import Schedule
from agent.collect.series import Columns
from agent.collect.timekeeper import ESTIMATED, Timekeeper
from agent.collectors import Sample
from agent.config.schema import ClockSection
from agent.system.heard import Heard
from buffer.buffer import Buffer
from buffer.errors import BufferFull
from buffer.limits import Limits
from buffer.model import Doubted, Series, Tick, is_stale
from buffer.placing import Unplaced
from buffer.segment import Note
from tests.support.buffers import assert_balances, kill
from tests.support.collecting import HOST, METRICS, Log, World
from tests.support.faults import WRITING, Failing, MemoryFs, PowerLost, died, died_in_write

BIRTH_MS = 1_790_000_000_000
"""The true time at which every life begins."""
SAVED_EARLIER_MS = 60_000
"""So long before the end of a boot its time was saved, which the next one begins with: so it is never right by accident."""
MINUTE, HOUR, DAY = 60.0, 3600.0, 86_400.0
NAME = "central"
INTERVAL = 10


class Evidence:
    """What the model's host knows of its clock."""

    def __init__(self, life: Life) -> None:
        self._life = life
        self.synced, self.chip, self.network = False, life.chip, True
        self.answers: list[Heard] = []

    def is_synced(self) -> bool:
        return self.synced

    def chip_ms(self) -> int | None:
        return self._life.now_ms() if self.chip else None

    def has_service(self) -> bool:
        return True

    def has_network(self) -> bool:
        return self.network

    def heard(self) -> list[Heard]:
        return self.answers


class Happens(NamedTuple):
    """What happens so many seconds after a boot: the clock is `set` by NTP or `put` right by a person, goes `back` an hour, the host
    sleeps, there is a `leap` second, or receivers answer, whose clocks are `off` by so many seconds: a receiver that lies has another time than the true one.
    """

    at: float
    what: str
    seconds: float = 0.0
    off: tuple[float, ...] = (0.0,)


class Boot(NamedTuple):
    """A boot: by what its clock begins, how long it lasts, how it ends (stop, kill, cut), how long it is off then.

    `dies_at` is the number of the call to the file system at which it dies; 0: it lives as long as it lasts.
    """

    clock: str
    seconds: float
    events: Sequence[Happens] = ()
    end: str = "stop"
    off: float = 60.0
    dies_at: int = 0
    same: bool = False
    """Whether it is the boot before, in which the agent was started again."""


class Watched(Buffer):
    """A buffer that says what it has promised."""

    def append(self, ticks: Sequence[Tick], missed: int = 0, clock: Doubted | None = None) -> int:
        end = super().append(ticks, missed, clock)
        for tick in ticks:
            if tick.group == "cpu":
                self.promised.append(tick.values[0])
        return end

    def sync(self) -> None:
        count = len(self.promised)
        super().sync()
        self.durable = max(self.durable, count)

    def place(self, boot_id: str, base_ms: int, *, drop: bool = False) -> list[tuple[Unplaced, Note]]:
        found = super().place(boot_id, base_ms, drop=drop)
        self.good.add(boot_id)
        return found

    good: set[str]
    promised: list[float]
    durable: int


class Receiver:
    """What a receiver has, which takes no sample that is older than the newest of its series, nor two for one time."""

    def __init__(self) -> None:
        self.stored: dict[str, dict[int, float]] = {}
        self.taken: list[Tick] = []

    def take(self, tick: Tick) -> None:
        self.taken.append(tick)
        for series, value in zip(tick.series, tick.values, strict=True):
            if is_stale(value) and series.name != ESTIMATED:
                continue
            self._take(series, tick.at.wall_ms, value)

    def _take(self, series: Series, at_ms: int, value: float) -> None:
        stored = self.stored.setdefault(series.name, {})
        if at_ms in stored:
            assert stored[at_ms] == value or is_stale(value), f"two values for {at_ms} of {series.name}"
        else:
            newest = max(stored, default=0)
            assert at_ms > newest, f"{series.name}: {at_ms} is behind {newest}"
            stored[at_ms] = value


class Life:
    """One host, from its first boot on.  `folder` is where its lock is."""

    def __init__(self, folder: str, chance: random.Random, *, chip: bool = False) -> None:
        self.fs, self.folder, self.chance, self.chip = MemoryFs(), folder, chance, chip
        self.receiver, self.true_ms, self.saved_ms = Receiver(), BIRTH_MS, BIRTH_MS - 3_600_000
        self.boots: dict[str, tuple[int, int]] = {}
        """Of each boot that has collected: from when to when it truly was."""
        self.good: set[str] = set()
        """The boots whose clock was right at some time."""
        self.late: set[float] = set()
        """The samples of a first round, or behind a sleep: they have the newest time of the grid, however long that is over."""
        self.kept: set[float] = set()
        self.power_was_cut = False
        self.world, self.boot_id, self.began_ms = World(), "", 0
        self.evidence = Evidence(self)
        self.off: tuple[float, ...] = (0.0,)
        self.deceived: set[str] = set()
        """The boots in which nothing outweighed the word of receivers that all lied."""
        self.unplaced: Literal["estimate", "drop"] = "estimate"
        self.network, self.sync_every = True, 10
        self.log = Log()
        self.trust = UNSET
        self.dropped: dict[str, int] = {}
        self.missed = 0

    def now_ms(self) -> int:
        return self.began_ms + round(self.world.now * 1000)

    def run(self, boot: Boot) -> None:
        """Live through one boot, and the time without power behind it."""
        if not boot.same:
            self._switch_on(boot)
        fs: Any = self.fs
        if boot.dies_at:
            fault, only = self.chance.choice([(died, WRITING | {"truncate"}), (died_in_write, {"write"})])
            fs = Failing(self.fs, boot.dies_at, fault, only=only)
        buffer = None
        try:
            buffer = Watched(self.folder, Limits(segment_size=4096), [NAME], fs=fs)
            buffer.promised, buffer.durable, buffer.good = [], 0, self.good
            self._live(buffer, boot)
            if boot.end == "stop":
                buffer.durable = len(buffer.promised)
                buffer.close()
                self.fs.kill()
            else:
                kill(buffer, self.fs)
        except PowerLost:
            self.fs.kill()
            if buffer is not None:
                kill(buffer, self.fs)
        if buffer is not None:
            self._remember(buffer, boot)
        if boot.end == "cut":
            self.power_was_cut = True
            self.fs.cut(self.chance)
        self.true_ms = self.now_ms() + round(boot.off * 1000)

    def _switch_on(self, boot: Boot) -> None:
        self.boot_id = f"{self.chance.getrandbits(128):032x}"
        self.began_ms, self.evidence = self.true_ms, Evidence(self)
        walls = {
            "1970": 0,
            "saved": self.saved_ms - SAVED_EARLIER_MS,
            "march": BIRTH_MS - 200 * 86_400_000,
            "right": self.true_ms,
        }
        self.world = World(walls[boot.clock] / 1000)
        if boot.clock == "right":
            self.good.add(self.boot_id)

    def _live(self, buffer: Watched, boot: Boot) -> None:
        world = self.world
        self.evidence.network = self.network
        settings = ClockSection(unplaced=self.unplaced)
        keeper = Timekeeper(settings, self.evidence, buffer, self.log, lambda: {"hostname": HOST})
        keeper.guard = _Seen(self)
        collect = _TrueTime(self)
        plans = [Plan("cpu", collect, Columns(METRICS, {"hostname": HOST}), INTERVAL, 5, HOST)]
        schedule = Schedule(plans, buffer, self.boot_id, self.log, world, world, timekeeper=keeper)
        begun = world.now
        for event in boot.events:
            world.at(begun + event.at, partial(self._happen, event))
        for seconds in range(5, int(boot.seconds), self.sync_every):
            world.at(begun + seconds, partial(self._each_sync, buffer))
        world.over = partial(schedule.stop, 0)
        world.clear()
        world.run_until(begun + boot.seconds)
        try:
            schedule.run()
            self._each_sync(buffer)
        finally:
            for crew in schedule._crews.values():
                crew.close()
            world._actions.clear()

    def _happen(self, event: Happens) -> None:
        world = self.world
        if event.what == "set":
            world.step(self.now_ms() / 1000 - world.wall() + self.chance.uniform(-0.2, 0.2))
            self.evidence.synced = True
        elif event.what == "put":
            world.step(self.now_ms() / 1000 - world.wall())
        elif event.what == "answer":
            self.off = event.off
            self.evidence.answers = [
                Heard(float((self.now_ms() + round(one * 1000)) // 1000), world.now - 0.1, world.now)
                for one in event.off
            ]
        elif event.what == "back":
            world.step(-3600)
            self.evidence.synced = False
        elif event.what == "sleep":
            world.now += event.seconds
        elif event.what == "leap":  # the last second of a day is there twice
            world.step(-1)
        elif event.what == "lost":
            self.evidence.synced = False

    def _each_sync(self, buffer: Watched) -> None:
        try:
            buffer.sync()
        except (OSError, BufferFull):
            return
        cursor = buffer.cursors[NAME]
        while (chunk := cursor.read(100)).end > chunk.start:
            for tick in chunk.ticks:
                self.receiver.take(tick)
            cursor.commit(chunk.start, chunk.end, chunk.samples, {})
        assert_balances(buffer)
        self.dropped, self.missed = dict(cursor.ledger.dropped), buffer.log.missed
        self.saved_ms = max(self.saved_ms, round(self.world.wall() * 1000))

    def _remember(self, buffer: Watched, boot: Boot) -> None:
        durable = buffer.durable if boot.end == "cut" else len(buffer.promised)
        self.kept.update(buffer.promised[:durable])
        begun, _ = self.boots.get(self.boot_id, (self.began_ms, 0))
        self.boots[self.boot_id] = begun, self.now_ms()

    def check(self) -> None:
        """Assert what must be true after a last boot whose clock was right."""
        stored = self.receiver.stored.get("b", {})
        missing = self.kept - set(stored.values())
        assert not missing, f"{len(missing)} samples are lost, the first of {min(missing)}"
        assert set(self.dropped) <= ({"corrupt"} if self.power_was_cut else set()), self.dropped
        marked = self.receiver.stored.get(ESTIMATED, {})
        for at_ms, value in stored.items():
            boot_id = next(
                one for one, (begin, end) in self.boots.items() if begin <= value + BIRTH_MS <= end
            )
            off_ms = at_ms - value - BIRTH_MS
            assert at_ms <= self.now_ms() + 500, f"{at_ms - self.now_ms()} ms in the future"
            early = 2_000 + (INTERVAL * 1000 if value in self.late else 0)
            is_true = -early <= off_ms <= 2_000
            if boot_id in self.deceived:
                continue
            if boot_id in self.good:
                assert is_true, f"a sample is off by {off_ms} ms"
            elif not is_true:
                assert _is_within(at_ms, marked), f"an estimate at {at_ms} is not marked"


def _is_within(at_ms: int, marked: dict[int, float]) -> bool:
    """Whether there are a mark before, or then, and one behind that is no later than the end of its span."""
    before = max((at for at in marked if at <= at_ms), default=None)
    return before is not None and not (is_stale(marked[before]) and before < at_ms)


class _Seen(Guard):
    """The guard, and the life knows whether it has seen a clock that is right."""

    def __init__(self, life: Life) -> None:
        super().__init__("auto", 30.0, life.evidence)
        self._life = life

    def look(self, wall_ms: int, mono_ms: int, kept_ms: int) -> Trust:
        life = self._life
        life.trust = super().look(wall_ms, mono_ms, kept_ms)
        if life.trust in (CONTRADICTED, RECEIVERS) and any(life.off):
            life.deceived.add(life.boot_id)
        return life.trust


class _TrueTime(plan.Collector):
    def __init__(self, life: Life) -> None:
        self._life, self._last = life, -1e12

    def __call__(self, now: float, /) -> list[Sample]:
        true = float(self._life.now_ms() - BIRTH_MS)
        if self._life.trust in (SYNCED, RECEIVERS):  # and what was provisional has its times by now
            self._life.good.add(self._life.boot_id)
        if true - self._last > 1.1 * INTERVAL * 1000:
            self._life.late.add(true)
        self._last = true
        return [Sample("b", true)]


def a_day(folder: str, seconds: float, sync_every: int = 10) -> tuple[Life, str]:
    """Boot in 1970, NTP after 7 minutes, so many seconds, a power cut, a boot that never gets NTP, one with an hour back, 3 h of sleep, a leap second.

    Return the life, and the boot whose clock was never right.
    """
    life = Life(folder, random.Random(1))
    life.sync_every = sync_every
    life.run(Boot("1970", seconds, (Happens(7 * MINUTE, "set"),), "cut", 10 * MINUTE))
    life.run(Boot("march", 10 * MINUTE, (), "kill", HOUR))
    lost = life.boot_id
    hour_back = (Happens(MINUTE, "set"), Happens(HOUR, "back"), Happens(HOUR + 5 * MINUTE, "set"))
    rest = (Happens(2 * HOUR, "sleep", 3 * HOUR), Happens(5.5 * HOUR, "leap"))
    life.run(Boot("saved", 6 * HOUR, (*hour_back, *rest), "stop", MINUTE))
    return life, lost


def random_life(folder: str, seed: int) -> Life:
    """Live a random life, which ends with a boot whose clock is right."""
    chance = random.Random(seed)
    life = Life(folder, chance, chip=chance.random() < 0.2)
    life.network = False
    for boot in random_boots(chance, chip=life.chip):
        life.run(boot)
    life.run(Boot("right" if life.chip else "saved", 300, (Happens(20, "set"),)))
    return life


def random_boots(chance: random.Random, *, chip: bool) -> list[Boot]:
    boots: list[Boot] = []
    for _ in range(chance.randint(1, 5)):
        seconds = chance.uniform(15, 900)
        events: list[Happens] = []
        same = bool(boots) and boots[-1].end == "kill" and chance.random() < 0.7
        if chance.random() < 0.6 and not chip:
            at = chance.uniform(0, seconds * 0.8)
            events.append(Happens(at, "set"))
            if chance.random() < 0.4:
                back = chance.uniform(at, seconds)
                events += [Happens(back, "back"), Happens(back + chance.uniform(5, 300), "set")]
        if chance.random() < 0.2:
            events.append(Happens(chance.uniform(0, seconds), "sleep", chance.uniform(1, 20_000)))
        for _ in range(chance.choice([0, 0, 1, 3])):
            off = chance.choice([(0.0,), (0.0, 0.0), (0.0, 7200.0), (7200.0,), (-5000.0,)])
            events.append(Happens(chance.uniform(0, seconds), "answer", 0.0, off))
            if chance.random() < 0.5 and not chip:
                events.append(Happens(chance.uniform(events[-1].at, seconds), "put"))
        end = chance.choice(["stop", "kill", "cut"])
        boots.append(
            Boot(
                "right" if chip else chance.choice(["1970", "march", "saved"]),
                seconds,
                sorted(events),
                end,
                1.0 if same or end == "kill" else chance.choice([5.0, 60.0, 86_400.0]),
                chance.randint(1, 60) if end != "stop" and chance.random() < 0.5 else 0,
                same,
            )
        )
    return boots


Check = Callable[[Life], None]
