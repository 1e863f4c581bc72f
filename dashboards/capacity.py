"""Capacity: what will run out, when, and what is not as usual. Looked at in the morning, not at night."""

from __future__ import annotations

from typing import Any

from dashboards import kit, levels, selectors
from dashboards.panels import Column, PanelBuilder, Query, graph, narrow, number, rows
from dashboards.selectors import all_of

DAY = 86400
MONTH = 30 * DAY
FILE_SYSTEM = "hostname, mountpoint, device"
FULL = all_of(selectors.DISK_FULL)
USED, TOTAL = all_of("disk_used_bytes"), all_of("disk_total_bytes")
TREND = all_of("disk_free_bytes:deriv_1d")
ZSCORE = all_of("signal:zscore")


def now() -> list[PanelBuilder]:
    """How much is left?"""
    hour = all_of("signal:avg_1h", 'signal="cpu"')
    full = {
        7: ("by its trend of the last day. One is critical: somebody is called.", levels.NONE_WANTED),
        30: ("by its trend of the last day. Time to order.", levels.SOME),
    }
    return [
        *(
            number(
                f"Full in {days} days",
                f"File systems that will be full within {days} days, {why}",
                limits,
                Query(f"count({FULL} < {days} * {DAY}) or 0 * count({TREND})"),
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
            Query(f"max_over_time(avg({hour})[$__range:1h])"),
        ),
        number(
            "Unusual signals",
            "Signals of hosts whose last hour is more than 3 standard deviations from the same hour of past weeks: the "
            "rows of the table below.",
            levels.SOME,
            Query(
                f"count(count by (hostname, signal) (abs({ZSCORE}) >= 3)) or 0 * count({all_of('signal:avg_1h')})"
            ),
            nothing="rules do not run",
        ),
        number(
            "Received in a month",
            "What all hosts receive in 30 days, if they continue as in the last day.",
            "bytes",
            Query(f"sum(rate({all_of('network_received_bytes_total')}[1d])) * {MONTH}"),
        ),
        number(
            "Sent in a month",
            "What all hosts send in 30 days, if they continue as in the last day.",
            "bytes",
            Query(f"sum(rate({all_of('network_sent_bytes_total')}[1d])) * {MONTH}"),
        ),
    ]


def disks() -> list[PanelBuilder]:
    """Which disk runs full, and when?"""
    near = f"({FULL} < 90 * {DAY})"
    return [
        rows(
            "File systems that fill",
            "Those that will be full within 90 days if the last day continues, the soonest first. An empty table is "
            "good news.",
            ("hostname", "mountpoint", "device"),
            [
                Column(f"min by ({FILE_SYSTEM}) ({near}) / {DAY}", "Full in days", levels.DAYS),
                *(
                    Column(f"max by ({FILE_SYSTEM}) ({expr} and {near})", heading, shown, decimals)
                    for heading, expr, shown, decimals in (
                        ("Used", all_of("disk_usage_percent"), levels.DISK, 1),
                        ("Free", all_of("disk_free_bytes"), "bytes", None),
                        ("Growth in a day", f"-{TREND} * {DAY}", "bytes", None),
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
            Query(f"sum({USED}) - sum({TREND}) * {MONTH}", "used in 30 days"),
            Query(f"sum({TOTAL})", "size"),
            dashed="/(in 30 days|size)/",
        ),
    ]


def trends() -> list[PanelBuilder]:
    """Is the fleet growing out of its hosts?"""
    received, sent = all_of("network_received_bytes_total"), all_of("network_sent_bytes_total")

    def beside(title: str, signal: str, limits: levels.Limits) -> PanelBuilder:
        hour = all_of("signal:avg_1h", f'signal="{signal}"')
        return graph(
            title,
            "The mean over all hosts, over an hour, next to the same hour a week ago.",
            limits,
            Query(f"avg({hour})", "now"),
            Query(f"avg({hour} offset 1w)", "a week ago"),
            dashed="a week ago",
        )

    return [
        beside("CPU of the fleet", "cpu", levels.CPU),
        beside("Memory of the fleet", "memory", levels.MEMORY),
        graph(
            "Traffic of the fleet",
            "What all hosts receive (up) and send (down).",
            "Bps",
            Query(f"sum(rate({received}[$__rate_interval]))", "received"),
            Query(f"sum(rate({sent}[$__rate_interval]))", "sent"),
            mirrored="/^sent$/",
        ),
    ]


def unusual() -> list[PanelBuilder]:
    """Return the panels: what is not as usual?"""
    far, by = f"(abs({ZSCORE}) >= 3)", "hostname, signal"
    return [
        rows(
            "Not as usual",
            "Signals whose last hour is more than 3 standard deviations from the same hour of past weeks, the farthest "
            "first. Not each is wrong: a host's page shows the band that is usual.",
            ("hostname", "signal"),
            [
                Column(f"max by ({by}) (abs({ZSCORE}) >= 3)", "Deviations", levels.UNUSUAL),
                *(
                    Column(f"max by ({by}) ({all_of(metric)} and {far})", heading, "short")
                    for heading, metric in (
                        ("Last hour", "signal:avg_1h"),
                        ("Usual", "signal:baseline:avg"),
                        ("Change in an hour", "signal:change_1h"),
                    )
                ),
            ],
            sort="Deviations",
            width=12,
            height=8,
            nothing="none",
        ),
        graph(
            "Farthest from usual",
            "The ten signals that are farthest from their usual values, in standard deviations.",
            levels.UNUSUAL,
            Query(f"topk(10, max by ({by}) (abs({ZSCORE})))", "{{hostname}} {{signal}}"),
            width=12,
        ),
    ]


def make() -> dict[str, Any]:
    """Return the dashboard."""
    return kit.dashboard(
        "limpet-capacity",
        "What will run out, when, and what is not as usual. Trends, forecasts and baselines come from the recording "
        "rules that ship with Limpet.",
        {"Now": now(), "Disks": disks(), "Trends": trends(), "Anomalies": unusual()},
        since="now-7d",
        refresh="5m",
        reboots=False,
    )
