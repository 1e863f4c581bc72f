"""The sender with tokens from a token server, both on real sockets, and all that such a server can do to it."""

from __future__ import annotations

import socket
import threading
import time
from base64 import b64decode
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from agent.config import OAuth2, RemoteWrite, Secret, TlsConfig
from agent.destinations.base import Verdict
from agent.http import endpoint
from agent.http.failures import Failure
from agent.http.oauth2 import Tokens
from agent.http.session import Session
from agent.send.state import State
from agent.system.events import Event
from tests.support.certs import Certs, make_certs
from tests.support.exchanges import Poster, posted
from tests.support.net import wait_for
from tests.support.proxy import Proxy
from tests.support.receiver import Answer, Receiver
from tests.support.sending import Host, arrived, destination, host
from tests.support.tcp import listener, read_request
from tests.support.tokens import CLIENT, SECRET, Guarded, Script, TokenServer, answer, hang


def oauth2(url: str, **settings: Any) -> OAuth2:
    if "client_secret_file" not in settings:
        settings = {"client_secret": Secret(SECRET), **settings}
    return OAuth2(**{"client_id": CLIENT, "token_url": url, **settings})


def to_both(receiver: Receiver, tokens: TokenServer, timeout: float = 5.0, **settings: Any) -> RemoteWrite:
    return destination(receiver.url, remote_timeout=timeout, oauth2=oauth2(tokens.url, **settings))


@contextmanager
def sending(folder: Path, to: RemoteWrite, receiver: Receiver) -> Iterator[Host]:
    """A host; in the end everything has arrived exactly once, and nothing that is secret was shown."""
    with host(folder, to) as one:
        yield one
        one.collect(30)
        one.settled()
    assert arrived(receiver) == one.expected
    assert receiver.samples == sum(map(len, one.expected.values()))
    assert "canary" not in f"{one.logs} {one.cursor.ledger} {vars(one.lane)} {vars(one.lane.sender)}"


@contextmanager
def guarded(
    folder: Path, tokens: TokenServer, timeout: float = 5.0, **settings: Any
) -> Iterator[tuple[Host, Guarded]]:
    """A host whose receiver wants the tokens of a server."""
    with (
        tokens,
        Guarded(tokens) as receiver,
        sending(folder, to_both(receiver, tokens, timeout, **settings), receiver) as one,
    ):
        yield one, receiver


def collected_until(one: Host, enough: Callable[[], bool]) -> None:
    """Collect and send, a tick at a time."""

    def done() -> bool:
        one.collect()
        one.settled()
        return enough()

    wait_for(done, 20, "enough to happen")


# With a token.


def test_a_token_is_requested_once_and_sent_with_every_request(tmp_path: Path) -> None:
    params = {"audience": Secret("mimir & co")}
    tokens, scopes = TokenServer(), ("write", "read")
    with guarded(tmp_path, tokens, scopes=scopes, endpoint_params=params) as (one, receiver):
        one.settled()
    assert receiver.turned_away == []
    [asked] = tokens.asked
    [token] = tokens.granted
    assert len(receiver.requests) >= 3
    assert {request.headers["authorization"] for request in receiver.requests} == {f"Bearer {token}"}
    form = {"grant_type": "client_credentials", "scope": "write read", "audience": "mimir & co"}
    assert (asked.path, asked.form) == ("/oauth2/token", form)
    assert {name: value for name, value in asked.headers.items() if name != "content-length"} == {
        "host": f"127.0.0.1:{tokens.port}",
        "user-agent": "limpet/0.0.0",
        "content-type": "application/x-www-form-urlencoded",
        "accept": "application/json",
        "accept-encoding": "identity",
        "connection": "close",
        "authorization": asked.headers["authorization"],
    }
    assert b64decode(asked.headers["authorization"].removeprefix("Basic ")) == (
        b"limpet+host%2F1:s3cret%3A+%2B%26%25%C3%A9%2Fcanary"
    )


def test_no_secret_is_an_empty_one(tmp_path: Path) -> None:
    with guarded(tmp_path, TokenServer(secret=""), client_secret=None):
        pass


