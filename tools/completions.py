"""Write the shells' completion scripts from the registry of commands: `python -m tools.completions`.

shtab makes them here, at development time; what it made is part of the package, and `limpet completion`
prints it. A test fails when they are stale.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import shtab

from agent.cli import registry
from agent.cli.completion import SHELLS

FOLDER = Path(__file__).resolve().parents[1] / "agent" / "completions"
COMPLETE = {"FILE": shtab.FILE, "FOLDER": shtab.DIRECTORY}


def path(shell: str) -> Path:
    """Return where a shell's script is."""
    return FOLDER / f"limpet.{shell}"


def render(shell: str) -> str:
    """Return a shell's script, as it should be."""
    top = registry.build()
    for action in actions(top):
        if isinstance(action.metavar, str) and action.metavar in COMPLETE:
            action.complete = COMPLETE[action.metavar]  # type: ignore[attr-defined]
    script: str = shtab.complete(top, shell)
    return "".join(f"{line.rstrip()}\n" for line in script.strip().splitlines())


def actions(of: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Yield every option and argument of a parser and of those below it."""
    for command in commands(of):
        yield from command._actions  # noqa: SLF001  argparse has no public list of them


def commands(of: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """Yield a parser and all those below it."""
    yield of
    for action in of._actions:  # noqa: SLF001
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            for below in action.choices.values():
                yield from commands(below)


if __name__ == "__main__":
    for shell in SHELLS:
        path(shell).write_text(render(shell), encoding="utf-8")
