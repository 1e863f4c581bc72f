"""Which messages people get about agents: what was lost, and what no data would show. By the rules that ship, and a real Alertmanager.

See `tests.support.plays` for the size and the pace.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest

from tests.support.delivered import DAY, Told
from tests.support.played import STEP_S, Change, Labels, Life
from tests.support.plays import CHANNELS, HOSTS, Plays, hosts, life, pulse, spoken, summary

pytestmark = pytest.mark.timeout(1800)
IN_ORDER = True
SLOW_S = 240
"""Seconds between samples in a play of a week."""
WEEK = 7 * DAY // SLOW_S
LOSSES = ("limpet-live", "limpet-presence", "limpet-silence", "limpet-losses", "limpet-burn", "limpet-many")


def collected(
    steps: int, first: int, *, off_min: int = 0, lost: Callable[[int], float] = lambda _: 0
) -> Life:
    """Return a host that is known from a step on. It collects 1,000 samples a step, is off for minutes after a week, and loses a share of
    what it collects in a step.
    """
    gap = off_min * 60 // SLOW_S
    dropped, total = [0.0] * steps, 0.0
    for step in range(steps):
        total += 1000 * lost(step)
        dropped[step] = total
    central = 'destination="central"'
    values: dict[str, Callable[[int], float]] = {
        "limpet_start_time_seconds": lambda step: 1 + (step >= WEEK),
        "host_boot_time_seconds": lambda step: (
            (WEEK * SLOW_S + off_min * 60) * (step >= WEEK) * (off_min > 0)
        ),
        "limpet_buffer_appended_samples_total": lambda step: 1000 * (step - first),
        "limpet_buffer_missed_samples_total": lambda step: 1000 * off_min * 60 / SLOW_S * (step >= WEEK),
        f"limpet_destination_appended_samples_total{{{central}}}": lambda step: 1000 * (step - first),
        f'limpet_destination_dropped_samples_total{{{central}, reason="evicted"}}': lambda step: dropped[
            step
        ],
        f'limpet_destination_dropped_samples_total{{{central}, reason="relabeled"}}': lambda _: 0,
    }
    return {
        name: [None if step < first or WEEK < step <= WEEK + gap else value(step) for step in range(steps)]
        for name, value in values.items()
    }


def test_a_box_that_was_off_has_lost_nothing_and_a_loss_pages_while_it_continues(played: Plays) -> None:
    """Off for 3, 5 and 15 minutes, after a day and a quarter, two days and a week; later others lose 13 % for three quarters of an hour.

    Three of them lose by themselves, three quarters of an hour before the others.
    """
    alone, crowd, lasts = WEEK + 25, WEEK + 36, 45 * 60 // SLOW_S
    steps = WEEK + 70
    share = HOSTS // 4
    _, told = played(
        [
            (collected(steps, WEEK - 5 * DAY // 4 // SLOW_S, off_min=3), hosts("day", share, "north")),
            (collected(steps, WEEK - 2 * DAY // SLOW_S, off_min=5), hosts("two", share, "south")),
            (collected(steps, 0, off_min=15), hosts("week", share, "east")),
            (collected(steps, 0, lost=pulse(alone, alone + lasts, 0.13, 0)), hosts("alone", 3)),
            (collected(steps, 0, lost=pulse(crowd, crowd + lasts, 0.13, 0)), hosts("crowd", share)),
        ],
        LOSSES,
        sampled_s=SLOW_S,
        evaluated_s=SLOW_S,
        faster=600,
    )
    silent = {name: number for name, number in summary(told).items() if "Silent" in name[0]}
    assert silent == {("LimpetFleetSilent", "firing"): 1, ("LimpetFleetSilent", "resolved"): 1}
    losses = [one for one in told.messages if one.alerts[0]["labels"]["alertname"] == "LimpetLossBudgetSpent"]
    assert {alert["labels"]["hostname"][:5] for one in losses for alert in one.alerts} == {"alone"}
    assert {alert["labels"]["severity"] for one in losses for alert in one.alerts} == {"critical"}
    assert spoken(told, "LimpetLossBudgetSpent") == {f"alone-00{n}": ["firing", "resolved"] for n in range(3)}
    assert {one.receiver for one in losses} == {"critical"}
    assert one_of_crowd(told) == {("agent", "critical")}


def one_of_crowd(told: Told) -> set[tuple[str, str]]:
    """Return of which groups and levels there were messages about a crowd, and check that all were over at the end."""
    labels = [alert["labels"] for one in told.messages for alert in one.alerts]
    found = {(one["of"], one["severity"]) for one in labels if one["alertname"] == "LimpetManyHosts"}
    for receiver, level in (("fleet", "critical"), ("fleet-warning", "warning")):
        of = [alert for one in told.messages if one.receiver == receiver for alert in one.alerts]
        assert {alert["labels"]["severity"] for alert in of} <= {level}
        last = {
            (alert["labels"]["of"], alert["labels"]["region"]): alert["status"]
            for alert in of
            if "of" in alert["labels"]
        }
        assert set(last.values()) <= {"resolved"}
    return found


class Trouble(NamedTuple):
    """What nobody would notice without an alert: what a host sends from one step to another, and what there must be.

    The alert begins within so many minutes, counted from the end of the trouble where this is a `gap`.
    """

    alert: str
    sent: Callable[[int, int], dict[str, Callable[[int], float]]]
    within_min: int
    steps: int = 15
    is_gap: bool = False
    channels: frozenset[str] = frozenset(("email", "slack", "webhook"))
    group: tuple[str, str] = ("agent", "warning")


def restarts(begin: int, end: int) -> dict[str, Callable[[int], float]]:
    return {"limpet_start_time_seconds": lambda step: 1 + 60 * min(max(step - begin, 0), end - begin)}


def appends(begin: int, end: int) -> dict[str, Callable[[int], float]]:
    return {
        'limpet_buffer_state{state="ok"}': pulse(begin, end, 0, 1),
        'limpet_buffer_state{state="readonly"}': pulse(begin, end, 1, 0),
        'limpet_buffer_state{state="full"}': lambda _: 0,
    }


def certificate(begin: int, end: int) -> dict[str, Callable[[int], float]]:
    """Return one that ends 14 days after a step, and is renewed."""
    name = 'limpet_destination_certificate_end_time_seconds{destination="central"}'
    return {name: lambda step: begin * STEP_S + (14 if step < end else 90) * DAY}


def supply(begin: int, end: int) -> dict[str, Callable[[int], float]]:
    """Return one that dips, each second minute."""
    return {
        'sensor_undervoltage{sensor="raspberrypi"}': lambda step: float(begin <= step < end and step % 2 == 0)
    }


TROUBLES = {
    "an agent that starts again and again": Trouble("LimpetAgentRestarting", restarts, 18),
    "appends that fail, while a destination still gets data": Trouble("LimpetBufferIll", appends, 18, 30),
    "a target down": Trouble(
        "HostTargetDown",
        lambda begin, end: {'up{instance="localhost:9100", job="node"}': pulse(begin, end, 0, 1)},
        8,
        group=("host", "warning"),
    ),
    "a text file in error": Trouble(
        "HostTextFileError",
        lambda begin, end: {"node_textfile_scrape_error": pulse(begin, end, 1, 0)},
        8,
        group=("host", "warning"),
    ),
    "a process killed in a gap": Trouble(
        "HostOomKill",
        lambda begin, end: {"memory_oom_kills_total": lambda step: 2 + (step > begin)},
        4,
        2,
        is_gap=True,
        channels=frozenset(CHANNELS),
        group=("memory", "critical"),
    ),
    "a reload refused": Trouble(
        "LimpetConfigReloadFailed",
        lambda begin, end: {"limpet_config_reload_successful": pulse(begin, end, 0, 1)},
        8,
    ),
    "a certificate that ends": Trouble("LimpetCertificateEnds", certificate, 8, group=("link", "warning")),
    "a supply too weak": Trouble("HostThrottled", supply, 18, group=("host", "warning")),
}
OFF_BY_DEFAULT = ("rules/targets.rules.yml",)


def troubled(steps: int, begins: dict[str, int]) -> Life:
    """Return a host that has troubles, each from its step on."""
    values: dict[str, Callable[[int], float]] = {}
    gaps = set[int]()
    for name, begin in begins.items():
        one = TROUBLES[name]
        values |= one.sent(begin, begin + one.steps)
        if one.is_gap:
            gaps |= set(range(begin + 1, begin + 1 + one.steps))
    return life(steps, values, out=lambda step: step in gaps)


def began(changes: list[Change], alertname: str, hostname: str) -> list[int]:
    """Return the seconds at which a host's alert began."""
    labels: Labels = {"alertname": alertname, "hostname": hostname}
    return [one.at for one in changes if one.begins and labels.items() <= one.labels.items()]


