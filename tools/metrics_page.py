"""docs/metrics.md, made from the collectors' tables: `python -m tools.metrics_page > docs/metrics.md`.

A test compares the page with the tables, and the labels below with what the collectors return.
"""

from __future__ import annotations

from collections.abc import Iterable

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
    "inode_": ("device", "fstype", "mountpoint"),
    "network_": ("interface",),
    "network_connections": ("family", "state"),
    "host_info": ("kernel_release", "machine", "os"),
    "up": ("instance", "job"),
    "scrape_": ("instance", "job"),
    "node_textfile_mtime_": ("file",),
}

ABOUT = {
    "cpu": """From `/proc/stat` and `/proc/loadavg`. `core` is `all` in `cpu_usage_percent` and the core's number in
`cpu_usage_per_core_percent`. Waiting for I/O counts as idle; the time of guests is part of user; time that a
hypervisor gave to others (steal) counts as busy. The four counters are the kernel's fields of that name over all
cores, so niced, interrupt and stolen time is in none of them.""",
    "memory": """From `/proc/meminfo` and `/proc/vmstat`. Used is total less available, as `free` says since procps 4.
Cached holds the page cache and the reclaimable slab, like the cache column of `free -w`.""",
    "disk_io": """From `/proc/diskstats`. Whole disks only: what a partition did is in its disk's numbers, and a sum would
count it twice. Device mapper (`dm-0`) and md devices are whole disks beside the disks under them, so pick by
`device` before you sum. The times are means over the reads and writes that completed in the interval, as iostat's
r_await, w_await and await (without discards, or the weekly trim would look like a slow disk); the utilization is
iostat's %util, the queue its aqu-sz. Option: `exclude_devices`.""",
    "network": """From `/proc/net/dev`, and the link's speed from `/sys/class/net/*/speed`, read again every minute.
Without a known speed there is no `network_bandwidth_usage_percent`. Option: `exclude_interfaces`.

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
is its Use% before it is rounded up: 100 x used / (used + free). What a file system reserves for root is neither
used nor free. A file system is told once, however often it is mounted: under the mount of its root, else under
the shortest mount point. What stores nothing (proc, sysfs, cgroup, ...) is never told. Options:
`exclude_fstypes`, `exclude_mountpoints`.""",
    "host": """The boot time moves when a host without a clock chip gets the time from the network, because the kernel
counts back from its clock; it is read again every minute.""",
}

READ = {
    "scrape": """What programs of this host or of the LAN expose, under the names and labels that they give it, with `job`
and `instance` ([scraping.md](scraping.md)); and of each target:""",
    "textfile": """What is in the `*.prom` files of a folder ([scraping.md](scraping.md)); and of the files:""",
}

HEAD = """# The metrics

<!-- Made by tools/metrics_page.py from the collectors' tables. Do not edit by hand. -->

Every series also carries the labels `hostname` and those of the configuration. Samples are gauges unless the
type says counter; a counter starts anew at boot, and when a device is plugged in again.

- **Rates** (`_per_sec`, `_ms`, `_percent` of CPU, disk I/O and network, `disk_queue_length`) are over the time
  since the collector's last run, so they begin with its second run. After a counter of a device went backwards,
  that device has no rates for one interval. Nothing is lost with it: the counters beside them go on.
- **What cannot be read is absent**, never a made-up 0. One unreadable file or vanished device costs its own series.
- **Resolution**: values are rounded to the digits that carry information, because such values take the least
  room in the buffer. Percentages, load averages, milliseconds, operations and packets per second, and the queue
  length have 2 decimals; bytes per second none; CPU seconds 2 (a clock tick) and disk seconds 3 (a millisecond).
- **Exclusions** are regular expressions that must match the whole name. A list that you give replaces the default.
- Other platforms than Linux have what psutil offers there.
"""


def labels_of(name: str) -> tuple[str, ...]:
    """The labels that a series of this name has beside `hostname` and the configured ones."""
    starts = [start for start in LABELS if name.startswith(start)]
    return LABELS[max(starts, key=len)] if starts else ()


def page() -> str:
    """The whole page."""
    tables = (("scrape", target.METRICS), ("textfile", textfile.METRICS))
    return HEAD + "".join(
        [
            *(section(name, kind) for name, kind in COLLECTORS.items()),
            *(f"\n## {name}\n\n{READ[name]}\n\n{rows(metrics)}" for name, metrics in tables),
        ]
    )


def section(name: str, kind: CollectorKind) -> str:
    """One collector: what it is about, its table, and the defaults of its options."""
    defaults = kind.options()
    options = "".join(
        f"Default of `{key}`: {', '.join(f'`{pattern}`' for pattern in getattr(defaults, key)) or 'none'}.\n\n"
        for key in kind.options.__struct_fields__
    )
    return f"\n## {name}\n\n{ABOUT[name]}\n\n{options}{rows(kind.metrics)}"


def rows(metrics: Iterable[Metric]) -> str:
    """A table."""
    head = "| series | type | unit | labels | meaning |\n|---|---|---|---|---|\n"
    return head + "".join(row(metric) for metric in metrics)


def row(metric: Metric) -> str:
    """One line of a table."""
    labels = ", ".join(f"`{label}`" for label in labels_of(metric.name))
    return f"| `{metric.name}` | {metric.type} | {metric.unit} | {labels} | {metric.help} |\n"


if __name__ == "__main__":
    print(page(), end="")
