"""The sender behind a forward proxy that does what the test says, with real TLS inside the tunnel.

A proxy that others use is in tests/integration/test_receivers.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agent.config import BasicAuth, Secret, TlsConfig
from agent.destinations.base import Verdict
from agent.send.state import State
from tests.support.certs import Certs
from tests.support.exchanges import delivering, posted, received
from tests.support.net import free_port, wait_for
from tests.support.protocols import PROTOCOLS
from tests.support.proxy import Proxy
from tests.support.receiver import Answer, Receiver
from tests.support.sending import PASSWORD, destination, host


def through(proxy: Proxy, login: str = "") -> Secret:
    return Secret(proxy.url.replace("//", f"//{login}@") if login else proxy.url)


def trusting(certs: Certs, server_name: str | None = None) -> TlsConfig:
    return TlsConfig(ca_file=str(certs.ca), server_name=server_name)


def test_plain_http_goes_to_the_proxy_with_its_whole_url(tmp_path: Path) -> None:
    with Receiver() as receiver, Proxy() as proxy:
        with delivering(tmp_path, receiver, f"{receiver.url}?a=b", proxy_url=through(proxy)) as one:
            one.settled()
            one.collect(30)
        assert {first for first, _ in proxy.asked} == {f"POST {receiver.url}?a=b HTTP/1.1"}
        assert {headers["host"] for _, headers in proxy.asked} == {f"127.0.0.1:{receiver.port}"}
        assert all("connection" not in headers for _, headers in proxy.asked)
        assert len(receiver.requests) == len(proxy.asked)


def test_https_goes_through_a_tunnel_that_the_proxy_cannot_look_into(tmp_path: Path, certs: Certs) -> None:
    with Receiver(certs=certs) as receiver, Proxy(login=f"user:{PASSWORD}") as proxy:
        url, auth = (
            through(proxy, f"user:{PASSWORD}"),
            BasicAuth(username="limpet", password=Secret("s3cret")),
        )
        tls = trusting(certs)
        with delivering(tmp_path, receiver, proxy_url=url, tls_config=tls, basic_auth=auth) as one:
            one.settled()
            one.collect(30)
        [(first, headers)] = proxy.asked  # one tunnel, which is kept
        assert first == f"CONNECT 127.0.0.1:{receiver.port} HTTP/1.1"
        assert headers["host"] == f"127.0.0.1:{receiver.port}"
        assert "authorization" not in headers
        assert proxy.tunneled[0] == 0x16  # a TLS record
        assert b"/api/v1/write" not in proxy.tunneled
        assert all("proxy-authorization" not in request.headers for request in receiver.requests)


def test_the_certificate_in_the_tunnel_is_checked_for_the_receivers_name(certs: Certs) -> None:
    with Receiver(certs=certs) as receiver, Proxy() as proxy:
        # The receiver listens on 127.0.0.1 only, so the proxy is what has to find it under another name.
        proxy.moved = {"127.0.0.2": "127.0.0.1", "localhost.localdomain": "127.0.0.1"}
        for name, tls, good in (
            ("127.0.0.2", trusting(certs), False),
            ("127.0.0.1", TlsConfig(ca_file=str(certs.unknown_ca)), False),
            ("localhost.localdomain", trusting(certs, "localhost"), True),
        ):
            url = receiver.url.replace("127.0.0.1", name)
            found = posted(destination(url, proxy_url=through(proxy), tls_config=tls))
            assert found.verdict is (Verdict.DELIVERED if good else Verdict.HELD)
            text = f"the certificate of {name} through the proxy 127.0.0.1:{proxy.port}"
            assert good or text in str(found.error)
    assert proxy.asked[-1][0].startswith("CONNECT localhost.localdomain:")  # the proxy looks the name up


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_wrong_password_of_the_proxy_holds(tmp_path: Path, certs: Certs, scheme: str) -> None:
    """And it continues by itself once the proxy takes it."""
    with Receiver(certs=certs if scheme == "https" else None) as receiver, Proxy(login="user:other") as proxy:
        url = through(proxy, f"user:{PASSWORD}")
        with delivering(tmp_path, receiver, proxy_url=url, tls_config=trusting(certs)) as one:
            assert "407" in one.held()
            assert PASSWORD not in str(one.lane.error)
            assert not receiver.requests
            proxy.login = f"user:{PASSWORD}"


def test_a_proxy_that_is_away_is_waited_for(tmp_path: Path, certs: Certs) -> None:
    with Receiver(certs=certs) as receiver:
        proxy = Proxy(port=free_port())
        to = destination(receiver.url, proxy_url=through(proxy), tls_config=trusting(certs))
        with host(tmp_path, to) as one:
            wait_for(lambda: one.lane.state is State.WAITING, 5, "the lane to wait")
            way = f"127.0.0.1 through the proxy {proxy.url[7:]}"
            assert one.lane.error == f"no connection with {way}: connection refused"
            with proxy:
                one.settled()
            one.accounted(receiver)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_hangs_has_the_time_of_the_whole_exchange(certs: Certs, scheme: str) -> None:
    with Proxy() as proxy:
        proxy.hang = True
        to = destination(f"{scheme}://127.0.0.1:1/write", proxy_url=through(proxy), remote_timeout=0.2)
        found = posted(to)
        assert found.verdict is Verdict.RETRY
        assert str(found.error).startswith("timeout: no answer within")


ANSWERS = {
    "502": (b"HTTP/1.1 502 Bad Gateway\r\n\r\n", State.WAITING, "answered CONNECT with HTTP 502"),
    "503": (b"HTTP/1.1 503 Busy\r\nRetry-After: 1\r\n\r\n", State.WAITING, "answered CONNECT with HTTP 503"),
    "400": (b"HTTP/1.1 400 Bad Request\r\n\r\n", State.WAITING, "answered CONNECT with HTTP 400"),
    "413": (b"HTTP/1.1 413 Large\r\n\r\n", State.WAITING, "answered CONNECT with HTTP 413"),
    "403": (b"HTTP/1.1 403 Forbidden\r\n\r\n", State.HELD, "answered CONNECT with HTTP 403: check proxy_url"),
    "302": (b"HTTP/1.1 302 Found\r\nLocation: http://x/\r\n\r\n", State.HELD, "HTTP 302"),
    "too much": (b"HTTP/1.1 200 OK\r\n\r\nsurprise", State.WAITING, "more than an answer to CONNECT"),
    "no HTTP": (b"SSH-2.0-OpenSSH\r\n\r\n", State.WAITING, "did not answer CONNECT: illegal"),
    "half": (b"HTTP/1.1 20", State.WAITING, "did not answer CONNECT"),
    "an endless head": (b"x" * 100_000, State.WAITING, "did not answer CONNECT"),
    "nothing": (b"", State.WAITING, "did not answer CONNECT"),
}


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(("answer", "state", "text"), ANSWERS.values(), ids=ANSWERS)
def test_whatever_a_proxy_says_to_connect_is_survived(
    tmp_path: Path, certs: Certs, answer: bytes, state: State, text: str, protocol: str
) -> None:
    """It settles nothing, and everything arrives once the proxy does what it is for."""
    with Proxy() as proxy:
        proxy.answer, url, tls = answer, through(proxy, f"u:{PASSWORD}"), trusting(certs)
        settings: dict[str, Any] = {"proxy_url": url, "tls_config": tls, "protobuf_message": protocol}
        with received(tmp_path, certs=certs, **settings) as (one, receiver):
            one.collect(30)
            wait_for(lambda: text in str(one.lane.error), 10, "trouble")
            wait_for(lambda: one.lane.state is state, 10, f"the state {state}")
            wait_for(lambda: len(proxy.asked) >= 2, 10, "another try")
            assert not receiver.requests
            proxy.answer = None


def test_a_tunnel_that_was_closed_is_opened_again(tmp_path: Path, certs: Certs) -> None:
    answers = [Answer(), Answer(close=True), Answer()]
    with Proxy() as proxy:
        settings: dict[str, Any] = {"proxy_url": through(proxy), "tls_config": trusting(certs)}
        with received(tmp_path, answers, certs=certs, **settings) as (one, _):
            one.settled()
            one.collect(3)
        assert len(proxy.asked) == 2


def test_the_variables_count_only_when_configured(certs: Certs) -> None:
    tls = trusting(certs, "localhost")
    with Receiver(certs=certs) as receiver, Proxy() as proxy:
        environment = {"HTTPS_PROXY": proxy.url}
        proxy.moved = {"receiver.invalid": "127.0.0.1"}
        url = receiver.url.replace("127.0.0.1", "receiver.invalid")
        asked = destination(url, tls_config=tls, proxy_from_environment=True)
        for to in (asked, destination(receiver.url, tls_config=tls)):
            assert posted(to, environment=environment).verdict is Verdict.DELIVERED
        assert len(proxy.asked) == 1
        found = posted(asked, environment={"HTTPS_PROXY": f"socks5://u:{PASSWORD}@p"})
        assert found.verdict is Verdict.HELD
        assert PASSWORD not in str(found.error)
