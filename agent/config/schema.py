"""The configuration as types: every key, its default, and the rules that hold between keys.

A `Config` that `load` returned keeps every rule here and in the modules of its sections: `destination`,
`remote_write`, `influxdb`, `otlp`, `file`, `custom`, `http_client`, `relabeling`, `scrape`. `section` says what a section is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

import msgspec

from agent.collectors import COLLECTORS, HostPaths, plugins
from agent.collectors.options import Options
from agent.config import values as v
from agent.config.custom import Custom
from agent.config.destination import DestinationConfig, host_name, named
from agent.config.file import File
from agent.config.influxdb import InfluxDB
from agent.config.otlp import OTLP
from agent.config.remote_write import RemoteWrite
from agent.config.scrape import ScrapeOptions, TextfileOptions
from agent.config.section import Given, Problem, Problems, Section
from agent.config.serve import ServeSection
from buffer.limits import OnFull, largest_segment

DESTINATIONS = ("remote_write", "influxdb", "otlp", "file", "custom")
"""The sections with destinations, each of another type."""
SLOW = {"disk_usage": 60.0, "sensors": 60.0, "link": 60.0}
"""The seconds between two runs of what changes slowly, or `collect.interval` where that is longer."""
OFF = frozenset({"pressure", "link"})
"""The collectors that run only if they are named."""
OWN_INTERVAL = 60.0

OPTIONS: Mapping[str, type[Options]] = {name: kind.options for name, kind in COLLECTORS.items()} | {
    "scrape": ScrapeOptions,
    "textfile": TextfileOptions,
}
"""The collectors that are built in, and what can be set for each."""


def options_of(name: str) -> type[Options] | None:
    """Return what can be set for a collector, built in or not; None: there is none of this name. Raises PluginFailed."""
    if name in OPTIONS:
        return OPTIONS[name]
    kind = plugins.find(name)
    return kind.options if kind else None


class PlanSpec(NamedTuple):
    """A collector that is to run: its name, the seconds between its runs, the seconds a run may take."""

    name: str
    interval: float
    timeout: float
    options: Options


class Collector(Section, frozen=True, kw_only=True):
    """One collector. In the file its `options` are next to the other keys."""

    enabled: v.Flag = True
    interval: v.Interval | None = None
    timeout: v.Duration | None = None
    options: Options


class CollectSection(Section, frozen=True, kw_only=True):
    """What is collected, and when. `collectors` holds the ones that were named; `plan()` knows them all.

    A collector that is not built in runs only if it is named, and so do those of OFF.
    """

    elsewhere = {"mask": "Write it at the top of the file."}

    interval: v.Interval = 10.0
    own_interval: v.Interval | None = None
    timeout: v.Duration = 5.0
    host_root: v.Root = "/"
    procfs: v.Root | None = None
    sysfs: v.Root | None = None
    collectors: dict[str, Collector] = {}

    def plan(self) -> tuple[PlanSpec, ...]:
        """Return the enabled collectors that have something to do. A timeout is never longer than its interval."""
        planned = []
        for name in dict.fromkeys((*OPTIONS, *self.collectors)):
            if name in OFF and name not in self.collectors:
                continue
            one = self.collectors.get(name) or Collector(options=OPTIONS[name]())
            if one.enabled and one.options not in (ScrapeOptions(), TextfileOptions()):
                interval = _interval(name, one, self.interval)
                timeout = one.timeout or min(self.timeout, interval)
                planned.append(PlanSpec(name, interval, timeout, one.options))
        return tuple(planned)

    def own(self) -> float:
        """Return the seconds between two runs of the agent's own series, but for the one that says that the host is alive.

        Where it is not set: six intervals, but not more than a minute, unless the interval is longer.
        """
        return self.own_interval or max(self.interval, min(OWN_INTERVAL, 6 * self.interval))

    def paths(self) -> HostPaths:
        """Return where the collectors find the host."""
        root = "" if self.host_root == "/" else self.host_root
        return HostPaths(self.procfs or f"{root}/proc", self.sysfs or f"{root}/sys", root)

    @staticmethod
    def rules(got: Given) -> Problems:
        """Require each timeout to be within its interval; a default that is not gives way."""
        if got["procfs"] not in (None, "/proc") and got["host_root"] == "/":
            what = "mount points are looked up in this host's root, because there is no host_root"
            yield Problem("procfs", what)
        common = got["interval"]
        if common is not None and got["timeout"] is not None:
            if "timeout" not in got.given:
                got.values["timeout"] = min(got["timeout"], common)
            elif got["timeout"] > common:
                what, do = "the timeout is longer than the interval", "Shorten it, or lengthen interval."
                yield Problem("timeout", what, do)
        for name, one in (got["collectors"] or {}).items():
            if common is None and one.interval is None:
                continue
            interval, place = _interval(name, one, common), f"collectors.{name}"
            if one.timeout is not None and one.timeout > interval:
                yield _too_long(f"{place}.timeout", "this collector's interval")
            for index, target in enumerate(getattr(one.options, "targets", ())):
                if target is not None and (target.timeout or 0) > (target.interval or interval):
                    yield _too_long(f"{place}.targets[{index}].timeout", "this target's interval")


def _too_long(key: str, what: str) -> Problem:
    return Problem(key, f"the timeout is longer than {what}", "Shorten it, or lengthen the interval.")


def _interval(name: str, one: Collector, common: float) -> float:
    if one.interval is not None:
        return one.interval
    return max(SLOW.get(name, 0.0), common)


class BufferSection(Section, frozen=True, kw_only=True):
    """The buffer on disk."""

    max_size: v.Size = 256 << 20
    min_free_space: v.Floor = v.FreeSpace(percent=5.0)
    segment_size: v.Size = 4 << 20
    sync_interval: v.Interval = 10.0
    on_full: OnFull = "thin"
    forget_after: v.Duration = 604_800.0

    @staticmethod
    def rules(got: Given) -> Problems:
        """Require room for several segments; a default segment gives way to a small buffer."""
        largest, segment = got["max_size"], got["segment_size"]
        if largest is not None and largest < 1 << 20:
            yield Problem("max_size", "expected 1MiB or more", "Give the buffer more room.")
            return
        if segment is not None and segment < 64 << 10:
            yield Problem("segment_size", "expected 64KiB or more", "Remove the key to have 4MiB.")
        if largest is None or segment is None:
            return
        if "segment_size" not in got.given:
            got.values["segment_size"] = min(segment, largest_segment(largest))
        elif segment > largest_segment(largest):
            what = "a segment is larger than an eighth of max_size"
            yield Problem("segment_size", what, "Choose a smaller one, because whole segments are dropped.")


class HistorySection(Section, frozen=True, kw_only=True):
    """What is kept of what every destination has."""

    raw: v.Age = 604_800.0
    minute: v.Age = msgspec.field(name="1m", default=2_592_000.0)
    hour: v.Age = msgspec.field(name="1h", default=31_536_000.0)
    max_size: v.Size = 64 << 20

    @staticmethod
    def rules(got: Given) -> Problems:
        """Require that a coarser tier is kept for longer; a default that is shorter gives way."""
        longest, whose = got["raw"], "raw"
        for key in ("1m", "1h"):
            age = got[key]
            if not age or longest is None:
                continue
            if key not in got.given:
                got.values[key] = max(age, longest)
            elif age <= longest:
                what = f"it is not longer than {whose}, so that nothing would be kept in it"
                yield Problem(key, what, "Choose a longer one, or 0 to do without it.")
            longest, whose = max(age, longest), key


class ClockSection(Section, frozen=True, kw_only=True):
    """When the host's clock is believed, and what becomes of a boot whose clock never was right."""

    trust: Literal["auto", "always"] = "auto"
    max_skew: v.Duration = 30.0
    unplaced: Literal["estimate", "drop"] = "estimate"


