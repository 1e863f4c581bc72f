"""A progress bar on standard error, for long work whose result goes to standard output."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Self

from agent.cli import output
from agent.text import human


class Bar:
    """A context manager. It shows nothing where standard error is no terminal; `say` prints there all the same."""

    def __init__(self, total: int) -> None:
        self._progress = None
        if not sys.stderr.isatty():
            return
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

        console = Console(stderr=True, highlight=False, markup=False, emoji=False)
        if console.is_dumb_terminal:
            return
        self._progress = Progress(
            BarColumn(24),
            TaskProgressColumn(),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[text]}", markup=False),
            console=console,
            transient=True,
        )
        self._task = self._progress.add_task("", total=max(1, total), text="")

    def __enter__(self) -> Self:
        if self._progress is not None:
            self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress is not None:
            self._progress.stop()

    def update(self, done: int, text: str) -> None:
        """Show how far it is, and a few words."""
        if self._progress is not None:
            self._progress.update(self._task, completed=done, text=human.plain(text))

    def of(self, done: int, total: int) -> None:
        """Show how far it is of a length that was not known at the start."""
        if self._progress is not None:
            self._progress.update(self._task, completed=done, total=max(1, total))

    def say(self, text: str) -> None:
        """Print a line, above the bar where there is one."""
        if self._progress is not None:
            self._progress.console.print(output.for_stderr(text), soft_wrap=True)
        else:
            print(output.for_stderr(text), file=sys.stderr, flush=True)
