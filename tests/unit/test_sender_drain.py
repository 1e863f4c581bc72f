"""In which order a backlog goes out: the table of decisions."""

from __future__ import annotations

import pytest

from agent.send.order import PROBE, Work, probe, work


@pytest.mark.parametrize(
    ("pending", "fresh", "due", "expected"),
    [
        (0, None, True, Work.NOTHING),
        (9, None, False, Work.NOTHING),
        (1, None, True, Work.IN_ORDER),
        (10, None, False, Work.IN_ORDER),
        (0, 0, True, Work.NOTHING),
        (5, 5, False, Work.NOTHING),
        (5, 5, True, Work.FRESH),
        (100, 5, True, Work.FRESH),
        (100, 10, False, Work.FRESH),
        (100, 5, False, Work.BACKLOG),
        (100, 0, True, Work.BACKLOG),
        (1, 0, False, Work.BACKLOG),
    ],
)
def test_what_is_to_be_sent_next(pending: int, fresh: int | None, due: bool, expected: Work) -> None:
    assert work(pending, fresh, 10, due=due) is expected


def test_a_probe_is_one_sample_in_the_hosts_name() -> None:
    [tick] = probe({"hostname": "web-01", "environment": "test"}, 1234)
    [series] = tick.series
    assert (series.name, series.labels) == (PROBE, (("environment", "test"), ("hostname", "web-01")))
    assert (tick.at.wall_ms, list(tick.values)) == (1234, [1.0])
