"""What a section of the configuration is: known keys, and the rules that hold between them.

Attributes are named as the keys are. Durations are seconds (float), sizes bytes. A key that is not given, or
null, has its default. What Prometheus or a later version knows and this one does not stands beside the section:
`later` (an error that says so), `elsewhere` (an error that says what to write), `ignored` (a warning that says why).
A key of `never_null` must not be null, because for Prometheus that is another value than the default.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, NamedTuple

import msgspec


class Complaint(NamedTuple):
    """A rule is broken: the key within the section (may be a path), what is wrong, what to do."""

    key: str
    what: str
    do: str


class Note(NamedTuple):
    """Nothing is broken, but the operator should know."""

    key: str
    text: str


class Given:
    """What a section's rules see: `values` of all keys but the wrong ones, and the keys that were `given`.

    A rule may change a default in `values` that has to give way to what was given.
    """

    __slots__ = ("given", "values")

    def __init__(self, values: dict[str, Any], given: frozenset[str]) -> None:
        self.values, self.given = values, given

    def __getitem__(self, key: str) -> Any:
        """The value, or None where it was wrong."""
        return self.values.get(key)

    def one_of(self, *keys: str) -> Iterator[Complaint]:
        """Complain if more than one of `keys` was given."""
        present = [key for key in keys if key in self.given]
        if len(present) > 1:
            yield Complaint(present[1], f"{' and '.join(present)} exclude each other", "Keep one of them.")


Verdicts = Iterator[Complaint | Note]


class Section(msgspec.Struct, frozen=True, kw_only=True):
    """A mapping of known keys."""

    later: ClassVar[frozenset[str]] = frozenset()
    elsewhere: ClassVar[Mapping[str, str]] = {}
    ignored: ClassVar[Mapping[str, str]] = {}
    never_null: ClassVar[frozenset[str]] = frozenset()

    @staticmethod
    def rules(got: Given) -> Verdicts:
        """What is wrong between the keys."""
        yield from ()
