"""What the agent reports of itself: the `limpet_*` series, collected and pushed like everything else.

Cheap: a few attributes and two reads of /proc per run.  Durations are rounded to the millisecond.

`Presence` says that the host is alive, and runs at each `collect.interval`, because the alerts need that within two
minutes. `Health` is all the rest, which changes slowly or is used in windows of minutes: `collect.own_interval`.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Mapping

from agent import __version__
from agent.collect.guard import Guard
from agent.collect.plan import Collector, Plan
from agent.collect.schedule import Clock, Schedule, SystemClock
from agent.collectors.base import Labels, Metric, Sample
from agent.running import Keeper
from agent.send.outages import Cause
from agent.send.stats import SendStats
from buffer.buffer import Buffer
from buffer.lock import STATES
from buffer.usage import link

TABLE = """\
limpet_build_info                             |          | Always 1; the labels say which version runs on which Python.
limpet_start_time_seconds                     | seconds  | When the agent started, UTC since 1970.
limpet_config_reload_successful               |          | 1 if the configuration that was read last is the one that is applied; 0 after a reload that was refused.
limpet_boots_total                            | boots    | How often the host was booted since the agent was installed, by reason; only reasons that there were.
limpet_boot_info                              |          | Always 1; the label `reason` says why the host was booted last: clean, oom, panic, watchdog, power_loss or unknown.
limpet_identity_info                          |          | Always 1; the labels say which machine and which data_dir this is, as hashes: two boxes with one name have two.
limpet_boot_down_seconds                      | seconds  | From the newest sample before the boot to the boot: how long the host was off, if the agent ran until then.
limpet_cpu_seconds_total                      | seconds  | CPU time the agent has used.
limpet_resident_memory_bytes                  | bytes    | Memory the agent holds.
limpet_buffer_bytes                           | bytes    | Size of the buffer's segment files.
limpet_buffer_history_bytes                   | bytes    | Size of what is kept although every destination has it.
limpet_buffer_max_bytes                       | bytes    | Configured limit of the buffer.
limpet_buffer_appended_samples_total          | samples  | Samples appended since the buffer began.
limpet_buffer_missed_samples_total            | samples  | Samples that could not be collected, estimated from the grid.
limpet_buffer_append_failures_total           | appends  | Appends that failed since the start.
limpet_buffer_written_bytes_total             | bytes    | Bytes written to segments and cursors since the start.
limpet_buffer_state                           |          | 1 for the state of the buffer's disk: ok, full, readonly or failing; memory: 1 while the buffer is in memory.
limpet_buffer_unbuffered_samples_total        | samples  | Samples that were appended in memory, because the disk was ill, since the start.
limpet_clock_believed                         |          | 1 while this host's clock is believed, else 0; source says why: always, synchronized, receivers, chip, plausible; or why not: ancient, contradicted, behind, unset, stepped.
limpet_clock_steps_total                      |          | How often this host's clock was set by more than a second since the start.
limpet_clock_last_step_seconds                | seconds  | By how much it was set last; 0 if it was not.
limpet_clock_provisional_samples              | samples  | Samples that were collected while the clock was not believed, and wait for their times.
limpet_collector_duration_seconds             | seconds  | How long the collector's last run took.
limpet_collector_failures_total               | runs     | Runs of the collector that raised an error.
limpet_collector_timeouts_total               | runs     | Runs of the collector that were left behind.
limpet_collector_unreadable_total             |          | Files, devices, interfaces and mount points that could not be read, in each run that could not.
limpet_collector_denied                       |          | Files, devices and mount points that the agent's user may not read; absent if there are none.
limpet_collector_stuck_seconds                | seconds  | How long a mount point (or sensor), or without one the collector itself, has not answered; absent if all answer.
limpet_destination_info                       |          | Always 1; the label `type` says what kind of destination it is.
limpet_destination_appended_samples_total     | samples  | Samples appended for the destination: delivered, pending and dropped ones.
limpet_destination_delivered_samples_total    | samples  | Samples that the destination has taken.
limpet_destination_dropped_samples_total      | samples  | Samples that the destination will not get, by reason.
limpet_destination_pending_samples            | samples  | Samples that wait for the destination.
limpet_destination_oldest_pending_age_seconds | seconds  | Age of the oldest sample that waits while a request is under way or repeated; 0 without one.
limpet_destination_held                       |          | 1 while the destination needs an operator to fix something, else 0.
limpet_destination_clock_skew_seconds         | seconds  | How far this host's clock is ahead of the destination's; absent until it has answered.
limpet_destination_certificate_end_time_seconds | seconds  | When the first certificate in use ends, UTC since 1970: the destination's or this host's own; absent without TLS.
limpet_destination_interval_seconds           | seconds  | How old the newest sample may become at the destination while all is well: the interval and the deadline; absent for files.
limpet_destination_requests_total             | requests | Requests sent to the destination.
limpet_destination_retries_total              | requests | Requests that were repetitions.
limpet_destination_sent_bytes_total           | bytes    | Bytes of request bodies sent.
limpet_destination_wire_bytes_total           | bytes    | Bytes of IP packets to and from the destination, as a link is paid for.
limpet_destination_budget_bytes               | bytes    | Most bytes on the wire in the period; absent without a `data_budget`, as are the next two.
limpet_destination_budget_used_bytes          | bytes    | Bytes on the wire in the period so far.
limpet_destination_budget_forecast_bytes      | bytes    | Bytes on the wire that the period will come to at the pace so far; absent in its first hour.
limpet_destination_send_seconds_total         | seconds  | Time spent waiting for the destination.
limpet_outage_seconds_total                   | seconds  | How long nothing was delivered although it was tried, by cause, since the start; only causes that there were.
limpet_outage_start_time_seconds              | seconds  | When the last outage began, UTC since 1970; absent before the first one, as are the next two.
limpet_outage_end_time_seconds                | seconds  | When the last outage that is over ended, UTC since 1970; 0 before that. It is before the start while one lasts.
limpet_outage_backfilled_samples              | samples  | How many samples waited when the last outage ended.
"""
"""Name, unit and meaning of each series; one that ends in _total is a counter, the others are gauges."""

METRICS = tuple(
    Metric(name, "counter" if name.endswith("_total") else "gauge", unit, text)
    for name, unit, text in (map(str.strip, row.split("|")) for row in TABLE.splitlines())
)

REASONS = ("evicted", "thinned", "aged", "rejected", "relabeled", "corrupt")
"""Reported from the start, at 0 too, so that the set of series does not change when one is needed."""

CLOCK_WAS_SET = 1.0
"""Seconds between two clocks that are no drift."""

_PAGE = os.sysconf("SC_PAGE_SIZE")


class Presence(Collector):
    """The collector of limpet_start_time_seconds."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._began, self._started = self._clock.monotonic(), round(self._clock.wall(), 2)

    def __call__(self, now_mono: float, /) -> list[Sample]:
        """Return the time at which the agent started, by the wall clock of now."""
        started = self._clock.wall() - (self._clock.monotonic() - self._began)
        if (
            abs(started - self._started) > CLOCK_WAS_SET
        ):  # as on a box that got its time after the agent's start
            self._started = round(started, 2)
        return [Sample("limpet_start_time_seconds", self._started)]


