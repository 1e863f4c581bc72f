"""What people read in the journal: the real agent, whose standard error is a socket that JOURNAL_STREAM names."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import threading
from pathlib import Path
from typing import Self

import yaml

from tests.support.agent import QUICK
from tests.support.limpet import LIMPET
from tests.support.net import wait_for
from tests.support.receiver import Answer, Receiver
from tests.support.server import tied

SECONDS = 60
LINE = re.compile(r"<([2-7])>(.+) \[([a-z_]+\.[a-z_]+)\]")


class Journaled:
    """`limpet run` as systemd starts it: its log goes to a stream socket, whose device and inode are in its environment."""

    def __init__(self, config: Path) -> None:
        here, there = socket.socketpair()
        found = os.fstat(there.fileno())
        environ = {key: value for key, value in os.environ.items() if key != "INVOCATION_ID"}
        environ["JOURNAL_STREAM"] = f"{found.st_dev}:{found.st_ino}"
        command = tied([str(LIMPET), "run", "--config", str(config)])
        self._text, self._here = "", here
        self._process = subprocess.Popen(command, stdout=there.fileno(), stderr=there.fileno(), env=environ)
        there.close()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        while found := self._here.recv(65536):
            self._text += found.decode()

    @property
    def lines(self) -> list[str]:
        return self._text.splitlines()

    def until(self, event: str) -> str:
        """Return the first line of an event, without the event's name."""
        found = wait_for(
            lambda: [line for line in self.lines if line.endswith(f" [{event}]")], SECONDS, event
        )
        return str(found[0]).removesuffix(f" [{event}]")

    def reload(self) -> None:
        self._process.send_signal(signal.SIGHUP)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(SECONDS)
        self._reader.join(SECONDS)
        self._here.close()


def test_the_journal_has_words_that_a_person_understands(tmp_path: Path) -> None:
    config = tmp_path / "limpet.yaml"

    def configure(url: str, **changes: object) -> None:
        to = {
            "url": url,
            "name": "central",
            "queue_config": QUICK,
            "basic_auth": {"username": "a", "password": "Hush"},
        }
        whole = {
            "data_dir": "data",
            "hostname": "web-01",
            "collect": {"interval": "1s"},
            "remote_write": [to],
        }
        config.write_text(yaml.safe_dump(whole | changes))

    with Receiver() as receiver:
        receiver.default = receiver.to_empty = Answer(401, body=b"who is that?")
        configure(f"{receiver.url}?token=Hush")
        with Journaled(config) as agent:
            assert agent.until("agent.started").startswith("<6>Limpet ")
            held = agent.until("sender.held")
            assert re.fullmatch(
                r"<4>central held: HTTP 401: check the user and password, or the credentials"
                r".*; next try in [\d.]+ s",
                held,
            )
            receiver.default, receiver.to_empty = Answer(), None
            configure(receiver.url + "?token=Hush", collect={"interval": "often"})
            agent.reload()
            refused = agent.until("agent.reload_refused")
            assert refused.startswith("<3>the new configuration was refused, the agent runs on as before: ")
            assert "collect.interval" in refused
            configure(receiver.url + "?token=Hush")
            agent.reload()
            first = agent.until("sender.first_delivered")
            assert first.startswith(f"<6>central takes samples at {receiver.url}, ")
            assert agent.until("sender.resumed").startswith("<6>central takes samples again after ")
    for line in agent.lines:
        assert LINE.fullmatch(line), line
        assert not re.search(r"\d{4}-\d\d-\d\dT", line), "the journal has its own time"
        assert "Hush" not in line
    assert agent.lines[-1].startswith("<6>stopped after ")
