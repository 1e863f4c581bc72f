"""A name server of one name, on UDP: what a router at a site is to its hosts. Every other question is answered "no such name"."""

from __future__ import annotations

import socket
import struct
import threading
from typing import Self

PORT = 53
_HEAD = struct.Struct("!HHHHHH")
_IS_ANSWER, _NO_SUCH_NAME = (
    0x8580,
    0x8583,
)  # RFC 1035, 4.1.1: an authoritative answer, recursion available; and code 3
_IPV4, _TIME_TO_LIVE = 1, 0


class NameServer:
    """Answers at `address` that `name` has the IPv4 address `found`, which may change. A context manager; needs the right to port 53."""

    def __init__(self, address: str, name: str, found: str) -> None:
        self._name = b"".join(bytes([len(part)]) + part.encode() for part in name.split(".")) + b"\0"
        self._address, self.found = address, found
        self._socket: socket.socket | None = None
        self._stopped = threading.Event()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self.stop()

    def start(self) -> None:
        """Answer questions."""
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((self._address, PORT))
        self._socket.settimeout(0.1)
        self._stopped.clear()
        self._thread = threading.Thread(target=self._serve, args=(self._socket,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Answer no more, and leave the port."""
        assert self._socket is not None
        # A close alone would leave the port to the thread that waits for the next question.
        self._stopped.set()
        self._thread.join()
        self._socket.close()

    def _serve(self, sock: socket.socket) -> None:
        while not self._stopped.is_set():
            try:
                question, client = sock.recvfrom(512)
                sock.sendto(self._answer(question), client)
            except OSError:
                pass  # nobody asks just now, or who asked is gone

    def _answer(self, question: bytes) -> bytes:
        number = _HEAD.unpack_from(question)[0]
        end = question.index(b"\0", _HEAD.size) + 5
        asked, kind = question[_HEAD.size : end], struct.unpack_from("!H", question, end - 4)[0]
        if not asked.lower().startswith(self._name):
            return _HEAD.pack(number, _NO_SUCH_NAME, 1, 0, 0, 0) + asked
        if kind != _IPV4:
            return _HEAD.pack(number, _IS_ANSWER, 1, 0, 0, 0) + asked
        record = struct.pack("!HHHIH", 0xC000 | _HEAD.size, _IPV4, 1, _TIME_TO_LIVE, 4) + socket.inet_aton(
            self.found
        )
        return _HEAD.pack(number, _IS_ANSWER, 1, 1, 0, 0) + asked + record
