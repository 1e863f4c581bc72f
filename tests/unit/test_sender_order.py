"""In which order a backlog goes out: the table of decisions."""

from __future__ import annotations

import pytest

from agent.send.order import PROBE, Order, Work, choose
from buffer.model import Chunk, Instant, Series, Tick


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
    assert choose(pending, fresh, 10, due=due) is expected


def test_the_probes_are_a_sample_for_now_and_one_for_the_oldest_in_the_hosts_name() -> None:
    order = Order("auto", {"hostname": "web-01", "environment": "test"})
    oldest = Tick(Instant(1000, 0, ""), "all", (Series("up", ()),), (7.0,))
    ticks = [tick for probe in order.probes(Chunk([oldest], 0, 1, 1), 1234) for tick in probe]
    assert [(tick.at.wall_ms, list(tick.values)) for tick in ticks] == [(1234, [1.0]), (1000, [1.0])]
    labels = (("environment", "test"), ("hostname", "web-01"))
    assert {(one.name, one.labels) for tick in ticks for one in tick.series} == {(PROBE, labels)}
    assert list(order.probes(Chunk([], 0, 0, 0), 1234)) == []
