"""What a fleet needs, computed: the tables of docs/capacity.md, and the limits of the Mimir stack.

    python -m tools.sizing      writes the tables into the page

The page has `<!-- sizing: NAME -->` before a table and `<!-- end -->` behind it; tests/unit/test_sizing.py compares, and
compares the constants here with what was measured (docs/benchmarks.md) and what is configured (packaging/compose).
Sizes are powers of ten: 1 GB = 10^9 bytes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from math import ceil
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "capacity.md"
DAY_S = 86_400

HOSTS = (1, 10, 100, 1_000, 10_000)
SERIES_PER_HOST = 230
INTERVAL_S = 10
RETENTION_DAYS = 35

# docs/benchmarks.md: bytes of a request's body for a sample; the first is remote write 2.0 as it is by default.
WIRE_STEADY = 9.19
WIRE_STEADY_BARE = 9.03
WIRE_STEADY_1 = 10.7
WIRE_DRAINING = 3.92
DRAINING_BODIES = 3.88
"""Of WIRE_DRAINING, which counts TLS and HTTP too."""
REQUEST_SAMPLES = 9_948
REQUEST_S = 30
"""A request is sent at the latest after this time: queue_config.batch_send_deadline."""
DRAIN_SAMPLES_PER_S = 46_860
"""One host, on a link with a round trip of 200 ms."""

# python -m tests.bench.tsdb: bytes of a sample in compacted blocks of Prometheus, index and all.
DISK = {10: 1.97, 60: 2.33, 3600: 2.83}
BLOCKS_KEPT = 1.1
"""A block goes when all of it is past the retention, and the largest are a tenth of it (31 days at most)."""

# Prometheus's resident memory, measured with series as Limpet sends them (docs/capacity.md), doubled for queries, rules,
# and reading its log after a restart.
RAM_EMPTY = 70e6
RAM_PER_SERIES = 2 * 2_750

# What the rules record of a host at most, without the tiers: tests/integration/test_dashboards.py counts it.
RECORDED_PER_HOST = 40

# Grafana's own numbers for Mimir ("Planning Grafana Mimir capacity"): see docs/capacity.md.
MIMIR_RF = 3
DISTRIBUTOR_SAMPLES = 25_000
"""Samples a second for one core and 1 GB of a distributor."""
INGESTER_SERIES = 300_000
"""Series in memory for one core and 2.5 GB of an ingester."""
INGESTER_GB = 2.5
SPARE = 1.5
"""The same page: half as much again for peaks."""
SERIES_PER_INGESTER = 1_000_000
"""Ours: what one ingester should hold in memory, so that it starts again within minutes."""

# The limits of packaging/compose/mimir.yaml.
STACK_HOSTS = 1_000
INGESTION_RATE = 100_000
INGESTION_BURST = 1_000_000
MAX_SERIES = 600_000


class Fleet(NamedTuple):
    """So many hosts, each with `SERIES_PER_HOST` series every `INTERVAL_S`."""

    hosts: int

    @property
    def series(self) -> int:
        """Series that are written at any time."""
        return self.hosts * SERIES_PER_HOST

    @property
    def rate(self) -> float:
        """Samples a second."""
        return self.series / INTERVAL_S

    @property
    def all_series(self) -> int:
        """With those that the rules record."""
        return self.hosts * (SERIES_PER_HOST + RECORDED_PER_HOST)

    def wire(self, per_sample: float) -> float:
        """Bytes a day up the links of all hosts: bodies, and what each request adds."""
        added = (WIRE_DRAINING - DRAINING_BODIES) * REQUEST_SAMPLES
        requests = self.hosts * DAY_S / REQUEST_S
        return self.rate * DAY_S * per_sample + requests * added

    def disk(self, days: float, step_s: int = INTERVAL_S, series_per_host: float = SERIES_PER_HOST) -> float:
        """Bytes of Prometheus's blocks after so many days."""
        return self.hosts * series_per_host * days * DAY_S / step_s * DISK[step_s] * BLOCKS_KEPT

    @property
    def ram(self) -> float:
        """Bytes of memory that Prometheus should have."""
        return RAM_EMPTY + self.all_series * RAM_PER_SERIES

    @property
    def ingesters(self) -> int:
        """Ingesters of a Mimir that keeps `MIMIR_RF` copies; as many as copies at least."""
        return max(MIMIR_RF, ceil(self.all_series * MIMIR_RF / SERIES_PER_INGESTER))

    def mimir(self, copies: int) -> tuple[float, float]:
        """Cores and bytes of memory of distributors and ingesters."""
        distributor = self.rate / DISTRIBUTOR_SAMPLES
        ingester = self.all_series * copies / INGESTER_SERIES
        return distributor + ingester, (distributor + ingester * INGESTER_GB) * SPARE * 1e9


def size(value: float) -> str:
    """Return bytes for people, with two or three digits."""
    units = ["B", "kB", "MB", "GB", "TB"]
    while value >= 999.5 and len(units) > 1:
        value /= 1000
        units.pop(0)
    return f"{value:.0f} {units[0]}" if value >= 10 or units[0] == "B" else f"{value:.1f} {units[0]}"


