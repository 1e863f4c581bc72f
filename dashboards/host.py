"""Host: everything about one host, in the order in which one looks for a cause.

Is it there, is what is shown fresh, what has changed; then CPU, memory, disk I/O, room on disks, network; the agent last.
Levels are means over each step of the graph, latencies the highest value in it, so that no peak is lost.
"""

from __future__ import annotations

from typing import Any

from dashboards import kit, levels, selectors
from dashboards.panels import Column, PanelBuilder, Query, graph, narrow, number, rows, timeline
from dashboards.selectors import one_of

SEEN = one_of("limpet_start_time_seconds")
OF_A_FILE_SYSTEM = ("mountpoint", "device")


def mean(series: str) -> str:
    """Return the mean in each step."""
    return f"avg_over_time({series}[$__rate_interval])"


def highest(series: str) -> str:
    """Return the highest value in each step."""
    return f"max_over_time({series}[$__rate_interval])"


def rate(metric: str, *more: str) -> str:
    """Return a counter's growth a second, in each step."""
    return f"rate({one_of(metric, *more)}[$__rate_interval])"


def there() -> list[PanelBuilder]:
    """Is it there, is what is shown fresh, what has changed?"""
    last = f"max(timestamp({SEEN}) or {one_of(selectors.LAST_SEEN)})"
    firing, known = one_of("ALERTS", 'alertstate="firing"'), one_of("ALERTS")
    return [
        number(
            "Last sample",
            "How old the newest sample is. Beyond 5 minutes the host is off or without a link, and the rest of this "
            "page shows the past.",
            levels.SILENT,
            Query(f"time() - {last}"),
            nothing="none in 3 days",
        ),
        number(
            "Uptime",
            "Since the host was booted. Short after a reboot, which the purple marks show in the graphs.",
            levels.Limits("s", 600, None, below=True, decimals=1),
            Query(f"time() - max({one_of('host_boot_time_seconds')})"),
        ),
        number(
            "Agent runs for",
            "Since the agent was started. Much shorter than the uptime: it was restarted, updated or killed.",
            levels.Limits("s", 600, None, below=True, decimals=1),
            Query(f"time() - max({SEEN})"),
        ),
        number(
            "Backlog age",
            "How old the oldest sample is that waits while requests fail or are repeated.",
            levels.AGE,
            Query(f"max({one_of('limpet_destination_oldest_pending_age_seconds')})"),
        ),
        number(
            "Clock ahead by",
            "The host's clock minus the receiver's. All timestamps of the host are off by as much.",
            levels.SKEW,
            Query(f"max({one_of('limpet_destination_clock_skew_seconds')})"),
        ),
        number(
            "Lost",
            "The share of samples that was dropped or never collected. The budget is 0.1 %.",
            levels.LOSS,
            Query(f"max({one_of(selectors.LOSS_RATIO)})"),
        ),
        number(
            "System",
            "What the host runs.",
            "none",
            Query(one_of("host_info"), "{{os}} {{kernel_release}} {{machine}}"),
            text=True,
        ),
        number(
            "Agent",
            "Which version of the agent runs, on which Python.",
            "none",
            Query(one_of("limpet_build_info"), "{{version}} on Python {{python}}"),
            text=True,
        ),
        timeline(
            "Alerts",
            "Which alerts were waiting or fired when, from the rules that ship with Limpet.",
            Query(
                "max by (alertname, severity, device, mountpoint, interface, destination) "
                f"({firing} * 2 or {known})",
                "{{alertname}} {{severity}} {{mountpoint}} {{device}} {{interface}} {{destination}}",
            ),
            states={"1": ("pending", levels.YELLOW), "2": ("firing", levels.RED)},
            limits=levels.Limits("none", 1, 2),
            width=12,
            height=7,
            nothing="no alerts",
        ),
        graph(
            "Freshness",
            "How long samples waited before they could be sent: near 0 all is live. A slope is a stretch without a "
            "link, whose samples came afterwards; a gap is a stretch in which the agent did not run.",
            levels.AGE,
            Query(highest(one_of("limpet_destination_oldest_pending_age_seconds")), "{{destination}}"),
            width=12,
            height=7,
        ),
    ]


