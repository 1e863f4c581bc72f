"""InfluxDB 2.x and 3.x, by a receiver that answers as their documentation says."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.config import Authorization, InfluxDB, QueueConfig
from agent.ops.doctor.destination import walk
from buffer.model import Instant, Series, Tick
from tests.support.influxdb_api import Api, InfluxApi
from tests.support.net import wait_for
from tests.support.sending import BOOT, FIRST_MS, PASSWORD, STEP_MS, host

SERIES = tuple(
    Series(name, (("hostname", "a"),)) for name in ("cpu", "disk used", "integers", "memory", "up", "x=y")
)
OLDEST_MS = FIRST_MS + 5 * STEP_MS


@pytest.fixture(params=["v2", "v3"])
def server(request: pytest.FixtureRequest) -> Iterator[InfluxApi]:
    api: Api = request.param
    with InfluxApi(api, PASSWORD, frozenset({"integers"}), OLDEST_MS) as running:
        yield running


def settings(server: InfluxApi, credentials: Path, **more: Any) -> InfluxDB:
    is_v2 = server.api == "v2"
    word = "Token" if is_v2 else "Bearer"
    place: dict[str, Any] = {"org": "edge", "bucket": "limpet"} if is_v2 else {"db": "limpet"}
    return InfluxDB(
        url=server.url,
        name="there",
        api=server.api,
        authorization=Authorization(type=word, credentials_file=str(credentials)),
        queue_config=QueueConfig(batch_send_deadline=0.02, max_samples_per_send=60),
        **place,
        **more,
    )


def token(folder: Path, text: str = PASSWORD) -> Path:
    path = folder / "token"
    path.write_text(text)
    return path


def test_what_can_be_stored_arrives_and_the_culprits_are_kept(server: InfluxApi, tmp_path: Path) -> None:
    """A series of another type in every request; at first samples that are too old, then some that cannot be stored."""
    to = settings(server, token(tmp_path))
    with host(tmp_path, to, series=SERIES, ticks=10) as one:
        one.settled()
        one.collect(20)
        for n in range(30, 33):
            at = Instant(FIRST_MS + n * STEP_MS, n * STEP_MS, BOOT)
            one.buffer.append([Tick(at, "all", SERIES, [math.nan] * len(SERIES))])
        one.settled()
        kept, dropped = one.kept(), dict(one.cursor.ledger.dropped)
        good = [series for series in SERIES if series.name != "integers"]
        # The first five of `integers` are refused for either reason.
        assert dropped.pop("unstorable") == 3 * len(SERIES)
        assert dropped in ({"aged": 25, "rejected": 30}, {"aged": 30, "rejected": 25})
        integers = (("__name__", "integers"), ("hostname", "a"))
        assert len(kept.pop(integers)) == 30
        expected = one.expected
        for series in good:
            key = (series.name, series.labels, "value")
            labels = tuple(sorted([*series.labels, ("__name__", series.name)]))
            assert kept[labels] | server.stored[key] == expected[labels]
            assert min(server.stored[key]) == OLDEST_MS
        assert len(server.stored) == len(good)


def test_a_wrong_token_and_a_bucket_that_is_missing_are_held(server: InfluxApi, tmp_path: Path) -> None:
    path = token(tmp_path, "wrong")
    server.oldest_ms, server.integers, server.has_bucket = 0, frozenset(), False
    with host(tmp_path, settings(server, path), series=SERIES, ticks=10) as one:
        assert "with type Token" in one.held()
        path.write_text(PASSWORD)
        wait_for(lambda: "not found" in str(one.lane.error), 20, "the right token to be read")
        server.has_bucket = True
        one.settled()
        assert not one.cursor.ledger.dropped
        assert sum(map(len, server.stored.values())) == 10 * len(SERIES)


def test_naming_as_telegraf_has_it_is_refused_by_the_line_and_settled_by_the_series(
    server: InfluxApi, tmp_path: Path
) -> None:
    """Fields of one line are points of their own when the search repeats them apart."""
    server.integers, server.oldest_ms = frozenset(), OLDEST_MS
    to = settings(server, token(tmp_path), naming="telegraf")
    with host(tmp_path, to, series=SERIES, ticks=20) as one:
        one.settled()
        assert one.cursor.ledger.dropped == {"aged": 5 * len(SERIES)}
        assert one.cursor.ledger.delivered == 15 * len(SERIES)
    assert {key: len(found) for key, found in server.stored.items()} == {
        ("prometheus", (("hostname", "a"),), series.name): 15 for series in SERIES
    }


def test_doctor_walks_to_it(server: InfluxApi, tmp_path: Path) -> None:
    server.oldest_ms = 0
    steps = {step.step: step for step in walk(settings(server, token(tmp_path)), 10.0)}
    assert steps["authentication"].ok is not False
    assert all(step.ok for step in steps.values()) == (server.api == "v2")
    if server.api == "v3":  # which refuses a write without points
        assert steps["empty write"].said == "HTTP 400: incoming write was empty"
