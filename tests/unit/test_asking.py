"""Asking places that may hang: real threads, which hang at a gate instead of in the kernel."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence

import pytest

from agent.collectors.asking import Asker
from tests.support.net import wait_for

DEADLINE = 10.0
PATIENCE = 0.4


class Place:
    """Places by name; one answers with its name, hangs while it is closed, and raises if it is broken."""

    def __init__(self) -> None:
        self.closed: dict[str, threading.Event] = {}
        self.broken: dict[str, Exception] = {}
        self.slow: dict[str, float] = {}
        self.asked: list[str] = []

    def ask(self, name: str) -> str:
        self.asked.append(name)
        if name in self.closed:
            assert self.closed[name].wait(DEADLINE)
        time.sleep(self.slow.get(name, 0))
        if name in self.broken:
            raise self.broken[name]
        return name.upper()

    def hang(self, *names: str) -> None:
        self.closed |= {name: threading.Event() for name in names}

    def answer(self, name: str) -> None:
        self.closed.pop(name).set()


@pytest.fixture
def place() -> Iterator[Place]:
    made = Place()
    yield made
    for name in list(made.closed):
        made.answer(name)
    wait_for(lambda: threads() == 0, DEADLINE, "the threads to end")


def threads() -> int:
    return sum(thread.name == "ask" for thread in threading.enumerate())


def servers(*names: str, **more: Sequence[str]) -> dict[bytes, Sequence[str]]:
    """A server for each name, and others with several places."""
    alone: dict[bytes, Sequence[str]] = {name.encode(): [name] for name in names}
    return alone | {key.encode(): list(value) for key, value in more.items()}


def test_all_answer_on_one_thread_that_ends(place: Place) -> None:
    asker = Asker(place.ask, PATIENCE)
    for _ in range(3):
        answers = asker(servers("a", "b", nas=("c", "d")))
        assert answers == ({"a": "A", "b": "B", "c": "C", "d": "D"}, [], [])
        wait_for(lambda: threads() == 0, DEADLINE, "the thread to end")
    assert place.asked == ["a", "b", "c", "d"] * 3


def test_nothing_to_ask_is_no_thread_and_no_wait(place: Place) -> None:
    begun = time.monotonic()
    assert Asker(place.ask, PATIENCE)({}) == ({}, [], [])
    assert time.monotonic() - begun < PATIENCE / 2


def test_what_a_place_raises_is_its_answer(place: Place) -> None:
    place.broken = {"b": OSError(5, "Input/output error"), "c": RecursionError("deep")}
    answers = Asker(place.ask, PATIENCE)(servers("a", "b", "c", "d"))
    assert answers.came == {"a": "A", "b": place.broken["b"], "c": place.broken["c"], "d": "D"}


def test_one_that_hangs_costs_one_thread_and_the_others_nothing(place: Place) -> None:
    asker = Asker(place.ask, PATIENCE)
    place.hang("b")
    begun = time.monotonic()
    assert asker(servers("a", "b", "c", "d")) == ({"a": "A", "c": "C", "d": "D"}, ["b"], [])
    assert PATIENCE <= time.monotonic() - begun < PATIENCE + 1
    for _ in range(20):
        begun = time.monotonic()
        assert asker(servers("a", "b", "c", "d")) == ({"a": "A", "c": "C", "d": "D"}, ["b"], [])
        assert time.monotonic() - begun < PATIENCE  # nobody waits for it again
    wait_for(lambda: threads() == 1, DEADLINE, "all but the one that hangs to end")
    assert place.asked.count("b") == 1
    place.answer("b")
    wait_for(lambda: threads() == 0, DEADLINE, "it to return")
    assert asker(servers("a", "b", "c", "d")).came["b"] == "B"
    assert place.asked.count("b") == 2


def test_the_other_places_of_its_server_are_not_asked(place: Place) -> None:
    asker = Asker(place.ask, PATIENCE)
    place.hang("n2")
    first = asker(servers("a", "b", nas=("n1", "n2", "n3")))
    assert first == ({"a": "A", "b": "B", "n1": "N1"}, ["n2"], ["n3"])
    assert asker(servers("a", "b", nas=("n1", "n2", "n3"))) == ({"a": "A", "b": "B"}, ["n2"], ["n1", "n3"])
    assert place.asked.count("n1") == 1
    place.answer("n2")
    wait_for(lambda: threads() == 0, DEADLINE, "it to return")
    assert asker(servers("a", nas=("n1", "n2", "n3"))).came.keys() == {"a", "n1", "n2", "n3"}


def test_two_hundred_mounts_of_a_dead_server_are_one_thread(place: Place) -> None:
    asker = Asker(place.ask, PATIENCE)
    shares = [f"share{n}" for n in range(200)]
    place.hang(*shares)
    for _ in range(3):
        answers = asker(servers("a", nas=shares))
        assert answers.came == {"a": "A"}
        assert (answers.hanging, len(answers.unasked)) == (["share0"], 199)
    wait_for(lambda: threads() == 1, DEADLINE, "the others to end")


def test_many_servers_that_hang_delay_the_last_a_little_each_and_only_once(place: Place) -> None:
    asker = Asker(place.ask, 2.0)
    dead = [f"dead{n}" for n in range(6)]
    place.hang(*dead)
    first = asker(servers(*dead, "alive"))
    assert (first.came, sorted(first.hanging)) == ({"alive": "ALIVE"}, dead)
    begun = time.monotonic()
    assert asker(servers(*dead, "alive")).came == {"alive": "ALIVE"}
    assert time.monotonic() - begun < 1
    assert threads() <= len(dead) + 1


def test_more_servers_that_hang_than_there_is_time_for_are_met_in_later_calls(place: Place) -> None:
    asker = Asker(place.ask, 0.2)
    dead = [f"dead{n}" for n in range(12)]
    place.hang(*dead)
    answers = asker(servers(*dead, "alive"))
    while not answers.came:
        answers = asker(servers(*dead, "alive"))
    assert answers.came == {"alive": "ALIVE"}
    assert sorted(answers.hanging) == sorted(dead)
    assert [place.asked.count(name) for name in dead] == [1] * len(dead)


def test_a_slow_one_is_heard_within_the_patience_and_after_it_is_not(place: Place) -> None:
    asker = Asker(place.ask, PATIENCE)
    place.slow = {"b": PATIENCE / 2}
    assert asker(servers("a", "b", "c")).came == {"a": "A", "b": "B", "c": "C"}
    place.slow = {"b": PATIENCE * 1.5}
    assert asker(servers("a", "b", "c")) == ({"a": "A", "c": "C"}, ["b"], [])
    wait_for(lambda: threads() == 0, DEADLINE, "the slow one to return")
    place.slow = {}
    assert asker(servers("a", "b", "c")).came == {"a": "A", "b": "B", "c": "C"}  # its late answer is nobody's


def test_every_place_is_accounted_for_once_whatever_happens(place: Place) -> None:
    """Answers that come about when the patience ends: each place is in one of the three, and none is lost."""
    for n in range(60):
        asker = Asker(place.ask, 0.02)
        place.slow = {"b": 0.019 + (n % 7) * 0.0005}
        answers = asker(servers("a", "b", "c"))
        found = [*answers.came, *answers.hanging, *answers.unasked]
        assert sorted(found) == ["a", "b", "c"]
    wait_for(lambda: threads() == 0, DEADLINE, "the threads to end")
