"""The names of what the sender logs. They are kept: a changed name is a line in the changelog."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Protocol


class Event(StrEnum):
    """What happened at a destination."""

    DELIVERED = "sender.delivered"
    """debug: a request was answered with a 2xx."""
    REFUSED = "sender.refused"
    """debug: a request was refused for good; what of it is at fault is found out by further ones."""
    RETRY = "sender.retry"
    """A request will be repeated; warning for the first of a row, debug for the others."""
    HELD = "sender.held"
    """Nothing is sent until an operator has mended what `error` says; warning when it begins or changes,
    debug while it lasts."""
    RESUMED = "sender.resumed"
    """info: a destination that was held or waiting takes samples again."""
    REJECTED = "sender.rejected"
    """error: the receiver refused samples for good; they are in the ledger as rejected."""
    AGED = "sender.aged"
    """The receiver refused samples for their age; they are in the ledger as aged, and `do` says what setting
    of the receiver to change. Error for the first of a row of batches, debug for the others."""
    QUARANTINED = "sender.quarantined"
    """info: refused samples are kept in the quarantine, from where they can be replayed."""
    QUARANTINE_FAILED = "sender.quarantine_failed"
    """error: refused samples could not be kept (a full disk); they are lost."""
    QUARANTINE_FULL = "sender.quarantine_full"
    """warning: an item of the quarantine had to go for a newer one."""
    REPEATED = "sender.repeated"
    """warning, the first time: ticks held several values of a series for one instant; one was sent."""
    BATCH_HALVED = "sender.batch_halved"
    """info: the receiver takes only smaller requests."""
    PROTOCOL = "sender.protocol"
    """info: which remote write the receiver speaks was found out, or has to change (`error` says why)."""
    DRAIN_ORDER = "sender.drain_order"
    """info: with `drain_order: auto`, in which order this backlog goes out, and what the receiver said."""
    FAILED = "sender.failed"
    """error: the lane itself failed (a disk error at its cursor, or a defect); it goes on after a while."""


class Logger(Protocol):
    """What is needed of a logger; structlog's have it."""

    def debug(self, event: str, **fields: Any) -> Any:
        """Log for those who look for something."""

    def info(self, event: str, **fields: Any) -> Any:
        """Log what is good to know."""

    def warning(self, event: str, **fields: Any) -> Any:
        """Log what may need somebody."""

    def error(self, event: str, **fields: Any) -> Any:
        """Log what was lost or is broken."""
