"""The real agent against real receivers, by every way there is to them: what was collected is there, once.

| receiver          | protocols | plain | TLS, private authority, client certificate | forward proxy with a password |
|-------------------|-----------|-------|--------------------------------------------|-------------------------------|
| stable Prometheus | 1.0, auto | yes   | its own (RequireAndVerifyClientCert)       | http: whole URLs; CONNECT     |
| newest Prometheus | all       | yes   | its own (RequireAndVerifyClientCert)       | http: whole URLs; CONNECT     |
| VictoriaMetrics   | 1.0, auto | yes   | nginx before it (ssl_verify_client)        | http: whole URLs; CONNECT     |

`auto` finds out that the newest Prometheus speaks 2.0, and that the others speak 1.0 (these answer 204 to what they do
not understand). In every case there is a backlog before the receiver can be reached, and the agent keeps collecting
while the backlog drains.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.agent import HOSTNAME, Agent
from tests.support.certs import Certs, make_certs
from tests.support.net import free_port, wait_for
from tests.support.prometheus import Prometheus
from tests.support.protocols import V1, V2
from tests.support.real_proxy import Nginx, Tinyproxy
from tests.support.server import Login, Samples, Server
from tests.support.victoria import VictoriaMetrics

NAME, AUTO = "there", "auto"
LOGIN = Login("host", "the right password")
PROXY_LOGIN = Login("edge", "the-proxys-password")
PROGRAMS = {
    "stable Prometheus": "stable_prometheus_program",
    "newest Prometheus": "prometheus_program",
    "VictoriaMetrics": "victoria_program",
}
SPEAKS = {"stable Prometheus": (V1, AUTO), "newest Prometheus": (V1, V2, AUTO), "VictoriaMetrics": (V1, AUTO)}
BOTH = [(receiver, protocol) for receiver, spoken in SPEAKS.items() for protocol in spoken]
Receiver = Prometheus | VictoriaMetrics


class Site:
    """What a test needs of this machine: programs, certificates, a folder."""

    def __init__(self, request: pytest.FixtureRequest, certs: Certs, folder: Path) -> None:
        self._request, self.certs, self.folder = request, certs, folder

    def program(self, fixture: str) -> Path:
        found: Path = self._request.getfixturevalue(fixture)
        return found

    def receiver(self, kind: str, **how: Any) -> Receiver:
        make = VictoriaMetrics if kind == "VictoriaMetrics" else Prometheus
        return make(self.program(PROGRAMS[kind]), self.folder / "receiver", port=free_port(), **how)

    def agent(self, to: Server, protocol: str, **settings: Any) -> Agent:
        """An agent, not started yet, that keeps all it ever had: the second destination takes nothing."""
        there = {"url": to.write_url, "name": NAME, "protobuf_message": protocol, **settings}
        nobody = {"url": f"http://127.0.0.1:{free_port()}/api/v1/write", "name": "nobody"}
        return Agent(self.folder / "agent", [there, nobody])


@pytest.fixture
def site(request: pytest.FixtureRequest, certs: Certs, tmp_path: Path) -> Site:
    return Site(request, certs, tmp_path)


@contextmanager
def proven(agent: Agent, receiver: Receiver, *others: Server) -> Iterator[None]:
    """Collect a backlog, start the receiver and the servers in front of it, and run the body of the `with`.

    Then everything arrives: each sample of the buffer is in the receiver once, by its time and value.
    """
    since = time.time()
    with ExitStack() as running:
        running.enter_context(agent)
        backlog(agent, 300)
        for server in (receiver, *others):
            running.enter_context(server)
        yield
        wait_for(
            lambda: agent.destination(NAME)["ledger"]["delivered"] > 600, 90, "backlog and news to arrive"
        )
        wait_for(lambda: agent.destination(NAME)["lag_seconds"] < 3, 90, "the lane to be up to date")
        assert agent.stop() == 0  # with a last try
        stored = receiver.raw_samples(
            f'{{hostname="{HOSTNAME}"}}', int(since * 1000) - 60_000, int(time.time() * 1000) + 60_000
        )
    appended, ledger = agent.buffered(), agent.destination(NAME)["ledger"]
    total = agent.appended()
    assert (ledger["delivered"], ledger["pending"], sum(ledger["dropped"].values())) == (total, 0, 0)
    if isinstance(receiver, VictoriaMetrics):
        same_but_for_rounding(stored, appended)
    else:
        assert stored == appended


def backlog(agent: Agent, samples: int) -> None:
    wait_for(lambda: agent.destination(NAME).get("pending_samples", 0) >= samples, 60, "a backlog")


def same_but_for_rounding(stored: Samples, appended: Samples) -> None:
    assert stored.keys() == appended.keys()
    for labels, samples in appended.items():
        assert [at for at, _ in stored[labels]] == [at for at, _ in samples], labels
        for (_, found), (_, value) in zip(stored[labels], samples, strict=True):
            assert math.isclose(found, value, rel_tol=1e-12, abs_tol=1e-12), labels


@pytest.mark.parametrize(("kind", "protocol"), BOTH)
def test_in_the_clear(site: Site, kind: str, protocol: str) -> None:
    receiver = site.receiver(kind)
    agent = site.agent(receiver, protocol)
    with proven(agent, receiver):
        pass
    told = [event["remote_write"] for event in agent.events("sender.protocol")]
    expected = {V1: [], V2: ["2.0"], AUTO: ["2.0" if kind == "newest Prometheus" else "1.0"]}
    zstd = ["1.0 zstd"] if kind == "VictoriaMetrics" else []
    assert told == expected[protocol] + zstd


@pytest.mark.parametrize(("kind", "protocol"), BOTH)
def test_over_tls_with_a_private_authority_and_a_client_certificate(
    site: Site, kind: str, protocol: str
) -> None:
    certs = site.certs
    front: Server
    if kind == "VictoriaMetrics":
        receiver = site.receiver(kind)
        front = Nginx(site.program("nginx_program"), site.folder / "front", receiver, certs=certs)
    else:
        front = receiver = site.receiver(kind, certs=certs, client_cert=True)
    tls = {"ca_file": str(certs.ca), "cert_file": str(certs.client_cert), "key_file": str(certs.client_key)}
    agent = site.agent(front, protocol, tls_config=tls)
    with proven(agent, receiver, *([] if front is receiver else [front])):
        pass


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize(("kind", "protocol"), BOTH)
def test_through_a_forward_proxy_with_a_password(site: Site, kind: str, protocol: str, scheme: str) -> None:
    tls, certs = scheme == "https", site.certs
    receiver = site.receiver(kind, login=LOGIN, certs=certs if tls else None)
    proxy = Tinyproxy(site.program("tinyproxy_program"), site.folder / "proxy", login=PROXY_LOGIN)
    agent = site.agent(
        receiver,
        protocol,
        proxy_url=proxy.url.replace("//", f"//{PROXY_LOGIN.user}:{PROXY_LOGIN.password}@"),
        basic_auth={"username": LOGIN.user, "password": LOGIN.password},
        tls_config={"ca_file": str(certs.ca)},
    )
    with proven(agent, receiver, proxy):
        pass
    asked = f"CONNECT 127.0.0.1:{receiver.port} HTTP/1.1" if tls else f"POST {receiver.write_url} HTTP/1.1"
    assert set(proxy.asked()) == {asked}
    assert PROXY_LOGIN.password not in agent.log.read_text()


@pytest.mark.parametrize(("kind", "protocol"), BOTH)
def test_held_by_a_wrong_password_until_its_file_is_corrected(site: Site, kind: str, protocol: str) -> None:
    """By itself, and within seconds: the files of a held destination are looked at more often than it is probed."""
    password = site.folder / "password"
    password.write_text("guessed\n")
    receiver = site.receiver(kind, login=LOGIN, certs=site.certs)
    agent = site.agent(
        receiver,
        protocol,
        basic_auth={"username": LOGIN.user, "password_file": str(password)},
        tls_config={"ca_file": str(site.certs.ca)},
    )
    with proven(agent, receiver):
        is_held(agent, "401")
        password.write_text(f"{LOGIN.password}\n")
        wait_for(lambda: agent.destination(NAME)["ledger"]["delivered"], 15, "the first delivery")
    assert all(secret not in agent.log.read_text() for secret in (LOGIN.password, "guessed"))


@pytest.mark.parametrize("kind", ["stable Prometheus", "newest Prometheus"])
def test_held_by_a_strangers_certificate_until_it_is_renewed(site: Site, kind: str) -> None:
    certs, others = site.certs, site.folder / "others"
    others.mkdir()
    strange = make_certs(others)
    cert, key = site.folder / "cert.pem", site.folder / "key.pem"
    cert.write_bytes(strange.client_cert.read_bytes())
    key.write_bytes(strange.client_key.read_bytes())
    receiver = site.receiver(kind, certs=certs, client_cert=True)
    tls = {"ca_file": str(certs.ca), "cert_file": str(cert), "key_file": str(key)}
    agent = site.agent(receiver, V1, tls_config=tls)
    with proven(agent, receiver):
        is_held(agent, "TLS")
        key.write_bytes(certs.client_key.read_bytes())
        is_held(agent, "certificate and key are not usable")
        cert.write_bytes(certs.client_cert.read_bytes())
        wait_for(lambda: agent.destination(NAME)["ledger"]["delivered"], 15, "the first delivery")


def is_held(agent: Agent, words: str) -> None:
    """Check that the agent reports it as held, with these words, loses nothing, and keeps collecting."""

    def found() -> bool:
        told = agent.destination(NAME)
        return told["state"] == "held" and words in told["last_error"]

    wait_for(found, 20, f"the destination to be held: {words}")
    backlog(agent, agent.destination(NAME)["pending_samples"] + 1)
    ledger = agent.destination(NAME)["ledger"]
    assert (ledger["delivered"], sum(ledger["dropped"].values())) == (0, 0)
