"""Structured logs on standard error: one line an event, JSON for machines, colors on a terminal.

Importing this module is how structlog gets imported: its development module imports rich where rich
is installed, which costs 4 MB that `limpet run` does not need.
"""

from __future__ import annotations

import logging
import sys
from typing import Any, TextIO

_had_rich = "rich" in sys.modules
if not _had_rich:
    sys.modules["rich"] = None  # type: ignore[assignment]  # "not installed", while structlog looks
import structlog  # noqa: E402

if not _had_rich:
    del sys.modules["rich"]

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def configure(level: str, style: str, out: TextIO | None = None) -> None:
    """Log from `level` on, as "json" or "console"; "auto" is console on a terminal."""
    out = out or sys.stderr
    console = style == "console" or (style == "auto" and out.isatty())
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.dev.ConsoleRenderer(colors=out.isatty())
            if console
            else structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=structlog.PrintLoggerFactory(out),
        cache_logger_on_first_use=False,
    )


def get() -> Any:
    """Return a logger; its methods are the levels, its arguments an event's name and fields."""
    return structlog.get_logger()
