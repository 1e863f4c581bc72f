"""The relay of the benchmarks: if it lied about bytes or delays, so would the figures."""

from __future__ import annotations

import os
import socket
import threading
import time

import pytest

from tests.bench import relay as module
from tests.bench.relay import Relay
from tests.support.net import Accepting, wait_for

ROUND_TRIP = 0.2


class Echo(Accepting):
    """A server that sends back what it gets."""

    def serve(self, connection: socket.socket) -> None:
        while data := connection.recv(1 << 16):
            connection.sendall(data)


def exchange(connection: socket.socket, data: bytes) -> bytes:
    """Send, and read as much."""
    writer = threading.Thread(target=connection.sendall, args=(data,), daemon=True)
    writer.start()
    found = bytearray()
    while len(found) < len(data):
        found += (part := connection.recv(1 << 20))
        assert part
    writer.join(10)
    return bytes(found)


@pytest.mark.parametrize("round_trip", [0.0, ROUND_TRIP])
def test_every_byte_comes_out_in_order_and_is_counted(round_trip: float) -> None:
    data = os.urandom(20 << 20)
    with Echo() as echo, Relay(echo.port, round_trip) as relay:
        relay.open()
        with socket.create_connection(("127.0.0.1", relay.port), 30) as connection:
            began = time.monotonic()
            assert exchange(connection, data) == data
            took = time.monotonic() - began
            # One wait for all of it, not one for each piece: that would be 64 s.
            assert round_trip <= took < 32
            wait_for(lambda: relay.received == len(data), 10, "the count")
            assert relay.sent == len(data)
            connection.shutdown(socket.SHUT_WR)
            assert connection.recv(1) == b""  # the end comes through as well


def test_each_exchange_takes_a_round_trip_and_not_more_than_that() -> None:
    with Echo() as echo, Relay(echo.port, ROUND_TRIP) as relay:
        relay.open()
        with socket.create_connection(("127.0.0.1", relay.port), 10) as connection:
            took = []
            for _ in range(5):
                began = time.monotonic()
                assert exchange(connection, b"x" * 1000) == b"x" * 1000
                took.append(time.monotonic() - began)
    assert min(took) >= ROUND_TRIP
    assert min(took) < 2 * ROUND_TRIP


def test_a_sender_waits_when_too_much_is_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", 1 << 20)
    data = os.urandom(8 << 20)
    with Echo() as echo, Relay(echo.port, ROUND_TRIP) as relay:
        relay.open()
        with socket.create_connection(("127.0.0.1", relay.port), 30) as connection:
            began = time.monotonic()
            assert exchange(connection, data) == data
            # At most 1 MiB and a piece in each tenth of a second.
            assert time.monotonic() - began > 6 * ROUND_TRIP / 2


def test_nothing_goes_through_before_it_is_opened() -> None:
    with (
        Echo() as echo,
        Relay(echo.port) as relay,
        socket.create_connection(("127.0.0.1", relay.port), 10) as one,
    ):
        one.sendall(b"early")
        one.settimeout(0.1)
        with pytest.raises(TimeoutError):
            one.recv(1)
        assert relay.sent == 0
        one.settimeout(10)
        relay.open()
        assert one.recv(5) == b"early"


def test_a_server_that_goes_away_ends_the_connection() -> None:
    server = socket.create_server(("127.0.0.1", 0))
    with Relay(int(server.getsockname()[1]), ROUND_TRIP) as relay:
        relay.open()
        with socket.create_connection(("127.0.0.1", relay.port), 10) as one:
            one.sendall(b"hello")
            connection, _ = server.accept()
            assert connection.recv(5) == b"hello"
            connection.close()
            server.close()
            assert one.recv(1) == b""
