"""The real agent as a process: configured, started, stopped or killed, and looked at from outside."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from datetime import datetime
from pathlib import Path
from typing import Any, Self

import yaml

from buffer.fs import RealFs
from buffer.history.read import WholeReader
from buffer.inspect.status import status
from buffer.model import Labels
from tests.support import ticks
from tests.support.limpet import LIMPET
from tests.support.net import wait_for
from tests.support.server import Samples, tied
from tests.support.ticks import Sample

HOSTNAME = "test-host"


class Agent:
    """`limpet run` below `folder`, with this configuration added to a quick one (a tick each second)."""

    def __init__(self, folder: Path, remote_write: list[dict[str, Any]], **config: Any) -> None:
        self.folder, self.data_dir = folder, folder / "data"
        self.program: list[str | Path] = [LIMPET]
        self.inside: list[str] = []  # in front of the command: what runs it elsewhere
        # The tests may run in a service of systemd, which sets INVOCATION_ID; the agent must not take itself for one.
        self.environment = {key: value for key, value in os.environ.items() if key != "INVOCATION_ID"}
        self.config_file, self.log = folder / "limpet.yaml", folder / "agent.log"
        folder.mkdir(parents=True, exist_ok=True)
        self._process: subprocess.Popen[bytes] | None = None
        self.config: dict[str, Any] = {
            "hostname": HOSTNAME,
            "data_dir": "data",
            "collect": {"interval": "1s"},
            "buffer": {"sync_interval": "500ms"},  # how old the status of a living agent can be
            "remote_write": [{"queue_config": QUICK, **one} for one in remote_write],
            "log": {"format": "json", "level": "debug"},
        } | config

    @property
    def pid(self) -> int:
        """The pid of the process that runs."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> float:
        """Start it, and return the time at which it said that it has begun."""
        self._configure()
        command = [*self.inside, *map(str, self.program), "run", "--config", str(self.config_file)]
        with self.log.open("ab") as log:
            before = log.tell()
            self._process = subprocess.Popen(tied(command), stdout=log, stderr=log, env=self.environment)
        started = wait_for(lambda: self._started(before), 60, "the agent")
        return datetime.fromisoformat(started[0]["timestamp"]).timestamp()

    def _configure(self) -> None:
        """Write the configuration, in which the agent's own series come as often as the others, unless it says more."""
        collect = {"own_interval": self.config["collect"].get("interval", "10s")} | self.config["collect"]
        self.config_file.write_text(yaml.safe_dump(self.config | {"collect": collect}))

    def reload(self, event: str = "agent.reloaded", **config: Any) -> dict[str, Any]:
        """Change the configuration, have it read again by a SIGHUP, and return what was logged of that."""
        self.config |= config
        self._configure()
        before = self.log.stat().st_size
        os.kill(self.pid, signal.SIGHUP)
        return wait_for(lambda: self.events(event, before), 60, event)[0]

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Stop it with a signal, and return its exit status. Raises TimeoutExpired if it does not end."""
        assert self._process is not None
        self._process.send_signal(number)
        return self._process.wait(60)

    def kill(self) -> None:
        """Kill it with SIGKILL."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGKILL)
        self._process.wait(60)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *failure: object) -> None:
        if self._process is not None and self._process.poll() is None:
            self.kill()

    def status(self) -> dict[str, Any]:
        """Return what `limpet buffer status --json` says."""
        return status(str(self.data_dir)).document()

    def destination(self, name: str) -> dict[str, Any]:
        """Return the status of one destination; empty where it is not known yet."""
        return next((d for d in self.status()["destinations"] if d["name"] == name), {})

    def events(self, name: str | None = None, since: int = 0) -> list[dict[str, Any]]:
        """Return the events that were logged so far, all or those of one name; `since` is in bytes."""
        lines = self.log.read_bytes()[since:].decode().splitlines()
        found = [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]
        return [event for event in found if name in (None, event["event"])]

    def buffered(self) -> Samples:
        """Return the samples in the buffer's files, by their labels; what Prometheus should have.

        Without the markers of series that ended, since Prometheus shows them to nobody: see `ended`.
        """
        return ticks.values(self._everything())

    def lost(self, received: Samples) -> dict[Labels, tuple[list[Sample], list[Sample]]]:
        """Return each series that was not received as it is in the buffer's files: what was, and what should have been.

        What is newer than all that was received may be missing: a stop on a busy machine leaves it to the next start.
        """
        newest = max(at for of in received.values() for at, _ in of)
        appended, wrong = self.buffered(), {}
        for labels in appended.keys() | received.keys():
            got, wanted = sorted(received.get(labels, [])), appended.get(labels, [])
            if got != wanted[: len(got)] or any(at < newest for at, _ in wanted[len(got) :]):
                wrong[labels] = got, wanted
        return wrong

    def ended(self) -> dict[Labels, list[int]]:
        """Return when each series ended, by the markers in the buffer's files."""
        return ticks.ends(self._everything())

    def appended(self) -> int:
        """Return how many samples are in the buffer's files, markers too: what a ledger counts."""
        return sum(map(len, self._everything().values()))

    def _everything(self) -> Samples:
        reader, found = WholeReader(RealFs(), str(self.data_dir)), Samples()
        for entry in reader:
            for tick in entry.ticks:
                for series, value in zip(tick.series, tick.values, strict=True):
                    labels = tuple(sorted([*series.labels, ("__name__", series.name)]))
                    found.setdefault(labels, []).append((tick.at.wall_ms, value))
        reader.close()
        return found

    def _started(self, since: int) -> list[dict[str, Any]]:
        assert self._process is not None
        if self._process.poll() is not None:
            raise AssertionError(f"the agent ended at once:\n{self.log.read_text()}")
        return self.events("agent.started", since)


QUICK = {"batch_send_deadline": "1s", "min_backoff": "100ms", "max_backoff": "500ms"}
