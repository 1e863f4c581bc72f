"""Capacity: what will run out, and when. Looked at in the morning, not at night."""

from __future__ import annotations

from typing import Any

from dashboards import kit, levels, selectors
from dashboards.panels import Column, PanelBuilder, Query, graph, narrow, number, rows
from dashboards.selectors import ID, all_of

DAY = 86400
MONTH = 30 * DAY
FILE_SYSTEM = "hostname, mountpoint, device"
FULL = all_of(selectors.DISK_FULL)
USED, TOTAL = all_of("disk_used_bytes"), all_of("disk_total_bytes")
CPU = all_of("cpu_usage_percent", 'core="all"')
FALL = all_of("disk_free_bytes:fall_1w")


def now() -> list[PanelBuilder]:
    """How much is left?"""
    full = {
        7: ("by the trend of a week. One is critical: somebody is called.", levels.NONE_WANTED),
        30: ("by the trend of a week. Time to order.", levels.SOME),
    }
    return [
        *(
            number(
                f"Full in {days} days",
                f"File systems that will be full within {days} days, {why}",
                limits,
                Query(f"count({FULL} < {days} * {DAY}) or 0 * count({FALL})"),
                nothing="rules do not run",
            )
            for days, (why, limits) in full.items()
        ),
        number(
            "Disk in use",
            "Of all file systems together.",
            levels.DISK,
            Query(f"100 * sum({USED}) / sum({TOTAL})"),
        ),
        number(
            "Memory in use",
            "Of all hosts together.",
            levels.MEMORY,
            Query(f"100 * sum({all_of('memory_used_bytes')}) / sum({all_of('memory_total_bytes')})"),
        ),
        number(
            "CPU, busiest hour",
            "The busiest hour's mean over all hosts, in the time shown: what the fleet must be able to do.",
            levels.CPU,
            Query(f"max_over_time(avg_over_time(avg({CPU})[1h:5m])[$__range:1h])"),
            width=4,
        ),
        number(
            "Received in a month",
            "What all hosts receive in 30 days, if they continue as in the last day.",
            "bytes",
            Query(f"sum(rate({all_of('network_received_bytes_total')}[1d])) * {MONTH}"),
            width=4,
        ),
        number(
            "Sent in a month",
            "What all hosts send in 30 days, if they continue as in the last day.",
            "bytes",
            Query(f"sum(rate({all_of('network_sent_bytes_total')}[1d])) * {MONTH}"),
            width=4,
        ),
    ]


def disks() -> list[PanelBuilder]:
    """Which disk runs full, and when?"""
    near = f"({FULL} < 90 * {DAY})"
    return [
        rows(
            "File systems that fill",
            "Those that will be full within 90 days if the last week continues, the soonest first; in the first eight "
            "days the last day. An empty table is good news.",
            ("hostname", "mountpoint", "device"),
            [
                Column(f"min by ({FILE_SYSTEM}) ({near}) / {DAY}", "Full in days", levels.DAYS),
                *(
                    Column(f"max by ({FILE_SYSTEM}) ({expr} and {near})", heading, shown, decimals)
                    for heading, expr, shown, decimals in (
                        ("Used", all_of("disk_usage_percent"), levels.DISK, 1),
                        ("Free", all_of("disk_free_bytes"), "bytes", None),
                        ("Growth in a day", f"{FALL} / 7", "bytes", None),
                    )
                ),
            ],
            sort="Full in days",
            descending=False,
            width=12,
            height=8,
            nothing="none",
        ),
        narrow(
            "Days until full, soonest ten",
            "The same over time. A line that falls by a day each day is steady growth; one that dives is something new.",
            levels.DAYS._replace(unit="d"),
            Query(f"bottomk(10, min by ({FILE_SYSTEM}) ({near}) / {DAY})", "{{hostname}} {{mountpoint}}"),
        ),
        narrow(
            "Room in all",
            "What all file systems hold together, what they will hold in 30 days by the trend, and their size.",
            "bytes",
            Query(f"sum({USED})", "used"),
            Query(f"sum({USED}) + sum({FALL}) / 7 * 30", "used in 30 days"),
            Query(f"sum({TOTAL})", "size"),
            dashed="/(in 30 days|size)/",
        ),
    ]


def trends() -> list[PanelBuilder]:
    """Is the fleet growing out of its hosts?"""
    received, sent = all_of("network_received_bytes_total"), all_of("network_sent_bytes_total")

    def beside(title: str, series: str, limits: levels.Limits) -> PanelBuilder:
        mean = f"avg_over_time({series}[$__rate_interval]"
        return graph(
            title,
            "The mean over all hosts, next to that of a week ago.",
            limits,
            Query(f"avg({mean}))", "now"),
            Query(f"avg({mean} offset 1w))", "a week ago"),
            dashed="a week ago",
        )

    return [
        beside("CPU of the fleet", CPU, levels.CPU),
        beside("Memory of the fleet", all_of("memory_usage_percent"), levels.MEMORY),
        graph(
            "Traffic of the fleet",
            "What all hosts receive (up) and send (down).",
            "Bps",
            Query(f"sum(rate({received}[$__rate_interval]))", "received"),
            Query(f"sum(rate({sent}[$__rate_interval]))", "sent"),
            mirrored="/^sent$/",
        ),
    ]


def days() -> list[PanelBuilder]:
    """Which hosts ran, and which links worked, day by day and apart, as a provider's bill needs it."""
    seen, outages = (
        all_of("limpet_start_time_seconds"),
        all_of("limpet_outage_seconds_total", 'cause=~"link|address|dns|tcp"'),
    )
    lived = f"clamp_max(max by ({ID}) (count_over_time({seen}[1d:5m])) / 288, 1)"
    longest = f"max by ({ID}) (sum by ({ID}, destination) (increase({outages}[1d])))"
    linked = f"clamp_min(1 - {longest} / {DAY}, 0) or group by ({ID}) (last_over_time({seen}[1d]))"

    def share(title: str, description: str, of: str) -> PanelBuilder:
        hosts = Query(f"avg({of})", "mean of the hosts"), Query(f"min({of})", "worst host")
        return graph(title, description, levels.QUALITY, *hosts, width=12)

    return [
        share(
            "Hosts by day",
            "The share of each day (UTC) in which a host ran and collected, by what has arrived by now: a day whose link was down is "
            "whole once the backlog has come. A gap of less than 5 minutes is none.",
            lived,
        ),
        share(
            "Links by day",
            "The share of each day (UTC) in which a host reached its receivers, as a network provider answers for it: without the "
            "outages for want of a link, an address, a name or a connection. While a host is off, its link is not blamed.",
            linked,
        ),
    ]


def make() -> dict[str, Any]:
    """Return the dashboard."""
    return kit.dashboard(
        "limpet-capacity",
        "What will run out, and when. Trends and forecasts come from the recording rules that ship with Limpet.",
        {"Now": now(), "Disks": disks(), "Trends": trends(), "Availability by day": days()},
        since="now-7d",
        refresh="5m",
        reboots=False,
    )
