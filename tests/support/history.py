"""The past of a made-up host: every series that an agent sends, with plausible values.

`History(...).ticks(times)` are ticks for a buffer, from which a real agent sends them. Names, types and help texts are
those of the agent's own tables, and a name that is in none of them is an error. The same seed gives the same values.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from agent import health
from agent.collectors import COLLECTORS
from buffer.model import Instant, Labels, Series, Tick

METRICS = {
    metric.name: metric
    for table in (*(kind.metrics for kind in COLLECTORS.values()), health.METRICS)
    for metric in table
}
BOOT = "0123456789abcdef0123456789abcdef"
DAY = 86400.0
GIB = 2.0**30
REASONS = ("evicted", "thinned", "aged", "rejected", "corrupt", "relabeled")
SAMPLES_PER_S = 14.0

Values = dict[tuple[str, Labels], float]


class Put(Protocol):
    """Says a gauge's value."""

    def __call__(self, name: str, value: float, /, **labels: str) -> None: ...


class Count(Protocol):
    """Says what a counter has grown by, and returns its value."""

    def __call__(self, name: str, grown: float, /, **labels: str) -> float: ...


class Disk(NamedTuple):
    """A file system: GiB, percent in use at the end, what that grows by in a day, its inodes in use, and when it was read-only."""

    gib: float
    percent: float
    growth: float
    inodes: float = 12.0
    readonly: Stretches = ()


Stretches = tuple[tuple[float, float], ...]
"""When something was so: from so many seconds before the end, to so many."""


@dataclass(frozen=True)
class Story:
    """What a host is like. Times are in seconds before the end of the history; percentages are of 100."""

    cores: int = 4
    cpu: float = 18.0  # at night
    cpu_day: float = 25.0  # more at noon
    memory_gib: float = 8.0
    memory: float = 45.0
    disks: Mapping[str, Disk] = field(
        default_factory=lambda: {"/": Disk(32, 46, 0.05), "/var": Disk(120, 61, 0.4)}
    )
    received: float = 120e3  # bytes a second
    sent: float = 60e3
    outages: Stretches = ()
    boots: tuple[float, ...] = (21 * DAY,)
    busy: Stretches = ()  # the CPU is at its limit
    starved: Stretches = ()  # memory is
    freed: Stretches = ()  # memory is nearly unused, as after a crash of what the host is for
    slow_disk: Stretches = ()
    full_link: Stretches = ()
    failing: Stretches = ()  # a collector fails, hangs, and cannot read something
    stuck: Stretches = ()  # a mount point does not answer
    hot: Stretches = ()  # in the sun, with a supply that is too weak, and programs that wait for memory
    oom: tuple[float, ...] = ()
    lossy: float = 0.001  # share of requests that are repeated
    missed: float = 0.0  # samples a day
    buffer_growth: float = 15.0  # bytes a second
    version: str = "0.6.0"
    skew: float = 0.02


