"""A step: what was looked at, what came back, what to do. Pure, but for `bounded`.

| `ok`  | `do`  | it means                                                       |
|-------|-------|----------------------------------------------------------------|
| true  | none  | fine                                                           |
| true  | given | a warning: it works, and something needs doing all the same    |
| false | given | it fails                                                       |
| null  | any   | not tried, or it cannot be told; `do` is then advice, no more  |

No secret is in a step: `step`, which makes them, hides it: a receiver can send back what it was sent.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, TypeVar

from agent.http.secrets import hidden

T = TypeVar("T")

NOT_TRIED = "not tried"


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
    """What a check comes back with; see `Step`."""

    ok: bool | None
    said: str
    do: str | None = None


def fine(said: str) -> Finding:
    """All is well."""
    return Finding(True, said)


def warning(said: str, do: str) -> Finding:
    """It works, but."""
    return Finding(True, said, do)


def wrong(said: str, do: str) -> Finding:
    """It fails."""
    return Finding(False, said, do)


def untold(said: str, do: str | None = None) -> Finding:
    """It cannot be told."""
    return Finding(None, said, do)


def step(part: str, title: str, found: Finding, secrets: Iterable[str]) -> Step:
    """The line of the report for a finding, without the secrets."""
    known = list(secrets)
    do = None if found.do is None else hidden(found.do, known)
    return Step(part, title, found.ok, hidden(found.said, known), do)


def bounded(take: Callable[[], T], seconds: float) -> T:
    """Return what `take` returns, or raise what it raises. Raises TimeoutError where it does not come back.

    What hangs (a name server, a dead mount) is left to a thread that ends with the process.
    """
    returned: list[T] = []
    raised: list[Exception] = []

    def run() -> None:
        try:
            returned.append(take())
        except Exception as error:
            raised.append(error)

    thread = threading.Thread(target=run, name="doctor", daemon=True)
    thread.start()
    thread.join(seconds)
    if raised:
        raise raised[0]
    if not returned:
        raise TimeoutError(f"it did not come back within {seconds:g} s")
    return returned[0]


def needing(steps: Sequence[Step]) -> int:
    """How many steps need doing."""
    return sum(one.needs_doing for one in steps)
