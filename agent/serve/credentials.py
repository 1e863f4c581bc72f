"""The users, tokens and certificates, as they are in their files now.

Promises:

- The files are read again within LOOK_EVERY seconds of a change; of a certificate that counts for new connections. If what is
  there then is wrong, all of it stays as it was, and that is logged: what was revoked in such a file is not revoked yet.
- An address that others can reach never loses its TLS or its login: files without them are refused as well.
- No secret is in an error or a representation.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import Any, NamedTuple

from agent.config import ConfigErrors, load_section
from agent.config.section import Problem
from agent.config.serve import OPEN_TO_OTHERS, ServeSection
from agent.config.web import TlsServerConfig, Token, Tokens, WebConfig
from agent.system.events import Event
from buffer.errors import LimpetError

LOOK_EVERY = 1.0
_VERSIONS = {"TLS12": ssl.TLSVersion.TLSv1_2, "TLS13": ssl.TLSVersion.TLSv1_3}


class Known(NamedTuple):
    """Who may log in.

    Attributes:
        users: hashes of passwords, by name.
        tokens: all tokens.
        certificates: `no`, `login` where a certificate is a login, `required` where nobody gets here without one.
        context: what connections are encrypted with, None where they are not.
    """

    users: Mapping[str, bytes] = {}
    tokens: tuple[Token, ...] = ()
    certificates: str = "no"
    context: ssl.SSLContext | None = None

    @property
    def is_open(self) -> bool:
        """Whether nobody has to log in."""
        return not self.users and not self.tokens and self.certificates == "no"


class Credentials:
    """What the files of a configuration hold. `clock` is monotonic seconds. Raises ConfigErrors, LimpetError when it is made."""

    def __init__(self, serve: ServeSection, log: Any, clock: Callable[[], float]) -> None:
        self._serve, self._log, self._clock = serve, log, clock
        self._stamps = self._seen()
        self._known = _read(serve)
        self._looked = clock()

    def now(self) -> Known:
        """Return who may log in now."""
        now = self._clock()
        if now - self._looked >= LOOK_EVERY:
            self._looked = now
            stamps = self._seen()
            if stamps != self._stamps:
                self._stamps = stamps
                self._again()
        return self._known

    def _again(self) -> None:
        try:
            self._known = _read(self._serve)
            self._stamps = self._seen()  # of the files that are named now
        except LimpetError as error:
            self._log.error(Event.SERVE_KEPT, problems=error.lines)
        else:
            self._log.info(Event.SERVE_RELOADED)

    def _seen(self) -> list[tuple[str, int, int, int] | None]:
        """Return what shows that a file has changed, of each file."""
        return [_stamp(path) for path in _files(self._serve)]


def _files(serve: ServeSection) -> list[str]:
    """Return the files that matter, with those that the web configuration names."""
    found = [one for one in (serve.web_config_file, serve.tokens_file) if one is not None]
    if serve.web_config_file is not None:
        try:
            tls = load_section(WebConfig, serve.web_config_file).tls_server_config
        except ConfigErrors:
            return found
        if tls is not None:
            found += [one for one in (tls.cert_file, tls.key_file, tls.client_ca_file) if one is not None]
    return found


def _stamp(path: str) -> tuple[str, int, int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return path, found.st_ino, found.st_size, found.st_mtime_ns


def _read(serve: ServeSection) -> Known:
    """Read all files. Raises ConfigErrors, LimpetError."""
    web = load_section(WebConfig, serve.web_config_file) if serve.web_config_file else WebConfig()
    tokens = load_section(Tokens, serve.tokens_file).tokens if serve.tokens_file else ()
    tls = web.tls_server_config
    wants = {"RequireAndVerifyClientCert": "required", "VerifyClientCertIfGiven": "login"}
    certificates = wants.get(tls.client_auth_type, "no") if tls else "no"
    if web.basic_auth_users and find_spec("bcrypt") is None:
        do = "Install it: pip install 'limpet[serve]', or use tokens_file or client certificates."
        raise LimpetError(f"{serve.web_config_file}", "bcrypt, which passwords need, is not installed", do)
    users = {name: hashed.reveal().encode() for name, hashed in web.basic_auth_users.items()}
    known = Known(users, tokens, certificates, _context(tls) if tls else None)
    if not serve.listen.is_private and (known.context is None or known.is_open):
        where = serve.web_config_file or str(serve.listen)
        raise ConfigErrors(where, [Problem("", OPEN_TO_OTHERS.what, OPEN_TO_OTHERS.do)])
    return known


def _context(tls: TlsServerConfig) -> ssl.SSLContext:
    """Return what connections are encrypted with. Raises LimpetError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version, context.maximum_version = _VERSIONS[tls.min_version], _VERSIONS[tls.max_version]
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(tls.cert_file, tls.key_file, lambda: "")  # no question at a terminal
    except (OSError, ValueError) as error:
        do = "Give the certificate, then those between it and its authority, and its own key without a password."
        raise LimpetError(
            tls.cert_file, f"it cannot be used with {tls.key_file}: {_why(error)}", do
        ) from None
    if tls.client_ca_file is not None:
        try:
            context.load_verify_locations(tls.client_ca_file)
        except (OSError, ValueError) as error:
            do = "Give the certificates of the authority as PEM."
            raise LimpetError(tls.client_ca_file, f"it cannot be used: {_why(error)}", do) from None
        is_required = tls.client_auth_type == "RequireAndVerifyClientCert"
        context.verify_mode = ssl.CERT_REQUIRED if is_required else ssl.CERT_OPTIONAL
    return context


def _why(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return (error.reason or "not valid").lower().replace("_", " ")
    return (error.strerror or "not valid").lower() if isinstance(error, OSError) else "not valid"
