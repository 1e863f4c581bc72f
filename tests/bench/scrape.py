"""What scraping costs: a target of 5,000 series, most of which change, scraped every second.

    python -m tests.bench.scrape              about five minutes
    python -m tests.bench.scrape --for 30     the same over a shorter time

First the parser alone, compared with prometheus_client's: docs/decisions/0013 decides between them. Then three real
agents: one scrapes the target, a process of its own, and sends over TLS to a real Prometheus; one does the same without
the target; one scrapes it and sends nothing. The differences between them are what the target costs.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from agent.scrape.naming import Naming
from agent.scrape.table import Table
from tests.bench import steady
from tests.bench.__main__ import surroundings
from tests.bench.figures import Figure, table
from tests.bench.process import ask, cpu_seconds, memory
from tests.support.agent import Agent
from tests.support.certs import Certs, make_certs
from tests.support.exporter import RECORDED, Load, exporting, recorded
from tests.support.net import wait_for
from tests.support.prometheus import Prometheus
from tools.servers import ensure

SERIES = 5000
LIMIT = 25.0
"""Percent of a core for such a target, every second."""
OURS = {"hostname": "web-01", "environment": "production", "job": "app", "instance": "localhost:9100"}
IMPORT = """
import json, sys
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096
import agent.process
before = resident()
import prometheus_client.parser, prometheus_client.openmetrics.parser
print(json.dumps(resident() - before))
"""
TABLE = """
import json, sys
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096
from agent.scrape.naming import Naming
from agent.scrape.table import Table
from tests.support.exporter import Load
load, naming = Load(int(sys.argv[1])), Naming({"hostname": "web-01", "job": "app", "instance": "localhost:9100"})
table = Table(naming, 100_000)
table.read(b"a 1\\n", openmetrics=False)
load()
before = resident()
for _ in range(10):
    table.read(load(), openmetrics=False)
    naming.rest()
