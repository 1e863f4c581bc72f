"""`limpet status`: is the agent running, collecting and delivering? One word first, and last what to do first.

Read-only, without the network, and at once: with the agent running, stopped or dead, and with a configuration that has
errors. Exit status: 0 all is well, 1 something needs doing.
"""

from __future__ import annotations

import os
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from agent.cli import arguments as common
from agent.cli import output
from agent.cli.view import BREAK, DANGER, DIM, GOOD, HEAD, WARNING, Cell, Styled, Table, View

if TYPE_CHECKING:
    from agent.ops.seen import Seen
    from agent.ops.verdict import Part

STYLES = {"ok": GOOD, "attention": WARNING, "stopped": DANGER, "unknown": WARNING}


def arguments(parser: ArgumentParser) -> None:
    """Add the options."""
    parser.description = (
        "Says in one word whether all is well (ok, attention, stopped, unknown), then what runs, what is collected, delivered "
        "and kept, and last what to do first. It sends nothing, and needs no good configuration. Exit status 1 where "
        "something needs doing."
    )
    common.buffer(parser)
    common.watch(parser)
    common.json(parser, "print JSON; with --watch one document a line")


def run(args: Namespace) -> int:
    """Show it: once, or with `--watch` until Ctrl-C. Raises LimpetError where the buffer is of a later version."""
    from agent import running
    from agent.ops import seen, verdict

    path = args.config or (None if args.data_dir else common.default_config())

    def look() -> Seen:
        return seen.look(args.data_dir, path, common.DEFAULT_CONFIG, time.time(), running.boot_id())

    if args.watch is not None:
        output.watch(
            args.watch,
            lambda *_: show(found := look(), verdict.parts(found)),
            (lambda: document(found := look(), verdict.parts(found))) if args.json else None,
        )
    found = look()
    parts = verdict.parts(found)
    if args.json:
        output.write_json(document(found, parts))
    else:
        output.show(show(found, parts))
    return 0 if verdict.first(parts) is None and verdict.word(found, parts) == verdict.OK else 1


def document(seen: Seen, parts: Sequence[Part]) -> dict[str, Any]:
    """Return what `--json` prints."""
    from agent.ops import verdict

    first = verdict.first(parts)
    note = {name: getattr(seen.note, name) for name in seen.note.__struct_fields__} if seen.note else None
    return {
        "word": verdict.word(seen, parts),
        "first": first and {"part": first.title, "said": first.finding.said, "do": first.finding.do},
        "data_dir": seen.data_dir,
        "parts": [{"part": one.title, **one.finding._asdict()} for one in parts],
        "agent": note,
        "buffer": seen.status.document() if seen.status else None,
    }


def show(seen: Seen, parts: Sequence[Part]) -> View:
    """Return one line for each part, those that need doing with what to do, and last what to do first."""
    from agent.ops import verdict

    word, first = verdict.word(seen, parts), verdict.first(parts)
    config = seen.file.config if seen.file else None
    host = (config.hostname if config else None) or os.uname().nodename
    head: Cell = [Styled(word, f"{HEAD} {STYLES[word]}"), f"  {host}  ", Styled(seen.data_dir, DIM)]
    view: View = [head, "", Table(", , *", [_row(one) for one in parts])]
    if first is not None:
        view += ["", [Styled("Do first: ", HEAD), f"{first.title}: {first.finding.do}"]]
    return view


def _row(part: Part) -> list[Cell]:
    found = part.finding
    sign, style = {True: ("✓", GOOD), False: ("✗", DANGER), None: ("-", DIM)}[found.ok]
    if found.ok and found.do:
        sign, style = "!", WARNING
    said: list[str | Styled] = [Styled(found.said, DIM if found.ok is None else "")]
    if found.do:
        said += [BREAK, Styled(f"→ {found.do}", style)]
    return [Styled(sign, style), part.title, said]
