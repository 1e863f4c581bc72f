"""`limpet help COMMAND` is `limpet COMMAND --help`."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from agent.cli import registry


def arguments(parser: ArgumentParser) -> None:
    """Add the argument."""
    parser.add_argument(
        "words", metavar="COMMAND", nargs="*", help="such as: buffer status; default: all of them"
    )


def run(args: Namespace) -> int:
    """Print the help. Raises SystemExit, as argparse does."""
    words = [*args.words, "--help"]
    registry.build(words).parse_args(words)
    raise AssertionError("argparse ends after --help")
