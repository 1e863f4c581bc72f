"""Connections: opened, kept, cut and looked up; and receivers that take, or send, without end.

What a single request can meet is in test_sender_faults.
"""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path

import pytest

from agent.destinations.base import Verdict
from agent.http.answer import LARGEST_ANSWER
from agent.send.state import PATIENCE, State
from agent.system.events import Event
from tests.support.exchanges import delivering, posted, received
from tests.support.front import Exchange, Front
from tests.support.net import free_port, wait_for
from tests.support.protocols import PROTOCOLS
from tests.support.receiver import Receiver
from tests.support.sending import destination, host
from tests.support.tcp import listener, read_request


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_one_connection_is_kept(tmp_path: Path, protocol: str) -> None:
    with Receiver() as receiver, Front(receiver) as front:
        with delivering(tmp_path, receiver, front.url, protobuf_message=protocol) as one:
            for _ in range(5):
                one.settled()
                one.collect()
            one.settled()
            assert one.lane.stats.requests >= 5
        assert front.connections == 1


def test_no_proxy_of_the_environment_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    with Receiver() as receiver, host(tmp_path, destination(receiver.url)) as one:
        one.settled()


def test_a_receiver_that_is_not_there_yet(tmp_path: Path) -> None:
    receiver = Receiver()
    with host(tmp_path, destination(receiver.url)) as one:
        one.failed(PATIENCE + 1)
        assert one.lane.state in (State.WAITING, State.SENDING)
        assert one.lane.error == "no connection with 127.0.0.1: connection refused"
        one.collect(30)
        with receiver:
            one.settled()
            one.accounted(receiver)
        assert receiver.requests[0].write.samples > 0  # that nobody listened says nothing about the batch
        assert one.warned(Event.RETRY) == 1
        assert one.logged(Event.RESUMED)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_receiver_that_restarts(tmp_path: Path, protocol: str) -> None:
    """Again and again, under the connection that is kept to it, and away for a while."""
    with received(tmp_path, protobuf_message=protocol) as (one, receiver):
        for _ in range(5):
            one.settled()
            receiver.stop()
            one.collect(15)
            one.failed(2)
            receiver.start()


def test_a_connection_that_was_closed_while_idle_costs_no_failure(tmp_path: Path) -> None:
    def closes(x: Exchange) -> None:
        answer = x.pass_on()  # it does not say that the connection will be closed
        # The answer and the end in one packet: a request that follows at once meets a closed connection, too.
        x.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
        x.send(answer)

    with (
        Receiver() as receiver,
        Front(receiver, [closes] * 20) as front,
        host(tmp_path, destination(front.url)) as one,
    ):
        for _ in range(3):
            one.settled()
            one.collect()
        one.settled()
        assert front.connections >= 4
        assert one.lane.stats.retries == 0


def test_an_endless_body_is_not_read_to_its_end() -> None:
    sent = [0]

    def serve(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(b"HTTP/1.1 500 Oh\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            sent[0] += connection.send(b"1000\r\n" + b"x" * 4096 + b"\r\n")

    with listener(serve) as url:
        found = posted(destination(url))
    assert found.verdict is Verdict.RETRY
    assert str(found.error).startswith("HTTP 500: xxx")
    assert sent[0] < 16 << 20  # what the kernels take in, not what the sender keeps
    assert LARGEST_ANSWER == 64 << 10


def test_a_receiver_that_takes_nothing_is_given_up_in_time() -> None:
    done = threading.Event()

    def serve(_: socket.socket) -> None:
        done.wait(10)

    with listener(serve) as url:
        found = posted(destination(url, remote_timeout=1.5), os.urandom(32 << 20))
        done.set()
    assert found.verdict is Verdict.RETRY
    assert found.error == "timeout: the receiver took nothing for 1.5 s"


def test_an_answer_that_comes_before_the_request_was_read_counts() -> None:
    def serve(connection: socket.socket) -> None:
        connection.recv(1024)
        connection.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(1 << 16):
            pass

    with listener(serve) as url:
        assert posted(destination(url), os.urandom(8 << 20)).verdict is Verdict.TOO_LARGE


@pytest.mark.parametrize("number", [socket.EAI_AGAIN, socket.EAI_NONAME, socket.EAI_FAIL])
def test_a_name_that_cannot_be_resolved_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Name servers that do not answer, or that do not know the name, come back by themselves."""
    resolve, known, asked = socket.getaddrinfo, threading.Event(), list[object]()

    def found(host: str, *arguments: int, **more: int) -> list[object]:
        if host != "receiver.example":
            return list(resolve(host, *arguments, **more))
        asked.append(host)
        if not known.is_set():
            raise socket.gaierror(number, "made by the test")
        return list(resolve("127.0.0.1", *arguments, **more))

    monkeypatch.setattr(socket, "getaddrinfo", found)
    with Receiver() as receiver:
        url = receiver.url.replace("127.0.0.1", "receiver.example")
        with delivering(tmp_path, receiver, url) as one:
            one.collect(30)
            wait_for(lambda: len(asked) >= 3, 10, "some tries")
            assert one.lane.error == "the name receiver.example cannot be resolved: made by the test"
            known.set()
