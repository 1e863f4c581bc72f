"""`make run`: a real Prometheus, the agent, and one screen that shows samples arrive.

Starts a Prometheus (of the PATH, else Debian's package) on a free loopback port, and the agent with its buffer in
var/limpet. Shows the backlog as the agent's own command reports it, and what the other end has, as the other end
reports it: what was delivered since the start is what has arrived since then, but for the markers of series that
ended, which Prometheus does not count. All state is below ./var.

It needs the run-time dependencies alone. Where no Prometheus is available, it says so, sets up what the tests need, and
starts their receiver instead.

Ends with Ctrl-C, SIGTERM or `--for SECONDS`, and ends what it started: the agent first, then Prometheus; they
get SIGTERM from the kernel if this process is killed. Exit status 1 when the agent or Prometheus died, or when no
sample arrived within a minute.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import yaml
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from agent import __version__
from buffer.model import Labels
from tests.support.prometheus import CONFIG, Prometheus
from tests.support.server import ServerFailed, tied
from tools.servers import ServerError, ensure, find

if TYPE_CHECKING:
    from tests.support.receiver import Receiver

VAR = Path("var")
DATA = VAR / "limpet"
SETTINGS = VAR / "limpet.yaml"
AGENT_LOG = VAR / "limpet.log"
LIMPET = [sys.executable, "-m", "agent"]
FIRST_SAMPLE_WITHIN_S = 60.0
AGENT_STOPS_WITHIN_S = 10.0
REFRESH_S = 2.0
PLAIN_EVERY_S = 10.0

HOST_VALUES = {  # what is shown: metric, labels that it must have
    "CPU": ("cpu_usage_percent", {"core": "all"}),
    "memory": ("memory_usage_percent", {}),
    "disk": ("disk_usage_percent", {}),
}


class Ended(Exception):
    """Something that the demonstration needs has ended; the message is for the person who watches."""


class Arrived(NamedTuple):
    """What the other end has: samples by host, series, the newest timestamp, and this host's newest values in percent."""

    samples: Mapping[str, int] = {}
    series: int = 0
    newest_ms: int = 0
    values: Mapping[str, float] = {}


class Sink(Protocol):
    """The other end of the line."""

    title: str
    push_url: str
    see: str

    def look(self, since: float) -> Arrived:
        """Return what has arrived that is not older than `since`, a Unix time."""

    def check(self) -> None:
        """Raise Ended when it is gone."""


class PrometheusSink:
    """A real Prometheus, asked by queries."""

    def __init__(self, server: Prometheus, version: str) -> None:
        self.title = version
        self.push_url = server.write_url
        self.see = f"{server.url}/consoles/limpet.html"
        self._server = server

    def look(self, since: float) -> Arrived:
        """Return what instant queries at this moment find."""
        ask = self._server.query
        # The recording rules' own series are of the host too; a colon is in all their names.
        pushed = '{hostname!="",__name__!~".*:.*|ALERTS.*"}'
        now = time.time()
        span = max(1, int((now - since) * 1000) + 1)
        try:
            counts = ask(f"sum by (hostname) (count_over_time({pushed}[{span}ms]))", at=now)
        except ServerFailed:  # before 2.54 it cannot count over several names at once
            counts = {}
        newest = ask("max(timestamp(memory_usage_percent))")  # of all collectors that run at the full pace
        values = {
            title: found[()]
            for title, (metric, labels) in HOST_VALUES.items()
            if (found := ask(f"max({_selector(metric, labels)})"))
        }
        return Arrived(
            {dict(labels)["hostname"]: int(count) for labels, count in counts.items()},
            int(ask(f"count({pushed})").get((), 0)),
            int(newest.get((), 0.0) * 1000),
            values,
        )

    def check(self) -> None:
        """Raise Ended, with the end of its log, when Prometheus does not run."""
        if self._server.pid is None:
            raise Ended(f"Prometheus ended. The end of {self._server.log}:\n{self._server.tail()}")