def test_a_server_that_wants_the_credentials_in_the_body(tmp_path: Path) -> None:
    tokens = TokenServer(life=0.2, styles={"body"})
    with guarded(tmp_path, tokens) as (one, _):
        collected_until(one, lambda: len(tokens.granted) >= 3)
    first, *others = tokens.asked
    assert "authorization" in first.headers
    assert "client_secret" not in first.form
    assert all("authorization" not in asked.headers for asked in others)  # what it takes is kept to
    assert {(asked.form["client_id"], asked.form["client_secret"]) for asked in others} == {(CLIENT, SECRET)}
    assert len(others) == len(tokens.granted)


def test_a_server_that_changes_what_it_takes(tmp_path: Path) -> None:
    with TokenServer() as tokens:
        clock, settings = [0.0], oauth2(tokens.url)
        session = Session(endpoint.of_token_server(settings, "there"), "0")
        exchange = partial(session.exchange, "POST", tokens.url)
        maker = Tokens(settings, "there", exchange, clock=lambda: clock[0])
        for styles, times in (({"body"}, 2), ({"header"}, 1), ({"header"}, 1), ({"body"}, 1), ({"body"}, 2)):
            tokens.styles, before = styles, len(tokens.asked)
            clock[0] += 7200
            if isinstance(maker.authorization(5, 5), Failure):
                assert len(tokens.asked) == before + 1  # it keeps to what was taken, and forgets it now
            else:
                assert len(tokens.asked) == before + times


def test_a_token_is_renewed_before_it_ends(tmp_path: Path) -> None:
    tokens = TokenServer(life=1)
    with guarded(tmp_path, tokens) as (one, receiver):
        collected_until(one, lambda: len(tokens.granted) >= 4)
    assert receiver.turned_away == []
    assert len(tokens.asked) == len(tokens.granted)
    times = [asked.at for asked in tokens.asked]
    assert times[3] - times[0] > 1.4  # after half of so short a life
    assert not one.logged(Event.RETRY)


def test_a_token_that_is_not_taken_any_more_is_replaced_once(tmp_path: Path) -> None:
    tokens = TokenServer()
    with guarded(tmp_path, tokens) as (one, receiver):
        one.settled()
        tokens.revoke()
        one.collect()
        one.settled()
        assert len(receiver.turned_away) == 1
        assert len(tokens.asked) == 2
        [entry] = one.logged(Event.RETRY)
        text = "the token of oauth2 is not taken any more: another is fetched (who is Bearer <secret>)"
        assert entry["error"] == f"HTTP 401: {text}"
        assert not one.logged(Event.HELD)
        assert one.logged(Event.RESUMED)


def test_a_receiver_that_takes_no_token_holds_and_each_probe_has_another(tmp_path: Path) -> None:
    with (
        TokenServer() as tokens,
        TokenServer() as others,
        Guarded(others) as receiver,
        sending(tmp_path, to_both(receiver, tokens), receiver) as one,
    ):
        text = "HTTP 401: the token of oauth2 is refused: check its scopes and endpoint_params (who is Bearer <secret>)"
        assert one.held() == text
        one.collect(30)
        wait_for(lambda: len(receiver.turned_away) >= 4, 10, "probes")
        assert len(set(receiver.turned_away)) >= 4
        assert len(tokens.asked) <= len(receiver.turned_away) + 1
        receiver.tokens = tokens
        one.settled()
        assert one.warned(Event.HELD) == 1
        assert one.lane.error is None


def test_rights_that_were_given_later_are_in_the_next_token(tmp_path: Path) -> None:
    with guarded(tmp_path, TokenServer()) as (one, receiver):
        one.settled()
        words = f"no rights for {next(iter(receiver.tokens.granted))}".encode()
        receiver.answers.extend([Answer(403, body=words), Answer(403)])
        one.collect()
        text = "the token of oauth2 does not suffice: check its scopes and endpoint_params, and the client's rights"
        assert text in one.held()
        assert one.logged(Event.HELD)[0]["error"] == f"HTTP 403: {text} (no rights for <secret>)"
        one.settled()
    assert len({request.headers["authorization"] for request in receiver.requests}) == 3


