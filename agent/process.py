"""The process: opens the buffer, starts the schedule and the lanes, waits for signals, reloads, and stops.

Promises: signals are waited for, never handled, so nothing runs in between.  Meanwhile this thread syncs the buffer
every `sync_interval`, and reports to systemd (`agent.system.systemd`).  A process that was stopped (SIGSTOP) and
continued works as before.

SIGTERM and SIGINT stop within five seconds whatever a receiver does: no new round, what was collected is on disk,
one bounded last try to send, the lock is released; the cursors keep the rest.  They also end the host's series, unless
it is a restart: a marker for each is on disk before the last try.  A defect, and a signal that cannot be caught, do
not end the series.  A thread that dies of a defect ends the process with status 1.

SIGHUP reads the configuration again.  If it is bad, everything that is wrong is logged, and nothing of it is applied.  If
it is good, it is applied as a whole: nothing waits for that, not even a receiver that hangs, no tick is missed, and no
sample is lost.  A new name of the host is applied in the same way, within a `sync_interval`, if `hostname` is not
configured.  Only `data_dir` cannot change.  If the terminal that the agent was started on is gone, SIGHUP stops it.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from typing import Any

from agent import __version__, health, running
from agent.collect import mask
from agent.collect.plan import Collector, Plan
from agent.collect.plans import plans as configured
from agent.collect.schedule import Schedule, SystemClock
from agent.collect.series import Columns, host_labels
from agent.collect.timekeeper import Timekeeper
from agent.collectors import COLLECTORS
from agent.config import Config, ConfigErrors, DestinationConfig, Loaded
from agent.destinations import types
from agent.send.lane import Lane
from agent.send.lanes import Lanes
from agent.send.stats import SendStats
from agent.send.wires import wire
from agent.system import log, memory, systemd
from agent.system.events import Event
from agent.system.news import News
from agent.system.timesync import HostClock
from agent.text import advice
from buffer import Buffer, Limits, LimpetError, Listener, Quarantine, ShelteredBuffer, Tiers
from buffer.exemplars import Exemplars

STOP_SIGNALS = {signal.SIGTERM, signal.SIGINT}
SIGNALS = STOP_SIGNALS | {signal.SIGHUP}
LAST_TRY = 2.0
"""Seconds for the last requests of all destinations at a stop."""
LAST_ROUND = 1.0
"""Seconds that a stop waits for the round that has begun."""
LOOK_EVERY = 0.05
"""Seconds between two looks at what is changing."""
LEVELS = {Event.THINNED: "info", Event.UNSHELTERED: "info", Event.SHELTERED: "error"}
"""Of what the buffer does by itself, where it is not a warning."""
COLLECTED = "LIMPET_COLLECTED"
"""The environment variable with the number of samples that an agent has sent before it replaced itself."""
HEALTH = "limpet"
"""The name of the collector of the agent's own series."""
PRESENCE = "limpet/presence"
"""The same, of the one that says that the host is alive."""
QUARANTINE_SHARE = 8
"""The quarantine's own limit is this part of the buffer's."""


