"""`limpet buffer replay`: send history from a buffer or an exported file to any destination.

It only reads, takes no lock, and works with the agent running, stopped or dead. Exit status: 0 everything that was
selected is delivered, 1 something was refused or is not sent, 130 after Ctrl-C.
"""

from __future__ import annotations

import os
import time
from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from agent.cli import arguments as common
from agent.cli import output
from agent.cli.view import DANGER, DIM, Cell, Styled, Table, View
from agent.text import human
from buffer.errors import LimpetError

if TYPE_CHECKING:
    from agent.config import Config, DestinationConfig
    from agent.ops.replay.cursor import Tally
    from agent.ops.replay.run import Replayed
    from agent.ops.replay.source import History
    from agent.ops.replay.unfinished import Unfinished


def arguments(parser: ArgumentParser) -> None:
    """Add the options."""
    parser.description = (
        "Sends what the buffer holds, or a file that `limpet buffer export` wrote, to any destination. It only "
        "reads: cursors and ledgers of the agent stay as they are. Samples that the receiver has already do no "
        "harm."
    )
    common.option(
        parser,
        "--to DESTINATION",
        "the name of a destination of --config, or a URL (https, or this machine)",
        required=True,
    )
    source = parser.add_mutually_exclusive_group()
    common.option(source, "--data-dir FOLDER", "the folder that holds the buffer")
    common.option(source, "--file FILE", "an exported file (JSON lines, may be gzipped)")
    common.config(parser, ": it names the buffer, if nothing else does, and the destinations")
    common.selection(parser)
    common.option(parser, "--dry-run", "read and count, but send nothing")
    common.option(parser, "--resume", "continue an unfinished replay of these options")
    common.give_up_after(parser)
    common.json(parser)


def run(args: Namespace) -> int:
    """Replay, and show the outcome. Raises LimpetError where it cannot begin."""
    from agent import __version__
    from agent.cli import sending
    from agent.cli.progress import Bar
    from agent.ops.replay import unfinished
    from agent.ops.replay.run import Ended, replay
    from agent.ops.replay.selection import Selection
    from agent.ops.selector import parse
    from agent.send.client import Client

    has_source = args.file is not None or args.data_dir is not None
    # The default is not looked at where nothing of it is needed.
    file = args.config or (None if has_source and "://" in args.to else common.default_config())
    config = common.load(file).config if file else None
    to = sending.destination(args.to, config)
    name = _name(args, config)
    selector = None if args.selector is None else parse(args.selector)
    key = unfinished.path(name, to.name, to.url, args.since, args.until, args.selector)
    saved = unfinished.load(key)
    source, first = _begin(args, name, saved)
    keep = _Keep(None if args.dry_run else key, first)
    wire = None if args.dry_run else Client(to, __version__)
    with Bar(source.total) as bar:
        if saved is not None and not args.resume and not args.dry_run:
            done = human.count(saved.ledger.selected)
            bar.say(f"begun again: with --resume, {done} samples would be done with")
        report = replay(
            source,
            Selection(first.since_ms, first.until_ms, selector),
            to,
            wire,
            sending.watcher(bar),
            start=first.ledger,
            save=keep,
            give_up_after=args.give_up_after,
        )
    if report.ended is Ended.COMPLETE and not args.dry_run:
        unfinished.remove(key)
    if args.dry_run:
        report = report._replace(tally=report.tally._replace(delivered=0))
    _print(report, name, to, args, resumable=keep.resumable and report.ended is not Ended.COMPLETE)
    if report.ended is Ended.INTERRUPTED:
        return output.INTERRUPTED
    return 1 if report.tally.rejected or report.ended is not Ended.COMPLETE else 0


def _print(report: Replayed, name: str, to: DestinationConfig, args: Namespace, *, resumable: bool) -> None:
    if args.json:
        from agent.cli import sending
        from agent.config.urls import public_url

        head = {"source": name, "destination": to.name, "url": public_url(to.url), "dry_run": args.dry_run}
        output.write_json({**head, "resumable": resumable, **sending.document(report)})
        return
    output.show(show(report))
    if args.dry_run:
        output.complain("Nothing was sent: this is what it would be.")
    elif resumable:
        output.complain("Give the same command with --resume to continue from here.")


