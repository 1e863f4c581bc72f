"""Every connection has an end: it has an age, is not trusted after it was idle, and what dies on it costs no failure."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent.config import TlsConfig
from agent.http.answer import Answer
from agent.http.connection import LONGEST_IDLE, OLDEST, clock
from agent.http.endpoint import Endpoint
from agent.http.failures import Cause, Failure
from agent.http.session import Session
from agent.system.events import Event
from tests.support.agent import Agent
from tests.support.certs import Certs
from tests.support.connections import Act, Answering, answer, close, cut, forget, half_close, last, swallow
from tests.support.exchanges import delivering
from tests.support.front import Front
from tests.support.net import wait_for
from tests.support.receiver import Answer as Reply
from tests.support.receiver import Receiver
from tests.support.sending import destination, host


class Hand:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Poster(Session):
    """Posts to a URL, with a clock of its own."""

    def __init__(self, url: str, certs: Certs | None = None) -> None:
        self.hand, self.url = Hand(), url
        tls = TlsConfig(ca_file=str(certs.ca)) if certs else TlsConfig()
        super().__init__(Endpoint(url, "there", tls_config=tls), "0", clock=self.hand)

    def post(self, step: float = 5.0, body: bytes = b"batch", method: str = "POST") -> Answer | Failure:
        again = {"Retry-Attempt": b"1"}
        return self.exchange(method, self.url, {}, body, step=step, whole=2 * step, repeated=again)


@contextmanager
def posting(url: str, certs: Certs | None = None) -> Iterator[Poster]:
    poster = Poster(url, certs)
    try:
        yield poster
    finally:
        poster.close()


def named(monkeypatch: pytest.MonkeyPatch, name: str) -> list[str]:
    """Let a name have the address in the list that is returned."""
    resolve, addresses = socket.getaddrinfo, ["127.0.0.1"]

    def found(host: str, *arguments: int, **more: int) -> list[object]:
        return list(resolve(addresses[0] if host == name else host, *arguments, **more))

    monkeypatch.setattr(socket, "getaddrinfo", found)
    return addresses


def test_a_name_that_moves_is_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a connection that grew old, and after `renew`; the server that was left still answers."""
    address = named(monkeypatch, "moves.example")
    with (
        Answering() as old,
        Answering(port=old.port, address="127.0.0.2") as new,
        posting(f"http://moves.example:{old.port}/write") as poster,
    ):
        born = poster.hand.now
        while poster.hand.now < born + OLDEST:
            assert isinstance(poster.post(), Answer)
            address[0] = "127.0.0.2"
            poster.hand.now += 60
        assert (len(old.seen), new.seen) == (OLDEST / 60, [])
        poster.post()
        assert len(new.seen) == 1
        address[0] = "127.0.0.1"
        poster.renew()
        poster.post()
        poster.post()
        assert old.over[-3:] == [1, 2, 2]


@pytest.mark.parametrize(("idle", "connections"), [(LONGEST_IDLE - 1, 1), (LONGEST_IDLE + 1, 2)])
def test_a_connection_that_was_idle_for_long_is_not_used(idle: float, connections: int) -> None:
    with Answering() as server, posting(server.url) as poster:
        poster.post()
        poster.hand.now += idle
        assert isinstance(poster.post(), Answer)
        assert (server.over, poster.repeats()) == ([1, connections], 0)


def test_a_middlebox_that_swallows_after_idleness_costs_nothing() -> None:
    """One that takes what comes on a connection it has forgotten, and never answers."""
    with Answering() as server, posting(server.url) as poster:
        for _ in range(3):
            assert isinstance(poster.post(step=1.0), Answer)
            server.on_old = swallow
            poster.hand.now += 300
        assert (server.over, poster.repeats()) == ([1, 2, 3], 0)


def test_time_in_which_the_host_is_suspended_counts() -> None:
    assert clock() == pytest.approx(time.clock_gettime(time.CLOCK_BOOTTIME), abs=1)


RESET = last(answer(), cut)
DEATHS: dict[str, tuple[Act, Act | None]] = {
    "closed as it is used": (answer(), close),
    "reset as it is used": (answer(), cut),
    "half closed behind an answer": (
        last(answer(), half_close),
        None,
    ),
    "closed behind an answer": (last(answer(), close), None),
    "reset behind an answer": (RESET, None),
    # It forgets before the answer goes out, so that no request can come before.
    "a NAT that has forgotten it": (last(forget, answer()), None),
}


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="no TCP_USER_TIMEOUT")
@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("secure", [False, True])
@pytest.mark.parametrize(("first", "second"), DEATHS.values(), ids=DEATHS)
def test_a_request_on_a_dead_connection_goes_out_at_once_on_a_new_one(
    first: Act, second: Act | None, method: str, certs: Certs, *, secure: bool
) -> None:
    if secure and first is RESET:
        pytest.skip("with TLS the reset may be read before the answer")
    keys, acts = certs if secure else None, [first, *([second] if second else [])]
    with Answering(acts, certs=keys) as server, posting(server.url, keys) as poster:
        assert isinstance(poster.post(method=method), Answer)
        began = time.monotonic()
        assert isinstance(poster.post(step=30.0, method=method), Answer)
        assert time.monotonic() - began < 30
        assert server.over[-1] == 2
        assert (b"Retry-Attempt: 1" in server.seen[-1][1]) == bool(poster.repeats())
        poster.post()  # and the new one is kept
        assert server.over[-2:] == [2, 2]


