"""What a damaged header of a segment said, by the rest of its file.

Promise: a segment that has a note, or whose times cannot be right, is provisional, so no wrong time is sent of it.  One whose clock was wrong, but
not obviously, and that has no note yet, is taken for one whose clock was believed.
"""

from __future__ import annotations

from buffer import segment
from buffer.codec import CodecError, Decoder
from buffer.model import BUILT_MS
from buffer.segment import Header, Note, Record


def implied(data: bytes, first_seq: int, note: Note | None) -> Header:
    """Return the header that a segment probably had which begins with `data`, and ends with `note`."""
    if note is not None:
        return Header(first_seq, base_ms=note.base_ms - note.shift_ms)
    found = segment.decode(data, segment.HEADER.size, first_seq)
    if not isinstance(found, Record) or found.wall_ms >= BUILT_MS:
        return Header(first_seq)
    try:
        at = Decoder().decode(found.body, found.wall_ms, found.key)[0][0].at
    except (CodecError, LookupError):
        return Header(first_seq, base_ms=0)
    return Header(first_seq, base_ms=at.wall_ms - at.mono_ms)
