"""`limpet buffer status` and `limpet buffer segments`, and where a buffer is.

Read-only: they take no lock and change no file, whether the agent runs, is stopped, or is dead.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from agent.cli import output
from agent.errors import LimpetError


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


def status(data_dir: str | None, config: str | None, *, every: float | None, as_json: bool) -> int:
    """Show the backlog, once or every so many seconds until Ctrl-C."""
    from buffer.status import status as read_status

    place = where(data_dir, config)

    def read() -> dict[str, object]:
        with readable(place.data_dir):
            os.listdir(place.data_dir)  # it may have gone since
            return read_status(place.data_dir, place.max_bytes, time.time())

    if as_json:
        output.write_json(read(), one_line=every is not None)
        while every is not None:
            time.sleep(every)
            output.write_json(read(), one_line=True)
        return 0
    from agent.cli import show

    if every is not None:
        show.live(lambda width, _: show.status(read(), time.time(), width), every)
    else:
        found = read()
        output.write(show.text(show.status(found, time.time(), show.width())))
    return 0


def segments(data_dir: str | None, config: str | None, *, as_json: bool) -> int:
    """Show what is in each segment file."""
    from buffer.status import segments as read_segments

    place = where(data_dir, config)
    with readable(place.data_dir):
        found = read_segments(place.data_dir)
    if as_json:
        output.write_json([one._asdict() for one in found])
    else:
        from agent.cli import show

        output.write(show.text(show.segments(found)))
    return 0
