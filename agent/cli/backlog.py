"""`limpet buffer status` and `limpet buffer segments`, and where a buffer is.

Read-only: they take no lock and change no file, whether the agent runs, is stopped, or is dead.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from agent.cli import output
from buffer.errors import LimpetError

if TYPE_CHECKING:
    from buffer.inspect.status import Status


class Where(NamedTuple):
    """A buffer's folder, and its cap in bytes, None where no configuration says it."""

    data_dir: str
    max_bytes: int | None


def where(data_dir: str | None, config: str | None) -> Where:
    """The buffer that the options name. Raises ConfigErrors, and LimpetError where it is not there, or of a later
    version of Limpet.
    """
    from buffer.fs import RealFs
    from buffer.versions import refuse_newer

    if data_dir is not None:
        found = Where(data_dir, None)
    else:
        from agent.config import load_file

        settings = load_file(config or "").config
        found = Where(settings.data_dir, settings.buffer.max_size)
    with readable(found.data_dir):
        os.listdir(found.data_dir)
        refuse_newer(RealFs(), found.data_dir)
    return found


@contextmanager
def readable(data_dir: str) -> Iterator[None]:
    """Turn an OSError of reading a buffer into a LimpetError; nothing is printed inside."""
    try:
        yield
    except FileNotFoundError:
        do = "Check the path; the agent makes it when it starts."
        raise LimpetError(data_dir, "there is no such folder", do) from None
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        do = "Check that it is the data_dir of the configuration, and that this user may read it."
        raise LimpetError(data_dir, f"the buffer cannot be read: {reason}", do) from None


def not_fresh(found: Status, within: float, now: float) -> str | None:
    """Why a status does not show an agent that wrote a sample in the last `within` seconds; None where it does.

    A newest sample from the future is one: the clock was set back, and the agent works.
    """
    if found.writer_pid is None:
        return "no agent writes to it"
    if found.newest_timestamp_ms is None:
        return "it has no samples"
    age = now - found.newest_timestamp_ms / 1000
    return f"the newest sample is {age:.0f} s old" if age > within else None


def status(
    data_dir: str | None,
    config: str | None,
    *,
    every: float | None,
    fresh: float | None = None,
    as_json: bool,
) -> int:
    """Show the backlog, once or every so many seconds until Ctrl-C; with `fresh` (seconds) once, and judge it.

    Status 1 where it is not fresh (`not_fresh`); the reason is on standard error.
    """
    from buffer.inspect.status import status as read_status

    place = where(data_dir, config)

    def read() -> Status:
        with readable(place.data_dir):
            os.listdir(place.data_dir)  # it may have gone since
            return read_status(place.data_dir, place.max_bytes, time.time())

    if every is not None and not as_json:
        from agent.cli import show

        show.live(lambda width, _: show.status(read(), time.time(), width), every)
    while every is not None:
        output.write_json(read().document(), one_line=True)
        time.sleep(every)
    found = read()
    if as_json:
        output.write_json(found.document())
    else:
        from agent.cli import show

        output.write(show.text(show.status(found, time.time(), show.width())))
    why = None if fresh is None else not_fresh(found, fresh, time.time())
    if why is None:
        return 0
    print(f"{place.data_dir}: {why}", file=sys.stderr)
    return 1


def segments(data_dir: str | None, config: str | None, *, as_json: bool) -> int:
    """Show what is in each segment file."""
    from buffer.inspect.status import segments as read_segments

    place = where(data_dir, config)
    with readable(place.data_dir):
        found = read_segments(place.data_dir)
    if as_json:
        output.write_json([one._asdict() for one in found])
    else:
        from agent.cli import show

        output.write(show.text(show.segments(found)))
    return 0
