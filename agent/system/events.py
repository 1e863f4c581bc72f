"""The names of all events that the agent logs, in one list.  The names are stable: people alert on them.

A changed name is a line in the changelog.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Protocol


class Event(StrEnum):
    """What happened in the process, the schedule, the buffer, or at a destination."""

    STARTED = "agent.started"
    """info: collecting and sending have begun."""
    RELOADED = "agent.reloaded"
    """info: SIGHUP, and the configuration is applied; `changed` has the sections that are different."""
    RENAMED = "agent.renamed"
    """info: the system's hostname is another one; the series of `was` end, and those of `hostname` begin."""
    RELOAD_REFUSED = "agent.reload_refused"
    """error: SIGHUP, and nothing is applied; `problems` has everything that is wrong, and what to do."""
    THREAD_STUCK = "agent.thread_stuck"
    """error: the schedule or a sender does not come back; systemd gets no sign of life, so that it restarts the agent."""
    STOPPING = "agent.stopping"
    """info: a signal asked for the end; `series_end` says whether the host's series end with it."""
    STOPPED = "agent.stopped"
    """info: everything is on disk, the lock is released."""
    THREAD_DIED = "agent.thread_died"
    """critical: a defect; the process ends, so that its supervisor starts it again."""
    CONFIG_WARNING = "config.warning"
    """warning: the configuration is good, but the operator should know something."""
    CLOCK_STEPPED = "schedule.clock_stepped"
    """warning: the wall clock went back by more than an interval."""
    COLLECTOR_FAILED = "collector.failed"
    """warning: a run raised; the first of a row, debug for the others."""
    COLLECTOR_TIMED_OUT = "collector.timed_out"
    """warning: a run took longer than its timeout and is left behind; said once."""
    COLLECTOR_UNREADABLE = "collector.unreadable"
    """warning: a run could not read a file, device, interface or mount point; said when that begins."""
    COLLECTOR_DENIED = "collector.denied"
    """info: the agent's user may not read a file, device or mount point; said when that begins."""
    COLLECTOR_STUCK = "collector.stuck"
    """warning: a mount point does not answer, and is not asked again before it does; said when that begins."""
    COLLECTOR_READABLE = "collector.readable"
    """info: what could not be read, or did not answer, was read again, or is not there any more."""
    COLLECTOR_RECOVERED = "collector.recovered"
    """info: a collector that failed or was left behind gave a tick again."""
    SCRAPE_FAILED = "scrape.failed"
    """A target gave nothing that can be used; warning for the first of a row, debug for the others."""
    SCRAPE_RECOVERED = "scrape.recovered"
    """info: a target that failed was scraped again."""
    SCRAPE_DUPLICATES = "scrape.duplicates"
    """warning: a target exposes series twice; the first of each counts. Said when it begins."""
    TEXTFILE_FAILED = "textfile.failed"
    """warning: a file, or the folder, is left out for what `error` says; said when it begins or changes."""
    TEXTFILE_RECOVERED = "textfile.recovered"
    """info: a file, or the folder, that was left out is read again."""
    APPEND_FAILED = "buffer.append_failed"
    """error: ticks could not be written and are lost; the first of a row, debug for the others."""
    APPEND_RECOVERED = "buffer.append_recovered"
    """info: ticks are written again."""
    SHELTERED = "buffer.sheltered"
    """error: the disk is full, read-only or failing (`state`); what is collected is kept in memory meanwhile."""
    UNSHELTERED = "buffer.unsheltered"
    """info: the disk is well; what was in memory is on it."""
    RESTARTING = "buffer.restarting"
    """warning: `data_dir` can be used again, and has a log; the agent restarts itself for it."""
    SYNC_FAILED = "buffer.sync_failed"
    """error: what was appended is not durable yet; the first of a row, debug for the others."""
    EVICTED = "buffer.evicted"
    """warning: the buffer was full, and its oldest segment was dropped."""
    TRIMMED = "buffer.trimmed"
    """warning: `limpet buffer trim` asked for it, and the oldest segment was dropped."""
    THINNED = "buffer.thinned"
    """info: the buffer was nearly full, and its oldest segments were made coarser."""
    FORGOTTEN = "buffer.forgotten"
    """warning: a destination that is not configured any more was let go, with what waited for it."""
    CURSOR_RESET = "buffer.cursor_reset"
    """warning: a cursor file could not be read; its destination starts at the oldest record."""
    FIRST_DELIVERED = "sender.first_delivered"
    """info: a destination took samples for the first time since it was begun with; `url` is without secrets."""
    DELIVERED = "sender.delivered"
    """debug: a request was answered with a 2xx."""
    REFUSED = "sender.refused"
    """debug: a request was refused for good; what of it is at fault is found out by further ones."""
    RETRY = "sender.retry"
    """A request will be repeated; warning for the first of a row and once an hour, with the number of tries
    (`attempt`) and how long it lasts (`troubled_seconds`); debug for the others."""
    HELD = "sender.held"
    """Nothing is sent until an operator has fixed what `error` says; warning when it begins or changes and once an
    hour, with the number of probes (`attempt`); debug otherwise."""
    RESUMED = "sender.resumed"
    """info: a destination that was held or waiting takes samples again."""
    REJECTED = "sender.rejected"
    """The receiver refused samples for good; they are in the ledger as rejected. Error for the first in an hour with the
    same words, debug for the others."""
    APART = "sender.apart"
    """A series makes the receiver fail, and waits apart; warning for the first in an hour with the same words."""
    AGED = "sender.aged"
    """The receiver refused samples for their age; they are in the ledger as aged, and `do` says what setting
    of the receiver to change. Error for the first in an hour with the same words, debug for the others."""
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
    BUDGET_SPENT = "sender.budget_spent"
    """warning: the data budget of the day or the month is spent; samples wait for the next one."""
    LANE_FAILED = "sender.failed"
    """error: the lane itself failed (a disk error at its cursor, or a defect); it continues after a while."""


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
