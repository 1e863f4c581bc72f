"""A receiver that refuses everything is held if it refuses a sample for now as well; else its refusals count."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from agent.config import InfluxDB, QueueConfig, RelabelConfig
from agent.destinations.base import Outcome, Verdict
from agent.destinations.influxdb.destination import influxdb
from agent.destinations.remote_write.formats import remote_write
from agent.http.answer import Answer
from agent.send.delivery import Clocks
from agent.send.fresh import SERIES, Fresh
from agent.send.state import State
from buffer.model import Instant, Series, Tick
from tests.support import wire
from tests.support.scripted import BOOT, HELD, NO_ANSWER, Rig, destination

QUEUE = QueueConfig(max_samples_per_send=40, batch_send_deadline=30.0, min_backoff=1.0, max_backoff=60.0)
LIMIT = Answer(400, {}, b"per-user series limit of 150000 exceeded")
LATE = Answer(400, {}, b"out of order sample")
FAR = Answer(400, {}, b"timestamp is not in the accepted range")
HOUR, DAY = 3600, 86_400
NOW = 1_800_000_000

Refuse = Callable[[wire.Write], Answer | None]


def many(count: int, name: str = "m") -> tuple[Series, ...]:
    return tuple(Series(f"{name}{i:03}", (("hostname", "a"),)) for i in range(count))


def names(write: wire.Write) -> set[str]:
    return {dict(one.labels)["__name__"] for one in write.series}


class Host(Rig):
    """A host whose clock can be wrong, and a receiver whose answers `refuse` gives, also to a sample for now."""

    def __init__(self, refuse: Refuse = lambda _: None, keep: str | None = None) -> None:
        self.wrong_s, self.refuse = 0, refuse
        clocks = Clocks(lambda: self.now, lambda: NOW + self.now + self.wrong_s, lambda: 0.5)
        to = destination(QUEUE)
        if keep is not None:
            rule = RelabelConfig(source_labels=("__name__",), regex=keep, action="keep")
            to = msgspec.structs.replace(to, write_relabel_configs=(rule,))
        speaks = remote_write(to, clock=clocks.monotonic, wall=clocks.wall)
        super().__init__(queue=QUEUE, clocks=clocks, speaks=speaks)
        self.script.refuse = self.script.to_fresh = lambda write: self.refuse(write)
        self.was_held = False

    def tick(self, series: tuple[Series, ...]) -> None:
        """Collect now, by the host's clock."""
        self.ticks += 1
        at = Instant(int((NOW + self.now + self.wrong_s) * 1000), 0, BOOT)
        self.append(Tick(at, "all", series, [float(self.ticks * 1000 + i) for i in range(len(series))]))

    def run(self, seconds: float, series: tuple[Series, ...] = ()) -> int:
        """Let the host collect each minute, and the sender work; return the requests that had samples."""
        before, until, due = self.requests, self.now + seconds, self.now
        while self.now < until:
            if series and self.now >= due:
                self.tick(series)
                due = self.now + 60
            pause = self.lane.sender.step()
            self.was_held |= self.lane.state is State.HELD
            self.now += min(pause.seconds, 30.0)
        return self.requests - before

    @property
    def requests(self) -> int:
        return len(self.script.bodies) + self.script.fresh

    def has_all(self, ahead: int = 0) -> None:
        """Each sample is delivered, or in the quarantine; or in both if it was sent ahead of older ones, as a question."""
        delivered, dropped = self.ledger
        assert sum(map(len, self.script.stored.values())) in (delivered, delivered + ahead)
        assert delivered + sum(dropped.values()) == sum(map(len, self.everything().values()))
        assert sum(dropped.values()) == sum(map(len, self.kept().values()))


@pytest.mark.parametrize("taken", [0, HOUR], ids=["from the beginning", "after an hour in which it took all"])
def test_a_receiver_that_refuses_everything_loses_nothing(taken: int) -> None:
    host, series = Host(), many(20)
    host.run(taken, series)
    host.refuse = lambda write: LIMIT if write.series else None
    requests = host.run(10 * HOUR, series)
    assert host.lane.state is State.HELD
    assert str(host.lane.error).startswith(
        "HTTP 400: per-user series limit of 150000 exceeded; a sample for now"
    )
    assert (host.ledger[1], host.items()) == ({}, [])
    assert requests < 10 * 2 * 25  # two a probe, and a probe in three minutes
    host.refuse = lambda _: None
    host.run(HOUR, series)
    assert host.script.stored == host.everything()
    assert host.ledger == (sum(map(len, host.everything().values())), {})


