"""Which series a panel asks for: those of the hosts that were chosen at the dashboard's head."""

from __future__ import annotations

from collections.abc import Sequence

PLACES = ("environment", "region", "datacenter", "role")
ID = ", ".join((*PLACES, "hostname"))
"""The labels that make a host: `max by (ID) (...)` keeps those of them that it has."""

# What the rules record (config/prometheus/rules), for what is too much to compute at each look.
LAST_SEEN = "limpet:last_seen:timestamp_seconds"
LOSS_RATIO = "limpet:loss:ratio"
DISK_FULL = "disk_full:seconds"


def chosen(names: Sequence[str]) -> str:
    """Return a selector for the choice at the head; `.*`, the value of All, also matches series without the label."""
    return ", ".join(f'{name}=~"${name}"' for name in names)


FILTER = chosen((*PLACES, "hostname"))
ONE = chosen(PLACES) + ', hostname="$hostname"'
"""The same where a single host is shown: equality, since Grafana escapes no expression in a single choice."""


def all_of(metric: str, *more: str) -> str:
    """Return the series of a metric of the chosen hosts, with further matchers."""
    return f"{metric}{{{', '.join((FILTER, *more))}}}"


def one_of(metric: str, *more: str) -> str:
    """Return the series of a metric of the one host that is shown, with further matchers."""
    return f"{metric}{{{', '.join((ONE, *more))}}}"


def fullness(metric: str) -> str:
    """Return a percentage of the chosen hosts' file systems without read-only ones, which are full by nature."""
    return f"({all_of(metric)} unless {all_of('disk_readonly')} > 0)"
