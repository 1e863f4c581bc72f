"""`make bench`: measures what Limpet promises, all in one run, and prints one table.

    python -m tests.bench            all of it, about thirteen minutes
    python -m tests.bench --quick    the same figures over a shorter time, two minutes; no full buffer
    python -m tests.bench --json     for machines

Everything is real: the agent as a process, Prometheus with TLS, a host's recorded hour (`tests.bench.replay`).
Nothing is written but into a folder that is removed. Exit status: 0 where every limit is kept, 1 where one is not.
CPU is counted in CPU seconds, which other load disturbs little; wall times are only as good as the machine is idle.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import ssl
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

from agent import __version__
from tests.bench import drain, parts, replay, steady
from tests.bench.figures import Figure, table
from tests.support.certs import make_certs
from tests.support.prometheus import Prometheus
from tools.servers import Server, ensure

LIBRARIES = ("httpx", "httpcore", "msgspec", "psutil", "python-snappy", "PyYAML", "structlog")


def measure(server: Server, quick: bool) -> Iterator[Figure]:
    """Return the figures as they are measured, one after another."""
    recording = replay.load()
    with tempfile.TemporaryDirectory(prefix="limpet-bench-") as name:
        folder = Path(name)
        certs = make_certs(folder)
        yield from parts.commands()
        yield from parts.collecting(15 if quick else 60)
        yield parts.on_disk(folder, recording)
        yield parts.appending(folder, recording, 200, 2_000 if quick else 20_000)
        yield from parts.encoding(recording, 50_000 if quick else 500_000)
        yield from parts.relabeling(5_000)
        if not quick:
            yield from parts.opening(folder, recording)
        yield from drain.all_figures(
            folder,
            lambda below: Prometheus(server.path, below, certs=certs),
            certs,
            [
                drain.of_host(recording, 200_000 if quick else 1_500_000),
                drain.of_target(200_000 if quick else 750_000),
            ],
        )
        with Prometheus(server.path, folder / "steady", certs=certs) as prometheus:
            yield from steady.figures(folder / "run", prometheus, certs, 60 if quick else 300)


def surroundings(server: Server) -> dict[str, str]:
    """Return what the figures depend on: machine, kernel, versions."""
    cpu = next(
        (line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")),
        platform.machine(),
    )
    total = next(int(line.split()[1]) for line in _lines("/proc/meminfo") if line.startswith("MemTotal"))
    return {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "machine": f"{os.cpu_count()} x {cpu}, {total / (1 << 20):.0f} GiB",
        "kernel": f"{platform.system()} {platform.release().partition('-')[0]}",
        "python": f"{platform.python_implementation()} {platform.python_version()}, {ssl.OPENSSL_VERSION}",
        "libraries": ", ".join(f"{library} {version(library)}" for library in LIBRARIES),
        "prometheus": server.version,
        "limpet": __version__,
        "load average": f"{os.getloadavg()[0]:.2f} when it began",
    }


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines()


def main() -> int:
    """Measure, and show it."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench", description="Measure what Limpet promises."
    )
    parser.add_argument("--quick", action="store_true", help="two minutes instead of ten")
    parser.add_argument("--json", action="store_true", help="JSON instead of a table")
    options = parser.parse_args()
    server = ensure("prometheus")
    facts = surroundings(server)
    figures = []
    for figure in measure(server, options.quick):
        figures.append(figure)
        if not options.json:
            print(f"{figure.name}: {figure.value:.4g} {figure.unit}", file=sys.stderr, flush=True)
    if options.json:
        print(json.dumps({**facts, "figures": [figure.as_json() for figure in figures]}, indent=2))
    else:
        print(table(figures))
        print()
        for name, value in facts.items():
            print(f"- {name}: {value}")
    return 1 if any(figure.verdict == "MISSED" for figure in figures) else 0


if __name__ == "__main__":
    sys.exit(main())
