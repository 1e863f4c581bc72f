"""How an HTTP server is reached: one description, whichever section of the configuration it comes from.

From an `Endpoint` come the headers and the TLS context of a request, and the files that they depend on. A token
(`oauth2`) is not among them: it comes from a server, by `agent.http.oauth2`.

`stamp` is cheap and changes whenever one of the files has changed, come or gone; then `headers` and `tls` have to be
made again. Whatever is wrong with a file is a LimpetError that names the key and never what is in the file.
"""

from __future__ import annotations

import os
import re
import ssl
import stat as stat_of
from base64 import b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import IO, NamedTuple

from agent.config import (
    Authorization,
    BasicAuth,
    HttpDestination,
    HttpHeader,
    OAuth2,
    Secret,
    Target,
    TlsConfig,
)
from agent.config.urls import split_url
from agent.http import certificates
from buffer.errors import LimpetError

Stamp = tuple[tuple[int, int, int] | None, ...]

LARGEST = 16 << 20
"""Bytes of a file with a secret or with certificates."""
_VERSIONS = {"TLS12": ssl.TLSVersion.TLSv1_2, "TLS13": ssl.TLSVersion.TLSv1_3}


class Endpoint(NamedTuple):
    """A server's URL and how to get in; the keys mean what they mean in the configuration.

    `name` is what errors call it. Shown (repr), it has no secret.
    """

    url: str
    name: str
    headers: Mapping[str, str] = {}
    http_headers: Mapping[str, HttpHeader] = {}
    basic_auth: BasicAuth | None = None
    authorization: Authorization | None = None
    oauth2: OAuth2 | None = None
    tls_config: TlsConfig = TlsConfig()
    proxy_url: Secret | None = None
    proxy_from_environment: bool = False
    no_proxy: str | None = None

    def __repr__(self) -> str:
        return f"Endpoint({self.name!r})"

    @property
    def is_https(self) -> bool:
        """Whether TLS is spoken there."""
        return self.url.lower().startswith("https:")

    @property
    def host(self) -> str:
        """The host of the URL, which errors name."""
        parts = split_url(self.url)
        return (parts.hostname if parts else None) or self.name


def of_destination(to: HttpDestination) -> Endpoint:
    """Return where a destination is; all keys are called the same there."""
    return _of(to)


def of_target(target: Target) -> Endpoint:
    """Return where a scrape target is; no proxy leads there."""
    return _of(target, name=f"scrape target {target.job}")


def of_token_server(oauth2: OAuth2, name: str) -> Endpoint:
    """Return where the tokens of the endpoint `name` come from."""
    return _of(oauth2, url=oauth2.token_url, name=f"{name}.oauth2")


def _of(section: HttpDestination | Target | OAuth2, **keys: str) -> Endpoint:
    """Return the endpoint with the keys that a section has in common with it, and these."""
    common = [key for key in Endpoint._fields if key in section.__struct_fields__]
    return Endpoint(**{key: getattr(section, key) for key in common} | keys)


def files(to: Endpoint) -> list[str]:
    """Return the files that a request depends on, its token and the system's authorities among them."""
    sections = (to.tls_config, to.basic_auth, to.authorization, to.oauth2, to.oauth2 and to.oauth2.tls_config)
    found = [
        getattr(section, key)
        for section in sections
        if section is not None
        for key in section.__struct_fields__
        if key.endswith("_file")
    ]
    found += [name for header in to.http_headers.values() for name in header.files]
    if to.is_https and not (to.tls_config.ca or to.tls_config.ca_file):
        system, environ = ssl.get_default_verify_paths(), os.environ
        found.append(environ.get(system.openssl_cafile_env, system.openssl_cafile))
        found.append(environ.get(system.openssl_capath_env, system.openssl_capath))
    return [name for name in found if name]


def stamp(names: list[str]) -> Stamp:
    """Return what distinguishes one state of these files from another."""
    found: list[tuple[int, int, int] | None] = []
    for name in names:
        try:
            file = os.stat(name)
        except OSError:
            found.append(None)
        else:
            found.append((file.st_ino, file.st_size, file.st_mtime_ns))
    return tuple(found)


def headers(to: Endpoint) -> dict[str, bytes]:
    """Return the configured headers, and Authorization. Raises LimpetError.

    Several values of one header are one line, with commas, which means the same (RFC 9110, 5.3).
    """
    found = {name: value.encode() for name, value in to.headers.items()}
    for name, header in to.http_headers.items():
        if values := header_values(header, f"{to.name}.http_headers.{name}"):
            first = [found[name]] if name in found else []
            found[name] = b", ".join([*first, *(value.encode() for value in values)])
    if basic := to.basic_auth:
        user = text(f"{to.name}.basic_auth.username", basic.username, basic.username_file)
        password = text(f"{to.name}.basic_auth.password", basic.password, basic.password_file)
        found["Authorization"] = b"Basic " + b64encode(f"{user}:{password}".encode())
    elif authorization := to.authorization:
        where = f"{to.name}.authorization.credentials"
        credentials = text(where, authorization.credentials, authorization.credentials_file)
        if not (credentials.isascii() and credentials.isprintable()):
            raise LimpetError(
                f"{where}_file", "not one line of ASCII", "Write the credentials, and nothing else."
            )
        found["Authorization"] = f"{authorization.type} {credentials}".encode()
    return found