class Agent:
    """Everything that runs, put together from a configuration.

    Raises LimpetError where the buffer is in use, or of a newer format.
    """

    def __init__(self, loaded: Loaded, file: str, logger: Any, notify: systemd.Notify) -> None:
        self._config, self._log, self._notify = (config := loaded.config), logger, notify
        self._died = self._failing = self._is_changing = self.restarts = False
        self._on_terminal = os.isatty(2)
        self.buffer = open_buffer(config, self._log_buffer)
        boot, kept = running.boot_id(), self.buffer.log.kept_ms
        self._note = running.Keeper(config.data_dir, boot, file, loaded.digest, kept_ms=kept)
        size, floor = _quarantine_size(config), _limits(config).min_free
        self._quarantine = Quarantine(config.data_dir, size, min_free=floor)
        self._mask = mask.load(config.data_dir, config.mask)
        types.load(config.destinations)  # now, so that it is there before the first tick
        self._exemplars, self.lanes = Exemplars(), Lanes(self._open_lane)
        self._health = health.Health(self.buffer, lambda: self.lanes.stats, lambda: self.schedule, self._note)
        self._presence, self._labels = health.Presence(), host_labels(config)
        clocks = config.clock, HostClock(self.lanes.heard)
        self._keeper = Timekeeper(*clocks, self.buffer, logger, lambda: self._labels)
        plans = self._plans(config, self._labels, self._mask)
        clock = self._note.note.boot_id, logger, SystemClock()
        self.schedule = Schedule(plans, self.buffer, *clock, timekeeper=self._keeper)

    def _open_lane(self, to: DestinationConfig, labels: Mapping[str, str], stats: SendStats) -> Lane:
        speaks = types.speaks(to, frozenset(COLLECTORS), exemplars=self._exemplars)
        parts = speaks, wire(to, __version__, labels["hostname"]), self.buffer, self._quarantine, self._log
        return Lane(to, *parts, labels=labels, stats=stats, listen=News, wants_date=self._keeper.wants_date)

    def _plans(self, config: Config, labels: Mapping[str, str], masked: mask.Mask) -> list[Plan]:
        collect = config.collect
        own = (
            _own_plan(HEALTH, self._health, collect.own(), collect.timeout, labels),
            _own_plan(PRESENCE, self._presence, collect.interval, collect.timeout, labels),
        )
        return [*configured(config, labels, self._log, masked, exemplars=self._exemplars), *own]

    def run(self, load: Callable[[], Loaded]) -> int:
        """Run until a signal comes; return the exit status.  The caller has blocked the signals.

        `load` reads the configuration again.
        """
        threading.excepthook = self._thread_died
        self._note.write()
        self.schedule.start()
        self.lanes.want(self._config.destinations, self._labels)
        self._log.info(Event.STARTED, version=__version__, pid=os.getpid(), destinations=self.lanes.names)
        number = self._wait(load)
        begun = time.monotonic()
        self._notify.stopping()
        series_end, shuts_down = stop_of(None if self._died else number)
        self._log.info(Event.STOPPING, signal=number.name, series_end=series_end)
        self.schedule.stop(LAST_ROUND, series_end=series_end)
        self._sync()
        self.lanes.stop(LAST_TRY)
        self._note.ended(shut_down=shuts_down)
        try:
            self.buffer.close()
        except OSError as error:
            self._log.error(Event.SYNC_FAILED, **why(error, self._config))
        self._log.info(Event.STOPPED, seconds=round(time.monotonic() - begun, 2))
        self._notify.close()
        return 1 if self._died else 0

    def _wait(self, load: Callable[[], Loaded]) -> signal.Signals:
        """Do what is due until a signal asks for the end, and return that."""
        now = time.monotonic()
        sync_at, alive_at, is_ready = now + self._config.buffer.sync_interval, now, False
        while True:
            pause = min(sync_at, alive_at if is_ready else sync_at) - time.monotonic()
            if self._is_changing or (not is_ready and self._notify.is_heard):
                pause = min(pause, LOOK_EVERY)
            number = next_signal(pause)
            if number in STOP_SIGNALS or (number and self._on_terminal and not os.isatty(2)):
                return number
            if number:
                self._reload(load)
            if self._is_changing:
                self._look()
            if (now := time.monotonic()) >= sync_at:
                self._sync()
                self._follow_name()
                sync_at = time.monotonic() + self._config.buffer.sync_interval
                if may_restart(self.buffer):
                    self._log.warning(Event.RESTARTING)
                    self.restarts = True
                    return signal.SIGHUP
            if not is_ready and self.schedule.is_ready:
                is_ready = True
                self._notify.ready(status_line(self.buffer, self.lanes.names))
            elif is_ready and now >= alive_at:
                self._report_alive(now - alive_at)
                alive_at = now + self._notify.every

    def _reload(self, load: Callable[[], Loaded]) -> None:
        """Read the configuration again and apply it, or say what is wrong with it."""
        self._notify.reloading()
        try:
            loaded = load()
            changed = self._apply(loaded.config)
        except LimpetError as error:
            every = (
                [p.text(error.where) for p in error.problems]
                if isinstance(error, ConfigErrors)
                else [str(error)]
            )
            self._log.error(Event.RELOAD_REFUSED, problems=every)
            self._note.refused(every[0])
            self._notify.ready(f"the configuration was not reloaded: {every[0]}")
            return
        for warning in loaded.warnings:
            self._log.warning(Event.CONFIG_WARNING, text=warning)
        self._note.applied(loaded.digest)
        self._log.info(Event.RELOADED, changed=changed, destinations=self.lanes.names)
        self._notify.ready(status_line(self.buffer, self.lanes.names))

    def _apply(self, config: Config) -> list[str]:
        """Apply a configuration; return the names of what is different.  Raises LimpetError; all is then as it was."""
        was, called = self._config, self._labels["hostname"]
        if os.path.realpath(config.data_dir) != os.path.realpath(was.data_dir):
            do = (
                f"Restart the agent for that, or leave it at {was.data_dir}: nothing of this file is applied."
            )
            raise LimpetError("data_dir", "the buffer cannot move while the agent runs", do)
        labels = host_labels(config)
        masked = self._mask if config.mask == was.mask else mask.load(was.data_dir, config.mask)
        plans = self._plans(config, labels, masked)
        # From here on nothing can fail.
        self.buffer.configure(_limits(config), _names(config), start_now=_start_now(config))
        if config.log != was.log:
            log.configure(config.log.level, config.log.format)
        self._quarantine.limit(_quarantine_size(config), _limits(config).min_free)
        self._keeper.configure(config.clock)
        self._config, self._mask = config, masked
        self._adopt(plans, labels)
        changed = {key for key in config.__struct_fields__ if getattr(config, key) != getattr(was, key)}
        if labels["hostname"] != called:  # the system's may have changed
            changed.add("hostname")
        return [key for key in config.__struct_fields__ if key in changed]

    def _adopt(self, plans: list[Plan], labels: dict[str, str]) -> None:
        self._labels, self._is_changing = labels, True
        self.schedule.adopt(plans)
        self.lanes.want(self._config.destinations, labels)

    def _follow_name(self) -> None:
        """Apply a new name of the host: a box may get its name long after its start."""
        labels = host_labels(self._config)
        if labels != self._labels:
            was, hostname = self._labels["hostname"], labels["hostname"]
            self._log.info(Event.RENAMED, was=was, hostname=hostname)
            self._adopt(self._plans(self._config, labels, self._mask), labels)

    def _look(self) -> None:
        """Continue a reload; when it is over, let go of what it has replaced."""
        self.lanes.look()
        if not self.lanes.is_changing and not self.schedule.is_changing:
            self._is_changing = False
            gc.unfreeze()
            settle_memory()

    def _report_alive(self, late: float = 0.0) -> None:
        """Report that all is well, unless a thread does not come back: then the watchdog restarts the agent.

        `late` is for how many seconds this thread was away itself, because the process was stopped, say.
        """
        overdue = max(self.schedule.overdue(), self.lanes.overdue()) - late
        if self._notify.watchdog is not None and overdue > self._notify.watchdog:
            self._log.error(Event.THREAD_STUCK, seconds=round(overdue, 1))
        else:
            self._notify.alive(status_line(self.buffer, self.lanes.names))

    def _log_buffer(self, what: str, **fields: object) -> None:
        event = Event(f"buffer.{what}")
        getattr(self._log, LEVELS.get(event, "warning"))(event, **advised(fields, self._config))

    def _sync(self) -> None:
        try:
            with ExitStack() as last:  # whatever the quarantine raises: the sync repairs what it needs
                last.callback(self.buffer.sync)
                last.callback(self._note.keep)
                give_way(self._quarantine, self._log)
            self._failing = False
        except OSError as error:
            say = self._log.debug if self._failing else self._log.error
            say(Event.SYNC_FAILED, **why(error, self._config))
            self._failing = True

    def _thread_died(self, args: threading.ExceptHookArgs) -> None:
        self._log.critical(
            Event.THREAD_DIED,
            thread=args.thread.name if args.thread else None,
            exc_info=(args.exc_type, args.exc_value, args.exc_traceback),
        )
        self._died = True
        os.kill(os.getpid(), signal.SIGTERM)


