"""`limpet serve` where others can reach it: TLS, logins, what is re-read, and what the log has of it."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import socket
import ssl
import time
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import bcrypt
import pytest

from tests.bench import replay
from tests.support.certs import Certs, make_certs
from tests.support.limpet import limpet
from tests.support.net import wait_for
from tests.support.serving import Serving

TOKEN = "t" * 43
PASSWORDS = {"anna": "correct horse", "scraper": "sesame"}
ROLES = "roles: {scraper: metrics}"


def basic(user: str, password: str | None = None) -> dict[str, str]:
    pair = f"{user}:{PASSWORDS[user] if password is None else password}"
    return {"Authorization": "Basic " + base64.b64encode(pair.encode()).decode()}


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def write(path: Path, document: Mapping[str, Any]) -> None:
    """Replace a file as an operator's tools do: with a new one."""
    new = path.with_suffix(".new")
    new.write_text(json.dumps(document))
    new.replace(path)


def tokens(*entries: tuple[str, str, dict[str, str]]) -> dict[str, Any]:
    return {
        "tokens": [
            {"name": name, "sha256": hashlib.sha256(token.encode()).hexdigest(), **more}
            for name, token, more in entries
        ]
    }


class Place:
    """A server at all addresses with its files, which may be changed."""

    def __init__(self, folder: Path, certs: Certs, client: str = "") -> None:
        self.folder, self.web, self.tokens = folder, folder / "web.yml", folder / "tokens.yml"
        self.cert, self.key, self.log = folder / "own.pem", folder / "own.key", folder / "access.log"
        shutil.copy(certs.server_cert, self.cert)
        shutil.copy(certs.server_key, self.key)
        self.tls = {"cert_file": "own.pem", "key_file": "own.key"}
        if client:
            self.tls |= {"client_ca_file": str(certs.ca), "client_auth_type": client}
        self.write_web(PASSWORDS)
        write(
            self.tokens,
            tokens(("grafana", TOKEN, {}), ("old", "old", {"expires": "2020-01-01T00:00:00Z"})),
        )
        settings = f"web_config_file: {self.web}, tokens_file: {self.tokens}, access_log: {self.log}, {ROLES}"
        self.server = Everywhere(folder, folder / "data", settings, certs=certs)

    def write_web(self, passwords: Mapping[str, str]) -> None:
        users = {
            name: bcrypt.hashpw(one.encode(), bcrypt.gensalt(4)).decode() for name, one in passwords.items()
        }
        write(self.web, {"tls_server_config": self.tls, "basic_auth_users": users})


class Everywhere(Serving):
    """It listens at every address."""

    def command(self) -> list[str]:
        command = super().command()
        config = Path(command[-1])
        config.write_text(config.read_text().replace("127.0.0.1:", "0.0.0.0:"))
        return command


@pytest.fixture(scope="module")
def certs(tmp_path_factory: pytest.TempPathFactory) -> Certs:
    return make_certs(tmp_path_factory.mktemp("certs"))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, certs: Certs) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("login")
    replay.fill(folder / "data", replay.repeated(replay.load(), 3000, round(time.time() * 1000)))
    place = Place(folder, certs)
    with place.server:
        yield place


def test_who_is_known_is_answered_within_his_role(place: Place) -> None:
    server = place.server.at("127.0.0.11")
    for headers, read, metrics in (
        (basic("anna"), 200, 200),
        (bearer(TOKEN), 200, 200),
        (basic("scraper"), 403, 200),
        ({}, 401, 401),
        (bearer("old"), 401, 401),
        (basic("anna", "wrong"), 401, 401),
    ):
        for path in ("/", "/api/v1/buffer", "/nowhere"):
            expected = 404 if path == "/nowhere" and read == 200 else read
            assert server.ask(path, headers=headers).status == expected, (path, headers)
        assert server.ask("/metrics", headers=headers).status == metrics
        assert server.ask("/-/healthy", headers=headers).status == 200


def test_what_is_wrong_looks_the_same_for_known_and_unknown_users(place: Place) -> None:
    known, unknown = (
        place.server.at("127.0.0.12").ask("/", headers=one)
        for one in (basic("anna", "x"), basic("nobody", "x"))
    )
    assert (known.status, known.body) == (unknown.status, unknown.body) == (401, unknown.body)
    differ = {"x-request-id"}
    assert {k: v for k, v in known.headers.items() if k not in differ} == {
        k: v for k, v in unknown.headers.items() if k not in differ
    }
    assert known.headers["www-authenticate"].startswith("Basic realm=")


