"""What a section of the configuration is: known keys, and the rules that hold between them.

Attributes are named as the keys are. Durations are seconds (float), sizes bytes. A key that is missing, or
null, has its default. A section also names keys that Prometheus or a later version knows and this one does not:
`later` (an error that says so), `elsewhere` (an error that says what to write), `ignored` (a warning that says why).
A key of `never_null` must not be null, because Prometheus reads null as another value than the default.
Where a section has `shown`, its representation has these keys alone, and URLs without what may be secret.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import msgspec

from agent.config.problems import Problem
from agent.config.urls import public_url

Problems = Iterator[Problem]


class Given:
    """What a section's rules see: `values` of all keys but the wrong ones, and the keys that were `given`.

    A rule may change a default in `values` that has to give way to a given value.
    """

    __slots__ = ("given", "values")

    def __init__(self, values: dict[str, Any], given: frozenset[str]) -> None:
        self.values, self.given = values, given

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
