"""The rules that ship, played through over hours and weeks of a fleet: which alert began when, and when it ended.

What the hosts send is written as promtool's input series, and promtool evaluates the rules: the engine, `for`, `keep_firing_for` and
ALERTS are Prometheus's own. Three things are coarser than in real life. A sample and an evaluation come each two minutes (groups
have 15 s to 150 s), or as often as a play says. A gap of a host stays a gap, since promtool has no samples that come late. And promtool has room for the samples of a
few hosts only, so the rules about hosts are played for a few hosts at a time, then those about the fleet over what came of it: the
former read nothing of the latter. Texts are left out: they cost queries, and change no alert.

Hosts with the same life are played once, and have the same alerts under their own labels.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from tests.support.prometheus import CONFIG
from tests.support.run import run

STEP_S = 120
"""Seconds between the samples of a series, and between evaluations, where a play does not say otherwise."""
AT_ONCE = 12
"""Hosts in one promtool: it has room for 10,000 samples in a query, and a trend of a day takes 720 of each disk."""

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
_SECONDS = {"d": 86400, "h": 3600, "m": 60, "s": 1}


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


def _split(
    names: Collection[str], optional: Collection[str]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the groups of these names (all, if there are none) about hosts, and those about the fleet, which read what the others make."""
    both = []
    for fleet in (False, True):
        groups = [
            group | {"rules": [rule for rule in group["rules"] if _about_the_fleet(rule) == fleet]}
            for group in shipped(optional)
            if not names or group["name"] in names
        ]
        both.append([group for group in groups if group["rules"]])
    return both[0], both[1]


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

    Only by the rules of some groups, where these are named; also by rule files that are off by default, where these are.
    """
    hosts, fleet = _split(groups, optional)
    [samples] = {len(values) for life, _ in lives for values in life.values()}
    steps = -(-samples * sampled_s // evaluated_s)
    size = -(-len(lives) // -(-len(lives) // AT_ONCE))  # as many batches as needed, equally large
    batches = [lives[first : first + size] for first in range(0, len(lives), size)]

    def one(number: int) -> list[Change]:
        series = [
            (_named(name, {"life": f"{number * size + n}"} | labels[0]), runs(values))
            for n, (life, labels) in enumerate(batches[number])
            for name, values in life.items()
        ]
        place = folder / f"hosts-{number}"
        return _evaluated(promtool, place, hosts, series, steps, _OF_HOSTS, sampled_s, evaluated_s)

    with ThreadPoolExecutor(2) as pool:
        found = [change for batch in pool.map(one, range(len(batches))) for change in batch]
    of_hosts = [
        Change(at, begins, {k: v for k, v in labels.items() if k != "life"} | host)
        for at, begins, labels in found
        for host in lives[int(labels["life"])][1]
    ]
    held = _held(of_hosts, steps, evaluated_s)
    of_fleet = _evaluated(promtool, folder / "fleet", fleet, held, steps, _OF_FLEET, evaluated_s, evaluated_s)
    alerts = [one for one in (*of_hosts, *of_fleet) if one.labels["__name__"] == "ALERTS"]
    return sorted(
        (
            Change(at, begins, {k: v for k, v in labels.items() if k not in ("__name__", "alertstate")})
            for at, begins, labels in alerts
        ),
        key=lambda one: one.at,
    )


def _held(changes: Iterable[Change], steps: int, step_s: int) -> Iterator[tuple[str, str]]:
    """Write what was true of hosts as series, from each beginning to its end."""
    spans: dict[str, list[tuple[int, bool]]] = {}
    for at, begins, labels in changes:
        name = labels["__name__"]
        own = {k: v for k, v in labels.items() if k != "__name__"}
        spans.setdefault(_named(name, own), []).append((at // step_s, begins))
    for series, times in spans.items():
        values: list[float | None] = [None] * steps
        for (begin, begins), (end, _) in zip(times, [*times[1:], (steps, False)], strict=True):
            if begins:
                values[begin:end] = [1.0] * (end - begin)
        yield series, runs(values)


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
            at = sum(int(n) * _SECONDS[unit] for n, unit in re.findall(r"(\d+)([dhms])", match[1]))
        elif line.lstrip().startswith("got: "):
            assert at is not None
            for labels in _GOT.findall(line):
                found = dict(_LABEL.findall(labels))
                begins = found.pop("change") == "begins"
                yield Change(at, begins, {"__name__": found.pop("is")} | found)
        else:
            assert not re.match(r"\s+(rule|parse|err)", line), line