class ReceiverSink:
    """The receiver of the tests, for where no Prometheus is available."""

    def __init__(self, receiver: Receiver) -> None:
        self.title = "the tests' receiver (no Prometheus is available: put one on the PATH)"
        self.push_url = receiver.url
        self.see = "only here: the receiver keeps nothing"
        self._receiver = receiver

    def look(self, since: float) -> Arrived:
        """Return what the receiver has counted, all of it since the start and from one host."""
        latest = dict(self._receiver.latest)
        host = next((dict(labels)["hostname"] for labels in latest), "")
        values = {title: _newest(latest, metric, labels) for title, (metric, labels) in HOST_VALUES.items()}
        return Arrived(
            {host: self._receiver.samples},
            len(latest),
            max((at for at, _ in latest.values()), default=0),
            {title: value for title, value in values.items() if value is not None},
        )

    def check(self) -> None:
        """Do nothing: it is part of this process."""


def _selector(metric: str, labels: Mapping[str, str]) -> str:
    inside = ",".join(f'{name}="{value}"' for name, value in labels.items())
    return f"{metric}{{{inside}}}"


def _newest(
    latest: Mapping[Labels, tuple[int, float]], metric: str, labels: Mapping[str, str]
) -> float | None:
    wanted = {"__name__": metric, **labels}.items()
    return max((value for key, (_, value) in latest.items() if wanted <= dict(key).items()), default=None)


def _receiver() -> Receiver:
    try:
        from tests.support.receiver import Receiver
    except (
        ImportError
    ):  # it needs more than the run-time dependencies: begin again in the environment of the tests
        subprocess.run(["make", "--silent", ".venv/.ready"], check=True)
        os.execv(".venv/bin/python", [".venv/bin/python", "-m", "tools.demo", *sys.argv[1:]])  # noqa: S606
    return Receiver(keep=0)


@contextmanager
def sink() -> Iterator[Sink]:
    """Start a Prometheus, or where none is available the receiver of the tests."""
    folder = VAR / "prometheus"
    try:
        program = find("prometheus") or ensure("prometheus").path
    except ServerError as error:
        print(error, file=sys.stderr)
        with _receiver() as receiver:
            yield ReceiverSink(receiver)
        return
    flags = (
        *(f"--web.console.{what}={CONFIG.parent / 'consoles'}" for what in ("templates", "libraries")),
        "--enable-feature=promql-delayed-name-removal",
    )
    server = Prometheus(program, folder, config=CONFIG, flags=flags)
    server.log.unlink(missing_ok=True)
    try:
        server.start()
        version = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
        yield PrometheusSink(
            server, version.stdout.partition(" (")[0].replace("prometheus, version", "Prometheus")
        )
    except ServerFailed as error:
        raise Ended(str(error)) from None
    finally:
        server.stop()


