"""A field of a protobuf message as bytes, for the types that write messages."""

from __future__ import annotations

from buffer.varint import varint


def field(tag: int, content: bytes) -> bytes:
    """Return a field of bytes, a string or a message. The tag is one byte: number and wire type."""
    return bytes((tag,)) + varint(len(content)) + content
