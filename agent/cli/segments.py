"""`limpet buffer segments`: what each segment file holds. Read-only."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from agent.cli import arguments as common
from agent.cli import output


def arguments(parser: ArgumentParser) -> None:
    """Add the options."""
    common.buffer(parser)
    common.json(parser)


def run(args: Namespace) -> int:
    """Show the segments, oldest first."""
    from buffer.inspect.status import segments as read_segments

    data_dir = common.place(args).data_dir
    with common.readable(data_dir):
        found = read_segments(data_dir)
    if args.json:
        output.write_json([one._asdict() for one in found])
    else:
        from agent.cli import show

        output.write(show.text(show.segments(found)))
    return 0
