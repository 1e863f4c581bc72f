"""Keys that have a new name: each is read as the new one, with a warning that says so.

A line here renames a key, in both paths from the top of the file, with `[]` for the elements of a list. The old
name is never used for anything else. So far these are names that Prometheus has for the same thing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from agent.config.document import Entry, Node, join
from agent.config.problems import Problem

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
"""By the old path, the new one: in the same section, or in one of its own below."""

_SECTIONS = frozenset(old.rpartition(".")[0] for old in RENAMED)


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
