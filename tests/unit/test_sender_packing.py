"""zstd goes to who shows itself as VictoriaMetrics, and a receiver that does not take it loses nothing by it."""

from __future__ import annotations

from collections.abc import Sequence

import cramjam
import pytest
import snappy

from agent.destinations.base import Request
from agent.destinations.remote_write.packing import MARK
from agent.destinations.remote_write.protocol import AGAIN_AFTER
from agent.http.answer import Answer
from agent.http.failures import Failure
from buffer.model import Series
from tests.support import wire
from tests.support.scripted import DELIVERED, RETRY, UNREAD, Rig, Script

MARKED = Answer(204, {MARK: "vm"}, b"")
WRONG = Answer(400, {}, b"snappy: corrupt input")


class Packed(Script):
    """A receiver that says what VictoriaMetrics says (`mark`), and answers a body in zstd with `to_zstd`; None: it takes it.

    `packings` are those of the requests that it was sent, "proof" what nobody can read.
    """

    def __init__(self, to_zstd: Answer | None = None, mark: Answer = MARKED) -> None:
        super().__init__(rest=mark)
        self.to_zstd, self.packings = to_zstd, list[str]()
        self.to_unreadable = UNREAD._replace(headers=mark.headers)
        self.takes_anything = False

    def exchange(self, request: Request, attempt: int = 0, within: float | None = None) -> Answer | Failure:
        packing = request.headers["Content-Encoding"].decode()
        self.packings.append(packing)
        if packing == "zstd":
            if self.to_zstd is not None:
                return self.to_zstd
            plain = bytes(cramjam.zstd.decompress(request.body))
            if plain.startswith(b"\xff"):
                self.packings[-1] = "zstd proof"
                return MARKED if self.takes_anything else UNREAD
            request = request._replace(body=bytes(snappy.compress(plain)))
        return super().exchange(request, attempt, within)


def sent(script: Packed, ticks: int = 4) -> tuple[Rig, Sequence[str]]:
    """Return a host that has sent so many ticks, one each time, and how the requests were packed."""
    rig = Rig(script=script)
    for _ in range(ticks):
        send(rig)
    return rig, script.packings


def send(rig: Rig) -> None:
    rig.collect()
    rig.now += 30
    rig.drain()
    assert rig.script.stored == rig.everything()
    assert not rig.ledger[1]


def test_zstd_is_sent_to_who_shows_itself_once_it_has_shown_that_it_reads_it() -> None:
    _, packings = sent(Packed())
    assert packings == ["snappy", "snappy", "zstd", "zstd proof", "zstd", "zstd"]


def test_it_costs_nobody_else_a_request() -> None:
    _, packings = sent(Packed(WRONG, DELIVERED))
    assert packings == ["snappy"] * 5


@pytest.mark.parametrize("status", [400, 415, 500, 501])
def test_who_does_not_take_it_is_sent_the_same_in_snappy_at_once_and_asked_again_a_day_later(
    status: int,
) -> None:
    script = Packed(WRONG._replace(status=status))
    rig, packings = sent(script)
    assert packings == ["snappy", "snappy", "zstd", "snappy", "snappy", "snappy"]
    rig.now += AGAIN_AFTER
    send(rig)
    script.to_zstd = None
    send(rig)
    send(rig)
    assert packings[6:] == ["snappy", "zstd", "zstd proof", "zstd"]


@pytest.mark.parametrize("status", [400, 415])
def test_a_receiver_that_is_replaced_by_an_older_one_loses_nothing(status: int) -> None:
    script = Packed()
    rig, packings = sent(script)
    script.to_zstd, script.rest = WRONG._replace(status=status), DELIVERED
    send(rig)
    assert packings[-3:] == ["zstd", "snappy", "snappy"]  # and a proof: its answers look otherwise
    script.answers = [RETRY, RETRY]
    send(rig)
    assert "zstd" not in packings[-3:]


def test_who_takes_anything_in_zstd_is_sent_the_same_in_snappy() -> None:
    script = Packed()
    script.takes_anything = True
    script.store = lambda write: None  # type: ignore[method-assign]
    rig = Rig(script=script)
    for _ in range(3):
        rig.collect()
        rig.now += 30
        rig.drain()
    assert script.packings == ["snappy", "snappy", "zstd", "zstd proof", "snappy", "snappy"]
    assert rig.lane.error is None


def test_samples_that_are_refused_in_zstd_are_refused_in_snappy_before_that_counts() -> None:
    script = Packed()
    rig, packings = sent(script)
    script.refuse = lambda write: Answer(400, {}, b"label value too long") if write.samples else None
    rig.collect()
    rig.now += 30
    rig.drain()
    assert rig.ledger[1] == {"rejected": 2}
    assert packings[packings.index("zstd proof") + 3] == "zstd"
    assert "snappy" in packings[-3:]


def test_what_is_in_it_is_the_same_message() -> None:
    script = Packed()
    rig, _ = sent(script, 8)
    decoded = [wire.decode(body) for body in script.bodies]
    assert [one.samples for one in decoded] == [2] * 8
    assert rig.ledger == (16, {})


def test_a_chunk_that_is_begun_continues_and_no_part_of_it_goes_out_twice() -> None:
    script = Packed()
    rig = Rig(script=script)
    rig.collect(1, tuple(Series(f"m{n}", (("hostname", "a"),)) for n in range(35)))
    rig.drain()
    assert sum(script.sizes) == 35
    assert script.packings[2:] == ["zstd", "zstd proof", *["zstd"] * (len(script.sizes) - 2)]
    assert rig.ledger == (35, {})
