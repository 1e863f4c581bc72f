"""Limpet: are the agents themselves well? Buffers, ledgers, senders, what the links cost, collectors, clocks."""

from __future__ import annotations

from typing import Any

from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.models import dashboard as model

from dashboards import kit, levels, selectors
from dashboards.panels import Column, PanelBuilder, Query, graph, narrow, number, rows, timeline
from dashboards.selectors import ID, all_of

PER = f"{ID}, destination"
MONTH = 30 * 86400
GIB = 2**30


def counted(name: str, *more: str) -> str:
    """Return a destination's counter."""
    return all_of(f"limpet_destination_{name}_total", *more)


def rate(series: str) -> str:
    """Return a counter's growth a second, in each step."""
    return f"rate({series}[$__rate_interval])"


def now() -> list[PanelBuilder]:
    """Is anything wrong?"""
    wire = f"sum(rate({counted('wire_bytes')}[1h])) * {MONTH}"
    return [
        number(
            "Agents",
            "Agents that report, by their own build information.",
            "none",
            Query(f"count({all_of('limpet_build_info')}) or vector(0)"),
        ),
        number(
            "Destinations held",
            "Destinations that need an operator to fix something: a password, a certificate, a URL. Nothing is "
            "dropped meanwhile.",
            levels.NONE_WANTED,
            Query(f"sum({all_of('limpet_destination_held')}) or vector(0)"),
        ),
        kit.worst_loss(),
        number(
            "Fullest buffer",
            "The fullest buffer against its limit. A buffer may stay full of delivered history; what counts is "
            "whether undelivered data would be dropped, which the table below shows.",
            levels.Limits("percentunit", 0.8, 0.95, decimals=0),
            Query(f"max({all_of('limpet_buffer_bytes')} / {all_of('limpet_buffer_max_bytes')})"),
        ),
        number(
            "Waiting samples",
            "Samples that wait on all hosts together.",
            "short",
            Query(f"sum({all_of('limpet_destination_pending_samples')})"),
        ),
        number(
            "Worst clock",
            "The largest distance between a host's clock and its receiver's.",
            levels.SKEW,
            Query(f"max(abs({all_of('limpet_destination_clock_skew_seconds')}))"),
        ),
        number(
            "Traffic in a month",
            "Bytes of IP packets to and from the destinations in 30 days, if they continue as in the last hour.",
            "bytes",
            Query(wire),
        ),
        number(
            "Cost in a month",
            "The same in money, at the price for a GiB that is given at the head of the page.",
            "currencyUSD",
            Query(f"{wire} / {GIB} * $price"),
            decimals=2,
        ),
    ]


def ledgers() -> list[PanelBuilder]:
    """Return the panels: does every sample arrive, and what became of the others?"""
    appended, delivered = counted("appended_samples"), counted("delivered_samples")
    dropped, pending = counted("dropped_samples"), all_of("limpet_destination_pending_samples")
    return [
        rows(
            "Ledgers",
            "What became of every sample, since each buffer began: appended is the sum of delivered, pending and "
            "dropped. `Unaccounted` is what is left of that sum, and is always 0.",
            (*selectors.PLACES, "hostname", "destination"),
            [
                Column(f"max by ({PER}) ({appended})", "Appended", "short"),
                Column(f"max by ({PER}) ({delivered})", "Delivered", "short"),
                Column(f"max by ({PER}) ({pending})", "Pending", "short"),
                Column(f"sum by ({PER}) ({dropped})", "Dropped", "short"),
                Column(
                    f"abs(max by ({PER}) ({appended}) - max by ({PER}) ({delivered}) - max by ({PER}) ({pending}) "
                    f"- sum by ({PER}) ({dropped}))",
                    "Unaccounted",
                    levels.NONE_WANTED,
                ),
                Column(
                    f"max by ({PER}) ({all_of('limpet_destination_oldest_pending_age_seconds')})",
                    "Oldest waits for",
                    levels.AGE,
                ),
            ],
            sort="Pending",
            height=10,
        ),
        graph(
            "Collected and delivered",
            "Samples that all agents append and deliver in a second. Delivered above appended is a backlog that "
            "drains; below it one grows.",
            "cps",
            Query(f"sum({rate(appended)})", "appended"),
            Query(f"sum({rate(delivered)})", "delivered"),
        ),
        graph(
            "Dropped, by reason",
            "Samples given up in each step. `evicted`, `thinned`: the buffer was full; `aged`, `rejected`: the "
            "receiver refused them; `corrupt`: the disk; `relabeled`: dropped on purpose, by configuration; "
            "`unstorable`: a value that the destination has no room for, such as NaN; `unchanged`: equal to the one before.",
            "short",
            Query(f"sum by (reason) (increase({dropped}[$__rate_interval]))", "{{reason}}"),
            stacked=True,
        ),
        graph(
            "Not collected",
            "Samples that the grid should have and has not, by the agents' own estimate, in each step.",
            levels.NONE_WANTED._replace(unit="short"),
            Query(
                f"topk(10, sum by ({ID}) (increase({all_of('limpet_buffer_missed_samples_total')}[$__rate_interval])) > 0)",
                "{{hostname}}",
            ),
        ),
    ]


