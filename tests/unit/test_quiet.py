"""What may happen often is bounded by the hour."""

from __future__ import annotations

from agent.send.quiet import LINES, Budget, Quiet, kind


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_budget_is_so_many_at_once_and_so_many_in_an_hour() -> None:
    clock = Clock()
    budget = Budget(5, 10, clock)
    granted = []
    for _ in range(36_000):
        granted.append(budget.take())
        clock.now += 1
    assert granted[:5] == [True] * 5
    assert sum(granted) in (5 + 99, 5 + 100)
    clock.now += 1e9
    assert [budget.take() for _ in range(6)] == [True] * 5 + [False]
    clock.now -= 1e6
    assert not budget.take(2)


def test_the_same_words_are_news_once_in_an_hour() -> None:
    clock = Clock()
    quiet = Quiet(clock)
    said = []
    for n in range(7200):
        said.append(quiet.is_news("refused", f"series m{n} at 12:0{n % 10} is too long"))
        clock.now += 1
    assert [n for n, yes in enumerate(said) if yes] == [0, 3600]
    assert quiet.is_news("refused", "other words")


def test_other_words_each_time_are_a_bounded_number_of_lines() -> None:
    clock = Clock()
    quiet = Quiet(clock)
    lines = 0
    for n in range(10 * 3600):
        words = "".join(chr(ord("a") + int(digit)) for digit in str(n))
        lines += quiet.is_news("refused", words)
        clock.now += 1
    assert lines <= 11 * LINES


def test_what_differs_from_answer_to_answer_is_not_part_of_the_words() -> None:
    assert kind("request 7f3a-41 of m037: no") == kind("request 90bb-2 of m001: no") == "request 0 of 0: no"