def test_with_a_login_a_host_may_have_any_name(place: Place) -> None:
    assert place.server.ask("/", headers={**basic("anna"), "Host": "web-01.example.com"}).status == 200


def test_the_log_has_every_access_and_no_secret(place: Place) -> None:
    server = place.server.at("127.0.0.13")
    ids = [
        server.ask("/api/v1/query", {"query": "up", "token": "s3cret"}, headers=headers).headers[
            "x-request-id"
        ]
        for headers in (basic("anna"), basic("anna", "hunter2"), bearer("hunter3"), bearer("old"), {})
    ]
    found = [server.access(one) for one in ids]
    assert [(one["status"], one.get("user"), one.get("error")) for one in found] == [
        (200, "anna", None),
        (401, None, "a wrong password"),
        (401, None, "an unknown token"),
        (401, None, "the token old, which has expired"),
        (401, None, "no login"),
    ]
    assert {one["address"] for one in found} == {"127.0.0.13"}
    said = server.log.read_text() + place.log.read_text()
    for secret in ("hunter2", "hunter3", "correct horse", TOKEN, "s3cret", "sesame", "Basic ", "$2b$"):
        assert secret not in said, secret
    assert base64.b64encode(b"anna:hunter2").decode() not in said

    def in_file() -> set[str]:
        return {json.loads(line)["request"] for line in place.log.read_text().splitlines()}

    wait_for(lambda: in_file() >= set(ids), 10, "each access in the file, which is written after the journal")
    assert os.stat(place.log).st_mode & 0o007 == 0


def test_what_is_no_tls_or_no_whole_handshake_is_refused_and_logged(place: Place) -> None:
    with socket.create_connection(("127.0.0.1", place.server.port), 30) as plain:
        plain.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"HTTP/1.1 200" not in plain.recv(4096)
    stranger = ssl.create_default_context()
    with (
        pytest.raises((ssl.SSLError, OSError)),
        socket.create_connection(("127.0.0.1", place.server.port), 30) as raw,
    ):
        stranger.wrap_socket(raw, server_hostname="localhost")  # it does not know the authority

    def refused() -> bool:
        return any(one.get("error", "").startswith("TLS: ") for one in place.server.accesses())

    wait_for(refused, 20, "refused handshakes in the log")


def test_files_count_when_they_change_and_wrong_ones_do_not(tmp_path: Path, certs: Certs) -> None:
    (tmp_path / "data").mkdir()
    place = Place(tmp_path, certs)

    def becomes(headers: dict[str, str], status: int) -> None:
        wait_for(lambda: place.server.ask("/metrics", headers=headers).status == status, 20, f"a {status}")

    def refusals() -> int:
        assert place.server.ask("/metrics", headers=bearer("other")).status == 200
        return place.server.log.read_text().count("serve.reload_refused")

    def more_than(before: int) -> bool:
        return refusals() > before

    with place.server as server:
        assert server.ask("/metrics", headers=basic("anna")).status == 200
        assert server.ask("/metrics", headers=bearer(TOKEN)).status == 200
        place.write_web({"anna": "a new one"})
        becomes(basic("anna"), 401)
        assert server.ask("/metrics", headers=basic("anna", "a new one")).status == 200
        write(place.tokens, tokens(("other", "other", {"role": "metrics"})))
        becomes(bearer(TOKEN), 401)
        assert server.ask("/metrics", headers=bearer("other")).status == 200
        assert server.ask("/api/v1/labels", headers=bearer("other")).status == 403
        # A file that is wrong, and one that would open the door, change nothing.
        for wrong in ("basic_auth_users: {anna: plain}", "{}", "tls_server_config: {cert_file: own.pem}"):
            before = refusals()
            place.web.write_text(wrong)
            wait_for(partial(more_than, before), 20, "the refusal of a file")
            assert server.ask("/metrics", headers=basic("anna", "a new one")).status == 200
            assert server.ask("/metrics").status == 401
        assert "plain" not in server.log.read_text().replace("text/plain", "")
        place.write_web({"anna": "a third one"})
        becomes(basic("anna", "a third one"), 200)


