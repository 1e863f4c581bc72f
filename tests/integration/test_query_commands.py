"""`limpet query` and `limpet show` as a technician runs them, on a buffer with hours of a recorded host."""

from __future__ import annotations

import csv
import io
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from buffer.buffer import Buffer
from buffer.limits import Limits
from buffer.model import STALE, Instant, Series, Tick
from tests.bench import replay
from tests.support.limpet import Done, called, limpet

ROOT = Path(__file__).resolve().parents[2]
HOURS = 13
WORDS = tuple(
    line
    for page in ("docs/query.md", "docs/commands.md", "README.md")
    for line in re.findall(
        r"(?m)^    \$ limpet ((?:query|show)\b.*)$", (ROOT / page).read_text(encoding="utf-8")
    )
)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("query") / "data"
    recording = replay.load()
    rounds = replay.repeated(recording, recording.samples * HOURS, round(time.time() * 1000))
    replay.fill(folder, islice(rounds, 0, None, 3))  # a tick every 30 s: it is the span that matters
    return folder


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path


def test_the_pages_have_commands() -> None:
    assert len(WORDS) >= 10


@pytest.mark.parametrize("words", WORDS)
def test_every_printed_command_answers(words: str, data_dir: Path, home: Path) -> None:
    done = called(home, *shlex.split(words), "--data-dir", data_dir)
    if "--since 2" in words:
        assert (done.status, done.out.count("series"), "no data for" in done.err) == (
            1,
            0,
            True,
        ) or "--json" in words
    else:
        assert (done.status, done.err) == (0, "")
        assert done.out


def test_the_samples_are_those_that_were_appended(data_dir: Path, home: Path) -> None:
    done = called(
        home, "query", "load_average_1m", "--last", "1h", "--step", "10s", "--json", "--data-dir", data_dir
    )
    ((entry,), warnings) = done.json["data"]["result"], done.json.get("warnings")
    shown = {float(value) for _, value in entry["values"]}
    recorded = {
        value
        for ticks in replay.load().rounds
        for tick in ticks
        for series, value in zip(tick.series, tick.values, strict=True)
        if series.name == "load_average_1m"
    }
    assert len(entry["values"]) > 300
    assert shown <= recorded
    assert warnings is None


def test_csv_and_json_have_the_same_numbers(data_dir: Path, home: Path) -> None:
    words = (
        "query",
        "sum(rate(cpu_user_seconds_total[5m]))",
        "--since",
        "30m",
        "--until",
        "10m",
        "--step",
        "1m",
    )
    as_json = called(home, *words, "--json", "--data-dir", data_dir).json
    rows = list(csv.DictReader(io.StringIO(called(home, *words, "--csv", "--data-dir", data_dir).out)))
    values = as_json["data"]["result"][0]["values"]
    assert 19 <= len(rows) <= 21
    assert {float(row["value"]) for row in rows} & {float(value) for _, value in values}


def test_what_there_is_can_be_listed(data_dir: Path, home: Path) -> None:
    labels = called(home, "query", "--labels", "--json", "--data-dir", data_dir).json["data"]
    assert {"__name__", "core", "device", "hostname", "mountpoint"} <= set(labels)
    cores = called(home, "query", "--labels", "core", "--json", "--data-dir", data_dir).json["data"]
    assert cores == ["0", "1", "all"]
    found = called(home, "query", "--series", '{core!=""}', "--json", "--data-dir", data_dir).json["data"]
    assert {(one["__name__"], one["core"]) for one in found} == {
        ("cpu_usage_percent", "all"),
        ("cpu_usage_per_core_percent", "0"),
        ("cpu_usage_per_core_percent", "1"),
    }
    table = called(home, "query", "--series", '{core!=""}', "--last", "30m", "--data-dir", data_dir).out
    assert 'cpu_usage_per_core_percent{core="0"}' in table
    assert "hostname" not in table  # what every series has says nothing
    missing = called(home, "query", "--series", "nothing", "--data-dir", data_dir)
    assert (missing.status, missing.out, missing.err) == (1, "", "no series is there, or none matches\n")


@pytest.mark.parametrize("name", ["cpu", "memory", "disk", "io", "network", "load"])
def test_each_name_is_shown(name: str, data_dir: Path, home: Path) -> None:
    done = called(home, "show", name, "--last", "6h", "--data-dir", data_dir)
    assert (done.status, done.err) == (0, "")
    assert re.search(r"[\u2801-\u28ff]", done.out)
    assert len(done.out.splitlines()) <= 30
    document = called(home, "show", name, "--last", "6h", "--json", "--data-dir", data_dir).json
    assert document["panels"]


def test_the_numbers_next_to_a_line_are_of_every_sample(tmp_path: Path) -> None:
    now = int(time.time() * 1000)
    buffer = Buffer(str(tmp_path / "data"), Limits(), [])
    series = (Series("load_average_1m", (("hostname", "a"),)),)
    for n in range(6 * 360):
        value = 99.0 if n == 700 else 1.0  # one tick of ten seconds in six hours
        buffer.append(
            [Tick(Instant(now - (6 * 360 - n) * 10_000, n * 10_000, "0" * 32), "load", series, [value])]
        )
    buffer.close()
    out = called(tmp_path, "show", "load", "--last", "7h", "--data-dir", tmp_path / "data").out
    assert re.search(r"load_average_1m +1 +1\.05 +99 +1\n", out)


