"""`limpet run`: the agent, until a signal ends it. Started by root, it runs as the owner of an existing data_dir."""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace
from functools import partial

from agent.cli import arguments as common
from buffer.owner import become


def arguments(parser: ArgumentParser) -> None:
    """Add the options."""
    common.config(parser)


def run(args: Namespace) -> int:
    """Run the agent; return its exit status. Raises ConfigErrors and LimpetError."""
    from agent.config import load_file

    file = common.config_file(args)
    loaded = load_file(file)
    from agent import process  # costs ten times as much, and a wrong configuration does not need it

    become(loaded.config.data_dir)
    return process.run(loaded, partial(load_file, file, again=True), os.path.abspath(file))