def test_a_restart_while_it_is_held_loses_nothing() -> None:
    host, series = Host(lambda write: LIMIT if write.series else None), many(20)
    for _ in range(5):
        host.run(HOUR, series)
        host.start_again()
        host.script.refuse = host.script.to_fresh = lambda write: host.refuse(write)
    assert (host.ledger, host.items()) == ((0, {}), [])
    host.refuse = lambda _: None
    host.run(HOUR, series)
    assert host.script.stored == host.everything()


def in_range(host: Host) -> Refuse:
    """Refuse what is more than ten minutes away from the receiver's time, in words that nobody knows."""

    def refuse(write: wire.Write) -> Answer | None:
        now_ms = (NOW + host.now) * 1000
        far = any(abs(at - now_ms) > 600_000 for one in write.series for at, _ in one.samples)
        return FAR if far else None

    return refuse


def test_a_clock_that_was_wrong_does_not_stop_a_host() -> None:
    host, series = Host(), many(20)
    host.refuse = in_range(host)
    host.wrong_s = 3 * DAY
    for _ in range(30):  # there was no link meanwhile
        host.tick(series)
        host.now += 10
    host.wrong_s = 0
    host.run(600, series)
    assert not host.was_held
    assert host.ledger == (200, {"rejected": 600})
    host.has_all()


@pytest.mark.parametrize("wrong_s", [3 * DAY, -3 * DAY])
def test_a_host_whose_clock_is_wrong_continues_when_it_is_set(wrong_s: int) -> None:
    host, series = Host(), many(20)
    host.refuse = in_range(host)
    host.wrong_s = wrong_s
    host.run(2 * HOUR, series)
    assert host.lane.state is State.HELD
    assert (host.ledger, host.items()) == ((0, {}), [])
    host.wrong_s = 0
    host.run(HOUR, series)
    host.run(300)
    delivered, dropped = host.ledger
    assert host.cursor.pending() == 0
    assert dropped.keys() == {"rejected"}
    assert delivered > 40 * len(series)  # of 60: what was refused lately is tried again a few minutes later
    host.has_all()


def takes(host: Host, prefix: str) -> Refuse:
    """Take series with such names, and nothing that is older than what it has."""

    def refuse(write: wire.Write) -> Answer | None:
        if not all(name.startswith(prefix) for name in names(write)):
            return LIMIT
        stored = host.script.stored
        late = any(at < max(stored.get(one.labels, {0: 0})) for one in write.series for at, _ in one.samples)
        return LATE if late else None

    return refuse


def test_a_receiver_that_takes_some_names_alone_is_not_held_for_chunks_without_them() -> None:
    good, bad = many(5, "good"), many(40, "bad")
    host = Host()
    host.refuse = takes(host, "good")
    for _ in range(20):
        host.run(600, good)
        host.tick(bad)
    host.run(HOUR, good)
    delivered, dropped = host.ledger
    assert host.lane.state is not State.HELD
    assert dropped["rejected"] == 20 * len(bad)
    assert dropped.get("aged", 0) < 0.1 * delivered  # of the one series that was sent ahead
    host.has_all()


def test_one_that_has_taken_nothing_yet_is_found_out_with_each_series_in_turn() -> None:
    good, bad = many(1, "good"), many(40, "bad")
    host = Host()
    host.refuse = takes(host, "good")
    host.tick(bad)
    host.run(4 * HOUR, (*bad, *good))
    assert host.was_held
    assert host.lane.state is not State.HELD
    assert host.script.stored.keys() == {(("__name__", "good000"), ("hostname", "a"))}
    assert host.cursor.pending() <= 2 * 41


def test_a_state_that_lasts_takes_a_question_an_hour() -> None:
    host, series = Host(), many(20)
    host.refuse = lambda write: LIMIT if write.series and names(write) != {SERIES} else None
    host.run(2 * HOUR, series)
    fresh = host.script.fresh
    assert host.run(5 * HOUR, series) <= 5 * 10
    assert 4 <= host.script.fresh - fresh <= 6
    assert not host.was_held
    host.has_all()


def test_where_others_are_taken_in_between_questions_are_within_the_budget() -> None:
    good, bad = many(40, "good"), many(40, "bad")
    host = Host(lambda write: LIMIT if any(name.startswith("bad") for name in names(write)) else None)

    def hours(count: int) -> int:
        before = host.script.fresh
        for _ in range(count * 30):
            host.run(60, good)
            host.run(60, bad)
        return host.script.fresh - before

    hours(6)
    assert hours(5) <= 5 * 10 + 1
    assert not host.was_held
    host.has_all()