# Without one, because of the server.


def refuse(connection: socket.socket, _: threading.Event) -> None:
    connection.shutdown(socket.SHUT_RDWR)


def late(connection: socket.socket, stopping: threading.Event) -> None:
    """Half an answer, and the rest of it never."""
    connection.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"access_token": "canary-1234')
    hang(connection, stopping)


def drip(connection: socket.socket, stopping: threading.Event) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nX: ")
    while not stopping.wait(0.02):
        connection.sendall(b"x")


def endless(connection: socket.socket, _: threading.Event) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        connection.sendall(b'{"access_token": "' + b"x" * 4096)


PASSING: dict[str, tuple[Script, str]] = {
    "500": (answer(500, b"oh"), "HTTP 500: oh"),
    "503 with what was sent": (answer(503, SECRET.encode()), "HTTP 503: <secret>"),
    "429": (answer(429, Retry_After="0"), "HTTP 429"),
    "temporarily_unavailable": (answer(400, {"error": "temporarily_unavailable"}), "HTTP 400 (temporarily_"),
    "a page": (answer(200, b"<html>welcome</html>"), "HTTP 200: a web page"),
    "no JSON": (answer(200, b"welcome"), "HTTP 200, but no access_token in it"),
    "no token": (answer(200, {"token_type": "bearer"}), "HTTP 200, but no access_token in it"),
    "a token of two lines": (answer(200, {"access_token": "canary\r\nX: y"}), "HTTP 200, but one that no header"),
    "no HTTP": (b"SSH-2.0-OpenSSH\r\n\r\n", "no valid answer from 127.0.0.1: "),
    "closed": (refuse, "no valid answer from 127.0.0.1: "),
    "cut": (b"HTTP/1.1 200 OK\r\nContent-Length: 90\r\n\r\n{", "HTTP 200, but no access_token in it"),
    "hanging": (hang, "timeout: no answer within 1 s"),
    "hanging in the answer": (late, "HTTP 200, but no access_token in it"),
    "dripping": (drip, "timeout: no "),
    "endless": (endless, "HTTP 200, but no access_token in it"),
}  # fmt: skip


@pytest.mark.parametrize(("script", "text"), PASSING.values(), ids=PASSING)
def test_what_passes_is_waited_for(tmp_path: Path, script: Script, text: str) -> None:
    tokens = TokenServer(script, script)
    with guarded(tmp_path, tokens, 1.0) as (one, receiver):
        one.settled()
        first = one.logged(Event.RETRY)[0]
        assert str(first["error"]).startswith(f"oauth2: no token from 127.0.0.1: {text}")
        assert not one.logged(Event.HELD)
        assert len(tokens.asked) == 3
    assert receiver.turned_away == []  # nothing went out without a token


def test_retry_after_of_the_token_server_is_waited_for(tmp_path: Path) -> None:
    tokens = TokenServer(answer(429, Retry_After="1"))
    with guarded(tmp_path, tokens):
        pass
    first, second = tokens.asked
    assert second.at - first.at >= 1.0


def test_the_token_is_fetched_within_the_time_of_the_request() -> None:
    def slow(connection: socket.socket, _: threading.Event) -> None:
        time.sleep(0.8)
        connection.sendall(answer(200, {"access_token": "slow"}))

    with TokenServer(always=slow) as tokens, Receiver() as receiver:
        receiver.default = Answer(hang=True)
        found = posted(to_both(receiver, tokens), within=3.0)
        assert found.verdict is Verdict.RETRY
        left = str(found.error).removeprefix("timeout: no answer within ").removesuffix(" s")
        assert float(left) <= 2.2  # of the three seconds, the token has taken the rest
        assert receiver.requests[0].headers["authorization"] == "Bearer slow"
        tokens.always = hang
        found = posted(to_both(receiver, tokens), within=0.1)
        assert str(found.error).startswith("oauth2: no token from 127.0.0.1: timeout: no answer within")


