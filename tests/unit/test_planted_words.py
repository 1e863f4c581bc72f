"""What a user may write into the files of data_dir: every command that reads them answers, and obeys none of it."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agent import running
from agent.cli.main import main
from agent.config import Config
from agent.ops import processes, seen
from buffer.buffer import Buffer
from buffer.ledger import SLOT, Ledger, encode
from buffer.limits import Limits
from buffer.quarantine import Quarantine
from tests.support.buffers import fill
from tests.support.ticks import tick
from tests.unit.test_planted import in_time

ITEM = "there-" + "0" * 20
RED = "\x1b[31m\x07\n\x9b"
HUGE = 10**400
COMMANDS = (
    *("status", "status --json", "buffer status", "buffer status --json", "buffer segments"),
    *("buffer quarantine list", "buffer quarantine list --json", f"buffer quarantine show {ITEM}"),
)
NOTE: dict[str, Any] = {
    "version": "1", "pid": 1, "boot_id": "b", "started_ms": 1, "config": "/nowhere/limpet.yaml", "digest": "d", "loaded_ms": 1,
}  # fmt: skip


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("template") / "data"
    buffer = Buffer(str(folder), Limits(1 << 20), ["there"])
    fill(buffer, 0, 10)
    buffer.close()
    Quarantine(str(folder)).put("there", 0, [tick(1)], "rejected", 400, "no", 1000)
    return folder


@pytest.fixture
def data(tmp_path: Path, template: Path) -> Path:
    return Path(shutil.copytree(template, tmp_path / "data"))


@contextmanager
def held(data: Path, pid: int) -> Iterator[None]:
    """The lock as somebody holds it who says to be another process."""
    with open(data / "lock", "w") as file:
        file.write(f"{pid}\n")
        file.flush()
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def said(capsys: pytest.CaptureFixture[str], data: Path, *commands: str) -> str:
    """What the commands say, with the agent stopped and with somebody who holds its lock."""
    config = data.with_name("limpet.yaml")
    config.write_text(f"data_dir: {data}\nremote_write: []\n")
    found: list[str] = []
    for command in commands:
        more = ["--config", str(config)] if command.startswith("doctor") else ["--data-dir", str(data)]
        with in_time():
            assert main([*command.split(), *more]) in (0, 1, 2), command
            with held(data, 4711):
                assert main([*command.split(), *more]) in (0, 1, 2), command
        found += capsys.readouterr()
    shown = "".join(found)
    assert shown.replace("\n", "").isprintable()
    return shown


def sealed(line: bytes) -> bytes:
    """A line with its checksum, as in a cursor file."""
    return line + b"\n%08x\n" % zlib.crc32(line)


def note(data: Path, **changes: Any) -> None:
    (data / "agent.json").write_text(json.dumps({**NOTE, **changes}))


@pytest.mark.parametrize("key", ["started_ms", "loaded_ms", "refused_ms", "ended_ms", "pid"])
@pytest.mark.parametrize("value", [HUGE, -(2**63), 2**64, 1e300], ids=["huge", "low", "high", "real"])
def test_no_number_of_a_note_is_too_large(
    data: Path, key: str, value: float, capsys: pytest.CaptureFixture[str]
) -> None:
    note(data, **{key: value})
    said(capsys, data, "status", "status --json")


@pytest.mark.parametrize(
    "changes",
    [
        {"config": "/x\0y"}, {"config": RED}, {"config": "/" + RED}, {"config": ""}, {"config": "/x" * 6000},
        {"version": RED}, {"problem": RED, "refused_ms": 1}, {"boot_id": RED},
    ],
)  # fmt: skip
def test_no_text_of_a_note_does_anything(
    data: Path, changes: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    note(data, **changes)
    said(capsys, data, "status", "status --json")


def test_a_deep_note_is_none_or_the_note(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Python 3.14 can skip what is that deep, and earlier ones cannot."""
    (data / "agent.json").write_text(json.dumps(NOTE)[:-1] + f', "more": {"[" * 8000}{"]" * 8000}}}')
    assert running.read(str(data)) in (None, msgspec.convert(NOTE, running.Note))
    said(capsys, data, "status", "doctor --timeout 1s")


def test_a_note_as_the_agent_writes_it_is_read(data: Path) -> None:
    keeper = running.Keeper(str(data), "0" * 32, "/etc/limpet/limpet.yaml", "a" * 64)
    keeper.refused("wrong")
    keeper.ended()
    assert running.read(str(data)) == keeper.note


