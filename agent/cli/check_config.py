"""`limpet check-config`: is a configuration file fine, and if not, everything that is wrong with it.

What the files hold that it names is looked at too, if the configuration has no errors; as root with the rights of the
agent's user. Exit status: 0 it is fine, 2 it is
not. Nothing is created, and nothing is sent.
"""

from __future__ import annotations

import time
from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from agent.cli import arguments as common
from agent.cli import output

if TYPE_CHECKING:
    from agent.config import Problem


def arguments(parser: ArgumentParser) -> None:
    """Add the options."""
    which = parser.add_mutually_exclusive_group()
    which.add_argument("file", metavar="FILE", nargs="?", help="the configuration file (YAML)")
    common.config(which)
    common.json(parser)


def run(args: Namespace) -> int:
    """Read the file, and what it names, and print the verdict."""
    from agent.config import ConfigErrors
    from agent.ops import preflight
    from agent.text import human

    file = args.file or common.config_file(args)
    problems: list[Problem] = []
    warnings: list[str] = []
    try:
        loaded = common.as_the_agent(file)
        warnings += loaded.warnings
        found = list(preflight.check(loaded.config, time.time()))
        problems += [one for one in found if one.do]
        warnings += [one.text(file) for one in found if not one.do]
    except ConfigErrors as error:
        problems += error.problems
    if args.json:
        listed = [problem._asdict() for problem in problems]
        output.write_json({"file": file, "ok": not problems, "problems": listed, "warnings": warnings})
    elif problems:
        output.complain(*(one.text(file) for one in problems), *warnings)
    else:
        output.write("".join(f"{human.plain(line)}\n" for line in (f"{file}: fine", *warnings)))
    return 2 if problems else 0
