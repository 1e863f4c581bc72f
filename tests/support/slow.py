"""A slow link on loopback: bytes towards a port go through at a rate, and back at full speed."""

from __future__ import annotations

import socket
import threading
import time
from typing import Self

from tests.support.net import Accepting, end

_PIECE = 512


class SlowLink(Accepting):
    """A context manager that passes connections to `to` on; `rate` is in bytes a second, for all of them together.

    A connection that is reset loses what has not come through yet. `passed` counts what came through.
    """

    def __init__(self, to: int, rate: float) -> None:
        super().__init__()
        self.rate, self.passed = rate, 0
        self._to, self._free_at, self._turn = to, 0.0, threading.Lock()

    @property
    def url(self) -> str:
        """The address to push to."""
        return f"http://127.0.0.1:{self.port}/api/v1/write"

    def __enter__(self) -> Self:
        super().__enter__()
        assert self._server is not None
        # Or the kernel would take a request at once, and acknowledge it, whatever becomes of it behind.
        self._server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        return self

    def serve(self, connection: socket.socket) -> None:
        """Pass a connection on until one side ends it."""
        with socket.create_connection(("127.0.0.1", self._to)) as there:
            self.open.add(there)
            threading.Thread(target=_back, args=(there, connection), daemon=True).start()
            try:
                while data := connection.recv(_PIECE):
                    self._wait(len(data))
                    there.sendall(data)
                    self.passed += len(data)
            finally:
                self.open.discard(there)
                end(there)

    def _wait(self, size: int) -> None:
        with self._turn:  # connections share the link
            now = time.monotonic()
            self._free_at = max(self._free_at, now) + size / self.rate
            left = self._free_at - now
        self.stopping.wait(max(0.0, left))


def _back(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(1 << 16):
            target.sendall(data)
    except OSError:
        pass  # one side is gone
    end(target)
