"""docs/alerts.md, made from the rule files and the runbooks: `python -m tools.alerts_page > docs/alerts.md`.

`rules()` is what tests and other tools read the rule files with. A rule's comment is what stands directly above it; what
an alert means is the first paragraph of its runbook; levels and durations are those of its `threshold` annotation.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import yaml

ROOT = Path(__file__).resolve().parents[1]
RULES = ROOT / "config" / "prometheus" / "rules"
RUNBOOKS = ROOT / "docs" / "runbooks"
FILES = ("fleet", "hosts", "limpet", "anomalies", "anomaly-alerts", "tiers")
"""In the order in which they are shown: `NAME.rules.yml`."""
GROUPS = ("cpu", "memory", "disk_io", "network", "disk_usage", "link", "fleet", "agent", "host")
"""The `group` labels of alerts, in the order in which they are shown."""


class Rule(NamedTuple):
    """One rule of a rule file. `name` is the alert's, or the recorded series'."""

    file: str
    group: str
    interval: str
    name: str
    is_alert: bool
    expr: str
    duration: str
    keep: str
    labels: dict[str, str]
    annotations: dict[str, str]
    comment: str


def rules(folder: Path = RULES) -> list[Rule]:
    """Return every rule, in the order of FILES and of the files."""
    return [rule for file in FILES for rule in _of(folder / f"{file}.rules.yml", file)]


def _of(path: Path, file: str) -> Iterator[Rule]:
    text = path.read_text()
    comments = iter(_comments(text))
    for group in yaml.safe_load(text)["groups"]:
        for one in group["rules"]:
            yield Rule(
                file,
                group["name"],
                group.get("interval", ""),
                one.get("alert") or one["record"],
                "alert" in one,
                one["expr"].strip(),
                one.get("for", ""),
                one.get("keep_firing_for", ""),
                one.get("labels", {}),
                one.get("annotations", {}),
                next(comments),
            )


def _comments(text: str) -> Iterator[str]:
    above: list[str] = []
    for line in map(str.strip, text.splitlines()):
        if line.startswith("#"):
            above.append(line.lstrip("# "))
        elif line.startswith(("- alert:", "- record:")):
            yield " ".join(above)
            above = []
        else:
            above = []


def meaning(alert: str) -> str:
    """Return the first paragraph of an alert's runbook, as one line."""
    return " ".join((RUNBOOKS / f"{alert}.md").read_text().split("\n\n")[1].split())


