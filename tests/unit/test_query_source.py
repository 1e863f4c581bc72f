"""What is read from a buffer for an expression."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from agent.ops.selector import Matcher
from agent.query.limits import Budget, Limits, Stopped
from agent.query.selecting import Span
from agent.query.source import BufferSource
from buffer import Buffer
from buffer import Limits as BufferLimits
from buffer.model import STALE, Instant, Series, Tick, is_stale

HOST = (("hostname", "a"),)
LOAD = Series("load", HOST)
DISKS = tuple(Series("disk", (("device", name), *HOST), "gauge", "bytes") for name in ("sda", "sdb"))
ALL: Span = (-(1 << 60), 1 << 60)


def at(ms: int) -> Instant:
    return Instant(1_750_000_000_000 + ms, ms, "0" * 32)


def filled(tmp_path: Path, *ticks: Tick) -> BufferSource:
    buffer = Buffer(str(tmp_path), BufferLimits(), [])
    for tick in ticks:
        buffer.append([tick])
    buffer.close()
    return source(tmp_path)


def source(tmp_path: Path, limits: Limits | None = None) -> BufferSource:
    return BufferSource(str(tmp_path), Budget(limits or Limits(), lambda: 0.0))


def named(name: str) -> tuple[Matcher, ...]:
    return (Matcher("__name__", "=", name),)


def test_samples_of_each_selector_in_its_own_span(tmp_path: Path) -> None:
    ticks = [Tick(at(n), "x", (LOAD, *DISKS), [float(n), 10.0 + n, 20.0 + n]) for n in range(10)]
    found = filled(tmp_path, *ticks)
    zero = at(0).wall_ms
    one = (*named("disk"), Matcher("device", "=~", "s.b"))
    data = found.read({named("load"): (zero + 2, zero + 4), one: (zero + 8, zero + 99), named("no"): ALL})
    ((load,), (disk,)) = data[named("load")], data[one]
    assert (load.labels, list(load.values)) == ((("__name__", "load"), ("hostname", "a")), [2.0, 3.0, 4.0])
    assert [ms - zero for ms in load.times] == [2, 3, 4]
    assert list(disk.values) == [28.0, 29.0]
    assert data[named("no")] == []
    assert (found.units, found.host, found.damaged) == ({"load": "", "disk": "bytes"}, HOST, 0)


def test_samples_are_in_order_whatever_the_clock_did_and_the_last_written_counts(tmp_path: Path) -> None:
    times = (50, 60, 20, 30, 60, 70)
    found = filled(tmp_path, *(Tick(at(ms), "x", (LOAD,), [float(i)]) for i, ms in enumerate(times)))
    ((load,),) = found.read({named("load"): ALL}).values()
    assert [ms - at(0).wall_ms for ms in load.times] == [20, 30, 50, 60, 70]
    assert list(load.values) == [2.0, 3.0, 0.0, 4.0, 5.0]


def test_markers_and_odd_values_come_through_as_they_are(tmp_path: Path) -> None:
    values = (STALE, math.nan, -0.0, math.inf)
    found = filled(tmp_path, *(Tick(at(i), "x", (LOAD,), [value]) for i, value in enumerate(values)))
    ((load,),) = found.read({named("load"): ALL}).values()
    assert [is_stale(value) for value in load.values] == [True, False, False, False]
    assert math.copysign(1, load.values[2]) == -1
    assert load.values[3] == math.inf


def test_series_are_listed_with_their_times(tmp_path: Path) -> None:
    ticks = [
        Tick(at(n), "x", (LOAD, DISKS[0]) if n < 3 else (LOAD,), [1.0] * (2 if n < 3 else 1))
        for n in range(5)
    ]
    found = filled(tmp_path, *ticks).series((), ALL)
    assert [(dict(one.labels)["__name__"], one.last_ms - one.first_ms, one.samples) for one in found] == [
        ("disk", 2, 3),
        ("load", 4, 5),
    ]
    assert [
        one.samples for one in source(tmp_path).series(named("load"), (at(1).wall_ms, at(2).wall_ms))
    ] == [2]
    assert source(tmp_path).newest_ms() == at(4).wall_ms


def test_an_empty_buffer_has_nothing(tmp_path: Path) -> None:
    found = filled(tmp_path)
    assert found.read({named("load"): ALL}) == {named("load"): []}
    assert found.series((), ALL) == []
    assert found.newest_ms() is None
    assert found.host == ()


@pytest.mark.parametrize(
    ("limits", "says"),
    [(Limits(read=5), "reads more than 5 samples"), (Limits(series=2), "and 2 are allowed")],
)
def test_reading_stops_at_the_limits(limits: Limits, says: str, tmp_path: Path) -> None:
    filled(tmp_path, *(Tick(at(n), "x", (LOAD, *DISKS), [1.0, 2.0, 3.0]) for n in range(10)))
    with pytest.raises(Stopped, match=says):
        source(tmp_path, limits).read({(Matcher("hostname", "=", "a"),): ALL})


def test_reading_stops_when_its_time_is_over(tmp_path: Path) -> None:
    filled(tmp_path, *(Tick(at(n), "x", (LOAD,), [1.0]) for n in range(1000)))
    seconds = iter(range(100_000))
    found = BufferSource(str(tmp_path), Budget(Limits(seconds=10), lambda: 20.0 * next(seconds)))
    with pytest.raises(Stopped, match="takes longer than 10 s"):
        found.read({named("load"): ALL})
    with pytest.raises(Stopped, match="takes longer than 10 s"):
        found.series((), ALL)


def test_what_people_must_know_is_said(tmp_path: Path) -> None:
    found = filled(tmp_path, *(Tick(at(n), "x", (LOAD,), [float(n)]) for n in range(50)))
    found.read({named("load"): ALL})
    assert found.warnings() == []
    (path,) = (tmp_path / "segments").iterdir()
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    damaged = source(tmp_path)
    damaged.read({named("load"): ALL})
    (said,) = damaged.warnings()
    assert "of damage passed over, so samples may be missing" in said
