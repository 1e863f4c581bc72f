"""A destination type of another package, with what protects the agent's promises from its mistakes.

1. What it encodes has to account for every sample of the ticks: the request's and those that it counts as dropped, by reasons
   that it may use. If not, nothing is sent, and the lane tries again after a while.
2. A `classify` that raises, or returns something else than an `Outcome`, holds the destination: nothing is dropped for it.
3. What it says is shown on one line, and cut.
4. Building it is part of loading the configuration, so its mistake there is an error that names it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from agent.config import Custom
from agent.config.custom import GROUP
from agent.destinations.base import (
    REJECTED,
    RELABELED,
    UNSTORABLE,
    Destination,
    Encoded,
    Outcome,
    Request,
    Speaks,
    Verdict,
)
from agent.http.answer import Answer, words
from agent.http.failures import Failure
from agent.system import entry_points
from agent.system.entry_points import PluginFailed
from buffer.model import Tick

REASONS = frozenset((REJECTED, RELABELED, UNSTORABLE))
"""For which a type may leave samples out. The others are decisions of the lane."""


class CustomFailed(RuntimeError):
    """A type has returned what it must not return."""


def custom(to: Custom) -> Speaks:
    """Return what says how to send to a destination. Raises PluginFailed where the type cannot be built."""
    build = entry_points.load(GROUP, to.type, "destination type")
    try:
        made: Any = build(to) if build is not None else None
    except (Exception, SystemExit) as error:
        why = f"the type {to.type!r} cannot be built: {type(error).__name__}: {error}"
        raise PluginFailed(to.name, why, "Correct options, or repair the package.") from None
    if not isinstance(made, Destination):
        why = f"the type {to.type!r} returned a {type(made).__name__}, not a Destination"
        raise PluginFailed(to.name, why, "docs/own-destinations.md says what it must be.")
    spoken = _guarded(made)
    return lambda: spoken


def _guarded(made: Destination) -> Destination:
    def encode(ticks: Sequence[Tick], part: bool) -> Encoded:
        found: Any = made.encode(ticks, part)
        if not isinstance(found, Encoded) or not isinstance(found.request, Request):
            raise CustomFailed(f"{made.name}: encode returned a {type(found).__name__}, not an Encoded")
        _account(made.name, found.request.samples, found.dropped, sum(len(tick.values) for tick in ticks))
        return found._replace(request=found.request._replace(format=made.name))

    def classify(request: Request, answer: Answer | Failure) -> Outcome:
        try:
            found: Any = made.classify(request, answer)
        except Exception as error:
            found = f"{type(error).__name__}: {error}"
        if not isinstance(found, Outcome) or not isinstance(found.verdict, Verdict):
            said = found if isinstance(found, str) else f"returned a {type(found).__name__}"
            shown = words(f"the type {made.name}: classify: {said}".encode(errors="replace"))
            return Outcome(Verdict.HELD, 0, shown)
        return (
            found
            if found.error is None
            else found._replace(error=words(found.error.encode(errors="replace")))
        )

    return made._replace(encode=encode, classify=classify)


def _account(name: str, samples: int, dropped: Mapping[str, int], expected: int) -> None:
    if odd := dropped.keys() - REASONS:
        raise CustomFailed(
            f"{name}: encode counts samples as {', '.join(sorted(odd))}, which is not for a type"
        )
    counts = (samples, *dropped.values())
    if min(counts) < 0 or sum(counts) != expected:
        raise CustomFailed(f"{name}: encode accounts for {sum(counts)} of {expected} samples")
