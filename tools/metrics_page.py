"""docs/metrics.md, made from the collectors' tables: `python -m tools.metrics_page > docs/metrics.md`.

A test compares the page with the tables, and the labels below with what the collectors return.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterable, Iterator

from agent import health
from agent.collectors import COLLECTORS, CollectorKind, Metric
from agent.scrape import target, textfile

# By the start of the name; the longest that fits counts.
LABELS: dict[str, tuple[str, ...]] = {
    "cpu_usage_": ("core",),
    "disk_": ("device",),
    "disk_total_": ("device", "fstype", "mountpoint"),
    "disk_used_": ("device", "fstype", "mountpoint"),
    "disk_free_": ("device", "fstype", "mountpoint"),
    "disk_usage_": ("device", "fstype", "mountpoint"),
    "disk_readonly": ("device", "fstype", "mountpoint"),
    "inode_": ("device", "fstype", "mountpoint"),
    "network_": ("interface",),
    "network_connections": ("family", "state"),
    "sensor_": ("sensor",),
    "link_gateway_": ("interface",),
    "host_info": ("kernel_release", "machine", "os"),
    "up": ("instance", "job"),
    "scrape_": ("instance", "job"),
    "node_textfile_mtime_": ("file",),
    "limpet_build_info": ("python", "version"),
    "limpet_buffer_state": ("state",),
    "limpet_clock_believed": ("source",),
    "limpet_collector_": ("collector",),
    "limpet_collector_stuck_": ("collector", "mountpoint"),
    "limpet_destination_": ("destination",),
    "limpet_destination_budget_": ("destination", "period"),
    "limpet_destination_info": ("destination", "type"),
    "limpet_outage_": ("destination",),
    "limpet_outage_seconds_total": ("cause", "destination"),
    "limpet_boots_": ("reason",),
    "limpet_boot_info": ("reason",),
    "limpet_identity_info": ("data_dir", "machine"),
    "limpet_destination_dropped_": ("destination", "reason"),
}

ABOUT = {
    "cpu": """From `/proc/stat` and `/proc/loadavg`. `core` is `all` in `cpu_usage_percent` and the core's number in
`cpu_usage_per_core_percent`. Waiting for I/O counts as idle; the time of guests is part of user; time that a
hypervisor gave to others (steal) counts as busy. The four counters are the kernel's fields of that name over all
cores, so they include no niced, interrupt or stolen time.""",
    "memory": """From `/proc/meminfo` and `/proc/vmstat`. Used is total minus available, as in `free` since procps 4.
Cached is the page cache and the reclaimable slab, like the cache column of `free -w`.

