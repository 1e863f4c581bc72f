"""`limpet check-config` finds what kills the first send: in files that the configuration names, and in its values."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import NameOID

from agent.cli import main as cli
from agent.config import load_file
from agent.ops import preflight
from tests.support.certs import Certs

URL = "https://prometheus.example.com/api/v1/write"
SECRET = "canary"


@pytest.fixture(autouse=True)
def named(monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine may have any name."""
    monkeypatch.setattr(socket, "gethostname", lambda: "web-01")


def found(folder: Path, **config: object) -> tuple[list[str], list[str]]:
    """The paths and words of the errors and of the warnings."""
    file = folder / "limpet.yaml"
    file.write_text(yaml.safe_dump({"data_dir": "data", **config}))
    all_of_it = list(preflight.check(load_file(file).config, time.time()))
    assert SECRET not in repr(all_of_it)
    errors, warnings = ([one for one in all_of_it if bool(one.do) is is_error] for is_error in (True, False))
    return [f"{one.path}: {one.what}" for one in errors], [f"{one.path}: {one.what}" for one in warnings]


def to(**keys: object) -> dict[str, object]:
    return {"remote_write": [{"url": URL, "name": "central", **keys}]}


def issued(folder: Path, days_ago: float, days: float) -> dict[str, str]:
    """A certificate with its key, good for so many days from so many days ago on."""
    authority, begins = trustme.CA(), datetime.now(UTC) - timedelta(days=days_ago)
    one = authority.issue_cert("pump-17", not_before=begins, not_after=begins + timedelta(days=days))
    one.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    one.private_key_pem.write_to_path(folder / "key.pem")
    return {"cert_file": "cert.pem", "key_file": "key.pem"}


def test_a_good_one(tmp_path: Path, certs: Certs) -> None:
    (tmp_path / "password").write_text(f"{SECRET}\n")
    tls = {"ca_file": str(certs.ca), "cert_file": str(certs.client_cert), "key_file": str(certs.client_key)}
    auth = {"username": "me", "password_file": "password"}
    assert found(tmp_path, hostname="web-01", **to(tls_config=tls, basic_auth=auth)) == ([], [])


