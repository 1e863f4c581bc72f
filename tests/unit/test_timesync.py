"""What the host reports of its clock, from files as they are on boards, servers, and in containers."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from agent.system.timesync import HostClock, kernel_state

HEAD = "Iface\tDestination\tGateway\tFlags\n"
LOOPBACK6 = "00000000000000000000000000000001 80 " + "0" * 32 + " 00 " + "0" * 32 + " 0 1 0 80200001 lo\n"
LINK6 = "fe80" + "0" * 28 + " 40 " + "0" * 32 + " 00 " + "0" * 32 + " 100 1 0 1 eth0\n"
DEFAULT6 = "0" * 32 + " 00 " + "0" * 32 + " 00 fe80" + "0" * 28 + " 400 1 0 3 wwan0\n"


def host(root: Path, kernel: int | None = 5, **files: str) -> HostClock:
    for name, text in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return HostClock(root=str(root), kernel=lambda: kernel)


@pytest.mark.parametrize(("state", "is_synced"), [(0, True), (1, True), (4, True), (5, False), (None, False)])
def test_the_kernel_is_believed(tmp_path: Path, state: int | None, is_synced: bool) -> None:
    assert host(tmp_path, state).is_synced() is is_synced


def test_where_the_kernel_may_not_be_called_timesyncd_says_it(tmp_path: Path) -> None:
    assert host(tmp_path, None, run__systemd__timesync__synchronized="").is_synced()
    assert not host(tmp_path, 5).is_synced()  # it has been set since


def test_a_board_has_no_chip_and_a_service(tmp_path: Path) -> None:
    board = host(tmp_path)
    assert board.chip_ms() is None
    assert not board.has_service()
    host(tmp_path, var__lib__chrony__chrony_drift="1 2")
    assert not board.has_service()  # another file
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/fake-hwclock.data").touch()  # it is installed while the agent runs
    assert board.has_service()


def test_where_the_kernel_does_not_answer_nobody_waits_for_chrony(tmp_path: Path) -> None:
    (tmp_path / "run/chrony").mkdir(parents=True)
    assert host(tmp_path, 5).has_service()
    assert not host(tmp_path, None).has_service()
    (tmp_path / "run/systemd/timesync").mkdir(parents=True)
    assert host(tmp_path, None).has_service()


def test_a_server_has_a_chip(tmp_path: Path) -> None:
    assert host(tmp_path, sys__class__rtc__rtc0__since_epoch="1790000000\n").chip_ms() == 1_790_000_000_000
    host(tmp_path, etc__adjtime="0.0 0 0.0\n0\nUTC\n")
    assert host(tmp_path).chip_ms() == 1_790_000_000_000


def test_a_chip_without_a_time_is_none_and_the_next_one_counts(tmp_path: Path) -> None:
    broken = tmp_path / "sys/class/rtc/rtc0"
    broken.mkdir(parents=True)
    assert host(tmp_path).chip_ms() is None  # the kernel has none to show
    (broken / "since_epoch").write_text("\n")
    assert host(tmp_path).chip_ms() is None
    assert host(tmp_path, sys__class__rtc__rtc1__since_epoch="7\n").chip_ms() == 7000


def test_a_chip_with_the_local_time_is_compared_with_utc(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a machine that has another system next to Linux."""
    clock = host(tmp_path, sys__class__rtc__rtc0__since_epoch="1790003600", etc__adjtime="0 0 0\n0\nLOCAL\n")
    monkeypatch.setenv("TZ", "TST-1")
    time.tzset()
    try:
        assert clock.chip_ms() == 1_790_000_000_000
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize(
    ("v4", "v6", "is_there"),
    [
        (HEAD, "", False),
        (HEAD + "eth0\t00000000\t0101A8C0\t0003\n", "", True),
        (HEAD, LOOPBACK6 + LINK6, False),
        (HEAD, LOOPBACK6 + DEFAULT6, True),
    ],
)
def test_a_route_that_leaves_the_host_is_a_network(tmp_path: Path, v4: str, v6: str, is_there: bool) -> None:
    clock = host(tmp_path, proc__net__route=v4, proc__net__ipv6_route=v6)
    assert clock.has_network() is is_there


def test_what_cannot_be_read_may_be_a_network(tmp_path: Path) -> None:
    assert host(tmp_path).has_network()


def test_the_real_kernel_answers() -> None:
    assert kernel_state()() in (None, *range(6))
    assert HostClock().is_synced() in (True, False)
