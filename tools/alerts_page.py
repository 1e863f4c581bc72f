"""The tables of docs/alerts.md, made from the rule files and the runbooks: `python -m tools.alerts_page` writes them there.

They are between `<!-- alerts -->` or `<!-- records -->` and `<!-- end -->`. Tests and other tools read the rule files with
`rules()`. A rule's comment is the one directly above it; the meaning of an alert is the first sentence of its runbook;
levels and durations are those of its `threshold` annotation.
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
PAGE = ROOT / "docs" / "alerts.md"
RUNBOOKS = ROOT / "docs" / "runbooks"
FILES = ("fleet", "hosts", "limpet", "targets", "tiers")
OFF = ("targets", "tiers")
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
    """Return the first sentence of an alert's runbook, as one line."""
    return _first(" ".join((RUNBOOKS / f"{alert}.md").read_text().split("\n\n")[1].split()))


def _first(text: str) -> str:
    return re.split(r"(?<=\.) (?=[A-Z])", text)[0]


def filled(page: str) -> str:
    """Return the page with its tables as the rules are now."""
    found = rules()
    tables = {"alerts": "".join(_alerts(found)), "records": "".join(_records(found))}
    return re.sub(
        r"<!-- (alerts|records) -->\n.*?<!-- end -->",
        lambda match: f"<!-- {match[1]} -->\n{tables[match[1]].strip()}\n<!-- end -->",
        page,
        flags=re.DOTALL,
    )


def _alerts(found: list[Rule]) -> Iterator[str]:
    alerts = [rule for rule in found if rule.is_alert]
    for group in GROUPS:
        yield f"### {group}\n\n| alert | warning | critical | what it means |\n|---|---|---|---|\n"
        those = [rule for rule in alerts if rule.labels["group"] == group]
        for (name, trouble), same in groupby(
            those, key=lambda rule: (rule.name, rule.labels.get("trouble", ""))
        ):
            levels = {rule.labels["severity"]: rule.annotations["threshold"] for rule in same}
            first = next(rule for rule in those if rule.name == name)
            means = meaning(name) if first.labels.get("trouble", "") == trouble else ""
            off = " (off by default)" if first.file in OFF else ""
            kind = f" `{trouble}`" if trouble else ""
            warning, critical = levels.get("warning", ""), levels.get("critical", "")
            if "info" in levels:
                warning = f"{levels['info']} (`info`)"
            yield f"| [{name}](runbooks/{name}.md){kind}{off} | {warning} | {critical} | {means} |\n"
        yield "\n"


def _records(found: list[Rule]) -> Iterator[str]:
    for file in FILES:
        recorded = [rule for rule in found if rule.file == file and not rule.is_alert]
        if not recorded:
            continue
        off = " (off by default)" if file in OFF else ""
        yield f"### {file}.rules.yml{off}\n\n"
        if file == "tiers":
            yield from _tiers(recorded)
            continue
        yield "| series | each | what it is |\n|---|---|---|\n"
        for name, same in groupby(recorded, key=lambda rule: rule.name):
            group = list(same)
            what = _first(group[0].comment) or f"`{re.sub(r' +', ' ', group[0].expr.replace(chr(10), ' '))}`"
            by = [key for key in group[0].labels if len(group) > 1]
            values = "; `" + by[0] + "`: " + ", ".join(rule.labels[by[0]] for rule in group) if by else ""
            yield f"| `{name}` | {group[0].interval} | {what}{values} |\n"
        yield "\n"


def _tiers(recorded: list[Rule]) -> Iterator[str]:
    """Yield the table of the tiers: each list of series once, with all kinds that are recorded of it."""
    kinds: dict[str, list[str]] = {}
    for rule in recorded:
        series, _, kind = rule.name.partition(":")
        kinds.setdefault(kind, []).append(series)
    same: dict[tuple[str, ...], list[str]] = {}
    for kind, those in kinds.items():
        same.setdefault(tuple(those), []).append(kind)
    yield "| series | of |\n|---|---|\n"
    for series_of, names in same.items():
        shown = ", ".join(f"`...:{kind}`" for kind in names)
        yield f"| {shown} | {', '.join(f'`{one}`' for one in series_of)} |\n"
    yield "\n"


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text()))
