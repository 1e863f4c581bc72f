"""Which messages people get about a fleet: the rules that ship, under promtool, and a real Alertmanager with all four channels.

In the suite there are two hundred hosts, and Alertmanager's time runs 300 times as fast; LIMPET_PLAYS_HOSTS=1000 is the whole, with a minute
in a second, and takes ten minutes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.delivered import DAY
from tests.support.played import STEP_S, play
from tests.support.plays import CHANNELS, HOSTS, HOUR, ROOT, Plays, hosts, life, pulse, summary

pytestmark = pytest.mark.timeout(900)
IN_ORDER = True


def test_shops_that_close_at_night_are_news_for_two_nights(promtool_program: Path, tmp_path: Path) -> None:
    """30 of 100 hosts are off from 20:00 to 7:00, a bit earlier or later each day; from the third night there is no alert.

    One that does not open on the fourth morning is reported.
    """

    def closed(step: int) -> bool:
        hour = (step + 7 * (step // 720 % 3 - 1)) / HOUR % 24
        return not 7 <= hour < 20

    steps, morning = 84 * HOUR, 72 * HOUR
    lives = [
        (life(steps), hosts("well", 70)),
        (life(steps, out=closed), hosts("shop", 29)),
        (life(steps, out=lambda step: closed(step) or step > morning), hosts("dead", 1)),
    ]
    read = ("limpet-live", "limpet-presence", "limpet-silence")
    changes = play(promtool_program, tmp_path, lives, read)
    assert {one.labels["alertname"] for one in changes} == {"LimpetHostSilent", "LimpetFleetSilent"}
    later = [(one.labels["alertname"], one.labels["hostname"]) for one in changes if one.at > 2.5 * DAY]
    assert later == [("LimpetHostSilent", "dead-000")]
    assert 7.5 * 3600 < changes[-1].at - 3 * DAY < 8.5 * 3600, "about an hour after it should have opened"


def test_a_region_that_returns_is_one_message_more(played: Plays) -> None:
    """Three tenths of the hosts, those of one region, are out for 40 minutes, and return at once."""
    steps = 2 * HOUR + 10
    out = life(steps, out=lambda step: 10 <= step < 30)
    _, told = played(
        [(life(steps), hosts("well", HOSTS * 7 // 10)), (out, hosts("out", HOSTS * 3 // 10, "north"))]
    )
    assert summary(told) == {("LimpetFleetSilent", "firing"): 1, ("LimpetFleetSilent", "resolved"): 1}
    assert {channel: len(times) for channel, times in told.channels.items()} == dict.fromkeys(CHANNELS, 2)


def test_a_bad_deploy_on_all_hosts_is_a_few_messages(played: Plays) -> None:
    """Three hosts are ill by themselves; half an hour later all are, and recover region by region within the next."""
    steps = 2 * HOUR + 15
    alone = life(steps, {'cpu_usage_percent{core="all"}': pulse(10, steps, 99, 20)})
    lives = [(alone, [one]) for one in hosts("alone", 3)]
    for region in range(10):
        end = HOUR + 15 + 2 * region
        ill = life(
            steps,
            {'cpu_usage_percent{core="all"}': pulse(25, end, 99, 20)},
        )
        lives.append((ill, hosts(f"edge-{region}", HOSTS // 10, f"region-{region}")))
    _, told = played(lives)
    own = [one for one in told.messages if one.at < 24 * STEP_S]
    assert {one.alerts[0]["labels"]["hostname"] for one in own} == {"alone-000", "alone-001", "alone-002"}
    assert {channel: told.most_in_an_hour(channel) <= 20 for channel in CHANNELS} == dict.fromkeys(
        CHANNELS, True
    )
    names = {alert["labels"].get("hostname", "")[:5] for one in told.messages for alert in one.alerts}
    assert "edge-" not in names


def test_many_troubles_of_all_kinds_are_at_most_twenty_messages_an_hour(played: Plays) -> None:
    """Nine hosts in nine regions have each critical trouble that there is, none of which makes a crowd by itself, for two hours."""
    steps = 3 * HOUR
    troubles = {
        'cpu_usage_percent{core="all"}': 99,
        "memory_usage_percent": 99,
        'disk_await_time_ms{device="sda"}': 900,
        'network_bandwidth_usage_percent{interface="eth0"}': 99,
        ROOT: 97,
    }
    lives = [(life(steps), hosts("well", HOSTS - 45))]
    for n, (name, value) in enumerate(troubles.items()):
        begin = 10 + n
        ill = life(
            steps,
            {name: pulse(begin, 2 * HOUR, value, 1)},
        )
        lives.append((ill, hosts(f"ill-{n}", 9)))
    _, told = played(lives)
    assert told.messages
    most = {channel: told.most_in_an_hour(channel) for channel in CHANNELS}
    assert max(most.values()) <= 20, most


def test_a_link_that_comes_and_goes_neither_ends_nor_repeats_an_alert(played: Plays) -> None:
    """The links of a fifth of the hosts are out 9 of each 30 minutes, some at a time. Three have a full disk, which is cleared while one is out."""
    steps = 3 * HOUR

    def out(phase: int) -> Callable[[int], bool]:
        """Be out for the first five of each 15 steps, which begin earlier or later, once every host is known."""
        return lambda step: step - (step + phase) % 15 >= 15 and (step + phase) % 15 < 5

    full = {ROOT: pulse(20, 2 * HOUR + 2, 95, 40)}
    assert out(0)(2 * HOUR + 2), "the disk is cleared while nothing is heard"
    changes, told = played(
        [
            *((life(steps, out=out(phase)), hosts(f"edge-{phase}", HOSTS // 75)) for phase in range(15)),
            (life(steps), hosts("well", HOSTS * 4 // 5 + 15)),
            (life(steps, full, out=out(0)), hosts("full", 3)),
        ]
    )
    assert not [one for one in changes if one.labels["alertname"] != "HostDiskFull"]
    own = [one for one in told.messages if one.receiver == "critical"]
    about = Counter((one.alerts[0]["labels"]["hostname"], one.alerts[0]["status"]) for one in own)
    assert about == {(f"full-00{n}", status): 1 for n in range(3) for status in ("firing", "resolved")}
    assert len(told.channels["pagerduty"]) == 6


def test_a_host_that_dies_is_reported_though_another_of_its_name_lives(played: Plays) -> None:
    steps = HOUR + 10
    _, told = played(
        [
            (life(steps), [*hosts("well", HOSTS - 2), *hosts("gw", 1, "region-1", "lab")]),
            (life(steps, out=lambda step: step > 10), hosts("gw", 1, "region-1")),
        ]
    )
    [message] = told.messages
    [alert] = message.alerts
    assert alert["labels"]["alertname"] == "LimpetHostSilent"
    assert alert["labels"]["environment"] == "production"
