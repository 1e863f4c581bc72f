"""The rules that ship, played through over hours and weeks of a fleet: which alert began when, and when it ended.

What the hosts send is written as promtool's input series, and promtool evaluates the rules: the engine, `for`, `keep_firing_for` and
ALERTS are Prometheus's own. Three things are coarser than in real life. A sample and an evaluation come each two minutes (groups
have 15 s to 150 s), or as often as a play says. A gap of a host stays a gap, since promtool has no samples that come late. And the rules
about hosts are played for some hosts at a time, then those about the fleet over what came of it: the former read nothing of the
latter. Texts are left out: they cost queries, and change no alert.

Rules about the trend of disks look back for weeks. `trends` plays them alone, each four minutes, and `play` leaves them out.

Hosts with the same life are played once, and have the same alerts under their own labels.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from tests.support.durations import seconds
from tests.support.prometheus import CONFIG
from tests.support.run import run

STEP_S = 120
"""Seconds between the samples of a series, and between evaluations, where a play does not say otherwise."""
AT_ONCE = 18
"""Hosts in one promtool: twice as many cost half as much again, and two run at once."""
TREND_S = 2 * STEP_S
"""Seconds between evaluations of trends: fewer than the five minutes for which a value counts."""
_TRENDS = re.compile(r"disk_free_bytes:.*|disk_full:.*|HostDiskFilling")
_OF_TRENDS = re.compile(
    r"(limpet_start_time_seconds|limpet_destination_interval_seconds|disk_free_bytes|disk_readonly)\b.*"
)
"""What these rules, and those about which hosts are live, read of an agent."""
_OF_LIVE = re.compile(r"limpet:(live|last_seen|first_seen|not_live):.*")

Labels = dict[str, str]
Life = Mapping[str, Sequence[float | None]]
"""What a host sends: of each series (a name, and labels of its own in braces or none) the value at each step, or None."""

_STATES = ("limpet:silent:bool", "limpet:last_seen:timestamp_seconds", "limpet:usually_off:bool")
"""What the rules about the fleet read of hosts, in addition to ALERTS."""
_OF_HOSTS = f'{{__name__=~"ALERTS|{"|".join(_STATES)}", alertstate!="pending"}}'
_OF_FLEET = 'ALERTS{alertstate="firing", hostname=""}'
_FAILED = re.compile(r"^    expr: .*, time: (\w+),$")
_GOT = re.compile(r"\{([^{}]*)\} [-+.\dE]+")
_LABEL = re.compile(r'(\w+)="([^"]*)"')


class Change(NamedTuple):
    """An alert or a state that has begun, or has ended: seconds since the start, which of the two, and its labels."""

    at: int
    begins: bool
    labels: Labels


def shipped(optional: Collection[str] = ()) -> list[dict[str, Any]]:
    """Return the groups of the rules that are on by default, and of these files that are not, without texts."""
    found: list[dict[str, Any]] = []
    for file in [*yaml.safe_load(CONFIG.read_text())["rule_files"], *optional]:
        for group in yaml.safe_load((CONFIG.parent / file).read_text())["groups"]:
            for rule in group["rules"]:
                rule.pop("annotations", None)
            found.append(group)
    return found


def _about_the_fleet(rule: Mapping[str, Any]) -> bool:
    group: object = rule.get("labels", {}).get("group")
    return group == "fleet" or str(rule.get("record", "")).endswith(":count")


def _is(rule: Mapping[str, Any], name: re.Pattern[str]) -> bool:
    return name.fullmatch(str(rule.get("record") or rule.get("alert"))) is not None


def _only(
    wanted: Callable[[Mapping[str, Any]], bool], names: Collection[str] = (), optional: Collection[str] = ()
) -> list[dict[str, Any]]:
    """Return the groups of these names (all, if there are none), with the rules that are wanted."""
    groups = [
        group | {"rules": [rule for rule in group["rules"] if wanted(rule)]}
        for group in shipped(optional)
        if not names or group["name"] in names
    ]
    return [group for group in groups if group["rules"]]


def play(
    promtool: Path,
    folder: Path,
    lives: Sequence[tuple[Life, Sequence[Labels]]],
    groups: Collection[str] = (),
    *,
    optional: Collection[str] = (),
    sampled_s: int = STEP_S,
    evaluated_s: int = STEP_S,
) -> list[Change]:
    """Play lives, each with the labels of the hosts that have it; return what alerts begin and end, oldest first.

    Only by the rules of some groups, where these are named; also by rule files that are off by default, where these are. By the
    rules about trends only where their groups are named.
    """

    def of_hosts_alone(rule: Mapping[str, Any]) -> bool:
        return not _about_the_fleet(rule) and (bool(groups) or not _is(rule, _TRENDS))

    hosts = _only(of_hosts_alone, groups, optional)
    fleet = _only(_about_the_fleet, groups, optional)
    steps = _steps(lives, sampled_s, evaluated_s)
    of_hosts = _in_batches(promtool, folder / "hosts", lives, hosts, sampled_s, evaluated_s)
    held = _held(of_hosts, steps, evaluated_s)
    of_fleet = _evaluated(promtool, folder / "fleet", fleet, held, steps, _OF_FLEET, evaluated_s, evaluated_s)
    return _alerts((*of_hosts, *of_fleet))


def trends(promtool: Path, folder: Path, lives: Sequence[tuple[Life, Sequence[Labels]]]) -> list[Change]:
    """Play lives by the rules about the trend of disks; return what alerts begin and end, oldest first.

    Rules about the fleet do not hear of these alerts.
    """
    rules = _only(lambda rule: _is(rule, _TRENDS) or _is(rule, _OF_LIVE))
    read = [
        (
            {
                name: values[:: TREND_S // STEP_S]
                for name, values in life.items()
                if _OF_TRENDS.fullmatch(name)
            },
            labels,
        )
        for life, labels in lives
    ]
    return _alerts(_in_batches(promtool, folder, read, rules, TREND_S, TREND_S))


def _in_batches(
    promtool: Path,
    folder: Path,
    lives: Sequence[tuple[Life, Sequence[Labels]]],
    rules: list[dict[str, Any]],
    sampled_s: int,
    evaluated_s: int,
) -> list[Change]:
    """Evaluate rules about hosts for some lives at a time, as many batches as needed, equally large; return what changes."""
    size = -(-len(lives) // -(-len(lives) // AT_ONCE))
    steps = _steps(lives, sampled_s, evaluated_s)

    def one(first: int) -> list[Change]:
        series = [
            (_named(name, {"life": f"{first + n}"} | labels[0]), runs(values))
            for n, (life, labels) in enumerate(lives[first : first + size])
            for name, values in life.items()
        ]
        return _evaluated(
            promtool, folder / f"{first}", rules, series, steps, _OF_HOSTS, sampled_s, evaluated_s
        )

    with ThreadPoolExecutor(2) as pool:
        found = [change for batch in pool.map(one, range(0, len(lives), size)) for change in batch]
    return [
        Change(at, begins, {k: v for k, v in labels.items() if k != "life"} | host)
        for at, begins, labels in found
        for host in lives[int(labels["life"])][1]
    ]


def _steps(lives: Sequence[tuple[Life, Sequence[Labels]]], sampled_s: int, evaluated_s: int) -> int:
    """Return the number of evaluations in lives, all of which are equally long."""
    [samples] = {len(values) for life, _ in lives for values in life.values()}
    return -(-samples * sampled_s // evaluated_s)


def _alerts(changes: Iterable[Change]) -> list[Change]:
    """Return the changes of alerts, oldest first, with the labels that an alert has."""
    alerts = [one for one in changes if one.labels["__name__"] == "ALERTS"]
    return sorted(
        (
            Change(at, begins, {k: v for k, v in labels.items() if k not in ("__name__", "alertstate")})
            for at, begins, labels in alerts
        ),
        key=lambda one: one.at,
    )


def _held(changes: Iterable[Change], steps: int, step_s: int) -> Iterator[tuple[str, str]]:
    """Write what was true of hosts as series, from each beginning to its end; of an alert also since when."""
    spans: dict[tuple[tuple[str, str], ...], list[tuple[int, bool]]] = {}
    for at, begins, labels in changes:
        spans.setdefault(tuple(labels.items()), []).append((at // step_s, begins))
    for labelled, times in spans.items():
        own = dict(labelled)
        name = own.pop("__name__")
        values: list[float | None] = [None] * steps
        since: list[float | None] = [None] * steps
        for (begin, begins), (end, _) in zip(times, [*times[1:], (steps, False)], strict=True):
            if begins:
                values[begin:end] = [1.0] * (end - begin)
                since[begin:end] = [float(begin * step_s)] * (end - begin)
        yield _named(name, own), runs(values)
        if name == "ALERTS":
            yield _named("ALERTS_FOR_STATE", {k: v for k, v in own.items() if k != "alertstate"}), runs(since)


def _named(name: str, labels: Mapping[str, str]) -> str:
    """Add labels to the name of a series, which may have some."""
    own = ", ".join(f"{key}={json.dumps(value)}" for key, value in labels.items())
    return f"{name[:-1]}, {own}}}" if name.endswith("}") else f"{name}{{{own}}}"


def runs(values: Iterable[float | None]) -> str:
    """Return the values of a series as promtool writes them, equal ones as one; None is no sample."""
    words: list[str] = []
    last, count = "", 0
    for value in [*values, ...]:
        word = "" if value is ... else "_" if value is None else f"{value:.10g}"
        if word == last:
            count += 1
            continue
        if last:
            words.append(f"_x{count}" if last == "_" else f"{last}x{count - 1}" if count > 1 else last)
        last, count = word, 1
    return " ".join(words)


def _evaluated(
    promtool: Path,
    folder: Path,
    groups: list[dict[str, Any]],
    series: Iterable[tuple[str, str]],
    steps: int,
    watched: str,
    sampled_s: int,
    evaluated_s: int,
) -> list[Change]:
    """Evaluate groups over series; return what begins and ends to be there of what is watched."""
    folder.mkdir(parents=True)
    now, before = (  # with the name as a label too: `unless` looks at labels only
        f'label_replace({watched}{at}, "is", "$1", "__name__", "(.+)")'
        for at in ("", f" offset {evaluated_s}s")
    )
    changed = " or ".join(
        f'label_replace({one} unless {other}, "change", "{change}", "", "")'
        for one, other, change in ((now, before, "begins"), (before, now, "ends"))
    )
    test = {
        "name": "played",
        "interval": f"{sampled_s}s",
        "input_series": [{"series": name, "values": values} for name, values in series],
        "promql_expr_test": [
            {"expr": changed, "eval_time": f"{step * evaluated_s}s", "exp_samples": []}
            for step in range(steps)
        ],
    }
    (folder / "rules").write_text(json.dumps({"groups": groups}))
    path = folder / "test.yml"
    order = [group["name"] for group in groups]
    file = {"rule_files": ["rules"], "evaluation_interval": f"{evaluated_s}s", "group_eval_order": order}
    path.write_text(json.dumps(file | {"tests": [test]}))
    environment = os.environ | {"GOMAXPROCS": "1", "GOGC": "400"}
    done = run(promtool, "test", "rules", path, timeout=7200, env=environment)
    return list(_changes(done.stdout + done.stderr))


def _changes(printed: str) -> Iterator[Change]:
    """Read what promtool found where nothing was expected."""
    at = None
    for line in printed.splitlines():
        if match := _FAILED.match(line):
            at = seconds(match[1])
        elif line.lstrip().startswith("got: "):
            assert at is not None
            for labels in _GOT.findall(line):
                found = dict(_LABEL.findall(labels))
                begins = found.pop("change") == "begins"
                yield Change(at, begins, {"__name__": found.pop("is")} | found)
        else:
            assert not re.match(r"\s+(rule|parse|err)", line), line
