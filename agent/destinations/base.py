"""What a destination type is: a value with a few functions, and the words that they share with a delivery.

| function   | given                       | returns                                                                  |
|------------|-----------------------------|--------------------------------------------------------------------------|
| `encode`   | ticks                       | a `Request` with all that the type can carry, and what was left out      |
| `classify` | a request, and what came of it | an `Outcome`: a verdict, with what the receiver said                  |
| `probe`    | nothing                     | a request without samples, which shows whether the way to the receiver is open |
| `carries`  | a series                    | the identity by which the receiver knows it; None: it cannot be sent     |
| `storable` | ticks                       | the same without values that the receiver cannot store; a type that stores any has none |

Promises that every type keeps, and a delivery relies on:

1. The same ticks give the same samples in the same order, so a retry repeats them, also after a restart.
2. Every sample of the ticks is accounted for: it is in the request, or counted in `dropped` by its reason.
3. Series of one identity are one: their samples are together in time order, no instant twice.
4. `classify` never raises, whatever a receiver sends, and no secret is in an `Outcome`.

How a request travels is not the type's business: a `Wire` takes it and returns an `Answer` or a `Failure`
(`agent.http`). A type without HTTP brings a wire of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import NamedTuple

from agent.http.answer import Answer
from agent.http.failures import Cause, Failure
from buffer.model import Series, Tick

AGED, DUPLICATE, REJECTED, RELABELED, APART = "aged", "duplicate", "rejected", "relabeled", "apart"
UNSTORABLE, UNCHANGED = "unstorable", "unchanged"
"""Reasons of the ledger for which a sample is not delivered. What is apart is tried again."""


class Verdict(Enum):
    """What becomes of the samples in a request."""

    DELIVERED = "delivered"
    RETRY = "retry"
    HELD = "held"
    TOO_LARGE = "too large"
    REJECTED = "rejected"
    UNPROVEN = "unproven"
    """The answer does not count before a small request has shown that the receiver itself gave it."""
    REWRITE = "rewrite"
    """The receiver does not understand the format: the same samples are encoded again, and sent at once."""


class Age(Enum):
    """What a refusal says about the age of samples."""

    WINDOW = "window"
    """Older than the receiver takes from anybody: true of everything of that time."""
    ORDER = "order"
    """Not newer than what the receiver has of that series: true of the series, perhaps of all."""
    DUPLICATE = "duplicate"
    """The receiver has another value of that series for the same time: true of the series, perhaps of all."""


class Outcome(NamedTuple):
    """A verdict, and what the receiver said."""

    verdict: Verdict
    status: int = 0
    """The HTTP status, or the type's own code; 0: there was no answer."""
    error: str | None = None
    """What was wrong, for the log and the status: on one line, cut, without secrets."""
    after: float | None = None
    """Seconds for which the receiver wants to be left alone."""
    went: int | None = None
    """Bytes of the request that arrived in its time, where the link was too slow for it."""
    written: int | None = None
    """How many samples the receiver says that it stored; None where it says nothing."""
    date: float | None = None
    """The receiver's time (Unix seconds); None where it says nothing, or somebody else may have answered."""
    age: Age | None = None
    """Set where the samples were refused for their age."""
    advice: str | None = None
    """What an operator can do about it, where that is known."""
    found: str | None = None
    """The version of the format that the receiver was just found to understand."""
    is_unreached: bool = False
    """The receiver was not reached: the try has cost it nothing, or the refusal of a connection."""
    cause: Cause | None = None
    """What went wrong where there was no answer."""
    check: Request | None = None
    """With UNPROVEN: what has to be sent, and its outcome be DELIVERED, before the samples count as delivered."""

    @property
    def reason(self) -> str:
        """The ledger's reason for samples that were refused with this."""
        return DUPLICATE if self.age is Age.DUPLICATE else AGED if self.age else REJECTED

    @property
    def lasting(self) -> Outcome:
        """The outcome without what is different in each answer: equal for all samples that were refused with the same words."""
        return self._replace(after=None, went=None, written=None, date=None, found=None)

    @property
    def proven(self) -> Outcome:
        """The outcome of samples that were taken, once its check has passed."""
        return self._replace(verdict=Verdict.DELIVERED, check=None)

    @property
    def settles(self) -> bool:
        """Whether the request is done with, one way or the other."""
        return self.verdict in (Verdict.DELIVERED, Verdict.REJECTED)


class Request(NamedTuple):
    """What goes out at once."""

    body: bytes
    samples: int
    format: str
    """The name of the destination value that encoded it."""
    headers: Mapping[str, bytes] = {}
    attempt_header: str = ""
    """The header in which the number of a repeated try travels; empty: in none."""
    note: object = None
    """The type's own, for its `classify`."""


class Encoded(NamedTuple):
    """A request, and by reason the samples that are not in it."""

    request: Request
    dropped: Mapping[str, int]


def every(ticks: Sequence[Tick]) -> Sequence[Tick]:
    """Return the ticks: any number can be stored."""
    return ticks


class Destination(NamedTuple):
    """A destination type, ready to send with: its name and its functions.

    `encode` is also given whether the ticks are a part of a request that was refused, or failed again and again: then the request
    holds their samples and nothing besides. Of what was cut for its size alone, each part is a request like any other.
    """

    name: str
    encode: Callable[[Sequence[Tick], bool], Encoded]
    classify: Callable[[Request, Answer | Failure], Outcome]
    probe: Callable[[], Request]
    carries: Callable[[Series], bytes | None]
    max_samples: int | None = None
    """The most samples that are worth a request, where that is less than what is configured."""
    storable: Callable[[Sequence[Tick]], Sequence[Tick]] = every
    """Returns ticks without the samples that the type cannot store; `encode` counts these."""


Speaks = Callable[[], Destination]
"""Says how a destination is sent to now. Where several formats are possible (remote write 2.0, then 1.0) that changes."""


def failed(request: Request, failure: Failure) -> Outcome:
    """Return the outcome of a request that got no answer: nothing that happens on the way settles samples."""
    verdict = Verdict.HELD if failure.holds else Verdict.RETRY
    if failure.went is not None and request.samples > 1:
        verdict = Verdict.TOO_LARGE
    unreached = failure.is_unreached
    return Outcome(
        verdict,
        failure.status,
        failure.text,
        failure.after,
        went=failure.went,
        is_unreached=unreached,
        cause=failure.cause,
    )