def stop_of(number: signal.Signals | None) -> systemd.Stop:
    """Return what follows from a stop by this signal; None: by a defect."""
    return systemd.stop() if number in STOP_SIGNALS else systemd.Stop(False, False)


def why(error: OSError, config: Config) -> dict[str, object]:
    """Return the fields of an event about an error of the system."""
    return {"error": str(error), "do": advice.about(error, config.data_dir)}


def advised(fields: dict[str, object], config: Config) -> dict[str, object]:
    """Return the fields of an event of the buffer, with what to do where they have the state of its disk."""
    state = fields.get("state")
    return fields | {"do": advice.about_disk(str(state), config.data_dir)} if state else fields


def next_signal(seconds: float) -> signal.Signals | None:
    """Wait for a signal, for so many seconds at most; return it, or None."""
    received = signal.sigtimedwait(SIGNALS, max(0.0, seconds))
    # A SIGHUP is handed out first, however long a SIGTERM waits: many of them must not keep it back.
    for info in (signal.sigtimedwait(STOP_SIGNALS, 0), received):
        # Python returns garbage if the call is interrupted after its time is up: by SIGSTOP and SIGCONT, say.
        if info is not None and info.si_signo in SIGNALS:
            return signal.Signals(info.si_signo)
    return None


def give_way(quarantine: Quarantine, logger: Any) -> None:
    """Have the quarantine remove what the segments need room for.  Raises OSError."""
    for item in quarantine.give_way():
        logger.warning(
            Event.QUARANTINE_FULL, destination=item.destination, item=item.id, samples=item.samples
        )


