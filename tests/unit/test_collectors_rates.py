"""The rates of whole collectors over a host's life, against a model: growth divided by monotonic time, or nothing.

What happens to a device in the model: it counts on, a counter wraps or is set back, it is unplugged and plugged
in again, its line is short of a key for a run, and no time passes. The wall clock is not asked by any of it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.collectors import Collect, Sample
from agent.collectors.cpu import Times, cpu
from agent.collectors.disk_io import Disk, disk_io
from agent.collectors.kernel import Names, deltas
from agent.collectors.network import Interface, network
from tests.support.hosts import of, values

DEVICES = [b"sda", b"sdb"]
WRAP = 2**32  # what a 32-bit kernel counts to, and every kernel for milliseconds


class Life:
    """What the kernel counts for each device that is plugged in, of `width` counters."""

    def __init__(self, width: int) -> None:
        self.width = width
        self.counters: dict[bytes, list[int]] = {}

    def happen(self, device: bytes, event: str, growth: int, at: int) -> None:
        if event == "unplug":
            self.counters.pop(device, None)
        elif event == "plug" or device not in self.counters:
            self.counters[device] = [growth % 1000] * self.width
        elif event == "reset":
            self.counters[device] = [0] * self.width
        elif event == "wrap":
            self.counters[device][at % self.width] += growth
            self.counters[device] = [value % WRAP for value in self.counters[device]]
        else:
            for place in range(self.width):
                self.counters[device][place] += growth * (place + 1)

    def read(self) -> dict[bytes, tuple[int, ...]]:
        return {device: tuple(values) for device, values in self.counters.items()}


events = st.tuples(
    st.sampled_from(DEVICES),
    st.sampled_from(["grow", "grow", "grow", "wrap", "reset", "unplug", "plug"]),
    st.integers(0, 2**33),
    st.integers(0, 7),
)
rounds = st.lists(
    st.tuples(st.sampled_from([0.0, 0.001, 1.0, 10.0, 86_400.0]), st.lists(events, max_size=4)), max_size=8
)


def run_life(
    collect: Collect, life: Life, script: list[tuple[float, list[tuple[bytes, str, int, int]]]]
) -> None:
    """Run the collector after each round of events, and compare its values for each device."""
    now, last, before = 1000.0, 0.0, dict[bytes, tuple[int, ...]]()
    for number, (wait, happened) in enumerate(script):
        now += wait
        for event in happened:
            life.happen(*event)
        after = life.read()
        found = values(collect(now))
        for device in DEVICES:
            mine = {name: value for (name, labels), value in found.items() if device.decode() == labels[0][1]}
            rates = {name: value for name, value in mine.items() if not name.endswith("_total")}
            if device not in after:
                assert mine == {}
                continue
            # The counters are there in every run, except of a disk that has never been used.
            assert any(name.endswith("_total") for name in mine) or not any(after[device])
            grown = deltas(before[device], after[device]) if device in before else None
            if number == 0 or wait <= 0 or grown is None or not mine:
                assert rates == {}
            else:
                assert rates
                check(rates, grown, now - last)
        before, last = after, now


def check(rates: Mapping[str, float], grown: list[int], seconds: float) -> None:
    assert all(math.isfinite(value) and value >= 0 for value in rates.values())
    if "disk_queue_length" in rates:
        reads, read_bytes, read_ms, writes, written, write_ms, io_ms, weighted = grown
        expected = {
            "disk_read_bytes_per_sec": read_bytes / seconds,
            "disk_write_bytes_per_sec": written / seconds,
            "disk_read_ops_per_sec": reads / seconds,
            "disk_write_ops_per_sec": writes / seconds,
            "disk_read_time_ms": read_ms / reads if reads else 0,
            "disk_write_time_ms": write_ms / writes if writes else 0,
            "disk_await_time_ms": (read_ms + write_ms) / (reads + writes) if reads + writes else 0,
            "disk_queue_length": weighted / (1000 * seconds),
        }
        if io_ms <= 1.5 * 1000 * seconds:
            expected["disk_io_util_percent"] = min(100, 100 * io_ms / (1000 * seconds))
    else:
        received, packets_in, _, _, sent, packets_out, _, _ = grown
        expected = {
            "network_bytes_recv_per_sec": received / seconds,
            "network_bytes_sent_per_sec": sent / seconds,
            "network_packets_recv_per_sec": packets_in / seconds,
            "network_packets_sent_per_sec": packets_out / seconds,
        }
        usage = max(received, sent) / seconds / 125_000_000
        if "network_bandwidth_usage_percent" in rates:  # it is absent from where more passed than can on
            assert usage <= 1.5
            expected["network_bandwidth_usage_percent"] = min(100, 100 * usage)
    assert rates == {name: pytest.approx(value, rel=1e-9, abs=0.51) for name, value in expected.items()}


@given(rounds)
def test_disks(script: list[tuple[float, list[tuple[bytes, str, int, int]]]]) -> None:
    life = Life(8)

    def read(names: Names) -> dict[bytes, Disk]:
        return {device: counters for device, counters in life.read().items() if names[device]}

    run_life(disk_io(Names("device", lambda name: True), read), life, script)


@given(rounds)
def test_interfaces(script: list[tuple[float, list[tuple[bytes, str, int, int]]]]) -> None:
    life = Life(8)

    def read(names: Names) -> dict[bytes, Interface]:
        return {device: counters for device, counters in life.read().items() if names[device]}

    names = Names("interface", lambda name: True)
    run_life(network(names, read, lambda name: 1000, list), life, script)


ticks = st.one_of(st.integers(0, 2**63), st.integers(1000, 1500))


@given(
    st.lists(
        st.dictionaries(st.sampled_from([b"", b"0", b"1"]), st.tuples(*[ticks] * 3), min_size=1), max_size=6
    )
)
def test_cores_that_count_anything(readings: list[dict[bytes, tuple[int, int, int]]]) -> None:
    """Usage is a share from 0 to 100, or absent; the counters never fall, and count no more than there was time."""
    left = iter(readings)

    def read() -> dict[bytes, Times]:
        return {core: Times(busy, 0, idle, wait, busy) for core, (busy, idle, wait) in next(left).items()}

    collect, before = cpu(100, read, lambda: (0.0, 0.0, 0.0)), dict[str, float]()
    for _ in readings:
        found = values(collect(0.0))
        assert all(0 <= value <= 100 for (name, _), value in found.items() if "usage" in name)
        now = {name: value for (name, _), value in found.items() if name.endswith("_total")}
        for name, value in before.items():
            assert value <= now[name] <= (value + 6.1) * (1 + 1e-9)  # 3 s for each of two cores
        before = now


def test_a_wall_clock_that_is_set_changes_no_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rates come of the monotonic time that is handed in; nothing in a run asks what time it is."""

    def forbidden() -> float:
        raise AssertionError("a collector asked the wall clock")

    monkeypatch.setattr(time, "time", forbidden)
    counted = iter([(0,) * 8, (10,) * 8])
    collect = disk_io(Names("device", lambda name: True), lambda names: {b"sda": next(counted)})
    collect(5.0)
    assert of(values(collect(15.0)), device="sda")["disk_read_ops_per_sec"] == 1


def test_a_run_that_was_left_out_makes_a_longer_interval_not_a_wrong_one() -> None:
    counted = iter([(0,) * 8, (600,) * 8])
    collect = disk_io(Names("device", lambda name: True), lambda names: {b"sda": next(counted)})
    collect(0.0)
    assert of(values(collect(60.0)), device="sda")["disk_read_ops_per_sec"] == 10


def test_a_device_that_misses_a_run_starts_again() -> None:
    script: list[dict[bytes, Disk]] = [{b"sda": (100,) * 8}, {}, {b"sda": (900,) * 8}, {b"sda": (910,) * 8}]
    readings = iter(script)
    collect = disk_io(Names("device", lambda name: True), lambda names: next(readings))
    rates: list[float | None] = []
    for now in (0.0, 10.0, 20.0, 30.0):
        found: list[Sample] = collect(now)
        rates.append(of(values(found), device="sda").get("disk_read_ops_per_sec"))
    assert rates == [None, None, None, 1.0]
