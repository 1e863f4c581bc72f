"""Who may ask `limpet serve`: the file `web_config_file`, which is Prometheus's own, and the file `tokens_file`.

Source: "HTTPS and authentication" of Prometheus's documentation (configuration/https), and web/tls_config.go of its
exporter-toolkit.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Literal

from agent.config import values as v
from agent.config.section import Given, Problem, Problems, Section

Role = Literal["read", "metrics"]
HIGHEST_COST = 15
"""Of a bcrypt hash: each step doubles the time of a login, and 15 takes seconds on a small host."""


def _cost_is_bearable(text: str) -> bool:
    return 4 <= int(text[4:6]) <= HIGHEST_COST


def _expiry(text: str) -> datetime | Problem:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return Problem("", "expected a time such as 2027-01-01T00:00:00Z", "Write year, month, day and time.")
    return found if found.tzinfo else found.replace(tzinfo=UTC)


Hash = Annotated[
    v.Secret,
    v.Text(
        r"\$2[abxy]\$[0-9]{2}\$[./A-Za-z0-9]{53}",
        "expected a password hashed with bcrypt",
        'Make one: htpasswd -nBC 10 "" | tr -d ":\\n"',
        v.Secret,
        also=(
            (_cost_is_bearable, f"its cost is not from 4 to {HIGHEST_COST}", "Hash it with a cost of 10."),
        ),
        hidden=True,
    ),
]
TokenHash = Annotated[
    v.Secret,
    v.Text(
        "[0-9a-f]{64}",
        "expected the SHA-256 of a token as 64 hex digits",
        "Make it: printf %s TOKEN | sha256sum",
        v.Secret,
        hidden=True,
    ),
]
Name = Annotated[
    str,
    v.Text(
        r"[^:\x00-\x1f\x7f]{1,64}",
        "expected a name of 1 to 64 characters without colons",
        "HTTP cannot transport others.",
    ),
]
Expiry = Annotated[datetime, v.Text(read=_expiry)]


class TlsServerConfig(Section, frozen=True, kw_only=True):
    """The certificate that is shown, and those that are wanted of clients."""

    later = frozenset(
        ("cert", "key", "client_ca", "client_allowed_sans", "cipher_suites", "curve_preferences")
    )
    ignored = {"prefer_server_cipher_suites": "OpenSSL's order is used"}

    cert_file: v.File
    key_file: v.File
    client_ca_file: v.File | None = None
    client_auth_type: Literal["NoClientCert", "VerifyClientCertIfGiven", "RequireAndVerifyClientCert"] = (
        "NoClientCert"
    )
    min_version: v.TlsVersion = "TLS12"
    max_version: v.TlsVersion = "TLS13"

    @staticmethod
    def rules(got: Given) -> Problems:
        """Require an authority for client certificates exactly where they are wanted."""
        wants = got["client_auth_type"] not in (None, "NoClientCert")
        if wants and "client_ca_file" not in got.given:
            yield Problem("client_ca_file", "this key is missing", "Name the authority of the clients.")
        if not wants and "client_ca_file" in got.given:
            do = "Set it to RequireAndVerifyClientCert or VerifyClientCertIfGiven."
            yield Problem("client_auth_type", "client_ca_file has no effect with it", do)
        if got["min_version"] == "TLS13" and got["max_version"] == "TLS12":
            yield Problem("max_version", "it is below min_version", "Raise it, or remove one of the two.")


class HttpServerConfig(Section, frozen=True, kw_only=True):
    """What is in this section means nothing here."""

    later = frozenset(("headers",))
    ignored = {"http2": "HTTP/1.1 is spoken here"}


class WebConfig(Section, frozen=True, kw_only=True):
    """The whole of `web_config_file`."""

    later = frozenset(("rate_limit",))

    tls_server_config: TlsServerConfig | None = None
    http_server_config: HttpServerConfig = HttpServerConfig()
    basic_auth_users: dict[Name, Hash] = {}


class Token(Section, frozen=True, kw_only=True):
    """A token: what it is called in the log, what it may be used for, and until when."""

    name: Name
    sha256: TokenHash
    role: Role = "read"
    expires: Expiry | None = None


class Tokens(Section, frozen=True, kw_only=True):
    """The whole of `tokens_file`."""

    tokens: tuple[Token, ...] = ()
