"""`limpet`: reads the arguments and runs the command.

Promises: the module of a command is imported only where that command is chosen, so `limpet --help` and `limpet version`
cost an interpreter and argparse. Exit status: 0 fine, 1 the answer is no, 2 wrong usage or configuration,
130 after Ctrl-C, 141 where the reader of the output went away (as the shell reports it for other programs).
An error that is meant for the operator is one message on standard error, without a traceback.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from io import TextIOWrapper

from agent.cli import output, registry
from buffer.errors import LimpetError


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that `argv` (default: the process's arguments) names; return the exit status."""
    argv = sys.argv[1:] if argv is None else argv
    if isinstance(sys.stdout, TextIOWrapper):
        # A mount point can have any name, and a locale may not be able to encode it.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        try:
            args = registry.build(argv).parse_args(argv)
            status = registry.load(args.command).run(args)
        except SystemExit as ended:  # argparse: help was shown, or the usage was wrong
            status = ended.code if isinstance(ended.code, int) else 2
        output.write("")
    except BrokenPipeError:
        return output.PIPE_CLOSED
    except KeyboardInterrupt:
        return output.INTERRUPTED
    except LimpetError as error:
        output.complain(*error.lines)
        return error.exit_code
    except OSError as error:  # of a file that is not what it should be: its name, and what the system says
        output.complain(str(error) if error.filename is None else f"{error.filename}: {error.strerror}")
        return 1
    return status
