"""The commands and their options, with help for each; imports argparse only.

What a command is called, its options and their help stand here and nowhere else: the shell completions
are made of it, and a test holds docs/commands.md against it. FILE and FOLDER as a metavar complete paths.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

STATUS = "Exit status: 0 fine, 1 the answer is no, 2 wrong usage or configuration."
SHELLS = ("bash", "zsh", "tcsh")
WATCH_SECONDS = 2.0
GIVE_UP_SECONDS = 300.0
STEP_SECONDS = 10.0

Parser = argparse.ArgumentParser
Commands = Any  # argparse does not name the type of what add_subparsers returns


def build() -> Parser:
    """Return the parser. What it parses has the name of the command, such as "buffer tail", as `command`."""
    top = Parser(
        "limpet",
        description="A metrics agent that writes to disk first, and pushes with Prometheus remote write "
        "when the link allows.",
        epilog=STATUS,
        allow_abbrev=False,
    )
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)

    run = _command(commands, "run", "run the agent: collect, keep, send, until SIGTERM or Ctrl-C")
    _config(run, required=True)

    check = _command(commands, "check-config", "tell everything that is wrong with a configuration file")
    check.add_argument("file", metavar="FILE", help="the configuration file (YAML)")
    _json(check)

    doctor = _command(
        commands,
        "doctor",
        "walk to each destination step by step, look at this host, and say what to do",
        "Tries every step on the way to each destination, with an empty write at its end, then looks at this "
        "host. Nothing is changed on disk; it works beside a running agent. Exit status 1 where something "
        "needs doing.",
    )
    _config(doctor, required=True)
    doctor.add_argument(
        "--timeout",
        metavar="DURATION",
        type=duration,
        default=STEP_SECONDS,
        help="the longest that a single step may take (default 10s)",
    )
    _json(doctor)

    collect = _command(
        commands,
        "collect",
        "collect now, and show what the agent would send",
        "Runs every enabled collector twice, one second apart, because rates need two readings, and shows "
        "the second. No buffer is opened and nothing is sent.",
    )
    _config(collect, more="; default: every collector, with its defaults")
    collect.add_argument("--watch", action="store_true", help="go on, and show every reading, until Ctrl-C")
    collect.add_argument(
        "--interval",
        metavar="DURATION",
        type=duration,
        help="time between two readings, such as 500ms or 5s; default: 1s, with --watch 2s",
    )
    form = collect.add_mutually_exclusive_group()
    form.add_argument(
        "--format",
        choices=("table", "prometheus", "json"),
        help="a table for people (default), Prometheus's text format 0.0.4, or a JSON array",
    )
    _json(form, "the same as --format json; with --watch one array a line")

    buffer = _command(commands, "buffer", "look into the buffer, whether the agent runs, is stopped or dead")
    parts = buffer.add_subparsers(title="commands", metavar="COMMAND", required=True)

    status = _command(parts, "status", "how much waits for each destination, and what became of the rest")
    _where(status)
    once = status.add_mutually_exclusive_group()
    once.add_argument(
        "--fresh",
        metavar="DURATION",
        type=duration,
        help="exit status 1 unless an agent runs and its newest sample is at most this old: a health check",
    )
    once.add_argument(
        "--watch",
        metavar="SECONDS",
        nargs="?",
        const=WATCH_SECONDS,
        type=seconds,
        help=f"show it again every so many seconds (default {WATCH_SECONDS:g}), until Ctrl-C",
    )
    _json(status, "print JSON; with --watch one document a line")

    segments = _command(parts, "segments", "what is in each segment file, oldest first")
    _where(segments)
    _json(segments)

    tail = _command(parts, "tail", "the newest ticks; a tick is one run of one collector")
    _where(tail)
    tail.add_argument(
        "-n", "--number", metavar="N", type=count, default=10, help="how many ticks to show (default 10)"
    )
    tail.add_argument("-f", "--follow", action="store_true", help="go on with what is appended, until Ctrl-C")
    form = tail.add_mutually_exclusive_group()
    form.add_argument("--values", action="store_true", help="print every sample, one a line")
    _json(form, "print one JSON object per tick, one a line")

    _verify(parts)
    _export(parts)
    _replay(parts)
    _trim(parts)
    _quarantine(parts)

    completion = _command(commands, "completion", "print the completion script of a shell")
    completion.add_argument("shell", choices=SHELLS, help="the shell that is to complete")

    version = _command(commands, "version", "print the versions of Limpet, Python and the system")
    _json(version)
    return top


def _verify(parts: Commands) -> None:
    verify = _command(parts, "verify", "is everything in the buffer as it was written, and what is readable")
    _where(verify)
    verify.add_argument(
        "--deep",
        action="store_true",
        help="decode every record as well: over ten times slower, and finds what was wrong before it was written",
    )
    _json(verify)


def _export(parts: Commands) -> None:
    export = _command(
        parts,
        "export",
        "write the samples of the buffer as text: for Prometheus, for replay, for a spreadsheet",
        "Writes samples as text, delivered or not. The buffer stays as it is.",
    )
    _where(export)
    export.add_argument(
        "--format",
        choices=("jsonl", "openmetrics", "csv"),
        default="jsonl",
        help="JSON lines (default), which `limpet buffer replay` takes; OpenMetrics, which promtool makes "
        "blocks of; or CSV",
    )
    _selection(export)
    export.add_argument(
        "--output", metavar="FILE", default="-", help="the file to write; default: -, standard output"
    )
    export.add_argument("--force", action="store_true", help="replace the file if it is there")
    _json(export, "print what was written as JSON; needs --output")


def _trim(parts: Commands) -> None:
    trim = _command(
        parts,
        "trim",
        "give up the oldest data; says what it costs, and asks",
        "Drops whole segments, the oldest first and never the newest. The agent does it if one runs. What a "
        "destination had not got yet is counted as evicted.",
    )
    _where(trim)
    which = trim.add_mutually_exclusive_group(required=True)
    which.add_argument(
        "--before", metavar="TIME", help="what is older than this: a date, or 7d (ago); whole segments only"
    )
    which.add_argument(
        "--to-size", metavar="SIZE", type=size, help="as much as it takes to get down to a size such as 64MiB"
    )
    trim.add_argument("--yes", action="store_true", help="do not ask")
    _json(trim)


def _replay(parts: Commands) -> None:
    replay = _command(
        parts,
        "replay",
        "send history again, from the buffer or an exported file, to any destination",
        "Sends what the buffer holds, or a file that `limpet buffer export` wrote, to any destination. It only "
        "reads: cursors and ledgers of the agent stay as they are. Samples that the receiver has already do no "
        "harm.",
    )
    replay.add_argument(
        "--to",
        metavar="DESTINATION",
        required=True,
        help="the name of a remote_write entry of --config, or a URL (https, or this machine)",
    )
    source = replay.add_mutually_exclusive_group()
    source.add_argument("--data-dir", metavar="FOLDER", help="the folder that holds the buffer")
    source.add_argument("--file", metavar="FILE", help="an exported file (JSON lines, may be gzipped)")
    _config(replay, more=": it names the buffer, if nothing else does, and the destinations")
    _selection(replay)
    replay.add_argument("--dry-run", action="store_true", help="read and count, but send nothing")
    replay.add_argument(
        "--resume", action="store_true", help="go on with an unfinished replay of these options"
    )
    _give_up_after(replay)
    _json(replay)


def _quarantine(parts: Commands) -> None:
    quarantine = _command(parts, "quarantine", "what receivers refused for good, with their words")
    below = quarantine.add_subparsers(title="commands", metavar="COMMAND", required=True)

    listing = _command(below, "list", "all items, oldest refusal first; an item is a refused batch")
    _where(listing)
    _json(listing)

    detail = _command(below, "show", "one item: the receiver's words, and its series")
    detail.add_argument("id", metavar="ID", help="the item, as `list` shows it")
    _where(detail)
    _json(detail, "print JSON, with all samples")

    replay = _command(below, "replay", "send items again, and remove what is delivered")
    _items(replay)
    _where(replay)
    replay.add_argument(
        "--to",
        metavar="DESTINATION",
        help="the name of a remote_write entry of --config, or a URL; default: where it was refused",
    )
    _give_up_after(replay)
    _json(replay)

    drop = _command(below, "drop", "remove items for good; asks first")
    _items(drop)
    _where(drop)
    drop.add_argument("--yes", action="store_true", help="do not ask")
    _json(drop)


def _items(parser: Parser) -> None:
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("id", metavar="ID", nargs="*", default=[], help="items, as `list` shows them")
    which.add_argument("--all", action="store_true", help="every item")


def _selection(parser: Parser) -> None:
    parser.add_argument(
        "--since", metavar="TIME", help="only samples of this time and later: a date, or 6h (ago)"
    )
    parser.add_argument("--until", metavar="TIME", help="only samples of this time and earlier")
    parser.add_argument(
        "--selector", metavar="SELECTOR", help="only series such as 'name{label=~\"pattern\"}'"
    )


def _give_up_after(parser: Parser) -> None:
    parser.add_argument(
        "--give-up-after",
        metavar="DURATION",
        type=duration,
        default=GIVE_UP_SECONDS,
        help="end when nothing got through for so long (default 5m)",
    )


def count(text: str) -> int:
    """A whole number, 0 or more."""
    if not (text.isascii() and text.isdigit()) or len(text) > 9:
        raise argparse.ArgumentTypeError(f"expected a whole number from 0 to 999999999, not {text!r}")
    return int(text)


def size(text: str) -> int:
    """A size, as the configuration has sizes; in bytes."""
    from agent.config.units import parse_size

    try:
        return parse_size(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"expected a size such as 64MiB, not {text!r}: {error}") from None


def seconds(text: str) -> float:
    """A time between two views, in seconds."""
    return _least(text, float, "expected seconds, 0.1 or more")


def duration(text: str) -> float:
    """A length of time, as the configuration has durations; in seconds."""
    from agent.config.units import parse_duration

    return _least(text, parse_duration, "expected a duration of 100ms or more, such as 500ms or 5s")


def _least(text: str, read: Callable[[str], float], wrong: str) -> float:
    try:
        value = read(text)
    except ValueError:
        value = 0.0
    if not 0.1 <= value <= 86400:
        raise argparse.ArgumentTypeError(f"{wrong}, at most a day, not {text!r}")
    return value


def _command(commands: Commands, name: str, summary: str, more: str = "") -> Parser:
    text = more or f"{summary[0].upper()}{summary[1:]}."
    parser: Parser = commands.add_parser(name, help=summary, description=text, allow_abbrev=False)
    parser.set_defaults(command=parser.prog.removeprefix("limpet "))
    return parser


def _config(parser: Any, *, required: bool = False, more: str = "") -> None:
    parser.add_argument(
        "--config", metavar="FILE", required=required, help=f"the configuration file (YAML){more}"
    )


def _where(parser: Parser) -> None:
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--data-dir", metavar="FOLDER", help="the folder that holds the buffer")
    _config(where, more=", which names it and its limits")


def _json(parser: Any, text: str = "print JSON") -> None:
    parser.add_argument("--json", action="store_true", help=text)
