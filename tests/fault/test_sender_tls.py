"""TLS with a receiver: what is accepted, what holds the destination, and that it continues once that is corrected."""

from __future__ import annotations

import socket
import ssl
import time
import warnings
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme

from agent.config import Secret, TlsConfig
from agent.destinations.base import Verdict
from agent.send.state import Rules, State
from tests.support.certs import Certs
from tests.support.exchanges import delivering, posted, received
from tests.support.net import wait_for
from tests.support.protocols import PROTOCOLS
from tests.support.receiver import Receiver
from tests.support.sending import PASSWORD, Host, destination, host
from tests.support.tcp import listener


def renew(receiver: Receiver, folder: Path, issued: trustme.LeafCert) -> None:
    """Let a receiver show this certificate from the next connection on."""
    file = folder / "served.pem"
    file.write_bytes(b"".join(blob.bytes() for blob in (issued.private_key_pem, *issued.cert_chain_pems)))
    assert receiver.tls
    receiver.tls.load_cert_chain(file)


def dated(start: int, end: int) -> Callable[[trustme.CA], trustme.LeafCert]:
    """A certificate that is good from so many days from now to so many."""
    now = datetime.now(UTC)
    return lambda authority: authority.issue_cert(
        "127.0.0.1", not_before=now + timedelta(days=start), not_after=now + timedelta(days=end)
    )


NO_GOOD = {
    "expired": (dated(-30, -1), "certificate has expired"),
    "not good yet": (dated(1, 30), "certificate is not yet valid"),
    "wrong host": (lambda authority: authority.issue_cert("other.example"), "IP address mismatch"),
    "unknown authority": (lambda _: trustme.CA().issue_cert("127.0.0.1"), "unable to get local issuer"),
}


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(("issue", "text"), NO_GOOD.values(), ids=NO_GOOD)
def test_a_certificate_that_is_no_good_is_held_until_it_is_renewed(
    tmp_path: Path, certs: Certs, issue: Callable[[trustme.CA], trustme.LeafCert], text: str, protocol: str
) -> None:
    authority = trustme.CA()
    config = TlsConfig(ca=authority.cert_pem.bytes().decode())
    with Receiver(certs=certs) as receiver:
        renew(receiver, tmp_path, issue(authority))
        with delivering(tmp_path, receiver, tls_config=config, protobuf_message=protocol) as one:
            one.collect(30)
            error = one.held()
            assert error.startswith("TLS: the certificate of 127.0.0.1 was not accepted: ")
            assert text in error
            assert not receiver.requests
            renew(receiver, tmp_path, authority.issue_cert("127.0.0.1"))


def test_an_unknown_authority_is_held_until_the_file_is_corrected(tmp_path: Path, certs: Certs) -> None:
    file = tmp_path / "ca.pem"
    file.write_bytes(certs.unknown_ca.read_bytes())
    config = TlsConfig(ca_file=str(file))
    with received(tmp_path, certs=certs, tls_config=config) as (one, _):
        assert one.held().startswith("TLS: the certificate of 127.0.0.1 was not accepted: ")
        file.write_text("not a certificate")
        wait_for(lambda: "there.tls_config.ca_file: no certificate in it" in str(one.lane.error), 10, "it")
        file.write_bytes(certs.ca.read_bytes())


