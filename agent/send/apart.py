"""The series of which older samples wait apart: nothing newer of them is sent before these are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from agent.destinations.base import Outcome, Speaks
from agent.send.parts import split
from buffer.model import Tick


class Apart:
    """Series by the identity that `speaks` gives them, and why they wait. Used from one thread."""

    def __init__(self, speaks: Speaks) -> None:
        self._speaks, self._why = speaks, dict[bytes, Outcome]()

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._why)

    def clear(self) -> None:
        """Let all be sent again."""
        self._why.clear()

    def learn(self, series: Iterable[bytes], why: Outcome) -> None:
        """Send nothing of these series from now on."""
        self._why.update(dict.fromkeys(series, why))

    def keep(self, ticks: Iterable[Tick], why: Outcome) -> None:
        """Send nothing of the series in these ticks from now on."""
        carries = self._speaks().carries
        found = {carries(one) for tick in ticks for one in tick.series}
        self.learn([key for key in found if key is not None], why)

    def split(self, ticks: Sequence[Tick]) -> tuple[Sequence[Tick], Sequence[Tick], Outcome | None]:
        """Return what may be sent, what waits, and why."""
        if not self._why:
            return ticks, (), None
        rest, kept = split(ticks, self._speaks().carries, self._why.keys())
        return rest, kept, next(iter(self._why.values()))
