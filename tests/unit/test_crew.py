"""The crew: what hangs is left behind, delays others by the hedge at most, and leaves no thread when it is over."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence

import pytest

from agent.crew import Crew, Done, Job, call
from tests.support.net import wait_for

DEADLINE = 10.0
HEDGE, WITHIN = 0.05, 1.5
EARLY = 0.9  # a wait may end a little before its time, by another clock


def threads() -> int:
    return sum(thread.name == "test crew" for thread in threading.enumerate())


class Place:
    """Jobs by name: one returns its name, hangs while it is closed, and raises where it is broken."""

    def __init__(self) -> None:
        self.closed: dict[str, threading.Event] = {}
        self.broken: dict[str, BaseException] = {}
        self.slow: dict[str, float] = {}
        self.begun: list[str] = []
        self.crews: list[Crew[str]] = []

    def crew(self, hedge: float) -> Crew[str]:
        self.crews.append(Crew(hedge, "test crew"))
        return self.crews[-1]

    def visit(self, name: str) -> str:
        self.begun.append(name)
        if name in self.closed:
            assert self.closed[name].wait(DEADLINE)
        time.sleep(self.slow.get(name, 0))
        if name in self.broken:
            raise self.broken[name]
        return name.upper()

    def job(self, name: str, *, awaited: bool = True) -> Job[str]:
        return Job(name, lambda: self.visit(name), awaited)

    def run(
        self, crew: Crew[str], names: Sequence[str] | str, within: float = WITHIN
    ) -> dict[str, str | None]:
        return {done.key: done.result for done in crew.run([self.job(name) for name in names], within)}

    def hang(self, *names: str) -> None:
        self.closed |= {name: threading.Event() for name in names}

    def release(self, crew: Crew[str], *names: str) -> None:
        for name in names:
            self.closed.pop(name).set()
        wait_for(lambda: not crew.stuck().keys() & set(names), DEADLINE, "it to return")


@pytest.fixture
def place() -> Iterator[Place]:
    made = Place()
    yield made
    for event in made.closed.values():
        event.set()
    for crew in made.crews:
        crew.close()
    wait_for(lambda: threads() == 0, DEADLINE, "all threads to end")


def timed(run: Callable[[], dict[str, str | None]]) -> tuple[dict[str, str | None], float]:
    begun = time.monotonic()
    return run(), time.monotonic() - begun


BOTH = pytest.mark.parametrize("hedge", [0, HEDGE])


def test_jobs_run_one_after_another_on_one_thread(place: Place) -> None:
    crew, seen = place.crew(DEADLINE), set[int]()
    for _ in range(3):
        ended = crew.run([Job(key, lambda: str(threading.get_ident())) for key in "abc"], DEADLINE)
        assert [done.key for done in ended] == ["a", "b", "c"]
        seen |= {int(done.result or 0) for done in ended}
        assert threads() == 1
    assert len(seen) == 1


def test_without_a_hedge_all_begin_at_once_and_the_threads_are_kept_for_the_next_call(place: Place) -> None:
    crew, together = place.crew(0), threading.Barrier(5)
    for _ in range(3):
        jobs = [Job(str(n), lambda: str(together.wait(DEADLINE))) for n in range(5)]
        assert {done.result for done in crew.run(jobs, DEADLINE)} == set("01234")
        assert threads() == 5
    place.run(crew, "ab")
    wait_for(lambda: threads() == 2, DEADLINE, "the ones too many to end")


@BOTH
def test_no_jobs_are_no_wait_and_no_thread(place: Place, hedge: float) -> None:
    found, took = timed(lambda: place.run(place.crew(hedge), "", DEADLINE))
    assert (found, threads()) == ({}, 0)
    assert took < DEADLINE / 2


@BOTH
def test_what_is_quick_is_not_waited_for_longer_than_it_takes(place: Place, hedge: float) -> None:
    found, took = timed(lambda: place.run(place.crew(hedge), "ab", DEADLINE))
    assert found == {"a": "A", "b": "B"}
    assert took < DEADLINE / 2


def test_a_job_is_measured(place: Place) -> None:
    place.slow = {"a": 0.02}
    (done,) = place.crew(HEDGE).run([place.job("a")], DEADLINE)
    assert done == Done("a", "A", None, done.seconds)
    assert 0.02 <= done.seconds < 5


@BOTH
@pytest.mark.parametrize(
    "raised", [OSError(5, "I/O"), RecursionError(), SystemExit(3), KeyboardInterrupt(), BaseException()]
)
def test_what_a_job_raises_is_its_result_and_ends_nothing(
    place: Place, hedge: float, raised: BaseException
) -> None:
    crew = place.crew(hedge)
    place.broken = {"bad": raised}
    for _ in range(2):
        done = {one.key: one for one in crew.run([place.job("bad"), place.job("good")], DEADLINE)}
        assert (done["bad"].result, done["bad"].error) == (None, raised)
        assert (done["good"].result, done["good"].error) == ("GOOD", None)
    assert threads() == (2 if hedge == 0 else 1)


@BOTH
def test_one_that_hangs_costs_one_thread_and_the_others_the_wait_once(place: Place, hedge: float) -> None:
    crew = place.crew(hedge)
    place.hang("b")
    found, took = timed(lambda: place.run(crew, "abcd"))
    assert found == {"a": "A", "c": "C", "d": "D"}
    assert took > EARLY * WITHIN
    later = []
    for _ in range(20):
        found, took = timed(lambda: place.run(crew, "abcd"))
        assert found == {"a": "A", "c": "C", "d": "D"}
        later.append(took)
    assert min(later) < EARLY * WITHIN
    assert (list(crew.stuck()), place.begun.count("b")) == (["b"], 1)
    assert crew.stuck()["b"] > 0
    assert threads() <= (4 if hedge == 0 else 2)
    place.release(crew, "b")
    (late,) = crew.run([], 0)
    assert (late.key, late.result, late.late, late.seconds > 0) == ("b", "B", True, True)
    assert crew.run([], 0) == []
    assert place.run(crew, "b") == {"b": "B"}  # and not late any more
    crew.close()
    wait_for(lambda: threads() == 0, DEADLINE, "all threads to end")


@BOTH
def test_all_that_hang_are_waited_for_once_and_together(place: Place, hedge: float) -> None:
    crew = place.crew(hedge)
    dead = [f"dead{n}" for n in range(6)]
    place.hang(*dead)
    found, took = timed(lambda: place.run(crew, [*dead, "alive"], 2.0))
    assert (found, sorted(crew.stuck())) == ({"alive": "ALIVE"}, dead)
    assert EARLY * 2 < took < 2 * len(dead)
    found, took = timed(lambda: place.run(crew, [*dead, "alive"], 2.0))
    assert found == {"alive": "ALIVE"}
    assert took < EARLY * 2
    assert threads() <= len(dead) + 1
    place.release(crew, *dead)
    assert sorted(place.run(crew, "")) == dead
    wait_for(lambda: threads() <= crew._kept, DEADLINE, "the others to end")


def test_what_was_not_begun_in_time_is_begun_later_and_nothing_twice(place: Place) -> None:
    crew = place.crew(HEDGE)
    dead = [f"dead{n}" for n in range(12)]
    place.hang(*dead)
    found, took = timed(lambda: place.run(crew, [*dead, "alive"], 4 * HEDGE))
    assert found == {}
    assert took < 12 * 4 * HEDGE
    assert 1 < len(crew.stuck()) < 12
    while not found:
        found = place.run(crew, [*dead, "alive"], 4 * HEDGE)
    assert found == {"alive": "ALIVE"}
    assert sorted(crew.stuck()) == sorted(dead)
    assert [place.begun.count(name) for name in dead] == [1] * len(dead)


@BOTH
def test_a_slow_one_is_waited_for_and_one_that_is_not_awaited_is_not(place: Place, hedge: float) -> None:
    crew = place.crew(hedge)
    place.slow = {"b": 2 * HEDGE}
    assert place.run(crew, "abc", DEADLINE) == {"a": "A", "b": "B", "c": "C"}
    place.hang("b")
    begun = time.monotonic()
    ended = crew.run([place.job("a"), place.job("b", awaited=False)], DEADLINE)
    assert [done.key for done in ended] == ["a"]
    assert time.monotonic() - begun < DEADLINE / 2


@BOTH
def test_what_is_forgotten_is_not_heard_of_again_and_its_key_is_free(place: Place, hedge: float) -> None:
    crew = place.crew(hedge)
    place.hang("a")
    assert place.run(crew, "a", HEDGE) == {}
    first = place.closed.pop("a")
    crew.forget("a")
    assert (crew.stuck(), place.run(crew, "a")) == ({}, {"a": "A"})
    first.set()
    wait_for(lambda: threads() == 1, DEADLINE, "its thread to end")
    assert crew.run([], 0) == []
    assert place.begun == ["a", "a"]
    place.hang("b")
    place.run(crew, "b", 0)
    place.release(crew, "b")
    crew.forget("b")  # which had ended, and was not returned yet
    crew.forget("never heard of")
    assert crew.run([], 0) == []


def test_what_is_forgotten_in_the_queue_is_not_begun(place: Place) -> None:
    crew = place.crew(DEADLINE)
    place.hang("a")
    assert place.run(crew, "abc", 0) == {}
    crew.forget("b")
    place.release(crew, "a")
    wait_for(lambda: "c" in place.begun, DEADLINE, "the one behind it")
    assert place.begun == ["a", "c"]


@BOTH
def test_rounds_of_jobs_that_hang_and_return_leave_no_thread_behind(place: Place, hedge: float) -> None:
    crew = place.crew(hedge)
    for _ in range(5):
        place.hang("flaky")
        assert place.run(crew, ["flaky", "a"], 0.2) == {"a": "A"}
        place.release(crew, "flaky")
        assert place.run(crew, "") == {"flaky": "FLAKY"}
    assert threads() <= 2
    crew.close()
    wait_for(lambda: threads() == 0, DEADLINE, "all threads to end")
    assert place.run(crew, "a") == {"a": "A"}  # a closed one can be used again


@BOTH
def test_many_short_rounds_lose_and_repeat_nothing_and_need_no_more_threads(
    place: Place, hedge: float
) -> None:
    # Jobs end while the caller looks: whatever the order, each is among the results once.
    crew = place.crew(hedge)
    for n in range(2_000):
        ended = crew.run([Job(f"{n}a", str), Job(f"{n}b", str)], DEADLINE)
        assert sorted(done.key for done in ended) == [f"{n}a", f"{n}b"]
    assert threads() <= 2


def test_every_job_is_returned_once_whatever_happens_at_the_end_of_the_time(place: Place) -> None:
    crew = place.crew(HEDGE)
    for n in range(60):
        place.slow = {"b": 0.009 + (n % 7) * 0.0005}
        place.begun.clear()
        found = [*place.run(crew, "abc", 0.01)]
        wait_for(lambda: not crew.stuck(), DEADLINE, "it to end")
        assert sorted([*found, *place.run(crew, "")]) == sorted(place.begun)


def test_where_there_are_no_more_threads_the_jobs_wait_for_one(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    crew = place.crew(0)
    assert place.run(crew, "a") == {"a": "A"}

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert place.run(crew, "abc", DEADLINE) == {"a": "A", "b": "B", "c": "C"}


def test_while_the_process_is_stopped_nobody_runs_out_of_time() -> None:
    """Stopped in the middle of a job, for longer than the caller waits."""
    program = (
        "import time\nfrom agent.crew import call\n"
        "def job():\n"
        "    print('begun', flush=True)\n"
        "    while time.thread_time() < 0.15: pass\n"
        "    return 'done'\n"
        "print(call(job, 5))\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        process.send_signal(signal.SIGSTOP)
        time.sleep(5.5)
        process.send_signal(signal.SIGCONT)
        assert process.stdout.read() == "done\n"


def test_a_call_returns_raises_or_is_left_behind() -> None:
    before = set(threading.enumerate())  # another test's may hang for as long as the process lasts
    assert call(lambda: 7, DEADLINE) == 7
    with pytest.raises(ZeroDivisionError):
        call(lambda: 1 // 0, DEADLINE)
    release = threading.Event()
    with pytest.raises(TimeoutError, match=r"it did not come back within 0\.05 s"):
        call(release.wait, 0.05)
    release.set()
    wait_for(
        lambda: not [t for t in set(threading.enumerate()) - before if t.name == "crew"],
        DEADLINE,
        "the thread to end",
    )
