"""What a token server's answer means, its requests, and what becomes of a token: the parts without a socket."""

from __future__ import annotations

import json
import subprocess
import sys
from base64 import b64decode
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.config import OAuth2, RemoteWrite, Secret
from agent.http.answer import Answer
from agent.http.failures import Cause, Failure
from agent.http.oauth2 import LONGEST_LIFE, Refusal, Token, Tokens, basic, form, understood, usable_for
from agent.http.secrets import without_token

NOW = 1_800_000_000.0
URL = "https://auth.example.com/oauth2/token"
HELD, RETRY = True, False
"""Whether a failure holds."""


def body(**fields: Any) -> bytes:
    return json.dumps(fields).encode()


def error(code: str, description: str | None = None) -> bytes:
    return body(error=code) if description is None else body(error=code, error_description=description)


GRANTED: dict[str, tuple[bytes, str, float | None]] = {
    "as in RFC 6749, 4.4.3": (body(access_token="2YotnFZFEjr1zCsicMWpAA", token_type="example", expires_in=3600), "example 2YotnFZFEjr1zCsicMWpAA", 3600),
    "bearer": (body(access_token="t", token_type="bearer", expires_in=60), "Bearer t", 60),
    "no type": (body(access_token="t", expires_in=60), "Bearer t", 60),
    "an empty type": (body(access_token="t", token_type="", expires_in=60), "Bearer t", 60),
    "no end": (body(access_token="t", token_type="Bearer"), "Bearer t", None),
    "null as the end": (body(access_token="t", token_type="Bearer", expires_in=None), "Bearer t", None),
    "an end as a text": (body(access_token="t", expires_in="3600"), "Bearer t", 3600),
    "an end with a fraction": (body(access_token="t", expires_in=1.5), "Bearer t", 1.5),
    "0 for no end": (body(access_token="t", expires_in=0), "Bearer t", None),
    "an end before the begin": (body(access_token="t", expires_in=-5), "Bearer t", None),
    "an end that is no number": (body(access_token="t", expires_in="soon"), "Bearer t", None),
    "an end that is a list": (body(access_token="t", expires_in=[1]), "Bearer t", None),
    "an end that is none": (b'{"access_token": "t", "expires_in": "nan"}', "Bearer t", None),
    "an end beyond all time": (b'{"access_token": "t", "expires_in": 1' + b"0" * 40 + b"}", "Bearer t", LONGEST_LIFE),
    "an infinite end": (b'{"access_token": "t", "expires_in": "inf"}', "Bearer t", LONGEST_LIFE),
    "no error": (body(access_token="t", error=None), "Bearer t", None),
    "more than was requested": (body(access_token="t", refresh_token="r", id_token={"a": []}), "Bearer t", None),
}  # fmt: skip


@pytest.mark.parametrize(("answer", "header", "life"), GRANTED.values(), ids=GRANTED)
@pytest.mark.parametrize("status", [200, 201])
def test_what_is_a_token(status: int, answer: bytes, header: str, life: float | None) -> None:
    found = understood(status, {}, answer, NOW)
    assert found == Token(Secret(header), life)
    assert header not in repr(found)


