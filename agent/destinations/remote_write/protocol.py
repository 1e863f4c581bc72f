"""Which remote write a receiver speaks, and how that is found out: pure functions over values.

| 2.0 was sent, and the answer is                  | `auto`                        | only 2.0 is configured |
|--------------------------------------------------|-------------------------------|------------------------|
| 2xx with the written-counts, and they match      | delivered; it speaks 2.0      | delivered              |
| 2xx without them, or they say less               | sent again as 1.0             | held                   |
| 415                                              | sent again as 1.0             | held                   |
| 400 without counts, and none was ever seen       | sent again as 1.0             | refused, bisected      |
| anything else                                    | as `outcome` has it           | as `outcome` has it    |

A receiver that knows only 1.0 can answer 204 to a 2.0 message and store nothing of it, because its fields have
other numbers: only the counts show that it was understood (remote write 2.0, "Required Written Response
Headers"). An old server that does try to read it answers 400. After a fall-back 1.0 is spoken for a day, or
until a restart. 415 to 1.0 holds: no part of the batch is at fault, and an operator can choose the protocol. With `auto`
2.0 is spoken again from the next probe on, so a receiver of 2.0 alone is never left for a single answer.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from agent.destinations.base import Outcome, Verdict

AGAIN_AFTER = 86_400.0
"""Seconds after a fall-back at which 2.0 is tried again."""
UNPROVEN = 1000
"""Samples in a request to a receiver that has not shown yet that it speaks 2.0: it may have to be sent again."""


class Protocol(Enum):
    """A remote write protocol, by the name of its message."""

    V1 = "prometheus.WriteRequest"
    V2 = "io.prometheus.write.v2.Request"

    @property
    def version(self) -> str:
        """What people call it."""
        return "1.0" if self is Protocol.V1 else "2.0"


HEADERS = {
    Protocol.V1: {
        "Content-Encoding": b"snappy",
        "Content-Type": b"application/x-protobuf",
        "X-Prometheus-Remote-Write-Version": b"0.1.0",
    },
    Protocol.V2: {
        "Content-Encoding": b"snappy",
        "Content-Type": b"application/x-protobuf;proto=io.prometheus.write.v2.Request",
        "X-Prometheus-Remote-Write-Version": b"2.0.0",
    },
}


EMPTY = {Protocol.V1: b"\x00", Protocol.V2: b"\x02\x04\x22\x00"}
"""A write request without series, compressed: what a held destination is probed with. 2.0 has its empty symbol."""


UNREADABLE = b"\x0c\x2c" + b"\xff" * 12
"""A block of snappy, so that it is unpacked, with a varint that has no end: no field of any message."""


class Speech(NamedTuple):
    """What is spoken to a receiver, and what is known of it."""

    protocol: Protocol
    chosen: bool
    """By the configuration, and not to be changed."""
    proven: bool = False
    """It has answered a 2.0 message with the counts."""
    again_at: float = 0.0
    """When 2.0 is tried again, after a fall-back; monotonic seconds."""

    @property
    def is_open(self) -> bool:
        """Whether the next answer may show that something else has to be spoken."""
        return self.protocol is Protocol.V2 and not self.chosen and not self.proven


def begin(message: str) -> Speech:
    """What is spoken first, given `protobuf_message`."""
    if message == "auto":
        return Speech(Protocol.V2, chosen=False)
    return Speech(Protocol(message), chosen=True)


def now(speech: Speech, clock: float) -> Speech:
    """What is spoken at this time: 2.0 is tried again when a day has passed."""
    if not speech.chosen and speech.protocol is Protocol.V1 and clock >= speech.again_at:
        return Speech(Protocol.V2, chosen=False)
    return speech


def heard(speech: Speech, samples: int, outcome: Outcome, clock: float) -> tuple[Speech, Outcome]:
    """Return what an answer to `samples` samples shows of the receiver, and what it means for them."""
    if speech.protocol is Protocol.V1:
        if outcome.status == 415 and outcome.verdict is Verdict.REJECTED:
            do = "it takes no remote write 1.0; correct protobuf_message or the url"
            if not speech.chosen:
                # We fell back to 1.0 because of an answer that no receiver of 1.0 gave; try 2.0 again.
                speech = Speech(Protocol.V2, chosen=False)
            outcome = Outcome(Verdict.HELD, outcome.status, f"{outcome.error}: {do}")
        return speech, outcome
    delivered, written = outcome.verdict is Verdict.DELIVERED, outcome.written
    if written is not None:
        speech = speech._replace(proven=True)
    if delivered and (written == samples or not samples):
        return speech, outcome  # receivers differ in whether they count nothing
    if delivered or outcome.status == 415:
        counted = "no samples" if written is None else f"{written} of {samples} samples"
        said = f"HTTP {outcome.status}: it counts {counted}" if delivered else outcome.error or ""
        if speech.chosen:
            do = "it does not speak remote write 2.0; set protobuf_message to auto"
            return speech, Outcome(Verdict.HELD, outcome.status, f"{said}: {do}")
    elif outcome.status == 400 and speech.is_open:
        said = outcome.error or ""
    else:
        return speech, outcome
    older = Speech(Protocol.V1, chosen=False, again_at=clock + AGAIN_AFTER)
    return older, Outcome(Verdict.REWRITE, outcome.status, said)
