"""The keys that exist, by the schema's annotations, those that have a new name, and the error for an unknown key."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Any, get_args, get_origin

import msgspec
from msgspec.structs import FieldInfo

from agent.config.document import Entry, Node, join
from agent.config.schema import OPTIONS, Collector, Config
from agent.config.section import Problem, Section

_TARGET = "collect.collectors.scrape.targets[]"

RENAMED: Mapping[str, str] = {
    "external_labels": "labels",
    "collect.scrape_interval": "collect.interval",
    "collect.scrape_timeout": "collect.timeout",
    f"{_TARGET}.job_name": f"{_TARGET}.job",
    f"{_TARGET}.scrape_interval": f"{_TARGET}.interval",
    f"{_TARGET}.scrape_timeout": f"{_TARGET}.timeout",
    f"{_TARGET}.bearer_token": f"{_TARGET}.authorization.credentials",
    f"{_TARGET}.bearer_token_file": f"{_TARGET}.authorization.credentials_file",
    "remote_write[].bearer_token": "remote_write[].authorization.credentials",
    "remote_write[].bearer_token_file": "remote_write[].authorization.credentials_file",
}
"""By the old path, the new one, with `[]` for the elements of a list: in the same section, or in one of its own below.

Each is read as the new one, with a warning that says so. The old name is never used for anything else. So far these
are names that Prometheus has for the same thing.
"""

_SECTIONS = frozenset(old.rpartition(".")[0] for old in RENAMED)


def fields(kind: Any) -> dict[str, FieldInfo]:
    """Return the keys of a struct, in its order."""
    return {field.encode_name: field for field in msgspec.structs.fields(kind)}


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


def renamed(entries: Mapping[str, Entry], path: str) -> tuple[Mapping[str, Entry], list[Problem]]:
    """Return the entries of a section by their new names, with warnings, and problems where both names are used."""
    here = re.sub(r"\[[0-9]+\]", "[]", path)
    if here not in _SECTIONS:
        return entries, []
    found, problems = dict(entries), []
    for key, (line, node) in entries.items():
        if (full := RENAMED.get(join(here, key))) is None:
            continue
        del found[key]
        new = full[len(here) + 1 if here else 0 :]
        name, _, below = new.partition(".")
        if name in found:
            what = f"it is called {new} by now, and {name} is there, too"
            problems.append(Problem(join(path, key), what, f"Keep {name}, and remove this.", line))
        else:
            found[name] = Entry(line, Node(line, {below: Entry(line, node)}) if below else node)
            what = f"{join(path, key)} is called {join(path, new)} by now: write that"
            problems.append(Problem("", what, line=line))
    return found, problems
