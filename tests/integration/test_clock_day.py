"""A day in the life of a board whose clock is often wrong, as a real Prometheus has it that takes nothing out of order."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from agent.collect.timekeeper import ESTIMATED
from agent.config import QueueConfig
from buffer.model import Tick
from tests.support.collecting import HOST
from tests.support.lives import BIRTH_MS, DAY, INTERVAL, a_day
from tests.support.prometheus import CONFIG, Prometheus
from tests.support.sending import destination, host
from tests.support.server import Samples


def test_prometheus_has_every_tick_at_its_time(tmp_path: Path, prometheus_program: Path) -> None:
    """The simulated host's samples go through a real lane; its day ends a minute ago."""
    (tmp_path / "life").mkdir()
    life, lost = a_day(str(tmp_path / "life"), DAY, sync_every=60)
    now_ms = int(time.time() * 1000)
    later_ms = (now_ms - 60_000 - life.now_ms()) // 1000 * 1000
    config = tmp_path / "prometheus.yml"
    config.write_text("global: {}\n")  # without out_of_order_time_window, which the one that ships has
    assert "out_of_order_time_window" in CONFIG.read_text()
    queue = QueueConfig(batch_send_deadline=0.02, max_samples_per_send=2000)
    prometheus = Prometheus(prometheus_program, tmp_path / "prometheus", config=config)
    with prometheus:
        to = destination(prometheus.write_url, queue_config=queue)
        with host(tmp_path / "sent", to, ticks=0) as one:
            for tick in once(life.receiver.taken):
                moved = tick.at._replace(wall_ms=tick.at.wall_ms + later_ms)
                one.buffer.append([tick._replace(at=moved)])
            one.settled(60)
            ledger = one.cursor.ledger
            assert set(ledger.dropped.values()) <= {0}
            assert ledger.delivered == one.buffer.log.end
        begin_ms, end_ms = life.boots[min(life.boots, key=lambda boot: life.boots[boot][0])][0], life.now_ms()
        span = begin_ms + later_ms - 3_600_000, end_ms + later_ms + 3_600_000
        found = of(prometheus.raw_samples(f'b{{hostname="{HOST}"}}', *span))
        marks = of(prometheus.raw_samples(f'{ESTIMATED}{{hostname="{HOST}"}}', *span))
    begin, end = life.boots[lost]
    values = [value for _, value in found]
    assert set(values) == life.kept  # every tick
    assert values == sorted(values)  # in order
    times = [at - later_ms for at, _ in found]
    assert all(after > before for before, after in pairwise(times))
    assert times[-1] <= end_ms  # none in the future
    marked = [at - later_ms for at, _ in marks]
    for at, value in zip(times, values, strict=True):
        off = at - value - BIRTH_MS
        if begin <= value + BIRTH_MS <= end:
            assert min(marked) <= at <= max(marked)
        else:
            early = 2_000 + (INTERVAL * 1000 if value in life.late else 0)
            assert -early <= off <= 2_000, off
            assert not min(marked) <= at <= max(marked)


def of(samples: Samples) -> list[tuple[int, float]]:
    """Return the samples of the only series."""
    ((_, found),) = samples.items()
    return found


def once(taken: list[Tick]) -> Iterator[Tick]:
    """Yield each tick once: what was sent shortly before a power cut is sent again after it, as it was."""
    seen = set[tuple[str, int]]()
    for tick in taken:
        key = tick.series[0].name, tick.at.wall_ms
        if key not in seen:
            seen.add(key)
            yield tick