@pytest.mark.parametrize("death", [close, cut, forget])
def test_once(death: Act) -> None:
    """What dies on a new connection, too, is a failure; and what dies on the first one is not repeated at all."""
    with Answering([answer(), death, death, death]) as server, posting(server.url) as poster:
        poster.post()
        if death is forget:  # the request gets through, its answer does not
            server.acts[:] = [last(forget, answer())]
            poster.post()
            server.acts[:] = [forget, forget]
        assert isinstance(poster.post(step=1.0), Failure)
        assert poster.repeats() == 1
        assert isinstance(poster.post(step=1.0), Failure)
        assert poster.repeats() == 1


def test_a_request_that_was_taken_and_is_not_answered_is_not_repeated_at_once() -> None:
    """The server may be at work on it: who is slow must not get everything twice."""
    with Answering([answer(), swallow]) as server, posting(server.url) as poster:
        poster.post()
        found = poster.post(step=0.5)
        assert isinstance(found, Failure)
        assert (found.cause, found.text) == (Cause.TIMEOUT, "timeout: no answer within 0.5 s")
        assert (len(server.seen), poster.repeats()) == (2, 0)
        assert isinstance(poster.post(), Answer)
        assert server.over == [1, 1, 2]


def test_a_large_request_into_a_connection_that_was_forgotten_fails_as_soon() -> None:
    """More than the kernel's buffers take: it is the write that waits."""
    with Answering([last(forget, answer())]) as server, posting(server.url) as poster:
        poster.post()
        assert isinstance(poster.post(step=3.0, body=bytes(16 << 20)), Answer)
        assert poster.repeats() == 1


@pytest.mark.parametrize(
    ("status", "over"),
    [(status, 2) for status in (408, 421, 500, 502, 503, 504, 599)]
    + [(status, 1) for status in (200, 400, 401, 404, 413, 415, 429)],
)
def test_after_a_5xx_another_server_behind_the_balancer_has_a_chance(status: int, over: int) -> None:
    """A balancer chooses a server for each connection; a decommissioned one answers 503 without end."""
    with Answering([answer(status, b"{}")]) as server, posting(server.url) as poster:
        poster.post()
        poster.post()
        assert server.over == [1, over]


TROUBLES = {
    "held": (Reply(404, body=b"no such page"), 2),
    "a portal": (Reply(200, {"Content-Type": "text/html"}, b"<html>Log in"), 2),
    "too fast": (Reply(429), 1),
}


@pytest.mark.parametrize(("reply", "connections"), TROUBLES.values(), ids=TROUBLES)
def test_a_hold_and_a_portal_end_the_connection(tmp_path: Path, reply: Reply, connections: int) -> None:
    """A portal that was left answers without end if the connection is kept. A rate limit counts on any connection."""
    with Receiver([reply]) as receiver, host(tmp_path, destination(receiver.url)) as one:
        one.settled()
        assert receiver.connections == connections


def test_a_reload_ends_the_connections_of_lanes_that_stay(tmp_path: Path) -> None:
    """The real agent, by SIGHUP, without any change of the configuration."""
    with Receiver() as receiver, Agent(tmp_path, [{"url": receiver.url}]) as agent:
        wait_for(lambda: len(receiver.requests) >= 2, 10, "some requests")
        assert receiver.connections == 1
        assert agent.reload()["changed"] == []
        wait_for(lambda: receiver.connections == 2, 10, "another connection")


def test_a_nat_that_forgets_costs_no_warning(tmp_path: Path) -> None:
    """The lane sends again at once; the statistics have it, the log has not."""
    with (
        Receiver() as receiver,
        Front(receiver) as nat,
        delivering(tmp_path, receiver, nat.url, remote_timeout=4.0) as one,
    ):
        for connections in (1, 2, 3):
            one.settled()
            assert nat.connections == connections
            for connection in tuple(nat.open):
                forget(connection)
            one.collect()
        one.settled()
        assert one.lane.stats.retries == 3
        assert not one.logged(Event.RETRY)
        assert one.lane.error is None
