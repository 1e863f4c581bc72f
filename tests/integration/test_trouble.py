"""What an operator has to fix has a clear state and error in `buffer status`, and loses nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.agent import Agent
from tests.support.certs import Certs
from tests.support.limpet import LIMPET
from tests.support.net import free_port, wait_for
from tests.support.prometheus import Prometheus
from tests.support.server import Login

LOGIN = Login("host", "the right password")


class Case:
    """A destination with something wrong, and how that is fixed."""

    def __init__(self, prometheus: Prometheus, certs: Certs, folder: Path) -> None:
        self.password = folder / "password"
        self.password.write_text(LOGIN.password + "\n")
        self.to: dict[str, Any] = {
            "url": prometheus.write_url,
            "name": "p",
            "basic_auth": {"username": LOGIN.user, "password_file": str(self.password)},
            "tls_config": {"ca_file": str(certs.ca)},
        }


@pytest.mark.parametrize("trouble", ["wrong password", "unknown authority", "dead port"])
def test_it_is_reported_and_costs_nothing(
    tmp_path: Path, prometheus_program: Path, certs: Certs, trouble: str
) -> None:
    prometheus = Prometheus(prometheus_program, tmp_path / "prometheus", certs=certs, login=LOGIN)
    case = Case(prometheus, certs, tmp_path)
    good = dict(case.to)
    state = "held"
    words: tuple[str, ...]
    if trouble == "wrong password":
        case.password.write_text("guessed\n")
        words = ("401", "password")
    elif trouble == "unknown authority":
        case.to["tls_config"] = {"ca_file": str(certs.unknown_ca)}
        words = ("certificate",)
    else:
        case.to["url"] = f"https://127.0.0.1:{free_port()}/api/v1/write"
        state, words = "waiting", ("refused",)
    agent = Agent(tmp_path / "agent", [case.to])
    with prometheus, agent:
        wait_for(lambda: agent.destination("p").get("state") == state, 20, f"the state {state}")
        first = agent.destination("p")["pending_samples"]
        wait_for(lambda: agent.destination("p")["pending_samples"] > first, 20, "a backlog that grows")
        told = agent.destination("p")
        assert all(word in told["last_error"] for word in words), told["last_error"]
        assert LOGIN.password not in str(agent.status())
        ledger = told["ledger"]
        assert ledger["delivered"] == 0
        assert ledger["pending"] == ledger["appended"]
        assert sum(ledger["dropped"].values()) == 0
        assert agent.stop() == 0

        case.password.write_text(LOGIN.password + "\n")
        agent.config["remote_write"][0] |= good
        agent.start()
        wait_for(lambda: agent.destination("p")["pending_samples"] == 0, 20, "the backlog to drain")
        assert agent.stop() == 0
        ledger = agent.destination("p")["ledger"]
        assert (ledger["delivered"], sum(ledger["dropped"].values())) == (ledger["appended"], 0)
        assert agent.destination("p")["last_error"] is None
        assert all(secret not in agent.log.read_text() for secret in (LOGIN.password, "guessed"))


def test_a_receiver_that_hangs_does_not_delay_the_stop(tmp_path: Path) -> None:
    from tests.support.receiver import Answer, Receiver

    with Receiver(answers=[Answer(hang=True)] * 100) as receiver:
        to = {"url": receiver.url, "name": "r"}
        with Agent(tmp_path / "agent", [to]) as agent:
            wait_for(lambda: receiver.requests, 20, "a request")
            assert agent.stop() == 0
            stopped = agent.events("agent.stopped")[-1]
    assert stopped["seconds"] < 5


def test_a_second_agent_is_refused_and_learns_whose_the_buffer_is(tmp_path: Path) -> None:
    import subprocess

    with Agent(tmp_path / "agent", []) as agent:
        command = [LIMPET, "run", "--config", str(agent.config_file)]
        second = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
        assert second.returncode == 2
        assert f"process {agent.pid}" in second.stderr
        assert "Traceback" not in second.stderr


def test_a_receiver_that_repeats_the_request_gives_no_query_away(tmp_path: Path) -> None:
    from tests.support.receiver import Answer, Receiver

    with Receiver() as receiver:
        receiver.default = Answer(500, body=b"cannot POST /api/v1/write?token=url-canary here")
        to = {"url": f"{receiver.url}?token=url-canary", "name": "r"}
        with Agent(tmp_path / "agent", [to]) as agent:
            error = wait_for(lambda: agent.destination("r").get("last_error"), 20, "an error")
            agent.stop()
        assert error.startswith("HTTP 500: cannot POST /api/v1/write?")
        assert "canary" not in error + agent.log.read_text()
