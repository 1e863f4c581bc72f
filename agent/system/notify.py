"""What systemd hears of the agent (sd_notify(3)): ready, reloading, stopping, alive, and one line of status.

Promise: where nobody listens (no NOTIFY_SOCKET), or the listener is gone or slow, nothing is said and nothing waits.
`READY=1` that was not taken is said again with the next sign of life.
A status is one line, whatever it repeats, and short enough for a datagram.

Sources: sd_notify(3), sd_watchdog_enabled(3); "Type=" and "WatchdogSec=" in systemd.service(5). A datagram of
`NAME=value` lines goes to an AF_UNIX socket; one whose name begins with @ is of the abstract name space.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from contextlib import suppress

LONGEST = 1000
"""Characters of a status."""
STATUS_EVERY = 30.0
"""Seconds between two lines of status where no watchdog asks for more."""


class Notify:
    """The way to whoever started us."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self._address = environ.get("NOTIFY_SOCKET", "")
        if self._address.startswith("@"):
            self._address = "\0" + self._address[1:]
        self._socket: socket.socket | None = None
        if self._address.startswith(("/", "\0")):
            with suppress(OSError):
                self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
                self._socket.setblocking(False)
        self._is_ready = True
        """False: `ready` was said, and not taken."""
        self.watchdog = _watchdog(environ) if self._socket is not None else None
        """Seconds after which the agent is restarted if it does not say `alive`; None: nobody watches."""

    @property
    def is_heard(self) -> bool:
        """Whether somebody is to be told."""
        return self._socket is not None

    @property
    def every(self) -> float:
        """Seconds between two calls of `alive`: two of them for each time that the watchdog would wait."""
        if self._socket is None:
            return float("inf")
        return min(STATUS_EVERY, self.watchdog / 2) if self.watchdog else STATUS_EVERY

    def ready(self, status: str) -> None:
        """It has begun, or the reload is over."""
        self._is_ready = self._say("READY=1", _status(status))

    def reloading(self) -> None:
        """A reload has begun; `ready` ends it."""
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._say("RELOADING=1", f"MONOTONIC_USEC={now}")

    def stopping(self) -> None:
        """It has begun to stop."""
        self._say("STOPPING=1", _status("stopping"))

    def alive(self, status: str) -> None:
        """It works as it should."""
        if not self._is_ready:
            self.ready(status)
        self._say("WATCHDOG=1", _status(status))

    def close(self) -> None:
        """Say nothing more."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _say(self, *lines: str) -> bool:
        """Return False where it was not taken."""
        if self._socket is not None:
            try:
                self._socket.sendto("\n".join(lines).encode(errors="backslashreplace"), self._address)
            except OSError:
                return False
        return True


def _status(text: str) -> str:
    return f"STATUS={' '.join(text.splitlines())[:LONGEST]}"


def _watchdog(environ: Mapping[str, str]) -> float | None:
    asked, pid = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID")
    if not (asked.isascii() and asked.isdigit() and int(asked)) or pid not in (None, "", str(os.getpid())):
        return None
    return int(asked) / 1_000_000
