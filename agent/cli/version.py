"""`limpet version` and `limpet --version`."""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser, Namespace

import agent
from agent.cli import output


def arguments(parser: ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: Namespace) -> int:
    """Print the versions of Limpet, Python and the system."""
    system = os.uname()
    found = {
        "version": agent.__version__,
        "python": ".".join(map(str, sys.version_info[:3])),
        "platform": f"{system.sysname} {system.release} {system.machine}",
    }
    if args.json:
        output.write_json(found)
    else:
        output.write("limpet {version} (Python {python}, {platform})\n".format(**found))
    return 0