def cpu() -> list[PanelBuilder]:
    """Busy with what?"""
    cores = f"count({one_of('cpu_usage_per_core_percent')})"
    modes = ("user", "system", "iowait")
    return [
        narrow(
            "CPU usage",
            "All cores together. Called at 80 % for 5 minutes, and at 95 % for 1 minute.",
            levels.CPU,
            Query(mean(one_of("cpu_usage_percent", 'core="all"')), "usage"),
        ),
        narrow(
            "CPU by core",
            "One core at 100 % next to idle ones is a program with one thread, or interrupts on one core.",
            levels.CPU,
            Query(mean(one_of("cpu_usage_per_core_percent")), "core {{core}}"),
        ),
        narrow(
            "CPU time by mode",
            "What the cores do, in cores: programs (user), the kernel (system), or waiting for a disk (iowait), "
            "which is no work, but points to the disks below. Niced, interrupt and stolen time is in none of them.",
            "none",
            *(Query(f"sum({rate(f'cpu_{mode}_seconds_total')})", mode) for mode in modes),
            stacked=True,
        ),
        narrow(
            "Load",
            "Tasks that run or wait for a core or a disk, next to the number of cores: above it tasks wait. A high "
            "load with an idle CPU is waiting for disks or a network file system.",
            "none",
            *(Query(one_of(f"load_average_{span}"), span) for span in ("1m", "5m", "15m")),
            Query(cores, "cores"),
            dashed="cores",
        ),
    ]


def memory() -> list[PanelBuilder]:
    """Is there enough?"""
    return [
        narrow(
            "Memory usage",
            "What programs cannot get without swapping: total less available. Called at 85 % and 95 %.",
            levels.MEMORY,
            Query(mean(one_of("memory_usage_percent")), "memory"),
            Query(mean(one_of("swap_usage_percent")), "swap"),
        ),
        narrow(
            "Memory by use",
            "Where it is. Cached, buffers and most of the ZFS cache are given back when programs need room; used is not.",
            "bytes",
            *(
                Query(mean(one_of(f"memory_{part}_bytes")), part)
                for part in ("used", "cached", "buffers", "free")
            ),
            Query(mean(one_of("memory_zfs_arc_bytes")), "ZFS cache"),
            stacked=True,
        ),
        narrow(
            "Memory available and swap",
            "How much programs can still get, and how much was already moved to swap.",
            "bytes",
            Query(mean(one_of("memory_available_bytes")), "available"),
            Query(mean(one_of("swap_used_bytes")), "swap in use"),
            Query(one_of("memory_total_bytes"), "memory"),
            dashed="memory",
        ),
        narrow(
            "OOM kills",
            "Programs that the kernel killed for want of memory, in each step. One is critical.",
            levels.NONE_WANTED,
            Query(f"sum(increase({one_of('memory_oom_kills_total')}[$__rate_interval]))", "killed"),
        ),
    ]


def disk_io() -> list[PanelBuilder]:
    """Do programs wait for a disk?"""
    return [
        graph(
            "Disk utilization",
            "Share of time with a request in flight. Called at 80 % for 5 minutes. A fast disk can do more at 100 %: "
            "judge it with the waiting time.",
            levels.BUSY,
            Query(mean(one_of("disk_io_util_percent")), "{{device}}"),
        ),
        graph(
            "Waiting time of a request",
            "Mean time of a read or write with its wait; the highest in each step. Called at 100 ms and 500 ms.",
            levels.AWAIT,
            Query(highest(one_of("disk_await_time_ms")), "{{device}}"),
        ),
        graph(
            "Waiting time, reads and writes",
            "The same apart: slow writes alone are often a full cache or worn flash, slow reads a failing disk.",
            levels.AWAIT,
            Query(highest(one_of("disk_read_time_ms")), "{{device}} read"),
            Query(highest(one_of("disk_write_time_ms")), "{{device}} write"),
            mirrored="/ write$/",
        ),
        graph(
            "Throughput",
            "Bytes read (up) and written (down), from the counters: right over gaps too.",
            "Bps",
            Query(rate("disk_read_bytes_total"), "{{device}} read"),
            Query(rate("disk_written_bytes_total"), "{{device}} write"),
            mirrored="/ write$/",
        ),
        graph(
            "Operations",
            "Requests completed, reads (up) and writes (down). Many small ones cost more than their bytes.",
            "iops",
            Query(rate("disk_reads_completed_total"), "{{device}} read"),
            Query(rate("disk_writes_completed_total"), "{{device}} write"),
            mirrored="/ write$/",
        ),
        graph(
            "Queue",
            "Requests in flight, on average; the highest in each step. A queue that stays is a disk at its limit.",
            "none",
            Query(highest(one_of("disk_queue_length")), "{{device}}"),
        ),
    ]