def test_what_no_data_would_show_is_a_message_and_ends(played: Plays) -> None:
    """Eight hosts have each a trouble of which their data says nothing: each has its own message on its channels, and another when it is over."""
    begin, steps = 10, 70
    of = {name: f"ill-00{n}" for n, name in enumerate(TROUBLES)}
    ill = [
        (troubled(steps, {name: begin}), [host])
        for name, host in zip(TROUBLES, hosts("ill", len(TROUBLES)), strict=True)
    ]
    changes, told = played(
        [*ill, (life(steps), hosts("well", HOSTS - len(TROUBLES)))], optional=OFF_BY_DEFAULT, faster=600
    )
    for name, one in TROUBLES.items():
        [at] = began(changes, one.alert, of[name])
        since = begin + 1 + one.steps if one.is_gap else begin
        assert at - since * STEP_S <= one.within_min * 60, name
        assert spoken(told, one.alert) == {of[name]: ["firing", "resolved"]}, name
    about = {(alert["labels"]["alertname"], one.receiver) for one in told.messages for alert in one.alerts}
    paged = {one.alert for one in TROUBLES.values() if "pagerduty" in one.channels}
    assert {alertname for alertname, _ in about} == {one.alert for one in TROUBLES.values()}
    assert {alertname for alertname, receiver in about if receiver == "critical"} == paged
    assert {receiver for _, receiver in about} == {"critical", "warning", "link-warning"}
    counts = {channel: len(times) for channel, times in told.channels.items()}
    assert counts == {"email": 16, "slack": 16, "webhook": 16, "pagerduty": 2}


