"""What a section of the configuration is: known keys, the rules that hold between them, and what is wrong with it.

Attributes are named as the keys are. Durations are seconds (float), sizes bytes. A key that is missing, or
null, has its default. A section also names keys that Prometheus or a later version knows and this one does not:
`later` (an error that says so), `elsewhere` (an error that says what to write), `ignored` (a warning that says why).
A key of `never_null` must not be null, because Prometheus reads null as another value than the default.
Where a section has `shown`, its representation has these keys alone, and URLs without what may be secret.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, ClassVar, NamedTuple

import msgspec

from agent.config.urls import public_url
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
        return "\n".join(self.lines)

    @property
    def lines(self) -> list[str]:
        """One line for each problem."""
        return [problem.text(self.where) for problem in self.problems]


Problems = Iterator[Problem]


class Given:
    """What a section's rules see: `values` of all keys but the wrong ones, and the keys that were `given`.

    `below` are the keys that were given in each section below. A rule may change a default in `values` that has to give way to a
    given value.
    """

    __slots__ = ("below", "given", "values")

    def __init__(
        self,
        values: dict[str, Any],
        given: frozenset[str],
        below: Mapping[str, Collection[str]] = {},
    ) -> None:
        self.values, self.given, self.below = values, given, below

    def __getitem__(self, key: str) -> Any:
        """Return the value, or None where it was wrong."""
        return self.values.get(key)

    def one_of(self, *keys: str) -> Problems:
        """Yield a problem if more than one of `keys` was given."""
        present = [key for key in keys if key in self.given]
        if len(present) > 1:
            yield Problem(present[1], f"{' and '.join(present)} exclude each other", "Keep one of them.")


class Section(msgspec.Struct, frozen=True, kw_only=True):
    """A mapping of known keys."""

    later: ClassVar[frozenset[str]] = frozenset()
    elsewhere: ClassVar[Mapping[str, str]] = {}
    ignored: ClassVar[Mapping[str, str]] = {}
    never_null: ClassVar[frozenset[str]] = frozenset()
    shown: ClassVar[tuple[str, ...]] = ()

    @staticmethod
    def rules(got: Given) -> Problems:
        """Yield what is wrong between the keys, and warnings."""
        yield from ()

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        if not self.shown:
            return super().__rich_repr__()
        values = [(key, getattr(self, key)) for key in self.shown]
        return [(key, public_url(value) if key.endswith("url") else value) for key, value in values]

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({', '.join(f'{key}={value!r}' for key, value in self.__rich_repr__())})"
        )
