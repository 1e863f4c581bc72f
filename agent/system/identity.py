"""Which machine this is, as a word that says nothing else: two boxes with one name are found by it, and nobody else can use it.

It is a keyed hash of /etc/machine-id and of the board's serial number, where it has one: the former is for confidential use
(machine-id(5)), and a card that is cloned has the same one in each board. Raises nothing.
"""

from __future__ import annotations

import hashlib
import hmac

SOURCES = (
    "/etc/machine-id",
    "/proc/device-tree/serial-number",
    "/sys/firmware/devicetree/base/serial-number",
)
_KEY = b"limpet: which machine is this"
_LARGEST, LETTERS = 4096, 12


def machine(root: str = "") -> str:
    """Return 12 hex digits that are this machine's; empty where nothing identifies it."""
    parts = [_read(root + path) for path in SOURCES]
    serial = parts[1] or parts[2]
    if not parts[0] and not serial:
        return ""
    return hmac.new(_KEY, parts[0] + b"\n" + serial, hashlib.sha256).hexdigest()[:LETTERS]


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(_LARGEST).strip(b"\0 \n")
    except OSError:
        return b""
