"""`limpet buffer replay`: send history from a buffer or an exported file to any destination.

It only reads, takes no lock, and works with the agent running, stopped or dead. Exit status: 0 everything that was
selected is delivered, 1 something was refused or is not sent, 130 after Ctrl-C.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from agent import __version__
from agent.cli import backlog, output
from agent.cli.progress import Bar
from agent.config import Config, ConfigErrors, RemoteWrite, load, load_file, public_url
from agent.ops.replay import unfinished
from agent.ops.replay.cursor import Tally
from agent.ops.replay.run import Ended, Replayed, Watcher, replay
from agent.ops.replay.selection import FIRST_MS, LAST_MS, Selection
from agent.ops.replay.source import FileHistory, History, SegmentHistory
from agent.ops.replay.unfinished import Unfinished
from agent.send.client import Client
from agent.text import human
from buffer.errors import LimpetError

INTERRUPTED = 130


class Options(NamedTuple):
    """What was typed."""

    to: str
    data_dir: str | None
    config: str | None
    file: str | None
    since: str | None
    until: str | None
    selector: str | None
    give_up_after: float
    resume: bool
    dry_run: bool
    as_json: bool


class _Given(NamedTuple):
    """What is replayed: its name for people, what it is, and what goes into the state."""

    name: str
    source: History
    end: int
    fingerprint: str


def run(options: Options) -> int:
    """Replay, and show what became of it. Raises LimpetError where it cannot begin."""
    config = load_file(options.config).config if options.config else None
    to = destination(options.to, config)
    name, open_source = _source(options, config)
    selector = None
    if options.selector is not None:
        from agent.ops.selector import parse

        selector = parse(options.selector)
    key = unfinished.path(name, to.name, to.url, options.since, options.until, options.selector)
    saved = unfinished.load(key)
    if options.resume and saved is None:
        raise LimpetError(
            "--resume",
            "there is no unfinished replay of this source, to this destination, with this selection",
            "Give the options of the one that was interrupted, or leave --resume out.",
        )
    if saved is None or not options.resume:
        since_ms, until_ms = _span(options)
        start = Tally()
        given = open_source(since_ms, until_ms, None)
    else:
        since_ms, until_ms, start = saved.since_ms, saved.until_ms, saved.ledger
        given = open_source(since_ms, until_ms, saved.end)
        if given.fingerprint != saved.fingerprint:
            what = "it is not the file that the unfinished replay began with"
            raise LimpetError(name, what, "Leave --resume out to begin with this one.")
    selection = Selection(since_ms, until_ms, selector)
    keep = _Keep(
        None if options.dry_run else key, Unfinished(given.end, given.fingerprint, since_ms, until_ms, start)
    )
    wire = None if options.dry_run else Client(to, __version__)
    with Bar(given.source.total) as bar:
        if saved is not None and not options.resume and not options.dry_run:
            bar.say(
                f"begun anew: with --resume, {human.count(saved.ledger.selected)} samples would be done with"
            )
        report = replay(
            given.source,
            selection,
            to,
            wire,
            watcher(bar),
            start=start,
            save=keep,
            give_up_after=options.give_up_after,
        )
    if report.ended is Ended.COMPLETE and not options.dry_run:
        unfinished.remove(key)
    if options.dry_run:
        report = report._replace(tally=report.tally._replace(delivered=0))
    _print(report, name, to, options, resumable=keep.resumable)
    return exit_status(report)


def exit_status(report: Replayed) -> int:
    """What the shell is told."""
    if report.ended is Ended.INTERRUPTED:
        return INTERRUPTED
    return 1 if report.tally.rejected or report.ended is not Ended.COMPLETE else 0


def destination(to: str, config: Config | None) -> RemoteWrite:
    """A destination of the configuration by its name, or a plain URL. Raises LimpetError."""
    for one in config.remote_write if config else ():
        if one.name == to:
            return one
    if "://" not in to:
        names = ", ".join(one.name for one in config.remote_write) if config else ""
        known = (
            f"the configuration has {names or 'none'}" if config else "there is no --config to look it up in"
        )
        raise LimpetError("--to", f"no destination is called {to!r}; {known}", "Give its name, or a URL.")
    try:
        return load(output.json_text({"remote_write": [{"url": to}]}), "--to").config.remote_write[0]
    except ConfigErrors as error:
        raise LimpetError(
            "--to",
            f"{public_url(to)}: {error.problems[0].what}",
            "Give an https:// URL, or --config and the name of a destination in it: credentials, and plain http "
            "to another host, are possible only there.",
        ) from None


def watcher(bar: Bar) -> Watcher:
    """Show a replay's progress on a bar."""

    def progress(tally: Tally, doing: str) -> None:
        pace = tally.delivered / tally.seconds if tally.seconds else 0.0
        told = f"{human.count(tally.delivered)} delivered, {human.size(tally.bytes)}, {human.number(pace)}/s"
        refused = f", {human.count(tally.rejected)} refused" if tally.rejected else ""
        bar.update(tally.done, told + refused + (f"; {doing}" if doing else ""))

    return Watcher(progress, bar.say)


