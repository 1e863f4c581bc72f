"""HostDiskFilling on made-up disks of six weeks: no false alarm by what returns, none missed, and days of warning.

The rule is taken from the file that ships, and evaluated hour by hour by our own PromQL, whose numbers are compared with those of
Prometheus in tests/integration. The table in docs/decisions/0106 is of the same disks.
"""

from __future__ import annotations

import pytest

from tests.bench.disks import shipped
from tests.support import disks
from tests.support.disks import Disk, Outcome

LATER = {
    "a leak from day 12 on, 6 GB a day": 4,  # a trend is seen after four days
    "5 GB each night, from day 10 on": 5,
    "a leak that doubles each week": 3.5,
    "a log that runs away, 8 GB an hour": 0.1,
    "a new host that leaks, 5 GB a day": 0.8,  # it may be rotated after a week
}
"""Days of warning, where they cannot be about seven."""
NEAR = {
    "a copy of 25 GB, five hours long": 3,  # nothing distinguishes it from a log that runs away
    "images, removed at odd times": 24,  # it has never been so full, and is cleared the day after
    "a builder, cleared at odd times": 24,  # up to 5 GB of 64 are left, two days before it is cleared
}
"""Hours of false alarm in six weeks, where they cannot be none."""


@pytest.fixture(scope="module")
def found() -> dict[str, Outcome]:
    return shipped()


def name(disk: Disk) -> str:
    return disk.name


@pytest.mark.parametrize("disk", disks.NEVER, ids=name)
def test_what_returns_and_what_happens_once_is_no_trend(disk: Disk, found: dict[str, Outcome]) -> None:
    assert disk.full() is None
    assert found[disk.name].false_hours <= NEAR.get(disk.name, 0)


@pytest.mark.parametrize("disk", disks.FILLING, ids=name)
def test_a_disk_that_fills_is_reported_once_and_days_before(disk: Disk, found: dict[str, Outcome]) -> None:
    assert disk.full()
    times, false_hours, warning_days = found[disk.name]
    assert times == 1
    assert false_hours == 0
    assert warning_days >= LATER.get(disk.name, 6.5)