HEAD = """# Alerts, forecasts and baselines

<!-- Made by tools/alerts_page.py from config/prometheus/rules and docs/runbooks. Do not edit by hand. -->

`config/prometheus/prometheus.yml` loads the rules beside it. They are plain PromQL, and run in Prometheus (2.42 or
later), in Mimir's ruler and in VictoriaMetrics' vmalert alike ([below](#mimir-and-victoriametrics)).

    promtool check config config/prometheus/prometheus.yml
    promtool test rules config/prometheus/tests/*.test.yml

The second command is worth running after a level was changed: each alert has a test that it fires at its level and after
its time, not below, not before, that it clears, that a sawtooth around its level makes one alert of it, and that what
arrives late makes none.

## What an alert is about

**Labels**: `severity` (`warning`, `critical`), `group` (the table below), and the series' own: `hostname`, the labels of the
agent's configuration, and `device`, `mountpoint`, `interface` or `destination`. A signal with two levels has one name, so
the critical one mutes the warning.

**Annotations**: `summary`, `description`, `value` (now, with its unit), `threshold` (level, time, and when it clears), `trend`
(an hour ago and a day ago), `also` (what else is wrong on the host), and `runbook_url`. Where the runbooks are to be read is `external_labels.runbooks` in
`prometheus.yml`: set it to the address under which you keep `docs/runbooks`.

**The time that the specification gives** is `for`. Where it gives none, `for` is one minute, so that one sample pages nobody,
and two minutes for what is read once a minute. An OOM kill has none.

**No flapping**: an alert that fires goes on down to a second, lower level, and then for `keep_firing_for`. The second
level is asked by `ALERTS`, the series in which a ruler keeps its own alerts; a ruler without it has `keep_firing_for`.

## Late data

A host that was cut off sends hours of samples when it returns, and what was wrong in these hours may not page anybody
now. Rules are evaluated at the present, and an instant value is never older than five minutes, but a range reaches back
into what has just been filled in, and at the end of a backlog five minutes are enough for an old alert. So:

1. **An alert on a host is one on a live host.** `limpet:live:bool` has the hosts whose newest sample is less than two minutes
   old, and every alert asks for it. While a backlog comes in, oldest first, the host is not live, and raises nothing;
   when it is live, its newest values are the present. With `drain_order: fresh_first` it is live at once, and its backlog
   lies behind the newest values, where no instant value sees it.
2. **Ranges are short.** Events (OOM kills, drops, failures) are looked for in the last five minutes, hanging collectors in the
   last fifteen: the present of an event.
3. **What needs a longer past compares two instants** and asks the present again: a backlog grows if it is larger than ten
   minutes ago, a disk fills if it has less room than an hour ago, whatever a line through the whole window says. `for`
   then asks for it at each evaluation over minutes, all of which are after the backlog has arrived.
4. **Silence is told by arrival**: a host whose newest sample moves on, however old, is not silent.

Two alerts are about more than the present. `LimpetLossBudgetSpent` is about a budget of four weeks, so a backlog that tells of
a loss can raise it: the budget is spent now. `LimpetClockSkewed` looks for samples that are old because the clock is behind,
and tells them from a backlog by the receiver's clock.

**Recording rules miss what is late**: they run at the present, and the hours in which a host was cut off have no recorded
values. For alerts that is right. The forecasts of disks (`disk_full:seconds`) are made from raw samples, so they mend
themselves. The means of `anomalies.rules.yml` and the tiers have a gap there; a baseline goes over it, since it takes two
weeks of four. [retention.md](retention.md#what-arrives-late-is-not-in-the-tiers) has the commands that fill a gap later
(`promtool tsdb create-blocks-from rules`); what is asked of raw samples needs none.

Shown by `config/prometheus/tests` (the tests named `late`), on a real server by `tests/integration/test_rules_late.py` (six
hours in which everything was wrong, oldest first and newest first, without any `for`), and with real agents and a real
Alertmanager by `tests/integration/test_alerts_end_to_end.py`.

**With one destination only**, what the agent says of a link that is down or held comes when the link is back: then it is the
past, and LimpetHostSilent spoke for it. A second destination hears of it at once.

**Slow links**: an agent whose backlog takes hours, oldest first, is not live until it has caught up, and is heard of once its
newest sample is less than an hour old. `drain_order: fresh_first` or `auto` makes it live at once. Agents that send
less than once a minute (`batch_send_deadline`) need a larger number in `limpet:live:bool`.

## Hosts that come and go

No rule names a host. One is known from its first sample on, and forgotten three days after its last (`limpet:last_seen`).
An agent that is stopped ends its series at once, so its other alerts go; it is silent like any other. A host that is renamed
is two: silence the old one for three days.

"""

TAIL = """## Anomalies

`anomalies.rules.yml` says what is usual for a host: for each signal, the mean of the same hour of the week (with the hour
before and after) of the last four weeks, and how much it differs within and between them. From two weeks on there is a
z-score, and a band of three standard deviations. They cost {anomaly_rules} rules at any number of hosts, and are on; the
alerts on them are off, because what is unusual is often right. To turn them on, take the `#` from
`rules/anomaly-alerts.rules.yml` in `prometheus.yml`.

## What it costs

{cost}

## Mimir and VictoriaMetrics

- **Mimir**: `mimirtool rules load config/prometheus/rules/fleet.rules.yml ...` with the tenant's `X-Scope-OrgID`. There are no
  external labels, so alerts name the runbook's file. Its ruler writes `ALERTS` beside the recorded series.
- **VictoriaMetrics**: `vmalert -rule='config/prometheus/rules/*.rules.yml' -datasource.url=... -remoteRead.url=...
  -remoteWrite.url=... -notifier.url=... -external.label=runbooks=...`. It sees what it has recorded one interval later, so
  alerts come that much later. `-rule.evalDelay=0s` keeps `limpet:live:bool` at the present. Run by
  `vmalert-tool unittest` (1.145, `promql_expr_test` renamed to `metricsql_expr_test`), the tests of hosts, agents and fleets pass,
  but for two alerts on recorded series, which come a step later.
"""