@pytest.mark.parametrize(
    "skew", [str(HUGE), "-1e300", "1e400", "NaN", "[" * 2000], ids=["huge", "low", "infinite", "nan", "deep"]
)
def test_a_hint_is_not_believed(data: Path, skew: str, capsys: pytest.CaptureFixture[str]) -> None:
    hint = sealed(f'{{"tries": 3, "skew": {skew}}}'.encode())
    slot = encode(Ledger.starting(0, 0)._replace(state="waiting"), 7) + hint
    (data / "cursors" / "there.json").write_bytes(slot.ljust(2 * SLOT))
    said(capsys, data, "status", "status --json", "buffer status")
    Buffer(str(data), Limits(1 << 20), ["there"]).close()  # the agent starts, too


@pytest.mark.parametrize("rate", [5e-324, 1e300, HUGE], ids=["small", "large", "huge"])
def test_a_rate_gives_no_endless_time(data: Path, rate: float, capsys: pytest.CaptureFixture[str]) -> None:
    ledger = Ledger.starting(0, 0)._replace(state="sending", rate=rate)
    (data / "cursors" / "there.json").write_bytes(encode(ledger, 7).ljust(2 * SLOT))
    said(capsys, data, *COMMANDS)


def test_a_name_is_not_obeyed(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ledger = encode(Ledger.starting(0, 0)._replace(error=RED, state=RED), 7)
    (data / "cursors" / f"{RED}.json").write_bytes(ledger.ljust(2 * SLOT))
    said(capsys, data, *COMMANDS, "doctor --timeout 1s")
    (data / "cursors" / f"{RED}.json").write_bytes(sealed(b'{"version": 99, "generation": 1}'))
    shown = said(capsys, data, *COMMANDS)
    assert "\\x1b[31m\\x07\\n" in shown
    assert "format version 99" in shown


@pytest.mark.parametrize(
    "changes",
    [
        *({key: HUGE} for key in ("samples", "bytes", "refused_at_ms", "status", "oldest_timestamp_ms")),
        {"samples": -HUGE}, {"samples": 10**4200}, {"refused_at_ms": 2**62}, {"newest_timestamp_ms": -(2**62)},
        *({key: RED} for key in ("message", "reason", "destination")),
    ],
    ids=lambda changes: next(iter(changes)),
)  # fmt: skip
def test_no_item_says_too_much(
    data: Path, changes: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    about = data / "quarantine" / ITEM / "about.json"
    about.write_text(json.dumps({**json.loads(about.read_text()), **changes}))
    resend = "buffer quarantine replay --all --to nowhere --give-up-after 100ms"
    said(capsys, data, *COMMANDS, resend)


def test_folders_without_end_are_not_followed(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    at = os.open(data, os.O_RDONLY)
    for _ in range(1200):
        os.mkdir("a", dir_fd=at)
        below = os.open("a", os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = below
    os.close(at)
    try:
        said(capsys, data, "doctor --timeout 5s")
    finally:
        subprocess.run(["rm", "-rf", str(data)], check=True)  # shutil cannot


@pytest.mark.parametrize("text", ['data_dir: "/tmp/\\0x"', 'data_dir: "/tmp/\\e[31m"', 'data_dir: ""'])
def test_a_configuration_with_errors_leads_to_a_folder_or_to_the_default(tmp_path: Path, text: str) -> None:
    config = tmp_path / "limpet.yaml"
    config.write_text(f"{text}\nno_such_key: 1\n")
    found = seen.look(None, str(config), seen.DEFAULT_CONFIG, 1e9, "0" * 32)
    assert found.file is not None
    assert found.file.problem is not None
    assert found.data_dir == Config().data_dir


@pytest.mark.parametrize("pid", [0, 1])
def test_nobody_is_sent_to_signal_a_process_that_is_no_agent(
    data: Path, pid: int, capsys: pytest.CaptureFixture[str]
) -> None:
    config = data.with_name("limpet.yaml")
    config.write_text(f"data_dir: {data}\nno_such_key: 1\n")
    note(data, config=str(config))
    with held(data, pid):
        found = seen.look(None, str(config), seen.DEFAULT_CONFIG, 1e9, "b")
        main(["status", "--config", str(config)])
    assert found.is_running
    assert found.reachable is None
    assert "HUP" not in capsys.readouterr().out


def test_an_agent_is_one_by_its_command_line() -> None:
    code = "import sys; print(flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code, "limpet", "run"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert processes.is_agent(process.pid)
        assert process.stdin is not None
        process.stdin.close()
    assert not processes.is_agent(process.pid)
    assert not processes.is_agent(os.getpid())


def test_the_note_of_the_largest_numbers_is_written_and_read(data: Path) -> None:
    keeper = running.Keeper(str(data), "0" * 32, "/etc/limpet.yaml", "a" * 64)
    largest = msgspec.structs.replace(keeper.note, started_ms=1 << 62, pid=1 << 22)
    running.write(str(data), largest)
    assert running.read(str(data)) == largest
