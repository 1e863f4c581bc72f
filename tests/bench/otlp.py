"""What a body costs as OTLP, next to remote write 2.0: the recorded hour of a host.

    python -m tests.bench.otlp

Prints the rows of the table in docs/otlp.md: full requests, and in brackets a request each 30 s.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from itertools import islice

from agent.config import OTLP, MetadataConfig, RemoteWrite
from agent.destinations.base import Destination
from agent.destinations.otlp.destination import otlp
from agent.destinations.remote_write.formats import remote_write
from buffer.model import Tick
from tests.bench import replay

URL = "https://example.com/v1/metrics"
FULL, STEADY = 70, 3
"""Rounds of the host in a request: 10,000 samples, and 30 s."""


def cost(spoken: Destination, rounds: Iterable[list[Tick]], size: int) -> tuple[float, float]:
    """Return the bytes a sample and the CPU seconds for a million, with so many rounds in a request."""
    size_of, samples, spent = 0, 0, 0.0
    for ticks in batches(rounds, size):
        begun = time.process_time()
        request = spoken.encode(ticks, False).request
        spent += time.process_time() - begun
        size_of, samples = size_of + len(request.body), samples + request.samples
    return size_of / samples, spent / samples * 1e6


def batches(rounds: Iterable[list[Tick]], size: int) -> Iterator[list[Tick]]:
    """Yield the ticks of so many rounds at a time."""
    left = iter(rounds)
    while chunk := list(islice(left, size)):
        yield [tick for ticks in chunk for tick in ticks]


def main() -> None:
    """Measure, and print the rows."""
    rounds = replay.load().rounds
    plain = RemoteWrite(
        url=URL,
        protobuf_message="io.prometheus.write.v2.Request",
        metadata_config=MetadataConfig(send=False),
    )
    spoken = {
        "OTLP, gzip": otlp(OTLP(url=URL))(),
        "OTLP, zstd": otlp(OTLP(url=URL, compression="zstd"))(),
        "OTLP, no compression": otlp(OTLP(url=URL, compression="none"))(),
        "remote write 2.0, no metadata": remote_write(plain)(),
    }
    for name, one in spoken.items():
        size, cpu = cost(one, rounds, FULL)
        steady_size, steady_cpu = cost(one, rounds, STEADY)
        print(f"| {name} | {size:.1f} ({steady_size:.1f}) | {cpu:.2f} ({steady_cpu:.2f}) |")


if __name__ == "__main__":
    main()
