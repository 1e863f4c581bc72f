"""A relay on loopback that counts: what goes over the wire, with TLS, handshakes and headers, both ways.

With `round_trip` it is a long link as well: a delay line in each direction, out of which every byte comes half a round
trip after it went in. The pace is the sender's own: as much can be under way as was sent in that time, up to MOST bytes
each way, beyond which the sender has to wait. What a long link does besides is not in it: TCP's own handshake and slow
start happen at the ends, without delay.
"""

from __future__ import annotations

import socket
import threading
import time
from collections import deque
from typing import Self

MOST = 64 << 20
"""Bytes that are under way in one direction: 200 ms of 300 MB/s."""


class Relay:
    """Passes connections on to a port, from the moment `open` is called; connecting is possible before."""

    def __init__(self, port: int, round_trip: float = 0.0) -> None:
        self._to = port
        self._delay = round_trip / 2
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._opened = threading.Event()
        self._sockets: list[socket.socket] = []
        self.sent = self.received = 0
        self.last = time.monotonic()
        """When bytes came out last."""
        self.trace: list[tuple[float, int]] = []
        """When they came out towards the port, and how many there were by then."""

    def open(self) -> None:
        """Let everything through."""
        self.last = time.monotonic()
        self._opened.set()

    def quiet_for(self) -> float:
        """Return for how many seconds nothing came out."""
        return time.monotonic() - self.last

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *failure: object) -> None:
        self.open()
        for one in (self._listener, *self._sockets):
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # closed by its peer
            one.close()

    def _accept(self) -> None:
        while True:
            try:
                inner, _ = self._listener.accept()
            except OSError:
                return
            self._opened.wait()
            outer = socket.create_connection(("127.0.0.1", self._to))
            # As on the agent's own connection: a part that arrives is passed on at once, and not joined with the next.
            for one in (inner, outer):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._sockets += (inner, outer)
            for source, target, up in ((inner, outer, True), (outer, inner, False)):
                line = _Line(self._delay)
                threading.Thread(target=_fill, args=(source, line), daemon=True).start()
                threading.Thread(target=self._empty, args=(line, source, target, up), daemon=True).start()

    def _empty(self, line: _Line, source: socket.socket, target: socket.socket, up: bool) -> None:
        try:
            while data := line.get():
                target.sendall(data)
                self.last = time.monotonic()
                if up:
                    self.sent += len(data)
                    self.trace.append((self.last, self.sent))
                else:
                    self.received += len(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:  # the other side is gone, or the relay ends: nothing more is taken in
            line.close()
            try:
                source.shutdown(socket.SHUT_RD)
            except OSError:
                pass  # that side is gone, too


def _fill(source: socket.socket, line: _Line) -> None:
    try:
        while data := source.recv(1 << 16):
            if not line.put(data):
                return
    except OSError:
        pass  # the relay ends
    line.put(b"")


class _Line:
    """Bytes on their way in one direction."""

    def __init__(self, delay: float) -> None:
        self._delay = delay
        self._parts: deque[tuple[float, bytes]] = deque()
        self._size = 0
        self._closed = False
        self._changed = threading.Condition()

    def put(self, data: bytes) -> bool:
        """Send these off, once there is room for them; False when nobody takes them any more."""
        with self._changed:
            self._changed.wait_for(lambda: self._size < MOST or self._closed)
            self._parts.append((time.monotonic() + self._delay, data))
            self._size += len(data)
            self._changed.notify_all()
            return not self._closed

    def get(self) -> bytes:
        """Return the bytes that come next, when their time has come."""
        with self._changed:
            self._changed.wait_for(lambda: self._parts)
            due, data = self._parts.popleft()
        if (left := due - time.monotonic()) > 0:
            time.sleep(left)
        with self._changed:
            self._size -= len(data)  # until here they are on their way
            self._changed.notify_all()
        return data

    def close(self) -> None:
        """Let nobody wait for room."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
