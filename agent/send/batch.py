"""From what a cursor read to a request: what is too old or relabeled away is left out, the rest encoded.

Promises:
1. The same chunk, protocol and families give the same bytes, so a retry repeats the same samples.
2. Every sample of a chunk is accounted for: in the request, or in `dropped` as aged, relabeled or repeated.
3. With remote write 1.0 a metric's type, unit and help are sent along with its samples, when they have not been
   delivered for `metadata_config.send_interval`; with 2.0 they are in each request.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

import snappy

from agent.config import MetadataConfig, RemoteWrite
from agent.destinations.remote_write.encode import Encoded, Encoder, Relabel
from agent.destinations.remote_write.encode1 import Encoder1
from agent.destinations.remote_write.encode2 import Encoder2
from agent.destinations.remote_write.outcome import Outcome
from agent.destinations.remote_write.protocol import Protocol
from agent.send.poison import AGED, REJECTED, Poison
from buffer.model import Chunk, Tick

RELABELED = "relabeled"


class Request(NamedTuple):
    """A compressed body, the protocol it is written in, and the samples in it."""

    body: bytes
    protocol: Protocol
    samples: int


class Batch(NamedTuple):
    """Samples on their way: their request, and what the cursor is told when they are settled."""

    request: Request
    """With all samples, or with `poison` those that are asked about."""
    chunk: Chunk
    ticks: Sequence[Tick]
    """The chunk's, without those that are too old."""
    samples: int
    dropped: Mapping[str, int]
    """By reason, what of the chunk is in no request."""
    families: Collection[str] = ()
    """The metrics that are described in the request."""
    poison: Poison | None = None
    """The search for the culprits, after the batch was refused."""

    @property
    def repeated(self) -> int:
        """Samples that repeat an instant of their series."""
        return self.dropped.get(REJECTED, 0)


class Composer:
    """Makes the batches of one destination. `from_boot` are the groups whose counters began with the host's boot."""

    def __init__(self, to: RemoteWrite, from_boot: frozenset[str]) -> None:
        self._relabel, self._from_boot = _relabel(to), from_boot
        self._metadata = to.metadata_config
        self._age_limit_ms = int(to.queue_config.sample_age_limit * 1000)
        self._described = Described(self._metadata)
        self._protocol = Protocol.V1
        self._encoder: Encoder = Encoder1(self._relabel)

    def speak(self, protocol: Protocol) -> None:
        """From now on encode for this protocol."""
        if protocol is self._protocol:
            return
        self._protocol = protocol
        if protocol is Protocol.V1:
            self._encoder = Encoder1(self._relabel)
        else:
            self._encoder = Encoder2(self._relabel, metadata=self._metadata.send, from_boot=self._from_boot)

    def batch(self, chunk: Chunk, now: float, wall_ms: int) -> Batch:
        """The batch of a chunk; without samples where nothing of it is to be sent. `now` is monotonic seconds."""
        ticks: Sequence[Tick] = chunk.ticks
        if self._age_limit_ms:
            ticks = [tick for tick in ticks if not self._is_aged(tick, wall_ms)]
        families = self._described.due(self._encoder.families(ticks), now)
        encoded = self._encoder.encode(ticks, families)
        dropped = {
            AGED: _samples(chunk.ticks) - _samples(ticks) if len(ticks) < len(chunk.ticks) else 0,
            RELABELED: encoded.relabeled,
            REJECTED: encoded.repeated,
        }
        counted = {reason: count for reason, count in dropped.items() if count}
        return Batch(self._request(encoded), chunk, ticks, encoded.samples, counted, families)

    def is_outdated(self, batch: Batch, protocol: Protocol, wall_ms: int) -> bool:
        """Whether a batch that waited is to be made anew: something else is spoken, or some of it is too old now."""
        if batch.request.protocol is not protocol:
            return True
        return batch.poison is None and self._is_aged(batch.ticks[0], wall_ms)

    def _is_aged(self, tick: Tick, wall_ms: int) -> bool:
        return bool(self._age_limit_ms) and wall_ms - tick.at.wall_ms > self._age_limit_ms

    def delivered(self, batch: Batch, now: float) -> None:
        """A batch was delivered, and what is described in it."""
        self._described.sent(batch.families, now)

    def request(self, ticks: Iterable[Tick]) -> Request:
        """A request with these ticks alone."""
        return self._request(self._encoder.encode(ticks))

    def _request(self, encoded: Encoded) -> Request:
        return Request(bytes(snappy.compress(encoded.body)), self._protocol, encoded.samples)

    def poison(self, batch: Batch, refused: Outcome, suspects: frozenset[bytes]) -> Poison:
        """Begin the search for the culprits of a batch that was refused."""
        return Poison(batch.ticks, self._encoder.labels, refused, suspects)


class Described:
    """When each metric's metadata was delivered last, with remote write 1.0."""

    def __init__(self, config: MetadataConfig) -> None:
        self._config = config
        self._sent: dict[str, float] = {}

    def due(self, families: Collection[str], now: float) -> list[str]:
        """Those of the metrics that are to be described now, `max_samples_per_send` at most, sorted."""
        if not self._config.send:
            return []
        before = now - self._config.send_interval
        found = sorted(name for name in families if self._sent.get(name, before) <= before)
        return found[: self._config.max_samples_per_send]

    def sent(self, families: Iterable[str], now: float) -> None:
        """These were delivered."""
        self._sent.update(dict.fromkeys(families, now))


def _relabel(to: RemoteWrite) -> Relabel | None:
    if not to.write_relabel_configs:
        return None
    from agent.relabel import compile_rules  # who has no rules does not pay for it

    return compile_rules(to.write_relabel_configs)


def _samples(ticks: Iterable[Tick]) -> int:
    return sum(len(tick.values) for tick in ticks)
