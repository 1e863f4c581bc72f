"""The process: opens the buffer, starts the schedule and the lanes, waits for a signal, and stops.

Promises: signals are waited for, never handled, so nothing runs in between.  SIGTERM, SIGINT and
SIGHUP stop within five seconds whatever a receiver does: no new round, what was collected is on disk,
one bounded last try to send, the lock is released; the cursors keep the rest.  A thread that dies of a
defect ends the process with status 1.  Meanwhile this thread syncs the buffer every `sync_interval`.

SIGTERM and SIGINT also end the host's series, if it is no restart (`agent.restart`): a marker for each is on
disk before the last try.  SIGHUP, a defect, and what cannot be caught do not end them.
"""

from __future__ import annotations

import gc
import os
import signal
import threading
import time
from collections.abc import Sequence
from typing import Any

from agent import __version__, health, log, restart
from agent.collectors import COLLECTORS
from agent.config import Config
from agent.events import Event
from agent.plans import plans as configured
from agent.schedule import Plan, Schedule, SystemClock
from agent.sender.lane import open_lane, stop_all
from agent.series import Columns, host_labels
from buffer.buffer import Buffer, Tell
from buffer.errors import LimpetError
from buffer.quarantine import Quarantine

STOP_SIGNALS = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
ENDING_SIGNALS = {signal.SIGTERM, signal.SIGINT}
LAST_TRY = 2.0
LAST_ROUND = 1.0
HEALTH = "limpet"
QUARANTINE_SHARE = 8
"""The quarantine's own limit is this part of the buffer's."""


class Agent:
    """Everything that runs, put together from a configuration.

    Raises LimpetError where the buffer is in use, of a newer format, or cannot be opened.
    """

    def __init__(self, config: Config, logger: Any) -> None:
        self._log = logger
        self.died = False
        limits = config.buffer
        self.buffer = open_buffer(config, self._tell)
        clock = SystemClock()
        quarantine = Quarantine(config.data_dir, limits.max_size // QUARANTINE_SHARE)
        labels = host_labels(config)
        self.lanes = [
            open_lane(
                to,
                self.buffer.cursors[to.name],
                self.buffer,
                quarantine,
                __version__,
                logger,
                from_boot=frozenset(COLLECTORS),
                labels=labels,
            )
            for to in config.remote_write
        ]
        plans = configured(config, labels, logger)
        own = health.build(self.buffer, limits.max_size, self.lanes, lambda: self.schedule)
        columns = Columns(health.METRICS, labels)
        interval, timeout = config.collect.interval, config.collect.timeout
        plans.append(Plan(HEALTH, own, columns, interval, timeout, labels["hostname"]))
        self.schedule = Schedule(plans, self.buffer, boot_id(), logger, clock)

    def run(self, sync_interval: float) -> int:
        """Run until a signal comes; return the exit status.  The caller has blocked the signals."""
        threading.excepthook = self._thread_died
        self.schedule.start()
        for lane in self.lanes:
            lane.start()
        self._log.info(
            Event.STARTED,
            version=__version__,
            pid=os.getpid(),
            destinations=[lane.name for lane in self.lanes],
        )
        failing = False
        while (received := signal.sigtimedwait(STOP_SIGNALS, sync_interval)) is None:
            failing = self._sync(failing)
        number = signal.Signals(received.si_signo)
        begun = time.monotonic()
        series_end = number in ENDING_SIGNALS and not self.died and restart.series_end()
        self._log.info(Event.STOPPING, signal=number.name, series_end=series_end)
        self.schedule.stop(LAST_ROUND, series_end=series_end)
        self._sync(failing)
        stop_all(self.lanes, LAST_TRY)
        try:
            self.buffer.close()
        except OSError as error:
            self._log.error(Event.SYNC_FAILED, error=str(error))
        self._log.info(Event.STOPPED, seconds=round(time.monotonic() - begun, 2))
        return 1 if self.died else 0

    def _tell(self, what: str, **fields: object) -> None:
        event = Event(f"buffer.{what}")
        (self._log.info if event is Event.THINNED else self._log.warning)(event, **fields)

    def _sync(self, failing: bool) -> bool:
        try:
            self.buffer.sync()
        except OSError as error:
            (self._log.debug if failing else self._log.error)(Event.SYNC_FAILED, error=str(error))
            return True
        return False

    def _thread_died(self, args: threading.ExceptHookArgs) -> None:
        self._log.critical(
            Event.THREAD_DIED,
            thread=args.thread.name if args.thread else None,
            exc_info=(args.exc_type, args.exc_value, args.exc_traceback),
        )
        self.died = True
        os.kill(os.getpid(), signal.SIGTERM)


def open_buffer(config: Config, tell: Tell) -> Buffer:
    """Open the configured buffer for writing.  Raises LimpetError."""
    limits = config.buffer
    try:
        return Buffer(
            config.data_dir,
            [to.name for to in config.remote_write],
            max_size=limits.max_size,
            min_free=limits.min_free_space.on,
            segment_size=limits.segment_size,
            on_full=limits.on_full,
            forget_after=limits.forget_after,
            start_now=[to.name for to in config.remote_write if to.start == "now"],
            tell=tell,
        )
    except OSError as error:
        raise LimpetError(
            "data_dir",
            f"{config.data_dir} cannot be used: {(error.strerror or str(error)).lower()}",
            "Check that the folder can be written by this user, and that the volume has room.",
        ) from None


def boot_id() -> str:
    """Return 32 hex digits that change with every boot: the kernel's, or made of the boot time."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip().replace("-", "")
    except OSError:
        import psutil

        return f"{int(psutil.boot_time()):032x}"


def run(config: Config, warnings: Sequence[str] = ()) -> int:
    """`limpet run`: collect, keep and send until a signal comes; return the exit status."""
    # Before any thread starts: they inherit the mask, so that only `sigtimedwait` sees the signals.
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    log.configure(config.log.level, config.log.format)
    logger = log.get()
    for warning in warnings:
        logger.warning(Event.CONFIG_WARNING, text=warning)
    agent = Agent(config, logger)
    # What is loaded by now stays: the collector of cycles need not look at it again.
    gc.collect()
    gc.freeze()
    return agent.run(config.buffer.sync_interval)
