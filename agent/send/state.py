"""What follows from each outcome: one table, and the waits. No clock, no socket, no randomness of its own.

`TABLE` is the table that docs/sender.md shows. Promises:

- Samples leave a destination only by being settled: delivered, or refused for good by the receiver.
- HELD and WAITING have no way out that loses something; both end by themselves.
- After PATIENCE failures of the same request an empty probe goes out instead. While that is not answered, nothing else does;
  when it is answered, the request is sent once more. Then its sender may doubt it (`Batch.divide`), and each failure is
  followed by a probe.
- Requests begin with at most USUAL samples. While a backlog goes out and the receiver answers quickly, they grow: to FEW, or to MANY
  over a long way, and to TICKS ticks of the series in them if that is more, so that each label travels and is encoded once for
  all of these. LARGEST bounds them in bytes. When the backlog is gone they begin as small as before: what a receiver took before an outage
  says little about the one after it.
- A request that was too large is halved at once, in samples and in bytes. Twice that size is tried again after GROW
  full requests that were taken, and each time it fails, after twice as many.
- A refusal counts only where the receiver has judged the samples, a 2xx only where a receiver has given it.
- Probes become rarer until something was delivered, so that a receiver that takes an empty write and refuses every
  other is not asked more often than one that refuses both.
- A wait is never shorter than the minimum and, but for what a receiver asks for, never longer than the maximum; what a
  receiver asks for is honored up to LONGEST_WISH. Hosts that failed at the same moment, or were given the same time, do
  not come back at the same moment (jitter; `random` is 0 <= r < 1).
- While a receiver is not reached, which costs it nothing, tries are LONGEST_UNREACHED seconds apart at most, without limit; and
  they say nothing about the request.
"""

from __future__ import annotations

from enum import Enum, StrEnum
from typing import NamedTuple

from agent.destinations.base import Outcome, Request, Verdict
from agent.send.pace import FIRST_PAUSE
from buffer.hints import Size

LONGEST_WISH = 900.0
"""Seconds of a Retry-After that are honored: beyond that, asking again costs less than a wrong header."""

LARGEST = 1_000_000
"""Bytes in a request, compressed: below the limit of 1 MiB that a gateway has by default, and decompressed, at 21 to 1
at most (snappy), below the 32 MiB of the usual receivers."""
USUAL = 10_000
"""Samples in a request in normal operation."""
FEW, MANY = 20_000, 50_000
"""Samples in a request while a backlog goes out, for any number of series; the second where an answer takes longer than LONG."""
LONG = 0.1
"""Seconds for an answer: the way is long, so what goes out in a second depends on the size of a request (docs/decisions/0068)."""
TICKS = 20
"""Behind that the labels are a tenth of a request, and memory grows for little."""
QUICKLY = 5.0
"""Seconds for an answer, within which requests may grow; after twice that they shrink."""
SMALLEST = 512
"""Bytes that any receiver takes; below that, heads of requests cost more than what is in them."""
GROW = 16
"""Full requests that were taken, before a request of twice the size is tried."""
SLOWEST = 4096

PATIENCE = 4
"""Failures of the same request before a probe shows whether the receiver answers anything at all."""

LONGEST_UNREACHED = 8.0
"""Seconds between two tries to reach a receiver. It bounds both how late a host is back, and how many of a fleet are back in the
same second (docs/decisions/0047)."""

_MAX_DOUBLINGS = 63  # a larger power would overflow a float at some point


class State(StrEnum):
    """What a destination's lane is doing."""

    IDLE = "idle"
    """Everything that is due has been sent."""
    SENDING = "sending"
    WAITING = "waiting"
    """A request failed and will be repeated."""
    HELD = "held"
    """An operator has to correct something; nothing is sent but probes."""
    STOPPED = "stopped"


class Wait(Enum):
    """How long until the next request."""

    NONE = "none"
    BACKOFF = "`min_backoff` to `max_backoff`, or `Retry-After`; not reached: 8 s at most"
    PROBE = "2 s to 5 minutes; not reached: 8 s at most"