Labels = dict[v.LabelName, v.Words]
"""Labels of every series of a host."""


class LogSection(Section, frozen=True, kw_only=True):
    """What is logged, and how."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "console", "json", "journal"] = "auto"


class Config(Section, frozen=True, kw_only=True):
    """The whole file."""

    later = frozenset(("query",))
    elsewhere = {
        "global": "Write labels for external_labels, and collect.interval for scrape_interval.",
        "scrape": "Write it below collect.collectors.",
        "scrape_configs": "Write collect: {collectors: {scrape: {targets: ...}}}, with these as its elements.",
        "textfile": "Write it below collect.collectors.",
    }

    hostname: v.Words | None = None
    hostname_file: v.File | None = None
    labels: Labels = {}
    labels_file: v.File | None = None
    data_dir: v.Folder = "/var/lib/limpet"
    mask: tuple[Literal["mountpoint", "device", "interface", "sensor"], ...] = ()
    collect: CollectSection = CollectSection()
    buffer: BufferSection = BufferSection()
    history: HistorySection = HistorySection()
    clock: ClockSection = ClockSection()
    remote_write: tuple[RemoteWrite, ...] = ()
    influxdb: tuple[InfluxDB, ...] = ()
    otlp: tuple[OTLP, ...] = ()
    file: tuple[File, ...] = ()
    custom: tuple[Custom, ...] = ()
    serve: ServeSection = ServeSection()
    log: LogSection = LogSection()

    @property
    def destinations(self) -> tuple[DestinationConfig, ...]:
        """Return all destinations, whatever their type."""
        return (*self.remote_write, *self.influxdb, *self.otlp, *self.file, *self.custom)

    @staticmethod
    def rules(got: Given) -> Problems:
        """Require unique names; a destination without one is named for its host."""
        yield from got.one_of("hostname", "hostname_file")
        sections = {key: got[key] for key in DESTINATIONS}
        if not any(one is None or one for one in sections.values()):
            what = "there is no destination: samples are collected and kept, and sent nowhere"
            yield Problem("remote_write", what)
        if None in sections.values():
            return
        places = [f"{key}[{index}]" for key, found in sections.items() for index in range(len(found))]
        destinations = [one for found in sections.values() for one in found]
        after = named(destinations)
        for key, found in sections.items():
            got.values[key], after = tuple(after[: len(found)]), after[len(found) :]
        called = [one for key in sections for one in got[key]]
        seen: dict[str, str] = {}
        for place, was, one in zip(places, destinations, called, strict=True):
            if one is None:  # it has problems of its own
                continue
            first = seen.setdefault(one.name, place)
            if first != place:
                what = f"the name {one.name!r} belongs to {first} already"
                yield Problem(f"{place}.name", what, "Give each destination a name of its own.")
            elif one.name != was.name and one.name != host_name(one.where):
                what = f"another destination has this host or folder, so this one is called {one.name}; "
                what += "set names, because a destination with a new name starts from scratch"
                yield Problem(f"{place}.name", what)