def test_trouble_is_no_answer() -> None:
    host, series = Host(lambda write: LIMIT if names(write) != {SERIES} and write.series else None), many(20)
    host.script.to_fresh = lambda _: NO_ANSWER
    host.run(HOUR, series)
    assert (host.ledger, host.items(), host.lane.state) == ((0, {}), [], State.WAITING)
    host.script.to_fresh = lambda _: HELD
    host.run(HOUR, series)
    assert (host.ledger, host.items(), host.lane.state) == ((0, {}), [], State.HELD)
    host.script.to_fresh = lambda _: None
    host.run(HOUR, series)
    host.run(300)
    assert host.ledger == (0, {"rejected": host.ticks * 20})
    host.has_all()


def test_where_relabeling_drops_the_probe_a_sample_of_the_host_is_sent() -> None:
    host, series = Host(lambda write: LIMIT if write.series else None, keep="m.*"), many(20)
    host.run(HOUR, series)
    assert host.lane.state is State.HELD
    assert (host.ledger, host.items(), host.script.fresh) == ((0, {}), [], 0)
    host.refuse = takes(host, "m")
    host.run(HOUR, series)
    assert host.ledger[1].keys() == {"aged"}
    assert len(host.kept()) == 1  # of which a sample was sent ahead
    host.has_all(ahead=1)


def test_a_tick_of_other_series_does_not_hide_what_the_host_has() -> None:
    host, app, own = (
        Host(lambda write: LIMIT if write.series else None, keep="app.*"),
        many(20, "app"),
        many(3),
    )
    for _ in range(60):
        host.run(60, app)
        host.tick(own)  # nothing of this goes to the destination
    assert (host.ledger[1].get("rejected"), host.items()) == (None, [])
    assert host.lane.state is State.HELD
    host.refuse = takes(host, "app")
    host.run(HOUR, app)
    assert host.ledger[1].keys() == {"aged", "relabeled"}
    assert len(host.kept()) == 1  # of which a sample was sent ahead


def test_a_held_destination_of_which_the_host_has_no_series_any_more_loses_nothing() -> None:
    host, app = Host(lambda write: LIMIT if write.series else None, keep="app.*"), many(20, "app")
    host.run(HOUR, app)
    assert host.lane.state is State.HELD
    host.run(5 * HOUR, many(3))
    assert (host.ledger[1].get("rejected"), host.items()) == (None, [])
    host.refuse = lambda _: None
    host.run(HOUR, many(3))
    assert host.ledger[1].keys() <= {"relabeled"}
    assert sum(map(len, host.script.stored.values())) == host.ledger[0]


def test_what_waits_apart_does_not_make_a_refusal_of_all_others_count() -> None:
    host, series = Host(), many(20)

    def refuse(write: wire.Write) -> Answer | None:
        return Answer(503, {}, b"") if "m003" in names(write) else None

    host.refuse = refuse
    host.run(2 * HOUR, series)
    assert set(host.ledger[1]) == {"apart"}
    host.refuse = lambda write: refuse(write) or (LIMIT if write.series else None)
    host.run(4 * HOUR, series)
    assert set(host.ledger[1]) == {"apart"}
    assert host.lane.state is State.HELD


def test_what_waits_apart_is_not_given_to_who_takes_anything() -> None:
    host, series = Host(lambda write: Answer(503, {}, b"") if "m003" in names(write) else None), many(20)
    host.run(2 * HOUR, series)
    host.run(600)
    ledger, items = host.ledger, host.items()
    assert set(ledger[1]) == {"apart"}
    stranger = Answer(200, {"content-type": "text/plain"}, b"hello")
    host.refuse, host.script.to_unreadable = lambda _: stranger, stranger
    host.run(3 * HOUR)
    assert (host.ledger, host.items()) == (ledger, items)
    host.script.stored.clear()  # of the stranger
    host.refuse, host.script.to_unreadable = lambda _: None, Answer(400, {}, b"unreadable")
    host.run(2 * HOUR)
    assert host.ledger == (sum(map(len, host.everything().values())), {})


def test_a_value_that_influxdb_cannot_store_is_no_sample_for_now() -> None:
    to = InfluxDB(url="http://127.0.0.1/", name="there", queue_config=QUEUE)
    now, sent = Tick(Instant(NOW * 1000, 0, BOOT), "all", many(2), [float("nan"), 1.0]), []
    fresh = Fresh(influxdb(to, lambda: NOW), {}, lambda: [now], lambda: 0.0, lambda: NOW)
    for _ in range(8):
        request = fresh.request([now])
        sent.append(request.samples)
        fresh.hear(Outcome(Verdict.REJECTED, 422, "refused"), [now])
    assert sent == [1] * 8