The cache of ZFS (ARC, from `/proc/spl/kstat/zfs/arcstats`) is memory in use for the kernel, but it shrinks to its minimum
(`zfs_arc_min`) when programs need memory. So what it has beyond that counts as available, and not as used; its size is
`memory_zfs_arc_bytes`. A container with a `meminfo` of its own (LXC) leaves its host's ARC out.""",
    "disk_io": """From `/proc/diskstats`. Whole disks only: a disk's numbers include its partitions, and a sum would
count them twice. Device mapper (`dm-0`) and md devices are whole disks next to the disks below them, so select by
`device` before you sum. The times are means over the reads and writes that completed in the interval, like iostat's
r_await, w_await and await (without discards, or the weekly trim would look like a slow disk); the utilization is
iostat's %util, the queue its aqu-sz. Options: `include_devices`, `exclude_devices`, and `partitions`, which adds
partitions under the same label. A partition is a name that begins with a disk's name; a Xen guest's `xvda1` without an
`xvda` is a disk. A device that has never completed a request (15 of the 16 `nbd`, say) has no series before it does.""",
    "network": """From `/proc/net/dev`, and the link's speed from `/sys/class/net/*/speed`, read again every minute.
Without a known speed there is no `network_bandwidth_usage_percent`, and a speed is known only where something measured
it: on a cable, or on bonds, teams and VLANs of cables. The speeds of tunnels, bridges, containers' interfaces and other
virtual ones are the kernel's invention; Wi-Fi and modems say what the air seldom gives. An interface that is down and has
never counted a packet (`docker0` without containers, `dummy0`, `ifb0`) has no series. Options: `include_interfaces`,
`exclude_interfaces`.

`network_drops_in_total` is the kernel's column `drop`, which mixes two things. `network_missed_in_total` is loss: the host or
its card had no room. `network_unwanted_in_total` is mostly frames of protocols and VLANs that nobody listens to: switches
send them all day, and nothing is wrong. The two need `/sys`, and are absent where it cannot be read.

`network_connections` are numbers that the kernel keeps anyway (`/proc/net/sockstat`, `sockstat6`, `snmp`), so
they cost the same with 50,000 sockets as with ten. The kernel does not keep every state by IP version:

| family | state | what is counted |
|---|---|---|
| `tcp4`, `tcp6` | `in_use` | sockets of this IP version, listening ones included, `time_wait` not |
| `udp4`, `udp6` | `in_use` | sockets of this IP version |
| `tcp` | `established` | both versions, `close_wait` included (the SNMP counter tcpCurrEstab) |
| `tcp` | `time_wait` | both versions |
| `tcp` | `orphan` | both versions: no process holds them any more |
| `tcp` | `allocated` | both versions: all that hold memory, in any state |

They overlap, so do not add them up.""",
    "disk_usage": """From statvfs of the mounts in `/proc/self/mountinfo`. Used and free are what `df` prints, the percentage
is its Use% before it is rounded up: 100 x used / (used + free). The space that a file system reserves for root is neither
used nor free.

Each file system appears once, however often it is mounted: under the mount of its root, else under the shortest mount point.
A file system is one device number in mountinfo (st_dev); the source is only its label. So bind mounts
and the subvolumes of a btrfs count once, two tmpfs are two, and each data set of a ZFS pool appears with the
room that they share, as in `df`. File systems that store nothing (proc, sysfs, cgroup, ...) never appear. Options:
`include_fstypes`, `exclude_fstypes`, `include_mountpoints`, `exclude_mountpoints`.

- **Read-only** (`disk_readonly`) is a file system that takes no writes: an image, one mounted so, and one that the kernel turned
  after an error (`errors=remount-ro`). What only the agent sees read-only (systemd's `ProtectSystem=strict`, a
  container's `ro` volume) does not count. ext4 does not show it on Linux 6.12 to 6.14, nor on older kernels with the same
  change; look at `dmesg` there. A network share that is mounted read-only may show 0.
- **tmpfs** is reported while at least 85 % of its room or of its inodes are in use: then `/run`, `/tmp` or the `/var/log` of
  log2ram is a disk that is full. Name `tmpfs` in `include_fstypes` to report each always, or in your own
  `exclude_fstypes` to report none.
- **Automounts** are left out: a question counts as use, and would keep them mounted without limit. This is what lies below an autofs
  with a timeout (systemd's automount units, `automount`), snapshots below `.zfs/snapshot`, and what NFS mounts by itself
  below a share. An automount without a timeout is reported while it is mounted.
- **A disk that sleeps is not woken**: a file system is queried again only when its disk has done something since the last
  answer (`/proc/diskstats`); else its values are the last ones.
- **A mount that the agent's user may not reach** (`/media/USER`, FUSE, volumes of Kubernetes) is logged once
  (`collector.denied`) and counted in `limpet_collector_denied`. No alert fires for it.

A mount that does not answer is left behind within the run, and named in the log and in `limpet_collector_stuck_seconds`
([below](#reading-the-agents-own-series)).""",
    "host": """The boot time changes when a host without a clock chip gets the time from the network, because the kernel
counts back from its clock; it is read again every minute.""",
    "sensors": """Temperatures from `/sys/class/thermal` and `/sys/class/hwmon`, supply and throttling of a Raspberry Pi from its
firmware, and a few numbers that the kernel may run out of. What a host does not have is absent. It runs each minute, or each
`collect.interval` where that is longer, because heat is slow and each series costs.

`sensor` is chip, device and the chip's own label, such as `coretemp/coretemp.0/Package id 0`, `nvme/0000:01:00.0/Composite` or
`cpu-thermal/thermal_zone0`. It stays the same from boot to boot, as far as the kernel's order of thermal zones and buses does.
What hwmon repeats of a thermal zone is left out, and so are cores and the parts of an NVMe disk, which have a temperature as
a whole.

- **A sensor that has nothing to say** (no data, off, not connected: -127, 127, 255 degrees) is absent. Exactly 0 degrees are
  believed of a sensor that has shown something else. An error is reported of a sensor that has worked before.
- **A sensor that does not answer** is left behind within the run, and named in the log and in
  `limpet_collector_stuck_seconds` (label `sensor`), as a mount is; the others continue.
- **Under-voltage** is often shorter than a second. The kernel looks every 2 s, and each change that it notes between two
  runs counts, so that a dip is seen although the collector runs each minute.

Options: `include_sensors`, `exclude_sensors`.""",
    "pressure": """From `/proc/pressure`, off unless it is named (`pressure: {}`). A ratio of 0.25 is a quarter of the interval. `some`: at
least one task waited; `full`: all that had work waited. The values are from the kernel's sum of waiting time, not its
averages, so a mean over any stretch is right. A kernel without it has no series; Raspberry Pi OS needs `psi=1` in `cmdline.txt`.""",
    "link": """Where a fault is, in the site or behind it: whether there is a default route, whether its gateway answers, and how long the
name server takes. Off unless it is named (`link: {}`); then it runs each minute, and has at most seven series.

It asks the network of the site alone, and nothing that it sends leaves that, so it costs nothing on a link that is paid for by the
megabyte. The two preferred default routes of IPv4 over a cable or Wi-Fi are queried, one for an interface. A gateway behind a modem (`wwan`,
`ppp`) or a tunnel is the carrier's and is not queried; nor is a name server that is not a neighbor: of a host whose `resolv.conf` has
`8.8.8.8` there is no `link_dns_up`.

- **Gateways** get a ping. That needs no right where the agent's group is in `net.ipv4.ping_group_range` (systemd's default is
  everybody; `sysctl net.ipv4.ping_group_range` shows it). Elsewhere, and where a router drops pings, the kernel's table of ARP decides: then
  there is no `link_gateway_answer_ms`, and a gateway that is gone shows a run later.
- **Name servers** get a query for the address of `localhost`, which they answer themselves. That shows that the name server is there. It
  does not show that names of the internet can be resolved: the errors of the destinations say that.
- **In a container** it runs only with the network of the host.""",
}

