"""What a host costs in a month on a link that is paid by the megabyte, by the settings: the table in docs/capacity.md.

    python -m tests.bench.bill                 five minutes, then the table
    python -m tests.bench.bill --seconds 360   an hour of the field
    python -m tests.bench.bill --faster 1      as it is in the field; an hour takes an hour

For each setting a real agent sends this host to a real Prometheus or VictoriaMetrics, over TLS, all at the same time. A relay between them
counts every byte, both ways: handshakes, headers, bodies and answers. Time is compressed by ten: each interval and each wait
is a tenth of what it is in the field, so a request has the same ticks, and five minutes are fifty. What depends on a
time that is not divided (a connection that is idle for 90 s is not used again) is seen with `--faster 1` alone. Not in the figures are
the headers of TCP and IP, which are added by reckoning: 40 bytes for each segment of 1,400 bytes, and for its acknowledgment.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from agent.config.units import format_duration
from tests.bench import steady
from tests.bench.relay import Relay
from tests.bench.steady import look_into
from tests.support.agent import Agent
from tests.support.certs import Certs, make_certs
from tests.support.net import wait_for
from tests.support.prometheus import Prometheus
from tests.support.victoria import VictoriaMetrics
from tools.servers import ensure

FASTER = 10
DAY, DAYS = 86400, 30
SEGMENT, HEADERS = 1400, 40
DELIVERED_WITHIN = 90.0


class Setting(NamedTuple):
    """A row: what is written in the configuration, and the seconds that matter in it as they are in the field."""

    words: str
    deadline: float = 30
    interval: float = 10
    to: Mapping[str, object] = {}
    without_own: bool = False
    unchanged: float = 0
    victoria: bool = False
    """The receiver is VictoriaMetrics, which is sent zstd."""


SETTINGS = (
    Setting("the defaults"),
    Setting("`protobuf_message: prometheus.WriteRequest` (1.0)", to={"protobuf_message": "prometheus.WriteRequest"}),
    Setting("the same to VictoriaMetrics (1.0 in zstd)", to={"protobuf_message": "prometheus.WriteRequest"}, victoria=True),
    Setting("`metadata_config: {send: false}`", to={"metadata_config": {"send": False}}),
    Setting("`send_unchanged_every: 1m`", unchanged=60),
    Setting("the series of the agent dropped by `write_relabel_configs`", without_own=True),
    Setting("`queue_config: {batch_send_deadline: 1m}`", deadline=60),
    Setting("`link: metered` (a deadline of 3m)", deadline=180, to={"link": "metered"}),
    Setting("`link: metered`, to VictoriaMetrics", deadline=180, to={"link": "metered"}, victoria=True),
    Setting("`link: metered`, and `send_unchanged_every: 4m`", deadline=180, unchanged=240, to={"link": "metered"}),
    Setting("`link: metered`, and `collect: {interval: 60s}`", deadline=180, interval=60, to={"link": "metered"}),
)  # fmt: skip


class Row(NamedTuple):
    """What came of a setting."""

    setting: Setting
    series: int
    sent: int
    received: int
    seconds: float
    """As they are in the field."""

    @property
    def day(self) -> float:
        """MB of a day, both ways, with the headers of TCP and IP."""
        packets = self.sent / SEGMENT + self.received / SEGMENT
        whole = self.sent + self.received + 2 * HEADERS * packets
        return whole * DAY / self.seconds / 1e6


def destination(one: Setting, port: int, certs: Certs, faster: float) -> dict[str, Any]:
    """A destination with a tenth of each wait."""
    made = {
        "url": f"https://127.0.0.1:{port}/api/v1/write",
        "name": "central",
        "tls_config": {"ca_file": str(certs.ca)},
        "queue_config": {"batch_send_deadline": format_duration(one.deadline / faster)},
        **one.to,
    }
    if one.unchanged:
        made["send_unchanged_every"] = format_duration(one.unchanged / faster)
    if one.without_own:
        rule = {"source_labels": ["__name__"], "regex": "limpet_.*", "action": "drop"}
        made["write_relabel_configs"] = [rule]
    return made


def collect(one: Setting, faster: float) -> dict[str, Any]:
    """What is collected, at a tenth of each interval; those of a minute stay at a minute where all are."""
    minute = format_duration(60 / faster)
    slow = {name: {"interval": minute} for name in ("disk_usage", "sensors")}
    return {"interval": format_duration(one.interval / faster), "own_interval": minute, "collectors": slow}


def measure(folder: Path, seconds: float, faster: float) -> Iterator[Row]:
    """Run an agent for each setting, all at once, for so many seconds."""
    certs = make_certs(folder)
    server = ensure("prometheus")
    with ExitStack() as stack:
        prometheus = stack.enter_context(Prometheus(server.path, folder / "prometheus", certs=certs))
        path = ensure("victoria-metrics").path
        victoria = stack.enter_context(VictoriaMetrics(path, folder / "victoria", certs=certs))
        running = []
        for number, one in enumerate(SETTINGS):
            relay = stack.enter_context(Relay((victoria if one.victoria else prometheus).port))
            relay.open()
            name = f"web-{number:02}"
            agent = steady.at_defaults(folder / name, name, destination(one, relay.port, certs, faster), "1s")
            agent.config["collect"] = collect(one, faster)
            running.append((one, relay, stack.enter_context(agent)))
        begun = time.monotonic()
        for _, _, agent in running:
            wait_for(partial(_has_delivered, agent), DELIVERED_WITHIN, "a delivery")
        time.sleep(max(0.0, begun + seconds - time.monotonic()))
        for one, relay, agent in running:
            sent, received, took = relay.sent, relay.received, time.monotonic() - begun
            yield Row(one, look_into(agent.data_dir).series, sent, received, took * faster)


def _has_delivered(agent: Agent) -> bool:
    return bool(agent.destination("central").get("ledger", {}).get("delivered"))


def table(rows: list[Row]) -> str:
    """The table as the page has it."""
    lines = ["| settings | fresh within | MB a day | MB a month |", "|---|---:|---:|---:|"]
    for row in rows:
        fresh = format_duration(row.setting.deadline + row.setting.interval)
        lines.append(f"| {row.setting.words} | {fresh} | {row.day:.1f} | {row.day * DAYS:.0f} |")
    return "\n".join(lines)


def main() -> int:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=300, help="how long to measure (default: 300)")
    parser.add_argument(
        "--faster", type=float, default=FASTER, help=f"by what time is compressed (default: {FASTER})"
    )
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="limpet-bill-") as name:
        rows = list(measure(Path(name), args.seconds, args.faster))
    print(table(rows))
    print(
        f"\n{rows[0].series} series, {rows[0].seconds / 60:.0f} minutes in {args.seconds:.0f} s, on", end=" "
    )
    print(time.strftime("%Y-%m-%d", time.gmtime()))
    for row in rows:
        print(
            f"{row.setting.words}: {row.sent} bytes sent, {row.received} received, {row.series} series",
            file=sys.stderr,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
