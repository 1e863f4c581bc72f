"""`limpet buffer replay`: send history from a buffer or from files to any destination.

It only reads, takes no lock, and works with the agent running, stopped or dead. Exit status: 0 everything that was
selected is delivered, 1 something was refused or is not sent, 130 after Ctrl-C.
"""

from __future__ import annotations

import os
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from agent.cli import arguments as common
from agent.cli import output
from agent.cli.view import DANGER, DIM, Cell, Styled, Table, View
from agent.text import human
from buffer.errors import LimpetError

if TYPE_CHECKING:
    from agent.config import Config, HttpDestination
    from agent.ops.replay.cursor import Tally
    from agent.ops.replay.run import Replayed
    from agent.ops.replay.source import History
    from agent.ops.replay.unfinished import Unfinished


def arguments(parser: ArgumentParser) -> None:
    """Add the options."""
    parser.description = (
        "Sends what the buffer holds, or files that a destination of the type file or `limpet buffer export` wrote, to any "
        "destination. It only reads: cursors and ledgers of the agent stay as they are. What was played of a file is not sent again."
    )
    common.option(
        parser,
        "--to DESTINATION",
        "the name of a destination of --config, or a URL (https, or this machine)",
        required=True,
    )
    source = parser.add_mutually_exclusive_group()
    common.option(source, "--data-dir FOLDER", "the folder that holds the buffer")
    common.option(source, "--from FILE", "files, or folders of files with manifests", nargs="+", dest="files")
    common.config(parser, ": it names the buffer, if nothing else does, and the destinations")
    common.selection(parser)
    common.option(parser, "--dry-run", "read and count, but send nothing")
    common.option(parser, "--resume", "continue an unfinished replay of a buffer (of files it always does)")
    common.option(parser, "--again", "send files again that were played before")
    common.give_up_after(parser)
    common.json(parser)


def run(args: Namespace) -> int:
    """Replay, and show the outcome. Raises LimpetError where it cannot begin."""
    from agent import __version__
    from agent.cli import sending
    from agent.cli.progress import Bar
    from agent.ops.replay.run import Ended, replay
    from agent.ops.replay.selection import Selection
    from agent.ops.selector import parse
    from agent.send.client import Client

    has_source = args.files is not None or args.data_dir is not None
    # The default is not looked at where nothing of it is needed.
    file = args.config or (None if has_source and "://" in args.to else common.default_config())
    config = common.load(file).config if file else None
    to = sending.destination(args.to, config)
    selector = None if args.selector is None else parse(args.selector)
    source = _files(args, to) if args.files is not None else _buffer(args, to, config)
    wire = None if args.dry_run else Client(to, __version__)
    first = source.first
    with Bar(source.history.total) as bar:
        for note in source.notes:
            bar.say(note)
        report = replay(
            source.history,
            Selection(first.since_ms, first.until_ms, selector),
            to,
            wire,
            sending.watcher(bar),
            start=first.ledger,
            save=source.keep,
            give_up_after=args.give_up_after,
        )
    if report.ended is Ended.COMPLETE and not args.dry_run:
        source.end()
    if args.dry_run:
        report = report._replace(tally=report.tally._replace(delivered=0))
    resumable = source.keep.resumable and report.ended is not Ended.COMPLETE
    _print(report, source, to, args, resumable=resumable)
    if report.ended is Ended.INTERRUPTED:
        return output.INTERRUPTED
    return 1 if source.failed or report.tally.rejected or report.ended is not Ended.COMPLETE else 0


def _print(
    report: Replayed, source: _Source, to: HttpDestination, args: Namespace, *, resumable: bool
) -> None:
    if args.json:
        from agent.cli import sending
        from agent.config.urls import public_url

        head: dict[str, object] = {"source": source.name, "destination": to.name, "url": public_url(to.url)}
        head |= {"dry_run": args.dry_run, "resumable": resumable}
        files: dict[str, object] = (
            {} if args.files is None else {"played_before": source.played, "failed": source.failed}
        )
        output.write_json({**head, **files, **sending.document(report)})
        return
    output.show(show(report))
    if args.dry_run:
        output.complain("Nothing was sent: this is what it would be.")
    elif resumable:
        more = "" if args.files is not None else " with --resume"
        output.complain(f"Give the same command{more} to continue from here.")


