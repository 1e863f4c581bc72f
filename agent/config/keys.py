"""The keys that exist, by the schema's annotations, and the error for an unknown key."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any, get_args, get_origin

import msgspec
from msgspec.structs import FieldInfo

from agent.config.document import join
from agent.config.problems import Problem
from agent.config.schema import OPTIONS, Collector, Config
from agent.config.section import Section


def fields(kind: Any) -> dict[str, FieldInfo]:
    """Return the keys of a struct, in its order."""
    return {field.name: field for field in msgspec.structs.fields(kind)}


def default(field: FieldInfo) -> Any:
    """Return the default of a key that is not required."""
    return field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()


def keys(kind: Any = Config, path: str = "") -> Iterator[str]:
    """Yield the paths of all keys, with `[]` for the elements of a list and `*` for a name that is free."""
    for name, field in fields(kind).items():
        if kind is Collector and name == "options":
            continue
        place = join(path, name)
        yield place
        if field.type == dict[str, Collector]:
            for collector, options in OPTIONS.items():
                yield join(place, collector)
                yield from keys(Collector, join(place, collector))
                yield from keys(options, join(place, collector))
            continue
        for part in (field.type, *get_args(field.type)):
            if isinstance(part, type) and issubclass(part, Section):
                yield from keys(
                    part, {tuple: f"{place}[]", dict: f"{place}.*"}.get(get_origin(field.type), place)
                )


def unknown(place: str, key: str, known: Iterable[str], line: int) -> Problem:
    """Return the problem of a key that is not `known`, with the nearest key or the section it belongs to."""
    import difflib  # rarely needed, and not by an agent that runs

    near = difflib.get_close_matches(key, list(known), 1)
    here = re.sub(r"\[[0-9]+\]", "[]", place).rpartition(".")[0]
    homes = [path for path in _all_keys() if path.endswith(f".{key}")]
    below = [path for path in homes if here and path.startswith(f"{here}.")]
    if near and not below:
        hint = f"Did you mean {near[0]}? "
    else:
        hint = f"It belongs at {(below or homes)[0]}. " if homes else ""
    return Problem(place, "unknown key", f"{hint}Known here: {', '.join(known)}.", line)


@cache
def _all_keys() -> tuple[str, ...]:
    return tuple(keys())
