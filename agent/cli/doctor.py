"""`limpet doctor`: checks this host, then follows the way of a sample to each destination, and says what to do.

Changes nothing on disk, and works while the agent runs. All that it sends is one empty write for each
destination. Exit status: 0 all is fine, 1 something needs doing.
"""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from typing import TYPE_CHECKING

from agent.cli import arguments as common
from agent.cli import output
from agent.cli.view import BREAK, DANGER, DIM, GOOD, HEAD, WARNING, Cell, Styled, Table, View
from buffer.errors import LimpetError

if TYPE_CHECKING:
    from agent.ops.doctor.step import Step

STEP_SECONDS = 10.0


def arguments(parser: ArgumentParser) -> None:
    """Add the options."""
    parser.description = (
        "Checks this host, then tries every step on the way to each destination, with an empty write at its end; a line as "
        "each step ends, and last what to do first. Run as root it looks with the rights of the agent's user. Nothing is changed "
        "on disk, and the agent may run meanwhile. Exit status 1 where something needs doing."
    )
    common.config(parser)
    common.option(
        parser,
        "--timeout DURATION",
        "the longest that a single step may take (default 10s)",
        type=common.duration,
        default=STEP_SECONDS,
    )
    common.option(
        parser,
        "--bundle FILE",
        "write what somebody needs who is to help into FILE (.tar.gz), without secrets, after showing what it is and asking",
    )
    common.option(parser, "--yes", "with --bundle: do not ask")
    common.json(parser)


def bundle(args: Namespace) -> int:
    """Show what would be in the bundle, ask, and write it. Raises LimpetError."""
    from agent.ops import bundle as parts
    from agent.text import human

    file = os.path.abspath(common.config_file(args))
    if os.path.lexists(args.bundle):
        raise LimpetError(args.bundle, "it is there already", "Name a file that does not exist.")
    found = parts.gather(file)
    config = next(part.text for part in found if part.name == "config.yaml")
    output.write("".join(f"{human.plain(line)}\n" for line in config.splitlines()) + "\n")
    rows = [[part.name, human.size(len(part.text)), part.what] for part in found]
    output.show([Table("file, >size, what", rows)])
    output.write(
        "\nThe configuration is shown above. No environment, no file that it names, and no secret is in the others.\n"
    )
    if not args.yes and not output.agreed("--bundle", f"Write {args.bundle}?"):
        output.complain("Nothing was written.")
        return 1
    parts.write(args.bundle, found)
    output.write(f"{human.plain(args.bundle)} is written. Read it: tar -xzOf {human.plain(args.bundle)}\n")
    return 0


def run(args: Namespace) -> int:
    """Show every step as it is done. Raises ConfigErrors, and LimpetError where data_dir does not answer."""
    if args.bundle is not None:
        return bundle(args)
    from agent.config import HttpDestination
    from agent.http.endpoint import of_destination
    from agent.http.secrets import secrets
    from agent.ops.doctor import destination, host, medium
    from agent.ops.doctor.step import first, needing

    file = common.config_file(args)
    before = host.early(common.load(file).config, file)
    config, warnings, _ = common.as_the_agent(file)
    over_http = [to for to in config.destinations if isinstance(to, HttpDestination)]
    known = {secret for to in over_http for secret in secrets(of_destination(to))}
    hide = args.json or not sys.stdout.isatty()  # the owner at the terminal may see his own names
    parts = [host.look(config, warnings, known, args.timeout, path=file, first=before, hide=hide)]
    parts += [destination.walk(to, args.timeout) for to in over_http]
    parts += [medium.walk(to, args.timeout) for to in config.file]
    steps: list[Step] = []
    for part in parts:
        for number, found in enumerate(part):
            steps.append(found)
            if not args.json:
                output.show(show([found], titled=not number))
        if not args.json:
            output.write("\n")
    count, act = needing(steps), first(steps)
    if args.json:
        output.write_json([step._asdict() for step in steps])
    elif act is None:
        output.write("Nothing needs doing.\n")
    else:
        output.write(f"{count} {'thing needs' if count == 1 else 'things need'} doing.\n")
        output.show([[Styled("Do first: ", HEAD), f"{act.part}, {act.step}: {act.do}"]])
    return 1 if count else 0


def show(steps: Sequence[Step], *, titled: bool = True) -> View:
    """Return steps, each with a sign and a word, and below it what to do; `titled`: below the name of their part."""
    title: View = [Styled(steps[0].part, HEAD)] if titled else []
    return [*title, Table(", , *", [_row(step) for step in steps])]


def _row(step: Step) -> list[Cell]:
    from agent.ops.doctor.step import NOT_TRIED

    tried = step.said != NOT_TRIED
    if step.ok is None:
        sign, style = "? unknown" if tried else "- not tried", DIM
    elif step.ok:
        sign, style = ("! warning", WARNING) if step.do else ("✓ fine", GOOD)
    else:
        sign, style = "✗ wrong", DANGER
    said: list[str | Styled] = [Styled(step.said if tried else "", DIM if step.ok is None else "")]
    if step.do:
        said += [BREAK, Styled(f"→ {step.do}", style if step.needs_doing else DIM)]
    return [Styled(f"{sign:<11}", style), f"{step.step:<24}", said]
