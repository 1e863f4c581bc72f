"""`limpet`: reads the arguments and calls the command.

Promises: nothing is imported for a command that is not called, so `--help` and `version` cost an
interpreter and argparse. Exit status: 0 fine, 1 the answer is no, 2 wrong usage or configuration,
130 after Ctrl-C, 141 where the reader of the output went away (as the shell says it of other programs).
An error that is meant for the operator is one message on standard error, without a traceback.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Sequence
from io import TextIOWrapper

from agent.cli import output, parser
from buffer.errors import LimpetError

INTERRUPTED, PIPE_CLOSED = 130, 141


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that `argv` (default: the process's arguments) names; return the exit status."""
    if isinstance(sys.stdout, TextIOWrapper):
        # A mount point can have any name, and a locale may not know how to write it.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        try:
            status = call(parser.build().parse_args(argv))
        except SystemExit as ended:  # argparse: help was shown, or the usage was wrong
            status = ended.code if isinstance(ended.code, int) else 2
        output.write("")
    except BrokenPipeError:
        return PIPE_CLOSED
    except KeyboardInterrupt:
        return INTERRUPTED
    except LimpetError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return status


def call(args: Namespace) -> int:
    """Import the command and call it with its arguments. Raises LimpetError and what `main` handles."""
    match args.command:
        case "version":
            from agent.cli import info

            return info.version(as_json=args.json)
        case "completion":
            from agent.cli import info

            return info.completion(args.shell)
        case "run":
            from agent.cli import configuration

            return configuration.run(args.config)
        case "check-config":
            from agent.cli import configuration

            return configuration.check(args.file, as_json=args.json)
        case "doctor":
            from agent.cli import doctor

            return doctor.doctor(args.config, args.timeout, as_json=args.json)
        case "collect":
            from agent.cli import collect

            form = "json" if args.json else args.format or "table"
            return collect.collect(args.config, form, watch=args.watch, interval=args.interval)
        case "buffer status":
            from agent.cli import backlog

            return backlog.status(
                args.data_dir, args.config, every=args.watch, fresh=args.fresh, as_json=args.json
            )
        case "buffer segments":
            from agent.cli import backlog

            return backlog.segments(args.data_dir, args.config, as_json=args.json)
        case "buffer tail":
            from agent.cli import tail

            form = "json" if args.json else "values" if args.values else "lines"
            return tail.tail(args.data_dir, args.config, args.number, form, follow=args.follow)
        case "buffer verify":
            from agent.cli import verify

            return verify.verify(args.data_dir, args.config, deep=args.deep, as_json=args.json)
        case "buffer export":
            from agent.cli import export

            return export.export(
                export.Options(
                    data_dir=args.data_dir,
                    config=args.config,
                    form=args.format,
                    since=args.since,
                    until=args.until,
                    selector=args.selector,
                    output=args.output,
                    force=args.force,
                    as_json=args.json,
                )
            )
        case "buffer trim":
            from agent.cli import trim

            return trim.trim(
                args.data_dir,
                args.config,
                before=args.before,
                to_size=args.to_size,
                yes=args.yes,
                as_json=args.json,
            )
        case "buffer replay":
            from agent.cli import replay

            return replay.run(
                replay.Options(
                    to=args.to,
                    data_dir=args.data_dir,
                    config=args.config,
                    file=args.file,
                    since=args.since,
                    until=args.until,
                    selector=args.selector,
                    give_up_after=args.give_up_after,
                    resume=args.resume,
                    dry_run=args.dry_run,
                    as_json=args.json,
                )
            )
        case "buffer quarantine list":
            from agent.cli import quarantine

            return quarantine.listing(args.data_dir, args.config, as_json=args.json)
        case "buffer quarantine show":
            from agent.cli import quarantine

            return quarantine.detail(args.data_dir, args.config, args.id, as_json=args.json)
        case "buffer quarantine replay":
            from agent.cli import quarantine

            return quarantine.replay(
                args.data_dir,
                args.config,
                args.id,
                all_=args.all,
                to=args.to,
                give_up_after=args.give_up_after,
                as_json=args.json,
            )
        case "buffer quarantine drop":
            from agent.cli import quarantine

            return quarantine.drop(
                args.data_dir, args.config, args.id, all_=args.all, yes=args.yes, as_json=args.json
            )
        case command:
            raise AssertionError(f"{command} is in the parser but not here")
