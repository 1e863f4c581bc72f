"""Broken boxes: a script makes each for real, and `limpet status` names the cause and the action first; so does `doctor`.

Each box is a folder with a configuration, and perhaps an agent and a receiver. What is expected of `limpet status` is its
word, the part that it names first, and words of it; of `limpet doctor` a step that needs doing, or that none does.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from email.utils import formatdate
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import trustme
import yaml

from tests.support.agent import Agent
from tests.support.certs import Certs
from tests.support.limpet import called, limpet
from tests.support.net import free_port, wait_for
from tests.support.receiver import Answer, Receiver

SECONDS = 60


class Box(NamedTuple):
    """A folder, what runs there, and a receiver that takes everything unless the box says otherwise."""

    folder: Path
    agent: Agent
    receiver: Receiver
    stack: ExitStack

    def status(self, *more: str) -> Any:
        """What `limpet status --json` says."""
        return called(
            self.folder, "status", *(more or ("--config", str(self.agent.config_file))), "--json"
        ).json

    def until(self, part: str, words: str) -> None:
        """Wait until a part of the status has these words."""

        def is_said() -> bool:
            return any(words in (one["said"] or "") for one in self.status()["parts"] if one["part"] == part)

        wait_for(is_said, SECONDS, f"{part}: {words}")

    def running(self) -> None:
        """Start the agent, and wait until it has delivered."""
        self.stack.enter_context(self.agent)
        wait_for(lambda: self.receiver.samples, SECONDS, "a delivery")
        self.until("to central", "last delivery")

    def append(self, text: str) -> None:
        with self.agent.config_file.open("a") as file:
            file.write(text)


def nothing(box: Box) -> None:
    box.running()


def stopped(box: Box) -> None:
    box.running()
    box.agent.stop()


def killed(box: Box) -> None:
    box.running()
    box.agent.kill()


def never_started(box: Box) -> None:
    box.agent.config_file.write_text(yaml.safe_dump(box.agent.config))


def crash_looping(box: Box) -> None:
    stopped(box)
    box.append("colect: {}\n")


def not_reloaded(box: Box) -> None:
    box.running()
    box.append("labels: {role: gateway}\n")


def refused_reload(box: Box) -> None:
    box.running()
    box.agent.reload("agent.reload_refused", labels={"0": "x"})


def corrected_not_reloaded(box: Box) -> None:
    refused_reload(box)
    box.agent.config["labels"] = {"role": "gateway"}
    box.agent.config_file.write_text(yaml.safe_dump(box.agent.config))


def held(status: int, body: bytes = b"") -> Callable[[Box], None]:
    def make(box: Box) -> None:
        box.receiver.default = Answer(status, body=body)
        box.stack.enter_context(box.agent)
        box.until("to central", "held")

    return make


def certificate(box: Box) -> None:
    """It is expired: the receiver's authority is known, and the certificate ended yesterday."""
    certs = Certs(*(box.folder / f"{name}.pem" for name in Certs._fields))
    authority, ended = trustme.CA(), datetime.now(UTC) - timedelta(days=1)
    issued = authority.issue_cert("127.0.0.1", not_before=ended - timedelta(days=9), not_after=ended)
    authority.cert_pem.write_to_path(certs.ca)
    issued.cert_chain_pems[0].write_to_path(certs.server_cert)
    issued.private_key_pem.write_to_path(certs.server_key)
    receiver = box.stack.enter_context(Receiver(certs=certs))
    box.agent.config["remote_write"][0] |= {"url": receiver.url, "tls_config": {"ca_file": str(certs.ca)}}
    box.stack.enter_context(box.agent)
    box.until("to central", "expired")


def nobody_there(box: Box) -> None:
    box.agent.config["remote_write"][0]["url"] = f"http://127.0.0.1:{free_port()}/api/v1/write"
    box.stack.enter_context(box.agent)
    box.until("to central", "connection refused")


def no_name(box: Box) -> None:
    box.agent.config["remote_write"][0]["url"] = "https://nobody.invalid/api/v1/write"
    box.stack.enter_context(box.agent)
    box.until("to central", "nobody.invalid")


def proxy(box: Box) -> None:
    box.agent.config["remote_write"][0]["proxy_url"] = f"http://127.0.0.1:{free_port()}"
    box.stack.enter_context(box.agent)
    box.until("to central", "connection refused")


def wrong_clock(box: Box) -> None:
    """The receiver's is three days ahead, which is the same for whom only one of the two can be seen."""
    ahead = formatdate(time.time() + 3 * 86_400, usegmt=True)
    box.receiver.default = Answer(204, headers={"Date": ahead})
    box.stack.enter_context(box.agent)
    box.until("clock", "behind")


def two_with_one_name(box: Box) -> None:
    box.receiver.default = Answer(400, body=b"duplicate sample for timestamp")
    box.stack.enter_context(box.agent)
    box.until("refused", "samples are in quarantine")


def target_hangs(box: Box) -> None:
    """It takes the connection, and never answers."""
    hanging = box.stack.enter_context(Receiver())
    hanging.default = Answer(hang=True)
    target = {"url": hanging.url, "job": "plc", "timeout": "500ms"}
    box.agent.config["collect"]["collectors"] = {"scrape": {"targets": [target]}}
    box.running()
    box.until("collecting", "plc")


def masked(box: Box) -> None:
    box.agent.config["mask"] = ["mountpoint", "device", "interface"]
    box.running()


def foreign_file(box: Box) -> None:
    """Somebody ran a tool as another user."""
    if os.geteuid() != 0:
        pytest.skip("only root can give files away")
    box.running()
    os.chown(box.agent.data_dir / "segments", 65534, 65534)


