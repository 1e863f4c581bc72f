"""A relay on loopback that counts: what goes over the wire, with TLS, handshakes and headers, both ways."""

from __future__ import annotations

import socket
import threading
import time
from types import TracebackType
from typing import Self


class Relay:
    """Passes connections on to a port, from the moment `open` is called; connecting is possible before."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._opened = threading.Event()
        self._sockets: list[socket.socket] = []
        self.sent = self.received = 0
        self.last = time.monotonic()
        """When bytes went through last."""

    def open(self) -> None:
        """Let everything through."""
        self.last = time.monotonic()
        self._opened.set()

    def quiet_for(self) -> float:
        """Return for how many seconds nothing went through."""
        return time.monotonic() - self.last

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
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
            self._sockets += (inner, outer)
            threading.Thread(target=self._pass, args=(inner, outer, True), daemon=True).start()
            threading.Thread(target=self._pass, args=(outer, inner, False), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket, up: bool) -> None:
        try:
            while data := source.recv(1 << 16):
                self.last = time.monotonic()
                if up:
                    self.sent += len(data)
                else:
                    self.received += len(data)
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # the other side is gone, or the relay ends
