"""When the host was booted, by the clocks of its ticks: what counters of the kernel count from."""

from __future__ import annotations

from collections.abc import Sequence

from buffer.model import Tick

TOLERANCE_MS = 10_000
"""A tick may be as late as its interval: then its clocks show an earlier boot. That is no other boot."""


class Boots:
    """When the host was booted, by the clocks of some ticks."""

    def __init__(self, ticks: Sequence[Tick]) -> None:
        found: dict[str, set[int]] = {}
        for wall_ms, mono_ms, boot_id in {tick.at for tick in ticks}:
            found.setdefault(boot_id, set()).add(wall_ms - mono_ms)
        self._boots: dict[tuple[str, int], int] = {}
        for boot_id, times in found.items():
            newest: int | None = None  # the tick that was least late
            for time in sorted(times, reverse=True):
                if newest is None or newest - time > TOLERANCE_MS:
                    newest = time
                self._boots[boot_id, time] = newest - newest % 1000

    def start(self, tick: Tick) -> int:
        """The boot that a tick belongs to; 0: it is not known."""
        wall_ms, mono_ms, boot_id = tick.at
        boot = self._boots[boot_id, wall_ms - mono_ms]
        return boot if boot_id and 0 < boot < wall_ms else 0
