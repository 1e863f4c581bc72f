"""Passwords and credentials: sent as configured, never shown, and read again when their files change."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import pytest

from agent.config import Authorization, BasicAuth, HttpHeader, OAuth2, Secret
from agent.send.state import Rules
from agent.system.events import Event
from tests.support.exchanges import delivering, received
from tests.support.net import wait_for
from tests.support.protocols import V1
from tests.support.receiver import Answer, Receiver
from tests.support.sending import PASSWORD, destination, host
from tests.support.tokens import CLIENT, TokenServer

SLOWLY = Rules(0.01, 0.05, 900.0, 900.0)
"""What is held is probed after a quarter of an hour: no test waits for it."""


def test_a_wrong_password_is_held_until_its_file_is_corrected(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("wrong\n")
    auth = BasicAuth(username="limpet", password_file=str(file))
    with Receiver() as receiver:
        receiver.default = Answer(401, body=b"go away")
        with delivering(tmp_path, receiver, basic_auth=auth) as one:
            assert one.held() == "HTTP 401: check the user and password, or the credentials (go away)"
            one.collect(30)
            wait_for(lambda: len(receiver.requests) >= 4, 10, "probes")
            assert [request.write.samples for request in receiver.requests][:4] == [2, 0, 0, 0]
            file.write_text(f" {PASSWORD}\n")
            wanted = "Basic bGltcGV0Omh1bnRlcjI="
            wait_for(lambda: receiver.requests[-1].headers["authorization"] == wanted, 10, "the password")
            receiver.default = Answer()
            one.settled()
            assert one.warned(Event.HELD) == 1
            assert one.logged(Event.RESUMED)
            assert one.lane.error is None


def test_a_corrected_file_is_tried_at_once_however_slow_the_probes_are(tmp_path: Path) -> None:
    file = tmp_path / "password"
    auth = BasicAuth(username="limpet", password_file=str(file))
    with received(tmp_path, [Answer(401)], basic_auth=auth, rules=SLOWLY) as (one, receiver):
        assert "cannot be read: no such file or directory" in one.held()
        file.write_text("wrong\n")
        wait_for(lambda: len(receiver.requests) == 1, 20, "the wrong password to be tried")
        wait_for(lambda: "HTTP 401" in str(one.lane.error), 10, "the answer")
        file.write_text(PASSWORD)
        one.settled(20)
        assert [request.write.samples for request in receiver.requests] == [0, 0, 2]


@pytest.mark.parametrize("status", [400, 401, 404, 503])
def test_secrets_that_a_receiver_sends_back_are_not_reported(tmp_path: Path, status: int) -> None:
    """Not in the log, the status and the quarantine; nor the beginning of one where the words are cut."""
    key, token = "a secret of the query", "a-secret-header"
    with Receiver([Answer(status)]) as receiver:
        to = destination(
            f"{receiver.url}?a=b&key={quote_plus(key)}",
            authorization=Authorization(type="Token", credentials=Secret(PASSWORD)),
            http_headers={"X-Token": HttpHeader(secrets=(Secret(token),))},
            protobuf_message=V1,
        )
        words = f"{PASSWORD} is no good, {token}, a=b&amp;key={quote_plus(key)}, {key} ".encode()
        receiver.answers[0] = Answer(status, body=words + b"." * (195 - len(words)) + PASSWORD.encode())
        with host(tmp_path, to) as one:
            one.settled()
            text = repr(one.logs) + repr([item.message for item in one.quarantine.items()])
            text += repr(one.cursor.ledger)
        assert "<secret> is no good, <secret>, a=b&amp;key=<secret>, <secret>" in text
        for secret in (PASSWORD, token, key, quote_plus(key), PASSWORD[:4]):
            assert secret not in text
        assert receiver.requests[0].headers["authorization"] == f"Token {PASSWORD}"


def test_http_headers_are_sent_and_their_files_are_read_again(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(f" first-{PASSWORD}\n")
    headers = {
        "X-Key": HttpHeader(files=(str(file),)),
        "X-Many": HttpHeader(values=("a", "b"), secrets=(Secret(PASSWORD),), files=(str(file),)),
        "X-Both": HttpHeader(values=("c",)),
        "X-None": HttpHeader(),
    }
    with received(tmp_path, http_headers=headers, headers={"X-Both": "d"}) as (one, receiver):
        one.settled()
        assert {name: value for name, value in receiver.requests[-1].headers.items() if name in map(str.lower, headers)} == {
            "x-key": f"first-{PASSWORD}", "x-many": f"a, b, {PASSWORD}, first-{PASSWORD}", "x-both": "d, c",
        }  # fmt: skip
        file.write_text(f"second-{PASSWORD}")
        one.collect()
        one.settled()
        assert receiver.requests[-1].headers["x-key"] == f"second-{PASSWORD}"


KEYS: dict[str, Callable[[str, str], dict[str, Any]]] = {
    "authorization.credentials_file": lambda file, _: {"authorization": Authorization(credentials_file=file)},
    "http_headers.X-Key.files[0]": lambda file, _: {"http_headers": {"X-Key": HttpHeader(values=("a",), files=(file,))}},
    "oauth2.client_secret_file": lambda file, url: {"oauth2": OAuth2(client_id=CLIENT, client_secret_file=file, token_url=url)},
}  # fmt: skip
"""What a file is for: the settings, given its name and the URL of a token server."""
BAD_FILES = {
    "missing": (None, "cannot be read: no such file or directory"),
    "two lines": (f"{PASSWORD}\nX-Evil: 1".encode(), "not one line of ASCII"),
    "no text": (b"\xff\xfe", "is not UTF-8"),
}


@pytest.mark.parametrize(
    ("key", "bad"),
    [(key, bad) for key in KEYS for bad in BAD_FILES if (key[:6], bad) != ("oauth2", "two lines")],
)
def test_a_file_that_is_no_good_is_held(tmp_path: Path, key: str, bad: str) -> None:
    file, (content, text) = tmp_path / "credentials", BAD_FILES[bad]
    if content is not None:
        file.write_bytes(content)
    with (
        TokenServer(secret="good") as tokens,
        received(tmp_path, rules=SLOWLY, **KEYS[key](str(file), tokens.url)) as (one, receiver),
    ):
        assert one.held().startswith(f"there.{key}: ")
        assert text in one.held()
        assert not receiver.requests  # nothing goes out without what it needs
        assert not tokens.asked
        file.write_text("good")
