"""`limpet buffer` as an operator runs it, on a real buffer whose writer runs, was stopped, or was killed."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.support.limpet import LIMPET
from tests.support.net import wait_for

ROOT = Path(__file__).resolve().parents[2]

# Ten instants of two collectors, the second cut into its own segment; one destination has settled six
# instants of them, two samples refused. Then one more tick for each line on standard input.
WRITER = """
import sys
from buffer.buffer import Buffer
from buffer.limits import Limits
from buffer.model import Instant, Series, Tick

buffer = Buffer(sys.argv[1], Limits(1 << 20, segment_size=512), ["central", "backup"])
host = ("hostname", "web-01")
disk = tuple(Series("disk_free_bytes", (host, ("mountpoint", f"/{i}")), "gauge", "bytes", "x") for i in range(4))
load = (Series("load_average_1m", (host,)),)

def append(n):
    at = Instant(1_750_000_000_000 + n * 10_000, n * 10_000, "0123456789abcdef" * 2)
    values = [float(n * 1000 + i * 37) for i in range(4)]
    buffer.append([Tick(at, "disk_usage", disk, values), Tick(at, "load", load, [n / 8])], missed=n == 3)

for n in range(10):
    append(n)
cursor = buffer.cursors["central"]
chunk = cursor.read(30)
cursor.commit(chunk.start, chunk.end, chunk.samples - 2, {"rejected": 2})
cursor.note("sending", None)
buffer.cursors["backup"].note("held", "HTTP 401: wrong password")
buffer.sync()
print("ready", flush=True)
for n, _ in enumerate(sys.stdin, start=10):
    append(n)
    print("appended", flush=True)