class Sent(Enum):
    """What was answered."""

    BATCH = "a batch"
    CHECK = "a check"
    """Of an answer that does not count yet."""
    QUESTION = "a probe, while a request fails"
    """Of a destination that fails to take a request again and again."""
    PROBE = "a probe"
    """Of a held destination."""


class Row(NamedTuple):
    """A row of the table."""

    sent: Sent
    verdict: Verdict
    then: State
    wait: Wait
    samples: str
    """What happens to the samples of the batch."""


TABLE = (
    Row(Sent.BATCH, Verdict.DELIVERED, State.IDLE, Wait.NONE, "settled"),
    Row(Sent.BATCH, Verdict.UNPROVEN, State.IDLE, Wait.NONE, "kept until a check is answered"),
    Row(Sent.BATCH, Verdict.REJECTED, State.IDLE, Wait.NONE, "sent in parts until the culprits are found"),
    Row(Sent.BATCH, Verdict.REWRITE, State.IDLE, Wait.NONE, "sent again in another format"),
    Row(Sent.BATCH, Verdict.TOO_LARGE, State.IDLE, Wait.NONE, "sent again in two requests of half the size"),
    Row(Sent.BATCH, Verdict.RETRY, State.WAITING, Wait.BACKOFF, "sent again, the same request"),
    Row(Sent.BATCH, Verdict.HELD, State.HELD, Wait.PROBE, "kept"),
    Row(Sent.CHECK, Verdict.DELIVERED, State.IDLE, Wait.NONE, "delivered or rejected, as was answered"),
    Row(Sent.CHECK, Verdict.UNPROVEN, State.HELD, Wait.PROBE, "kept"),
    Row(Sent.CHECK, Verdict.REJECTED, State.HELD, Wait.PROBE, "kept"),
    Row(Sent.CHECK, Verdict.REWRITE, State.IDLE, Wait.NONE, "sent again, perhaps in another format"),
    Row(Sent.CHECK, Verdict.TOO_LARGE, State.HELD, Wait.PROBE, "kept"),
    Row(Sent.CHECK, Verdict.RETRY, State.WAITING, Wait.BACKOFF, "kept; the check is sent again"),
    Row(Sent.CHECK, Verdict.HELD, State.HELD, Wait.PROBE, "kept"),
    Row(
        Sent.QUESTION,
        Verdict.DELIVERED,
        State.IDLE,
        Wait.NONE,
        "sent again; in halves where that was in vain",
    ),
    Row(Sent.QUESTION, Verdict.UNPROVEN, State.WAITING, Wait.BACKOFF, "kept"),
    Row(Sent.QUESTION, Verdict.REJECTED, State.WAITING, Wait.BACKOFF, "kept"),
    Row(Sent.QUESTION, Verdict.REWRITE, State.IDLE, Wait.NONE, "sent again in another format"),
    Row(Sent.QUESTION, Verdict.TOO_LARGE, State.WAITING, Wait.BACKOFF, "kept"),
    Row(Sent.QUESTION, Verdict.RETRY, State.WAITING, Wait.BACKOFF, "kept"),
    Row(Sent.QUESTION, Verdict.HELD, State.HELD, Wait.PROBE, "kept"),
    Row(Sent.PROBE, Verdict.DELIVERED, State.IDLE, Wait.NONE, "sent"),
    Row(Sent.PROBE, Verdict.UNPROVEN, State.HELD, Wait.PROBE, "kept"),
    Row(Sent.PROBE, Verdict.REJECTED, State.HELD, Wait.PROBE, "kept"),
    Row(Sent.PROBE, Verdict.REWRITE, State.HELD, Wait.NONE, "kept; the probe is sent in another format"),
    Row(Sent.PROBE, Verdict.TOO_LARGE, State.HELD, Wait.PROBE, "kept"),
    Row(Sent.PROBE, Verdict.RETRY, State.HELD, Wait.PROBE, "kept"),
    Row(Sent.PROBE, Verdict.HELD, State.HELD, Wait.PROBE, "kept"),
)
"""By what was sent and its outcome. A check or a probe has two forms (`probe`): its outcome is that of both together."""

