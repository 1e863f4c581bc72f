"""Every command: its name, the module that carries it out, and its one-line help.

To add a command, add a row to `COMMANDS` and write the module, with these functions:

    arguments(parser)    add the options, each with its help; set `parser.description` where a line is too short
    run(args) -> int     do the work, print the answer, return the exit status
    show(answer)         return what people see of the answer (`screen`); JSON is printed as it is

A module is imported when its command is chosen, or when somebody needs the options of all commands (completions,
manual pages). At its top it imports what is cheap, so that `limpet COMMAND --help` is immediate on a small host;
`run` imports the rest.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NamedTuple, Protocol, cast

STATUS = "Exit status: 0 fine, 1 the answer is no, 2 wrong usage or configuration."


class Command(NamedTuple):
    """A row of the table. `module` is a name in agent.cli, empty for a group of commands."""

    name: str
    module: str
    help: str


COMMANDS = (
    Command("status", "overview", "is the agent running, collecting and delivering, and what to do if not"),
    Command("run", "run", "run the agent: collect, keep, send, until SIGTERM or Ctrl-C"),
    Command("check-config", "check_config", "report everything that is wrong with a configuration file"),
    Command("doctor", "doctor", "check each destination step by step, then this host, and say what to do"),
    Command("retry", "retry", "have the agent try now what waits and what is held"),
    Command("collect", "collect", "collect now, and show what the agent would send"),
    Command("show", "show", "draw what this host did: cpu, memory, disk, io, network, load, temperature"),
    Command("query", "query", "answer an expression in PromQL from what the buffer holds"),
    Command("serve", "serve", "answer queries over HTTP from what the buffer holds, until SIGTERM or Ctrl-C"),
    Command("buffer", "", "inspect the buffer, whether the agent runs, is stopped or dead"),
    Command("buffer status", "status", "how much waits for each destination, and what became of the rest"),
    Command("buffer segments", "segments", "what each segment file holds, oldest first"),
    Command("buffer tail", "tail", "the newest ticks; a tick is one run of one collector"),
    Command("buffer verify", "verify", "check every checksum in the buffer, and count what is readable"),
    Command(
        "buffer export", "export", "write samples as text: for Prometheus, for replay, for a spreadsheet"
    ),
    Command("buffer replay", "replay", "send history again, from the buffer or a file, to any destination"),
    Command("buffer trim", "trim", "drop the oldest data, after showing the cost and asking"),
    Command("buffer quarantine", "", "the batches that receivers refused for good, with the reasons"),
    Command("buffer quarantine list", "quarantine_list", "all items, oldest refusal first"),
    Command("buffer quarantine show", "quarantine_show", "one item: the receiver's message, and its series"),
    Command("buffer quarantine replay", "quarantine_replay", "send items again, and remove those delivered"),
    Command("buffer quarantine drop", "quarantine_drop", "remove items for good; asks first"),
    Command("completion", "completion", "print the completion script of a shell"),
    Command("help", "help", "explain a command, as COMMAND --help does"),
    Command("version", "version", "print the versions of Limpet, Python and the system"),
)


class Module(Protocol):
    """What a command's module must have."""

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the options."""

    def run(self, args: argparse.Namespace) -> int:
        """Do the work and return the exit status. Raises LimpetError."""


def load(name: str) -> Module:
    """Import the module of a command. Raises KeyError where there is no such command."""
    return cast("Module", import_module(f"agent.cli.{_MODULES[name]}"))


def build(argv: Sequence[str] | None = None) -> argparse.ArgumentParser:
    """Return the parser: with the options of every command, or only those of the command that `argv` names.

    The result of parsing has the name of the command, such as "buffer tail", as `command`.
    """
    top = argparse.ArgumentParser(
        "limpet",
        description="A metrics agent that writes to disk first, and pushes with Prometheus remote write "
        "when the link allows.",
        epilog=STATUS,
        allow_abbrev=False,
    )
    top.add_argument(
        "--version", action=_Version, nargs=0, help="print the versions, as `limpet version` does"
    )
    groups = {"": _group(top)}
    # No option before a command's name takes a value, so the words without a dash begin with that name.
    words = None if argv is None else [word for word in argv if not word.startswith("-")]
    for name, module, summary in COMMANDS:
        above, _, last = name.rpartition(" ")
        text = f"{summary[0].upper()}{summary[1:]}."
        parser = groups[above].add_parser(last, help=summary, description=text, allow_abbrev=False)
        if not module:
            groups[name] = _group(parser)
            continue
        parser.set_defaults(command=name)
        if words is None or words[: name.count(" ") + 1] == name.split():
            load(name).arguments(parser)
    return top


def _group(parser: argparse.ArgumentParser) -> Any:  # argparse does not name the type
    return parser.add_subparsers(title="commands", metavar="COMMAND", required=True)


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        parser.exit(load("version").run(argparse.Namespace(json=False)))


_MODULES = {one.name: one.module for one in COMMANDS if one.module}
