"""When a receiver that nobody verifies has to give its proof again."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from agent.destinations.base import Request, Verdict
from agent.destinations.peer import EACH, EVERY, MOST_ENDS, Peer
from agent.destinations.proof import Proof
from agent.destinations.remote_write.formats import classify
from agent.http.answer import Answer, Via
from agent.http.failures import Cause, Failure

ENDS = ("10.0.0.2", "10.0.0.1")
UNREADABLE = Request(b"unreadable", 0, "1.0")
NO_ANSWER = Failure(Cause.CUT, "no answer")


class Rig:
    """A proof, its clock, and what was answered."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.proof = Proof(UNREADABLE, Peer(lambda: self.now, lambda: 1_800_000_000.0 + self.now))
        self.check: Request | None = None

    def send(
        self,
        via: Via | None,
        size: int = 100,
        answer: Answer | Failure | None = None,
        headers: Mapping[str, str] = {},
    ) -> bool:
        """Return whether samples need a check that are answered so, with 204 at first."""
        answer = answer or Answer(204, headers, b"").over(via)
        request = Request(bytes(size), 10, "1.0")
        found = self.proof.judge(request, answer, classify(request, answer, 0.0))
        self.check = found.check
        return found.verdict is Verdict.UNPROVEN

    def prove(self, via: Via | None, answer: Answer | Failure | None = None) -> Verdict:
        """Return what the check shows, which is refused at first."""
        assert self.check is not None
        answer = answer or Answer(400, {}, b"unreadable").over(via)
        self.found = self.proof.judge(self.check, answer, classify(self.check, answer, 0.0))
        return self.found.verdict

    def proven(self, via: Via | None) -> Rig:
        assert self.send(via)
        assert self.prove(via) is Verdict.DELIVERED
        return self


def on(number: int, *, dead: bool = False, ends: tuple[str, str] = ENDS) -> Via:
    return Via(number, ends, dead)


def test_a_connection_that_was_proven_needs_no_more() -> None:
    rig = Rig().proven(on(1))
    assert not any(rig.send(on(1), EACH) for _ in range(10))


def test_verified_tls_is_proven_once() -> None:
    rig = Rig().proven(None)
    rig.send(None, answer=NO_ANSWER)
    rig.now += 10 * EVERY
    assert not any(rig.send(None, EACH) for _ in range(10))


def test_a_new_connection_is_checked_after_so_many_bytes_or_so_long() -> None:
    rig = Rig().proven(on(1))
    assert [rig.send(on(n), EACH // 4) for n in range(2, 6)] == [False, False, False, True]
    assert rig.prove(on(6)) is Verdict.DELIVERED
    assert [rig.send(on(n), 100) for n in range(6, 9)] == [False] * 3
    rig.now += EVERY
    assert rig.send(on(9))


@pytest.mark.parametrize(
    "answer", [NO_ANSWER, Answer(503, {}, b""), Answer(302, {}, b""), Answer(200, {}, b"<html>")]
)
def test_a_new_connection_is_checked_at_once_after_trouble(answer: Answer | Failure) -> None:
    rig = Rig().proven(on(1))
    rig.send(on(1), answer=answer)
    assert not rig.send(on(1))
    assert rig.send(on(2))
    assert rig.prove(on(2)) is Verdict.DELIVERED
    assert not rig.send(on(3))


def test_a_dead_connection_is_trouble() -> None:
    rig = Rig().proven(on(1))
    assert not rig.send(on(2))
    assert rig.send(on(3, dead=True))


def test_another_address_is_checked_the_first_time() -> None:
    rig = Rig().proven(on(1))
    other = ("10.0.0.2", "10.0.0.9")
    assert rig.send(on(2, ends=other))
    assert rig.prove(on(2, ends=other)) is Verdict.DELIVERED
    assert [rig.send(on(3)), rig.send(on(4, ends=other))] == [False, False]


def test_there_may_be_any_number_of_addresses() -> None:
    rig = Rig().proven(on(1))
    for n in range(2, 3 * MOST_ENDS):
        via = on(n, ends=("10.0.0.2", f"10.0.1.{n}"))
        assert rig.send(via)
        assert rig.prove(via) is Verdict.DELIVERED


@pytest.mark.parametrize("headers", [{"server": "nginx/1.2"}, {"x-server-hostname": "vm"}])
def test_an_answer_with_other_headers_is_checked_over_any_connection(headers: dict[str, str]) -> None:
    rig = Rig().proven(None)
    assert rig.send(None, headers=headers)
    assert rig.prove(None) is Verdict.DELIVERED
    assert not rig.send(None, headers=headers)
    assert not rig.send(None, headers={"date": "now", "connection": "close", **headers})


def test_a_check_that_went_unanswered_does_not_count_for_what_was_taken_before_but_once() -> None:
    rig = Rig().proven(on(1))
    rig.send(on(1), answer=NO_ANSWER)
    for n, counts in ((2, Verdict.REWRITE), (4, Verdict.DELIVERED), (6, Verdict.REWRITE)):
        assert rig.send(on(n), EACH)
        assert rig.prove(on(n), NO_ANSWER) is Verdict.RETRY
        assert rig.prove(on(n + 1)) is counts


def test_a_stranger_is_named_and_what_it_may_have_taken() -> None:
    rig = Rig()
    taken = Answer(204, {}, b"")
    rig.send(on(1))
    assert rig.prove(on(1), taken.over(on(1))) is Verdict.HELD
    assert "correct the url, this is no receiver" in (rig.found.error or "")
    rig.proven(on(2))
    assert not rig.send(on(3))
    assert rig.send(on(3), EACH)
    rig.prove(on(3), taken.over(on(3)))
    assert "in its place: replay what it may have taken since 2027-01-15T08:16Z" in (rig.found.error or "")
    rig.proven(on(4))
    rig.send(on(4), answer=NO_ANSWER)
    rig.send(on(5))
    rig.prove(on(5), taken.over(on(5)))
    assert (rig.found.error or "").endswith("something that answers in its place")
