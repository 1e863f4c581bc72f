"""Limpet next to its peers: Prometheus in agent mode and vmagent, the same targets, the same receiver, one run.

    python -m tests.bench.peers               five minutes
    python -m tests.bench.peers --away 20     the same with an outage of 20 s, two minutes

Each of the three scrapes two targets every second, over loopback: a program with LARGE gauges, whose values are random doubles,
and node_exporter, which is the host data. All push to one Prometheus over TLS, each through a gate of its own. After a while the
gates close: connections are cut, and refused. Then the targets end, and one gate after another opens; what is measured is each
sender alone, from there until hardly anything comes:

- the time to the first sample that the receiver has of it;
- bytes on the wire (TLS, HTTP, bodies) and CPU seconds of the process for a sample of those that came since;
- samples a second from the first to the last byte but one in twenty, which waits for a deadline;
- its peak resident memory, from its start.

Each sender has a process for each of the targets. Limpet's own collectors are off, since its peers have none.
"""

from __future__ import annotations

import argparse
import json
import random
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple, Self

import yaml

from agent.collectors import COLLECTORS
from tests.bench.__main__ import surroundings
from tests.bench.figures import Figure, number
from tests.bench.process import compiled, cpu_seconds, memory
from tests.bench.relay import Relay
from tests.support.agent import Agent
from tests.support.certs import Certs, make_certs
from tests.support.exporter import Exporter, Page
from tests.support.net import free_port, wait_for
from tests.support.node_exporter import NodeExporter
from tests.support.prometheus import Prometheus
from tests.support.server import Server, tied
from tools.servers import ensure

LARGE = 5_000
LIVE = 20.0
"""Seconds of sending before the outage."""
AWAY = 120.0
QUIET, TRICKLE = 6.0, 0.01
"""Seconds in which less than this part of the bytes has come: all report that their target is down, each second."""
DRAINED_WITHIN = 180.0
COUNTABLE = ("--enable-feature=promql-delayed-name-removal",)
"""Without it samples of several metrics with the same labels cannot be counted together."""
NAMES = ("limpet", "prometheus", "vmagent")
TITLES = {"limpet": "Limpet", "prometheus": "Prometheus agent", "vmagent": "vmagent"}


class Gate(Relay):
    """A relay that can refuse connections, and take them again on the same port."""

    def shut(self) -> None:
        """Cut what there is, and refuse what comes."""
        for one in (self._listener, *self._sockets):
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # its peer was first
            one.close()
        self._sockets.clear()

    def reopen(self) -> Self:
        """Listen again, and count from zero."""
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self.sent = self.received = 0
        self.trace.clear()
        self.open()
        return self.__enter__()


class Sender(NamedTuple):
    """A process that scrapes one target and sends to its gate."""

    name: str
    target: str
    pid: int
    gate: Gate


class Load:
    """An exposition of gauges that are random doubles."""

    def __init__(self) -> None:
        self._draw = random.Random(1)
        self._lines = [
            f'app_duration_{i % 50}_seconds{{method="GET",path="/api/v1/items/{i // 50}",status="200"}} '
            for i in range(LARGE)
        ]

    def __call__(self) -> bytes:
        """Return the body of an answer."""
        draw = self._draw.random
        return "".join([f"{line}{draw()!r}\n" for line in self._lines]).encode()


def expose(port: int) -> None:
    """Serve the large target until the process is ended."""
    with Exporter({"/metrics": Page(Load())}, port=port):
        time.sleep(3600)


def _limpet(folder: Path, url: str, certs: Certs, target: str, labels: Mapping[str, str]) -> Agent:
    agent = Agent(folder, [])
    agent.environment = compiled(agent.environment)
    collectors: dict[str, Any] = {name: {"enabled": False} for name in COLLECTORS}
    collectors["scrape"] = {"targets": [{"url": target, "job": "bench"}]}
    agent.config = {
        "hostname": "bench",
        "labels": dict(labels),
        "data_dir": "data",
        "collect": {"interval": "1s", "own_interval": "60s", "collectors": collectors},
        "remote_write": [{"url": url, "name": "central", "tls_config": {"ca_file": str(certs.ca)}}],
    }
    return agent


