"""Whether the way to a server leads through a proxy: pure functions over the configuration.

The rules are those of Prometheus, which are those of Go's `golang.org/x/net/http/httpproxy`:

- `proxy_url` without `no_proxy` is for every server, this machine among them.
- Where there is a list of exceptions (`no_proxy`, or the variables), `localhost` and loopback addresses are never
  reached through a proxy, nor is what an entry matches: `*` everything; an address or a network (`10.0.0.0/8`)
  addresses that are written as such; `example.com` that name and all below it; `.example.com` and `*.example.com`
  only what is below. All but `*` and networks may have a port behind them (`example.com:8443`, `[::1]:80`).
- With `proxy_from_environment` it is HTTPS_PROXY or HTTP_PROXY, after the scheme of the URL, and NO_PROXY;
  in capitals or else in small letters. Nothing else of the environment is looked at.

A proxy is spoken to in plain HTTP, so its user and password travel in the clear to it; what is sent to an
https:// server travels through a tunnel (CONNECT) and is not seen by the proxy.
"""

from __future__ import annotations

import ipaddress
from base64 import b64encode
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import unquote

from agent.config.urls import split_url
from agent.http.endpoint import Endpoint
from buffer.errors import LimpetError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Proxy(NamedTuple):
    """An HTTP proxy, and the value of Proxy-Authorization where it wants one. Shown, it has no secret."""

    host: str
    port: int
    authorization: bytes | None = None

    def __repr__(self) -> str:
        return f"{self.host}:{self.port}"


def route(to: Endpoint, environment: Mapping[str, str]) -> Proxy | None:
    """Return the proxy on the way to a server; None: there is none. Raises LimpetError for a variable."""
    if to.proxy_url is not None:
        if to.no_proxy is not None and is_excepted(to.url, to.no_proxy):
            return None
        return _proxy(to.proxy_url.reveal())
    if not to.proxy_from_environment:
        return None
    name = "HTTPS_PROXY" if to.is_https else "HTTP_PROXY"
    found = environment.get(name) or environment.get(name.lower())
    exceptions = environment.get("NO_PROXY") or environment.get("no_proxy") or ""
    if not found or is_excepted(to.url, exceptions):
        return None
    proxy = _proxy(found if "://" in found else f"http://{found}")
    if proxy is None:
        raise LimpetError(
            f"{to.name}.proxy_from_environment",
            f"{name} is not the URL of an HTTP proxy",
            "Write it like http://proxy.example.com:3128.",
        )
    return proxy


def _proxy(url: str) -> Proxy | None:
    parts = split_url(url)
    if parts is None or parts.scheme != "http":
        return None
    assert parts.hostname is not None
    authorization = None
    if parts.username is not None:
        user = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        authorization = b"Basic " + b64encode(user.encode())
    return Proxy(parts.hostname, parts.port or 80, authorization)


def is_excepted(url: str, exceptions: str) -> bool:
    """Return whether `url` is reached directly, given a list of exceptions as in NO_PROXY."""
    parts = split_url(url)
    assert parts is not None
    assert parts.hostname is not None
    host, port = parts.hostname.lower(), parts.port or (443 if parts.scheme == "https" else 80)
    address = _address(host)
    if host == "localhost" or (address is not None and address.is_loopback):
        return True
    return any(_matches(entry.strip().lower(), host, address, port) for entry in exceptions.split(","))


def _matches(entry: str, host: str, address: Address | None, port: int) -> bool:
    if not entry or entry == "*":
        return entry == "*"
    if "/" in entry:
        try:
            network = ipaddress.ip_network(entry, strict=False)
        except ValueError:
            return False
        return address is not None and address in network
    name, wanted = _split(entry)
    if not name or (wanted and wanted != str(port)):
        return False
    named = _address(name)
    if named is not None:
        return address == named
    name = name.removeprefix("*")
    return host.endswith(name) if name.startswith(".") else host == name or host.endswith(f".{name}")


def _split(entry: str) -> tuple[str, str]:
    """Return name or address, and port: an address of version 6 with a port is in brackets."""
    if entry.startswith("["):
        name, _, rest = entry[1:].partition("]")
        return name, rest.removeprefix(":")
    name, colon, port = entry.rpartition(":")
    return (name, port) if colon and ":" not in name else (entry, "")


def _address(text: str) -> Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None
