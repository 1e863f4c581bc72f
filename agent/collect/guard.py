"""The clock guard: whether the host's wall clock is believed.  Pure: the times and the evidence are handed in.

Promises:

1. `always` believes every clock.  The rest is `auto`.
2. A clock that is before BUILT_MS is wrong, whatever says otherwise.
3. A clock that the kernel calls synchronized is believed, also right after a step, whatever receivers say.
4. Else a clock is believed with which the receivers agree that have proved who they are (`agent.system.heard`), and one with which they
   disagree is not, for LONGEST at most.  If they also disagree with the clock that was believed before, that is `refuted`.
5. On a host without a clock chip that agrees with the clock, where something that sets the kernel's clock is installed, nothing is believed before that
   has happened; and nowhere is a clock that is behind what was stored.  After GRACE with a network the host is believed
   all the same: nothing seems to set its clock.  Without a network it has LONGEST, since nothing could be sent anyway.
6. A clock that was believed and then stepped by more than `max_skew` is believed again when it is synchronized, when it is
   back where it was, or when it has stayed for DOUBT, which begins again where the agent is restarted.
7. Any other clock is believed at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple, Protocol

from agent.system.heard import Heard, Receivers, receivers
from buffer.model import BUILT_MS

STEP_MS = 1000
"""By so much no clock drifts between two looks: it was set."""
GRACE = 900.0
"""Seconds with a network, after which a clock is believed that nothing has set."""
LONGEST = 86_400.0
"""Seconds without one."""
DOUBT = 600.0
"""Seconds that a step is doubted for."""
CHIP_EVERY = 60.0
"""Seconds between two looks at the clock chip: on some boards each takes a millisecond."""

TrustSetting = Literal["auto", "always"]


class Evidence(Protocol):
    """What the host knows of its clock."""

    def is_synced(self) -> bool:
        """Whether the kernel, or else the time service, calls the clock synchronized."""

    def chip_ms(self) -> int | None:
        """The time (UTC) of a clock that continues while the host is off; None: there is none, or it has no time."""

    def has_service(self) -> bool:
        """Whether something is installed that lets the kernel know when the clock is right."""

    def has_network(self) -> bool:
        """Whether there is a way to others."""

    def heard(self) -> Iterable[Heard]:
        """What each receiver that has proved who it is said last."""


class Trust(NamedTuple):
    """Whether the clock is believed, and the reason, which is one of SOURCES."""

    is_good: bool
    source: str


ALWAYS, SYNCED, RECEIVERS, CHIP, PLAUSIBLE = (
    Trust(True, name) for name in ("always", "synchronized", "receivers", "chip", "plausible")
)
ANCIENT, CONTRADICTED, BEHIND, UNSET, STEPPED = (
    Trust(False, name) for name in ("ancient", "contradicted", "behind", "unset", "stepped")
)
ASKING = frozenset((CONTRADICTED, BEHIND, UNSET, STEPPED))
"""With these, a receiver's word would decide."""


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
        self.refuted = False
        """Whether there is none because that was wrong."""
        self._doubted: tuple[int, int] | None = None  # the base, and the monotonic time from which on
        self._waited: float | None = None
        self._contradicted: int | None = None  # since when
        self._known: int | None = None
        self._refuted: int | None = None
        self._stepped_from: int | None = None
        self._chip: tuple[int, int | None] | None = None  # when it was read, and its base then
        self._last_mono = 0

    def configure(self, trust: TrustSetting, max_skew: float) -> None:
        """Judge like this from now on."""
        self._setting, self._max_skew_ms = trust, int(max_skew * 1000)

    def recall(
        self, known_ms: int | None, refuted_ms: int | None, stepped_from_ms: int | None = None
    ) -> None:
        """Have the bases that an earlier process of this boot found right and wrong, and the one before a step that it doubted."""
        self._known, self._refuted, self._stepped_from = known_ms, refuted_ms, stepped_from_ms

    def look(self, wall_ms: int, mono_ms: int, kept_ms: int) -> Trust:
        """Judge the clock; `kept_ms` is the newest stored time that was believed, or 0."""
        base_ms, by_receivers = wall_ms - mono_ms, self._by_receivers(mono_ms)
        if self._base is not None and abs(base_ms - self._base) > STEP_MS:
            self.steps += 1
            self.last_step = (base_ms - self._base) / 1000
            self._chip = None
        self._base = base_ms
        self.trust = self._judge(wall_ms, mono_ms, kept_ms, by_receivers)
        self._last_mono = mono_ms
        if self.trust.is_good:
            self.good_base, self._doubted = base_ms, None
            self.refuted = False
        elif self.trust is CONTRADICTED:
            self._doubt_before(by_receivers)
        return self.trust

    def _doubt_before(self, by_receivers: Receivers | None) -> None:
        """Forget what was believed before if the receivers disagree with that, too; None: they did in an earlier process."""
        if by_receivers is None:
            self.refuted = True
            return
        before_ms = self._known if self.good_base is None else self.good_base
        if before_ms is None or by_receivers.disagree(before_ms, self._max_skew_ms):
            self.good_base, self._doubted, self.refuted = None, None, True
            self._stepped_from = None

    def _is_refuted(self, base_ms: int, by_receivers: Receivers | None) -> bool:
        """Whether the receivers disagree, or did in an earlier process and have said nothing yet."""
        if by_receivers is None:
            return self._refuted is not None and abs(base_ms - self._refuted) <= self._max_skew_ms
        self._refuted = None
        return by_receivers.disagree(base_ms, self._max_skew_ms)

    def _by_receivers(self, mono_ms: int) -> Receivers | None:
        return receivers(self._evidence.heard(), mono_ms, self._max_skew_ms)

    def _judge(self, wall_ms: int, mono_ms: int, kept_ms: int, by_receivers: Receivers | None) -> Trust:
        base_ms = wall_ms - mono_ms
        if self._setting == "always":
            return ALWAYS
        if wall_ms < BUILT_MS:
            return ANCIENT
        if self._evidence.is_synced():
            self._contradicted = None
            return SYNCED
        if by_receivers and by_receivers.agree(base_ms, self._max_skew_ms):
            self._contradicted = None
            return RECEIVERS
        if self._is_refuted(base_ms, by_receivers):
            if self._contradicted is None:
                self._contradicted = mono_ms
            is_heeded = mono_ms - self._contradicted < LONGEST * 1000
            return CONTRADICTED if is_heeded else _plausible(self._has_chip(base_ms, mono_ms))
        has_chip = self._has_chip(base_ms, mono_ms)
        if self.good_base is not None:
            return self._after_good(self.good_base, base_ms, mono_ms) or _plausible(has_chip)
        is_behind = wall_ms < kept_ms - self._max_skew_ms
        is_unset = not has_chip and self._evidence.has_service()
        if (is_behind or is_unset) and not self._has_waited(mono_ms):
            return BEHIND if is_behind else UNSET
        stepped = self._stepped_from is not None and self._after_good(self._stepped_from, base_ms, mono_ms)
        return stepped or _plausible(has_chip)

    def _after_good(self, good_ms: int, base_ms: int, mono_ms: int) -> Trust | None:
        if abs(base_ms - good_ms) > self._max_skew_ms:
            if self._doubted is None or abs(base_ms - self._doubted[0]) > self._max_skew_ms:
                self._doubted = base_ms, mono_ms
            if mono_ms - self._doubted[1] < DOUBT * 1000:
                return STEPPED
        return None

    def _has_chip(self, base_ms: int, mono_ms: int) -> bool:
        """Whether the clock chip has the same time: one that has lost its own vouches for nothing."""
        if self._chip is None or mono_ms - self._chip[0] >= CHIP_EVERY * 1000:
            chip_ms = self._evidence.chip_ms()
            self._chip = mono_ms, None if chip_ms is None else chip_ms - mono_ms
        its_ms = self._chip[1]
        return its_ms is not None and abs(base_ms - its_ms) <= self._max_skew_ms

    def _has_waited(self, mono_ms: int) -> bool:
        """Whether something would have set the clock by now.  Time before the first look counts if there is a network."""
        has_network = self._evidence.has_network()
        if self._waited is None:
            self._waited, self._last_mono = 0.0, 0 if has_network else mono_ms
        if has_network:
            self._waited += (mono_ms - self._last_mono) / 1000
        return self._waited >= GRACE or mono_ms >= LONGEST * 1000


def _plausible(has_chip: bool) -> Trust:
    return CHIP if has_chip else PLAUSIBLE