def test_the_system_s_authorities_are_read_again_when_they_change(
    tmp_path: Path, certs: Certs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The list of the system is renewed, as an update of ca-certificates does it, while the agent runs."""
    bundle, renewed = tmp_path / "bundle.pem", tmp_path / "renewed.pem"
    bundle.write_bytes(certs.unknown_ca.read_bytes())
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
    with Receiver(certs=certs) as receiver, delivering(tmp_path, receiver, tls_config=TlsConfig()) as one:
        assert one.held().startswith("TLS: the certificate of 127.0.0.1 was not accepted: ")
        renewed.write_bytes(certs.unknown_ca.read_bytes() + certs.ca.read_bytes())
        renewed.rename(bundle)


TLS: dict[str, tuple[dict[str, Any], str | None]] = {
    "the system's authorities do not know it": ({}, "was not accepted"),
    "a private authority": ({"ca_file": "ca"}, None),
    "an inline authority": ({"ca": "ca"}, None),
    "a name it has": ({"ca_file": "ca", "server_name": "localhost"}, None),
    "a name it does not have": ({"ca_file": "ca", "server_name": "other.example"}, "was not accepted"),
    "not verified": ({"insecure_skip_verify": True}, None),
    "not verified, another name": ({"insecure_skip_verify": True, "server_name": "other.example"}, None),
    "version 1.2 at most": ({"ca_file": "ca", "max_version": "TLS12"}, None),
    "version 1.3 at least": ({"ca_file": "ca", "min_version": "TLS13"}, None),
}


@pytest.mark.parametrize(("settings", "error"), TLS.values(), ids=TLS)
def test_how_a_receiver_is_verified(settings: dict[str, Any], error: str | None, certs: Certs) -> None:
    known: dict[str, Any] = {"ca_file": str(certs.ca), "ca": certs.ca.read_text()}
    config = TlsConfig(**{key: known.get(key, value) for key, value in settings.items()})
    with Receiver(certs=certs) as receiver:
        found = posted(destination(receiver.url, tls_config=config))
    assert found.verdict is (Verdict.HELD if error else Verdict.DELIVERED)
    assert (error or "None") in str(found.error)
    assert bool(receiver.requests) is (error is None)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("newest", ["TLSv1_1", "TLSv1_2"])
def test_a_receiver_that_speaks_only_an_older_version_is_held(
    tmp_path: Path, certs: Certs, newest: str, protocol: str
) -> None:
    with Receiver(certs=certs) as receiver:
        assert receiver.tls
        best = receiver.tls.maximum_version
        with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
            receiver.tls.minimum_version = ssl.TLSVersion.TLSv1
            receiver.tls.maximum_version = ssl.TLSVersion[newest]
            receiver.tls.set_ciphers("DEFAULT@SECLEVEL=0")
        config = TlsConfig(ca_file=str(certs.ca), min_version="TLS12" if newest == "TLSv1_1" else "TLS13")
        with delivering(tmp_path, receiver, tls_config=config, protobuf_message=protocol) as one:
            one.collect(30)
            assert "protocol version" in one.held()
            receiver.tls.maximum_version = best


def test_tls_to_a_receiver_that_speaks_plain_http_is_held() -> None:
    with Receiver() as receiver:
        found = posted(destination(receiver.url.replace("http:", "https:")))
    assert found.verdict is Verdict.HELD
    assert str(found.error).startswith("TLS with 127.0.0.1: ")


def test_a_link_that_is_slow_has_the_time_of_the_whole_exchange(certs: Certs) -> None:
    """As without TLS: a step is over when something was taken, however much there is to be sent."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certs.server_cert, certs.server_key)

    def serve(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as secured:
            while secured.recv(16384):
                time.sleep(0.02)

    with listener(serve) as url:
        to = destination(
            url.replace("http:", "https:"), remote_timeout=1.0, tls_config=TlsConfig(ca_file=str(certs.ca))
        )
        began = time.monotonic()
        outcome = posted(to, bytes(64 << 20))
        assert time.monotonic() - began > 1.8
    assert outcome.verdict is Verdict.RETRY


@pytest.mark.parametrize("inline", [False, True], ids=["files", "inline"])
def test_a_client_certificate_is_shown(certs: Certs, inline: bool) -> None:
    cert, key = certs.client_cert, certs.client_key
    shown: dict[str, Any] = {"cert_file": str(cert), "key_file": str(key)}
    if inline:
        shown = {"cert": cert.read_text(), "key": Secret(key.read_text())}
    config = TlsConfig(ca_file=str(certs.ca), **shown)
    with Receiver(certs=certs, client_cert=True) as receiver:
        assert posted(destination(receiver.url, tls_config=config)).verdict is Verdict.DELIVERED


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_missing_client_certificate_is_reported_until_it_is_there(
    tmp_path: Path, certs: Certs, protocol: str
) -> None:
    """The alert may be overtaken by a reset, which is waited for instead; nothing is lost either way."""
    with Receiver(certs=certs, client_cert=True) as receiver:
        config = TlsConfig(ca_file=str(certs.ca))
        to = destination(receiver.url, tls_config=config, protobuf_message=protocol)
        with host(tmp_path, to) as one:
            one.collect(30)
            wait_for(lambda: one.lane.state in (State.HELD, State.WAITING), 10, "trouble")
            wait_for(lambda: "certificate required" in str(one.lane.error), 10, "the receiver's word for it")
            assert not receiver.requests
        # The operator configures one, whose key is put there later.
        key = tmp_path / "key.pem"
        config = TlsConfig(ca_file=str(certs.ca), cert_file=str(certs.client_cert), key_file=str(key))
        settings: dict[str, Any] = {"tls_config": config, "protobuf_message": protocol}
        with delivering(tmp_path, receiver, rules=Rules(0.01, 0.05, 900.0, 900.0), **settings) as one:
            assert "there.tls_config.key_file: " in one.held()
            key.write_bytes(certs.server_key.read_bytes())
            wait_for(lambda: "certificate and key are not usable" in str(one.lane.error), 10, "its refusal")
            key.write_bytes(certs.client_key.read_bytes())


def test_a_key_with_a_passphrase_asks_nobody(tmp_path: Path, certs: Certs) -> None:
    from cryptography.hazmat.primitives import serialization as form

    key = form.load_pem_private_key(certs.client_key.read_bytes(), None)
    locked, lock = tmp_path / "key.pem", form.BestAvailableEncryption(PASSWORD.encode())
    locked.write_bytes(key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, lock))
    config = TlsConfig(cert_file=str(certs.client_cert), key_file=str(locked))
    found = posted(destination("https://127.0.0.1:1/", tls_config=config))
    assert found.verdict is Verdict.HELD
    assert "certificate and key are not usable" in str(found.error)


@pytest.mark.parametrize(("server", "own"), [(9, 30), (30, 12)], ids=["the receiver's", "this host's own"])
def test_the_certificate_that_ends_first_is_known(
    tmp_path: Path, certs: Certs, server: int, own: int
) -> None:
    """Days; both are shown, the host's from files or inline. After a renewal the new one counts."""
    authority = trustme.CA()
    mine = dated(-1, own)(authority)
    key, cert = mine.private_key_pem.bytes().decode(), mine.cert_chain_pems[0].bytes().decode()
    (tmp_path / "cert.pem").write_text(cert)
    ca = authority.cert_pem.bytes().decode()
    from_file: dict[str, Any] = {"cert_file": str(tmp_path / "cert.pem"), "key": Secret(key)}
    for kind, shown in ("file", from_file), ("inline", {"cert": cert, "key": Secret(key)}):
        with Receiver(certs=certs, client_cert=True) as receiver:
            assert receiver.tls
            authority.configure_trust(receiver.tls)
            renew(receiver, tmp_path, dated(-1, server)(authority))
            with delivering(tmp_path / kind, receiver, tls_config=TlsConfig(ca=ca, **shown)) as one:
                one.collect(30)
                one.settled()
                assert days(one) == min(server, own)
                renew(receiver, tmp_path, dated(-1, 100)(authority))
                one.lane.try_now()
                one.collect(30)
                one.settled()
                assert days(one) == own


def days(one: Host) -> int:
    """Return in how many days the first certificate ends that a host and its receiver showed each other."""
    ends = one.lane.stats.certificate_expires
    assert ends is not None
    return round((ends - time.time()) / 86400)


def test_plain_text_has_no_certificate(tmp_path: Path) -> None:
    with Receiver() as receiver, delivering(tmp_path, receiver) as one:
        one.collect(30)
        one.settled()
        assert one.lane.stats.certificate_expires is None
