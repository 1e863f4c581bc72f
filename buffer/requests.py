"""What another process requests of the writer: a file in data_dir/requests, carried out at the next sync.

    requests/trim.json    {"version": 1, "before": position}      see `Buffer.trim`

The file appears whole, by a rename, and the writer removes it when the request is carried out: that is the
answer.  A writer that dies in between finds it again and does the rest: trimming to a position twice is the same
as once.  A file that is no request is removed and means nothing.
"""

from __future__ import annotations

import json
from contextlib import suppress

from buffer.fs import Fs, read_all, write_atomic

FOLDER = "requests"
REQUEST_VERSION = 1
_MAX_FILE = 4096


def ask_trim(fs: Fs, data_dir: str, before: int) -> None:
    """Request a trim; it replaces an earlier request that still waits.  Raises OSError."""
    fs.make_folder(f"{data_dir}/{FOLDER}")
    write_atomic(fs, _path(data_dir), json.dumps({"version": REQUEST_VERSION, "before": before}).encode())


def trim(fs: Fs, data_dir: str) -> int | None:
    """Return the position up to which a trim is requested; None where none is."""
    try:
        data = read_all(fs, _path(data_dir), _MAX_FILE)
    except OSError:
        return None
    try:
        fields = json.loads(data)
        before = fields["before"] if fields["version"] == REQUEST_VERSION else 0
        return before if type(before) is int else 0
    except (ValueError, TypeError, LookupError, RecursionError):
        return 0


def done(fs: Fs, data_dir: str) -> None:
    """Remove the request: it was carried out, or nobody waits for it any more.  Raises OSError."""
    with suppress(FileNotFoundError):
        fs.unlink(_path(data_dir))


def _path(data_dir: str) -> str:
    return f"{data_dir}/{FOLDER}/trim.json"
