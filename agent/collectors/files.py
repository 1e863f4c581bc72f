"""Reading the kernel's files, which are small, made anew for each reader, and may vanish at any time."""

from __future__ import annotations

import os


def read(path: str) -> bytes:
    """The whole file. Raises OSError."""
    # Not a file object, which costs a fifth more per read of these files.
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        content = part = os.read(fd, 65536)
        while part:  # a read returns what fits into the kernel's page, so only an empty one is the end
            part = os.read(fd, 65536)
            content += part
        return content
    finally:
        os.close(fd)


def read_or_none(path: str) -> bytes | None:
    """The whole file, or None where it cannot be read: its series are then left out."""
    try:
        return read(path)
    except OSError:
        return None


def label(raw: bytes) -> str:
    """A kernel's name as a label value. What is not UTF-8, which receivers refuse, becomes U+FFFD."""
    return raw.decode("utf-8", "replace")


def number_after(key: bytes, content: bytes) -> int | None:
    """The number in the line `key number`, which is not the first, or None where there is no such line."""
    _, found, rest = content.partition(b"\n" + key + b" ")
    number = rest.partition(b"\n")[0]
    return int(number) if found and number.isdigit() else None
