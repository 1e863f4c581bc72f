"""`limpet doctor` against real receivers, good and bad, next to a real agent; and what it must never print."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import threading
import time
from base64 import b64encode
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
import trustme

from agent.ops.doctor import destination
from tests.support.agent import Agent
from tests.support.certs import Certs
from tests.support.limpet import Done, called, limpet
from tests.support.net import free_port, wait_for
from tests.support.prometheus import Prometheus
from tests.support.proxy import Proxy
from tests.support.receiver import Answer, Receiver
from tests.support.server import Login
from tests.support.tokens import CLIENT, SECRET, Guarded, Script, TokenServer, answer, hang
from tests.support.walks import STEPS, configured, fails, fine, walked

LOGIN = Login("host", "the right password")


@pytest.fixture(scope="module")
def prometheus(
    tmp_path_factory: pytest.TempPathFactory, prometheus_program: Path, certs: Certs
) -> Iterator[Prometheus]:
    folder = tmp_path_factory.mktemp("prometheus")
    with Prometheus(prometheus_program, folder, certs=certs, login=LOGIN) as running:
        yield running


def to_prometheus(prometheus: Prometheus, certs: Certs, **changes: Any) -> dict[str, Any]:
    return {
        "url": prometheus.write_url,
        "name": "p",
        "basic_auth": {"username": LOGIN.user, "password": LOGIN.password},
        "tls_config": {"ca_file": str(certs.ca)},
    } | changes


def test_all_is_well(tmp_path: Path, prometheus: Prometheus, certs: Certs) -> None:
    found = fine(tmp_path, to_prometheus(prometheus, certs))
    assert found["name"].said == "127.0.0.1"
    assert found["TLS"].said.startswith("TLSv1.3, for localhost, 127.0.0.1, issued by trustme")
    assert found["TLS"].said.endswith("verified by a chain of 2")
    assert found["authentication"].said == "accepted (basic_auth)"
    assert found["empty write"].said.startswith(("HTTP 204 in", "HTTP 200 in"))
    assert found["clock"].said == "the receiver's clock and ours agree to a second"
    assert found["window"].said.startswith("out_of_order_time_window is 30d")


def test_through_a_proxy(tmp_path: Path, prometheus: Prometheus, certs: Certs) -> None:
    with Proxy(login="me:proxy-canary") as proxy:
        url, without = (
            proxy.url.replace("//", "//me:proxy-canary@"),
            to_prometheus(prometheus, certs, proxy_url=proxy.url),
        )
        found = fine(tmp_path, without | {"proxy_url": url}, "TLS")
        assert found["name"].said == "through the proxy 127.0.0.1"
        assert f"port {proxy.port} answers" in found["connection"].said
        assert (found["TLS"].ok, "tunnel" in found["TLS"].said, found["TLS"].do) == (None, True, None)
        assert any(line.startswith("CONNECT ") for line, _ in proxy.asked)
        wrong = fails(tmp_path, without, "authentication", "407")
    assert "canary" not in str(found) + str(wrong)


@pytest.mark.parametrize("message", ["auto", "io.prometheus.write.v2.Request"])
def test_a_receiver_that_speaks_only_2_0(tmp_path: Path, message: str) -> None:
    with Receiver(speaks="2.0") as receiver:
        found = fine(tmp_path, {"url": receiver.url, "protobuf_message": message}, "window")
    assert found["protocol"].said == "remote write 2.0 is taken"


def test_a_receiver_that_speaks_another_protocol_than_is_configured(tmp_path: Path) -> None:
    with Receiver(speaks="2.0") as receiver:
        to = {"url": receiver.url, "protobuf_message": "prometheus.WriteRequest"}
        wrong = fails(tmp_path, to, "empty write", "")
    assert wrong.do == "Set protobuf_message to auto, so that what the receiver takes is sent."


def test_below_a_prefix_and_with_the_window_at_its_default(tmp_path: Path, prometheus_program: Path) -> None:
    config = tmp_path / "prometheus.yml"
    config.write_text("global:\n  evaluation_interval: 30s\n")
    flags = ("--web.external-url=http://127.0.0.1/prom", "--web.route-prefix=/")
    with Prometheus(prometheus_program, tmp_path / "p", config=config, flags=flags) as prometheus:
        found = fine(tmp_path, {"url": prometheus.write_url}, "window")
    assert found["TLS"].said == "none: plain http"
    assert found["authentication"].said == "none is configured, and the receiver wants none"
    window = found["window"]
    assert (window.ok, "is not set" in window.said) == (True, True)
    assert "out_of_order_time_window" in (window.do or "")


GUESSED = {"username": LOGIN.user, "password": "guessed"}
WRONG: dict[str, tuple[dict[str, Any], str, str, str]] = {
    "a wrong password": ({"basic_auth": GUESSED}, "authentication", "HTTP 401: check the user and password", "basic_auth"),
    "no password": ({"basic_auth": None}, "authentication", "HTTP 401", "Set basic_auth, authorization or oauth2"),
    "an unknown authority": ({"tls_config": {"ca_file": "unknown_ca"}}, "TLS", "TLS: the certificate of 127.0.0.1 was not accepted: ", "ca_file"),
    "whose certificate it is": ({"tls_config": {"ca_file": "unknown_ca"}}, "TLS", "it is for localhost, 127.0.0.1, issued by trustme", "ca_file"),
    "an authority that is no certificate": ({"tls_config": {"ca_file": "client_key"}}, "TLS", "p.tls_config.ca_file: no certificate in it", ""),
}  # fmt: skip


@pytest.mark.parametrize(("changes", "step", "said", "do"), WRONG.values(), ids=WRONG)
def test_what_prometheus_refuses(
    tmp_path: Path,
    prometheus: Prometheus,
    certs: Certs,
    changes: dict[str, Any],
    step: str,
    said: str,
    do: str,
) -> None:
    to = to_prometheus(prometheus, certs, **changes)
    to["tls_config"] = {"ca_file": str(getattr(certs, to["tls_config"]["ca_file"], certs.ca))}
    fails(tmp_path, {key: value for key, value in to.items() if value}, step, said, do)


def test_plain_http_to_a_port_for_tls(tmp_path: Path, prometheus: Prometheus, certs: Certs) -> None:
    url = prometheus.write_url.replace("https://", "http://")
    fails(
        tmp_path, {"url": url}, "empty write", "HTTP 400: this port speaks TLS", "Begin the url with https://"
    )


@pytest.mark.parametrize("path", ["", "/"])
def test_a_url_without_a_path(tmp_path: Path, prometheus: Prometheus, certs: Certs, path: str) -> None:
    url = prometheus.write_url.replace("/api/v1/write", path)
    to = to_prometheus(prometheus, certs, url=url)
    fails(tmp_path, to, "empty write", "HTTP 40", "Give the url its path")


def test_a_password_file_that_is_gone_by_then(tmp_path: Path, prometheus: Prometheus, certs: Certs) -> None:
    password = tmp_path / "password"
    password.write_text(LOGIN.password)
    to = to_prometheus(prometheus, certs, basic_auth={"username": LOGIN.user, "password_file": str(password)})
    fails(tmp_path, to, "authentication", "basic_auth.password_file", gone=password)


def test_it_is_not_verified_and_says_so(tmp_path: Path, prometheus: Prometheus, certs: Certs) -> None:
    found = fine(tmp_path, to_prometheus(prometheus, certs, tls_config={"insecure_skip_verify": True}))
    assert "NOT verified" in found["TLS"].said


@contextmanager
def serving(folder: Path, *names: str, days: float) -> Iterator[dict[str, Any]]:
    """A receiver with a certificate for these names that ends in so many days; yields the destination."""
    certs = Certs(*(folder / f"{name}.pem" for name in Certs._fields))
    authority = trustme.CA()
    authority.cert_pem.write_to_path(certs.ca)
    server = authority.issue_cert(*names, not_after=datetime.now(UTC) + timedelta(days=days))
    server.cert_chain_pems[0].write_to_path(certs.server_cert)
    server.private_key_pem.write_to_path(certs.server_key)
    with Receiver(certs=certs) as receiver:
        yield {"url": receiver.url, "tls_config": {"ca_file": str(certs.ca)}}


@pytest.mark.parametrize(
    ("name", "days", "words", "do"),
    [
        ("127.0.0.1", -2, "certificate has expired", "Renew"),
        ("elsewhere.example.com", 90, "IP address mismatch", "server_name"),
    ],
    ids=["expired", "wrong host"],
)
def test_a_certificate_that_does_not_fit(tmp_path: Path, name: str, days: int, words: str, do: str) -> None:
    with serving(tmp_path, name, days=days) as to:
        assert f"it is for {name}" in fails(tmp_path, to, "TLS", words, do).said


def test_a_certificate_that_ends_soon_is_a_warning_and_the_walk_continues(tmp_path: Path) -> None:
    with serving(tmp_path, "127.0.0.1", days=10.1) as to:
        found = fine(tmp_path, to, "TLS", "window")
    assert (found["TLS"].ok, "10 days left" in found["TLS"].said) == (True, True)
    assert "Renew" in (found["TLS"].do or "")


def test_a_client_certificate_that_is_missing(tmp_path: Path, certs: Certs) -> None:
    with Receiver(certs=certs, client_cert=True) as receiver:
        to: dict[str, Any] = {"url": receiver.url, "tls_config": {"ca_file": str(certs.ca)}}
        fails(tmp_path, to, "empty write", "certificate required", "cert_file and key_file")
        to["tls_config"] |= {"cert_file": str(certs.client_cert), "key_file": str(certs.client_key)}
        fine(tmp_path, to, "window")


def test_a_port_that_speaks_no_tls(tmp_path: Path) -> None:
    with Receiver() as receiver:
        fails(tmp_path, {"url": receiver.url.replace("http:", "https:")}, "TLS", "", "speaks TLS")


def test_a_port_that_says_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(destination, "GRACE", 10.0)  # it is to end by itself, on a busy machine too
    with socket.create_server(("127.0.0.1", 0)) as silent:
        to = {"url": f"https://127.0.0.1:{silent.getsockname()[1]}/api/v1/write"}
        fails(tmp_path, to, "TLS", "no TLS handshake in time", timeout=0.3)


NOWHERE = {
    "dead port": ("http://127.0.0.1:{dead}/w", "connection", "no connection with 127.0.0.1: connection refused", "port"),
    "unresolvable": ("https://nowhere.invalid/w", "name", "", "name servers"),
    "no possible name": (f"https://{'a' * 64}.example.com/w", "name", "", "Correct the url"),
}  # fmt: skip


@pytest.mark.parametrize(("url", "step", "said", "do"), NOWHERE.values(), ids=NOWHERE)
def test_an_address_that_leads_nowhere(tmp_path: Path, url: str, step: str, said: str, do: str) -> None:
    fails(tmp_path, {"url": url.format(dead=free_port())}, step, said, do, timeout=20)


def test_a_name_without_addresses(tmp_path: Path) -> None:
    fails(
        tmp_path, {"url": "https://a/w"}, "name", "the name a has no address", resolve=lambda _host, _port: ()
    )


def test_name_servers_that_do_not_answer(tmp_path: Path) -> None:
    end, said = threading.Event(), "timeout: it did not come back"

    def hang(host: str, port: int) -> list[Any]:
        end.wait()
        return []

    try:
        fails(tmp_path, {"url": "https://a/w"}, "name", said, timeout=0.2, resolve=hang)
    finally:
        end.set()


def test_one_address_of_two_does_not_answer(tmp_path: Path) -> None:
    def resolve(host: str, port: int) -> list[tuple[Any, int, int, str, tuple[Any, ...]]]:
        found = (("127.0.0.2", port), ("127.0.0.1", port))  # the receiver listens at one of them
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address) for address in found]

    with Receiver() as receiver:
        found = fine(tmp_path, {"url": receiver.url}, "connection", "window", resolve=resolve)
    assert found["name"].said == "127.0.0.1 is 127.0.0.2, 127.0.0.1"
    connection = found["connection"]
    assert (connection.ok, "not at 127.0.0.2" in connection.said) == (True, True)
    assert connection.do


@pytest.mark.parametrize(
    ("answer", "step", "words"),
    [
        (Answer(403, body=b"no rights"), "authentication", "HTTP 403"),
        (Answer(407), "authentication", "HTTP 407"),
        (Answer(404), "empty write", "HTTP 404"),
        (
            Answer(405, body=b"use GET"),
            "empty write",
            "HTTP 405: check the path of the url: nothing is written",
        ),
        (Answer(301, {"Location": "https://u:p@else.example.com/w?t=1"}), "empty write", "to https://else"),
        (Answer(415), "empty write", "HTTP 415"),
        (Answer(413), "empty write", "HTTP 413"),
        (Answer(503, body=b"later"), "empty write", "HTTP 503: later"),
        (Answer(close=True), "empty write", "no valid answer"),
        (Answer(hang=True), "empty write", "timeout: no answer within"),
    ],
    ids=lambda value: str(value.status) if isinstance(value, Answer) else "",
)
def test_a_receiver_that_takes_no_writes(tmp_path: Path, answer: Answer, step: str, words: str) -> None:
    begun = time.monotonic()
    with Receiver([answer] * 2) as receiver:
        receiver.takes_empty_writes = False
        fails(tmp_path, {"url": receiver.url}, step, words, timeout=1)
    assert time.monotonic() - begun < 30


@pytest.mark.parametrize(
    ("off", "ok", "todo"), [(0, True, False), (-20, True, True), (30, True, True), (-900, False, True)]
)
def test_the_receivers_clock_and_a_window_that_is_not_known(
    tmp_path: Path, off: int, ok: bool, todo: bool
) -> None:
    answer = Answer(headers={"Date": formatdate(time.time() + off, usegmt=True)})
    with Receiver([answer]) as receiver:
        found = walked(tmp_path, {"url": receiver.url})
    assert (found["clock"].ok, found["clock"].do is not None) == (ok, todo)
    if ok:
        assert found["window"].ok is None
        assert "unknown from outside" in found["window"].said


# With a token.


def with_token(receiver: Receiver, tokens: TokenServer, **settings: Any) -> dict[str, Any]:
    oauth2 = {"client_id": CLIENT, "client_secret": SECRET, "token_url": tokens.url} | settings
    return {"url": receiver.url, "name": "r", "oauth2": oauth2}


def test_with_a_token(tmp_path: Path) -> None:
    with TokenServer() as tokens, Guarded(tokens) as receiver:
        found = fine(tmp_path, with_token(receiver, tokens), "window")
        assert found["authentication"].said == "accepted (oauth2)"
        assert len(tokens.asked) == 1


def test_a_token_that_the_receiver_does_not_take(tmp_path: Path) -> None:
    said = "HTTP 401: the token of oauth2 is refused: check its scopes and endpoint_params (who is Bearer <secret>)"
    with TokenServer() as tokens, TokenServer() as others, Guarded(others) as receiver:
        fails(tmp_path, with_token(receiver, tokens), "authentication", said, "Correct oauth2")


SERVERS: dict[str, tuple[Script, str, str]] = {
    "who": (answer(401, {"error": "invalid_client"}), "check client_id and the client secret", "Correct oauth2"),
    "away": (answer(503, b"later"), "HTTP 503: later", "tries again by itself"),
    "login page": (answer(200, b"<html>"), "HTTP 200: a web page", "Check token_url"),
    "moved": (answer(302, Location="https://else.example.com/"), "to https://else", "Correct oauth2"),
    "hanging": (hang, "timeout: no answer within", "the way to it"),
}  # fmt: skip


@pytest.mark.parametrize(("script", "said", "do"), SERVERS.values(), ids=SERVERS)
def test_a_token_server_that_gives_none(tmp_path: Path, script: Script, said: str, do: str) -> None:
    begun = time.monotonic()
    with TokenServer() as tokens, Guarded(tokens) as receiver:
        tokens.always = script
        wrong = fails(tmp_path, with_token(receiver, tokens), "authentication", said, do, timeout=1)
        assert receiver.turned_away == []
    assert time.monotonic() - begun < 30
    assert wrong.said.startswith("oauth2: no token from 127.0.0.1: ")


def test_a_token_server_that_is_slow_takes_no_more_than_the_step(tmp_path: Path) -> None:
    def slow(connection: socket.socket, stopping: threading.Event) -> None:
        stopping.wait(0.7)
        connection.sendall(answer(200, {"access_token": "slow"}))

    with TokenServer() as tokens, Receiver([Answer(hang=True)]) as receiver:
        tokens.always = slow
        wrong = fails(tmp_path, with_token(receiver, tokens), "empty write", "timeout: no answer", timeout=3)
    left = re.fullmatch(r"timeout: no answer within ([\d.]+) s", wrong.said)
    assert left is not None
    assert float(left[1]) <= 2.3


def test_a_token_server_that_nobody_is_at(tmp_path: Path, certs: Certs) -> None:
    tokens = TokenServer()
    with Receiver() as receiver:
        said = "no connection with 127.0.0.1: connection refused"
        fails(tmp_path, with_token(receiver, tokens), "authentication", said)
        with TokenServer(certs=certs) as tokens:
            to = with_token(receiver, tokens, tls_config={"ca_file": str(certs.unknown_ca)})
            do = "Set oauth2.tls_config.ca_file to the certificate"
            fails(tmp_path, to, "authentication", "the certificate of 127.0.0.1 was not accepted", do)


def test_a_client_secret_file_that_is_gone_by_then(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text(SECRET)
    with TokenServer() as tokens, Guarded(tokens) as receiver:
        to = with_token(receiver, tokens, client_secret_file=str(secret))
        del to["oauth2"]["client_secret"]
        said = f"r.oauth2.client_secret_file: {secret} cannot be read"
        fails(tmp_path, to, "authentication", said, gone=secret)


def no_secret_is_printed(folder: Path, file: Path, secrets: Iterable[str], *, hides: bool) -> None:
    """Nothing of the secrets is printed, neither as a table nor as JSON; where something `hides`, it says so."""
    for form in ((), ("--json",)):
        done = called(folder, "doctor --config", file, *form)
        assert [one for one in (*secrets, "canary") if one in done.out + done.err] == []
        assert ("<secret>" in done.out) is hides


@pytest.mark.parametrize("status", [204, 400, 401, 403, 503])
@pytest.mark.parametrize("whose", ["token server", "receiver"])
def test_no_secret_of_oauth2_is_printed(tmp_path: Path, whose: str, status: int) -> None:
    """Not even where the token server, or the receiver, sends back all that it was sent."""
    known = (SECRET, "limpet+host%2F1:s3cret%3A+%2B%26%25%C3%A9%2Fcanary", "canary-query", "canary-parameter")
    basic = b64encode(known[1].encode()).decode()
    echo = " ".join((*known, basic))
    with TokenServer() as tokens, Guarded(tokens) as receiver:
        receiver.takes_empty_writes = False
        if whose == "receiver":
            receiver.refuse = lambda _: Answer(status, body=f"{echo} {list(tokens.granted)[-1]}".encode())
        elif status != 204:
            tokens.always = answer(status, {"error": "invalid_request", "error_description": echo})
        settings = {"token_url": f"{tokens.url}?k=canary-query", "endpoint_params": {"a": "canary-parameter"}}
        file = configured(tmp_path, with_token(receiver, tokens, **settings))
        no_secret_is_printed(tmp_path, file, (basic, "s3cret"), hides=status != 204)
        assert tokens.asked[0].path.endswith("?k=canary-query")
        assert tokens.asked[0].form["a"] == "canary-parameter"
        assert tokens.asked[0].headers["authorization"] == f"Basic {basic}"


# The command.


def doctor(folder: Path, file: Path, *arguments: str, **options: Any) -> Done:
    return limpet(folder, "doctor --config", file, *arguments, **options)


def snapshot(folder: Path) -> list[tuple[str, int, int, int, bytes]]:
    found = []
    for path in sorted(folder.rglob("*")):
        about = path.stat()
        content = path.read_bytes() if path.is_file() else b""
        found.append((str(path), about.st_mode, about.st_mtime_ns, about.st_size, content))
    return found


def test_the_command(tmp_path: Path, prometheus: Prometheus, certs: Certs) -> None:
    dead = {"url": f"http://127.0.0.1:{free_port()}/api/v1/write", "name": "dead"}
    # The floor is this machine's business elsewhere; here it must not be what needs doing.
    buffer = {"buffer": {"max_size": "1MiB", "min_free_space": "0%"}}
    file = configured(tmp_path, to_prometheus(prometheus, certs), **buffer)
    told = doctor(tmp_path, file, "--json").json
    doing = [one["step"] for one in told if one["ok"] is not None and one["do"]]
    assert doing in ([], ["clock"])  # whether this machine's is synchronized is its own business
    fine = doctor(tmp_path, file)
    assert (fine.status, fine.err) == (len(doing), ""), fine
    assert ("\nNothing needs doing.\n" in fine.out) is (not doing)
    assert "\x1b" not in fine.out
    assert not (tmp_path / "data").exists()
    assert all(list(one) == ["part", "step", "ok", "said", "do"] for one in told)
    assert [one["step"] for one in told if one["part"] == "p"] == STEPS
    assert {one["part"] for one in told} == {"p", "this host"}

    configured(tmp_path, to_prometheus(prometheus, certs), dead, **buffer)
    one_wrong = doctor(tmp_path, file)
    assert (one_wrong.status, one_wrong.err) == (1, "")
    last = "1 thing needs" if not doing else "2 things need"
    assert f"\n{last} doing.\n" in one_wrong.out
    assert one_wrong.out.splitlines()[-1].startswith("Do first: dead, connection: Check host and port")
    assert one_wrong.out.startswith("this host\n")
    assert [one["ok"] for one in doctor(tmp_path, file, "--json").json].count(False) == 1


@pytest.mark.parametrize("text", ["remote_wright: []\n", None])
def test_a_wrong_configuration(tmp_path: Path, text: str | None) -> None:
    file = tmp_path / "limpet.yaml"
    if text:
        file.write_text(text)
    done = doctor(tmp_path, file)
    assert (done.status, done.out) == (2, "")
    assert "Traceback" not in done.err


def test_while_an_agent_is_held(tmp_path: Path) -> None:
    with Receiver() as receiver:
        receiver.default = Answer(401)
        agent = Agent(tmp_path / "agent", [{"url": receiver.url, "name": "r"}])
        with agent:
            wait_for(lambda: agent.destination("r").get("state") == "held", 20, "the state held")
            done = doctor(tmp_path, agent.config_file, "--json")
            assert done.status == 1
            found = {(one["part"], one["step"]): one for one in done.json}
            assert found["r", "authentication"]["ok"] is False
            assert found["this host", "lock"]["said"] == f"held by process {agent.pid}: the agent runs"
            assert found["this host", "backlog of r"]["ok"] is False
            assert "HTTP 401" in found["this host", "backlog of r"]["said"]
            receiver.default = Answer()
            assert agent.stop() == 0
        before = snapshot(agent.data_dir)
        assert doctor(tmp_path, agent.config_file).status in (0, 1)
        assert snapshot(agent.data_dir) == before


# What is secret in each way to log in, and in the URL and the headers too.
BASIC, BEARER = ("canary-password", "u:canary-password", "dTpjYW5hcnktcGFzc3dvcmQ="), ("canary-bearer",)
LOGINS = {"password": BASIC, "password_file": BASIC, "credentials": BEARER, "credentials_file": BEARER}
BESIDE = ("canary-header", "canary-query", "canary%2Fquoted", "canary/quoted")


@pytest.mark.parametrize("status", [204, 401, 400, 503])
@pytest.mark.parametrize("where", LOGINS)
def test_no_secret_is_printed(tmp_path: Path, where: str, status: int) -> None:
    """Not even where the receiver sends back all that it was sent."""
    secrets = (*BESIDE, *LOGINS[where])
    value: dict[str, Any] = {where: secrets[len(BESIDE)]}
    if where.endswith("_file"):
        (tmp_path / "secret").write_text(f"{value[where]}\n")
        value[where] = str(tmp_path / "secret")
    auth = {"basic_auth": {"username": "u"} | value} if "password" in where else {"authorization": value}
    with Receiver() as receiver:
        receiver.default, receiver.takes_empty_writes = (
            Answer(status, body=" ".join(secrets).encode()),
            False,
        )
        to = {
            "url": f"{receiver.url}?token=canary-query&more=canary%2Fquoted",
            "name": "r",
            "headers": {"X-Api-Key": "canary-header"},
            **auth,
        }
        file = configured(tmp_path, to)
        no_secret_is_printed(tmp_path, file, secrets, hides=status != 204)
        # An agent of another test may still try the port that this receiver has now.
        sent = next(one for one in receiver.requests if one.path.endswith("canary%2Fquoted"))
    assert sent.headers["x-api-key"] == "canary-header"
    assert sent.headers["authorization"].endswith(secrets[-1])


# Volumes.


@pytest.fixture
def volume(tmp_path: Path) -> Iterator[Path]:
    """A volume of two megabytes."""
    folder = tmp_path / "volume"
    folder.mkdir()
    if os.geteuid() != 0 or subprocess.call(
        ["mount", "-t", "tmpfs", "-o", "size=2m,mode=0700", "tmpfs", str(folder)], stderr=subprocess.DEVNULL
    ):
        pytest.skip("no volume can be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def here(folder: Path, file: Path, step: str) -> tuple[bool | None, str, str | None]:
    """Run the command as JSON; return what is said about a step of this host, and what to do."""
    done = doctor(folder, file, "--json")
    found = next(one for one in done.json if (one["part"], one["step"]) == ("this host", step))
    assert done.status == 1 or found["ok"] is not False
    return found["ok"], found["said"], found["do"]


def test_a_full_volume(tmp_path: Path, volume: Path) -> None:
    limits = {"max_size": "1MiB", "min_free_space": "500KiB"}
    file = configured(tmp_path, data_dir=str(volume), buffer=limits)
    for filled, ok, words in (
        (0, True, ""),
        (1 << 20, True, "may have to grow by 1 MiB"),
        (1800 << 10, False, "nothing is kept"),
    ):
        (volume / "filler").write_bytes(bytes(filled))
        found, said, do = here(tmp_path, file, "space")
        assert (found, words in said, do is None) == (ok, True, not filled)


def test_a_volume_that_is_read_only(tmp_path: Path, volume: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(volume)], check=True)
    file = configured(tmp_path, data_dir=str(volume))
    ok, _, do = here(tmp_path, file, "data_dir")
    assert (ok, "mount it for writing" in (do or "")) == (False, True)


@pytest.mark.parametrize("color", ["NO_COLOR", "LANG"])
def test_it_can_be_read_without_colors_and_without_utf_8(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, color: str
) -> None:
    file = configured(tmp_path, {"url": f"http://127.0.0.1:{free_port()}/w", "name": "d"})
    monkeypatch.setenv(color, "C")
    monkeypatch.setenv("PYTHONIOENCODING", "ascii" if color == "LANG" else "utf-8")
    done = doctor(tmp_path, file)
    assert (done.status, done.err) == (1, "")
    assert all(word in done.out for word in ("wrong", "connection refused"))
    assert "\x1b" not in done.out