def _name(args: Namespace, config: Config | None) -> str:
    """Return the path of the source. Raises LimpetError where no option names one, or there is no buffer."""
    if args.file is not None:
        return os.path.abspath(str(args.file))
    if args.data_dir is None and config is None:
        raise LimpetError("replay", "nothing to replay", "Give --data-dir, --config or --file.")
    data_dir = os.path.abspath(args.data_dir or (config.data_dir if config else ""))
    return common.check(common.Place(data_dir, None)).data_dir


def _begin(args: Namespace, name: str, saved: Unfinished | None) -> tuple[History, Unfinished]:
    """Open the source: from its beginning, or with `--resume` from where the saved replay ended."""
    from agent.ops.replay.cursor import Tally
    from agent.ops.replay.unfinished import Unfinished

    if not args.resume:
        since_ms, until_ms = common.span(args, time.time())
        if since_ms > until_ms:
            raise LimpetError("--since", "it is after --until", "Exchange the two.")
        source, end, fingerprint = _open(args, name, since_ms, until_ms, None)
        return source, Unfinished(end, fingerprint, since_ms, until_ms, Tally())
    if saved is None:
        raise LimpetError(
            "--resume",
            "there is no unfinished replay of this source, to this destination, with this selection",
            "Give the options of the one that was interrupted, or leave --resume out.",
        )
    source, end, fingerprint = _open(args, name, saved.since_ms, saved.until_ms, saved.end)
    if fingerprint != saved.fingerprint:
        what = "it is not the file that the unfinished replay began with"
        raise LimpetError(name, what, "Leave --resume out to begin with this one.")
    return source, saved._replace(end=end)


def _open(
    args: Namespace, name: str, since_ms: int, until_ms: int, end: int | None
) -> tuple[History, int, str]:
    """Return the source for a span of time, the position at which it ends, and what identifies it."""
    from agent.ops.replay.source import FileHistory, SegmentHistory

    if args.file is None:
        with common.readable(name):
            log = SegmentHistory(name, since_ms, until_ms, end)
        return log, log.end, ""
    try:
        file = FileHistory(name)
    except OSError as error:
        raise LimpetError(name, f"it cannot be read: {human.reason(error)}", "Check its name.") from None
    return file, 0, file.fingerprint


class _Keep:
    """Saves how far it is; where that is not possible, says so once, and the replay continues."""

    def __init__(self, file: str | None, first: Unfinished) -> None:
        self._file, self._first = file, first
        self.resumable = file is not None

    def __call__(self, tally: Tally) -> None:
        from agent.ops.replay.unfinished import save

        if self._file is None:
            return
        try:
            save(self._file, self._first._replace(ledger=tally))
            self.resumable = True
        except OSError as error:
            if self.resumable:
                text = f"{self._file}: it cannot be written, so --resume cannot continue here: {error}"
                output.complain(text)
            self.resumable = False


def show(report: Replayed) -> View:
    """Return the ledger of a replay, and the receiver's messages."""
    tally = report.tally
    span = human.span(tally.oldest_timestamp_ms, tally.newest_timestamp_ms)
    rows: list[tuple[str, Cell, str]] = [
        ("read", human.count(tally.read), ""),
        ("selected", human.count(tally.selected), span),
        ("delivered", human.count(tally.delivered), ""),
        ("rejected", Styled(human.count(tally.rejected), DANGER if tally.rejected else ""), ""),
    ]
    if tally.relabeled:
        rows.append(("relabeled", human.count(tally.relabeled), "dropped by write_relabel_configs"))
    if tally.unstorable:
        rows.append(("unstorable", human.count(tally.unstorable), "NaN or infinite, which it cannot store"))
    if tally.repeated:
        rows.append(("repeated", human.count(tally.repeated), "values for an instant that had one already"))
    rows.append(("retried", human.count(tally.retried), "requests"))
    rows.append(("sent", human.size(tally.bytes), f"in {human.duration(tally.seconds)}"))
    if tally.damaged:
        rows.append(("damaged", human.count(tally.damaged), "stretches that cannot be read"))
    notes = [
        f"refused: {human.count(one.samples)} samples, "
        f"{human.span(one.oldest_timestamp_ms, one.newest_timestamp_ms)}: {one.message}"
        for one in report.refusals
    ]
    notes += [f"{report.ended.value}: {report.error}"] * bool(report.error)
    table = Table(", >, *", [(Styled(name, DIM), *others) for name, *others in rows])
    return [table, *(Styled(note, DANGER) for note in notes)]
