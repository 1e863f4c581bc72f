"""`limpet buffer verify`, `export` and `trim` as an operator runs them, while a real agent runs, checked with promtool."""

from __future__ import annotations

import math
import os
import re
import resource
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from buffer.buffer import Buffer
from buffer.limits import Limits
from buffer.model import Instant, Series, Tick
from buffer.segment import HEADER
from tests.integration.test_cli_terminal import terminal
from tests.support.agent import Agent
from tests.support.limpet import limpet
from tests.support.net import free_port, wait_for
from tests.support.receiver import Receiver
from tests.support.ticks import BOOT, bits
from tools.servers import ensure

STEP_MS = 10_000
COUNT = 3000
TABLE = (
    Series("disk_free_bytes", (("mount", 'with "quotes"\\ and\nlines'),), "gauge", "bytes", "Free."),
    *(Series("reads_total", (("disk", f"sd{i}"),), "counter", "", "Reads.") for i in range(30)),
    Series("jobs_total", (), "gauge", "", "Not a counter, whatever its name says."),
    Series("ups", (), "counter", "", "A counter, whatever its name says."),
)
Stored = dict[str, list[tuple[int, float]]]


def row(n: int) -> list[float]:
    values = [math.sin(n * 37 + i) * 10.0 ** (i % 9) for i in range(len(TABLE))]
    return [*values[:-1], math.inf if n % 50 == 0 else values[-1]]


def history(folder: Path, first_ms: int, count: int = COUNT) -> None:
    """A buffer with a backlog for `central`, of a process that was stopped."""
    buffer = Buffer(str(folder), Limits(segment_size=64 << 10), ["central"])
    for n in range(count):
        buffer.append([Tick(Instant(first_ms + n * STEP_MS, n * STEP_MS, BOOT), "all", TABLE, row(n))])
    buffer.close()


@pytest.fixture(scope="module")
def first_ms() -> int:
    """Nine hours ago, at some odd millisecond."""
    return int(time.time() - 9 * 3600) * 1000 + 347


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, first_ms: int) -> Path:
    folder = tmp_path_factory.mktemp("history") / "data"
    history(folder, first_ms)
    return folder


@pytest.fixture(scope="session")
def promtool() -> Path:
    return ensure("promtool").path


def dumped(promtool: Path, blocks: Path) -> Stored:
    """What promtool finds in blocks, by the series as it writes them."""
    (blocks / "wal").mkdir()  # as in a server's folder
    command: list[str | Path] = [promtool, "tsdb", "dump", blocks]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    found: Stored = {}
    for line in done.stdout.splitlines():
        name, value, at = line.rsplit(" ", 2)
        found.setdefault(name, []).append((int(at), float(value)))
    return found


def test_promtool_makes_blocks_of_an_openmetrics_export_with_the_same_samples(
    data: Path, first_ms: int, promtool: Path, tmp_path: Path
) -> None:
    file = tmp_path / "samples.om"
    done = limpet(
        tmp_path, "buffer export --data-dir", data, "--format", "openmetrics", "--output", file, "--json"
    )
    assert (done.status, done.err) == (0, "")
    assert done.json == {
        "output": str(file),
        "format": "openmetrics",
        "samples": COUNT * len(TABLE),
        "bytes": file.stat().st_size,
        "oldest_timestamp_ms": first_ms,
        "newest_timestamp_ms": first_ms + (COUNT - 1) * STEP_MS,
        "damaged": 0,
    }
    blocks = tmp_path / "blocks"
    make: list[str | Path] = [promtool, "tsdb", "create-blocks-from", "openmetrics", file, blocks]
    made = subprocess.run(make, capture_output=True, text=True, timeout=60, check=False)
    assert made.returncode == 0, made.stderr
    found = dumped(promtool, blocks)
    expected: Stored = {}
    for i, series in enumerate(TABLE):
        labels = [("__name__", series.name), *series.labels]
        inside = ", ".join(f'{k}="{_quoted(v)}"' for k, v in sorted(labels))
        expected[f"{{{inside}}}"] = [(first_ms + n * STEP_MS, row(n)[i]) for n in range(COUNT)]
    assert found.keys() == expected.keys()
    for name, samples in expected.items():
        assert [at for at, _ in found[name]] == [at for at, _ in samples], name
        assert bits([value for _, value in found[name]]) == bits([value for _, value in samples]), name


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def test_an_exported_file_is_replayed_with_the_same_samples(
    data: Path, first_ms: int, tmp_path: Path
) -> None:
    file = tmp_path / "samples.jsonl"
    selection = [
        "--since",
        str((first_ms + 100 * STEP_MS) / 1000),
        "--selector",
        'reads_total{disk=~"sd[12]"}',
    ]
    done = limpet(tmp_path, "buffer export --data-dir", data, *selection, "--output", file)
    assert done.status == 0, done.err
    assert done.out.startswith("5,800 samples, ")
    with Receiver() as receiver:
        again = limpet(tmp_path, "buffer replay --from", file, "--to", receiver.url, "--json")
        assert again.status == 0, again
        received = receiver.received()
    expected = {
        (("__name__", "reads_total"), ("disk", f"sd{i}")): [
            (first_ms + n * STEP_MS, row(n)[i + 1]) for n in range(100, COUNT)
        ]
        for i in (1, 2)
    }
    assert {labels: sorted(samples) for labels, samples in received.items()} == expected


