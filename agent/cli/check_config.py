"""`limpet check-config`: is a configuration file fine, and if not, everything that is wrong with it.

Exit status: 0 it is fine, 2 it is not. Nothing is created.
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace

from agent.cli import arguments as common
from agent.cli import output


def arguments(parser: ArgumentParser) -> None:
    """Add the options."""
    which = parser.add_mutually_exclusive_group()
    which.add_argument("file", metavar="FILE", nargs="?", help="the configuration file (YAML)")
    common.config(which)
    common.json(parser)


def run(args: Namespace) -> int:
    """Read the file, and print the verdict."""
    from agent.config import ConfigErrors, load_file

    file = args.file or common.config_file(args)
    problems: ConfigErrors | None = None
    warnings: tuple[str, ...] = ()
    try:
        warnings = load_file(file).warnings
    except ConfigErrors as error:
        problems = error
    if args.json:
        listed = [problem._asdict() for problem in problems.problems] if problems else []
        output.write_json({"file": file, "ok": not problems, "problems": listed, "warnings": list(warnings)})
    elif problems:
        print(problems, file=sys.stderr)
    else:
        output.write("".join(f"{line}\n" for line in (f"{file}: fine", *warnings)))
    return problems.exit_code if problems else 0
