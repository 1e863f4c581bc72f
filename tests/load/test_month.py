"""Some hours of the month that `python -m tests.bench.month` plays: the bad deploy, about which messages come in time, and about nothing else."""

from __future__ import annotations

from pathlib import Path

from tests.bench.month import table
from tests.support import month
from tests.support.certs import Certs
from tests.support.delivered import deliver
from tests.support.played import play


def test_a_bad_deploy_causes_its_messages_in_time_and_no_other(
    promtool_program: Path, alertmanager_program: Path, certs: Certs, tmp_path: Path
) -> None:
    [event] = [one for one in month.EVENTS if "deploy" in one.name]
    begin = event.begin - month.HOUR
    lives = month.fleet(begin, event.end + month.HOUR // 2)
    found = [one._replace(at=begin + one.at) for one in play(promtool_program, tmp_path / "played", lives)]
    shifted = [one._replace(at=one.at - begin) for one in found]
    told = deliver(alertmanager_program, tmp_path / "alertmanager", certs, shifted, 300)
    messages = [one._replace(at=one.at + begin) for one in told.messages]
    told = told._replace(messages=messages)
    assert month.judged(told, [event]) == ([], []), table(messages)
    assert 2 <= len(messages) <= 10, table(messages)
