"""The bisection against model receivers: who refuses some series, who refuses what is old, and who is mad."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.destinations.base import Age, Outcome, Verdict
from agent.destinations.remote_write.too_old import age
from agent.send.culprits import FEW, Bisection, Cells

DELIVERED = Outcome(Verdict.DELIVERED, 204)
LABEL = Outcome(Verdict.REJECTED, 400, "HTTP 400: label value too long")
OLD = Outcome(Verdict.REJECTED, 400, "HTTP 400: too old sample", age=Age.WINDOW)
ORDER = Outcome(Verdict.REJECTED, 400, "HTTP 400: out of order sample", age=Age.ORDER)

Columns = Sequence[Sequence[int]]
Receiver = Callable[[list[Cells]], Outcome]


class Run:
    """A bisection to its end, with what every one of them promises."""

    def __init__(self, columns: Columns, receiver: Receiver, most: int = 1000) -> None:
        self.columns = columns
        everything = [Cells(i, 0, len(column)) for i, column in enumerate(columns)]
        self.it = Bisection(columns, receiver(everything), most)
        self.asked: list[list[Cells]] = []
        self.delivered: list[set[int]] = [set() for _ in columns]
        settled = [0] * len(columns)
        known = 0
        while self.it.ask:
            ask = list(self.it.ask)
            self.asked.append(ask)
            for cells, _ in self.it.refused[known:]:
                settled[cells.series] = max(settled[cells.series], cells.end)
            known = len(self.it.refused)
            assert len({cells.series for cells in ask}) == len(ask)
            for series, start, end in ask:
                before = {
                    at for c, _ in self.it.refused if c.series == series for at in range(c.start, c.end)
                }
                assert start < end
                assert start >= settled[series]  # nothing older than what is settled
            outcome = receiver(ask)
            self.it.hear(outcome)
            if outcome is DELIVERED:
                for series, start, end in ask:
                    before = {
                        at for c, _ in self.it.refused if c.series == series for at in range(c.start, c.end)
                    }
                    before |= self.delivered[series]
                    assert before == set(range(start))  # nothing newer before the older is settled
                    self.delivered[series] |= set(range(start, end))
                    settled[series] = end
        self.refused: list[set[int]] = [set() for _ in columns]
        for (series, start, end), _ in self.it.refused:
            assert not self.refused[series] & set(range(start, end))
            self.refused[series] |= set(range(start, end))
        for i, column in enumerate(columns):
            assert not self.refused[i] & self.delivered[i]
            assert self.refused[i] | self.delivered[i] == set(range(len(column)))
        assert self.it.delivered == sum(map(len, self.delivered))
        assert len(self.asked) == self.it.spent <= self.it.budget


def refuses(series: set[int], words: Outcome = LABEL) -> Receiver:
    return lambda ask: words if any(cells.series in series for cells in ask) else DELIVERED


def refuses_before(columns: Columns, time: int, words: Outcome = OLD) -> Receiver:
    return lambda ask: words if any(columns[i][start] < time for i, start, _ in ask) else DELIVERED


def block(series: int, instants: int) -> list[list[int]]:
    return [list(range(instants)) for _ in range(series)]


ragged = st.lists(st.sets(st.integers(0, 60), min_size=1).map(sorted), min_size=1, max_size=40)


@settings(deadline=None, max_examples=100)
@given(ragged, st.lists(st.sampled_from([DELIVERED, LABEL, OLD, ORDER]), max_size=80), st.integers(0, 40))
def test_whatever_is_answered_every_sample_is_settled_once_and_in_order(
    columns: list[list[int]], answers: list[Outcome], most: int
) -> None:
    left = [LABEL, *answers]
    Run(columns, lambda _: left.pop(0) if left else DELIVERED, most)
    left = [OLD, *answers]
    Run(columns, lambda _: left.pop(0) if left else LABEL, most)


@settings(deadline=None, max_examples=100)
@given(ragged, st.data())
def test_no_culprit_is_delivered_and_few_are_found_exactly(
    columns: list[list[int]], data: st.DataObject
) -> None:
    poison = data.draw(st.sets(st.integers(0, len(columns) - 1), min_size=1))
    run = Run(columns, refuses(poison))
    for i in poison:
        assert not run.delivered[i]
    if len(poison) == 1:
        assert {i for i, cells in enumerate(run.refused) if cells} == poison


@settings(deadline=None, max_examples=100)
@given(ragged, st.integers(1, 61), st.sampled_from([OLD, ORDER]))
def test_nothing_too_old_is_delivered_and_nothing_else_is_missing_but_what_the_search_costs(
    columns: list[list[int]], time: int, words: Outcome
) -> None:
    if all(column[0] >= time for column in columns):
        return
    run = Run(columns, refuses_before(columns, time, words))
    for column, delivered in zip(columns, run.delivered, strict=True):
        assert all(column[at] >= time for at in delivered)


@pytest.mark.parametrize("culprit", [0, 1, 100, 229])
def test_one_series_of_many_costs_itself_and_two_requests_for_each_halving(culprit: int) -> None:
    run = Run(block(230, 43), refuses({culprit}))
    assert run.it.refused == [(Cells(culprit, 0, 43), LABEL)]
    assert len(run.asked) <= 16
    assert run.it.budget == 56


def test_each_culprit_has_its_own_words() -> None:
    def receiver(ask: list[Cells]) -> Outcome:
        first = min((cells.series for cells in ask if cells.series in (3, 200)), default=None)
        return DELIVERED if first is None else LABEL._replace(error=f"HTTP 400: series {first}")

    run = Run(block(230, 43), receiver)
    assert {(cells.series, outcome.error) for cells, outcome in run.it.refused} == {
        (3, "HTTP 400: series 3"),
        (200, "HTTP 400: series 200"),
    }


@pytest.mark.parametrize("words", [LABEL, ORDER])
def test_when_everything_is_refused_a_handful_of_requests_find_out(words: Outcome) -> None:
    run = Run(block(230, 43), lambda _: words)
    assert len(run.asked) <= 7
    assert run.it.delivered == 0


def test_more_culprits_than_the_budget_are_refused_with_some_others() -> None:
    culprits = set(range(0, 1024, 40))
    run = Run(block(1024, 9), refuses(culprits))
    assert run.it.spent <= run.it.budget
    refused = {i for i, cells in enumerate(run.refused) if cells}
    assert culprits < refused


def test_a_batch_that_is_too_old_costs_one_request_more() -> None:
    columns = block(230, 43)
    run = Run(columns, refuses_before(columns, 1000))
    assert (len(run.asked), run.it.delivered) == (1, 0)
    assert sum(end - start for [(_, start, end)] in run.asked) == 1


@pytest.mark.parametrize("words", [OLD, ORDER])
@pytest.mark.parametrize("time", [1, 7, 21, 42])
def test_where_old_becomes_new_is_found_and_costs_little(time: int, words: Outcome) -> None:
    columns = block(230, 43)
    run = Run(columns, refuses_before(columns, time, words))
    acceptable = 230 * (43 - time)
    assert acceptable - 2 * 43 <= run.it.delivered <= acceptable
    assert len(run.asked) <= 6 + 8


@pytest.mark.parametrize("series", range(1, FEW))
def test_few_series_deliver_half_of_what_is_new_at_least(series: int) -> None:
    columns = block(series, 64)
    for time in (1, 20, 40, 60):
        run = Run(columns, refuses_before(columns, time))
        assert run.it.delivered * 2 >= series * (64 - time)


def test_a_series_with_two_senders_does_not_make_the_others_old() -> None:
    run = Run(block(230, 43), refuses({77}, ORDER))
    assert {cells.series for cells, _ in run.it.refused} == {77}


def test_old_samples_and_a_poisoned_series_together() -> None:
    columns = block(64, 16)
    old, bad = refuses_before(columns, 8), refuses({5})

    def receiver(ask: list[Cells]) -> Outcome:
        outcome = old(ask)
        return outcome if outcome is not DELIVERED else bad(ask)

    run = Run(columns, receiver)
    assert run.refused[5] == set(range(16))
    assert run.it.delivered >= 63 * 8 - 2 * 16
    assert {(c.series, outcome.error) for c, outcome in run.it.refused if outcome is LABEL} == {
        (5, LABEL.error)
    }


def test_a_single_sample_asks_nothing() -> None:
    for words in (LABEL, OLD, ORDER):
        run = Run([[5]], lambda _: words)  # noqa: B023
        assert (run.asked, run.it.refused) == ([], [(Cells(0, 0, 1), words)])


class Counting:
    """A receiver of remote write 2.0 without a window: it stores what it can of a request, and counts it."""

    def __init__(self, columns: Columns, since: int, poisoned: int | None) -> None:
        self.columns, self.since, self.poisoned = columns, since, poisoned
        self.stored: list[list[int]] = [[] for _ in columns]

    def __call__(self, ask: list[Cells]) -> Outcome:
        words, written = set[str](), 0
        for series, start, end in ask:
            for at in range(start, end):
                time, known = self.columns[series][at], self.stored[series]
                if series == self.poisoned:
                    words.add("label value too long")
                elif time < self.since:
                    words.add("out of bounds")
                elif known and time < self.columns[series][known[-1]]:
                    words.add("out of order sample")
                else:
                    known += [at] * (not known or known[-1] != at)
                    written += 1
        if not words:
            return DELIVERED
        # It says "out of bounds" first: the worst case for who believes the words.
        told = min(words, key=["out of bounds", "out of order sample", "label value too long"].index)
        return Outcome(Verdict.REJECTED, 400, f"HTTP 400: {told}", written=written, age=age(told))


def of_counting(columns: Columns, since: int, poisoned: int | None = None) -> tuple[Bisection, Counting, int]:
    receiver = Counting(columns, since, poisoned)
    it = Bisection(columns, receiver([Cells(i, 0, len(column)) for i, column in enumerate(columns)]))
    asked = 0
    while it.ask:
        asked += sum(end - start for _, start, end in it.ask)
        it.hear(receiver(list(it.ask)))
    return it, receiver, asked


def refused_of(it: Bisection, columns: Columns) -> list[set[int]]:
    found: list[set[int]] = [set() for _ in columns]
    for (series, start, end), _ in it.refused:
        found[series] |= set(range(start, end))
    return found


@pytest.mark.parametrize("since", [1, 30, 59])
def test_a_receiver_that_counts_is_believed_after_one_small_request(since: int) -> None:
    columns = block(20, 60)
    it, receiver, asked = of_counting(columns, since)
    assert (it.spent, asked) == (1, 20)
    assert it.delivered == 20 * (60 - since)
    assert refused_of(it, columns) == [set(range(since))] * 20
    assert receiver.stored == [list(range(since, 60))] * 20


def test_where_the_count_is_of_no_instant_the_search_continues_as_before() -> None:
    """A culprit among what is new makes the count odd, or its newest sample is refused again."""
    columns = block(20, 60)
    for poisoned in (0, 7, 19):
        it, receiver, _ = of_counting(columns, 30, poisoned)
        refused = refused_of(it, columns)
        assert refused[poisoned] == set(range(60))
        for series in set(range(20)) - {poisoned}:
            assert refused[series] | set(receiver.stored[series]) == set(range(60))


@settings(deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 40), min_size=1, max_size=12, unique=True), min_size=1, max_size=9),
    st.integers(0, 41),
    st.booleans(),
)
def test_what_a_counting_receiver_has_not_stored_is_refused_by_name(
    times: list[list[int]], since: int, poison: bool
) -> None:
    columns = [sorted(column) for column in times]
    it, receiver, _ = of_counting(columns, since, 0 if poison else None)
    refused = refused_of(it, columns)
    for series, column in enumerate(columns):
        assert refused[series] | set(receiver.stored[series]) == set(range(len(column)))
    assert it.delivered + sum(map(len, refused)) == sum(map(len, columns))
    assert it.spent <= it.budget
