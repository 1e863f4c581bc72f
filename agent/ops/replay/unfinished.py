"""How far an unfinished replay came: a small file of the user who ran it, from which `--resume` continues.

    $XDG_STATE_HOME/limpet/replay-<key>.json        ~/.local/state where that is not set

It is not in the buffer's folder, which a replay only reads (it may be a copy on a read-only medium). The key is
made of source, destination and selection as they were typed; times such as "a day ago" are in the file as they
were understood at the start. It is replaced as a whole, and removed when the replay is complete.
"""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from typing import Any, NamedTuple

from agent.ops.replay.cursor import Tally
from buffer.errors import NewerFormat
from buffer.fs import RealFs, read_all, write_atomic

VERSION = 1
_LARGEST = 64 << 10


class Unfinished(NamedTuple):
    """Where the source ends, the span of time, and how far the replay came."""

    end: int
    since_ms: int
    until_ms: int
    ledger: Tally


def path(*key: str | None) -> str:
    """Return the name of the file for a source, a destination and a selection."""
    return f"{place('replay', *key)}.json"


def place(kind: str, *key: str | None) -> str:
    """Return the name of a file of this kind for a key, without an ending."""
    base = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    return f"{base}/limpet/{kind}-{hashlib.sha256(json.dumps(key).encode()).hexdigest()[:16]}"


def save(file: str, unfinished: Unfinished) -> None:
    """Replace the file. Raises OSError."""
    fs = RealFs()
    fs.make_folder(os.path.dirname(file))
    document = {"version": VERSION, **unfinished._asdict(), "ledger": unfinished.ledger._asdict()}
    write_atomic(fs, file, json.dumps(document).encode() + b"\n")


def load(file: str) -> Unfinished | None:
    """Return what is in the file; None where it is missing or not what `save` writes. Raises NewerFormat."""
    try:
        fields: dict[str, Any] = json.loads(read_all(RealFs(), file, _LARGEST))
        version = fields.pop("version")
        if type(version) is int and version > VERSION:
            raise NewerFormat(
                file,
                f"it is of format version {version}, and this program knows version {VERSION}",
                "Continue with the version of Limpet that began this replay, or a later one.",
            )
        if version != VERSION:
            return None
        return Unfinished(**{**fields, "ledger": Tally(**fields["ledger"])})
    except (OSError, ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return None


def remove(file: str) -> None:
    """Remove the file, if it is there."""
    with suppress(OSError):
        os.unlink(file)
