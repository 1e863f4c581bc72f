"""The page about own destination types, run as it is written, and types that do what none should."""

from __future__ import annotations

import gzip
import json
import math
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from agent.config import Custom, QueueConfig
from agent.config.custom import GROUP
from agent.system import entry_points
from agent.system.events import Event
from buffer.model import Instant, Tick
from tests.support.agent import QUICK, Agent
from tests.support.limpet import LIMPET, limpet
from tests.support.net import wait_for
from tests.support.package import install
from tests.support.receiver import Answer, Receiver
from tests.support.sending import BOOT, FIRST_MS, SERIES, STEP_MS, host
from tests.support.wire import Labels, TimeSeries, Write

PAGE = (Path(__file__).parents[2] / "docs" / "own-destinations.md").read_text()


def block(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None
    return found[1]


def read(body: bytes, headers: Mapping[str, str]) -> Write:
    found: dict[Labels, list[tuple[int, float]]] = {}
    for line in gzip.decompress(body).decode().splitlines():
        one = json.loads(line)
        assert one.pop("table") == "edge"
        at, value, name = one.pop("ms"), one.pop("value"), one.pop("name")
        found.setdefault(tuple(sorted({**one, "__name__": name}.items())), []).append((at, value))
    return Write(tuple(TimeSeries(labels, tuple(samples)) for labels, samples in found.items()))


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of packages that are installed for the test, in this process and in those that it starts."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("PYTHONPATH", str(folder))
    entry_points.load.cache_clear()
    yield folder
    entry_points.load.cache_clear()
    for name in [name for name in sys.modules if name.startswith("limpet_")]:
        del sys.modules[name]


def jsonlines(site: Path) -> None:
    install(site, "limpet_jsonlines", block("python"), {"jsonlines": "limpet_jsonlines:build"}, GROUP)


def to(port: int, kind: str = "jsonlines") -> Custom:
    queue = QueueConfig(batch_send_deadline=0.02, max_samples_per_send=20)
    url = f"http://127.0.0.1:{port}/lines"
    return Custom(name="there", type=kind, url=url, options={"table": "edge"}, queue_config=queue)


def test_the_example_is_as_short_as_it_says_and_names_its_entry_point() -> None:
    code = [line for line in block("python").splitlines() if line.strip()]
    assert len(code) <= 60
    project = tomllib.loads(block("toml"))["project"]
    assert project["entry-points"] == {GROUP: {"jsonlines": "limpet_jsonlines:build"}}


def test_the_example_builds_into_a_wheel_and_runs_in_the_agent(site: Path, tmp_path: Path) -> None:
    source = tmp_path / "limpet-jsonlines"
    source.mkdir()
    (source / "limpet_jsonlines.py").write_text(block("python"))
    (source / "pyproject.toml").write_text(block("toml"))
    options = ("--quiet", "--no-index", "--no-build-isolation", "--no-deps", "--target", str(site))
    pip = [sys.executable, "-m", "pip", "install", *options, str(source)]
    subprocess.run(pip, check=True, capture_output=True)
    with Receiver(read=read) as receiver:
        entry = {"type": "jsonlines", "name": "lake", "url": receiver.url, "options": {"table": "edge"}}
        agent = Agent(tmp_path / "agent", [], custom=[{**entry, "queue_config": QUICK}])
        with agent:
            wait_for(lambda: receiver.samples > 200, 30, "samples")
            subprocess.run([LIMPET, "check-config", str(agent.config_file)], check=True, capture_output=True)
            done = limpet(tmp_path, "doctor", "--config", agent.config_file, "--json")
            steps = {step["step"]: step["ok"] for step in done.json if step["part"] == "lake"}
            assert steps["empty write"] is True
            assert agent.stop() == 0
        doctor = ("__name__", "limpet_doctor_sample")
        received = {labels: of for labels, of in receiver.received().items() if doctor not in labels}
        assert agent.lost(received) == {}
        # The markers of the series that ended with the agent are no numbers.
        dropped = agent.destination("lake")["ledger"]["dropped"]
        assert not any(count for reason, count in dropped.items() if reason != "unstorable")


@pytest.mark.parametrize("status", [200, 204, 301, 401, 404, 413, 408, 429, 500, 503])
def test_the_example_outlives_every_class_of_status(site: Path, tmp_path: Path, status: int) -> None:
    jsonlines(site)
    with (
        Receiver([Answer(), *[Answer(status)] * 3], read=read) as there,
        host(tmp_path, to(there.port)) as one,
    ):
        one.outlives(there, status)


def test_what_the_example_cannot_store_or_is_refused_is_in_the_ledger(site: Path, tmp_path: Path) -> None:
    jsonlines(site)
    with Receiver(read=read) as there:
        there.refuse = lambda write: Answer(400) if "memory" in str(write.series) else None
        with host(tmp_path, to(there.port), ticks=3) as one:
            one.settled()
            at = Instant(FIRST_MS + 3 * STEP_MS, 3 * STEP_MS, BOOT)
            one.buffer.append([Tick(at, "all", SERIES, [math.nan, math.inf])])
            one.settled()
            assert one.cursor.ledger.dropped == {"rejected": 3, "unstorable": 2}
            assert one.cursor.ledger.delivered == 3


BAD = """
from limpet.destinations import Destination, Encoded, Outcome, Request, Verdict

def kind(encode=None, classify=None):
    def right(ticks, part):
        return Encoded(Request(b"[]", sum(len(tick.values) for tick in ticks), "bad"), {})
    def delivered(request, answer):
        return Outcome(Verdict.DELIVERED, 200)
    carries = lambda series: series.name.encode()
    return lambda to: Destination("bad", encode or right, classify or delivered, lambda: Request(b"", 0, "bad"), carries)

def raises(*given):
    raise ZeroDivisionError("of its own")

def unbuilt(to):
    raise KeyError("table")

LOSES = kind(encode=lambda ticks, part: Encoded(Request(b"[]", 1, "bad"), {}))
HIDES = kind(encode=lambda ticks, part: Encoded(Request(b"[]", 0, "bad"), {"evicted": 2}))
RAISES = kind(encode=raises)
CLASSIFIES = kind(classify=raises)
NONSENSE = kind(classify=lambda request, answer: "fine")
NONE = lambda to: None
NUMBER = 17
"""
NAMES = ("loses", "hides", "raises", "classifies", "nonsense", "none", "number", "unbuilt")


@pytest.fixture
def bad(site: Path) -> None:
    targets = {name: f"limpet_bad:{name if name == 'unbuilt' else name.upper()}" for name in NAMES}
    install(site, "limpet_bad", BAD, targets, GROUP)


@pytest.mark.usefixtures("bad")
def test_what_encodes_wrongly_sends_and_loses_nothing_and_delays_nobody(tmp_path: Path) -> None:
    said = {"loses": "accounts for 1 of", "hides": "evicted", "raises": "of its own"}
    with Receiver(read=lambda body, headers: Write(())) as there, Receiver() as fine:
        entries = [{"type": kind, "name": kind, "url": there.url, "queue_config": QUICK} for kind in said]
        agent = Agent(tmp_path / "agent", [{"name": "fine", "url": fine.url}], custom=entries)
        with agent:
            wait_for(
                lambda: {event["destination"] for event in agent.events(Event.LANE_FAILED)} == said.keys(),
                30,
                "the failures",
            )
            before = fine.samples
            wait_for(lambda: fine.samples > before + 200, 30, "the other destination's samples")
            assert agent.stop() == 0
        for event in agent.events(Event.LANE_FAILED):
            assert said[event["destination"]] in event["error"]
        for kind in said:
            ledger = agent.destination(kind)["ledger"]
            assert ledger["pending"] == ledger["appended"] > 0
        assert not there.requests


@pytest.mark.usefixtures("bad")
@pytest.mark.parametrize(
    ("kind", "said"), [("classifies", "ZeroDivisionError: of its own"), ("nonsense", "classify: fine")]
)
def test_what_classifies_wrongly_is_held(tmp_path: Path, kind: str, said: str) -> None:
    with Receiver(read=lambda body, headers: Write(())) as there, host(tmp_path, to(there.port, kind)) as one:
        assert said in one.held()


@pytest.mark.usefixtures("bad")
@pytest.mark.parametrize(
    ("kind", "status", "said"),
    [
        ("nobody", 2, "no type 'nobody' is installed"),
        ("number", 2, "is a int, not a function"),
        ("unbuilt", 2, "cannot be built: KeyError: 'table'"),
        ("none", 2, "returned a NoneType, not a Destination"),
    ],
)
def test_what_cannot_be_built_is_an_error_that_names_it(
    tmp_path: Path, kind: str, status: int, said: str
) -> None:
    config = tmp_path / "limpet.yaml"
    entry = {"type": kind, "name": "there", "url": "http://127.0.0.1:1/lines"}
    config.write_text(json.dumps({"data_dir": str(tmp_path / "data"), "custom": [entry]}))
    done = limpet(tmp_path, "run", "--config", config)
    assert done.status == status, done
    assert said in done.err
    assert "Traceback" not in done.err