_ROWS = {(row.sent, row.verdict): row for row in TABLE}


class Rules(NamedTuple):
    """Seconds: the minimum and the maximum between tries, and between probes; the first pause after an outage.

    The first probe comes after twice the minimum at most.
    """

    min_backoff: float
    max_backoff: float
    min_probe: float = 1.0
    max_probe: float = 300.0
    first_pause: float = FIRST_PAUSE


class Situation(NamedTuple):
    """What a delivery knows of its receiver's mood. Times are monotonic seconds."""

    limit: int
    """The most samples in a request."""
    state: State = State.IDLE
    failures: int = 0
    """Failed tries of the request at hand, in a row."""
    probes: int = 0
    """Times it was held since something was delivered, but for those when it was not reached."""
    not_before: float = 0.0
    """When the next request may go out."""
    error: str | None = None
    """What is or was wrong last; None after a delivery."""
    largest: int = LARGEST
    """The most bytes in a request."""
    full: int = 0
    """Requests of about that size that were taken since it was changed."""
    grow: int = GROW
    """How many of them make it grow."""
    answered: bool = False
    """A probe was answered since the request at hand failed."""
    doubted: bool = False
    """The request at hand is a part of one that failed although a probe was answered."""
    troubles: int = 0
    """The failures, in a row, of tries that have reached the receiver."""

    @property
    def enough(self) -> int:
        """The samples that are sent without waiting for more."""
        return min(self.limit, USUAL)

    @property
    def asks(self) -> bool:
        """Whether the next request is a probe."""
        is_new = self.grow > GROW and not self.full  # a size that was not taken yet
        patience = 1 if self.doubted or is_new else PATIENCE
        in_vain = self.state is State.WAITING and self.troubles >= patience and not self.answered
        return in_vain or self.state is State.HELD


def after(
    was: Situation, sent: Sent, request: Request, outcome: Outcome, now: float, rules: Rules, random: float
) -> Situation:
    """Return the situation after a request was answered: samples, a check of such an answer, or a probe."""
    verdict = outcome.verdict
    if verdict is Verdict.TOO_LARGE and sent is Sent.BATCH:
        if request.samples > 1:
            was = shrunk(was, *_smaller(request, outcome.went))
        else:  # which only the receiver's limit can help
            verdict = Verdict.HELD
    row = _ROWS[sent, verdict]
    if verdict is Verdict.DELIVERED and sent is Sent.BATCH:
        return Situation(was.limit, largest=was.largest, full=was.full, grow=was.grow, doubted=was.doubted)
    if verdict is Verdict.DELIVERED and sent in (Sent.PROBE, Sent.QUESTION):
        return was._replace(state=State.IDLE, answered=True)
    found = was._replace(state=row.then, failures=0, troubles=0, error=outcome.error, answered=False)
    if row.wait is not Wait.NONE and outcome.is_unreached:
        failures, most = was.failures + 1, min(rules.max_backoff, LONGEST_UNREACHED)
        wait = even(failures, rules.min_backoff, most, random)
        return found._replace(failures=failures, troubles=was.troubles, not_before=now + wait)
    if row.wait is Wait.BACKOFF:
        failures, troubles = was.failures + 1, was.troubles + 1
        wait = honored(outcome.after) + backoff(troubles, rules.min_backoff, rules.max_backoff, random)
        return found._replace(failures=failures, troubles=troubles, not_before=now + wait)
    if row.wait is Wait.PROBE:
        probes, wish = was.probes + 1, outcome.after if verdict is Verdict.RETRY else None
        wait = honored(wish) + even(probes, rules.min_probe, rules.max_probe, random)
        return found._replace(probes=probes, not_before=now + wait)
    keeps_error = sent is not Sent.BATCH or verdict in (Verdict.REWRITE, Verdict.UNPROVEN)
    return found._replace(error=was.error) if keeps_error else found


