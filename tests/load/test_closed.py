"""A page that was opened is closed when its cause is gone, also where that happened while nothing was heard of the host."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.certs import Certs
from tests.support.delivered import deliver
from tests.support.played import play
from tests.support.plays import HOUR, ROOT, hosts, life, pulse

pytestmark = pytest.mark.timeout(300)


@pytest.mark.parametrize("hours", [1, 6])
def test_what_ended_while_the_host_was_silent_is_over_for_people_too(
    hours: int, promtool_program: Path, alertmanager_program: Path, certs: Certs, tmp_path: Path
) -> None:
    """A disk is full, the host is silent for hours, and the disk is cleared before it is back."""
    silent, back = HOUR, (1 + hours) * HOUR
    steps = back + HOUR

    full = life(steps, {ROOT: pulse(10, back, 95, 40)}, out=lambda step: silent <= step < back)
    changes = play(promtool_program, tmp_path / "played", [(full, hosts("edge", 1))])
    told = deliver(alertmanager_program, tmp_path / "alertmanager", certs, changes, 300)
    about = [
        (alert["labels"]["alertname"], alert["status"])
        for message in told.messages
        if message.receiver != "warning"
        for alert in message.alerts
    ]
    assert about[0] == ("HostDiskFull", "firing")
    assert about[-1] == ("HostDiskFull", "resolved")
    assert about.count(("LimpetHostSilent", "resolved")) == 1
    assert about.count(("HostDiskFull", "firing")) <= 2, "at most one more when the host is back"