print(json.dumps(resident() - before))
"""


def parsers() -> Iterator[Figure]:
    """The parser alone, and the library."""
    load = Load(SERIES)
    bodies = [load() for _ in range(8)]
    texts = [body.decode() for body in bodies]

    def fresh() -> Table:
        return Table(Naming(OURS), 100_000)

    warm = fresh()
    warm.read(bodies[0], openmetrics=False)
    how = f"{SERIES} series, {len(bodies[0]) / 1e3:.0f} kB, to series and values; from the second one on"
    cpu = cpu_of(lambda i: warm.read(bodies[i % 8], openmetrics=False))
    yield Figure("CPU of an exposition", 1e3 * cpu, "ms", None, how)
    cpu = cpu_of(lambda i: fresh().read(bodies[i % 8], openmetrics=False))
    yield Figure("CPU of the first one", 1e3 * cpu, "ms", None, "every line is parsed and every series named")
    cpu, how = cpu_of(lambda i: library(texts[i % 8])), "parsed, and the series looked up by name and labels"
    yield Figure("CPU of one by prometheus_client", 1e3 * cpu, "ms", None, how)
    for name in RECORDED:
        body, of_it = recorded(name), fresh()
        text, count = body.decode(), len(of_it.read(body, openmetrics=False).series)
        ours, theirs = cpu_of(lambda _: of_it.read(body, openmetrics=False)), cpu_of(lambda _: library(text))  # noqa: B023
        how = f"{count} series; by prometheus_client {1e6 * theirs / count:.1f} us"
        yield Figure(f"CPU of a sample, {name}", 1e6 * ours / count, "us", None, how)
    held, imported = number(TABLE, str(SERIES)), number(IMPORT)
    yield Figure("memory of the series", held / 1e6, "MB", None, "of the target's own side alone")
    yield Figure("memory of importing prometheus_client", imported / 1e6, "MB", None, "both its parsers")


KNOWN: dict[Any, int] = {}


def library(text: str) -> list[float]:
    """The same with prometheus_client: a value for each series, which is looked up."""
    values = []
    for each in text_string_to_metric_families(text):
        for one in each.samples:
            KNOWN.setdefault((one.name, tuple(one.labels.items())), len(KNOWN))
            values.append(one.value)
    return values


def cpu_of(run: Callable[[int], object], times: int = 12) -> float:
    """The CPU seconds of a run, the median of several."""
    found = []
    for i in range(times):
        begun = time.process_time()
        run(i)
        found.append(time.process_time() - begun)
    return sorted(found)[len(found) // 2]


def number(code: str, *arguments: str) -> float:
    """Run code in a process of its own; it prints a number."""
    return float(ask(code, *arguments))  # type: ignore[arg-type]


def agents(folder: Path, server: Prometheus, certs: Certs, seconds: float) -> Iterator[Figure]:
    """The real agent, with and without the target, for so many seconds after the warm-up."""
    with exporting(SERIES) as url:
        collect = {"interval": "1s", "collectors": {"scrape": {"targets": [{"url": url, "job": "app"}]}}}
        made = {
            name: steady.agent(folder / name, server, certs, "1s") for name in ("with", "without", "silent")
        }
        for name in ("with", "silent"):
            made[name].config["collect"] = collect
        made["silent"].config["remote_write"] = []
        with made["with"] as with_it, made["without"] as without, made["silent"] as silent:
            time.sleep(steady.WARM_UP)
            cpu = {name: cpu_seconds(each.pid) for name, each in made.items()}
            since = time.monotonic()
            sent, taken = reported(with_it, server)
            time.sleep(seconds)
            took = time.monotonic() - since
            spent = {name: 100 * (cpu_seconds(each.pid) - cpu[name]) / took for name, each in made.items()}
            most = {name: memory(each.pid) for name, each in made.items()}
            wait_for(lambda: reported(with_it, server)[1] > taken, 60, "what was delivered")
            sent_now, taken_now = reported(with_it, server)
            stored = steady.look_into(with_it.data_dir)
            for each in (with_it, without, silent):
                each.stop()
    how = f"{took:.0f} s after {steady.WARM_UP:.0f} s of warm-up"
    how = f"{SERIES} series each second; {how}"
    yield Figure("CPU of a core, the whole agent", spent["with"], "%", LIMIT, how)
    yield Figure("of this, without the sender", spent["silent"], "%", None, "scrape, append, sync")
    own = "the host's own series each second"
    yield Figure("CPU of a core without the target", spent["without"], "%", None, own)
    named = {"with": "resident memory", "silent": "without the sender", "without": "without the target"}
    for which, name in named.items():
        yield Figure(name, most[which].now / 1e6, "MB", None, f"peak {most[which].peak / 1e6:.1f} MB")
    yield Figure("on disk", stored.bytes / stored.samples, "B/sample", None, f"{stored.samples} samples")
    how = f"request bodies at max_samples_per_send 10000; {taken_now - taken:.0f} samples"
    yield Figure("on the wire", (sent_now - sent) / (taken_now - taken), "B/sample", None, how)


def reported(agent: Agent, server: Prometheus) -> tuple[float, float]:
    """Bytes of bodies that the agent has sent, and samples that were delivered, at the same moment."""
    found = []
    for name in ("sent_bytes_total", "delivered_samples_total"):
        query = f'last_over_time(limpet_destination_{name}{{hostname="{agent.folder.name}"}}[5m])'
        found.append(sum(server.query(query).values()))
    return found[0], found[1]


def main() -> int:
    """Measure, and show it."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.scrape", description="Measure what scraping costs."
    )
    parser.add_argument(
        "--for", type=float, default=180.0, dest="seconds", help="seconds of the agents' time"
    )
    seconds = parser.parse_args().seconds
    server = ensure("prometheus")
    facts = surroundings(server)
    figures = list(parsers())
    with tempfile.TemporaryDirectory(prefix="limpet-bench-") as name:
        folder = Path(name)
        certs = make_certs(folder)
        with Prometheus(server.path, folder / "prometheus", certs=certs) as prometheus:
            figures += agents(folder, prometheus, certs, seconds)
    print(table(figures))
    print()
    for fact, value in facts.items():
        print(f"- {fact}: {value}")
    return 1 if any(figure.verdict == "MISSED" for figure in figures) else 0


if __name__ == "__main__":
    sys.exit(main())