FILES: dict[str, tuple[dict[str, object], Callable[[Path, Certs], object], str]] = {
    "an authority that is none": (
        {"tls_config": {"ca_file": "x"}}, lambda folder, _: (folder / "x").write_text("nothing"),
        "central.tls_config.ca_file: no certificate in it",
    ),
    "an empty authority": (
        {"tls_config": {"ca_file": "x"}}, lambda folder, _: (folder / "x").touch(),
        "central.tls_config.ca_file: no certificate in it",
    ),
    "an empty password": (
        {"basic_auth": {"username": "me", "password_file": "x"}}, lambda folder, _: (folder / "x").write_text(" \n"),
        "central.basic_auth.password_file: ",
    ),
    "a password of two lines": (
        {"basic_auth": {"username": "me", "password_file": "x"}},
        lambda folder, _: (folder / "x").write_text(f"{SECRET}\n{SECRET}\n"),
        "central.basic_auth.password_file: ",
    ),
    "empty credentials": (
        {"authorization": {"credentials_file": "x"}}, lambda folder, _: (folder / "x").touch(),
        "central.authorization.credentials_file: ",
    ),
    "a client secret of two lines": (
        {"oauth2": {"client_id": "a", "client_secret_file": "x", "token_url": "https://a/t"}},
        lambda folder, _: (folder / "x").write_text(f"{SECRET}\n{SECRET}\n"),
        "central.oauth2.client_secret_file: ",
    ),
    "a pipe for a password": (
        {"basic_auth": {"username": "me", "password_file": "x"}}, lambda folder, _: os.mkfifo(folder / "x"),
        "central.basic_auth.password_file: ",
    ),
    "a pipe for a header": (
        {"http_headers": {"X-Key": {"files": ["x"]}}}, lambda folder, _: os.mkfifo(folder / "x"),
        "central.http_headers.X-Key.files[0]: ",
    ),
    "a pipe for an authority": (
        {"tls_config": {"ca_file": "x"}}, lambda folder, _: os.mkfifo(folder / "x"), "central.tls_config.ca_file: ",
    ),
    "a header of two lines": (
        {"http_headers": {"X-Key": {"files": ["x"]}}},
        lambda folder, _: (folder / "x").write_text(f"{SECRET}\n{SECRET}\n"),
        "central.http_headers.X-Key.files[0]: ",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_cannot_work_is_an_error(name: str, tmp_path: Path, certs: Certs) -> None:
    keys, make, expected = FILES[name]
    make(tmp_path, certs)
    errors, warnings = found(tmp_path, **to(**keys))
    assert len(errors) == 1, errors
    assert errors[0].startswith(expected)
    assert warnings == []


def test_a_certificate_and_the_key_of_another(tmp_path: Path, certs: Certs) -> None:
    tls = {"ca_file": str(certs.ca), "cert_file": str(certs.client_cert), "key_file": str(certs.server_key)}
    errors, _ = found(tmp_path, **to(tls_config=tls))
    assert errors == ["central.tls_config.cert_file: certificate and key are not usable: key values mismatch"]


@pytest.mark.parametrize("part", ["ca_file", "cert_file", "key_file"])
@pytest.mark.parametrize("kind", ["a pipe", "huge"])
def test_what_cannot_be_read_to_its_end_is_not_begun(
    tmp_path: Path, certs: Certs, part: str, kind: str
) -> None:
    if kind == "huge":
        (tmp_path / "x").touch()
        os.truncate(tmp_path / "x", 1 << 40)
    else:
        os.mkfifo(tmp_path / "x")
    tls = {"ca_file": str(certs.ca), "cert_file": str(certs.client_cert), "key_file": str(certs.client_key)}
    errors, _ = found(tmp_path, **to(tls_config={**tls, part: "x"}))
    assert [one.partition(": ")[0] for one in errors] == [f"central.tls_config.{part}"]


def forms(text: str) -> list[str]:
    """The same PEM text as people have it."""
    return [
        text,
        f"{text}{text}",
        f"# F\u0151tan\u00fas\u00edtv\u00e1ny\n{text}",
        text.replace("\n", "\r\n"),
        f"\ufeff{text}",
    ]


@pytest.mark.parametrize("kind", ["rsa", "rsa-pkcs8", "ec", "ec-pkcs8", "ed25519"])
def test_every_usual_key_and_every_form_of_a_text_is_fine(tmp_path: Path, kind: str) -> None:
    name, _, style = kind.partition("-")
    private: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
    if name == "rsa":
        private = rsa.generate_private_key(65537, 2048)
    elif name == "ec":
        private = ec.generate_private_key(ec.SECP256R1())
    else:
        private = ed25519.Ed25519PrivateKey.generate()
    who, now = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "pump-17")]), datetime.now(UTC)
    made = x509.CertificateBuilder(who, who, private.public_key(), x509.random_serial_number())
    made = made.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=90))
    one = made.sign(private, None if name == "ed25519" else hashes.SHA256())
    plain = serialization.PrivateFormat.TraditionalOpenSSL
    how = serialization.PrivateFormat.PKCS8 if style or name == "ed25519" else plain
    pem = serialization.Encoding.PEM
    (tmp_path / "key.pem").write_bytes(private.private_bytes(pem, how, serialization.NoEncryption()))
    for text in forms(one.public_bytes(pem).decode()):
        (tmp_path / "cert.pem").write_text(text, newline="")
        tls = {"cert_file": "cert.pem", "key_file": "key.pem", "ca_file": "cert.pem"}
        assert found(tmp_path, **to(tls_config=tls)) == ([], [])
        tls = {"cert": text, "key": (tmp_path / "key.pem").read_text(), "ca": text}
        if "\ufeff" not in text:  # a YAML text has none
            assert found(tmp_path, **to(tls_config=tls)) == ([], [])