def document(report: Replayed) -> dict[str, Any]:
    """What `--json` prints of a replay."""
    tally = report.tally._asdict()
    del tally["position"], tally["done"]
    refusals = [refusal._asdict() for refusal in report.refusals]
    return {"ended": report.ended.value, "error": report.error, **tally, "refusals": refusals}


def _print(report: Replayed, name: str, to: RemoteWrite, options: Options, *, resumable: bool) -> None:
    is_unfinished = report.ended is not Ended.COMPLETE and resumable
    if options.as_json:
        head = {"source": name, "destination": to.name, "url": public_url(to.url), "dry_run": options.dry_run}
        output.write_json({**head, "resumable": is_unfinished, **document(report)})
        return
    from agent.cli import show, show_replay

    output.write(show.text(show_replay.replayed(report)))
    if options.dry_run:
        print("Nothing was sent: this is what it would be.", file=sys.stderr)
    elif is_unfinished:
        print("Give the same command with --resume to go on from here.", file=sys.stderr)


def _source(options: Options, config: Config | None) -> tuple[str, Callable[[int, int, int | None], _Given]]:
    """The name of the source, and how it is opened for a span of time."""
    if options.file is not None:
        path = os.path.abspath(options.file)

        def open_file(since_ms: int, until_ms: int, end: int | None) -> _Given:
            try:
                file = FileHistory(path)
            except OSError as error:
                reason = (error.strerror or str(error)).lower()
                raise LimpetError(path, f"it cannot be read: {reason}", "Check its name.") from None
            return _Given(path, file, 0, file.fingerprint)

        return path, open_file
    if options.data_dir is None and config is None:
        raise LimpetError("replay", "nothing to replay", "Give --data-dir, --config or --file.")
    data_dir = os.path.abspath(options.data_dir or (config.data_dir if config else ""))
    backlog.where(data_dir, None)

    def open_log(since_ms: int, until_ms: int, end: int | None) -> _Given:
        with backlog.readable(data_dir):
            log = SegmentHistory(data_dir, since_ms, until_ms, end)
        return _Given(data_dir, log, log.end, "")

    return data_dir, open_log


def _span(options: Options) -> tuple[int, int]:
    from agent.cli.when import parse_time

    now = time.time()
    since_ms = FIRST_MS if options.since is None else parse_time("--since", options.since, now)
    until_ms = LAST_MS if options.until is None else parse_time("--until", options.until, now)
    if since_ms > until_ms:
        raise LimpetError("--since", "it is after --until", "Exchange the two.")
    return since_ms, until_ms


class _Keep:
    """Saves how far it is; where that is not possible, says so once, and the replay goes on."""

    def __init__(self, file: str | None, first: Unfinished) -> None:
        self._file, self._first = file, first
        self.resumable = file is not None

    def __call__(self, tally: Tally) -> None:
        if self._file is None:
            return
        try:
            unfinished.save(self._file, self._first._replace(ledger=tally))
            self.resumable = True
        except OSError as error:
            if self.resumable:
                print(
                    f"{self._file}: it cannot be written, so --resume will not go on here: {error}",
                    file=sys.stderr,
                )
            self.resumable = False