class History:
    """A host's past until `end` (Unix seconds), as its story has it, sent to these destinations."""

    def __init__(
        self, hostname: str, labels: Mapping[str, str], story: Story, end: float, to: Iterable[str], seed: int
    ) -> None:
        self._host = {**labels, "hostname": hostname}
        self._story, self._end, self._to = story, end, tuple(to)
        self._random = random.Random(seed)
        self._noise: dict[str, float] = {}
        self._counters: Values = {}

    def ticks(self, times: Iterable[float]) -> list[Tick]:
        """All ticks, oldest first; each holds every series."""
        found: list[Tick] = []
        before: float | None = None
        series: tuple[Series, ...] = ()
        keys: list[tuple[str, Labels]] = []
        for at in times:
            values = self._at(at, 0.0 if before is None else at - before)
            if list(values) != keys:
                keys, series = list(values), tuple(self._series(*key) for key in values)
            wall = round(at * 1000)
            found.append(Tick(Instant(wall, wall, BOOT), "history", series, list(values.values())))
            before = at
        return found

    def _series(self, name: str, labels: Labels) -> Series:
        metric = METRICS[name]
        own = tuple(sorted({**self._host, **dict(labels)}.items()))
        return Series(name, own, metric.type, metric.unit, metric.help)

    def _wander(self, name: str, size: float) -> float:
        """A value around 0 that moves on slowly."""
        value = 0.9 * self._noise.get(name, 0.0) + self._random.gauss(0, 0.43)
        self._noise[name] = value
        return value * size

    def _in(self, stretches: Iterable[tuple[float, float]], at: float) -> float | None:
        """Seconds since the stretch began in which `at` lies."""
        ago = self._end - at
        return next((begin - ago for begin, end in stretches if end < ago <= begin), None)

    def _at(self, at: float, passed: float) -> Values:
        story, values = self._story, Values()
        weekend = (at // DAY + 4) % 7 in (0, 6)
        day = max(0.0, math.sin((at % DAY / DAY - 0.25) * 2 * math.pi)) * (0.4 if weekend else 1)

        def put(name: str, value: float, /, **labels: str) -> None:
            values[name, tuple(sorted(labels.items()))] = round(value, 3)

        def count(name: str, grown: float, /, **labels: str) -> float:
            key = (name, tuple(sorted(labels.items())))
            self._counters[key] = values[key] = self._counters.get(key, 0.0) + max(0.0, grown)
            return values[key]

        self._cpu(at, passed, day, put, count)
        self._memory(at, day, put, count)
        self._disks(at, passed, day, put, count)
        self._network(at, passed, day, put, count)
        self._hardware(at, day, put)
        self._agent(at, passed, put, count)
        boot = max((self._end - ago for ago in story.boots if self._end - ago <= at), default=at - 90 * DAY)
        put("host_boot_time_seconds", boot)
        put("host_info", 1, os="Linux", kernel_release="6.1.0-28-amd64", machine="x86_64")
        return values

    def _cpu(self, at: float, passed: float, day: float, put: Put, count: Count) -> None:
        story, total = self._story, 0.0
        busy = self._in(story.busy, at) is not None
        for core in range(story.cores):
            level = story.cpu + story.cpu_day * day + self._wander(f"core{core}", 5.0)
            level = 97 + self._wander(f"core{core}", 0.5) if busy else level
            level = min(100.0, max(1.0, level))
            put("cpu_usage_per_core_percent", level, core=str(core))
            total += level
        usage = total / story.cores
        put("cpu_usage_percent", usage, core="all")
        slow = self._in(story.slow_disk, at) is not None
        shares = {"user": 0.72, "system": 0.24, "idle": 0.0, "iowait": 0.0}
        for mode, share in shares.items():
            level = usage * share
            if mode in ("idle", "iowait"):
                waiting = (100 - usage) * (0.3 if slow else 0.02)
                level = waiting if mode == "iowait" else 100 - usage - waiting
            count(f"cpu_{mode}_seconds_total", passed * story.cores * level / 100)
        load = story.cores * usage / 100 + (3 if slow else 0)
        for span, smooth in (("1m", 0.25), ("5m", 0.12), ("15m", 0.05)):
            put(f"load_average_{span}", max(0.0, load + self._wander(f"load{span}", smooth)))

    def _memory(self, at: float, day: float, put: Put, count: Count) -> None:
        story, total = self._story, self._story.memory_gib * GIB
        percent = story.memory + 6 * day
        percent = 97.0 if self._in(story.starved, at) is not None else percent
        percent = 14.0 if self._in(story.freed, at) is not None else percent
        percent = min(99.0, percent + self._wander("memory", 0.8))
        used = total * percent / 100
        cached, buffers = (total - used) * 0.6, (total - used) * 0.05
        parts = {"total": total, "used": used, "available": total - used, "cached": cached}
        parts |= {"buffers": buffers, "free": total - used - cached - buffers}
        for part, value in parts.items():
            put(f"memory_{part}_bytes", value // 4096 * 4096)
        put("memory_usage_percent", percent)
        put("memory_zfs_arc_bytes", total * 0.02 // 4096 * 4096)
        swap, swapped = 2 * GIB, 2 * GIB * max(0.0, percent - 60) / 100
        put("swap_total_bytes", swap)
        put("swap_used_bytes", swapped // 4096 * 4096)
        put("swap_free_bytes", (swap - swapped) // 4096 * 4096)
        put("swap_usage_percent", 100 * swapped / swap)
        put("memory_oom_kills_total", sum(self._end - ago <= at for ago in story.oom))

    def _hardware(self, at: float, day: float, put: Put) -> None:
        hot = self._in(self._story.hot, at) is not None
        sensor = {"sensor": "cpu-thermal/thermal_zone0"}
        put("sensor_temperature_celsius", (88 if hot else 48 + 8 * day) + self._wander("heat", 0.5), **sensor)
        for name in ("undervoltage", "throttled"):
            put(f"sensor_{name}", hot, sensor="raspberrypi")
        for kind in ("cpu_some", "memory_some", "memory_full", "io_some", "io_full"):
            put(f"pressure_{kind}_ratio", max(0.0, (0.3 if hot else 0.02) + self._wander(kind, 0.01)))
        put("host_open_files", 1500 + 500 * day // 1)
        put("host_open_files_max", 92233)
        put("host_conntrack_entries", 80 + 300 * day // 1)
        put("host_conntrack_entries_max", 65536)
        put("host_entropy_bits", 3500)

    def _disks(self, at: float, passed: float, day: float, put: Put, count: Count) -> None:
        slow = self._in(self._story.slow_disk, at) is not None
        read = (2e5 + 3e6 * day) * math.exp(self._wander("read", 0.4))
        write = (6e5 + 2e6 * day) * math.exp(self._wander("write", 0.4)) * (4 if slow else 1)
        await_ms = (560 if slow else 2.5) * math.exp(self._wander("await", 0.25))
        util = 92 + self._wander("util", 1.5) if slow else 4 + 12 * day + self._wander("util", 2)
        util = min(100.0, max(0.2, util))
        on = {"device": "sda"}
        ways = (("read", "read", "reads", read, 24e3), ("write", "written", "writes", write, 14e3))
        for way, spelled, done, rate, size in ways:
            put(f"disk_{way}_bytes_per_sec", rate // 1, **on)
            put(f"disk_{way}_ops_per_sec", rate / size, **on)
            put(f"disk_{way}_time_ms", await_ms * (0.6 if way == "read" else 1.2), **on)
            count(f"disk_{spelled}_bytes_total", rate * passed // 512 * 512, **on)
            count(f"disk_{done}_completed_total", rate / size * passed // 1, **on)
        put("disk_await_time_ms", await_ms, **on)
        put("disk_io_util_percent", util, **on)
        put("disk_queue_length", util / 100 * (6 if slow else 0.8), **on)
        count("disk_io_time_seconds_total", passed * util / 100, **on)
        for number, (mountpoint, disk) in enumerate(self._story.disks.items(), 1):
            size = disk.gib
            grown = (self._end - at) / DAY * disk.growth
            used = min(99.9, disk.percent - grown + self._wander(mountpoint, 0.01))
            where = {"device": f"/dev/sda{number}", "mountpoint": mountpoint, "fstype": "ext4"}
            total = size * GIB
            put("disk_total_bytes", total, **where)
            put("disk_used_bytes", total * 0.95 * used / 100 // 4096 * 4096, **where)
            put("disk_free_bytes", total * 0.95 * (100 - used) / 100 // 4096 * 4096, **where)
            put("disk_usage_percent", used, **where)
            inodes = size * 65536
            put("inode_total", inodes, **where)
            put("inode_used", inodes * disk.inodes // 100, **where)
            put("inode_free", inodes * (100 - disk.inodes) // 100, **where)
            put("inode_usage_percent", disk.inodes, **where)
            put("disk_readonly", self._in(disk.readonly, at) is not None, **where)

    def _network(self, at: float, passed: float, day: float, put: Put, count: Count) -> None:
        on = {"interface": "eth0"}
        put("link_default_routes", 1)
        for name, wait, where in (("gateway", 0.4, on), ("dns", 2.5, {})):
            put(f"link_{name}_up", 1, **where)
            put(f"link_{name}_answer_ms", wait * math.exp(self._wander(name, 0.3)), **where)
        rates = {}
        full = self._in(self._story.full_link, at) is not None
        ways = (("sent", "sent", self._story.sent), ("received", "recv", self._story.received))
        for way, short, rate in ways:
            busy = (40 if full else 1) * rate * (1 + 2 * day)
            rates[way] = now = min(1.22e6, busy * math.exp(self._wander(way, 0.3)))
            put(f"network_bytes_{short}_per_sec", now // 1, **on)
            put(f"network_packets_{short}_per_sec", now / 600, **on)
            count(f"network_{way}_bytes_total", now * passed // 1, **on)
            packets = now / 600 * passed // 1
            count(f"network_{way}_packets_total", packets, **on)
            side = "out" if way == "sent" else "in"
            dropped = packets * (0.03 if full else 0.0004) * self._random.random() // 1
            count(f"network_drops_{side}_total", dropped, **on)
            if side == "in":
                count("network_missed_in_total", dropped, **on)
                count("network_unwanted_in_total", 0, **on)
            count(f"network_errors_{side}_total", self._random.random() < 0.002, **on)
        put("network_bandwidth_usage_percent", max(rates.values()) / 1.25e6 * 100, **on)
        tcp = {"established": 44.0, "time_wait": 25.0, "orphan": 0.0, "allocated": 70.0}
        in_use = {"tcp4": 60.0, "tcp6": 6.0, "udp4": 9.0, "udp6": 3.0}
        sockets = {("tcp", state): level for state, level in tcp.items()}
        sockets |= {(family, "in_use"): level for family, level in in_use.items()}
        for (family, state), level in sockets.items():
            put("network_connections", level * (1 + day) // 1, family=family, state=state)

    def _agent(self, at: float, passed: float, put: Put, count: Count) -> None:
        story = self._story
        put("limpet_build_info", 1, python="3.11.2", version=story.version)
        starts = [self._end - ago + 25 for ago in story.boots]
        started = max((start for start in starts if start <= at), default=at - 30 * DAY)
        put("limpet_start_time_seconds", started)
        put("limpet_config_reload_successful", 1)
        count("limpet_cpu_seconds_total", passed * 0.0004 * math.exp(self._wander("own", 0.2)))
        put("limpet_resident_memory_bytes", (38.2e6 + self._wander("rss", 1e5)) // 4096 * 4096)
        appended = count("limpet_buffer_appended_samples_total", passed * SAMPLES_PER_S // 1)
        put("limpet_buffer_bytes", max(1e6, 0.4 * 268435456 - (self._end - at) * story.buffer_growth) // 1)
        put("limpet_buffer_history_bytes", 14e6)
        put("limpet_buffer_max_bytes", 268435456)
        count("limpet_buffer_missed_samples_total", passed / DAY * story.missed)
        count("limpet_buffer_append_failures_total", 0)
        count("limpet_buffer_written_bytes_total", passed * 390 // 1)
        for name in (*COLLECTORS, "limpet"):
            put("limpet_collector_duration_seconds", abs(0.003 + self._wander(name, 0.001)), collector=name)
            bad = name == "disk_usage" and self._in(story.failing, at) is not None
            count("limpet_collector_failures_total", bad, collector=name)
            count("limpet_collector_timeouts_total", bad, collector=name)
            if name != "limpet":
                count("limpet_collector_unreadable_total", bad, collector=name)
        stuck = self._in(story.stuck, at)
        if stuck is not None:
            put("limpet_collector_stuck_seconds", stuck, collector="disk_usage", mountpoint="/mnt/backup")
        for name in self._to:
            self._destination(name, at, passed, appended, put, count)

    def _destination(
        self, name: str, at: float, passed: float, appended: float, put: Put, count: Count
    ) -> None:
        story, to = self._story, {"destination": name}
        out = self._in(story.outages, at)
        ended = [end for begin, end in story.outages if self._end - at <= end]
        waiting = 0.0
        if out is not None:
            waiting = out
        elif ended:  # an outage's backlog drains in a thirtieth of its time
            begin, end = next(pair for pair in story.outages if pair[1] == min(ended))
            since, length = end - (self._end - at), begin - end
            waiting = max(0.0, length - since * 30)
        pending = waiting * SAMPLES_PER_S // 1 if waiting else SAMPLES_PER_S * 30 // 2
        put("limpet_destination_pending_samples", min(pending, appended), **to)
        put("limpet_destination_oldest_pending_age_seconds", waiting // 1, **to)
        put("limpet_destination_held", 0, **to)
        put("limpet_destination_interval_seconds", 40, **to)
        count("limpet_destination_appended_samples_total", passed * SAMPLES_PER_S // 1, **to)
        for reason in REASONS:
            count("limpet_destination_dropped_samples_total", 0, reason=reason, **to)
        put("limpet_destination_delivered_samples_total", appended - min(pending, appended), **to)
        requests = passed / (60 if out is not None else 30)
        repeated = requests if out is not None else requests * story.lossy * self._random.expovariate(1)
        count("limpet_destination_requests_total", requests, **to)
        count("limpet_destination_retries_total", min(requests, repeated), **to)
        body = passed * SAMPLES_PER_S * 2.8 if out is None else requests * 900
        count("limpet_destination_sent_bytes_total", body // 1, **to)
        count("limpet_destination_wire_bytes_total", (body * 1.2 + requests * 700) // 1, **to)
        spent = requests * abs(0.12 + self._wander("send", 0.02))
        count("limpet_destination_send_seconds_total", spent, **to)
        if "limpet_destination_clock_skew_seconds" in METRICS:
            put("limpet_destination_clock_skew_seconds", story.skew + self._wander("skew", 0.01), **to)