class Health(Collector):
    """The collector of the rest. Each run asks for the destinations, which can change, and for the schedule, which runs it."""

    def __init__(
        self,
        buffer: Buffer,
        destinations: Callable[[], Mapping[str, SendStats]],
        schedule: Callable[[], Schedule],
        keeper: Keeper,
        clock: Clock | None = None,
    ) -> None:
        self._buffer, self._destinations, self._schedule = buffer, destinations, schedule
        self._keeper, self._down = keeper, 0.0
        self._clock = clock or SystemClock()
        self._info: Labels = (("python", platform.python_version()), ("version", __version__))

    def __call__(self, now_mono: float, /) -> list[Sample]:
        """Return the agent's own samples."""
        buffer, schedule = self._buffer, self._schedule()
        log, now = buffer.log, self._clock.wall()
        samples = [
            Sample("limpet_build_info", 1.0, self._info),
            Sample("limpet_config_reload_successful", float(self._keeper.is_applied())),
            Sample("limpet_cpu_seconds_total", round(time.process_time(), 2)),
            Sample("limpet_resident_memory_bytes", float(resident_bytes())),
            Sample("limpet_buffer_bytes", float(log.size)),
            Sample("limpet_buffer_history_bytes", float(buffer.history.size)),
            Sample("limpet_buffer_max_bytes", float(buffer.limits.max_size)),
            Sample("limpet_buffer_appended_samples_total", float(log.end)),
            Sample("limpet_buffer_missed_samples_total", float(log.missed)),
            Sample("limpet_buffer_append_failures_total", float(schedule.append_failures)),
            Sample("limpet_buffer_written_bytes_total", float(buffer.written)),
            Sample("limpet_buffer_unbuffered_samples_total", float(buffer.unbuffered)),
        ]
        is_so = {state: state == buffer.state for state in STATES} | {"memory": buffer.is_in_memory}
        samples += [
            Sample("limpet_buffer_state", float(so), (("state", state),)) for state, so in is_so.items()
        ]
        if schedule.timekeeper is not None:
            samples += _clock(schedule.timekeeper.guard, log.provisional)
        samples += self._boots(schedule)
        interval = 0.0
        for plan in schedule.plans:
            if isinstance(plan.collect, Presence):
                interval = plan.interval_ms / 1000
            if not isinstance(plan.collect, Presence):
                samples += _plan(plan, now_mono)
        for name, stats in self._destinations().items():
            if log.provisional:
                stats.outages.failed(Cause.CLOCK)
            samples += _outages(name, stats)
            samples += _destination(buffer, name, stats, now, interval)
        return samples

    def _boots(self, schedule: Schedule) -> list[Sample]:
        note, keeper = self._keeper.note, schedule.timekeeper
        samples = [
            Sample("limpet_boots_total", float(count), (("reason", reason),))
            for reason, count in self._keeper.boots().items()
        ]
        samples.append(
            Sample("limpet_identity_info", 1.0, (("data_dir", note.home), ("machine", note.machine)))
        )
        samples.append(Sample("limpet_boot_info", 1.0, (("reason", note.reason),)))
        if note.before_ms and (keeper is None or keeper.guard.trust.is_good):
            booted = self._clock.wall() - self._clock.monotonic()
            down = max(0.0, booted - note.before_ms / 1000)
            if abs(down - self._down) > CLOCK_WAS_SET:
                self._down = float(round(down))
            samples.append(Sample("limpet_boot_down_seconds", self._down))
        return samples


