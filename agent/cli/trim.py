"""`limpet buffer trim`: give up the oldest segments, after saying what that costs.

The agent does it where one runs, else this process. Exit status: 0 done, 1 nothing to trim or the answer was no.
"""

from __future__ import annotations

import sys
import time
from typing import Any

from agent.cli import backlog, output
from agent.cli.owner import act_as_owner
from agent.cli.when import parse_time
from agent.text import human
from buffer.errors import LimpetError
from buffer.trim import PATIENCE, Cut, carry_out, plan


def trim(
    data_dir: str | None,
    config: str | None,
    *,
    before: str | None,
    to_size: int | None,
    yes: bool,
    as_json: bool,
) -> int:
    """Show what would go, ask, and do it. Raises LimpetError, also where nobody can be asked."""
    before_ms = None if before is None else parse_time("--before", before, time.time())
    place = backlog.where(data_dir, config)
    with backlog.readable(place.data_dir):
        cut = plan(place.data_dir, before_ms=before_ms, to_size=to_size)
    if cut is None:
        _report(None, None, as_json=as_json)
        return 1
    if not as_json:
        _show(cut, place.data_dir)
    if not yes and not _agreed(cut):
        return 1
    agent = _done_by(place.data_dir, cut, 3 * _sync_interval(config) if config else PATIENCE)
    _report(cut, agent, as_json=as_json)
    return 0


def _done_by(data_dir: str, cut: Cut, patience: float) -> int | None:
    def waiting(agent: int) -> None:
        if sys.stderr.isatty():
            print(f"process {agent} is asked to do it", file=sys.stderr, flush=True)

    try:
        act_as_owner(data_dir)
        return carry_out(data_dir, cut.before, patience=max(PATIENCE, patience), waiting=waiting)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        do = "Check that this user may write there; `limpet buffer segments` shows what is left."
        raise LimpetError(data_dir, f"it cannot be trimmed: {reason}", do) from None


def _sync_interval(config: str) -> float:
    from agent.config import load_file

    return load_file(config).config.buffer.sync_interval


def _show(cut: Cut, data_dir: str) -> None:
    from agent.cli import show, show_tools
    from buffer.inspect.status import segments

    with backlog.readable(data_dir):
        size = sum(one.bytes for one in segments(data_dir))
    output.write(show.text(show_tools.cost(cut, size)))


def _agreed(cut: Cut) -> bool:
    if not sys.stdin.isatty():
        raise LimpetError("trim", "there is no terminal to ask at", "Add --yes if it is meant.")
    print(f"Drop the oldest {cut.segments} segments for good? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _report(cut: Cut | None, agent: int | None, *, as_json: bool) -> None:
    if as_json:
        document: dict[str, Any] = {"trimmed": cut is not None, "agent_pid": agent}
        output.write_json(document | (cut._asdict() if cut else {"segments": 0, "bytes": 0}))
    elif cut is None:
        output.write("There is nothing to trim: the newest segment is never dropped.\n")
    else:
        by = "" if agent is None else f" by process {agent}"
        output.write(f"Done{by}: {human.size(cut.bytes)} are free.\n")
