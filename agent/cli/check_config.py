"""`limpet check-config`: is a configuration file fine, and if not, everything that is wrong with it.

What the files hold that it names is looked at too, if the configuration has no errors, as root with the rights of the
agent's user; and what `link` has set is shown. Exit status: 0 it is fine, 2 it is
not. Nothing is created, and nothing is sent.
"""

from __future__ import annotations

import time
from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from agent.cli import arguments as common
from agent.cli import output

if TYPE_CHECKING:
    from agent.config import DestinationConfig, Problem


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
    settings: dict[str, dict[str, str]] = {}
    try:
        loaded = common.as_the_agent(file)
        warnings += loaded.warnings
        settings = {to.name: _by_link(to) for to in loaded.config.destinations if to.link != "usual"}
        found = list(preflight.check(loaded.config, time.time()))
        problems += [one for one in found if one.do]
        warnings += [one.text(file) for one in found if not one.do]
    except ConfigErrors as error:
        problems += error.problems
    if args.json:
        listed = [problem._asdict() for problem in problems]
        by_link = {"by_link": settings} if settings else {}
        output.write_json(
            {"file": file, "ok": not problems, "problems": listed, "warnings": warnings, **by_link}
        )
    elif problems:
        output.complain(*(one.text(file) for one in problems), *warnings)
    else:
        shown = [
            f"{name}: link: metered: {', '.join(f'{key}: {value}' for key, value in keys.items())}"
            for name, keys in settings.items()
        ]
        output.write("".join(f"{human.plain(line)}\n" for line in (f"{file}: fine", *shown, *warnings)))
    return 2 if problems else 0


def _by_link(to: DestinationConfig) -> dict[str, str]:
    """Return the keys that the word of a destination's link means, as they are written."""
    from agent.config.units import format_duration, format_size

    found = {}
    for key, (value, is_set) in to.by_link().items():
        text = format_size(int(value)) if key == "max_bandwidth" else format_duration(value)
        found[key] = text if is_set else f"{text} (as written)"
    return found