def _clock(guard: Guard, provisional: int) -> list[Sample]:
    return [
        Sample("limpet_clock_believed", float(guard.trust.is_good), (("source", guard.trust.source),)),
        Sample("limpet_clock_steps_total", float(guard.steps)),
        Sample("limpet_clock_last_step_seconds", guard.last_step),
        Sample("limpet_clock_provisional_samples", float(provisional)),
    ]


def _plan(plan: Plan, now: float) -> list[Sample]:
    labels: Labels = (("collector", plan.name),)
    samples = [
        Sample("limpet_collector_duration_seconds", round(plan.seconds, 3), labels),
        Sample("limpet_collector_failures_total", float(plan.failures), labels),
        Sample("limpet_collector_timeouts_total", float(plan.timeouts), labels),
    ]
    if plan.collect.unreadable is not None:
        samples.append(Sample("limpet_collector_unreadable_total", float(plan.collect.unreadable), labels))
    if plan.collect.denied:
        samples.append(Sample("limpet_collector_denied", float(plan.collect.denied), labels))
    if plan.timed_out and plan.running is not None:
        began = plan.running[0].mono_ms / 1000
        samples.append(Sample("limpet_collector_stuck_seconds", float(round(max(0.0, now - began))), labels))
    for named, since in plan.collect.stuck.items():
        seconds = float(round(max(0.0, now - since)))
        samples.append(Sample("limpet_collector_stuck_seconds", seconds, (*labels, named)))
    return samples