READ = {
    "scrape": """The series of the targets have their own names and labels, and `job` and `instance`
([scraping.md](scraping.md)). In addition, for each target:""",
    "textfile": """The series are those in the `*.prom` files of a folder ([scraping.md](scraping.md#text-files)). In addition, for
the files:""",
}

HEAD = """# Metrics

<!-- Made by tools/metrics_page.py from the tables in the code. Do not edit by hand. -->

Every series also has the labels `hostname` and those of the configuration. A series whose name ends in `_total` is a counter (except
`inode_total`), all others are gauges; a unit is at the end of the name, before `_total`. A counter restarts at boot, and when a device is plugged in
again.

- **Rates** (`_per_sec`, `_ms`, `_percent` of CPU, disk I/O and network, `disk_queue_length`) are over the time
  since the collector's last run, so they begin with its second run. After a counter of a device went backwards,
  that device has no rates for one interval. Nothing is lost: the counters continue.
- **An unreadable value is absent**, never a made-up 0. One unreadable file or vanished device costs its own series, and
  is counted in `limpet_collector_unreadable_total` ([below](#reading-the-agents-own-series)).
- **Resolution**: values are rounded to the digits that carry information, because such values take the least
  room in the buffer. Percentages, load averages, milliseconds, operations and packets per second, and the queue
  length have 2 decimals; bytes per second none; CPU seconds 2 (a clock tick) and disk seconds 3 (a millisecond).
- **Selection**: `include_*` and `exclude_*` are regular expressions that must match the whole name. Your list
  replaces the default; an include list alone also replaces the default exclude list of the same names.
- **Names** that are not UTF-8 show `\\xe9` for the byte; `mask` replaces names by a hash
  ([configuration.md](configuration.md#masked-names)).
- Platforms other than Linux have what psutil offers there.
"""

AGENT = """
## The agent's own series

`limpet run` listens on nothing. It pushes its own state to every destination like any other series, each minute
(`collect.own_interval`), and keeps it in the buffer during an outage. `limpet_start_time_seconds` alone is sent at each
`collect.interval`: by it the alerts see that the host is alive. So when a link comes back, the receiver also learns how the outage went. The
state at this moment, on the host itself, is in `limpet buffer status`.

"""