def buffers() -> list[PanelBuilder]:
    """Is there room for the next outage?"""
    size, limit = all_of("limpet_buffer_bytes"), all_of("limpet_buffer_max_bytes")
    written = all_of("limpet_buffer_written_bytes_total")
    return [
        narrow(
            "Buffers against their limit",
            "The median, 95th percentile and fullest buffer. At 1 old data is made coarser, then dropped.",
            levels.Limits("percentunit", 0.8, 0.95, top=1),
            Query(f"quantile(0.5, {size} / {limit})", "median"),
            Query(f"quantile(0.95, {size} / {limit})", "95 % of the hosts are below"),
            Query(f"max({size} / {limit})", "fullest"),
        ),
        narrow(
            "Waiting samples, largest ten",
            "The hosts with the largest backlog, by destination.",
            "short",
            Query(
                f"topk(10, max by ({PER}) ({all_of('limpet_destination_pending_samples')}))",
                "{{hostname}} {{destination}}",
            ),
        ),
        narrow(
            "Hours until full, soonest ten",
            "When a buffer will be full if it keeps growing as in the last hour; those that do not grow are absent. "
            "Called below 12 hours.",
            levels.Limits("h", 12, 1, below=True),
            Query(
                f"bottomk(10, min by ({ID}) ({all_of('limpet:buffer_full:seconds')}) / 3600)", "{{hostname}}"
            ),
        ),
        narrow(
            "Written to disk in a day, largest ten",
            "What the buffers write, segments and cursors: the wear of flash memory.",
            "bytes",
            Query(f"topk(10, sum by ({ID}) (rate({written}[$__rate_interval])) * 86400)", "{{hostname}}"),
        ),
        graph(
            "Failed appends",
            "Appends that failed, in each step: the host's disk was full or broken, and a tick is missing.",
            levels.NONE_WANTED,
            Query(
                f"topk(10, sum by ({ID}) (increase({all_of('limpet_buffer_append_failures_total')}[$__rate_interval])))",
                "{{hostname}}",
            ),
            width=12,
        ),
        graph(
            "Buffer bytes in all",
            "Size of all buffers together, next to the sum of their limits.",
            "bytes",
            Query(f"sum({size})", "in use"),
            Query(f"sum({limit})", "limit"),
            dashed="limit",
            width=12,
        ),
    ]


def senders() -> list[PanelBuilder]:
    """How do the links do, and what do they cost?"""
    requests, retries, seconds = counted("requests"), counted("retries"), counted("send_seconds")
    wire, body, delivered = counted("wire_bytes"), counted("sent_bytes"), counted("delivered_samples")
    return [
        timeline(
            "Held destinations",
            "When a destination needed an operator to fix something. It gets this news itself only afterwards.",
            Query(
                f"max by ({PER}) ({all_of('limpet_destination_held')}) > 0", "{{hostname}} {{destination}}"
            ),
            states={"1": ("held", levels.RED)},
            limits=levels.NONE_WANTED,
            height=5,
            nothing="none was held",
        ),
        graph(
            "Destinations by type",
            "Agents that send to each destination, with its type.",
            "none",
            Query(
                f"count by (destination, type) ({all_of('limpet_destination_info')})",
                "{{destination}} ({{type}})",
            ),
            width=24,
            height=5,
        ),
        graph(
            "Requests",
            "Requests in a second, and those of them that were repetitions.",
            "reqps",
            Query(f"sum({rate(requests)})", "requests"),
            Query(f"sum({rate(retries)})", "repetitions"),
        ),
        graph(
            "Worst links",
            "The ten hosts with the largest share of repeated requests.",
            levels.Limits("percentunit", 0.01, 0.1, top=1),
            Query(
                f"topk(10, sum by ({PER}) ({rate(retries)}) / (sum by ({PER}) ({rate(requests)}) > 0) > 0)",
                "{{hostname}} {{destination}}",
            ),
        ),
        graph(
            "Time of a request, slowest ten",
            "How long a request takes until its answer, on average: the line, and the receiver.",
            "s",
            Query(
                f"topk(10, sum by ({PER}) ({rate(seconds)}) / (sum by ({PER}) ({rate(requests)}) > 0))",
                "{{hostname}} {{destination}}",
            ),
        ),
        graph(
            "Bytes for a sample",
            "What a delivered sample costs on the wire, as IP packets both ways, and as the body of requests alone. "
            "Small batches cost more: see queue_config.batch_send_deadline.",
            "bytes",
            Query(f"sum({rate(wire)}) / (sum({rate(delivered)}) > 0)", "on the wire"),
            Query(f"sum({rate(body)}) / (sum({rate(delivered)}) > 0)", "body"),
        ),
        rows(
            "What the links cost",
            "Bytes of IP packets to and from each destination in the last day, and in 30 days at that rate; the "
            "cost is at the price for a GiB that is given at the head of the page.",
            ("hostname", "destination"),
            [
                Column(f"sum by (hostname, destination) (increase({wire}[1d]))", "1 day", "bytes"),
                Column(f"sum by (hostname, destination) (rate({wire}[1d])) * {MONTH}", "A month", "bytes"),
                Column(
                    f"sum by (hostname, destination) (rate({wire}[1d])) * {MONTH} / {GIB} * $price",
                    "Cost",
                    "currencyUSD",
                    2,
                ),
            ],
            sort="A month",
            width=16,
            height=8,
        ),
    ]


