"""URLs in the configuration, and what of them may be shown."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import SplitResult, urlsplit


def split_url(text: str) -> SplitResult | None:
    """Return the parts of an absolute http or https URL with a usable host and port, or None."""
    if re.search(r"[\s\\\x00-\x1f\x7f]", text):
        return None
    try:
        parts = urlsplit(text)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        return None
    return parts if usable else None


def public_url(text: str) -> str:
    """Return the URL without what may be secret: user, password, query and fragment. For logs and messages."""
    if text.startswith("file:///"):
        return text
    parts = split_url(text)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}" if parts else "<not a URL>"


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine: 127.0.0.0/8, ::1 or localhost. No name is looked up."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def leaves_in_the_clear(text: str | None) -> bool:
    """Return whether a URL is plain http:// to another host."""
    parts = split_url(text or "")
    return parts is not None and parts.scheme == "http" and not is_loopback(parts.hostname or "")