@pytest.mark.parametrize("status", [302, 400, 503])
def test_what_the_token_server_answers_is_no_answer_of_the_receiver(status: int) -> None:
    with TokenServer(always=answer(status, b"you asked for ?key=canary")) as tokens, Receiver() as receiver:
        found = posted(destination(receiver.url, oauth2=oauth2(f"{tokens.url}?key=canary")))
        assert found.status == 0
        assert "canary" not in str(found.error)
        assert tokens.asked[0].path.endswith("?key=canary")
        assert not receiver.requests


def test_a_token_server_that_is_not_there_yet(tmp_path: Path) -> None:
    tokens = TokenServer()
    with Guarded(tokens) as receiver, sending(tmp_path, to_both(receiver, tokens), receiver) as one:
        one.failed(3)
        text = "oauth2: no token from 127.0.0.1: no connection with 127.0.0.1: connection refused"
        assert one.lane.error == text
        assert one.lane.state in (State.WAITING, State.SENDING)
        one.collect(30)
        with tokens:
            one.settled()
            assert len(tokens.asked) == 1
            assert one.logged(Event.RESUMED)


def test_while_the_token_server_is_away_a_token_that_is_good_is_used(tmp_path: Path) -> None:
    tokens = TokenServer()
    with guarded(tmp_path, tokens) as (one, _):
        one.settled()
        tokens.stop()
        one.collect(30)
        one.settled()
        assert not one.logged(Event.RETRY)


def test_a_name_that_cannot_be_resolved_is_retried() -> None:
    to = destination("http://127.0.0.1:1/w", oauth2=oauth2("https://nowhere.invalid/token?canary"))
    found = posted(to)
    assert found.verdict is Verdict.RETRY
    text = "oauth2: no token from nowhere.invalid: the name nowhere.invalid cannot be resolved: "
    assert str(found.error).startswith(text)


# Without one, and somebody has to correct something.

CORRECTED: dict[str, tuple[Script, str, int]] = {
    "invalid_client": (answer(401, {"error": "invalid_client"}), "HTTP 401: check client_id and the client secret (invalid_client)", 2),
    "400": (answer(400, SECRET.encode() * 9), "HTTP 400: check client_id and the client secret, scopes and endpoint_params (<secret><secret>", 2),
    "invalid_scope": (answer(400, {"error": "invalid_scope"}), "HTTP 400: check scopes (invalid_scope)", 1),
    "403": (answer(403), "HTTP 403: check client_id and the client secret, and its rights", 2),
    "404": (answer(404), "HTTP 404: check token_url", 2),
    "an error in a 200": (answer(200, {"error": "access_denied"}), "HTTP 200: check client_id and the client secret", 2),
}  # fmt: skip


@pytest.mark.parametrize(("script", "text", "times"), CORRECTED.values(), ids=CORRECTED)
def test_what_an_operator_can_correct_is_held(tmp_path: Path, script: Script, text: str, times: int) -> None:
    tokens = TokenServer(always=script)
    with guarded(tmp_path, tokens) as (one, receiver):
        assert one.held().startswith(f"oauth2: no token from 127.0.0.1: {text}")
        one.collect(30)
        wait_for(lambda: len(tokens.asked) >= 4 * times, 10, "probes")
        ways = ["authorization" in asked.headers for asked in tokens.asked[: 4 * times]]
        assert ways == [True, False][:times] * 4
        assert not receiver.requests
        assert receiver.turned_away == []
        tokens.always = None
        one.settled()
        assert one.warned(Event.HELD) == 1
        assert one.logged(Event.RESUMED)
        assert one.lane.error is None


@pytest.mark.parametrize("status", [302, 307])
def test_a_redirect_is_held_and_nothing_goes_to_where_it_points(tmp_path: Path, status: int) -> None:
    with TokenServer() as elsewhere:
        where = elsewhere.url.replace("//", "//u:canary@") + "?canary"
        tokens = TokenServer(always=answer(status, Location=where))
        with guarded(tmp_path, tokens) as (one, _):
            text = f"HTTP {status}: a redirect to {elsewhere.url}, which is not followed: correct token_url"
            assert one.held() == f"oauth2: no token from 127.0.0.1: {text}"
            wait_for(lambda: len(tokens.asked) >= 3, 10, "probes")
            assert elsewhere.asked == []
            tokens.always = None