def number(value: float) -> str:
    """Return a number with commas, and one decimal where it is small."""
    return f"{value:,.0f}" if value >= 10 or value == int(value) else f"{value:.1f}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table of Markdown, numbers to the right."""
    lines = [head, ["---:"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def fleets() -> str:
    """Return the sizing table."""
    head = ["hosts", "series", "with recorded ones", "samples a second", "sent a day", "steadily"]
    head += [f"disk, {RETENTION_DAYS} days", "memory of Prometheus"]
    rows = []
    for fleet in map(Fleet, HOSTS):
        sent = fleet.wire(WIRE_STEADY)
        bits = sent * 8 / DAY_S
        shown = f"{bits / 1e6:.1f} Mbit/s" if bits >= 1e6 else f"{bits / 1e3:.1f} kbit/s"
        rows.append(
            (
                *(number(fleet.hosts), number(fleet.series), number(fleet.all_series), number(fleet.rate)),
                *(size(sent), shown, size(fleet.disk(RETENTION_DAYS)), size(fleet.ram)),
            )
        )
    return table(head, rows)


def wires() -> str:
    """Return what a host sends a day, by protocol."""
    host = Fleet(1)
    rows = [
        ("2.0, the default", f"{WIRE_STEADY}", size(host.wire(WIRE_STEADY))),
        ("1.0", f"{WIRE_STEADY_1}", size(host.wire(WIRE_STEADY_1))),
        ("2.0, `metadata_config: {send: false}`", f"{WIRE_STEADY_BARE}", size(host.wire(WIRE_STEADY_BARE))),
        ("a day's backlog, 2.0", f"{WIRE_DRAINING}", size(host.rate * DAY_S * WIRE_DRAINING)),
    ]
    return table(("protocol", "bytes a sample", "a host and day"), rows)


def mimirs() -> str:
    """Return Mimir by size of the fleet: one process without copies, and a cluster."""
    head = (
        "hosts",
        "one process: cores",
        "memory",
        "cluster: series in memory",
        "ingesters",
        "cores",
        "memory",
    )
    rows = []
    for fleet in map(Fleet, HOSTS):
        (cores, memory), (all_cores, all_memory) = fleet.mimir(1), fleet.mimir(MIMIR_RF)
        rows.append(
            (
                *(number(fleet.hosts), number(max(1, ceil(cores))), size(max(1e9, memory))),
                *(number(fleet.all_series * MIMIR_RF), number(fleet.ingesters)),
                *(
                    number(max(fleet.ingesters, ceil(all_cores))),
                    size(max(1e9 * fleet.ingesters, all_memory)),
                ),
            )
        )
    return table(head, rows)


def returns() -> str:
    """Return how long the Mimir stack takes for a backlog of the whole fleet, with what its limit leaves."""
    fleet = Fleet(STACK_HOSTS)
    rows = [
        (
            name,
            number(fleet.rate * hours * 3600),
            f"{fleet.rate * hours / (INGESTION_RATE - fleet.rate):.1f} h",
        )
        for name, hours in (("an hour", 1), ("a night, 12 h", 12), ("a day", 24), ("a week", 168))
    ]
    return table((f"{number(STACK_HOSTS)} hosts were away for", "samples", "until all is there"), rows)


def tier_series(step: str) -> float:
    """Return the series of a host in a tier: of each metric's series as many as config/prometheus/rules/tiers.rules.yml records."""
    rules = (ROOT / "config" / "prometheus" / "rules" / "tiers.rules.yml").read_text()
    recorded = re.findall(rf"record: (\w+):(?:avg|max|min|last)_{step}\b", rules)
    return SERIES_PER_HOST * len(recorded) / len(set(recorded))


def tiers() -> str:
    """Return what the tiers take on Prometheus's disk."""
    kinds: list[tuple[str, Callable[[Fleet], float]]] = [
        ("10 s, 7 days", lambda fleet: fleet.disk(7)),
        ("1 min, 30 days", lambda fleet: fleet.disk(30, 60, tier_series("1m"))),
        ("1 h, 1 year", lambda fleet: fleet.disk(365, 3600, tier_series("1h"))),
        ("the three together", lambda fleet: sum(kind(fleet) for _, kind in kinds[:3])),
        (f"10 s, {RETENTION_DAYS} days, as the stack has it", lambda fleet: fleet.disk(RETENTION_DAYS)),
        ("10 s, 1 year", lambda fleet: fleet.disk(365)),
    ]
    rows = [(name, *(size(kind(Fleet(hosts))) for hosts in (1, 100, 1_000))) for name, kind in kinds]
    return table(("kept", "1 host", "100 hosts", "1,000 hosts"), rows)


TABLES: dict[str, Callable[[], str]] = {
    "fleets": fleets,
    "wires": wires,
    "mimirs": mimirs,
    "returns": returns,
    "tiers": tiers,
}


def filled(page: str) -> str:
    """Return the page with its tables as they are computed."""
    return re.sub(
        r"(<!-- sizing: (\w+) -->\n).*?(<!-- end -->)",
        lambda found: f"{found[1]}{TABLES[found[2]]()}{found[3]}",
        page,
        flags=re.DOTALL,
    )


def main() -> None:
    PAGE.write_text(filled(PAGE.read_text()))


if __name__ == "__main__":
    main()