COST = """For 1,000 hosts with 3 disks, 2 interfaces and 3 file systems each, a fiftieth of them in trouble (77,200 series), on two
cores, Prometheus 3.5: **every group takes less than a second**, most less than a quarter of one, at intervals of 15 s
to 150 s. The longest, in ms: `limpet-collectors` 595, `anomaly-variances-before` 378, `host-disk-trends` 364,
`anomaly-signals` 360, and of the tiers `tier-1m-network` 512. A run that meets others takes up to twice as long.
`tests/load/test_rules_load.py` measures it, with the machine for itself, and fails where a group takes a second. The hourly tiers had some minutes of data only, and are not proven by it.

An alert that is pending or firing costs about 0.2 ms for each figure of its trend. If all 1,000 hosts are in every trouble at
once (`LIMPET_RULES_ILL=1`), the groups of hosts take 1 to 4 s, and `limpet-collectors`, with 18,000 alerts, 9 s: less than
their interval, so none is left out."""


def page() -> str:
    """Return the page."""
    found = rules()
    anomalies = sum(rule.file == "anomalies" for rule in found)
    parts = [HEAD, "## The alerts\n\n", *_alerts(found), "## Recorded series\n\n", *_records(found)]
    return "".join(parts) + TAIL.format(anomaly_rules=anomalies, cost=COST)


def _alerts(found: list[Rule]) -> Iterator[str]:
    alerts = [rule for rule in found if rule.is_alert]
    for group in GROUPS:
        those = [rule for rule in alerts if rule.labels["group"] == group]
        yield f"### {group}\n\n| alert | severity | level and time | `for` | `keep_firing_for` |\n|---|---|---|---|---|\n"
        for rule in those:
            name = f"[{rule.name}](runbooks/{rule.name}.md)"
            trouble = f", `{rule.labels['trouble']}`" if "trouble" in rule.labels else ""
            level = rule.annotations["threshold"]
            yield (
                f"| {name}{trouble} | {rule.labels['severity']} | {level} | {rule.duration or '0s'} | {rule.keep} |\n"
            )
        yield "\n"
        for name in dict.fromkeys(rule.name for rule in those):
            off = next(rule for rule in those if rule.name == name).file == "anomaly-alerts"
            yield f"- **{name}**{' (off by default)' if off else ''}: {meaning(name)}\n"
        yield "\n"


def _records(found: list[Rule]) -> Iterator[str]:
    for file in FILES:
        recorded = [rule for rule in found if rule.file == file and not rule.is_alert]
        if not recorded:
            continue
        off = " (off by default)" if file == "tiers" else ""
        yield f"### {file}.rules.yml{off}\n\n"
        if file == "tiers":
            yield from _tiers(recorded)
            continue
        yield "| series | each | what it is |\n|---|---|---|\n"
        for name, same in groupby(recorded, key=lambda rule: rule.name):
            group = list(same)
            what = group[0].comment or f"`{re.sub(r' +', ' ', group[0].expr.replace(chr(10), ' '))}`"
            by = [key for key in group[0].labels if len(group) > 1]
            values = "; `" + by[0] + "`: " + ", ".join(rule.labels[by[0]] for rule in group) if by else ""
            yield f"| `{name}` | {group[0].interval} | {what}{values} |\n"
        yield "\n"


def _tiers(recorded: list[Rule]) -> Iterator[str]:
    kinds: dict[str, list[str]] = {}
    for rule in recorded:
        series, _, kind = rule.name.partition(":")
        kinds.setdefault(kind, []).append(series)
    yield "| series | of |\n|---|---|\n"
    for kind, those in kinds.items():
        yield f"| `...:{kind}` | {', '.join(f'`{one}`' for one in those)} |\n"
    yield "\n"


if __name__ == "__main__":
    print(page(), end="")
