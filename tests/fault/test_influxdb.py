"""InfluxDB's line protocol through everything that remote write goes through, over real sockets."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from agent.config import InfluxDB, QueueConfig
from agent.destinations.influxdb.destination import UNREADABLE
from agent.system.events import Event
from buffer.model import Instant, Series, Tick
from tests.support.certs import Certs
from tests.support.line_protocol import decode
from tests.support.receiver import Answer, Receiver
from tests.support.sending import BOOT, FIRST_MS, SERIES, STEP_MS, Samples, arrived, count, host

PARTIAL = b'{"error":"partial write: field type conflict: it is already an integer dropped=1"}'
OLD = b'{"error":"partial write: points beyond retention policy dropped=%d"}'


def influxdb(port: int, scheme: str = "http", **settings: Any) -> InfluxDB:
    queue = QueueConfig(batch_send_deadline=0.02, max_samples_per_send=20)
    url = f"{scheme}://127.0.0.1:{port}"
    defaults = {"url": url, "name": "there", "db": "m", "remote_timeout": 5.0, "queue_config": queue}
    return InfluxDB(**{**defaults, **settings})


def receiver(*answers: Answer, certs: Certs | None = None) -> Receiver:
    return Receiver(answers, certs=certs, read=decode, unreadable=UNREADABLE)


@pytest.mark.parametrize("status", [200, 204, 301, 401, 404, 413, 408, 429, 500, 503])
def test_every_class_of_status_ends_with_everything_delivered(tmp_path: Path, status: int) -> None:
    with receiver(Answer(), *[Answer(status)] * 3) as there, host(tmp_path, influxdb(there.port)) as one:
        one.outlives(there, status)
        assert {request.path for request in there.requests} == {"/write?db=m&precision=ms"}


@pytest.mark.parametrize(
    "answer",
    [
        Answer(400, body=PARTIAL),
        Answer(400, body=b'{"error":"unable to parse \'memory value=x\': invalid number"}'),
        Answer(422, body=b'{"code":"unprocessable entity","message":"schema conflict"}'),
        Answer(
            400,
            body=b'{"error":"partial write of line protocol occurred","data":'
            b'[{"original_line":"memory","line_number":2,"error_message":"no fields"}]}',
        ),
    ],
    ids=["1.x partial", "1.x line", "2.x", "3.x"],
)
def test_one_bad_series_costs_itself(tmp_path: Path, answer: Answer) -> None:
    with receiver() as there:
        there.refuse = lambda write: answer if "memory" in str(write.series) else None
        with host(tmp_path, influxdb(there.port)) as one:
            one.collect(30)
            one.settled()
            one.accounted(there)
            assert {dict(labels)["__name__"] for labels in one.kept()} == {"memory"}
            assert one.cursor.ledger.dropped == {"rejected": 31}


def test_what_is_older_than_the_retention_is_aged_and_the_rest_arrives(tmp_path: Path) -> None:
    """As InfluxDB 1.x does: what it keeps of a request it stores, and says how much it dropped."""
    with receiver() as there:
        oldest = FIRST_MS + 13 * STEP_MS
        stored: Samples = {}

        def refuse(write: Any) -> Answer | None:
            points = [(one.labels, at, value) for one in write.series for at, value in one.samples]
            fresh = [point for point in points if point[1] >= oldest]
            for labels, at, value in fresh:
                stored.setdefault(labels, {})[at] = value
            old = len(points) - len(fresh)
            return Answer(400, body=OLD % old) if old else None

        there.refuse = refuse
        with host(tmp_path, influxdb(there.port), ticks=30) as one:
            one.settled()
            dropped = one.cursor.ledger.dropped
            assert dropped == {"aged": 2 * 13}
            new = {
                labels: {at: v for at, v in s.items() if at >= oldest} for labels, s in one.expected.items()
            }
            assert stored == new
            [refused] = {entry["do"] for entry in one.logged(Event.AGED)}
            assert "retention" in refused


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (404, 'database not found: \\"m\\"'),
        (500, "retention policy not found: r"),
        (400, "database is required"),
        (404, 'bucket \\"b\\" not found'),
    ],
)
def test_what_is_missing_there_is_held_until_it_is_made(tmp_path: Path, status: int, words: str) -> None:
    with receiver() as there:
        there.default = Answer(status, body=b'{"error":"%s"}' % words.encode())
        there.to_empty = there.default
        with host(tmp_path, influxdb(there.port)) as one:
            one.collect(20)
            assert "make there what is missing" in one.held()
            there.default, there.to_empty = Answer(), None
            one.settled()
            one.accounted(there)


@pytest.mark.parametrize(
    "text",
    ["database not found", "bucket x not found", "hinted handoff queue not empty", "database is required"],
)
def test_what_is_in_a_label_does_not_pass_for_the_words_of_the_server(tmp_path: Path, text: str) -> None:
    series = (SERIES[0], Series("memory", (("hostname", "a"), ("text", text))))
    with receiver() as there:
        line = f"unable to parse 'memory,hostname=a,text={text} value=1 1': invalid number"
        body = b'{"error":"%s"}' % line.encode()
        there.refuse = lambda write: Answer(400, body=body) if "memory" in str(write.series) else None
        with host(tmp_path, influxdb(there.port), series=series, ticks=10) as one:
            one.settled()
            assert one.cursor.ledger.dropped == {"rejected": 10}
            assert not one.logged(Event.HELD)


def test_a_cluster_that_keeps_it_for_later_has_it(tmp_path: Path) -> None:
    kept = Answer(500, body=b'{"error":"hinted handoff queue not empty"}')
    with receiver() as there, host(tmp_path, influxdb(there.port)) as one:
        one.settled()
        there.default = kept
        one.collect(3)
        one.settled()
        assert not one.logged(Event.RETRY)
        assert one.cursor.ledger.delivered == 8


def test_what_cannot_be_stored_is_counted_and_costs_nothing_else(tmp_path: Path) -> None:
    """Also where a request is cut in two, and where a series is refused: the ledger balances to the sample."""
    values = [[1.0, math.nan], [math.inf, -math.inf], [2.0, 3.0], [math.nan, 4.0], [5.0, 6.0]] * 8
    with receiver(Answer(), Answer(413), Answer(413)) as there:
        there.refuse = lambda write: Answer(400, body=PARTIAL) if "memory" in str(write.series) else None
        with host(tmp_path, influxdb(there.port), ticks=1) as one:
            one.settled()
            for n, pair in enumerate(values, 1):
                at = Instant(FIRST_MS + n * STEP_MS, n * STEP_MS, BOOT)
                one.buffer.append([Tick(at, "all", SERIES, pair)])
            one.settled()
            cpu = sum(math.isfinite(first) for first, _ in values)
            memory = sum(math.isfinite(second) for _, second in values)
            unstorable = 2 * len(values) - cpu - memory
            assert one.cursor.ledger.dropped == {"unstorable": unstorable, "rejected": memory}
            assert count(arrived(there)) == cpu + 2 == one.cursor.ledger.delivered
            assert count(one.kept()) == memory


def test_series_that_are_one_to_influxdb_are_one(tmp_path: Path) -> None:
    """A backslash at the end cannot be written, so these two are the same series: the first value of an instant counts."""
    series = tuple(Series("free", (("hostname", "a"), ("path", path))) for path in ("C:\\", "C:"))
    with receiver() as there, host(tmp_path, influxdb(there.port), series=series, ticks=20) as one:
        one.settled()
        assert one.cursor.ledger.dropped == {"rejected": 20}
        assert count(arrived(there)) == 20