def quarantine(box: Box) -> None:
    box.receiver.default = Answer(400, body=b"out of bounds")
    box.stack.enter_context(box.agent)
    box.until("refused", "samples are in quarantine")


def data_dir_gone(box: Box) -> None:
    """By the name of the folder above it, so that the agent cannot make it again."""
    box.running()
    shutil.rmtree(box.agent.data_dir)
    box.agent.data_dir.write_text("in its way")
    box.until("agent", "is gone")


def mount(*words: str | Path) -> None:
    done = subprocess.run(["mount", *map(str, words)], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no volume can be mounted here: {done.stderr.strip()}")


@contextmanager
def volume(box: Box) -> Iterator[Path]:
    where = box.folder / "volume"
    where.mkdir()
    mount("-t", "tmpfs", "-o", "size=8m", "tmpfs", where)
    box.agent.config["data_dir"] = str(where / "data")
    box.agent.config["buffer"]["min_free_space"] = "1MiB"
    try:
        yield where
    finally:
        subprocess.run(["umount", "--lazy", str(where)], check=True)


def full_disk(box: Box) -> None:
    where = box.stack.enter_context(volume(box))
    box.running()
    with open(where / "other", "wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(4096)):
            pass
    box.until("kept", "the disk is full")


def read_only_disk(box: Box) -> None:
    where = box.stack.enter_context(volume(box))
    stopped(box)
    mount("-o", "remount,ro", where)
    box.agent.start()
    box.until("kept", "read-only")


class Expected(NamedTuple):
    """The word of `limpet status`, the part it names first, and words of it; the step that `limpet doctor` names."""

    word: str
    part: str | None
    words: str
    step: str | None


BOXES: dict[str, tuple[Callable[[Box], None], Expected]] = {
    "nothing wrong": (nothing, Expected("ok", None, "", None)),
    "stopped": (stopped, Expected("stopped", "agent", "it was stopped", None)),
    "killed": (killed, Expected("stopped", "agent", "died without a stop", None)),
    "never started": (never_started, Expected("stopped", "agent", "none has run", None)),
    "crash-looping": (crash_looping, Expected("stopped", "configuration", "colect", None)),
    "not reloaded": (
        not_reloaded,
        Expected("attention", "configuration", "was not reloaded", "configuration"),
    ),
    "refused reload": (refused_reload, Expected("attention", "configuration", "it has errors", None)),
    "corrected, not reloaded": (
        corrected_not_reloaded,
        Expected("attention", "configuration", "a reload was refused", "configuration"),
    ),
    "wrong password": (
        held(401),
        Expected("attention", "to central", "check the user and password", "authentication"),
    ),
    "wrong path": (
        held(404),
        Expected("attention", "to central", "check the path of the url", "empty write"),
    ),
    "expired certificate": (certificate, Expected("attention", "to central", "expired", "TLS")),
    "data_dir gone": (data_dir_gone, Expected("attention", "agent", "systemctl restart limpet", "agent")),
    "nobody there": (nobody_there, Expected("attention", "to central", "connection refused", "connection")),
    "no such name": (no_name, Expected("attention", "to central", "cannot be resolved", "name")),
    "quarantine": (
        quarantine,
        Expected("attention", "refused", "limpet buffer quarantine list", "quarantine"),
    ),
    "full disk": (full_disk, Expected("attention", "kept", "the disk is full", "space")),
    "read-only disk": (read_only_disk, Expected("attention", "kept", "the disk is read-only", None)),
}


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    with ExitStack() as stack:
        receiver = stack.enter_context(Receiver())
        agent = Agent(tmp_path, [{"url": receiver.url, "name": "central"}])
        yield Box(tmp_path, agent, receiver, stack)


@pytest.mark.parametrize("name", BOXES)
def test_a_broken_box(name: str, box: Box) -> None:
    make, expected = BOXES[name]
    make(box)
    found = box.status()
    assert found["word"] == expected.word, found["parts"]
    first = found["first"]
    assert (first and first["part"]) == expected.part, found["parts"]
    if first:
        assert expected.words in f"{first['said']} {first['do']}"
    file = str(box.agent.config_file)
    shown = called(box.folder, "status", "--config", file)
    assert shown.status == (0 if expected.word == "ok" else 1)
    assert shown.out.split()[0] == expected.word
    if first:
        assert shown.out.splitlines()[-1] == f"Do first: {first['part']}: {first['do']}"
    done = called(box.folder, "doctor", "--config", file, "--timeout", "5s", "--json")
    if done.status == 2:  # a configuration that has errors: doctor says all of them
        assert found["parts"][1]["ok"] is False
    elif expected.step is not None:
        assert expected.step in {one["step"] for one in done.json if one["ok"] is False or one["do"]}


def test_without_anything_but_the_data_dir(box: Box) -> None:
    """The note leads to the configuration, but not root, who would show what others may not read."""
    box.running()
    found = box.status("--data-dir", str(box.agent.data_dir))
    assert found["word"] == "ok"
    is_read = None if os.geteuid() == 0 else True
    assert [one["ok"] for one in found["parts"] if one["part"] == "configuration"] == [is_read]
    assert found["agent"]["config"] == str(box.agent.config_file)
    assert found["buffer"]["writer_pid"] == box.agent.pid


def test_in_a_process_of_its_own_without_colors(box: Box) -> None:
    stopped(box)
    done = limpet(box.folder, "status --config", box.agent.config_file)
    assert (done.status, done.err) == (1, "")
    assert done.out.startswith("stopped  test-host")
    assert "\x1b" not in done.out