def test_a_secret_is_rotated_by_its_file(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text(f"{SECRET}\n")
    tokens = TokenServer()
    with guarded(tmp_path, tokens, client_secret_file=str(file)) as (one, _):
        one.settled()
        tokens.secret = "another-canary"
        file.write_text(f" {tokens.secret} ")
        one.collect()
        one.settled()
        assert len(tokens.granted) == 2  # the old token was good: a new secret means a new token
        assert not one.logged(Event.RETRY) + one.logged(Event.HELD)

        file.write_text("a wrong canary")
        one.collect()
        assert "check client_id and the client secret (invalid_client: who are you?)" in one.held()
        file.write_text(tokens.secret)


# TLS, and a proxy.


@pytest.fixture
def both(tmp_path: Path) -> tuple[Certs, Certs]:
    """The receiver's certificates and the token server's: two authorities."""
    folders = tmp_path / "receiver", tmp_path / "tokens"
    for folder in folders:
        folder.mkdir()
    return make_certs(folders[0]), make_certs(folders[1])


def test_the_token_server_has_a_tls_config_of_its_own(both: tuple[Certs, Certs]) -> None:
    ours, theirs = both
    client: dict[str, Any] = {"cert_file": str(theirs.client_cert), "key_file": str(theirs.client_key)}
    with TokenServer(certs=theirs, client_cert=True) as tokens, Guarded(tokens, certs=ours) as receiver:
        ca = TlsConfig(ca_file=str(ours.ca))
        for name in ("localhost", None):
            tls = TlsConfig(ca_file=str(theirs.ca), server_name=name, **client)
            to = destination(receiver.url, tls_config=ca, oauth2=oauth2(tokens.url, tls_config=tls))
            assert posted(to).verdict is Verdict.DELIVERED
        asked = len(tokens.asked)
        for other in (
            TlsConfig(),
            ca,
            TlsConfig(ca_file=str(theirs.ca), server_name="other.example", **client),
        ):
            found = posted(to_both(receiver, tokens, tls_config=other))
            assert found.verdict is Verdict.HELD
            text = "oauth2: no token from 127.0.0.1: TLS: the certificate of 127.0.0.1 was not accepted: "
            assert str(found.error).startswith(text)
            assert str(found.error).endswith(": check oauth2.tls_config, and the server's certificate")
        assert len(tokens.asked) == asked  # the secret was not sent


def test_a_ca_file_that_was_corrected_is_used_without_a_restart(
    tmp_path: Path, both: tuple[Certs, Certs]
) -> None:
    _, theirs = both
    ca = tmp_path / "ca.pem"
    ca.write_text("not a certificate")
    tls = TlsConfig(ca_file=str(ca))
    with guarded(tmp_path, TokenServer(certs=theirs), tls_config=tls) as (one, _):
        text = "there.oauth2.tls_config.ca_file: no certificate in it. It must be a PEM text."
        assert one.held() == text
        ca.write_bytes(theirs.ca.read_bytes())


def test_tls_to_a_token_server_that_speaks_plain_http_is_held() -> None:
    with TokenServer() as tokens, Receiver() as receiver:
        url = tokens.url.replace("http:", "https:")
        found = posted(destination(receiver.url, oauth2=oauth2(url)))
    assert found.verdict is Verdict.HELD
    assert "wrong version number: check oauth2.tls_config" in str(found.error)


def test_the_proxy_of_the_token_server_is_its_own(both: tuple[Certs, Certs]) -> None:
    _, theirs = both
    login = "user:proxy-canary"
    with TokenServer(certs=theirs) as tokens, Guarded(tokens) as receiver, Proxy(login=login) as proxy:
        tls = TlsConfig(ca_file=str(theirs.ca))
        url = Secret(proxy.url.replace("//", f"//{login}@"))
        to = to_both(receiver, tokens, tls_config=tls, proxy_url=url)
        assert posted(to).verdict is Verdict.DELIVERED
        assert [first for first, _ in proxy.asked] == [f"CONNECT 127.0.0.1:{tokens.port} HTTP/1.1"]
        proxy.login = "user:another"
        found, said = posted(to), f"the proxy {proxy.url[7:]} answered CONNECT with HTTP 407"
        assert found.verdict is Verdict.HELD
        assert str(found.error).startswith(f"oauth2: no token from 127.0.0.1: {said}")
        assert "canary" not in str(found.error)


def test_a_proxy_that_refuses_a_tunnel_leaves_the_token_alone(certs: Certs) -> None:
    with TokenServer() as tokens, Guarded(tokens, certs=certs) as receiver, Proxy() as proxy:
        tls, url = TlsConfig(ca_file=str(certs.ca)), Secret(proxy.url)
        to = destination(receiver.url, tls_config=tls, proxy_url=url, oauth2=oauth2(tokens.url))
        with closing(Poster(to, "0")) as client:
            for status in (401, 403, 407, None):
                proxy.answer = b"HTTP/1.1 %d No\r\n\r\n" % status if status else None
                assert client.post().verdict is (Verdict.HELD if status else Verdict.DELIVERED)
    assert (len(tokens.asked), receiver.turned_away) == (1, [])


def test_the_variables_count_only_when_configured(tmp_path: Path) -> None:
    with TokenServer() as tokens, Guarded(tokens) as receiver, Proxy() as proxy:
        proxy.moved = {"tokens.invalid": "127.0.0.1"}
        environment = {"HTTP_PROXY": proxy.url, "HTTPS_PROXY": proxy.url}
        url = tokens.url.replace("127.0.0.1", "tokens.invalid")
        for settings, verdict in (({}, Verdict.RETRY), ({"proxy_from_environment": True}, Verdict.DELIVERED)):
            to = destination(receiver.url, oauth2=oauth2(url, **settings))
            assert posted(to, environment=environment).verdict is verdict
        assert [first for first, _ in proxy.asked] == [f"POST {url} HTTP/1.1"]


# Stopping, and one another.


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_stop_cuts_a_token_server_that_never_answers(tmp_path: Path, scheme: str) -> None:
    """Over https it is the handshake that is never answered."""
    asked = threading.Event()

    def silent(connection: socket.socket) -> None:
        while connection.recv(1 << 16):
            asked.set()

    with Receiver() as receiver, listener(silent) as url, capture_logs() as logs:
        url = url.replace("http", scheme)
        to = destination(receiver.url, remote_timeout=60.0, oauth2=oauth2(url))
        one = Host(tmp_path, to, logs)
        one.collect()
        one.lane.start()
        assert asked.wait(60)
        began = time.monotonic()
        one.lane.stop(1.0)
        assert time.monotonic() - began < 20  # the remote timeout is 60
        assert one.lane.has_ended  # it was cut, not left behind
        assert one.cursor.ledger.state == "stopped"
        assert one.cursor.pending() == 2
        one.buffer.close()
        assert not [entry for entry in logs if entry["log_level"] != "debug"]
        assert not receiver.requests


def test_what_was_cut_before_it_began_does_not_begin() -> None:
    with TokenServer() as tokens, Receiver() as receiver:
        with closing(Poster(to_both(receiver, tokens), "0")) as client:
            client.interrupt()
            assert client.post().verdict is Verdict.RETRY
        assert tokens.asked == []


def test_no_connection_with_the_token_server_is_kept(tmp_path: Path) -> None:
    ended = threading.Event()

    def once(connection: socket.socket) -> None:
        read_request(connection)
        body = b'{"access_token": "canary"}'
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        if not connection.recv(1):
            ended.set()

    with Receiver() as receiver, listener(once) as url:
        client = Poster(destination(receiver.url, oauth2=oauth2(url)), "0")
        assert client.post().verdict is Verdict.DELIVERED
        assert ended.wait(60)  # although the client is not closed yet
        client.close()