def collectors() -> list[PanelBuilder]:
    """Return the panels: does collecting work?"""
    trouble = {
        "Failed": "limpet_collector_failures_total",
        "Left behind": "limpet_collector_timeouts_total",
        "Unreadable": "limpet_collector_unreadable_total",
    }
    by = "hostname, collector"
    return [
        graph(
            "Slowest run of each collector",
            "How long a collector's run takes on the slowest host. Beyond collect.timeout it is left behind.",
            levels.Limits("s", 1, 5),
            Query(f"max by (collector) ({all_of('limpet_collector_duration_seconds')})", "{{collector}}"),
        ),
        rows(
            "Collectors in trouble",
            "Runs in the last hour that raised an error (failed) or took too long (left behind), and what could not "
            "be read in it: a file, a device, a mount point. The host's log names each.",
            ("hostname", "collector"),
            [
                Column(f"sum by ({by}) (increase({all_of(metric)}[1h])) > 0", heading, levels.NONE_WANTED, 0)
                for heading, metric in trouble.items()
            ],
            sort="Failed",
            width=8,
            height=8,
            nothing="none",
        ),
        rows(
            "Mounts that hang",
            "Mount points that do not answer, and for how long. All others are collected as usual.",
            ("hostname", "mountpoint"),
            [
                Column(
                    f"max by (hostname, mountpoint) ({all_of('limpet_collector_stuck_seconds')})",
                    "Hangs for",
                    levels.Limits("s", 60, 300, decimals=0),
                )
            ],
            sort="Hangs for",
            width=8,
            height=8,
            nothing="none",
        ),
    ]


def agents() -> list[PanelBuilder]:
    """Return the panels: memory, CPU, clocks and versions of the agents."""
    skew = all_of("limpet_destination_clock_skew_seconds")
    return [
        narrow(
            "Memory of the agents",
            "Resident memory: the median, and the largest. It stays flat, below 40 MB without large "
            "scrape targets; above 100 MB something leaks.",
            levels.Limits("bytes", 60e6, 100e6),
            Query(f"quantile(0.5, {all_of('limpet_resident_memory_bytes')})", "median"),
            Query(f"max({all_of('limpet_resident_memory_bytes')})", "largest"),
        ),
        narrow(
            "CPU of the agents",
            "Of one core: the median, and the largest. Far below 1 % is normal; 5 % is the most that the agent may take.",
            levels.Limits("percentunit", 0.02, 0.05),
            Query(f"quantile(0.5, {rate(all_of('limpet_cpu_seconds_total'))})", "median"),
            Query(f"max({rate(all_of('limpet_cpu_seconds_total'))})", "largest"),
        ),
        narrow(
            "Clocks",
            "The ten hosts whose clock is farthest from their receiver's: ahead above 0, behind below.",
            levels.SKEW,
            Query(f"{skew} and topk(10, abs({skew}))", "{{hostname}} {{destination}}"),
            low=None,
        ),
        rows(
            "Versions",
            "How many agents run which version: how far an update has come.",
            ("version",),
            [Column(f"count by (version) ({all_of('limpet_build_info')})", "Agents", "none")],
            sort="Agents",
            width=6,
            height=8,
        ),
        graph(
            "Samples that wait for a clock",
            "Samples that hosts collected while their clock was not believed, as they report when it is: before that they send nothing.",
            levels.Limits("short", None, None),
            Query(f"topk(10, {all_of('limpet_clock_provisional_samples')})", "{{hostname}}"),
            width=24,
            height=6,
        ),
    ]


def make() -> dict[str, Any]:
    """Return the dashboard."""
    price = (
        build.TextBoxVariable("price")
        .label("Price of a GiB")
        .description("What a GiB costs on these links, for the cost in a month.")
        .default_value("5")
        .current(model.VariableOption(selected=True, text="5", value="5"))
        .options([model.VariableOption(selected=True, text="5", value="5")])
    )
    return kit.dashboard(
        "limpet-agents",
        "The agents themselves: does every sample arrive, is there room for the next outage, what do the links "
        "cost, does collecting work.",
        {
            "Now": now(),
            "Ledgers": ledgers(),
            "Buffers": buffers(),
            "Senders and links": senders(),
            "Collectors": collectors(),
            "Agents": agents(),
        },
        reboots=False,
        more=[price],
    )
