"""A recorded hour with everything special, in files of each format: what somebody else reads of them is what was collected.

JSON lines are read by Python's json as docs/buffer.md describes them, OpenMetrics by the parser of prometheus_client, and segments are
replayed into a real Prometheus. `tests/unit/test_file_destination.py` has the bits of each NaN.
"""

from __future__ import annotations

import json
import math
import struct
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.openmetrics import parser

from agent.config import QueueConfig
from buffer.model import STALE, Labels, Series, Tick, is_stale
from tests.bench import replay
from tests.support.folders import by_labels, folder, manifests, text_of
from tests.support.limpet import limpet
from tests.support.prometheus import Prometheus
from tests.support.sending import host

TEXTS = ("a b  c", "a,b", 'a="b"', "C:\\x\\", "\\n", "Größe 温度 🌡", "a\nb\r\nc\td", " ", "17", "{}")
SPECIAL = tuple(Series("texts", (("hostname", "a"), ("text", text)), "gauge", "", text) for text in TEXTS)
RESETS = Series("work_total", (("hostname", "a"),), "counter", "", "Work.")
NUMBERS = (
    0.0,
    -0.0,
    1.5,
    math.inf,
    -math.inf,
    math.nan,
    5e-324,
    1.7976931348623157e308,
    2.0**53 + 2,
    0.1 + 0.2,
)
Bits = Mapping[Labels, list[tuple[int, bytes]]]


def rounds() -> list[list[Tick]]:
    """The recorded hour of a host, which ends now, with special values and texts, a counter that resets, and a series that ends."""
    recording = replay.load()
    found = []
    played = replay.repeated(recording, recording.samples, int(time.time() * 1000))
    for number, ticks in enumerate(played):
        values = [NUMBERS[(number + i) % len(NUMBERS)] for i in range(len(SPECIAL))]
        count = STALE if number == 100 else float(number % 37 * 1000)
        at = ticks[0].at
        found.append([*ticks, Tick(at, "special", (*SPECIAL, RESETS), [*values, count])])
    return found


def bits(samples: Mapping[Labels, list[tuple[int, float]]], *, markers: bool = False) -> Bits:
    """The samples with their values as bytes, those that are no number all alike; without markers, unless they are wanted."""
    return {
        labels: [
            (at, b"ended" if is_stale(value) else b"NaN" if math.isnan(value) else struct.pack("<d", value))
            for at, value in of
            if markers or not is_stale(value)
        ]
        for labels, of in samples.items()
    }


def written(folder_: Path, form: str, hour: list[list[Tick]]) -> dict[str, int]:
    """Write the hour into files, and return what the ledger has of what could not be."""
    queue = QueueConfig(batch_send_deadline=0.5, max_samples_per_send=5000)
    with host(folder_, folder(folder_ / "stick", format=form, queue_config=queue), ticks=0) as one:
        for ticks in hour:
            one.buffer.append(ticks)
        one.settled(60.0)
        return dict(one.cursor.ledger.dropped)


def of_json(text: str) -> Iterator[tuple[Labels, list[tuple[int, float]]]]:
    for line in text.splitlines():
        entry = json.loads(line)
        labels = tuple(sorted({**entry["labels"], "__name__": entry["name"]}.items()))
        yield labels, [(at, STALE if value == "StaleNaN" else float(value)) for at, value in entry["samples"]]


def of_openmetrics(text: str) -> Iterator[tuple[Labels, list[tuple[int, float]]]]:
    read: Any = parser.text_string_to_metric_families
    for family in read(text):
        for one in family.samples:
            labels = tuple(sorted({**one.labels, "__name__": one.name}.items()))
            yield labels, [(round(float(one.timestamp) * 1000), one.value)]


@pytest.mark.parametrize("form", ["jsonl", "openmetrics"])
def test_a_recorded_hour_is_in_its_files(tmp_path: Path, form: str) -> None:
    hour = rounds()
    dropped = written(tmp_path, form, hour)
    wanted = bits(by_labels(tick for ticks in hour for tick in ticks), markers=form == "jsonl")
    assert dropped == ({} if form == "jsonl" else {"unstorable": 1})
    assert sum(map(len, wanted.values())) > 40_000
    read = of_json if form == "jsonl" else of_openmetrics
    found: dict[Labels, list[tuple[int, float]]] = {}
    for text in text_of(tmp_path / "stick"):
        for labels, of in read(text):
            found.setdefault(labels, []).extend(of)
    assert bits(found, markers=True) == wanted
    assert sum(one["samples"] for one in manifests(tmp_path / "stick")) == sum(map(len, wanted.values()))


def test_a_recorded_hour_is_replayed_into_a_real_prometheus(tmp_path: Path, prometheus_program: Path) -> None:
    hour = rounds()
    assert written(tmp_path, "segments", hour) == {}
    wanted = bits(by_labels(tick for ticks in hour for tick in ticks))
    with Prometheus(prometheus_program, tmp_path / "there") as server:
        again = [
            limpet(
                tmp_path, "buffer replay", "--from", tmp_path / "stick", "--to", server.write_url, "--json"
            )
            for _ in range(2)
        ]
        assert [done.status for done in again] == [0, 0], again
        assert [done.json["delivered"] for done in again] == [sum(map(len, wanted.values())) + 1, 0]
        span = hour[0][0].at.wall_ms, hour[-1][0].at.wall_ms
        assert bits(server.raw_samples('{__name__=~".+", hostname=~".+"}', *span)) == wanted