# status, body, whether it holds, the text, and whether the other way to show who it is is tried
REFUSED: dict[str, tuple[int, bytes, bool, str, bool]] = {
    # what is no answer to the question
    "not JSON": (200, b"welcome", RETRY, "HTTP 200, but no access_token in it", False),
    "nothing": (200, b"", RETRY, "HTTP 200, but no access_token in it", False),
    "not UTF-8": (200, b'{"access_token": "\xff"}', RETRY, "HTTP 200, but no access_token in it", False),
    "cut": (200, b'{"access_token": "tok', RETRY, "HTTP 200, but no access_token in it", False),
    "a list": (200, b"[1]", RETRY, "HTTP 200, but no access_token in it", False),
    "nested without end": (200, b"[" * 60_000, RETRY, "HTTP 200, but no access_token in it", False),
    "an empty token": (200, body(access_token=""), RETRY, "HTTP 200, but one that no header can carry", False),
    "a token of two lines": (200, body(access_token="a\r\nX: b"), RETRY, "HTTP 200, but one that no header can carry", False),
    "a token with a space": (200, body(access_token="a b"), RETRY, "HTTP 200, but one that no header can carry", False),
    "a token beyond ASCII": (200, body(access_token="é"), RETRY, "HTTP 200, but one that no header can carry", False),
    "a number as a token": (200, body(access_token=5), RETRY, "HTTP 200, but one that no header can carry", False),
    "a type of two lines": (200, body(access_token="a", token_type="a\nb"), RETRY, "HTTP 200, but one that no header can carry", False),
    "no content": (204, b"", RETRY, "HTTP 204, but no access_token in it", False),
    # what passes by itself
    "500": (500, b"oh", RETRY, "HTTP 500: oh", False),
    "500 as JSON": (500, error("server_error", "oh"), RETRY, "HTTP 500: server_error: oh", False),
    "500 as other JSON": (500, b'{ "detail":\n["\\u00e9", 1e2]}', RETRY, 'HTTP 500: {"detail":["é",100.0]}', False),
    "503": (503, b"", RETRY, "HTTP 503", False),
    "408": (408, b"", RETRY, "HTTP 408", False),
    "425": (425, b"", RETRY, "HTTP 425", False),
    "429": (429, error("slow_down"), RETRY, "HTTP 429: slow_down", False),
    "600": (600, b"", RETRY, "HTTP 600", False),
    "101": (101, b"", RETRY, "HTTP 101", False),
    "400 server_error": (400, error("server_error", "later"), RETRY, "HTTP 400 (server_error: later)", False),
    "400 temporarily_unavailable": (400, error("temporarily_unavailable"), RETRY, "HTTP 400 (temporarily_unavailable)", False),
    "200 temporarily_unavailable": (200, error("temporarily_unavailable"), RETRY, "HTTP 200 (temporarily_unavailable)", False),
    # what an operator has to correct
    "400 invalid_client": (400, error("invalid_client"), HELD, "HTTP 400: check client_id and the client secret (invalid_client)", True),
    "401 invalid_client": (401, error("invalid_client", "no\n such"), HELD, "HTTP 401: check client_id and the client secret (invalid_client: no such)", True),
    "401 in words": (401, b"go away", HELD, "HTTP 401: check client_id and the client secret (go away)", True),
    "401 access_denied": (401, error("access_denied"), HELD, "HTTP 401: check client_id and the client secret (access_denied)", True),
    "400 unauthorized_client": (400, error("unauthorized_client"), HELD, "HTTP 400: check client_id and the client secret, and that the server allows client credentials to it (unauthorized_client)", True),
    "400 invalid_request": (400, error("invalid_request"), HELD, "HTTP 400: check client_id and the client secret, scopes and endpoint_params (invalid_request)", True),
    "400 invalid_scope": (400, error("invalid_scope"), HELD, "HTTP 400: check scopes (invalid_scope)", False),
    "400 invalid_target": (400, error("invalid_target"), HELD, "HTTP 400: check endpoint_params (invalid_target)", False),
    "400 unsupported_grant_type": (400, error("unsupported_grant_type"), HELD, "HTTP 400: the server does not give tokens for client credentials: check token_url (unsupported_grant_type)", False),
    "403": (403, b"", HELD, "HTTP 403: check client_id and the client secret, and its rights", True),
    "404": (404, b"no page", HELD, "HTTP 404: check token_url and endpoint_params (no page)", True),
    "405": (405, b"", HELD, "HTTP 405: check token_url and endpoint_params", True),
    "407": (407, b"", HELD, "HTTP 407: a proxy on the way asks for credentials: check proxy_url", True),
    "413": (413, b"", HELD, "HTTP 413: check token_url and endpoint_params", True),
    "422": (422, b"", HELD, "HTTP 422: check token_url and endpoint_params", True),
    "an error in a 200": (200, error("invalid_client"), HELD, "HTTP 200: check client_id and the client secret (invalid_client)", True),
    "an error in a 200 with a token": (200, b'{"error": {"code": 1}, "access_token": "canary"}', HELD, "HTTP 200: check token_url and endpoint_params", True),
    "an error that is no text": (400, body(error={"code": 7}), HELD, 'HTTP 400: check client_id and the client secret, scopes and endpoint_params ({"error":{"code":7}})', True),
    "a description that is no text": (400, body(error="invalid_scope", error_description=5), HELD, "HTTP 400: check scopes (invalid_scope)", False),
}  # fmt: skip


