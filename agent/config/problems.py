"""What is wrong with a configuration, reported all at once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from buffer.errors import LimpetError


class Problem(NamedTuple):
    """One thing to correct: the key's path (empty: the file as a whole), what is wrong, what to do about it.

    `what` is a phrase, `do` one or more whole sentences; without `do` it is a warning. Neither ever holds a secret.
    `line` counts from 1. The path is relative to the section where a section's rule reports the problem.
    """

    path: str
    what: str
    do: str = ""
    line: int | None = None

    def text(self, where: str) -> str:
        """Return one line for the operator, with the file and the line in front."""
        place = where if self.line is None else f"{where}:{self.line}"
        what = f"{self.path}: {self.what}" if self.path else self.what
        return f"{place}: {what}. {self.do}" if self.do else f"{place}: {what}"


class ConfigErrors(LimpetError):
    """Everything that is wrong with one configuration; as text, one problem a line, in the file's order."""

    def __init__(self, where: str, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(problems, key=lambda problem: problem.line or 0))
        count = "1 problem" if len(self.problems) == 1 else f"{len(self.problems)} problems"
        super().__init__(where, f"the configuration has {count}", "Correct what is listed and try again.")

    def __str__(self) -> str:
        return "\n".join(problem.text(self.where) for problem in self.problems)
