"""Broken boxes: a script makes each for real, and `limpet status` names the cause and the action first; so does `doctor`.

Each box is a folder with a configuration, and perhaps an agent and a receiver. It is looked at on a terminal of 80 columns, and
then as a new user does it: by the commands of docs/silent.md in their order, until one shows the cause.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from email.utils import formatdate
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import pytest
import trustme
import yaml

from tests.support import namespaces
from tests.support.agent import Agent
from tests.support.certs import Certs
from tests.support.limpet import LIMPET, ROOT, Done, called, environment, limpet
from tests.support.net import free_port, wait_for
from tests.support.receiver import Answer, Receiver

SECONDS = 60


class Box(NamedTuple):
    """A folder, what runs there, and a receiver that takes everything unless the box says otherwise."""

    folder: Path
    agent: Agent
    receiver: Receiver
    stack: ExitStack
    elsewhere: list[Callable[[list[str]], Done]]
    """How commands are run, where they need more than this process."""

    def run(self, *arguments: str | Path, columns: int | None = None) -> Done:
        """Run a command on this box, on so many columns."""
        first, *more = map(str, arguments)
        words = [*first.split(), *more, "--config", str(self.agent.config_file)]
        size = {} if columns is None else {"COLUMNS": str(columns)}
        with patch.dict(os.environ, size):
            return (
                self.elsewhere[0](words) if self.elsewhere else called(self.folder, *words, columns=columns)
            )

    def status(self) -> Any:
        """What `limpet status --json` says."""
        return self.run("status --json").json

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
    """It is started again and again, as by systemd with Restart=on-failure, and ends each time."""
    stopped(box)
    box.append("colect: {}\n")
    again, log = 'while :; do "$@"; sleep 1; done', box.folder / "starts.log"
    command = ["sh", "-c", again, "sh", LIMPET, "run", "--config", str(box.agent.config_file)]
    with log.open("wb") as file:
        loop = subprocess.Popen(command, stdout=file, stderr=file, start_new_session=True)
    box.stack.callback(loop.wait)
    box.stack.callback(os.killpg, loop.pid, signal.SIGKILL)
    wait_for(lambda: log.read_text().count("colect") >= 2, SECONDS, "two starts")


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
    box.until("configuration", "a reload was refused")


def held(status: int, body: bytes = b"", **headers: str) -> Callable[[Box], None]:
    def make(box: Box) -> None:
        box.receiver.default = Answer(status, headers, body=body)
        box.receiver.takes_empty_writes = False
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


def no_path(box: Box) -> None:
    box.agent.config["remote_write"][0]["url"] = box.receiver.url.replace("/api/v1/write", "")
    held(405)(box)


def nobody_there(box: Box) -> None:
    box.agent.config["remote_write"][0]["url"] = f"http://127.0.0.1:{free_port()}/api/v1/write"
    box.stack.enter_context(box.agent)
    box.until("to central", "no delivery: ")


def no_name(box: Box) -> None:
    box.agent.config["remote_write"][0]["url"] = "https://nobody.invalid/api/v1/write"
    box.stack.enter_context(box.agent)
    box.until("to central", "no delivery: ")


def proxy(box: Box) -> None:
    box.agent.config["remote_write"][0]["proxy_url"] = f"http://127.0.0.1:{free_port()}"
    box.stack.enter_context(box.agent)
    box.until("to central", "no delivery: ")


def wrong_clock(box: Box) -> None:
    """The receiver's is three days ahead, which is the same for whom only one of the two can be seen."""
    ahead = formatdate(time.time() + 3 * 86_400 + 600, usegmt=True)
    box.receiver.default = Answer(204, headers={"Date": ahead})
    box.stack.enter_context(box.agent)
    box.until("clock", "behind")


