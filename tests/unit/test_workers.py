"""The workers: what hangs delays the others once, and nothing else."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from agent.workers import Done, Job, Workers
from tests.support.net import wait_for

PATIENCE = 0.1
DEADLINE = 10.0


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "collect"]


@pytest.fixture
def workers() -> Iterator[Workers[str]]:
    workers: Workers[str] = Workers(PATIENCE)
    yield workers
    workers.close()
    wait_for(lambda: not threads(), DEADLINE, "all threads to end")


class Hanging:
    """A job that returns its key when it is let go."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.let_go = threading.Event()

    def __call__(self) -> str:
        assert self.let_go.wait(DEADLINE)
        return self.key

    @property
    def job(self) -> Job[str]:
        return Job(self.key, self)


def quick(key: str) -> Job[str]:
    return Job(key, lambda: key)


def results(ended: list[Done[str]]) -> dict[str, str | None]:
    return {done.key: done.result for done in ended}


def timed(run: Callable[[], list[Done[str]]]) -> tuple[list[Done[str]], float]:
    begun = time.monotonic()
    return run(), time.monotonic() - begun


def test_jobs_run_one_after_another_on_one_thread(workers: Workers[str]) -> None:
    jobs = [Job(key, lambda: str(threading.get_ident())) for key in "abc"]
    for _ in range(3):
        ended = workers.run(jobs)
        assert [done.key for done in ended] == ["a", "b", "c"]
        assert {done.result for done in ended} == {str(threads()[0].ident)}
    assert len(threads()) == 1


def test_no_jobs_are_no_wait(workers: Workers[str]) -> None:
    ended, took = timed(lambda: workers.run([]))
    assert ended == []
    assert took < PATIENCE


def test_a_job_is_measured(workers: Workers[str]) -> None:
    def work() -> str:
        time.sleep(0.02)
        return ""

    (done,) = workers.run([Job("a", work)])
    assert 0.02 <= done.seconds < 5


def test_what_a_job_raises_is_its_result_and_not_the_end(workers: Workers[str]) -> None:
    def fail() -> str:
        raise RecursionError("too deep")

    first, second = workers.run([Job("bad", fail), quick("good")])
    assert (first.key, first.result, repr(first.error)) == ("bad", None, "RecursionError('too deep')")
    assert (second.key, second.result, second.error) == ("good", "good", None)
    assert len(threads()) == 1


def test_a_job_that_hangs_costs_the_others_the_patience_once(workers: Workers[str]) -> None:
    hanging = Hanging("dead mount")
    ended, took = timed(lambda: workers.run([quick("a"), hanging.job, quick("b"), quick("c")]))
    assert results(ended) == {"a": "a", "b": "b", "c": "c"}
    assert PATIENCE <= took < 3 * PATIENCE

    ended, took = timed(lambda: workers.run([quick("a"), quick("b")]))  # as it still hangs
    assert results(ended) == {"a": "a", "b": "b"}
    assert took < PATIENCE
    assert len(threads()) == 2

    hanging.let_go.set()
    wait_for(lambda: len(threads()) == 1, DEADLINE, "its thread to end")
    (late,) = workers.ended()
    assert (late.key, late.result) == ("dead mount", "dead mount")
    assert late.seconds >= PATIENCE
    assert workers.ended() == []


def test_what_ended_late_is_among_the_results_of_the_next_round(workers: Workers[str]) -> None:
    hanging = Hanging("slow")
    assert workers.run([hanging.job]) == []
    hanging.let_go.set()
    wait_for(lambda: len(threads()) == 1, DEADLINE, "its thread to end")
    assert results(workers.run([quick("a")])) == {"slow": "slow", "a": "a"}


def test_two_that_hang_cost_the_patience_each(workers: Workers[str]) -> None:
    hanging = [Hanging("nfs"), Hanging("usb")]
    ended, took = timed(lambda: workers.run([hanging[0].job, quick("a"), hanging[1].job, quick("b")]))
    assert results(ended) == {"a": "a", "b": "b"}
    assert took < 5 * PATIENCE
    assert len(threads()) == 3
    for each in hanging:
        each.let_go.set()
    wait_for(lambda: len(threads()) == 1, DEADLINE, "their threads to end")
    assert results(workers.ended()) == {"nfs": "nfs", "usb": "usb"}
    assert results(workers.run([quick("a")])) == {"a": "a"}


def test_the_last_one_hangs(workers: Workers[str]) -> None:
    hanging = Hanging("last")
    assert results(workers.run([quick("a"), hanging.job])) == {"a": "a"}
    hanging.let_go.set()
    wait_for(lambda: len(threads()) == 1, DEADLINE, "its thread to end")


def test_rounds_of_jobs_that_hang_and_return_leave_no_thread_behind(workers: Workers[str]) -> None:
    for _ in range(5):
        hanging = Hanging("flaky")
        assert results(workers.run([hanging.job, quick("a")])) == {"a": "a"}
        hanging.let_go.set()
        wait_for(lambda: len(threads()) == 1, DEADLINE, "its thread to end")
        assert results(workers.ended()) == {"flaky": "flaky"}
        assert len(workers._left) <= 1


@pytest.mark.parametrize("leaving", [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), BaseException()])
def test_a_job_that_wants_to_end_its_thread_ends_nothing(
    workers: Workers[str], leaving: BaseException
) -> None:
    def leave() -> str:
        raise leaving

    first, second = workers.run([Job("leaves", leave), quick("a")])
    assert (first.result, first.error) == (None, leaving)
    assert second.result == "a"
    assert results(workers.run([quick("b")])) == {"b": "b"}
    assert len(threads()) == 1


def test_many_short_rounds_lose_and_repeat_nothing(workers: Workers[str]) -> None:
    # Jobs end while the other thread looks: whatever the order, each is among the results once.
    for n in range(2_000):
        assert [done.key for done in workers.run([quick(f"{n}a"), quick(f"{n}b")])] == [f"{n}a", f"{n}b"]