def _smaller(request: Request, went: int | None) -> tuple[int, int]:
    """Return the samples and bytes to try after a request that was too large.

    `went`: so many bytes went in its time, and the next one is to have as much time again for its answer.
    """
    whole, samples = len(request.body), request.samples
    if went is None:
        # Each half has symbols and labels of its own: it is larger than half of the whole.
        return samples // 2, whole * 3 // 4
    size = min(went, whole) // 2
    return samples * size // whole, size


def shrunk(was: Situation, samples: int, size: int) -> Situation:
    """Return the situation with requests of so many samples and bytes at most."""
    limit, largest = min(was.limit, max(samples, 1)), min(was.largest, max(size, SMALLEST))
    return was._replace(limit=limit, largest=largest, full=0, grow=min(2 * was.grow, SLOWEST))


def grown(was: Situation, request: Request, most: int, series: int = 0, seconds: float = 0.0) -> Situation:
    """Return the situation after this request was taken, in so many seconds. `most` samples are configured.

    `series` are those of the chunk that it is of.
    """
    most = min(most, max(MANY if seconds > LONG else FEW, TICKS * series))
    if was.limit > USUAL and seconds > 2 * QUICKLY:
        return was._replace(limit=max(USUAL, was.limit // 2), full=0)
    if 2 * request.samples < was.limit and 2 * len(request.body) < was.largest:
        return was  # a small one, which shows nothing
    if was.limit >= most and was.largest >= LARGEST:
        return was._replace(limit=most, full=0, grow=GROW)
    if was.limit >= USUAL and was.largest >= LARGEST and was.grow <= GROW:  # nothing was too large lately
        if seconds > QUICKLY:
            return was
        fits = request.samples * (LARGEST * 9 // 10) // len(request.body)
        return was._replace(limit=max(USUAL, min(2 * was.limit, most, fits)), full=0)
    if was.full + 1 < was.grow:
        return was._replace(full=was.full + 1)
    return was._replace(limit=min(2 * was.limit, most), largest=min(2 * was.largest, LARGEST), full=0)


def rested(was: Situation) -> Situation:
    """Return the situation when there is no backlog any more."""
    return was._replace(limit=was.enough, full=0) if was.limit > USUAL else was


def kept(now: Situation, most: int) -> Size | None:
    """Return the largest request that goes out, to be kept over a restart; None where it is what is configured."""
    return Size(now.limit, now.largest) if now.limit < min(most, USUAL) or now.largest < LARGEST else None


def recalled(was: Situation, size: Size | None) -> Situation:
    """Return the situation after a restart, with what was kept."""
    return was if size is None else shrunk(was, *size)._replace(grow=GROW)


def backoff(attempt: int, least: float, most: float, random: float) -> float:
    """Return seconds to wait after failure number `attempt` (from 1): full jitter over least..least * 2^attempt."""
    return least + (_ceiling(attempt, least, most) - least) * random


def even(attempt: int, least: float, most: float, random: float) -> float:
    """Return seconds to wait after failure number `attempt` (from 1): 60 to 100 % of least * 2^attempt, `most` at most.

    Tries at an even distance find a receiver that is back sooner than with full jitter, for as many tries.
    """
    return max(least, _ceiling(attempt, least, most) * (0.6 + 0.4 * random))


def _ceiling(attempt: int, least: float, most: float) -> float:
    return max(least, min(most, least * 2.0 ** min(attempt, _MAX_DOUBLINGS)))


def honored(wish: float | None) -> float:
    """Return how many of the seconds that a receiver asks for are waited; jitter comes on top."""
    return min(max(wish or 0.0, 0.0), LONGEST_WISH)