@pytest.mark.parametrize(
    ("days_ago", "days", "words"),
    [
        (30, 20, "the certificate of pump-17 has expired, on "),
        (-2, 20, "the certificate of pump-17 is good from "),
        (1, 5, "the certificate of pump-17 expires in 4 days"),
    ],
)
def test_dates_are_warnings(tmp_path: Path, days_ago: float, days: float, words: str) -> None:
    errors, warnings = found(tmp_path, **to(tls_config=issued(tmp_path, days_ago, days)))
    assert errors == []
    assert [one.startswith(f"central.tls_config.cert_file: {words}") for one in warnings] == [True]


@pytest.mark.parametrize(
    "text", ["$HOSTNAME", "${HOSTNAME}", "$(hostname)", "%{host}", "{{ host }}", "<name>"]
)
def test_what_nobody_replaces_is_a_warning(tmp_path: Path, text: str) -> None:
    errors, warnings = found(tmp_path, hostname=f"site-{text}", labels={"site": text, "price": "5 $"}, **to())
    assert errors == []
    assert [one.partition(":")[0] for one in warnings] == ["hostname", "labels.site"]
    for one, key in zip(warnings, ("hostname_file", "labels_file"), strict=True):
        assert one.endswith(f"For one configuration on many hosts there is {key}")


def test_a_name_from_a_file_is_looked_at_too(tmp_path: Path) -> None:
    (tmp_path / "name").write_text("$HOSTNAME\n")
    _, warnings = found(tmp_path, hostname_file="name", **to())
    assert warnings == ["hostname_file: '$HOSTNAME' is sent as it is written: nothing in it is replaced"]
    (tmp_path / "name").write_text("raspberrypi\n")
    _, warnings = found(tmp_path, hostname_file="name", **to())
    assert [one.partition(":")[0] for one in warnings] == ["hostname_file"]


@pytest.mark.parametrize("is_given", [True, False])
def test_a_name_that_many_have_is_a_warning(
    tmp_path: Path, is_given: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "x-17" if is_given else "raspberrypi")
    config = {"hostname": "RaspberryPi"} if is_given else {}
    _, warnings = found(tmp_path, **config, **to())
    assert len(warnings) == 1
    assert "many hosts have the name" in warnings[0]


@pytest.mark.parametrize(
    ("url", "is_fine"), [("https://a", False), ("https://a/", False), ("https://a/w", True)]
)
def test_a_url_without_a_path_is_a_warning(tmp_path: Path, url: str, is_fine: bool) -> None:
    _, warnings = found(tmp_path, remote_write=[{"url": url, "name": "central"}])
    assert [one.partition(": ")[0] for one in warnings] == ([] if is_fine else ["central.url"])


@pytest.mark.parametrize(
    ("interval", "deadline", "unchanged", "is_fine"),
    [
        ("10s", "30s", "0s", True), ("10s", "3m", "0s", True), ("10s", "3m30s", "0s", True), ("10s", "4m", "0s", False),
        ("10s", "5m", "0s", False), ("2m", "1m", "0s", True), ("2m", "3m", "0s", False), ("10s", "30s", "4m", True),
        ("10s", "1m", "4m", False), ("10m", "30s", "0s", False),
    ],
)  # fmt: skip
def test_a_deadline_that_switches_alerts_off_is_a_warning(
    tmp_path: Path, interval: str, deadline: str, unchanged: str, is_fine: bool
) -> None:
    """The newest value of a series may be as old as the time between two, the deadline and the way together."""
    more = {"queue_config": {"batch_send_deadline": deadline}, "send_unchanged_every": unchanged}
    _, warnings = found(tmp_path, collect={"interval": interval}, **to(**more))
    assert [one.partition(": ")[0] for one in warnings] == (
        [] if is_fine else ["central.queue_config.batch_send_deadline"]
    )


def test_the_command_says_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "password").touch()
    assert found(tmp_path, **to(basic_auth={"username": "me", "password_file": "password"}))[0]
    file = tmp_path / "limpet.yaml"
    assert cli.main(["check-config", str(file)]) == 2
    assert "password is empty. Write the password into it, and nothing else." in capsys.readouterr().err
    assert cli.main(["check-config", str(file), "--json"]) == 2
    document = json.loads(capsys.readouterr().out)
    assert [one["path"] for one in document["problems"]] == ["central.basic_auth.password_file"]
