"""How an HTTP server is reached: the parts of Prometheus's HTTP client configuration, key for key."""

from __future__ import annotations

from agent.config import values as v
from agent.config.section import Given, Problem, Problems, Section
from agent.config.urls import leaves_in_the_clear


class BasicAuth(Section, frozen=True, kw_only=True):
    """User and password; without a password an empty one is sent, as Prometheus does."""

    later = frozenset(("username_ref", "password_ref"))

    username: v.Username | None = None
    username_file: v.File | None = None
    password: v.Hidden | None = None
    password_file: v.File | None = None

    @staticmethod
    def rules(got: Given) -> Problems:
        """Require one user name, and at most one password."""
        yield from got.one_of("username", "username_file")
        yield from got.one_of("password", "password_file")
        if not got.given & {"username", "username_file"}:
            yield Problem("", "there is no user name", "Set username or username_file.")


class Authorization(Section, frozen=True, kw_only=True):
    """The Authorization header: a type and the credentials."""

    later = frozenset(("credentials_ref",))

    type: v.AuthorizationType = "Bearer"
    credentials: v.Credentials | None = None
    credentials_file: v.File | None = None

    @staticmethod
    def rules(got: Given) -> Problems:
        """Require credentials, once."""
        yield from got.one_of("credentials", "credentials_file")
        if not got.given & {"credentials", "credentials_file"}:
            yield Problem("", "there are no credentials", "Set credentials or credentials_file.")


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
    def rules(got: Given) -> Problems:
        """Allow each part once; require a certificate with its key, and versions that leave a choice."""
        for part in ("ca", "cert", "key"):
            yield from got.one_of(part, f"{part}_file")
        cert, key = got.given & {"cert", "cert_file"}, got.given & {"key", "key_file"}
        if bool(cert) != bool(key):
            what = "there is a certificate but no key" if cert else "there is a key but no certificate"
            yield Problem(min(cert or key), what, "A client certificate needs both.")
        if got["min_version"] == "TLS13" and got["max_version"] == "TLS12":
            yield Problem("max_version", "it is below min_version", "Raise it, or remove one of the two.")
        if got["insecure_skip_verify"]:
            yield Problem("insecure_skip_verify", "anybody on the way can read and change what is sent")


def proxy_rules(got: Given) -> Problems:
    """Allow one way to the proxy, and no exceptions without a proxy."""
    if got["proxy_from_environment"]:
        for key in sorted(got.given & {"proxy_url", "no_proxy"}):
            what = f"proxy_from_environment and {key} exclude each other"
            yield Problem(key, what, "Keep one of them.")
    elif "no_proxy" in got.given and "proxy_url" not in got.given:
        yield Problem("no_proxy", "no_proxy has no effect without proxy_url", "Set proxy_url.")


class OAuth2(Section, frozen=True, kw_only=True):
    """A token from a token server, by client credentials (RFC 6749, 4.4); without a secret an empty one is sent."""

    later = frozenset(
        (
            *("audience", "claims", "client_certificate_key", "client_certificate_key_file"),
            *("client_certificate_key_id", "client_certificate_key_ref", "client_secret_ref", "grant_type"),
            *("iss", "proxy_connect_header", "signature_algorithm"),
        )
    )
    shown = ("client_id", "token_url")

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
    def rules(got: Given) -> Problems:
        """Allow one secret at most, and no parameter twice."""
        yield from got.one_of("client_secret", "client_secret_file")
        if got["scopes"] and "scope" in (got["endpoint_params"] or {}):
            yield Problem("endpoint_params.scope", "scopes sets this parameter already", "Keep one of them.")
        yield from proxy_rules(got)


class HttpHeader(Section, frozen=True, kw_only=True):
    """The values of an HTTP header: written here, written here and secret, and in files."""

    values: tuple[v.HeaderValue, ...] = ()
    secrets: tuple[v.Credentials, ...] = ()
    files: tuple[v.File, ...] = ()


def in_the_clear(got: Given, key: str, url: str | None, secrets: str | None) -> Problems:
    """Refuse plain http:// to another host, or warn of the secrets that go that way where it is allowed."""
    if not leaves_in_the_clear(url):
        return
    if got["allow_http"] is False:
        do = "Use https://, or set allow_http: true if the way there is safe."
        yield Problem(key, "plain http:// to another host", do)
    elif secrets:
        yield Problem(key, f"{secrets} travel in the clear, because this is plain http://")
