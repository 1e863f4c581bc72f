"""Fleet: is anything wrong, and on which host? A few queries, whose cost and answer stay small with 1,000 hosts.

What is drawn over time is the median, the 95th percentile and the worst host, never a line for each; the table has a
line for each host. What needs a long memory is recorded by the rules (config/prometheus/rules), not computed here.
"""

from __future__ import annotations

from typing import Any

from dashboards import kit, levels, selectors
from dashboards.panels import Column, Query, graph, number, rows
from dashboards.selectors import ID, all_of, fullness

SEEN = all_of("limpet_start_time_seconds")
LAST = f"timestamp({SEEN}) or {all_of(selectors.LAST_SEEN)}"
"""When a host's newest sample was taken; of hosts that are silent, as the rules remember it, for three days."""
NO_RULES = "rules do not run"
ZERO = f"0 * count({all_of(selectors.LAST_SEEN)})"
"""0 where the rules run; a 0 from rules that do not run would be a lie."""

WORST = "The rows of the table below, sorted by this column, name the hosts."


def spread(metric: str) -> tuple[Query, Query, Query]:
    """Median, 95th percentile and maximum over the hosts, of the worst series of each."""
    each = f"max by ({ID}) ({metric})"
    return (
        Query(f"quantile(0.5, {each})", "median"),
        Query(f"quantile(0.95, {each})", "95 % of the hosts are below"),
        Query(f"max({each})", "worst host"),
    )


def make() -> dict[str, Any]:
    """Return the dashboard."""
    cpu = all_of("cpu_usage_percent", 'core="all"')
    age = all_of("limpet_destination_oldest_pending_age_seconds")
    pending = all_of("limpet_destination_pending_samples")
    firing = all_of("ALERTS", 'alertstate="firing"')
    critical = all_of("ALERTS", 'alertstate="firing"', 'severity="critical"')
    requests, retries = (
        all_of("limpet_destination_requests_total"),
        all_of("limpet_destination_retries_total"),
    )
    here = f"count(group by ({ID}) ({SEEN}))"
    gone = f"count({all_of('limpet:silent:bool')}) or {ZERO}"
    return kit.dashboard(
        "limpet-fleet",
        "All hosts: which are there, which are silent, and which is worst in what. A click on a host shows it.",
        {
            "Now": [
                number(
                    "Hosts reporting",
                    "Hosts with a sample in the last 5 minutes.",
                    "none",
                    Query(f"{here} or vector(0)"),
                ),
                number(
                    "Hosts silent",
                    "Hosts that reported in the last three days, but not in the last 5 minutes: off, or without a "
                    "link. What they collect meanwhile comes when the link is back.",
                    levels.NONE_WANTED,
                    Query(gone),
                    nothing=NO_RULES,
                ),
                number(
                    "Critical alerts",
                    "Alerts that fire with severity critical, from the rules that ship with Limpet.",
                    levels.NONE_WANTED,
                    Query(f"count({critical}) or {ZERO}"),
                    nothing=NO_RULES,
                ),
                number(
                    "Worst CPU",
                    f"The busiest host's CPU, all its cores together. {WORST}",
                    levels.CPU,
                    Query(f"max({cpu})"),
                ),
                number(
                    "Worst memory",
                    f"The share of memory that is not available, on the host with the least. {WORST}",
                    levels.MEMORY,
                    Query(f"max({all_of('memory_usage_percent')})"),
                ),
                number(
                    "Fullest disk",
                    f"The fullest file system of any host. {WORST}",
                    levels.DISK,
                    Query(f"max({fullness('disk_usage_percent')})"),
                ),
                number(
                    "Oldest backlog",
                    "Age of the oldest sample that a reporting host still has to send. A host that is cut off "
                    "cannot report it: it counts as silent.",
                    levels.AGE,
                    Query(f"max({age})"),
                ),
                kit.worst_loss(),
            ],
            "Hosts": [
                rows(
                    "Hosts",
                    "A row for each host that reported in the last three days, silent ones first. A click on a heading "
                    "sorts by it, a click on a host shows everything about it. Empty cells: the host is silent, or "
                    "has no such value.",
                    (*selectors.PLACES, "hostname"),
                    [
                        Column(f"time() - max by ({ID}) ({LAST})", "Last sample", levels.SILENT),
                        Column(f"max by ({ID}) ({cpu})", "CPU", levels.CPU),
                        Column(f"max by ({ID}) ({all_of('memory_usage_percent')})", "Memory", levels.MEMORY),
                        Column(
                            f"max by ({ID}) ({fullness('disk_usage_percent')})", "Fullest disk", levels.DISK
                        ),
                        Column(
                            f"max by ({ID}) ({all_of('disk_io_util_percent')})", "Busiest disk", levels.BUSY
                        ),
                        Column(
                            f"max by ({ID}) ({all_of('network_bandwidth_usage_percent')})",
                            "Bandwidth",
                            levels.BANDWIDTH,
                        ),
                        Column(f"max by ({ID}) ({age})", "Backlog age", levels.AGE),
                        Column(f"max by ({ID}) ({pending})", "Backlog samples", "short"),
                        Column(f"max by ({ID}) ({all_of(selectors.LOSS_RATIO)})", "Lost", levels.LOSS),
                        Column(
                            f"1 - sum by ({ID}) (rate({retries}[15m])) / (sum by ({ID}) (rate({requests}[15m])) > 0)",
                            "Link quality",
                            levels.QUALITY,
                        ),
                        Column(f"count by ({ID}) ({firing})", "Alerts", levels.SOME),
                    ],
                    sort="Last sample",
                    height=14,
                )
            ],
            "The fleet over time": [
                graph(
                    "Reporting hosts by region",
                    "How many hosts report. A region that falls at once is a link or a site, not its hosts. What "
                    "arrives later fills the gap afterwards.",
                    "none",
                    Query(f"count by (region) (group by ({ID}) ({SEEN}))", "{{region}}"),
                ),
                graph(
                    "CPU",
                    "Whether the whole fleet is busy or a few hosts are: the median, 95th percentile and worst host.",
                    levels.CPU,
                    *spread(cpu),
                ),
                graph(
                    "Memory",
                    "The same for the share of memory that is not available.",
                    levels.MEMORY,
                    *spread(all_of("memory_usage_percent")),
                ),
                graph(
                    "Fullest disk of each host",
                    "The same for the fullest file system of each host, without read-only ones.",
                    levels.DISK,
                    *spread(fullness("disk_usage_percent")),
                ),
                graph(
                    "Backlog",
                    "Samples that wait on all hosts together. It rises while links are down and falls while hosts "
                    "catch up; the part of hosts that are cut off appears once they are back.",
                    "short",
                    Query(f"sum({pending})", "waiting samples"),
                ),
                graph(
                    "Link quality by region",
                    "The share of requests that were no repetitions. Below 1 something on the way, or the receiver, "
                    "fails now and then.",
                    levels.QUALITY,
                    Query(
                        f"1 - sum by (region) (rate({retries}[15m])) / (sum by (region) (rate({requests}[15m])) > 0)",
                        "{{region}}",
                    ),
                ),
            ],
        },
        reboots=False,
    )