buffer.close()
"""


class Writer:
    """A process that writes to a buffer."""

    def __init__(self, data_dir: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(data_dir)],
            cwd=ROOT,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self.data_dir = data_dir
        self._hear("ready")

    def append(self) -> None:
        assert self.process.stdin
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        self._hear("appended")

    def _hear(self, word: str) -> None:
        assert self.process.stdout
        assert self.process.stdout.readline() == f"{word}\n"

    def stop(self) -> None:
        self.process.communicate(timeout=30)
        assert self.process.returncode == 0

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=30)


class State(NamedTuple):
    """A buffer, and the pid of its writer where one runs."""

    data_dir: Path
    writer: int | None


@pytest.fixture(params=["running", "stopped", "killed"])
def state(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[State]:
    writer = Writer(tmp_path / "data")
    try:
        if request.param == "stopped":
            writer.stop()
        elif request.param == "killed":
            writer.kill()
        yield State(writer.data_dir, writer.process.pid if request.param == "running" else None)
    finally:
        writer.kill()


def limpet(*arguments: str, status: int = 0, **environment: str) -> str:
    """Run the command; return what it says on standard output, or, where it fails, on standard error."""
    done = subprocess.run(
        [LIMPET, *arguments], capture_output=True, text=True, timeout=60, env={**os.environ, **environment}
    )
    assert done.returncode == status, done.stderr
    if status:
        assert done.stdout == ""
        return done.stderr
    assert done.stderr == ""
    return done.stdout


def snapshot(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {
        str(path): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def shape(value: Any) -> Any:
    """The keys and the types of a document."""
    if isinstance(value, dict):
        return {key: shape(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [shape(inner) for inner in value]
    return type(value).__name__


def typed(keys: str) -> dict[str, str]:
    return dict(zip(*[iter(re.split("[: ]+", keys))] * 2, strict=True))


DOCUMENTED = typed(
    "data_dir: str bytes: int max_bytes: NoneType segments: int samples: int bytes_per_sample: float "
    "oldest_timestamp_ms: int newest_timestamp_ms: int time_until_full_seconds: NoneType damaged_records: int"
)
LEDGER = typed("appended: int delivered: int pending: int missed: int loss_ratio: float")
DOCUMENTED_DESTINATION = typed(
    "name: str state: str pending_samples: int pending_bytes: int oldest_pending_timestamp_ms: int "
    "lag_seconds: float"
) | {"ledger": {**LEDGER, "dropped": typed("evicted: int rejected: int")}}


def test_status_has_the_documented_keys(state: State) -> None:
    before = snapshot(state.data_dir)
    found = json.loads(limpet("buffer", "status", "--json", "--data-dir", str(state.data_dir)))
    assert snapshot(state.data_dir) == before
    known = shape(found)
    assert DOCUMENTED.items() <= known.items()
    assert found["writer_pid"] == state.writer
    by_name = {one["name"]: one for one in found["destinations"]}
    assert sorted(by_name) == ["backup", "central"]
    for one in by_name.values():
        assert DOCUMENTED_DESTINATION.items() <= shape(one).items()
        assert {"last_error", "drain_eta_seconds"} <= one.keys()
        ledger = one["ledger"]
        assert ledger["appended"] == ledger["delivered"] + ledger["pending"] + sum(ledger["dropped"].values())
    running = state.writer is not None
    assert found["samples"] == 50
    assert found["oldest_timestamp_ms"] == 1_750_000_000_000
    assert found["newest_timestamp_ms"] == 1_750_000_090_000
    assert by_name["central"]["state"] == ("sending" if running else "stopped")
    assert by_name["backup"]["state"] == ("held" if running else "stopped")
    assert by_name["backup"]["last_error"] == "HTTP 401: wrong password"
    assert by_name["central"]["pending_samples"] == 20
    assert by_name["central"]["oldest_pending_timestamp_ms"] == 1_750_000_060_000
    assert by_name["central"]["ledger"] | {"loss_ratio": 0} == {
        "appended": 50,
        "delivered": 28,
        "pending": 20,
        "dropped": {"evicted": 0, "rejected": 2},
        "missed": 1,
        "loss_ratio": 0,
    }
    assert by_name["central"]["ledger"]["loss_ratio"] == pytest.approx(3 / 51, abs=1e-6)


def test_status_for_people(state: State) -> None:
    shown = limpet("buffer", "status", "--data-dir", str(state.data_dir), COLUMNS="120")
    words = [" ".join(line.split()) for line in shown.splitlines()]
    assert f"buffer {state.data_dir}" in words
    assert ("writer not running" if state.writer is None else f"writer process {state.writer}") in words
    assert any(line.startswith("central ") and line.endswith(" 28 2 rejected 1 5.882 %") for line in words)
    assert "backup: HTTP 401: wrong password" in words
    assert "\x1b" not in shown


def test_segments(state: State) -> None:
    before = snapshot(state.data_dir)
    found = json.loads(limpet("buffer", "segments", "--json", "--data-dir", str(state.data_dir)))
    assert snapshot(state.data_dir) == before
    files = sorted((state.data_dir / "segments").glob("*.seg"))
    assert [one["name"] for one in found] == [file.name for file in files]
    assert [one["bytes"] for one in found] == [file.stat().st_size for file in files]
    assert sum(one["samples"] for one in found) == 50
    assert all(one["key_frames"] >= 1 and not one["damaged"] for one in found)
    table = limpet("buffer", "segments", "--data-dir", str(state.data_dir)).splitlines()
    assert len(table) == len(files) + 2


def test_tail(state: State) -> None:
    before = snapshot(state.data_dir)
    where = ("--data-dir", str(state.data_dir))
    found = [json.loads(line) for line in limpet("buffer", "tail", "--json", "-n", "3", *where).splitlines()]
    assert [(one["timestamp_ms"], one["collector"]) for one in found] == [
        (1_750_000_080_000, "load"),
        (1_750_000_090_000, "disk_usage"),
        (1_750_000_090_000, "load"),
    ]
    assert found[1]["boot_id"] == "0123456789abcdef" * 2
    assert found[1]["samples"][1] == {
        "name": "disk_free_bytes",
        "labels": {"hostname": "web-01", "mountpoint": "/1"},
        "value": 9037.0,
    }
    assert len(limpet("buffer", "tail", *where).splitlines()) == 10
    assert len(limpet("buffer", "tail", "--values", "-n", "2", *where).splitlines()) == 5
    assert limpet("buffer", "tail", "-n", "0", *where) == ""
    assert snapshot(state.data_dir) == before


@pytest.fixture
def copy(state: State, tmp_path: Path) -> Iterator[Path]:
    """A copy that nobody may write to (but root, whom the snapshots of the other tests are for)."""
    copy = tmp_path / "copy"
    shutil.copytree(state.data_dir, copy)
    folders = [copy, *(path for path in copy.rglob("*") if path.is_dir())]
    for folder in folders:
        folder.chmod(0o500)
    yield copy
    for folder in folders:
        folder.chmod(0o700)


def test_a_read_only_copy_says_the_same(state: State, copy: Path) -> None:
    for command in (["segments", "--json"], ["tail", "--json"], ["tail", "--values"]):
        one, other = (limpet("buffer", *command, "--data-dir", str(path)) for path in (state.data_dir, copy))
        assert one == other
    copied = json.loads(limpet("buffer", "status", "--json", "--data-dir", str(copy)))
    assert (copied["samples"], copied["writer_pid"]) == (50, None)


def test_the_cap_comes_from_the_configuration(state: State, tmp_path: Path) -> None:
    file = tmp_path / "limpet.yaml"
    file.write_text(f"data_dir: {state.data_dir.name}\nbuffer: {{max_size: 1MiB}}\n")
    found = json.loads(limpet("buffer", "status", "--json", "--config", str(file)))
    assert (found["data_dir"], found["max_bytes"]) == (str(state.data_dir), 1 << 20)
    assert "of 1 MiB" in limpet("buffer", "status", "--config", str(file))


@pytest.mark.parametrize("command", ["status", "segments", "tail"])
def test_a_folder_that_is_not_there(command: str, tmp_path: Path) -> None:
    said = limpet("buffer", command, "--data-dir", str(tmp_path / "none"), status=2)
    assert said == (
        f"{tmp_path / 'none'}: there is no such folder. Check the path; the agent makes it when it starts.\n"
    )
    (tmp_path / "file").touch()
    said = limpet("buffer", command, "--data-dir", str(tmp_path / "file"), status=2)
    assert said.startswith(f"{tmp_path / 'file'}: the buffer cannot be read: not a directory. ")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]


def test_an_empty_folder_is_an_empty_buffer(tmp_path: Path) -> None:
    where = ("--data-dir", str(tmp_path))
    found = json.loads(limpet("buffer", "status", "--json", *where))
    assert (found["bytes"], found["samples"], found["segments"], found["destinations"]) == (0, 0, 0, [])
    assert limpet("buffer", "segments", "--json", *where) == "[]\n"
    assert limpet("buffer", "tail", *where) == ""
    assert "0 in 0 segments" in limpet("buffer", "status", *where)
    assert list(tmp_path.iterdir()) == []


class Following:
    """A `limpet` command that keeps running; its standard output is read line by line, as it comes."""

    def __init__(self, file: Path, *arguments: str) -> None:
        self._file = file
        with file.open("wb") as out:
            self.process = subprocess.Popen([LIMPET, *arguments], stdout=out, stderr=subprocess.PIPE)

    def lines(self, number: int) -> list[str]:
        """Wait until there are so many whole lines."""

        def found() -> list[str] | None:
            lines = self._file.read_text().splitlines(keepends=True)
            whole = [line for line in lines if line.endswith("\n")]
            return whole if len(whole) >= number else None

        assert self.process.poll() is None
        return wait_for(found, 30, f"{number} lines")

    def interrupt(self) -> None:
        """Ctrl-C: it ends at once, and without a word."""
        self.process.send_signal(signal.SIGINT)
        _, said = self.process.communicate(timeout=10)
        assert (self.process.returncode, said) == (130, b"")

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()


def test_follow_over_the_death_of_the_writer(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "data")
    command = ("buffer", "tail", "--follow", "--json", "-n", "1", "--data-dir", str(writer.data_dir))
    follower = Following(tmp_path / "out", *command)
    try:
        follower.lines(1)
        writer.append()
        assert len(follower.lines(3)) == 3
        writer.kill()
        writer = Writer(tmp_path / "data")  # writes its ten instants again, into new segments
        found = [json.loads(line) for line in follower.lines(23)]
        first = 1_750_000_000_000
        expected = [first + 90_000, *[first + 100_000] * 2, *(first + n // 2 * 10_000 for n in range(20))]
        assert [one["timestamp_ms"] for one in found] == expected
        for file in sorted((writer.data_dir / "segments").iterdir())[:-1]:
            file.unlink()  # as the writer does with what is settled
        writer.append()
        assert len(follower.lines(25)) == 25
        follower.interrupt()
    finally:
        follower.kill()
        writer.kill()


def test_watch_prints_a_document_a_line(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "data")
    where = ("--data-dir", str(writer.data_dir))
    follower = Following(tmp_path / "out", "buffer", "status", "--watch", "0.1", "--json", *where)
    blocks = Following(tmp_path / "blocks", "buffer", "status", "--watch", "0.1", *where)
    try:
        seen = len(follower.lines(2))
        writer.append()
        found = [json.loads(line) for line in follower.lines(seen + 3)]
        assert (found[0]["samples"], found[-1]["samples"]) == (50, 55)
        shown = "".join(blocks.lines(40))
        assert shown.count("buffer   /") >= 2
        assert "\x1b" not in shown
        follower.interrupt()
        blocks.interrupt()
    finally:
        follower.kill()
        blocks.kill()
        writer.kill()
