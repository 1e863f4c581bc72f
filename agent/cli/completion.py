"""`limpet completion`: the script that makes a shell complete commands, options and files."""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace

import agent
from agent.cli import output

SHELLS = ("bash", "zsh", "tcsh")


def arguments(parser: ArgumentParser) -> None:
    """Add the argument."""
    parser.add_argument("shell", choices=SHELLS, help="the shell that is to complete")


def run(args: Namespace) -> int:
    """Print the script that tools/completions.py has made from the registry."""
    folder = os.path.join(os.path.dirname(agent.__file__), "completions")
    with open(os.path.join(folder, f"limpet.{args.shell}"), encoding="utf-8") as file:
        output.write(file.read())
    return 0
