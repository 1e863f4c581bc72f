"""A step: what was looked at, what came back, what to do. Pure.

| `ok`  | `do`  | it means                                                       |
|-------|-------|----------------------------------------------------------------|
| true  | none  | fine                                                           |
| true  | given | a warning: it works, and something needs doing all the same    |
| false | given | it fails                                                       |
| null  | any   | not tried, or not known; `do` is then only advice              |

No secret is in a step: `step`, which makes them, hides it: a receiver can send back what it was sent.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from agent.http.secrets import hidden

NOT_TRIED = "not tried"
HERE = "this host"
"""The part of a report that is about no destination."""
LATER = ("buffer", "backlog", "quarantine")
"""Steps on this host that show what follows from something else."""


class Step(NamedTuple):
    """A line of the report. `part` is a destination's name, or "this host", which no destination can be called."""

    part: str
    step: str
    ok: bool | None
    said: str
    do: str | None = None

    @property
    def needs_doing(self) -> bool:
        """Whether somebody has to act: it fails, or it is a warning."""
        return self.ok is False or (self.ok is True and self.do is not None)


class Finding(NamedTuple):
    """What a check returns; see `Step`."""

    ok: bool | None
    said: str
    do: str | None = None


def fine(said: str) -> Finding:
    """Return that all is well."""
    return Finding(True, said)


def warning(said: str, do: str) -> Finding:
    """Return that it works, and that something needs doing all the same."""
    return Finding(True, said, do)


def wrong(said: str, do: str) -> Finding:
    """Return that it fails."""
    return Finding(False, said, do)


def unknown(said: str, do: str | None = None) -> Finding:
    """Return that nobody can know from here."""
    return Finding(None, said, do)


def step(part: str, title: str, found: Finding, secrets: Iterable[str]) -> Step:
    """Return the line of the report for a finding, without the secrets."""
    known = list(secrets)
    do = None if found.do is None else hidden(found.do, known)
    return Step(part, title, found.ok, hidden(found.said, known), do)


def first(steps: Sequence[Step]) -> Step | None:
    """Return the step to act on first: what is wrong before a warning, and a cause before what follows from it."""

    def turn(one: Step) -> tuple[bool, int]:
        follows = one.part == HERE and one.step.split(" ")[0] in LATER
        return one.ok is not False, 2 if follows else 0 if one.part == HERE else 1

    return min((one for one in steps if one.needs_doing), key=turn, default=None)


def needing(steps: Sequence[Step]) -> int:
    """Return how many steps need doing."""
    return sum(one.needs_doing for one in steps)