def test_a_certificate_that_is_renewed_is_shown_to_the_next_connection(tmp_path: Path, certs: Certs) -> None:
    (tmp_path / "data").mkdir()
    place = Place(tmp_path, certs)
    (tmp_path / "other").mkdir()
    other = make_certs(tmp_path / "other")

    def shown() -> str:
        return ssl.get_server_certificate(("127.0.0.1", place.server.port), timeout=30)

    with place.server:
        before = shown()
        shutil.copy(other.server_key, place.key)
        shutil.copy(other.server_cert, place.cert)
        wait_for(lambda: shown() != before, 20, "the new certificate")
        assert shown() == other.server_cert.read_text().split("-----END CERTIFICATE-----")[0].strip() + (
            "\n-----END CERTIFICATE-----\n"
        )


@pytest.mark.parametrize("client", ["RequireAndVerifyClientCert", "VerifyClientCertIfGiven"])
def test_a_client_certificate_is_a_login(client: str, tmp_path: Path, certs: Certs) -> None:
    (tmp_path / "data").mkdir()
    place = Place(tmp_path, certs, client)
    if client == "RequireAndVerifyClientCert":
        write(place.web, {"tls_server_config": place.tls})
        write(place.tokens, {"tokens": []})
    with place.server as server:
        assert server.ask("/metrics").status == 200  # its own context shows the certificate
        answered = server.ask("/api/v1/labels")
        assert answered.status == 200
        assert server.access(answered.headers["x-request-id"])["user"] == "limpet-client"
        stranger = ssl.create_default_context(cafile=str(certs.ca))
        server._tls = stranger
        if client == "RequireAndVerifyClientCert":
            with pytest.raises((ssl.SSLError, OSError)):
                server.ask("/metrics")
        else:
            assert server.ask("/metrics").status == 401
            assert server.ask("/metrics", headers=basic("anna")).status == 200


@pytest.mark.parametrize(
    ("settings", "web", "said"),
    [
        ("listen: '0.0.0.0:9147'", None, "needs TLS and a login"),
        ("listen: ':9147', web_config_file: web.yml", "basic_auth_users: {}", "needs TLS and a login"),
        ("listen: '192.0.2.1:1', web_config_file: web.yml", "{tls_server_config: {cert_file: own.pem, key_file: own.key}}", "needs TLS and a login"),
        ("web_config_file: web.yml", "basic_auth_users: {a: secret}", "expected a password hashed with bcrypt"),
        ("web_config_file: web.yml", "tls_server_config: {cert_file: own.pem, key_file: own.pem}", "it cannot be used with"),
        ("web_config_file: web.yml", "tls_server_config: {cert_file: gone.pem, key_file: own.pem}", "gone.pem cannot be read"),
        ("web_config_file: web.yml", "tls_server_conf: {}", "Did you mean tls_server_config?"),
        ("web_config_file: gone.yml", None, "gone.yml cannot be read"),
        ("tokens_file: web.yml", "tokens: [{name: a, sha256: b}]", "SHA-256 of a token"),
        ("listen: 'example.com:80'", None, "expected an address with a port"),
        ("listen: 'unix:relative'", None, "expected an address with a port"),
    ],
)  # fmt: skip
def test_what_would_be_open_or_is_wrong_does_not_start(
    settings: str, web: str | None, said: str, tmp_path: Path, certs: Certs
) -> None:
    (tmp_path / "data").mkdir()
    for name, source in (("own.pem", certs.server_cert), ("own.key", certs.server_key)):
        shutil.copy(source, tmp_path / name)
    if web is not None:
        (tmp_path / "web.yml").write_text(web)
    config = tmp_path / "limpet.yaml"
    config.write_text(f"data_dir: data\nserve: {{{settings}}}\n")
    done = limpet(tmp_path, "serve", "--config", config)
    assert (done.status, done.out) == (2, "")
    assert said in done.err
    assert "secret" not in done.err


def test_the_option_is_as_strict_as_the_file(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    done = limpet(tmp_path, "serve", "--data-dir", tmp_path / "data", "--listen", "0.0.0.0:0")
    assert done.status == 2
    assert "needs TLS and a login" in done.err
