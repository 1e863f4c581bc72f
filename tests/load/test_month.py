"""Parts of the month that `python -m tests.bench.month` plays: the bad deploy, about which messages come in time, and about nothing else; and
a disk that fills.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.bench.month import table
from tests.support import month, troubles
from tests.support.certs import Certs
from tests.support.delivered import DAY, deliver
from tests.support.played import STEP_S, Life, play, trends


def test_a_bad_deploy_causes_its_messages_in_time_and_no_other(
    promtool_program: Path, alertmanager_program: Path, certs: Certs, tmp_path: Path
) -> None:
    [event] = [one for one in troubles.EVENTS if "deploy" in one.name]
    begin = event.begin - troubles.HOUR
    lives = month.fleet(begin, event.end + troubles.HOUR // 2)
    found = [one._replace(at=begin + one.at) for one in play(promtool_program, tmp_path / "played", lives)]
    shifted = [one._replace(at=one.at - begin) for one in found]
    told = deliver(alertmanager_program, tmp_path / "alertmanager", certs, shifted, 300)
    messages = [one._replace(at=one.at + begin) for one in told.messages]
    told = told._replace(messages=messages)
    assert troubles.judged(told, [event]) == ([], []), table(messages)
    assert 2 <= len(messages) <= 10, table(messages)


def test_trends_find_the_disk_that_fills_and_no_other(promtool_program: Path, tmp_path: Path) -> None:
    def life(free: Callable[[float], float]) -> Life:
        days = [step * STEP_S / DAY for step in range(11 * DAY // STEP_S)]
        return {
            "limpet_start_time_seconds": [0.0] * len(days),
            f"disk_free_bytes{{{month.ROOT}}}": [round(free(day)) for day in days],
        }

    lives = [
        (life(lambda day: 30e9 - 2e9 * day), [{"hostname": "fills"}]),
        (life(lambda day: 20e9 - 5e9 * (day % 1)), [{"hostname": "is-cleared"}]),
    ]
    [alert] = trends(promtool_program, tmp_path / "trends", lives)
    assert (alert.begins, alert.labels["alertname"], alert.labels["hostname"]) == (
        True,
        "HostDiskFilling",
        "fills",
    )
    assert 8 * DAY <= alert.at <= 9.5 * DAY