def clock_of_last_year(box: Box) -> None:
    """The host's own clock: every command goes by it, too. The receiver refuses what is so old."""
    late = [sys.executable, "-m", "tests.support.shifted", str(400 * 86_400 + 600)]
    box.agent.program[:] = late
    box.elsewhere.append(lambda words: program(box.folder, [*late, *words]))
    box.receiver.default = Answer(400, {"Date": formatdate(usegmt=True)}, b"out of bounds")
    box.stack.enter_context(box.agent)
    box.until("clock", "behind")
    [aged, *_] = wait_for(lambda: box.agent.events("sender.aged"), SECONDS, "the refusal in the log")
    assert aged["do"].startswith("set the clock that is wrong (this host's is 400 d behind the receiver's)")


def two_with_one_name(box: Box) -> None:
    box.receiver.default = Answer(400, body=b"duplicate sample for timestamp")
    box.stack.enter_context(box.agent)
    box.until("refused", "samples are in quarantine")


def target_hangs(box: Box) -> None:
    """The system takes the connection, and nobody answers."""
    hanging = box.stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    target = {"url": f"http://127.0.0.1:{hanging.getsockname()[1]}/metrics", "job": "plc", "timeout": "500ms"}
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


def masked_service(box: Box) -> None:
    """In a mount namespace, in which systemd runs and the unit is masked."""
    stopped(box)
    script = (
        "mount -t tmpfs tmpfs /run\nmkdir -p /run/systemd/system\n"
        "ln -s /dev/null /run/systemd/system/limpet.service\n"
    )

    def run(words: list[str]) -> Done:
        return program(box.folder, namespaces.inside(script, command=[LIMPET, *words])[0])

    namespaces.inside(script)
    box.elsewhere.append(run)


def quarantine(box: Box) -> None:
    box.receiver.default = Answer(400, body=b"out of bounds")
    box.stack.enter_context(box.agent)
    box.until("refused", "samples are in quarantine")


def data_dir_gone(box: Box) -> None:
    """Somebody removed it, and what is below its name now is another volume, on which the agent cannot make it again."""
    where = box.stack.enter_context(volume(box))
    box.running()
    shutil.rmtree(where / "data")
    mount("-t", "tmpfs", "-o", "ro", "tmpfs", where)
    box.stack.callback(subprocess.run, ["umount", str(where)], check=True)
    box.until("agent", "is gone")


