"""How an HTTP server is entered: the parts of Prometheus's HTTP client configuration, key for key."""

from __future__ import annotations

from typing import Any

from agent.config import values as v
from agent.config.section import Complaint, Given, Note, Section, Verdicts


class BasicAuth(Section, frozen=True, kw_only=True):
    """User and password; without a password an empty one is sent, as Prometheus does."""

    later = frozenset(("username_ref", "password_ref"))

    username: v.Username | None = None
    username_file: v.File | None = None
    password: v.Hidden | None = None
    password_file: v.File | None = None

    @staticmethod
    def rules(got: Given) -> Verdicts:
        """There is one user name, and at most one password."""
        yield from got.one_of("username", "username_file")
        yield from got.one_of("password", "password_file")
        if not got.given & {"username", "username_file"}:
            yield Complaint("", "there is no user name", "Set username or username_file.")


class Authorization(Section, frozen=True, kw_only=True):
    """The Authorization header: a type and the credentials."""

    later = frozenset(("credentials_ref",))

    type: v.AuthorizationType = "Bearer"
    credentials: v.Credentials | None = None
    credentials_file: v.File | None = None

    @staticmethod
    def rules(got: Given) -> Verdicts:
        """There are credentials, once."""
        yield from got.one_of("credentials", "credentials_file")
        if not got.given & {"credentials", "credentials_file"}:
            yield Complaint("", "there are no credentials", "Set credentials or credentials_file.")


class TlsConfig(Section, frozen=True, kw_only=True):
    """How the receiver is verified, and how this host shows who it is. `ca`, `cert`, `key` are PEM texts."""

    later = frozenset(("ca_ref", "cert_ref", "key_ref"))

    ca: v.Pem | None = None
    ca_file: v.File | None = None
    cert: v.Pem | None = None
    cert_file: v.File | None = None
    key: v.Hidden | None = None
    key_file: v.File | None = None
    server_name: v.Words | None = None
    insecure_skip_verify: v.Flag = False
    min_version: v.TlsVersion = "TLS12"
    max_version: v.TlsVersion | None = None

    @staticmethod
    def rules(got: Given) -> Verdicts:
        """Each part is there once, a certificate with its key, and the versions leave something."""
        for part in ("ca", "cert", "key"):
            yield from got.one_of(part, f"{part}_file")
        cert, key = got.given & {"cert", "cert_file"}, got.given & {"key", "key_file"}
        if bool(cert) != bool(key):
            there, missing = ("certificate", "key") if cert else ("key", "certificate")
            yield Complaint(
                min(cert or key), f"there is a {there} but no {missing}", "A client certificate needs both."
            )
        if got["min_version"] == "TLS13" and got["max_version"] == "TLS12":
            yield Complaint("max_version", "it is below min_version", "Raise it, or remove one of the two.")
        if got["insecure_skip_verify"]:
            yield Note("insecure_skip_verify", "anybody on the way can read and change what is sent")


def proxy_rules(got: Given) -> Verdicts:
    """One way to the proxy, and no exceptions without one."""
    if got["proxy_from_environment"]:
        for key in sorted(got.given & {"proxy_url", "no_proxy"}):
            what = f"proxy_from_environment and {key} exclude each other"
            yield Complaint(key, what, "Keep one of them.")
    elif "no_proxy" in got.given and "proxy_url" not in got.given:
        yield Complaint("no_proxy", "there is no proxy_url that it excepts from", "Set proxy_url.")


class OAuth2(Section, frozen=True, kw_only=True):
    """A token from a token server, by client credentials (RFC 6749, 4.4); without a secret an empty one is sent."""

    later = frozenset(
        (
            "audience",
            "claims",
            "client_certificate_key",
            "client_certificate_key_file",
            "client_certificate_key_id",
            "client_certificate_key_ref",
            "client_secret_ref",
            "grant_type",
            "iss",
            "proxy_connect_header",
            "signature_algorithm",
        )
    )

    client_id: v.Words
    client_secret: v.Hidden | None = None
    client_secret_file: v.File | None = None
    scopes: tuple[v.Words, ...] = ()
    token_url: v.TokenUrl
    endpoint_params: dict[v.Words, v.Hidden] = {}
    tls_config: TlsConfig = TlsConfig()
    proxy_url: v.ProxyUrl | None = None
    proxy_from_environment: v.Flag = False
    no_proxy: v.Words | None = None

    @staticmethod
    def rules(got: Given) -> Verdicts:
        """There is at most one secret, and no parameter twice."""
        yield from got.one_of("client_secret", "client_secret_file")
        if got["scopes"] and "scope" in (got["endpoint_params"] or {}):
            yield Complaint(
                "endpoint_params.scope", "scopes sets this parameter already", "Keep one of them."
            )
        yield from proxy_rules(got)

    def __repr__(self) -> str:
        return f"OAuth2(client_id={self.client_id!r}, token_url={v.public_url(self.token_url)!r})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("client_id", self.client_id), ("token_url", v.public_url(self.token_url))]


class HttpHeader(Section, frozen=True, kw_only=True):
    """The values of an HTTP header: written here, written here and secret, and in files."""

    values: tuple[v.HeaderValue, ...] = ()
    secrets: tuple[v.Credentials, ...] = ()
    files: tuple[v.File, ...] = ()


def in_the_clear(got: Given, key: str, url: str | None, secrets: str | None) -> Verdicts:
    """Complain of plain http:// to another host, or tell which secrets go that way where it is meant."""
    parts = v.split_url(url or "")
    if parts is None or parts.scheme == "https" or v.is_loopback(parts.hostname or ""):
        return
    if got["allow_http"] is False:
        do = "Use https://, or set allow_http: true if the way there is safe."
        yield Complaint(key, "plain http:// to another host", do)
    elif secrets:
        yield Note(key, f"{secrets} travel in the clear, because this is plain http://")