def test_an_export_to_standard_output_is_the_same_bytes(data: Path, first_ms: int, tmp_path: Path) -> None:
    until = str(first_ms // 1000 + 3600)
    for form in ("jsonl", "openmetrics", "csv"):
        command: list[str | Path] = ["buffer export --data-dir", data, "--format", form, "--until", until]
        done = limpet(tmp_path, *command)
        assert (done.status, done.err) == (0, "")
        assert limpet(tmp_path, *command, "--output", tmp_path / form).status == 0
        assert (tmp_path / form).read_text() == done.out


def test_a_file_that_is_there_is_kept_unless_it_is_forced(data: Path, tmp_path: Path) -> None:
    file = tmp_path / "samples.jsonl"
    file.write_text("mine")
    command: list[str | Path] = ["buffer export --data-dir", data, "--output", file, "--selector", "ups"]
    done = limpet(tmp_path, *command)
    assert (done.status, file.read_text()) == (2, "mine")
    assert "the file is there already" in done.err
    assert limpet(tmp_path, *command, "--force").status == 0
    assert file.read_text().startswith('{"name":"ups"')
    assert [each.name for each in tmp_path.iterdir()] == ["samples.jsonl"]


@pytest.mark.parametrize("form", ["jsonl", "openmetrics", "csv"])
def test_a_full_disk_is_reported_and_no_half_file_is_left(data: Path, tmp_path: Path, form: str) -> None:
    def no_more_than_a_little() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    file = tmp_path / "samples"
    command: list[str | Path] = ["buffer export --data-dir", data, "--output", file, "--format", form]
    done = limpet(tmp_path, *command, preexec_fn=no_more_than_a_little)
    assert done.status == 2
    assert "it cannot be written: file too large" in done.err
    assert "Traceback" not in done.err
    assert list(tmp_path.iterdir()) == []


def test_an_export_of_nothing_says_so(data: Path, tmp_path: Path) -> None:
    command: list[str | Path] = ["buffer export --data-dir", data, "--selector", "nothing"]
    done = limpet(tmp_path, *command)
    assert (done.status, done.out, done.err) == (1, "", "nothing is selected\n")
    done = limpet(tmp_path, *command[:-1], "no{thing")
    assert (done.status, done.out) == (2, "")
    assert done.err.startswith("selector: expected =, !=, =~ or !~, character 9, at its end")
    done = limpet(tmp_path, *command[:-2], "--json")
    assert (done.status, done.out) == (2, "")


def test_an_export_shows_a_bar_on_a_terminal_and_leaves_the_damage_out(data: Path, tmp_path: Path) -> None:
    copy = tmp_path / "data"
    history(copy, 1_750_000_000_000, 600)
    oldest = min((copy / "segments").iterdir())
    raw = bytearray(oldest.read_bytes())
    raw[len(raw) // 2] ^= 1
    oldest.write_bytes(raw)
    with terminal("buffer", "export", "--data-dir", str(copy), "--output", str(tmp_path / "x")) as screen:
        shown = screen.rest()
    assert "%" in shown
    assert "stretches of damage were passed over" in shown
    done = limpet(tmp_path, "buffer export --data-dir", copy, "--output", tmp_path / "y")
    assert done.status == 0
    assert re.fullmatch(r"\d+ stretches of damage were passed over; .*\n", done.err)


def test_verify_says_what_is_readable_and_never_to_delete(data: Path, tmp_path: Path) -> None:
    done = limpet(tmp_path, "buffer verify --data-dir", data)
    assert (done.status, done.err) == (0, "")
    assert "99,000 samples are readable, from " in done.out
    assert "No damage." in done.out
    deep = limpet(tmp_path, "buffer verify --data-dir", data, "--deep", "--json")
    assert (deep.status, deep.json["ok"], deep.json["samples_lost"]) == (0, True, 0)

    copy = tmp_path / "data"
    history(copy, 1_750_000_000_000)
    files = sorted((copy / "segments").iterdir())
    raw = bytearray(files[1].read_bytes())
    raw[HEADER.size + 1000] ^= 1
    files[1].write_bytes(raw)
    os.chmod(copy / "segments", 0o500)
    done = limpet(tmp_path, "buffer verify --data-dir", copy)
    assert done.status == 1
    assert "The agent continues when it is started" in done.out
    assert "fails its checksum" in done.out or "no record starts here" in done.out
    assert not re.search(r"delete|remove", done.out + done.err)
    found = limpet(tmp_path, "buffer verify --data-dir", copy, "--json").json
    assert found["ok"] is False
    assert found["samples"] + found["samples_lost"] == COUNT * len(TABLE)
    assert [one["name"] for one in found["segments"] if one["damage"]] == [files[1].name]


@pytest.fixture
def agent(tmp_path: Path, first_ms: int) -> Iterator[Agent]:
    """An agent with a backlog, whose destination is away."""
    nobody = {"url": f"http://127.0.0.1:{free_port()}/api/v1/write", "name": "central"}
    sizes = {"max_size": "16MiB", "segment_size": "64KiB", "sync_interval": "1s"}
    agent = Agent(tmp_path / "agent", [nobody], buffer=sizes)
    history(agent.data_dir, first_ms)
    with agent:
        yield agent


def balances(agent: Agent) -> int:
    """Whether the ledger balances, and how many samples were evicted."""
    ledger = agent.destination("central")["ledger"]
    assert ledger["appended"] == ledger["delivered"] + ledger["pending"] + sum(ledger["dropped"].values())
    assert ledger["pending"] == agent.appended()
    evicted = ledger["dropped"]["evicted"]
    assert isinstance(evicted, int)
    return evicted


def test_verify_while_an_agent_runs_has_no_false_alarm(agent: Agent, tmp_path: Path) -> None:
    looks = 0
    samples = [0]
    deadline = time.monotonic() + 60
    while looks < 8 or samples[-1] <= samples[1]:
        assert time.monotonic() < deadline
        done = limpet(tmp_path, "buffer verify --config", agent.config_file, "--json")
        assert done.status == 0, done.out
        assert done.json["writer_pid"] == agent.pid
        samples.append(done.json["samples"])
        looks += 1
    assert samples == sorted(samples)


def test_trim_is_done_by_the_agent_that_runs(agent: Agent, tmp_path: Path) -> None:
    command: list[str | Path] = ["buffer trim --config", agent.config_file, "--before", "5h"]
    done = limpet(tmp_path, *command)
    assert done.status == 2
    assert "there is no terminal to ask at" in done.err
    done = limpet(tmp_path, *command, "--yes", "--json")
    assert done.status == 0, done
    cost = done.json
    assert (cost["trimmed"], cost["agent_pid"]) == (True, agent.pid)
    assert cost["evicted"] == {"central": cost["samples"]}
    assert cost["newest_timestamp_ms"] < (time.time() - 5 * 3600) * 1000
    assert agent.status()["oldest_timestamp_ms"] > cost["newest_timestamp_ms"]
    assert agent.events("buffer.trimmed")
    assert limpet(tmp_path, *command, "--yes").status == 1  # nothing is left to trim
    assert agent.stop() == 0
    assert balances(agent) == cost["samples"]


def test_trim_of_a_stopped_and_of_a_dead_agent(agent: Agent, tmp_path: Path) -> None:
    agent.kill()
    command: list[str | Path] = ["buffer trim --data-dir", agent.data_dir, "--yes", "--json"]
    done = limpet(tmp_path, *command, "--before", "6h")
    assert (done.status, done.json["agent_pid"]) == (0, None)
    evicted = done.json["samples"]
    assert balances(agent) == evicted
    agent.start()
    wait_for(lambda: agent.destination("central")["state"] == "waiting", 10, "a failed try")
    assert agent.stop() == 0
    assert balances(agent) == evicted
    done = limpet(tmp_path, *command, "--to-size", "100KiB")
    assert done.status == 0
    assert agent.status()["bytes"] <= 100 << 10
    assert balances(agent) == evicted + done.json["samples"]
    size = limpet(tmp_path, *command, "--to-size", "lots")
    assert size.status == 2
    assert "expected a size such as 64MiB" in size.err


@pytest.mark.parametrize("answer", [b"n\n", b"\n", b"y\n"], ids=["no", "nothing", "yes"])
def test_trim_asks_at_a_terminal(tmp_path: Path, answer: bytes) -> None:
    folder = tmp_path / "data"
    history(folder, 1_750_000_000_000)
    before = len(list((folder / "segments").iterdir()))
    with terminal("buffer", "trim", "--data-dir", str(folder), "--to-size", "64KiB") as screen:
        shown = screen.until(r"for good\? \[y/N\]")
        assert re.search(r"never gets 9\d,\d{3} of them", shown)
        screen.press(answer)
        screen.rest()
        agreed = answer == b"y\n"
        assert screen.process.wait(10) == (0 if agreed else 1)
    assert (len(list((folder / "segments").iterdir())) < before) is agreed


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
def test_trim_by_root_leaves_files_that_the_agents_user_can_read(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory() as name:  # not below tmp_path, into which only root may look
        folder = Path(name)
        history(folder, 1_750_000_000_000)
        for path in (folder, *folder.rglob("*")):
            os.chown(path, 65534, 65534)
        done = limpet(tmp_path, "buffer trim --data-dir", folder, "--to-size", "64KiB", "--yes")
        assert done.status == 0, done.err
        assert {path.stat().st_uid for path in (folder, *folder.rglob("*"))} == {65534}