def _destination(buffer: Buffer, name: str, stats: SendStats, now: float, interval: float) -> list[Sample]:
    cursor = buffer.cursors[name]
    ledger, oldest = cursor.ledger, cursor.oldest_pending_ms()
    end = buffer.log.end
    labels: Labels = (("destination", name),)
    values = {
        "appended_samples_total": end - ledger.start,
        "delivered_samples_total": ledger.delivered,
        "pending_samples": ledger.unsettled(ledger.position, end),
        "oldest_pending_age_seconds": round(max(0.0, now - oldest / 1000)) if oldest is not None else 0,
        "held": ledger.state == "held",
        "requests_total": stats.requests,
        "retries_total": stats.retries,
        "sent_bytes_total": stats.bytes_sent,
        "wire_bytes_total": stats.wire_bytes,
        "send_seconds_total": round(stats.send_seconds_total, 3),
    }
    samples = [Sample(f"limpet_destination_{what}", float(value), labels) for what, value in values.items()]
    samples.append(Sample("limpet_destination_info", 1.0, (*labels, ("type", stats.kind))))
    if stats.kind != "file":  # whose samples are seen when somebody has carried them: no alert waits for that
        newest = round(max(interval, stats.unchanged_every) + stats.deadline, 3)
        samples.append(Sample("limpet_destination_interval_seconds", newest, labels))
    if (skew := stats.clock_skew) is not None:
        samples.append(Sample("limpet_destination_clock_skew_seconds", round(skew, 1) + 0.0, labels))
    if stats.certificate_expires is not None:
        samples.append(
            Sample("limpet_destination_certificate_end_time_seconds", stats.certificate_expires, labels)
        )
    samples += _budget(stats, now, labels)
    for reason in dict.fromkeys((*REASONS, *ledger.dropped)):
        labeled: Labels = (("destination", name), ("reason", reason))
        count = float(ledger.dropped.get(reason, 0))
        samples.append(Sample("limpet_destination_dropped_samples_total", count, labeled))
    return samples


def _outages(name: str, stats: SendStats) -> list[Sample]:
    seconds, last = stats.outages.report()
    labels: Labels = (("destination", name),)
    samples = [
        Sample("limpet_outage_seconds_total", float(round(total)), (("cause", cause), *labels))
        for cause, total in seconds.items()
    ]
    if last is not None:
        samples += [
            Sample("limpet_outage_start_time_seconds", float(last.start), labels),
            Sample("limpet_outage_end_time_seconds", float(last.end), labels),
            Sample("limpet_outage_backfilled_samples", float(last.backfilled), labels),
        ]
    return samples


def _budget(stats: SendStats, now: float, labels: Labels) -> list[Sample]:
    found = link(stats.used, int(now * 1000))
    if found is None:
        return []
    samples = []
    for period, budget, used, forecast in (
        ("day", found.day_budget_bytes, found.day_bytes, found.day_forecast_bytes),
        ("month", found.month_budget_bytes, found.month_bytes, found.month_forecast_bytes),
    ):
        values = {"": budget, "used_": used, "forecast_": forecast} if budget else {}
        labeled: Labels = (*labels, ("period", period))
        samples += [
            Sample(f"limpet_destination_budget_{what}bytes", float(value), labeled)
            for what, value in values.items()
            if value is not None
        ]
    return samples


def resident_bytes() -> int:
    """Return the resident memory of this process: the kernel's statm, or the peak where there is none."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * _PAGE
    except OSError:
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
