"""A small fleet in a real Prometheus, with the rules that ship: what dashboards and rules are proven on.

Three hosts. The past of each is made up, in a buffer, and sent with `limpet buffer replay`; then a real agent continues it:

- `edge-01` is well, and sends to a VictoriaMetrics too, where there is one.
- `edge-02` has a second destination that answers nothing but 503, and a third that answers 401: a backlog, and a held
  destination, of which the first hears at once. It has no `datacenter`.
- `edge-03` is silent: its agent ran twenty minutes ago (by its clock, `tests.support.shifted`) and was killed.

The past of what the rules record is computed from those samples with the rules' expressions. The rules then run every two seconds
instead of 15 or more, and are else as they ship.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, Self

import yaml

from agent.config.units import parse_duration as duration
from buffer.buffer import Buffer
from buffer.model import Instant, Series, Tick
from tests.support.agent import Agent
from tests.support.front import Exchange, Front
from tests.support.history import BOOT, DAY, Disk, History, Story
from tests.support.limpet import command, environment
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
        disks={
            "/": Disk(32, 46, 0.05),
            "/var": Disk(120, 83, 1.6),
            "/srv": Disk(64, 22, 0.1, inodes=86, readonly=((90 * 60, 70 * 60),)),
        },
        busy=((105 * 60, 40 * 60),),
        full_link=((40 * 60, 25 * 60),),
        freed=((100 * 60, 15 * 60),),
    ),
    "edge-02": Story(
        memory=78,
        missed=4000,
        lossy=0.03,
        buffer_growth=5000,
        boots=(9 * DAY, 4 * HOUR),
        oom=(60,),
        outages=((7 * HOUR, 4.5 * HOUR), (80 * 60, 45 * 60)),
        starved=((30 * 60, 12 * 60),),
        slow_disk=((2 * HOUR, 90 * 60),),
        failing=((25 * 60, 5 * 60),),
        stuck=((20 * 60, -60),),
        hot=((20 * 60, -60),),
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
    """When there are samples, where a test is to be quick: a day, and the same hours a week ago."""
    found = every(300, end - WEEK - 2 * HOUR, end - WEEK + HOUR)
    found = (
        every(3600, end - 9 * DAY, end - WEEK - 3 * HOUR)
        + found
        + every(3600, end - WEEK + HOUR, end - DAY - HOUR)
    )
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
        victoria: Path | None = None,
        stories: dict[str, Story] = STORIES,
        places: dict[str, dict[str, str]] = PLACES,
    ) -> None:
        self.folder, self._records = folder, 0
        self._recorded: set[tuple[Series, int]] = set()
        self._stories, self._places = stories, places
        self.server = Prometheus(program, folder / "prometheus", config=self._config(None))
        self.victoria = VictoriaMetrics(victoria, folder / "victoria") if victoria else None
        self._stack = ExitStack()
        self.agents: dict[str, Agent] = {}
        self.end = time.time() // 10 * 10 - 10

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self._stack.close()

    def start(self, times: Sequence[float] | None = None, *, agents: bool = True) -> None:
        """Start the servers and, unless the past is all that is wanted, the agents; wait until all has arrived."""
        self._stack.enter_context(self.server)
        if self.victoria:
            self._stack.enter_context(self.victoria)
        self._replay(times or minutes(self.end))
        if agents:
            self._run()

    def _run(self) -> None:
        nowhere = self._stack.enter_context(Receiver())
        refusing = [Front(nowhere, [refuse(status)] * 10_000) for status in ("503 Busy", "401 Unauthorized")]
        for front in refusing:
            self._stack.enter_context(front)
        central = {"url": self.server.write_url, "name": CENTRAL}
        for name in self._stories:
            to = [central]
            if name == "edge-01" and self.victoria:
                to.append({"url": self.victoria.write_url, "name": ELSEWHERE})
            if name == "edge-02":
                urls = zip(refusing, (SECOND, THIRD), strict=True)
                to += [{"url": front.url, "name": named} for front, named in urls]
            agent = Agent(self.folder / name, to, hostname=name, labels=self._places[name])
            if name == "edge-03":
                agent.program = [sys.executable, "-m", "tests.support.shifted", str(SILENT_FOR)]
            self.agents[name] = self._stack.enter_context(agent)
        for name, agent in self.agents.items():
            wait_for(partial(delivered, agent), 30, f"what {name} collects to arrive")
        self.agents["edge-03"].kill()

    def _replay(self, times: Sequence[float]) -> None:
        """Send each host's past, all at once."""
        running = []
        for seed, (name, story) in enumerate(self._stories.items()):
            end = self.end - SILENT_FOR - 60 if name == "edge-03" else self.end
            past = History(name, self._places[name], story, end, [CENTRAL], seed)
            data = self._kept(f"{name}-past", past.ticks([at for at in times if at <= end]))
            running.append(self._sending(data, self.server.write_url))
            if name == "edge-01" and self.victoria:
                running.append(self._sending(data, self.victoria.write_url))
        for process in running:
            done(process)

    def _kept(self, name: str, ticks: Iterable[Tick]) -> Path:
        """Put ticks into a buffer of their own."""
        buffer = Buffer(str(self.folder / name))
        for tick in ticks:
            buffer.append([tick])
        buffer.close()
        return self.folder / name

    def _sending(self, data: Path, url: str) -> subprocess.Popen[str]:
        """Begin to send a buffer with `limpet buffer replay`."""
        replay = command("buffer replay --data-dir", data, "--to", url, "--json")
        pipe, env = subprocess.PIPE, environment(self.folder)
        return subprocess.Popen(replay, stdout=pipe, stderr=pipe, text=True, env=env)

    def remember(self, back: float = 2 * HOUR) -> None:
        """Bring in what the rules would have recorded: the same hours a day ago, and until now."""
        # Within the six hours that a forecast bridges, and in no step with the times it compares: with six hours HostDiskFilling
        # had all of them in the five minutes after 0:00, 6:00, 12:00 and 18:00 UTC, and at no other time.
        self.record(self.end - 9 * DAY, self.end - 6 * HOUR, 5.5 * HOUR, ["hosts.rules.yml"], 1)
        self.record(self.end - DAY - 600, self.end - DAY + HOUR, 150, ["limpet.rules.yml"], 1)
        self.record(self.end - 6.5 * HOUR, self.end - 6 * HOUR, 300, ["limpet.rules.yml"], 3)
        self.record(self.end - 600, time.time(), 60, ["tiers.rules.yml"], 1)
        used = [path.name for path in RULES.glob("*.yml") if not path.name.startswith("tiers")]
        self.record(self.end - back, time.time(), 60, ["fleet.rules.yml", "limpet.rules.yml"], 2)
        self.record(self.end - back, time.time(), 60, used, 3)

    def record(
        self,
        since: float,
        until: float,
        step: float,
        files: Iterable[str],
        passes: int,
        *,
        alerts: bool = False,
    ) -> None:
        """Bring in what these rule files would have recorded then, every so many seconds.

        As `promtool tsdb create-blocks-from rules` does, but as samples: its blocks would make the server forget what it
        has not written into blocks itself. No rule sees what another one has recorded in the same pass. With `alerts`
        the last pass adds `ALERTS`, by the alerts' expressions and `for`.
        """
        texts = [(RULES / name).read_text() for name in sorted(files)]
        rules = [
            rule for text in texts for group in yaml.safe_load(text)["groups"] for rule in group["rules"]
        ]
        for number in range(passes):
            found: dict[int, list[tuple[Series, float]]] = {}
            for rule in rules:
                if "alert" in rule and not (alerts and number == passes - 1):
                    continue
                expr = rule["expr"]
                found_now = self.server.query_range(expr, since // step * step, until, step)
                for labels, samples in found_now.items():
                    own = {key: value for key, value in labels if key != "__name__"} | rule.get("labels", {})
                    begun = before = samples[0][0]
                    for at, value in samples:
                        begun, before = (at if at - before > 1.5e3 * step else begun), at
                        made = as_recorded(rule, own, value, (at - begun) / 1000)
                        if (made[0], at) not in self._recorded:  # what is stored is not changed any more
                            self._recorded.add((made[0], at))
                            found.setdefault(at, []).append(made)
            columns = ((at, map(tuple, zip(*found[at], strict=True))) for at in sorted(found))
            ticks = [Tick(Instant(at, at, BOOT), "recorded", *of_it) for at, of_it in columns]
            self._records += 1
            done(self._sending(self._kept(f"recorded-{self._records}", ticks), self.server.write_url))

    def run_rules(self, interval: str = "2s") -> None:
        """Run the rules that ship, each group at this interval."""
        self._config(interval)
        assert self.server.pid is not None
        os.kill(self.server.pid, signal.SIGHUP)
        wait_for(lambda: b'"rules":[{' in self.server.get("/api/v1/rules"), 10, "the rules to be loaded")

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


def as_recorded(
    rule: dict[str, Any], labels: dict[str, str], value: float, lasted: float
) -> tuple[Series, float]:
    """What a ruler makes of a value that a rule's expression has had for so many seconds."""
    if "record" in rule:
        return Series(rule["record"], tuple(sorted(labels.items()))), value
    state = "firing" if lasted >= duration(rule.get("for", "0s")) else "pending"
    labels = labels | {"alertname": rule["alert"], "alertstate": state}
    return Series("ALERTS", tuple(sorted(labels.items()))), 1.0


def done(process: subprocess.Popen[str]) -> None:
    """Wait for a replay, which has to end well."""
    out, error = process.communicate(timeout=120)
    assert process.returncode == 0, f"{out}{error}"


def delivered(agent: Agent) -> bool:
    """Whether the first destination has a few ticks."""
    return bool(agent.destination(CENTRAL).get("ledger", {}).get("delivered", 0) > 300)