READING = """
A counter "since the buffer began" continues over restarts. All others restart with the process, and continue over a reload
(except what was unreadable of a collector that the reload starts again). The `collector` label is a collector's name,
`scrape/JOB/INSTANCE` for a scrape target, or `limpet` for the collector of these series. A target that is down is not a
failed run: its `up` is 0.

### Reading the agent's own series

- **Does everything arrive?** `limpet_destination_appended_samples_total` is always the sum of delivered, pending
  and dropped samples, also over restarts and kills. The reasons for dropped samples are `evicted`, `thinned`, `aged`,
  `rejected`, `relabeled` and `corrupt`, and for some destinations `unstorable` and `unchanged`; [buffer.md](buffer.md#the-ledger) explains each.
- **Is everything collected?** `limpet_buffer_missed_samples_total` estimates the samples that the grid should have had and has
  not: a collector that failed or hung, a disk that was full, an agent that did not run. An interruption is counted
  when the first tick after it is stored.
- **Is a destination in trouble?** `limpet_destination_oldest_pending_age_seconds` grows while requests fail;
  `limpet_destination_held` says that the destination needs a person: for example, a wrong password or certificate.
  A destination in trouble gets this news afterwards; another destination gets it at once.
- **Why was the host booted?** `limpet_boot_info` has the reason, and `limpet_boots_total` counts by it. Reasons are tried in this order:

  | reason | what says so |
  |---|---|
  | `clean` | systemd was shutting down when it stopped the agent |
  | `oom`, `panic` | a new record of the kernel in `/sys/fs/pstore` or `/var/lib/systemd/pstore`; one that the agent may not read counts as `panic` |
  | `watchdog` | `/sys/class/watchdog/watchdog0/bootstatus` says that it has reset the host |
  | `power_loss` | none of these, and the agent ran to the end: the power failed, or the host hung and somebody switched it off |
  | `unknown` | the agent had been stopped before, or it is its first boot here |

  Nobody can distinguish a power cut from a hang that left no trace. `/sys/fs/pstore` is for root only, so a panic is found where
  systemd-pstore moves its record, which most distributions have it do. A board without pstore or a watchdog says `power_loss` for these,
  too, and one without systemd says `unknown` for `clean`.
- **What was an outage?** When a destination is back, it has the seconds of the outage by `cause`, over the time in which it was so:
  `increase(limpet_outage_seconds_total[1d])`. Begin, end and the samples that waited are those of the last outage. The causes:

  | cause | what was found at the last try that failed |
  |---|---|
  | `link` | no interface is up with a carrier, or none that a default route leads to |
  | `address` | a link, and no default route, which comes with an address |
  | `dns` | the name cannot be resolved, although there is a way out |
  | `tcp` | the connection is refused, cut, or not answered in time |
  | `proxy`, `tls` | the proxy, or the TLS handshake |
  | `auth` | 401, 403, 407; a token or a file of credentials |
  | `throttled` | 429 |
  | `refused` | another 3xx or 4xx, or an answer that does not count: a portal, say |
  | `server` | 5xx, 408, or what is no HTTP |
  | `medium` | of a destination of type `file`: the folder cannot be written |
  | `clock` | this host's clock is not believed, so samples wait |
  | `budget` | the data budget is spent |

  After a kill the same outage continues. The time in which no agent ran belongs to none.
- **Is a clock wrong?** `limpet_destination_clock_skew_seconds` is this host's clock minus the destination's, exact to a
  second. It comes from the `Date` of answers that accept or refuse samples, since any other answer may be from a proxy
  or a portal. It is 0 while the two agree, and negative if this host is behind. Samples carry this host's
  time: a receiver refuses those from the future, and takes those from the past for old ones.
- **Is this host's clock believed?** `limpet_clock_believed` is 0 while samples wait for their times
  (`limpet_clock_provisional_samples`). `limpet_clock_estimated` is 1 over the time of a boot whose clock was never right, and
  absent otherwise ([clock.md](clock.md)).
- **Is a collector in trouble?** `limpet_collector_timeouts_total` counts the runs that were left behind because they
  took longer than their timeout, for example on a dead network mount. That collector's series then stop, and begin again
  when it returns; they are not marked as ended ([buffer.md](buffer.md#series-that-end)).
  `limpet_collector_failures_total` counts runs that raised an error.
- **Is a part unreadable?** A file without permission, a device that vanishes while it is read, a
  malformed line, a mount that does not answer: each costs its own series for that run, and the rest is
  collected. `limpet_collector_unreadable_total` counts them, one for each name and run; the log names each when it
  begins (`collector.unreadable`) and when it is over (`collector.readable`). A file that a kernel simply does
  not have is not counted.
- **What may the agent not read?** `limpet_collector_denied` is the number of mount points that its user may not reach,
  which `limpet_collector_unreadable_total` does not count. The log names each once (`collector.denied`). To see one, give the
  agent's user the right to walk there; to leave it out, use `exclude_mountpoints`.
- **Which mount hangs?** `limpet_collector_stuck_seconds` names it for as long as it hangs, and the log names it once
  (`collector.stuck`). The mount keeps one thread in the kernel, however long it hangs. Until that thread returns, neither
  this mount nor other mounts of the same server are read again; all others stay in the same tick. The first run
  that meets it waits up to 2 s (half of the collector's timeout, if that is less); later runs do not wait.

[alerts.md](alerts.md) has the rules on these series, and why a backlog that arrives late raises none.
"""


