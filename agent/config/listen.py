"""Where it listens: an address on the loopback interface, a Unix socket, or any other address.

127.0.0.1:9147   [::1]:9147   localhost:9147   0.0.0.0:9147   :9147   unix:/run/limpet-serve/limpet.sock
"""

from __future__ import annotations

import ipaddress
import re
from typing import NamedTuple

DEFAULT = "127.0.0.1:9147"
_TCP = re.compile(r"(?:\[(?P<six>[0-9a-fA-F:.]+)\]|(?P<host>[0-9.]*|localhost)):(?P<port>[0-9]{1,5})")


class Address(NamedTuple):
    """An address of this host. With a `path` it is a Unix socket."""

    host: str = ""
    port: int = 0
    path: str = ""

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_private(self) -> bool:
        """Whether nobody but this host's users can reach it."""
        return bool(self.path) or ipaddress.ip_address(self.host).is_loopback


def parse(text: str) -> Address:
    """Return an address. Raises ValueError."""
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        if not path.startswith("/") or "\0" in path or len(path) > 100:
            raise ValueError(text)
        return Address(path=path)
    found = _TCP.fullmatch(text)
    if found is None or int(found["port"]) > 65535:
        raise ValueError(text)
    host = found["six"] or found["host"] or "0.0.0.0"  # noqa: S104  what no host means everywhere; it needs TLS and users
    host = "127.0.0.1" if host == "localhost" else host
    ipaddress.ip_address(host)
    return Address(host, int(found["port"]))