WAVES = (
    ("a reload refused", "a text file in error"),
    ("a certificate that ends", "a process killed in a gap"),
    ("an agent that starts again and again", "a supply too weak"),
    ("appends that fail, while a destination still gets data", "a target down"),
)
"""Two at a time, since promtool has no room for more alerts of a thousand hosts."""
APART = 38
"""Steps between them: a crowd is over by then."""


def test_what_no_data_would_show_on_all_hosts_is_a_few_messages(played: Plays) -> None:
    """All hosts have each of these troubles, two at a time: one CA's certificate ends, one bad configuration is refused by all, and so on."""
    first = 10
    steps = first + APART * len(WAVES) + 20
    begins = {name: first + APART * n for n, wave in enumerate(WAVES) for name in wave}
    assert begins.keys() == TROUBLES.keys()
    changes, told = played(
        [(troubled(steps, begins), hosts("edge", HOSTS))], optional=OFF_BY_DEFAULT, faster=600
    )
    for name, one in TROUBLES.items():
        assert began(changes, one.alert, "edge-000"), name
        begin = begins[name] * STEP_S
        about = [
            (alert["labels"]["of"], alert["labels"]["severity"])
            for message in told.messages
            for alert in message.alerts
            if alert["status"] == "firing" and begin <= message.at < begin + APART * STEP_S
        ]
        assert one.group in about, name
    assert one_of_crowd(told) == {one.group for one in TROUBLES.values()}
    names = {alert["labels"]["alertname"] for one in told.messages for alert in one.alerts}
    assert names == {"LimpetManyHosts"}
    paged = [one for one in told.messages if one.receiver == "fleet"]
    assert len(told.channels["pagerduty"]) == len(paged) == 2, "of processes that were killed"