def may_restart(buffer: Buffer) -> bool:
    """Whether to start again, for a log in `data_dir` that can be read by now; not before the rest can be sent."""
    states = {cursor.ledger.state for cursor in buffer.cursors.values()}
    return buffer.must_restart and states <= {"idle", "sending"}


def status_line(buffer: Buffer, destinations: Iterable[str]) -> str:
    """Return one line for `systemctl status`."""
    parts = []
    for name in destinations:
        cursor = buffer.cursors[name]
        parts.append(f"{name} {cursor.ledger.state}, {cursor.pending()} samples wait")
    if buffer.is_in_memory:
        parts.insert(0, f"the disk of data_dir is {buffer.state}, samples are kept in memory")
    return "; ".join(parts) or "collecting, without a destination"


def _own_plan(
    name: str, collect: Collector, interval: float, timeout: float, labels: Mapping[str, str]
) -> Plan:
    """Return the plan of series of the agent's own: a reload keeps the collector."""
    columns, timeout = Columns(health.METRICS, labels), min(timeout, interval)
    host = labels["hostname"]
    return Plan(name, collect, columns, interval, timeout, host, identity=collect, view_identity=labels)


def _quarantine_size(config: Config) -> int:
    return config.buffer.max_size // QUARANTINE_SHARE


def _limits(config: Config) -> Limits:
    to, kept = config.buffer, config.history
    history = Tiers(kept.raw, kept.minute, kept.hour, kept.max_size)
    return Limits(to.max_size, to.min_free_space.on, to.segment_size, to.on_full, to.forget_after, history)


def _names(config: Config) -> list[str]:
    return [to.name for to in config.destinations]


def _start_now(config: Config) -> list[str]:
    return [to.name for to in config.destinations if to.start == "now"]


def open_buffer(config: Config, report: Listener) -> ShelteredBuffer:
    """Open the configured buffer for writing, whatever its disk is like.  Raises LimpetError."""
    buffer = ShelteredBuffer(
        config.data_dir, _limits(config), _names(config), start_now=_start_now(config), report=report
    )
    buffer.log.collected += int(os.environ.pop(COLLECTED, "0"))
    return buffer


def settle_memory() -> None:
    """Spare the garbage collector what is loaded by now, since that stays."""
    gc.collect()
    gc.freeze()


def run(loaded: Loaded, load: Callable[[], Loaded], file: str) -> int:
    """`limpet run`: collect, keep and send until a signal comes; return the exit status.

    `load` reads the configuration again; `file` is its absolute path.  Raises LimpetError.
    """
    config = loaded.config
    memory.give_back_large()
    # Before any thread starts: they inherit the mask, so that only `sigtimedwait` sees the signals.
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    log.configure(config.log.level, config.log.format)
    logger = log.get()
    for warning in loaded.warnings:
        logger.warning(Event.CONFIG_WARNING, text=warning)
    agent = Agent(loaded, file, logger, systemd.Notify())
    settle_memory()
    status = agent.run(load)
    if agent.restarts and not status:
        os.environ[COLLECTED] = str(
            max((each.ledger.reach for each in agent.buffer.cursors.values()), default=0)
        )
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606
    return status
