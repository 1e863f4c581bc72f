"""A small fleet in a real Prometheus, with the rules that ship: what dashboards and rules are proven on.

Three hosts, each with its past in its buffer and a real agent that sends it and goes on:

- `edge-01` is well, and sends to a VictoriaMetrics too, where there is one.
- `edge-02` has a second destination that answers nothing but 503, and a third that answers 401: a backlog, and a held
  destination, of which the first hears at once. It has no `datacenter`.
- `edge-03` is silent: its agent ran twenty minutes ago (by its clock, `tests.support.shifted`) and was killed.

The past of what the rules record is computed by promtool from those samples. The rules then run each second or two
instead of every 15 s or more, and are else as they ship.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

from buffer.buffer import Buffer
from buffer.model import Tick
from tests.support.agent import Agent
from tests.support.front import Exchange, Front
from tests.support.history import DAY, Disk, History, Story
from tests.support.net import wait_for
from tests.support.prometheus import CONFIG, Prometheus
from tests.support.receiver import Receiver
from tests.support.victoria import VictoriaMetrics

HOUR = 3600.0
WEEK = 7 * DAY
SILENT_FOR = 20 * 60
RULES = CONFIG.parent / "rules"
CENTRAL, SECOND, THIRD, ELSEWHERE = "central", "second", "third", "elsewhere"

PLACES = {
    "edge-01": {"environment": "production", "region": "eu-west", "datacenter": "ams1", "role": "gateway"},
    "edge-02": {"environment": "production", "region": "eu-west", "role": "gateway"},
    "edge-03": {"environment": "staging", "region": "us-east", "datacenter": "nyc2", "role": "sensor"},
}
STORIES = {
    "edge-01": Story(
        disks={"/": Disk(32, 46, 0.05), "/var": Disk(120, 83, 1.6), "/srv": Disk(64, 22, 0.1, inodes=86)},
        busy=((90 * 60, 55 * 60),),
        full_link=((40 * 60, 25 * 60),),
    ),
    "edge-02": Story(
        memory=78,
        missed=4000,
        lossy=0.03,
        buffer_growth=5000,
        boots=(9 * DAY, 4 * HOUR),
        oom=(4 * 60,),
        outages=((7 * HOUR, 4.5 * HOUR), (80 * 60, 45 * 60)),
        starved=((30 * 60, 12 * 60),),
        slow_disk=((2 * HOUR, 90 * 60),),
        failing=((25 * 60, 5 * 60),),
        stuck=((20 * 60, 5 * 60),),
        disks={"/": Disk(16, 91.5, 1.7)},
    ),
    "edge-03": Story(cpu=8, version="0.5.2", disks={"/": Disk(8, 71, 0.2)}),
}


def refuse(status: str) -> Any:
    """An answer that a front gives to each request."""
    answer = f"HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode()

    def act(exchange: Exchange) -> None:
        exchange.read()
        exchange.send(answer)

    return act


def minutes(end: float) -> list[float]:
    """When there are samples, where a test is to be quick: a day, and the same hours of past weeks."""
    found: list[float] = []
    for week in (4, 3, 2, 1):
        around = end - week * WEEK
        found += every(300, around - 2 * HOUR, around + HOUR)
    found += every(300, end - DAY - HOUR, end - 3 * HOUR)
    return found + every(30, end - 3 * HOUR, end)


def every(step: float, since: float, until: float) -> list[float]:
    """Times from `since` on, before `until`."""
    count = int((until - since) // step)
    return [until - step * (count - n) for n in range(count)]


class Fleet:
    """The fleet below `folder`; `end` is where its past ends and its agents take over."""

    def __init__(
        self,
        folder: Path,
        program: Path,
        promtool: Path,
        victoria: Path | None = None,
        stories: dict[str, Story] = STORIES,
        places: dict[str, dict[str, str]] = PLACES,
    ) -> None:
        self.folder, self._promtool = folder, promtool
        self._stories, self._places = stories, places
        self.server = Prometheus(program, folder / "prometheus", config=self._config(None))
        self.victoria = VictoriaMetrics(victoria, folder / "victoria") if victoria else None
        self._stack = ExitStack()
        self.agents: dict[str, Agent] = {}
        self.end = time.time() // 10 * 10 - 10

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def start(self, times: Sequence[float] | None = None) -> None:
        """Start the servers and the agents, and wait until the past has arrived."""
        self._stack.enter_context(self.server)
        if self.victoria:
            self._stack.enter_context(self.victoria)
        nowhere = self._stack.enter_context(Receiver())
        refusing = [Front(nowhere, [refuse(status)] * 10_000) for status in ("503 Busy", "401 Unauthorized")]
        for front in refusing:
            self._stack.enter_context(front)
        queue = {"batch_send_deadline": "1s", "min_backoff": "100ms", "max_backoff": "500ms"}
        central = {"url": self.server.write_url, "name": CENTRAL, "queue_config": queue}
        for seed, (name, story) in enumerate(self._stories.items()):
            to = [central]
            if name == "edge-01" and self.victoria:
                to.append({"url": self.victoria.write_url, "name": ELSEWHERE})
            if name == "edge-02":
                to += [
                    {"url": front.url, "name": named, "start": "now"}
                    for front, named in zip(refusing, (SECOND, THIRD), strict=True)
                ]
            agent = Agent(self.folder / name, to, hostname=name, labels=self._places[name])
            silent = name == "edge-03"
            end = self.end - SILENT_FOR - 60 if silent else self.end
            past = History(name, self._places[name], story, end, [CENTRAL], seed)
            fill(agent, past.ticks([at for at in times or minutes(self.end) if at <= end]))
            if silent:
                agent.program = ["-m", "tests.support.shifted", str(SILENT_FOR)]
            self.agents[name] = self._stack.enter_context(agent)
        for name, agent in self.agents.items():
            wait_for(partial(arrived, agent), 60, f"the past of {name} to arrive")
        self.agents["edge-03"].kill()

    def record(self, since: float, until: float, step: float, only: Iterable[str] | None = None) -> None:
        """Compute what the rules would have recorded then, by promtool; the server is started anew to see it."""
        files = [str(path) for path in sorted(RULES.glob("*.yml")) if only is None or path.name in only]
        subprocess.run(
            [
                str(self._promtool),
                *("tsdb", "create-blocks-from", "rules", f"--url={self.server.url}"),
                f"--start={since:.0f}",
                f"--end={until:.0f}",
                f"--eval-interval={step:.0f}s",
                f"--output-dir={self.server.folder / 'data'}",
                *files,
            ],
            check=True,
            capture_output=True,
            timeout=300,
        )
        self.server.stop()
        self.server.start()

    def run_rules(self, interval: str = "1s") -> None:
        """Start the server anew with the rules that ship, each group at this interval."""
        self.server.stop()
        self.server.config = self._config(interval)
        self.server.start()

    def _config(self, interval: str | None) -> Path:
        shipped = yaml.safe_load(CONFIG.read_text())
        shipped.pop("alerting", None)
        shipped["rule_files"] = []
        folder = self.folder / "config"
        folder.mkdir(parents=True, exist_ok=True)
        if interval is not None:
            for path in sorted(RULES.glob("*.yml")):
                rules = yaml.safe_load(path.read_text())
                rules["groups"] = [group | {"interval": interval} for group in rules["groups"]]
                (folder / path.name).write_text(yaml.safe_dump(rules, sort_keys=False))
                shipped["rule_files"].append(str(folder / path.name))
        config = folder / "prometheus.yml"
        config.write_text(yaml.safe_dump(shipped))
        return config.resolve()


def fill(agent: Agent, ticks: list[Tick]) -> None:
    """Put ticks into the buffer of an agent that has not run yet."""
    buffer = Buffer(str(agent.data_dir))
    for tick in ticks:
        buffer.append([tick])
    buffer.close()


def arrived(agent: Agent) -> bool:
    """Whether the first destination has all but the newest."""
    found = agent.destination(CENTRAL)
    return bool(found.get("ledger", {}).get("delivered")) and found["lag_seconds"] < 3 + SILENT_FOR * (
        "tests.support.shifted" in agent.program
    )