class _Source(NamedTuple):
    """What is replayed: how it is called, where to begin, what to say first, and what to do about progress and at the end."""

    name: str | list[str]
    history: History
    first: Unfinished
    keep: _Keep
    end: Callable[[], None]
    notes: Sequence[str] = ()
    played: int = 0
    """Files that are left out, because they were played before."""
    failed: int = 0
    """Files that cannot be played."""


def _buffer(args: Namespace, to: HttpDestination, config: Config | None) -> _Source:
    """Return a buffer: from its beginning, or with `--resume` from where the saved replay ended. Raises LimpetError."""
    from agent.ops.replay import unfinished
    from agent.ops.replay.cursor import Tally
    from agent.ops.replay.source import SegmentHistory

    if args.data_dir is None and config is None:
        raise LimpetError("replay", "nothing to replay", "Give --data-dir, --config or --from.")
    name = os.path.abspath(args.data_dir or (config.data_dir if config else ""))
    name = common.check(common.Place(name, None)).data_dir
    key = unfinished.path(name, to.name, to.url, args.since, args.until, args.selector)
    saved = unfinished.load(key)
    if not args.resume:
        since_ms, until_ms = _span(args)
        first, end = unfinished.Unfinished(0, since_ms, until_ms, Tally()), None
    elif saved is None:
        raise LimpetError(
            "--resume",
            "there is no unfinished replay of this source, to this destination, with this selection",
            "Give the options of the one that was interrupted, or leave --resume out.",
        )
    else:
        first, end = saved, saved.end
    with common.readable(name):
        log = SegmentHistory(name, first.since_ms, first.until_ms, end)
    first, notes = first._replace(end=log.end), []
    if saved is not None and not args.resume and not args.dry_run:
        notes.append(
            f"begun again: with --resume, {human.count(saved.ledger.selected)} samples would be done with"
        )
    if log.unplaced:
        waiting = human.plural(log.unplaced, "sample waits", "samples wait")
        notes.append(f"left out: {waiting} for a clock that can be believed (limpet status)")

    def save(tally: Tally) -> None:
        unfinished.save(key, first._replace(ledger=tally))

    return _Source(
        name,
        log,
        first,
        _Keep(None if args.dry_run else save),
        lambda: unfinished.remove(key),
        notes,
    )


def _files(args: Namespace, to: HttpDestination) -> _Source:
    """Return files: what was played of them before is left out, and so are those that cannot be played. Raises LimpetError."""
    from agent.ops.replay.cursor import Tally
    from agent.ops.replay.files import Files, Play, look, paths
    from agent.ops.replay.played import ALL, Played
    from agent.ops.replay.unfinished import Unfinished

    since_ms, until_ms = _span(args)
    played = Played(to.name, to.url, args.since, args.until, args.selector)
    given = paths(args.files)
    plays: dict[str, Play] = {}
    wrong: list[LimpetError] = []
    for path in given:
        try:
            found = look(path)
            plays.setdefault(found.sha256, found)
        except LimpetError as error:
            wrong.append(error)
    if not given:
        what = "there are no files with manifests"
        raise LimpetError(", ".join(args.files), what, "Give the files, or the folder of a destination.")
    if len(wrong) == len(given):
        raise wrong[0]
    for problem in wrong:
        output.complain(f"left out: {problem}")
    begun = {} if args.again else {one: played.of(one) for one in plays}
    new = [one for sha256, one in plays.items() if begun.get(sha256) != ALL]
    before = len(plays) - len(new)
    files = Files(new, begun)
    told = f"{human.plural(before, 'file was', 'files were')} played before: --again sends them again"
    notes = [told] if before else []

    def save(tally: Tally) -> None:
        played.note(files.settled(tally.position))

    first = Unfinished(0, since_ms, until_ms, Tally())
    keep = _Keep(None if args.dry_run else save)
    return _Source(given, files, first, keep, lambda: None, notes, before, len(wrong))


def _span(args: Namespace) -> tuple[int, int]:
    since_ms, until_ms = common.span(args, time.time())
    if since_ms > until_ms:
        raise LimpetError("--since", "it is after --until", "Exchange the two.")
    return since_ms, until_ms


class _Keep:
    """Saves how far it is; where that is not possible, says so once, and the replay continues."""

    def __init__(self, save: Callable[[Tally], None] | None) -> None:
        self._save = save
        self.resumable = save is not None

    def __call__(self, tally: Tally) -> None:
        if self._save is None:
            return
        try:
            self._save(tally)
            self.resumable = True
        except OSError as error:
            if self.resumable:
                text = f"{error.filename}: it cannot be written, so --resume cannot continue here: {error}"
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