def test_no_data_says_what_there_is(data_dir: Path, home: Path) -> None:
    for words in (
        ("query", "no_such_metric"),
        ("show", "temperature"),
        ("query", "load_average_1m", "--at", "3d"),
    ):
        done = called(home, *words, "--data-dir", data_dir)
        assert (done.status, done.out) == (1, "")
        assert re.fullmatch(
            r"no data for .*; the newest sample is of \d{4}-\d\d-\d\d \d\d:\d\d:\d\d\n", done.err
        )
    done = called(home, "query", "no_such_metric", "--json", "--data-dir", data_dir)
    assert (done.status, done.json["data"]["result"]) == (1, [])
    empty = home / "empty"
    Buffer(str(empty), Limits(), []).close()
    done = called(home, "query", "up", "--data-dir", empty)
    assert (done.status, done.err.endswith("; the buffer is empty\n")) == (1, True)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (
            "query 'sum('",
            "expression: expected a metric, a number, a function or (, character 5, at its end.",
        ),
        ("query 'no_such(x)'", "the function no_such does not exist, character 1"),
        ("query 'x[5m]' --last 1h", "over time only a scalar or an instant vector"),
        ("query", "Give EXPRESSION, --series SELECTOR or --labels"),
        ("query x --labels", "one thing is expected"),
        ("query x --at 1h --last 2h", "--at: it is one time"),
        ("query x --step 1m", "--step: it needs a span of time"),
        ("query x --last 1h --since 2h", "--last: it is the time until now"),
        ("query x --since 1h --until 2h", "--since: it is not before --until"),
        ("query x --last 1y --step 10s", "it has 3,153,601 steps, and 11,000 are allowed"),
        ("query x --last soon", "expected a duration such as 30s, 6h or 7d, not 'soon'"),
        ("query --series '{'", "selector:"),
        ("query --labels --csv", "--csv, --at and --step are for an expression"),
        ("show kitchen", "there is no 'kitchen'"),
    ],
)
def test_wrong_usage_says_what_to_do(words: str, says: str, data_dir: Path, home: Path) -> None:
    done = called(home, *shlex.split(words), "--data-dir", data_dir)
    assert (done.status, done.out) == (2, "")
    assert says in done.err


WRITER = """
import sys, time
from buffer.buffer import Buffer
from buffer.limits import Limits
from buffer.model import Instant, Series, Tick

buffer = Buffer(sys.argv[1], Limits(), [])
series = (Series("load_average_1m", (("hostname", "a"),)),)
start = int(time.time() * 1000) - 100_000
for n in range(10):
    buffer.append([Tick(Instant(start + n * 10_000, n * 10_000, "0" * 32), "load", series, [float(n)])])
print("ready", flush=True)
sys.stdin.read()
buffer.close()
"""


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path / "data")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    yield process
    process.kill()
    process.communicate()


@pytest.mark.parametrize("how", ["running", "stopped", "killed"])
def test_it_answers_with_the_agent_running_stopped_or_dead(
    how: str, writer: subprocess.Popen[str], tmp_path: Path
) -> None:
    if how == "stopped":
        writer.communicate("")
    elif how == "killed":
        writer.send_signal(signal.SIGKILL)
        writer.wait(30)
    before = listing(tmp_path / "data")
    done = limpet(
        tmp_path, "query", "sum_over_time(load_average_1m[10m])", "--json", "--data-dir", tmp_path / "data"
    )
    assert [one["value"][1] for one in done.json["data"]["result"]] == ["45"]
    assert listing(tmp_path / "data") == before  # it only reads
    assert (how == "running") == (writer.poll() is None)


def listing(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_damage_is_named(data_dir: Path, home: Path) -> None:
    copy = home / "copy"
    shutil.copytree(data_dir, copy)
    newest = max((copy / "segments").iterdir(), key=lambda path: path.stat().st_mtime)
    data = bytearray(newest.read_bytes())
    data[len(data) // 2] ^= 0xFF
    newest.write_bytes(data)
    done = called(home, "query", "count_over_time(load_average_1m[13h])", "--json", "--data-dir", copy)
    assert done.status == 0
    assert re.match(r"\d+ stretch(es)? of damage passed over", done.err)
    assert done.json["warnings"] == [done.err.strip()]
    whole = called(home, "query", "count_over_time(load_average_1m[13h])", "--json", "--data-dir", data_dir)
    assert 0 < count(done) <= count(whole)
    shown = called(home, "show", "load", "--last", "12h", "--data-dir", copy)
    assert "damage passed over" in shown.err


def count(done: Done) -> float:
    result: list[Any] = done.json["data"]["result"]
    return float(result[0]["value"][1])


def test_hostile_names_reach_no_terminal(tmp_path: Path) -> None:
    now = int(time.time() * 1000)
    buffer = Buffer(str(tmp_path / "data"), Limits(), [])
    evil = "\x1b]0;owned\x07\u202e\n"
    series = (Series("load_average_1m", (("a", evil),)), Series("load_average_1m", (("b", "x"),)))
    ended = (Series("gone", (("c", evil),)),)
    for n in range(3):
        at = Instant(now - (3 - n) * 10_000, n * 10_000, "0" * 32)
        buffer.append(
            [Tick(at, "load", series, [float(n), 1.0]), Tick(at, "x", ended, [STALE if n == 2 else 1.0])]
        )
    buffer.close()
    for words in ("query load_average_1m", "query load_average_1m --last 1m", "query --series load_average_1m",
                  "query --labels a", "show load --last 1m", "query gone --last 1m"):  # fmt: skip
        done = called(tmp_path, *shlex.split(words), "--data-dir", tmp_path / "data")
        assert (done.status, done.err) == (0, ""), words
        assert "\x1b" not in done.out
        assert "\u202e" not in done.out
    assert (
        called(tmp_path, "query", "gone", "--data-dir", tmp_path / "data").status == 1
    )  # the series has ended
