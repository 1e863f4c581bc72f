"""Standard output, by which every command prints its answer; and the question before a command removes something."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

from buffer.errors import LimpetError

if TYPE_CHECKING:
    from agent.cli.view import View

INTERRUPTED, PIPE_CLOSED = 130, 141
"""Exit statuses, as the shell reports them for a program that SIGINT or SIGPIPE ended."""


def write(text: str) -> None:
    """Write and flush. Raises BrokenPipeError where nobody reads, LimpetError where it cannot be stored."""
    if sys.stdout is None:  # closed by the program that started us, as with >&-
        if text:
            raise LimpetError("standard output", "it is closed", "Send it somewhere.")
        return
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as error:
        # What could not be written is still in there, and the interpreter would try again as it ends.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
        if isinstance(error, BrokenPipeError):
            raise
        from agent.text import human

        raise LimpetError(
            "standard output", f"it cannot be written: {human.reason(error)}", "Send it elsewhere."
        ) from None


def complain(*lines: str) -> None:
    """Write lines to standard error, to a terminal folded between words.

    A text may come from outside: what a terminal would obey is escaped.
    """
    for line in lines:
        print(for_stderr(line), file=sys.stderr)


def for_stderr(text: str) -> str:
    """Return a text as it is written to standard error: a terminal would fold within a word, which could not be copied."""
    from agent.text import human

    plain = human.plain(text)
    if sys.stderr is None or not sys.stderr.isatty():
        return plain
    import shutil
    import textwrap

    columns = shutil.get_terminal_size().columns
    return textwrap.fill(plain, columns, break_long_words=False, break_on_hyphens=False) or plain


def json_text(document: Any, *, one_line: bool = False) -> str:
    """Return a JSON document as text, indented, or on one line."""
    import json

    layout: dict[str, Any] = {"separators": (",", ":")} if one_line else {"indent": 2}
    return json.dumps(document, allow_nan=False, **layout) + "\n"


def write_json(document: Any, *, one_line: bool = False) -> None:
    """Write a JSON document, indented, or on one line."""
    write(json_text(document, one_line=one_line))


def show(view: View) -> None:
    """Write a view."""
    from agent.cli import screen

    write(screen.text(view))


def live(view: Callable[[int, int], View], every: float) -> NoReturn:
    """Show the view, given columns and lines, every so many seconds until Ctrl-C or SIGTERM.

    On a terminal it is updated in place, elsewhere it is written each time.
    """
    from agent.cli import screen

    screen.live(view, every)
    while True:
        write(screen.text(view(screen.width(), sys.maxsize)) + "\n")
        time.sleep(every)


def watch(
    every: float, view: Callable[[int, int], View], document: Callable[[], Any] | None = None
) -> NoReturn:
    """Show the view as `live` does; where there is a document, write that instead, as JSON on one line each time."""
    if document is None:
        live(view, every)
    while True:
        write_json(document(), one_line=True)
        time.sleep(every)


def agreed(command: str, question: str) -> bool:
    """Ask at the terminal, and return whether the answer is yes. Raises LimpetError where there is no terminal."""
    if not sys.stdin.isatty():
        raise LimpetError(command, "there is no terminal to ask at", "Add --yes if it is meant.")
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")