def disk_usage() -> list[PanelBuilder]:
    """Is there room?"""
    labels = ", ".join(OF_A_FILE_SYSTEM)
    return [
        rows(
            "File systems",
            "How full each file system is, with its inodes, and when it will be full if the last day "
            "continues. Called at 80 % and 90 %, or when it will be full within 7 days, unless it is read-only (1); called "
            "when it turns read-only.",
            OF_A_FILE_SYSTEM,
            [
                Column(f"max by ({labels}) ({one_of('disk_usage_percent')})", "Used", levels.DISK, 1),
                Column(f"max by ({labels}) ({one_of('disk_free_bytes')})", "Free", "bytes"),
                Column(f"max by ({labels}) ({one_of('disk_total_bytes')})", "Size", "bytes"),
                Column(f"max by ({labels}) ({one_of('inode_usage_percent')})", "Inodes", levels.INODES),
                Column(
                    f"min by ({labels}) ({one_of(selectors.DISK_FULL)}) / 86400", "Full in days", levels.DAYS
                ),
                Column(f"max by ({labels}) ({one_of('disk_readonly')})", "Read-only", levels.NONE_WANTED),
            ],
            sort="Used",
            width=12,
            height=8,
        ),
        narrow(
            "Disk usage",
            "The same over time: a slope is growth, a step is one large file.",
            levels.DISK,
            Query(one_of("disk_usage_percent"), "{{mountpoint}}"),
        ),
        narrow(
            "Inodes",
            "Small files use them up before the room; then no file can be made although there is room.",
            levels.INODES,
            Query(one_of("inode_usage_percent"), "{{mountpoint}}"),
        ),
    ]


def network() -> list[PanelBuilder]:
    """Is the line full, or bad?"""
    return [
        graph(
            "Bandwidth",
            "The busier direction against the link's speed, where that is known. Called at 80 % and 95 %.",
            levels.BANDWIDTH,
            Query(mean(one_of("network_bandwidth_usage_percent")), "{{interface}}"),
        ),
        graph(
            "Traffic",
            "Bytes received (up) and sent (down), from the counters: right over gaps too.",
            "Bps",
            Query(rate("network_received_bytes_total"), "{{interface}} received"),
            Query(rate("network_sent_bytes_total"), "{{interface}} sent"),
            mirrored="/ sent$/",
        ),
        graph(
            "Packets",
            "Packets received (up) and sent (down). Many small ones load a CPU more than their bytes.",
            "pps",
            Query(rate("network_received_packets_total"), "{{interface}} received"),
            Query(rate("network_sent_packets_total"), "{{interface}} sent"),
            mirrored="/ sent$/",
        ),
        graph(
            "Drops",
            "Share of packets that this host lost, in or out, for want of room, over 5 minutes. Called at 1 % of 1,000 packets.",
            levels.DROPS,
            Query(one_of("network_drops:ratio_rate5m"), "{{interface}}"),
        ),
        graph(
            "Errors",
            "Packets with an error, received (up) and sent (down): a bad cable, port or radio.",
            "pps",
            Query(rate("network_errors_in_total"), "{{interface}} received"),
            Query(rate("network_errors_out_total"), "{{interface}} sent"),
            mirrored="/ sent$/",
        ),
        graph(
            "Connections",
            "Sockets by state, as the kernel counts them; they overlap. Growth without an end is a leak.",
            "none",
            Query(one_of("network_connections"), "{{family}} {{state}}"),
        ),
        graph(
            "Gateway and name server",
            "Share of the runs in which the gateway and the name server of the site answered, where the collector link is on. "
            "Below 1 the fault is in the site: cable, switch, router.",
            "percentunit",
            Query(mean(one_of("link_gateway_up")), "gateway {{interface}}"),
            Query(mean(one_of("link_dns_up")), "name server"),
            Query(mean(one_of("link_default_routes")) + " > bool 0", "a default route"),
            width=12,
        ),
        graph(
            "Time to an answer of the site",
            "Of the gateway and the name server, where the collector link is on. Half a second or more of the name server: the first "
            "of several does not answer.",
            "ms",
            Query(mean(one_of("link_gateway_answer_ms")), "gateway {{interface}}"),
            Query(mean(one_of("link_dns_answer_ms")), "name server"),
            width=12,
        ),
    ]