def labels_of(name: str) -> tuple[str, ...]:
    """Return the labels that a series of this name has in addition to `hostname` and the configured ones."""
    starts = [start for start in LABELS if name.startswith(start)]
    return LABELS[max(starts, key=len)] if starts else ()


def page() -> str:
    """Return the whole page."""
    tables = (("scrape", target.METRICS), ("textfile", textfile.METRICS))
    parts = [section(name, kind) for name, kind in COLLECTORS.items()]
    parts += [f"\n## {name}\n\n{READ[name]}\n\n{rows(metrics)}" for name, metrics in tables]
    return "".join([HEAD, *parts, AGENT, rows(health.METRICS), READING])


def section(name: str, kind: CollectorKind) -> str:
    """Return the section of one collector: what it is about, the defaults of its options, and its table."""
    defaults = kind.options()
    options = "".join(
        f"Default of `{key}`: {', '.join(f'`{pattern}`' for pattern in getattr(defaults, key))}.\n\n"
        for key in kind.options.__struct_fields__
        if getattr(defaults, key)
    )
    promised = "".join(
        f"\nWhat the kernel promises ({source}):\n\n"
        + "".join(f"- {', '.join(f'`{one}`' for one in names)}: {text}\n" for names, text in said)
        for source, said in promises(name)
    )
    return f"\n## {name}\n\n{ABOUT[name]}\n\n{options}{rows(kind.metrics)}{promised}"


Promises = tuple[str, list[tuple[list[str], str]]]
"""The source, and what it says about which series."""

READERS = {
    "network": ("network", "links"),
    "sensors": ("sensors", "chips", "raspberrypi"),
    "link": ("link", "routes"),
}
"""The modules of a collector's readers, where they are more than one."""


def promises(collector: str) -> Iterator[Promises]:
    """Return what the kernel promises about a collector's series: what the docstrings of its readers say."""
    for module in READERS.get(collector, (collector,)):
        for doc in docstrings(sys.modules[f"agent.collectors.{module}"]):
            _, found, said = doc.partition("What the kernel promises (")
            if found:
                source, _, items = said.partition("):\n")
                flat = (" ".join(item.split()) for item in re.split(r"^- ", items, flags=re.MULTILINE)[1:])
                pairs = (item.partition(": ")[::2] for item in flat)
                yield " ".join(source.split()), [(names.split(", "), text) for names, text in pairs]


def docstrings(module: object) -> Iterator[str]:
    """Return the docstrings of a module's own functions and methods, in their order."""
    for one in vars(module).values():
        if getattr(one, "__module__", None) == getattr(module, "__name__", ""):
            if inspect.isfunction(one):
                yield inspect.getdoc(one) or ""
            elif inspect.isclass(one):
                yield from (
                    inspect.getdoc(method) or ""
                    for method in vars(one).values()
                    if inspect.isfunction(method)
                )


def rows(metrics: Iterable[Metric]) -> str:
    """Return a table of metrics."""
    head = "| series | labels | meaning |\n|---|---|---|\n"
    return head + "".join(row(metric) for metric in metrics)


def row(metric: Metric) -> str:
    """Return one line of a table."""
    labels = ", ".join(f"`{label}`" for label in labels_of(metric.name))
    return f"| `{metric.name}` | {labels} | {metric.help} |\n"


if __name__ == "__main__":
    print(page(), end="")