@pytest.mark.parametrize(("status", "answer", "holds", "text", "other_way"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_token(status: int, answer: bytes, holds: bool, text: str, other_way: bool) -> None:
    found = understood(status, {}, answer, NOW)
    assert found == Refusal(Failure(Cause.TOKEN, text, holds), other_way)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_held_and_shown_without_what_may_be_secret(status: int) -> None:
    where = {"location": "https://u:canary@login.example.com/in?canary#canary"}
    found = understood(status, where, b"", NOW)
    text = "a redirect to https://login.example.com/in, which is not followed: correct token_url"
    assert found == Refusal(Failure(Cause.TOKEN, f"HTTP {status}: {text}", holds=True))


def test_retry_after_is_kept() -> None:
    for status in (429, 503):
        found = understood(status, {"retry-after": "7"}, b"", NOW)
        assert isinstance(found, Refusal)
        assert found.failure.after == 7.0


@pytest.mark.parametrize("status", [400, 401, 404, 500])
def test_a_secret_is_hidden_however_json_writes_it(status: int) -> None:
    secret = 'é"\\/canary&'
    forms = (secret.encode(), b'\xc3\xa9\\"\\\\/canary&')
    for text in (
        json.dumps(secret),
        json.dumps(secret, ensure_ascii=False),
        json.dumps(secret).replace("&", r"\u0026"),
    ):
        for answer in (f'{{"error": "x", "error_description": {text}}}', f'{{"detail": [{text}]}}', text):
            found = understood(status, {}, answer.encode(), NOW, forms)
            assert "canary" not in str(found)
            assert "<secret>" in str(found)


def test_what_was_sent_is_hidden_wherever_it_is_repeated() -> None:
    secrets = (b"c2VjcmV0", b"se cret", b"se+cret", b"abc")
    for answer in (
        error("invalid_client", "you said se cret, se+cret, c2VjcmV0"),
        b"you said se cret, se+cret, c2VjcmV0",
        b"x" * 195 + b"se cret",  # cut in the middle
    ):
        for status in (400, 401, 500):
            told = str(understood(status, {}, answer, NOW, secrets))
            assert "secret" not in told.replace("client secret", "").replace("<secret>", "")
            assert "se cr" not in told
            assert "c2V" not in told
    # A text too short to be a secret hides nothing, and a secret within a token does not damage it.
    assert "abcdef" in str(understood(500, {}, b"abcdef", NOW, secrets))
    token = understood(200, {}, body(access_token="c2VjcmV0"), NOW, secrets)
    assert token == Token(Secret("Bearer c2VjcmV0"), None)


@given(st.integers(100, 700), st.binary(max_size=300))
def test_any_answer_means_something(status: int, answer: bytes) -> None:
    found = understood(status, {}, answer, NOW)
    if isinstance(found, Refusal):
        assert found.failure.text
    else:
        assert 200 <= status <= 299


LETTERS = 'aé \n"0'  # all of Unicode takes a second to set up where there is no cache of it, as in CI
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(LETTERS, max_size=5)
JSON = SCALARS | st.lists(SCALARS, max_size=2)
NAMES = st.sampled_from(["access_token", "token_type", "expires_in", "error", "error_description"])


@given(st.sampled_from([200, 400, 401, 503]), st.dictionaries(NAMES, JSON))
def test_any_json_means_something(status: int, fields: dict[str, Any]) -> None:
    found = understood(status, {}, json.dumps(fields).encode(), NOW)
    if isinstance(found, Token):
        assert found.authorization.reveal().isprintable()
        assert found.life is None or 0 < found.life <= LONGEST_LIFE


# The requests to it.


def settings(**more: Any) -> OAuth2:
    return OAuth2(**{"client_id": "id", "token_url": URL, **more})


def fields(data: bytes) -> dict[str, list[str]]:
    return parse_qs(data.decode(), keep_blank_values=True, strict_parsing=True)


def test_the_form() -> None:
    assert form(settings(), "s", in_body=False) == b"grant_type=client_credentials"
    params = {"audience": Secret("https://mimir/?a=b&c"), "empty": Secret("")}
    full = settings(scopes=("metrics:write", "b"), endpoint_params=params)
    assert fields(form(full, "p w", in_body=True)) == {
        "grant_type": ["client_credentials"],
        "scope": ["metrics:write b"],
        "audience": ["https://mimir/?a=b&c"],
        "empty": [""],
        "client_id": ["id"],
        "client_secret": ["p w"],
    }
    assert "client_secret" not in fields(form(settings(), "", in_body=True))
    other = settings(endpoint_params={"grant_type": Secret("their_own"), "client_id": Secret("x")})
    assert fields(form(other, "s", in_body=False)) == {"grant_type": ["their_own"], "client_id": ["x"]}
    assert fields(form(other, "s", in_body=True))["client_id"] == ["id"]


@pytest.mark.parametrize(
    ("client", "secret", "sent"),
    [
        # As Go's url.QueryEscape has it, which golang.org/x/oauth2 uses.
        ("id", "secret", "id:secret"),
        ("CLIENT_ID??", "CLIENT_SECRET??", "CLIENT_ID%3F%3F:CLIENT_SECRET%3F%3F"),
        ("a:b", "c d+e", "a%3Ab:c+d%2Be"),
        ("é", "-_.~", "%C3%A9:-_.~"),
        ("id", "", "id:"),
    ],
)
def test_http_basic_is_form_urlencoded(client: str, secret: str, sent: str) -> None:
    kind, _, coded = basic(client, secret).partition(b" ")
    assert (kind, b64decode(coded).decode()) == (b"Basic", sent)


# What becomes of a token.


class Served:
    """`Tokens` with a server that is a list of lives, and a clock; a failure in it is returned."""

    def __init__(self, *lives: float | Failure | None) -> None:
        self.now, self.lives, self.fetched = 1000.0, list(lives), 0
        self.tokens = Tokens(
            settings(client_secret=Secret("canary")), "r", self._exchange, lambda: NOW, clock=lambda: self.now
        )

    def _exchange(
        self, headers: Mapping[str, bytes], body: bytes, *, step: float, whole: float
    ) -> Answer | Failure:
        assert (step, whole) == (3, 5)
        life = self.lives.pop(0)
        if isinstance(life, Failure):
            return life
        self.now += 1  # it takes a second
        self.fetched += 1
        answer = {"access_token": f"canary-{self.fetched}", "expires_in": life}
        return Answer(200, {}, json.dumps(answer).encode())

    def ask(self) -> int:
        """Return the number of the token for the next request, which goes out."""
        found = self.tokens.authorization(3, 5)
        assert isinstance(found, bytes), found
        self.tokens.used += 1
        kind, _, token = found.decode().partition(" ")
        assert kind == "Bearer"
        return int(token.removeprefix("canary-"))


def test_a_token_is_kept_until_shortly_before_it_ends() -> None:
    one = Served(3600.0, 3600.0)
    assert one.ask() == 1
    one.now = 1000 + 3600 - 10.001  # the life counts from before it was requested
    assert one.ask() == 1
    one.now = 1000 + 3600 - 10
    assert one.ask() == 2


@pytest.mark.parametrize(("life", "used"), [(3600, 3590), (20, 10), (10, 5), (1, 0.5), (21, 11)])
def test_how_long_a_token_is_used(life: float, used: float) -> None:
    assert usable_for(life) == used


def test_a_token_without_an_end_is_kept_until_it_is_refused() -> None:
    one = Served(None, None)
    assert one.ask() == 1
    one.now += 300 * 86_400
    assert one.ask() == 1
    assert one.tokens.answered(401, bytes) is not None
    assert one.ask() == 2


def test_where_no_token_was_given_it_is_requested_again() -> None:
    one = Served(Failure(Cause.TIMEOUT, "timeout", status=502, after=7.0), 60.0)
    found = Failure(Cause.TIMEOUT, "oauth2: no token from auth.example.com: timeout", after=7.0)
    assert one.tokens.authorization(3, 5) == found
    assert one.ask() == 1


@pytest.mark.parametrize("status", [200, 400, 404, 407, 413, 429, 500])
def test_no_other_answer_is_about_the_token(status: int) -> None:
    one = Served(None)
    one.ask()
    assert one.tokens.answered(status, bytes) is None
    assert one.ask() == 1


TOKEN = "eyJhbGciOiJSUzI1NiJ9.e30.c2lnbmF0dXJl-_~+/="


@pytest.mark.parametrize(
    ("token", "text", "shown"),
    [
        (TOKEN, f"HTTP 401: x (Bearer {TOKEN})", "HTTP 401: x (Bearer <secret>)"),
        (TOKEN, f'HTTP 400: "{TOKEN}" is bad', "HTTP 400: <secret> is bad"),
        (TOKEN, f"HTTP 400: {TOKEN}", "HTTP 400: <secret>"),
        (TOKEN, f"HTTP 401: x (Bearer {TOKEN[:20]})", "HTTP 401: x (Bearer <secret>)"),
        (TOKEN, f"HTTP 400: {TOKEN[:8]}", "HTTP 400: <secret>"),
        (TOKEN, f"HTTP 400: {TOKEN[:7]}", f"HTTP 400: {TOKEN[:7]}"),  # of no use to anybody
        (TOKEN, "HTTP 400: nothing of it", "HTTP 400: nothing of it"),
        ("secr3t", "a secr3t b", "a <secret> b"),
        ("an", "an ant", "an ant"),
        ("", "text", "text"),
    ],
)
def test_a_token_is_hidden_also_where_it_was_cut(token: str, text: str, shown: str) -> None:
    assert without_token(text, token).replace('"<secret>', "<secret>") == shown


def test_nothing_shows_a_secret() -> None:
    one = Served(60.0)
    one.ask()
    oauth2 = settings(
        client_secret=Secret("canary"),
        token_url="https://u:canary@t/x?canary",
        endpoint_params={"a": Secret("canary")},
    )
    to = RemoteWrite(url="https://r/w", oauth2=oauth2)
    shown = f"{one.tokens!r} {oauth2!r} {to!r} {oauth2.__rich_repr__()} {Token(Secret('canary'), 1.0)!r}"
    assert "canary" not in shown


def test_without_oauth2_nobody_pays_for_it() -> None:
    code = """
import sys
from agent import process
from agent.config import load
from agent.send.client import Client
plain = "remote_write: [{url: 'https://a/', basic_auth: {username: u}}]"
asked = "remote_write: [{url: 'https://a/', oauth2: {client_id: c, token_url: 'https://b/'}}]"
for text in plain, asked:
    Client(load(text, "f").config.remote_write[0], "0")
    print("agent.http.oauth2" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]
