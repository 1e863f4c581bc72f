"""`limpet version` and `limpet completion`."""

from __future__ import annotations

import os
import sys

import agent
from agent.cli import output


def version(*, as_json: bool) -> int:
    """Print the versions of Limpet, Python and the system."""
    system = os.uname()
    found = {
        "version": agent.__version__,
        "python": ".".join(map(str, sys.version_info[:3])),
        "platform": f"{system.sysname} {system.release} {system.machine}",
    }
    if as_json:
        output.write_json(found)
    else:
        output.write("limpet {version} (Python {python}, {platform})\n".format(**found))
    return 0


def completion(shell: str) -> int:
    """Print a shell's completion script, which tools/completions.py has made of the parser."""
    folder = os.path.join(os.path.dirname(agent.__file__), "completions")
    with open(os.path.join(folder, f"limpet.{shell}"), encoding="utf-8") as file:
        output.write(file.read())
    return 0
