"""Jobs that wait for others: none of them delays another, and nobody waits for one that is slow."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from agent.apart import Apart
from agent.workers import Job
from tests.support.net import wait_for

DEADLINE = 10.0


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    found = threading.Event()
    yield found
    found.set()


def job(key: str, run: Callable[[], str] = lambda: "done") -> Job[str]:
    return Job(key, run)


def test_what_is_quick_is_there_at_once() -> None:
    apart: Apart[str] = Apart(DEADLINE)
    for _ in range(3):
        apart.begin([job("a"), job("b")])
        begun = time.monotonic()
        assert {(done.key, done.result, done.error) for done in apart.ended()} == {
            ("a", "done", None),
            ("b", "done", None),
        }
        assert time.monotonic() - begun < DEADLINE / 2
    assert apart.ended() == []
    apart.close()


def test_a_thread_is_kept_for_its_key() -> None:
    apart: Apart[str] = Apart(DEADLINE)
    threads = []
    for _ in range(5):
        apart.begin([job("a", lambda: str(threading.get_ident())), job("b")])
        threads += [done.result for done in apart.ended() if done.key == "a"]
    assert len(threads) == 5
    assert len(set(threads)) == 1
    apart.close()


def test_all_that_hang_are_waited_for_once_and_together(gate: threading.Event) -> None:
    apart: Apart[str] = Apart(0.05)

    def hang() -> str:
        assert gate.wait(DEADLINE)
        return "late"

    hanging = [job(f"hangs {i}", hang) for i in range(20)]
    apart.begin([*hanging, job("quick")])
    begun = time.monotonic()
    assert [done.key for done in apart.ended()] == ["quick"]
    assert time.monotonic() - begun < 20 * 0.05 / 2
    apart.begin([job("quick")])  # which is not behind any of them
    assert [done.key for done in apart.ended()] == ["quick"]
    gate.set()
    found: list[str] = []

    def all_of_them() -> bool:
        found.extend(done.key for done in apart.ended())
        return len(found) == 20

    wait_for(all_of_them, DEADLINE, "those that were let go")
    apart.close()


def test_one_that_was_slow_is_not_waited_for_until_it_is_quick_again() -> None:
    apart: Apart[str] = Apart(0.05)
    slow, quick = threading.Event(), threading.Event()
    apart.begin([job("a", lambda: str(slow.wait(0.1)))])
    assert apart.ended() == []
    wait_for(lambda: apart.ended(), DEADLINE, "the slow one")
    apart.patience = DEADLINE
    apart.begin([job("a", lambda: str(quick.wait(DEADLINE)))])
    begun = time.monotonic()
    assert apart.ended() == []
    assert time.monotonic() - begun < DEADLINE / 2
    quick.set()
    (done,) = wait_for(lambda: apart.ended(), DEADLINE, "the one that was let go")
    assert done.seconds < DEADLINE
    apart.begin([job("a")])
    assert [one.key for one in apart.ended()] == ["a"]  # it is waited for again
    apart.close()


def test_what_a_job_raises_is_its_result() -> None:
    apart: Apart[str] = Apart(DEADLINE)

    def fail() -> str:
        raise OSError("no")

    for _ in range(2):
        apart.begin([job("a", fail)])
        (done,) = apart.ended()
        assert done.result is None
        assert isinstance(done.error, OSError)
    apart.close()


def test_closing_ends_the_threads() -> None:
    apart: Apart[str] = Apart(DEADLINE)
    apart.begin([job("closing")])
    apart.ended()
    apart.close()
    wait_for(
        lambda: not any(thread.name == "apart closing" for thread in threading.enumerate()),
        DEADLINE,
        "the end",
    )