@contextmanager
def agent(push_url: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run the agent with a configuration that pushes there."""
    settings = {
        "data_dir": DATA.name,  # relative to the file, as in any configuration
        "buffer": {"sync_interval": "1s"},  # what was delivered shows on the screen when it is durable
        "remote_write": [
            {"name": "demo", "url": push_url, "queue_config": {"batch_send_deadline": "5s"}},
        ],
    }
    SETTINGS.write_text("# Written by `make run`.\n" + yaml.safe_dump(settings, sort_keys=False))
    with AGENT_LOG.open("wb") as log:
        process = subprocess.Popen(
            tied([*LIMPET, "run", "--config", str(SETTINGS)]),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(AGENT_STOPS_WITHIN_S)
        except subprocess.TimeoutExpired:
            print(
                f"The agent did not stop within {AGENT_STOPS_WITHIN_S:g} s, and is killed.", file=sys.stderr
            )
            process.kill()
            process.wait()


def backlog() -> dict[str, Any] | None:
    """Return what `limpet buffer status --json` says; None while there is no buffer yet."""
    command = [*LIMPET, "buffer", "status", "--json", "--data-dir", str(DATA)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except subprocess.SubprocessError:
        return None
    status: dict[str, Any] = json.loads(done.stdout)
    return status


class Start(NamedTuple):
    """Where the counts of this run begin: what had been delivered before, and the oldest sample still to be sent."""

    delivered: int
    oldest: float

    @classmethod
    def of(cls, status: dict[str, Any] | None) -> Start:
        """Return where they begin in a buffer of this status, before the agent starts."""
        if not status or not status["destinations"] or not status["newest_timestamp_ms"]:
            return cls(0, time.time() - 60)  # the first tick's time is on the grid: a little before the start
        to = status["destinations"][0]
        oldest = to["oldest_pending_timestamp_ms"] or status["newest_timestamp_ms"] + 1
        return cls(to["ledger"]["delivered"], oldest / 1000)


def rows(there: Sink, status: dict[str, Any] | None, arrived: Arrived, start: Start) -> list[tuple[str, str]]:
    """Return what is shown, line by line: a title and a text."""
    shown = []
    if status is None or not status["destinations"]:
        shown.append(("buffer", "starting"))
    else:
        to = status["destinations"][0]
        ledger = to["ledger"]
        dropped = sum(ledger["dropped"].values())
        state = to["state"] + (f": {to['last_error']}" if to["last_error"] else "")
        shown += [
            ("buffer", f"{status['samples']:,} samples, {status['bytes']:,} bytes in {DATA}"),
            ("backlog", f"{to['pending_samples']:,} samples to send, {to['lag_seconds']:.0f} s behind"),
            (
                "delivered",
                f"{ledger['delivered'] - start.delivered:,} samples since the start, {dropped:,} dropped",
            ),
            ("sender", state),
        ]
    if arrived.newest_ms:
        age = max(0.0, time.time() - arrived.newest_ms / 1000)
        shown += [
            (
                "arrived",
                "".join(f"{samples:,} samples of {host}, " for host, samples in arrived.samples.items())
                + f"{arrived.series:,} series, the newest {age:.0f} s old",
            ),
            ("this host", ", ".join(f"{title} {value:.1f} %" for title, value in arrived.values.items())),
        ]
    else:
        shown.append(("arrived", "nothing yet"))
    return [*shown, ("receiver", there.title), ("see it", there.see)]


def screen(lines: list[tuple[str, str]]) -> Group:
    """Return the one screen."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for title, text in lines:
        table.add_row(title, Text(text, style="bold" if title in ("backlog", "delivered", "see it") else ""))
    return Group(
        Text(
            f"Limpet {__version__}: collected here, written to disk first, pushed to the receiver",
            style="bold",
        ),
        Text(),
        table,
        Text(),
        Text(
            "Ctrl-C ends it all. Elsewhere: .venv-run/bin/python -m agent buffer status --watch --data-dir var/limpet",
            style="dim",
        ),
    )


def watch(there: Sink, process: subprocess.Popen[bytes], counted: Start, seconds: float | None) -> None:
    """Show what happens until `seconds` are over. Raises Ended when it cannot continue."""
    console = Console()
    start, start_ms = time.monotonic(), time.time() * 1000
    shown_at = -PLAIN_EVERY_S
    with ExitStack() as stack:
        live = stack.enter_context(Live(console=console, auto_refresh=False)) if console.is_terminal else None
        while True:
            there.check()
            if process.poll() is not None:
                tail = "\n".join(AGENT_LOG.read_text(errors="replace").splitlines()[-20:])
                raise Ended(f"The agent ended (status {process.returncode}). The end of {AGENT_LOG}:\n{tail}")
            arrived = there.look(counted.oldest)
            elapsed = time.monotonic() - start
            last = seconds is not None and elapsed >= seconds
            lines = rows(there, backlog(), arrived, counted)
            if live:
                live.update(screen(lines), refresh=True)
            elif last or elapsed - shown_at >= PLAIN_EVERY_S:
                shown_at = elapsed
                print(" | ".join(f"{title}: {text}" for title, text in lines), flush=True)
            if arrived.newest_ms < start_ms and (last or elapsed > FIRST_SAMPLE_WITHIN_S):
                raise Ended(
                    f"No new sample arrived within {elapsed:.0f} s. What the agent says is in {AGENT_LOG}."
                )
            if last:
                return
            time.sleep(REFRESH_S)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _let_finish() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def main() -> int:
    """Run the demonstration; return its exit status."""
    parser = argparse.ArgumentParser(
        prog="make run", description="A real Prometheus, the agent, and one screen."
    )
    parser.add_argument(
        "--for", dest="seconds", type=float, metavar="SECONDS", help="end by itself (default: never)"
    )
    options = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    VAR.mkdir(exist_ok=True)
    try:
        with ExitStack() as stack:
            there = stack.enter_context(sink())
            counted = Start.of(backlog())
            process = stack.enter_context(agent(there.push_url))
            stack.callback(_let_finish)  # the first to be called: what was started ends in good order
            watch(there, process, counted, options.seconds)
    except Ended as ended:
        print(ended, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Ended; what was collected is in var.", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
