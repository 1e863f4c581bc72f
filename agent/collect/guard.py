"""The clock guard: whether the host's wall clock is believed.  Pure: the times and the evidence are handed in.

Promises:

1. `always` believes every clock.  The rest is `auto`.
2. A clock that is before BUILT_MS is wrong, whatever says otherwise.
3. A clock that the kernel calls synchronized is believed, also right after a step.
4. On a host without a clock chip, where something that sets the kernel's clock is installed, nothing is believed before that
   has happened; and nowhere is a clock that is behind what was stored.  After GRACE with a network the host is believed
   all the same: nothing seems to set its clock.  Without a network it has LONGEST, since nothing could be sent anyway.
5. A clock that was believed and then stepped by more than `max_skew` is believed again when it is synchronized, when it is
   back where it was, or when it has stayed for DOUBT.
6. Any other clock is believed at once.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, Protocol

BUILT_MS = 1_735_689_600_000
"""2025-01-01: no copy of this software is older."""
STEP_MS = 1000
"""By so much no clock drifts between two looks: it was set."""
GRACE = 900.0
"""Seconds with a network, after which a clock is believed that nothing has set."""
LONGEST = 86_400.0
"""Seconds without one."""
DOUBT = 600.0
"""Seconds that a step is doubted for."""

TrustSetting = Literal["auto", "always"]


class Evidence(Protocol):
    """What the host knows of its clock."""

    def is_synced(self) -> bool:
        """Whether the kernel, or else the time service, calls the clock synchronized."""

    def has_chip(self) -> bool:
        """Whether there is a clock that continues while the host is off."""

    def has_service(self) -> bool:
        """Whether something is installed that lets the kernel know when the clock is right."""

    def has_network(self) -> bool:
        """Whether there is a way to others."""


class Trust(NamedTuple):
    """Whether the clock is believed, and the reason, which is one of SOURCES."""

    is_good: bool
    source: str


ALWAYS, SYNCED, CHIP, PLAUSIBLE = (
    Trust(True, name) for name in ("always", "synchronized", "chip", "plausible")
)
ANCIENT, BEHIND, UNSET, STEPPED = (Trust(False, name) for name in ("ancient", "behind", "unset", "stepped"))


class Guard:
    """Judges the clock at each `look`, in the order of the monotonic times.  `max_skew` is in seconds."""

    def __init__(self, trust: TrustSetting, max_skew: float, evidence: Evidence) -> None:
        self._evidence = evidence
        self.configure(trust, max_skew)
        self.steps = 0
        """How often the clock was set."""
        self.last_step = 0.0
        """By how many seconds it was last."""
        self.trust = UNSET
        """What the last look found."""
        self._base: int | None = None
        self.good_base: int | None = None
        """Wall time minus monotonic time, in ms, when the clock was believed last."""
        self._doubted: tuple[int, int] | None = None  # the base, and the monotonic time from which on
        self._waited: float | None = None
        self._last_mono = 0

    def configure(self, trust: TrustSetting, max_skew: float) -> None:
        """Judge like this from now on."""
        self._setting, self._max_skew_ms = trust, int(max_skew * 1000)

    def look(self, wall_ms: int, mono_ms: int, kept_ms: int) -> Trust:
        """Judge the clock; `kept_ms` is the newest stored time that was believed, or 0."""
        base_ms = wall_ms - mono_ms
        if self._base is not None and abs(base_ms - self._base) > STEP_MS:
            self.steps += 1
            self.last_step = (base_ms - self._base) / 1000
        self._base = base_ms
        self.trust = self._judge(wall_ms, mono_ms, base_ms, kept_ms)
        self._last_mono = mono_ms
        if self.trust.is_good:
            self.good_base, self._doubted = base_ms, None
        return self.trust

    def _judge(self, wall_ms: int, mono_ms: int, base_ms: int, kept_ms: int) -> Trust:
        if self._setting == "always":
            return ALWAYS
        if wall_ms < BUILT_MS:
            return ANCIENT
        if self._evidence.is_synced():
            return SYNCED
        if self.good_base is not None:
            return self._after_good(self.good_base, base_ms, mono_ms)
        is_behind = wall_ms < kept_ms - self._max_skew_ms
        is_unset = not self._evidence.has_chip() and self._evidence.has_service()
        if (is_behind or is_unset) and not self._has_waited(mono_ms):
            return BEHIND if is_behind else UNSET
        return self._plausible()

    def _after_good(self, good_ms: int, base_ms: int, mono_ms: int) -> Trust:
        if abs(base_ms - good_ms) > self._max_skew_ms:
            if self._doubted is None or abs(base_ms - self._doubted[0]) > self._max_skew_ms:
                self._doubted = base_ms, mono_ms
            if mono_ms - self._doubted[1] < DOUBT * 1000:
                return STEPPED
        return self._plausible()

    def _plausible(self) -> Trust:
        return CHIP if self._evidence.has_chip() else PLAUSIBLE

    def _has_waited(self, mono_ms: int) -> bool:
        """Whether something would have set the clock by now.  Time before the first look counts if there is a network."""
        has_network = self._evidence.has_network()
        if self._waited is None:
            self._waited, self._last_mono = 0.0, 0 if has_network else mono_ms
        if has_network:
            self._waited += (mono_ms - self._last_mono) / 1000
        return self._waited >= GRACE or mono_ms >= LONGEST * 1000
