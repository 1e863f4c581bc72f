"""How many passwords may be tried: from an address, and in all; and who is spared."""

from __future__ import annotations

from agent.serve import slowing
from agent.serve.slowing import ALL, EACH, EACH_EVERY, MOST, Slowing, place


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def tried(slow: Slowing, address: str, times: int) -> int:
    """Return how many of so many tries were let through."""
    return sum(slow.begin(address) <= 0 for _ in range(times))


def test_an_address_may_fail_some_times_and_then_seldom() -> None:
    clock = Clock()
    slow = Slowing(clock)
    assert tried(slow, "192.0.2.1", 10_000) == EACH
    assert tried(slow, "192.0.2.2", 1) == 1
    clock.now += EACH_EVERY * 3
    assert tried(slow, "192.0.2.1", 100) == 3
    assert 0 < slow.begin("192.0.2.1") <= EACH_EVERY
    clock.now += 86_400
    assert tried(slow, "192.0.2.1", 100) == EACH


def test_all_addresses_together_are_bounded_too() -> None:
    clock = Clock()
    slow = Slowing(clock)
    assert sum(tried(slow, f"192.0.{i % 250}.{i // 250}", 1) for i in range(5000)) == ALL
    clock.now += slowing.ALL_EVERY * 5
    assert tried(slow, "198.51.100.1", 3) + tried(slow, "198.51.100.2", 3) == 5


def test_who_was_in_before_is_not_kept_out_by_strangers() -> None:
    clock = Clock()
    slow = Slowing(clock)
    assert slow.begin("192.0.2.7") == 0
    slow.succeeded("192.0.2.7")
    for i in range(1000):
        slow.begin(f"198.51.{i % 250}.{i // 250}")
    assert slow.begin("203.0.113.1") > 0
    assert tried(slow, "192.0.2.7", 100) == EACH


def test_what_succeeds_costs_no_try() -> None:
    slow = Slowing(Clock())
    for _ in range(EACH * 3):
        assert slow.begin("192.0.2.7") == 0
        slow.succeeded("192.0.2.7")


def test_a_clock_that_goes_back_gives_nothing_away() -> None:
    clock = Clock()
    slow = Slowing(clock)
    tried(slow, "192.0.2.1", EACH)
    clock.now -= 10_000
    assert tried(slow, "192.0.2.1", 10) == 0


def test_so_many_addresses_are_remembered_and_no_more() -> None:
    slow = Slowing(Clock())
    for i in range(MOST + 100):
        slow.begin(f"10.{i >> 16}.{i >> 8 & 255}.{i & 255}")
        slow.succeeded(f"10.{i >> 16}.{i >> 8 & 255}.{i & 255}")
    assert len(slow._each) == len(slow._known) == MOST


def test_what_is_one_address() -> None:
    assert place("2001:db8::1") == place("2001:db8::ffff:1") != place("2001:db8:0:1::1")
    assert place("fe80::1%eth0") == place("fe80::2")
    assert place("192.0.2.1") != place("192.0.2.2")
    assert place("uid=1000 pid=1") == place("uid=1000 pid=2") != place("uid=1001 pid=1")
