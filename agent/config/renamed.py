"""Keys that have another name by now: each is read as the new one, with a warning that says so.

A key is renamed by a line here, in both paths from the top of the file, with `[]` for the elements of a list. The old
name is never used for anything else. What is here so far are names that Prometheus has for the same thing.
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


class Renaming:
    """The entries of a section by their names of today, what to warn of, and what cannot be read as both."""

    def __init__(self, entries: Mapping[str, Entry], path: str) -> None:
        self.entries: dict[str, Entry] = dict(entries)
        self.warnings: list[tuple[int, str]] = []
        self.problems: list[Problem] = []
        here = re.sub(r"\[[0-9]+\]", "[]", path)
        if here in _SECTIONS:
            for key, entry in entries.items():
                if (new := RENAMED.get(join(here, key))) is not None:
                    self._rename(key, entry, new[len(here) + 1 if here else 0 :], path)

    def _rename(self, key: str, entry: Entry, new: str, path: str) -> None:
        del self.entries[key]
        name, _, below = new.partition(".")
        line, node = entry
        if name in self.entries:
            what = f"it is called {new} by now, and {name} is there, too"
            self.problems.append(Problem(join(path, key), what, f"Keep {name}, and remove this.", line))
            return
        self.entries[name] = Entry(line, Node(line, {below: entry}) if below else node)
        self.warnings.append((line, f"{join(path, key)} is called {join(path, new)} by now: write that"))
