"""Structured logs on standard error: one line an event, words for the journal, JSON for machines, colors on a terminal.

Importing this module is how structlog gets imported, without three modules that cost memory and that
`limpet run` does not need: rich (4 MB) and greenlet (1.1 MB), where they are installed, and asyncio (1.7 MB). So the
asynchronous methods of structlog's loggers do not work in a process that imports this module first.

If standard error is systemd's journal, each line begins with its priority (`<4>`), which the journal takes off, and in
words there is no time: the journal has its own.

Promise: logging never raises, and nobody waits for it longer than WRITE_WITHIN_MS. If standard error cannot be
written (a full disk, a reader that went away or reads nothing, none at all) the line is lost, and nothing else is.
"""

from __future__ import annotations

import logging
import os
import select
import sys
from collections.abc import Callable, Mapping, MutableMapping
from contextlib import suppress
from types import ModuleType
from typing import Any, TextIO, cast

# None: it seems not to be installed. An empty module: it is there, and nothing in it is used.
_STAND_INS = {"rich": None, "greenlet": None, "asyncio": ModuleType("asyncio")}
_absent = [name for name in _STAND_INS if name not in sys.modules]
for _name in _absent:
    sys.modules[_name] = _STAND_INS[_name]  # type: ignore[assignment]
import structlog  # noqa: E402

for _name in _absent:
    del sys.modules[_name]

from agent.system import words  # noqa: E402

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
PRIORITIES = {"critical": 2, "error": 3, "warning": 4, "info": 6, "debug": 7}
"""The levels as syslog(3) counts them."""
WRITE_WITHIN_MS = 100


class _StandardError:
    """Writes each line at once, so that nothing is kept which fails again later."""

    def __init__(self) -> None:
        self._fd = 2
        if sys.stderr is None:  # closed: the next file to be opened, a segment say, must not become it
            while (fd := os.open(os.devnull, os.O_RDWR)) < 2:
                pass
            self._fd = fd
        self._ready = select.poll()
        self._ready.register(self._fd, select.POLLOUT)

    def write(self, text: str) -> None:
        # A pipe that is ready takes 4 KiB, which is more than a line.
        with suppress(OSError):
            if self._ready.poll(WRITE_WITHIN_MS):
                os.write(self._fd, text.encode(errors="backslashreplace"))

    def flush(self) -> None:
        """Do nothing, since nothing is kept."""

    def isatty(self) -> bool:
        return os.isatty(self._fd)


def is_journal(fd: int, environ: Mapping[str, str] = os.environ) -> bool:
    """Return whether what is written there goes to the journal; see JOURNAL_STREAM in systemd.exec(5)."""
    try:
        found = os.fstat(fd)
    except OSError:
        return False
    return environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"


def _in_words(_: object, __: str, event: MutableMapping[str, Any]) -> str:
    return words.line(event)


def _with_priority(render: Callable[..., Any]) -> Callable[..., str]:
    """Put the priority in front of each rendered line, for the journal (sd-daemon(3))."""

    def line(logger: Any, name: str, event: MutableMapping[str, Any]) -> str:
        priority = f"<{PRIORITIES.get(event['level'], 6)}>"
        return "\n".join(priority + each for each in render(logger, name, event).split("\n"))

    return line


def configure(level: str, style: str, out: TextIO | None = None) -> None:
    """Log from `level` on, as "json", "console" or "journal": words with their priority.

    "auto" is journal where standard error is the journal, console on a terminal, and JSON otherwise.
    """
    to_journal = out is None and is_journal(2)
    out = out or cast("TextIO", _StandardError())
    if style == "auto":
        style = "journal" if to_journal else "console" if out.isatty() else "json"
    renderers: dict[str, Callable[..., Any]] = {
        "console": structlog.dev.ConsoleRenderer(colors=out.isatty()),
        "json": structlog.processors.JSONRenderer(),
        "journal": _in_words,
    }
    render = renderers[style]
    time = [] if style == "journal" else [structlog.processors.TimeStamper(fmt="iso", utc=True)]
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            *time,
            structlog.processors.format_exc_info,
            _with_priority(render) if to_journal or style == "journal" else render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=structlog.WriteLoggerFactory(out),
        cache_logger_on_first_use=False,
    )


def get() -> Any:
    """Return a logger; its methods are the levels, its arguments an event's name and fields."""
    return structlog.get_logger()


class Silent:
    """A logger for commands that show what is wrong in their own way."""

    def debug(self, event: str, **fields: Any) -> None:
        """Say nothing."""

    info = warning = error = debug