def _prometheus(folder: Path, url: str, certs: Certs, target: str, labels: Mapping[str, str]) -> list[str]:
    host = target.split("/")[2]
    config = {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "external_labels": dict(labels)},
        "scrape_configs": [{"job_name": "bench", "static_configs": [{"targets": [host]}]}],
        "remote_write": [{"url": url, "tls_config": {"ca_file": str(certs.ca)}}],
    }
    (folder / "agent.yml").write_text(yaml.safe_dump(config))
    return [
        str(ensure("prometheus").path),
        "--agent",
        f"--config.file={folder / 'agent.yml'}",
        f"--storage.agent.path={folder / 'wal'}",
        f"--web.listen-address=127.0.0.1:{free_port()}",
    ]


def _vmagent(folder: Path, url: str, certs: Certs, target: str, labels: Mapping[str, str]) -> list[str]:
    host = target.split("/")[2]
    config = {
        "global": {"scrape_interval": "1s", "external_labels": dict(labels)},
        "scrape_configs": [{"job_name": "bench", "static_configs": [{"targets": [host]}]}],
    }
    (folder / "scrape.yml").write_text(yaml.safe_dump(config))
    return [
        str(ensure("victoria-metrics").path.with_name("vmagent")),
        f"-promscrape.config={folder / 'scrape.yml'}",
        f"-remoteWrite.url={url}",
        "-remoteWrite.forcePromProto",
        f"-remoteWrite.tlsCAFile={certs.ca}",
        f"-remoteWrite.tmpDataPath={folder / 'queue'}",
        f"-httpListenAddr=127.0.0.1:{free_port()}",
    ]


PEERS: dict[str, Callable[[Path, str, Certs, str, Mapping[str, str]], list[str]]] = {
    "prometheus": _prometheus,
    "vmagent": _vmagent,
}


def figures(folder: Path, certs: Certs, away: float) -> Iterator[Figure]:
    """Measure all of them with an outage of so many seconds."""
    with ExitStack() as stack:
        receiver = stack.enter_context(
            Prometheus(ensure("prometheus").path, folder / "receiver", certs=certs, flags=COUNTABLE)
        )
        port = free_port()
        command = [sys.executable, "-m", "tests.bench.peers", "--expose", str(port)]
        large = subprocess.Popen(tied(command))
        stack.callback(large.wait)
        stack.callback(large.kill)
        node = NodeExporter(
            ensure("node-exporter").path, folder / "node", flags=("--no-collector.filesystem",)
        )
        stack.enter_context(node)
        urls = {"5,000 series": f"http://127.0.0.1:{port}/metrics", "host data": f"{node.url}/metrics"}
        senders = []
        for (target, url), name in product(urls.items(), NAMES):
            gate = stack.enter_context(Gate(receiver.port))
            gate.open()
            here = folder / f"{name}-{target.replace(' ', '-')}"
            here.mkdir()
            to = f"https://127.0.0.1:{gate.port}/api/v1/write"
            labels = {"sender": name, "of": target}
            senders.append(Sender(name, target, _started(stack, name, (here, to, certs, url, labels)), gate))
        time.sleep(LIVE)
        for one in senders:
            if not count(receiver, one):
                raise RuntimeError(f"nothing has come from {one.name} of {one.target}")
            one.gate.shut()
        time.sleep(away)
        large.kill()
        node.stop()
        time.sleep(2)  # a scrape that was under way
        for one in senders:
            yield from _drained(receiver, one)