def header_values(header: HttpHeader, where: str) -> list[str]:
    """Return all values of a header, in Prometheus's order. Raises LimpetError."""
    found = [*header.values, *(secret.reveal() for secret in header.secrets)]
    for number, name in enumerate(header.files):
        key = f"{where}.files[{number}]"
        value = _read(key, name)
        if not re.fullmatch("[\t\x20-\x7e]*", value):
            raise LimpetError(key, f"{name} is not one line of ASCII", "Write the value, and nothing else.")
        found.append(value)
    return found


def text(where: str, value: str | Secret | None, name: str | None) -> str:
    """Return a value, or what is in its file. `where` is the value's key. Raises LimpetError."""
    if name is not None:
        return _read(f"{where}_file", name)
    return value.reveal() if isinstance(value, Secret) else value or ""


def _read(where: str, name: str) -> str:
    """Return what is in a file, without white space around it (as Prometheus does)."""
    _ends(where, name)
    try:
        with open(name, encoding="utf-8") as file:
            return file.read(1 << 16).strip()
    except OSError as error:
        raise _unreadable(where, name, error) from None
    except ValueError:
        raise LimpetError(where, f"{name} is not UTF-8", "Save it as UTF-8.") from None


def _ends(where: str, name: str) -> None:
    """Look at a file before it is read. Raises LimpetError for one that would be waited for, or that has no end."""
    try:
        found = os.stat(name)
    except OSError as error:
        raise _unreadable(where, name, error) from None
    if not stat_of.S_ISREG(found.st_mode):
        raise LimpetError(where, f"{name} is not a regular file", "Name a file.")
    if found.st_size > LARGEST:
        raise LimpetError(where, f"{name} is larger than 16MiB", "Check that it is the right file.")


def _unreadable(where: str, name: str, error: OSError) -> LimpetError:
    why = (error.strerror or "I/O error").lower()
    return LimpetError(where, f"{name} cannot be read: {why}", "Check its name and its permissions.")


def tls(to: Endpoint) -> ssl.SSLContext | None:
    """Return how the server is verified; None for plain http. Raises LimpetError.

    Without `ca` and `ca_file` it is the system's authorities (not a list that some package brings along);
    with them, those alone.
    """
    if not to.is_https:
        return None
    config, where = to.tls_config, f"{to.name}.tls_config"
    context = _authorities(config, where)
    context.minimum_version = _VERSIONS[config.min_version]
    if config.max_version:
        context.maximum_version = _VERSIONS[config.max_version]
    if config.insecure_skip_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if config.cert or config.cert_file:
        _identify(context, config, where)
    return context


def own_certificate_ends(to: Endpoint) -> float | None:
    """Return when the certificate ends by which this host identifies itself (Unix seconds); None where there is none."""
    config = to.tls_config
    if not to.is_https or not (config.cert or config.cert_file):
        return None
    with suppress(OSError), _file(config.cert, config.cert_file) as name:
        found = certificates.decoded(name)
        return certificates.ends(found) if found is not None else None
    return None


def _authorities(config: TlsConfig, where: str) -> ssl.SSLContext:
    key = f"{where}.ca" if config.ca else f"{where}.ca_file"
    if config.ca_file:
        _ends(key, config.ca_file)
    # Around the certificates a PEM text may have anything; Python wants ASCII.
    given = config.ca.encode("ascii", "ignore").decode() if config.ca else None
    try:
        return ssl.create_default_context(cafile=config.ca_file, cadata=given)
    except ssl.SSLError:
        raise LimpetError(key, "no certificate in it", "It must be a PEM text.") from None
    except OSError as error:
        raise _unreadable(key, config.ca_file or "the system's list", error) from None


def _identify(context: ssl.SSLContext, config: TlsConfig, where: str) -> None:
    key = f"{where}.cert" if config.cert else f"{where}.cert_file"
    for part in ("cert", "key"):
        if name := getattr(config, f"{part}_file"):
            _ends(f"{where}.{part}_file", name)
    try:
        with (
            _file(config.cert, config.cert_file) as cert,
            _file(config.key.reveal() if config.key else None, config.key_file) as private,
        ):
            # The empty password keeps OpenSSL from asking for one on the terminal.
            context.load_cert_chain(cert, private, password="")
    except ssl.SSLError as error:
        reason = (error.reason or "it cannot be read").lower().replace("_", " ")
        what = f"certificate and key are not usable: {reason}"
        raise LimpetError(
            key, what, "They must be PEM texts that belong together, the key unencrypted."
        ) from None
    except OSError as error:
        raise _unreadable(key, f"{config.cert_file or 'cert'} or {config.key_file or 'key'}", error) from None


@contextmanager
def _file(text: str | None, name: str | None) -> Iterator[str]:
    """Yield the name of a file with this content: OpenSSL takes certificates and keys from files only."""
    if text is None:
        assert name is not None
        yield name
        return
    if hasattr(os, "memfd_create"):
        file: IO[bytes] = os.fdopen(os.memfd_create("limpet"), "wb")
    else:
        from tempfile import TemporaryFile

        file = TemporaryFile()  # noqa: SIM115  closed below
    with file:
        file.write(text.encode())
        file.seek(0)
        yield f"/dev/fd/{file.fileno()}"
