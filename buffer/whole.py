"""Some ticks as the bytes of one whole segment file (`buffer.segment`, from position 0), and back.

Promises: `ticks_of(pack(ticks))` are the same ticks in the same order, every value bit for bit.  Nothing is passed over
in silence: what cannot be read ends with ValueError, after everything before it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from buffer import segment
from buffer.codec import Decoder, Encoder
from buffer.model import Tick
from buffer.segment import Header, Record

MOST = 50_000
"""Samples of a record: with those of a tick more it is still within what the codec takes."""


def pack(ticks: Sequence[Tick]) -> bytes:
    """Return the segment. Raises ValueError where there is no sample, or a tick cannot be stored."""
    return segment.encode_header(Header(0)) + b"".join(records(_runs(ticks), 0))


def records(runs: Iterable[Sequence[Tick]], seq: int) -> Iterator[bytes]:
    """Yield a record for each run of ticks of one instant, the first with a key frame. Raises ValueError where there is none."""
    encoder, first = Encoder(), seq
    for run in runs:
        body, key = encoder.encode(run, 0)
        end = seq + sum(len(tick.values) for tick in run)
        yield segment.encode(0, Record(seq, end, run[0].at.wall_ms, end - seq, key, body))
        seq = end
    if seq == first:
        raise ValueError("there is nothing to keep")


def ticks_of(data: bytes) -> Iterator[list[Tick]]:
    """Yield the ticks of a segment, record by record. Raises ValueError."""
    if segment.decode_header(data, 0) is None:
        raise ValueError("its header is damaged")
    decoder, at = Decoder(), segment.HEADER.size
    while (found := segment.decode(data, at, 0)) is not None:
        if isinstance(found, Record):
            yield decoder.decode(found.body, found.wall_ms, found.key).ticks
            at = found.after
            continue
        raise ValueError(f"there is no valid record at byte {at}")


def _runs(ticks: Iterable[Tick]) -> Iterator[list[Tick]]:
    """Yield consecutive ticks of one instant, no group twice, and none without a sample."""
    run: list[Tick] = []
    for tick in ticks:
        is_next = run and (
            tick.at != run[0].at
            or any(tick.group == one.group for one in run)
            or sum(len(one.values) for one in run) > MOST
        )
        if is_next:
            yield run
            run = []
        if tick.values:
            run.append(tick)
    if run:
        yield run