def hardware() -> list[PanelBuilder]:
    """Is it too hot, fed badly, or out of something that the kernel limits?"""
    kinds = ("cpu_some", "memory_some", "memory_full", "io_some", "io_full")
    return [
        narrow(
            "Temperature",
            "By sensor: chip, device and label. Called at 85 °C for 5 minutes. It follows the sun, the work, or a fan.",
            levels.HEAT,
            Query(one_of("sensor_temperature_celsius"), "{{sensor}}"),
            low=None,
        ),
        narrow(
            "Under-voltage and throttling",
            "Share of the last 15 minutes in which a Raspberry Pi had too weak a supply, or was slowed down. Called at 30 %.",
            levels.WEAK,
            Query(f"avg_over_time({one_of('sensor_undervoltage')}[15m])", "under-voltage"),
            Query(f"avg_over_time({one_of('sensor_throttled')}[15m])", "throttled"),
        ),
        narrow(
            "Pressure",
            "Share of the time in which a task (some) or all tasks (full) waited, where the collector pressure is on. "
            "Called for memory at 20 % for 5 minutes.",
            levels.PRESSURE,
            *(Query(mean(one_of(f"pressure_{kind}_ratio")), kind.replace("_", ", ")) for kind in kinds),
        ),
        narrow(
            "What the kernel limits",
            "Open files, and the firewall's connections, of those that are allowed. At 1 nothing more can be opened. The "
            "entropy of kernels before 5.18 is here too, of 4096 bits.",
            "percentunit",
            Query(f"{one_of('host_open_files')} / {one_of('host_open_files_max')}", "open files"),
            Query(
                f"{one_of('host_conntrack_entries')} / {one_of('host_conntrack_entries_max')}", "connections"
            ),
            Query(f"{one_of('host_entropy_bits')} / 4096", "entropy"),
        ),
    ]


def limpet() -> list[PanelBuilder]:
    """Return the panels of the agent itself; the dashboard Limpet has more."""
    return [
        narrow(
            "Samples that wait",
            "The backlog by destination. It grows in an outage and falls afterwards.",
            "short",
            Query(one_of("limpet_destination_pending_samples"), "{{destination}}"),
        ),
        narrow(
            "Buffer",
            "Size of the buffer on disk, next to its limit. At the limit old data is thinned, then dropped.",
            "bytes",
            Query(one_of("limpet_buffer_bytes"), "in use"),
            Query(one_of("limpet_buffer_max_bytes"), "limit"),
            dashed="limit",
        ),
        narrow(
            "Not collected",
            "Samples that should be there and are not, by the agent's own estimate, in each step: a collector that "
            "hung, a full disk, an agent that did not run.",
            levels.NONE_WANTED._replace(unit="short"),
            Query(
                f"sum(increase({one_of('limpet_buffer_missed_samples_total')}[$__rate_interval]))", "missed"
            ),
        ),
        narrow(
            "The agent's own load",
            "CPU that the agent takes, of one core: a small part of a percent as a rule, more while a backlog drains.",
            levels.Limits("percentunit", 0.05, None),
            Query(rate("limpet_cpu_seconds_total"), "CPU"),
        ),
    ]


def make() -> dict[str, Any]:
    """Return the dashboard."""
    return kit.dashboard(
        "limpet-host",
        "Everything about one host, in the order in which one looks for a cause: is it there, is what is shown "
        "fresh, what has changed; then CPU, memory, disks, network, and the agent.",
        {
            "Is it there, and what has changed?": there(),
            "CPU": cpu(),
            "Memory": memory(),
            "Disk I/O": disk_io(),
            "Room on disks": disk_usage(),
            "Network": network(),
            "Hardware and limits": hardware(),
            "Limpet": limpet(),
        },
        one_host=True,
        since="now-3h",
        refresh="30s",
    )