def _started(stack: ExitStack, name: str, what: tuple[Path, str, Certs, str, Mapping[str, str]]) -> int:
    """Start a sender, and return its pid."""
    if name == "limpet":
        return stack.enter_context(_limpet(*what)).pid
    folder = what[0]
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(tied(PEERS[name](*what)), stdout=log, stderr=log)
    stack.callback(process.wait)
    stack.callback(process.kill)
    return process.pid


def count(receiver: Server, one: Sender, metric: str = "") -> int:
    """Return how many samples the receiver has of a sender, all or those of a metric."""
    query = f'sum(count_over_time({metric}{{sender="{one.name}",of="{one.target}"}}[1h]))'
    answer = json.loads(receiver.get("/api/v1/query", {"query": query}))
    return int(float(answer["data"]["result"][0]["value"][1])) if answer["data"]["result"] else 0


def _drained(receiver: Server, one: Sender) -> Iterator[Figure]:
    """Open the gate of one of them, and measure until all has come."""
    before, ups = count(receiver, one), count(receiver, one, "up")
    cpu, began = cpu_seconds(one.pid), time.monotonic()
    one.gate.reopen()
    wait_for(lambda: count(receiver, one, "up") > ups, DRAINED_WITHIN, f"a sample of {one.name}")
    first = time.monotonic() - began

    def is_quiet() -> bool:
        now = time.monotonic()
        older = [sent for at, sent in list(one.gate.trace) if at < now - QUIET]
        return bool(older) and older[-1] >= (1 - TRICKLE) * one.gate.sent

    wait_for(is_quiet, DRAINED_WITHIN, f"{one.name} to have sent everything")
    cpu, sent, trace = cpu_seconds(one.pid) - cpu, one.gate.sent, list(one.gate.trace)
    came = count(receiver, one) - before
    (since, _), (until, most) = trace[0], next(each for each in trace if each[1] >= 0.95 * sent)
    how = f"{came} samples came"
    found = [
        Figure("first sample", first, "s", None, "since connections are taken again"),
        Figure("sender's CPU for a million samples", cpu / came * 1e6, "s", None, how),
        Figure("on the wire", sent / came, "B/sample", None, "TLS, HTTP and bodies"),
        Figure("draining", came * most / sent / (until - since), "samples/s", None, "from the first byte on"),
        Figure("resident memory, peak", memory(one.pid).peak / 1e6, "MB", None, "from the start, scraping"),
    ]
    for figure in found:
        yield figure._replace(name=f"{figure.name} ({one.target}, {TITLES[one.name]})")
    one.gate.shut()


def side_by_side(found: list[Figure]) -> str:
    """Return the figures as a Markdown table with a column for each sender."""
    rows: dict[str, dict[str, Figure]] = {}
    for figure in found:
        what, _, rest = figure.name.removesuffix(")").rpartition(" (")
        target, _, title = rest.rpartition(", ")
        rows.setdefault(f"{what}, {target} ({figure.unit})", {})[title] = figure
    lines = ["| | " + " | ".join(TITLES.values()) + " |", "|---|" + "---:|" * len(TITLES)]
    for key, of in rows.items():
        lines.append(f"| {key} | " + " | ".join(number(of[title].value) for title in TITLES.values()) + " |")
    return "\n".join(lines)


def main() -> int:
    """Measure, and show it; or be the large target."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.peers", description="Measure Limpet next to its peers."
    )
    parser.add_argument("--away", type=float, default=AWAY, help="seconds of the outage")
    parser.add_argument("--expose", type=int, metavar="PORT", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.expose:
        expose(options.expose)
        return 0
    facts = surroundings(ensure("prometheus"))
    with tempfile.TemporaryDirectory(prefix="limpet-bench-") as name:
        folder = Path(name)
        found = []
        for figure in figures(folder, make_certs(folder), options.away):
            found.append(figure)
            print(f"{figure.name}: {figure.value:.4g} {figure.unit}", file=sys.stderr, flush=True)
    print(side_by_side(found))
    print()
    for fact, value in facts.items():
        print(f"- {fact}: {value}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