def program(folder: Path, words: list[str]) -> Done:
    more = {"COLUMNS": os.environ["COLUMNS"]} if "COLUMNS" in os.environ else {}
    known = environment(folder) | {"OUTSIDE": os.readlink("/proc/self/ns/mnt")} | more
    done = subprocess.run(words, env=known, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    return Done(done.returncode, done.stdout, done.stderr)


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
    """The word of `limpet status`, the part it names first, and words of it; part and step that `limpet doctor` names first,
    and words of that.
    """

    word: str
    part: str | None
    words: str
    step: str | None
    do: str = ""


Make = Callable[[Box], None]
HERE, THERE = "this host", "central"
BOXES: dict[str, tuple[Make, Expected]] = {
    "nothing wrong": (nothing, Expected("ok", None, "", None)),
    "stopped": (
        stopped,
        Expected("stopped", "agent", "it was stopped", f"{HERE}, agent", "Start it: limpet run"),
    ),
    "killed": (
        killed,
        Expected("stopped", "agent", "died without a stop", f"{HERE}, agent", "journalctl -u limpet"),
    ),
    "crash-looping": (
        crash_looping,
        Expected("stopped", "configuration", "colect: unknown key", None, "colect: unknown key"),
    ),
    "not reloaded": (
        not_reloaded,
        Expected("attention", "configuration", "was not reloaded", f"{HERE}, configuration", "kill -HUP"),
    ),
    "refused reload": (
        refused_reload,
        Expected("attention", "configuration", "it has errors", None, "labels.0"),
    ),
    "corrected, not reloaded": (
        corrected_not_reloaded,
        Expected("attention", "configuration", "a reload was refused", f"{HERE}, configuration", "kill -HUP"),
    ),
    "wrong password": (
        held(401),
        Expected(
            "attention",
            "to central",
            "Set user and password",
            f"{THERE}, authentication",
            "Set basic_auth",
        ),
    ),
    "wrong path": (
        held(404),
        Expected(
            "attention",
            "to central",
            "Correct the path of the url, or let the receiver accept remote write",
            f"{THERE}, empty write",
            "Correct the url",
        ),
    ),
    "no path": (
        no_path,
        Expected(
            "attention",
            "to central",
            "Give the url its path",
            f"{THERE}, empty write",
            "Give the url its path",
        ),
    ),
    "http to a port for TLS": (
        held(400, b"Client sent an HTTP request to an HTTPS server."),
        Expected("attention", "to central", "https://", f"{THERE}, empty write", "https://"),
    ),
    "expired certificate": (
        certificate,
        Expected("attention", "to central", "expired", f"{THERE}, TLS", "Renew the receiver's certificate"),
    ),
    "nobody there": (
        nobody_there,
        Expected(
            "attention", "to central", "connection refused", f"{THERE}, connection", "that the receiver runs"
        ),
    ),
    "DNS": (
        no_name,
        Expected("attention", "to central", "the name servers", f"{THERE}, name", "the name servers"),
    ),
    "proxy": (
        proxy,
        Expected("attention", "to central", "Check proxy_url", f"{THERE}, connection", "proxy_url"),
    ),
    "held": (
        held(301, Location="https://elsewhere.example/api/v1/write"),
        Expected("attention", "to central", "into the url", f"{THERE}, empty write", "Correct the url"),
    ),
    "full disk": (
        full_disk,
        Expected("attention", "kept", "Free space there", f"{HERE}, space", "Free space on this volume"),
    ),
    "read-only disk": (
        read_only_disk,
        Expected("attention", "kept", "mount it for writing", f"{HERE}, data_dir", "mount it for writing"),
    ),
    "root-owned file": (
        foreign_file,
        Expected(
            "attention", "kept", "Give it back: chown -R", f"{HERE}, permissions", "Give it back: chown -R"
        ),
    ),
    "wrong clock": (
        wrong_clock,
        Expected("attention", "clock", "3 d behind", f"{THERE}, clock", "Set the clock that is wrong"),
    ),
    "a clock of last year": (
        clock_of_last_year,
        Expected("attention", "clock", "400 d behind", f"{THERE}, clock", "Set the clock that is wrong"),
    ),
    "two with one name": (
        two_with_one_name,
        Expected(
            "attention",
            "refused",
            "give one of them another hostname",
            f"{THERE}, sample",
            "give one of them another",
        ),
    ),
    "quarantine": (
        quarantine,
        Expected(
            "attention",
            "refused",
            "limpet buffer quarantine list",
            f"{THERE}, sample",
            "out_of_order_time_window",
        ),
    ),
    "masked": (
        masked_service,
        Expected("stopped", "agent", "systemctl unmask limpet", f"{HERE}, agent", "systemctl unmask limpet"),
    ),
    "data_dir gone": (
        data_dir_gone,
        Expected(
            "attention", "agent", "systemctl restart limpet", f"{HERE}, agent", "systemctl restart limpet"
        ),
    ),
    "target hanging": (
        target_hangs,
        Expected(
            "attention",
            "collecting",
            "scrape target plc",
            f"{HERE}, collector scrape/plc/127.0.0.1",
            "the program runs",
        ),
    ),
}


PAGE = (ROOT / "docs" / "silent.md").read_text()
SILENT = re.findall(r"(?m)^\d\. `limpet ([^`]+)`", PAGE)
"""The commands of the page, in their order. The last writes a bundle, for which a person helps."""
SHOWN_BY: dict[str, tuple[str, int]] = {
    "nothing wrong": ("ok", 1),
    "stopped": ("it was stopped", 1),
    "killed": ("died without a stop", 1),
    "crash-looping": ("colect: unknown key", 1),
    "not reloaded": ("was not reloaded", 1),
    "refused reload": ("labels.0", 1),
    "corrected, not reloaded": ("a reload was refused", 1),
    "wrong password": ("HTTP 401", 1),
    "wrong path": ("HTTP 404", 1),
    "no path": ("Give the url its path", 1),
    "http to a port for TLS": ("this port speaks TLS", 1),
    "expired certificate": ("certificate has expired", 1),
    "nobody there": ("connection refused", 1),
    "DNS": ("nobody.invalid cannot be resolved", 1),
    "proxy": ("through the proxy", 1),
    "held": ("a redirect", 1),
    "full disk": ("the disk is full", 1),
    "read-only disk": ("the disk is read-only", 1),
    "root-owned file": ("does not belong to", 1),
    "wrong clock": ("clock is 3 d behind", 1),
    "a clock of last year": ("clock is 400 d behind", 1),
    "two with one name": ("Another sender has the same series", 1),
    "quarantine": ("out of bounds", 3),
    "masked": ("unmask", 1),
    "data_dir gone": ("is gone", 1),
    "target hanging": ("timeout", 3),
}
"""The cause, and by how many commands of docs/silent.md a new user has seen it."""
MOST_COMMANDS, LEAST_FOUND = 5, 0.9


@pytest.fixture
def box() -> Iterator[Box]:
    """In a folder whose name is about as long as those on a box, since they are on its screen."""
    with tempfile.TemporaryDirectory(prefix="box") as name, ExitStack() as stack:
        receiver, folder = stack.enter_context(Receiver()), Path(name)
        agent = Agent(folder, [{"url": receiver.url, "name": "central"}])
        yield Box(folder, agent, receiver, stack, [])


def squeezed(text: str) -> str:
    """Without white space: where a terminal folds a line does not matter."""
    return "".join(text.split())


def do_first(done: Done) -> str:
    """The last thing that a command says: what to do first. Nothing of it is cut, on 80 columns."""
    assert all(len(line) <= 80 for line in done.out.splitlines()), done.out
    assert "\u2026" not in done.out
    _, found, last = done.out.rpartition("Do first: ")
    return squeezed(last) if found else ""


def commands_until(box: Box, cause: str, first: Done) -> int | None:
    """Type the commands of docs/silent.md until one shows the cause; return how many that were. `first` is what the first said."""
    assert SILENT[0] == "status"
    for number, words in enumerate(SILENT[:-1], 1):
        done = first if number == 1 else box.run(words)
        if squeezed(cause) in squeezed(done.out + done.err):
            return number
    return None


def test_by_silent_md_the_cause_is_found_on_18_of_20_boxes() -> None:
    """The numbers are those of `test_a_broken_box`, which counts."""
    assert len(PAGE.splitlines()) <= 24
    assert max(map(len, PAGE.splitlines())) <= 80
    assert SHOWN_BY.keys() == BOXES.keys()
    assert SILENT[-1].startswith("doctor --bundle")
    few = [name for name, (_, commands) in SHOWN_BY.items() if commands <= MOST_COMMANDS]
    assert len(few) >= LEAST_FOUND * len(BOXES)


@pytest.mark.parametrize("name", BOXES)
def test_a_broken_box(name: str, box: Box) -> None:
    make, expected = BOXES[name]
    make(box)
    shown = box.run("status", columns=80)
    assert len(shown.out.splitlines()) <= 24, shown.out
    assert shown.out.split()[0] == expected.word, shown.out
    assert shown.status == (0 if expected.word == "ok" else 1)
    first = do_first(shown)
    assert first.startswith(squeezed(f"{expected.part}:") if expected.part else "")
    assert squeezed(expected.words) in (squeezed(shown.out) if expected.part else ""), shown.out
    assert bool(first) is (expected.word != "ok")

    walked = box.run("doctor --timeout 5s", columns=80)
    if walked.status == 2:  # a configuration that has errors: doctor says all of them
        assert expected.step is None
        assert expected.do in walked.err
    elif expected.step is None:
        assert (do_first(walked), walked.status) == ("", 0), walked.out
    else:
        first = do_first(walked)
        assert first.startswith(squeezed(expected.step)), walked.out
        assert squeezed(expected.do) in first, walked.out
    cause, commands = SHOWN_BY[name]
    assert commands_until(box, cause, shown) == commands


def test_without_anything_but_the_data_dir(box: Box) -> None:
    """The note leads to the configuration, but not root, who would show what others may not read."""
    box.running()
    found = called(box.folder, "status --json --data-dir", box.agent.data_dir).json
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
