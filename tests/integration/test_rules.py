"""The rules that ship: promtool finds nothing wrong, each alert has all its tests, and the tests can fail.

`promtool test rules` runs config/prometheus/tests, as an operator would who changed a level. That its tests notice a
changed level, a changed time and a missing gate is shown by changing them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support import rules
from tests.support.durations import seconds
from tests.support.prometheus import CONFIG
from tests.support.run import output, run

pytestmark = pytest.mark.timeout(900)
ALERTS = rules.alerts()
KINDS = {"fires", "not before", "not below", "clears", "sawtooth", "late"}
ANNOTATIONS = {"summary", "description", "value", "threshold", "trend", "runbook_url"}
GROUPS = {"cpu", "memory", "disk_io", "network", "disk_usage", "host", "link", "agent", "fleet"}
UNGATED = {alert for alert, rule in ALERTS.items() if "limpet:live:bool" not in rule["expr"]}
DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_promtool_finds_nothing_wrong_with_configuration_and_rules(promtool_program: Path) -> None:
    output(promtool_program, "check", "config", CONFIG)
    files = rules.RULES.glob("*.rules.yml")
    output(promtool_program, "check", "rules", "--lint=all", "--lint-fatal", *files)


def test_vmalert_takes_the_rules_too(victoria_program: Path) -> None:
    done = run(victoria_program.with_name("vmalert"), "-dryRun", f"-rule={rules.RULES}/*.rules.yml")
    assert done.returncode == 0, done.stderr
    assert "finished reading 5 files" in done.stderr + done.stdout


def test_every_rule_file_is_loaded_or_named_as_off() -> None:
    on = yaml.safe_load(CONFIG.read_text())["rule_files"]
    off = re.findall(r"^  # - (\S+)", CONFIG.read_text(), re.MULTILINE)
    assert {*on, *off} >= {f"rules/{path.name}" for path in rules.RULES.iterdir()}
    optional = {f"rules/{name}.rules.yml" for name in ("targets", "tiers")}
    assert {one for one in off if one.startswith("rules/")} == optional


def test_every_test_passes(tmp_path: Path, promtool_program: Path) -> None:
    """Those of alerts with the rules that they need, which takes a quarter of the time; of each file some as they are."""
    files = sorted(rules.TESTS.glob("*.test.yml"))
    names = {test["name"] for path in files for test in yaml.safe_load(path.read_text())["tests"]}
    others = [re.escape(name) for name in names if not rules.NAME.fullmatch(name)]
    as_they_are = rules.run(promtool_program, files, "|".join([": late", *others]))
    assert len(as_they_are) > 30
    outcomes = rules.run(promtool_program, rules.apart(tmp_path)) | as_they_are
    assert outcomes.keys() == names
    assert {name: why for name, why in outcomes.items() if why} == {}


def test_every_alert_has_a_test_of_each_kind() -> None:
    tested = rules.tests_of_alerts()
    assert {alert: KINDS - tested.get(alert, set()) for alert in ALERTS} == {alert: set() for alert in ALERTS}
    assert tested.keys() == ALERTS.keys()


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_has_labels_annotations_hysteresis_and_a_runbook(alert: str) -> None:
    rule = ALERTS[alert]
    name, labels = rule["alert"], rule["labels"]
    assert labels["severity"] in ("warning", "critical", "info")
    assert labels["group"] in GROUPS
    assert rule["annotations"].keys() - {"also"} == ANNOTATIONS
    assert ("also" in rule["annotations"]) == (labels["group"] != "fleet")
    assert rule["annotations"]["runbook_url"].endswith(f"/{name}.md")
    assert "clears" in rule["annotations"]["threshold"]
    assert rule["keep_firing_for"]
    runbook = (DOCS / "runbooks" / f"{name}.md").read_text()
    assert runbook.startswith(f"# {name}\n")
    assert "## Where to look" in runbook
    assert "## What to do" in runbook


def test_there_is_no_runbook_without_an_alert() -> None:
    assert {path.stem for path in (DOCS / "runbooks").iterdir()} == {r["alert"] for r in ALERTS.values()}


def test_every_alert_on_a_host_is_about_a_live_one() -> None:
    about_no_live_one = {"LimpetHostSilent", "LimpetFleetSilent", "LimpetManyHosts", "LimpetClockSkewed"}
    about_no_live_one.add("LimpetDataBudgetSpent")  # of which signs of life speak
    assert {alert.split()[0] for alert in UNGATED} == about_no_live_one


def test_every_join_is_by_all_labels_of_a_host() -> None:
    """Two hosts of one name are two hosts: in every test of late data another `a`, of the lab, is live all the time."""
    text = "".join(path.read_text() for path in rules.RULES.glob("*.rules.yml"))
    by_name = [line.strip() for line in text.splitlines() if re.search(r"\bon \([^)]*hostname", line)]
    newest = ">= on (hostname) group_left () max by (hostname) "  # which of a host's labels are its last
    assert [line for line in by_name if not line.startswith(newest)] == []
    own = "ignoring (alertname, alertgroup, alertstate, group, severity)"
    looked_up = re.findall(r"(?m)^ +(?:and|unless) (.*?) ?ALERTS\{", text)
    assert {*looked_up} == {own, "on (environment, region)", "on (of, severity, environment, region)"}
    late = [
        test
        for path in rules.TESTS.glob("*.test.yml")
        for test in yaml.safe_load(path.read_text())["tests"]
        if (match := rules.NAME.fullmatch(test["name"])) and "late" in match["kinds"].split(", ")
        if match["alert"] not in UNGATED
    ]
    other = 'limpet_start_time_seconds{hostname="a", environment="lab"}'
    assert [
        test["name"] for test in late if other not in {one["series"] for one in test["input_series"]}
    ] == []


GAP = 40 * 60
"""Seconds."""


def silenced(path: Path, rule: dict[str, Any]) -> None:
    """Let each host of a file of `fires` tests be silent for 40 minutes when its alert fires, and well when it is back."""
    file = yaml.safe_load(path.read_text())
    [test, *_] = file["tests"]
    step = seconds(test["interval"])
    fires = [one["eval_time"] for one in test["promql_expr_test"] if one["exp_samples"] == [{"value": 1}]]
    begins, well = min(map(seconds, fires)), seconds(rule["keep_firing_for"]) + 1200
    for series in test["input_series"]:
        before = rules.values(series["values"])[: begins // step + 1]
        after = [before[0]] * (well // step)
        series["values"] = " ".join([*before, *["_"] * (GAP // step), *after])
    firing = test["promql_expr_test"][0]["expr"]
    back = begins + GAP
    test["promql_expr_test"] = [
        {
            "expr": f"min_over_time(({firing})[{GAP}s:{step}s])",
            "eval_time": f"{back}s",
            "exp_samples": [{"value": 1}],
        },
        {"expr": firing, "eval_time": f"{back + well}s", "exp_samples": [{"value": 0}]},
    ]
    path.write_text(json.dumps(file | {"tests": [test]}))


def test_a_silent_host_has_not_recovered(tmp_path: Path, promtool_program: Path) -> None:
    """An alert of a state continues while nothing is heard, and ends when the host is back and says that it is well."""
    states = {alert for alert, rule in ALERTS.items() if "limpet:not_live:bool" in rule["expr"]}
    assert states == {one for one in ALERTS if one.startswith("Host")} - {
        "HostOomKill critical",  # what happens once ends in its time
        "HostWasDown info",
        "HostTargetDown warning",
        "HostTextFileError warning",
    }
    states.remove("HostDiskFilling critical")  # which takes more than a week: see below
    files = [
        path for path in rules.apart(tmp_path, "fires, not before") if path.stem.split(" ", 1)[1] in states
    ]
    assert len(files) == len(states)
    for path in files:
        silenced(path, ALERTS[path.stem.split(" ", 1)[1]])
    outcomes = rules.run(promtool_program, files)
    assert len(outcomes) == len(states)
    assert {name: why for name, why in outcomes.items() if why} == {}


def test_nor_has_a_disk_of_a_silent_host_that_was_filling(tmp_path: Path, promtool_program: Path) -> None:
    """With an hour for each day that the rules look back: more than a week of evaluations takes a minute."""
    folder = rules.changed(tmp_path, lambda _: None)
    path = folder.parent / "rules" / "hosts.rules.yml"
    seconds_of = {"w": 7 * 3600, "d": 3600, "h": 150}
    path.write_text(
        re.sub(
            r"(\[|offset )(\d+)([wdh])\b",
            lambda found: f"{found[1]}{int(found[2]) * seconds_of[found[3]]}s",
            path.read_text(),
        )
    )
    firing = 'count(ALERTS{alertname="HostDiskFilling", alertstate="firing"}) or vector(0)'
    series = {
        'limpet_start_time_seconds{hostname="a"}': "1x270 _x20 1x90",
        'disk_free_bytes{hostname="a", mountpoint="/"}': "100-0.238x270 _x20 90x90",
    }
    test = {
        "rule_files": ["../rules/fleet.rules.yml", "../rules/hosts.rules.yml"],
        "evaluation_interval": "2m",
        "group_eval_order": [
            *("limpet-live", "limpet-presence"),
            *("host-disk-trends", "host-disk-weeks", "host-disk-forecast"),
        ],
        "tests": [
            {
                "name": "continues",
                "interval": "2m",
                "input_series": [{"series": one, "values": values} for one, values in series.items()],
                "promql_expr_test": [
                    {"expr": expr, "eval_time": at, "exp_samples": [{"value": value}]}
                    for expr, at, value in (
                        (firing, "8h20m", 0),
                        (f"min_over_time(({firing})[1h:2m])", "9h44m", 1),
                        (firing, "12h30m", 0),
                    )
                ],
            }
        ],
    }
    (folder / "silent.test.yml").write_text(yaml.safe_dump(test))
    assert rules.run(promtool_program, [folder / "silent.test.yml"]) == {"continues": ""}


PATTERNS: dict[str, tuple[dict[str, Sequence[float]], set[str]]] = {
    # series by what they are in each 10 s, again and again; and what fires
    "50 s at 100 %, and 10 s at 20 %": ({'cpu_usage_percent{core="all"}': [100] * 5 + [20]}, set()),
    "at 85 % or 96 %": ({'cpu_usage_percent{core="all"}': [85, 96, 96, 85, 96, 96]}, {"HostCpuHigh warning"}),
    "memory that is freed for 10 s": ({"memory_usage_percent": [97] * 5 + [40]}, set()),
    "a disk that rests for 10 s": ({'disk_io_util_percent{device="a"}': [100] * 5 + [0]}, set()),
    "a link that rests for 10 s": ({'network_bandwidth_usage_percent{interface="a"}': [99] * 5 + [0]}, set()),
    "a disk that completes a request of 3 s in 30 s": (
        {
            'disk_await_time_ms{device="a"}': [0, 0, 3000],
            'disk_read_ops_per_sec{device="a"}': [0, 0, 0],
            'disk_write_ops_per_sec{device="a"}': [0, 0, 0.1],
            'disk_io_util_percent{device="a"}': [0, 0, 30],
        },
        {"HostDiskSlow warning", "HostDiskSlow critical"},
    ),
    "a fast disk, one request of which took 6 s": (
        {
            'disk_await_time_ms{device="a"}': [0, 0, 0, 0, 0, 6000],
            'disk_read_ops_per_sec{device="a"}': [80, 80, 80, 80, 80, 0.1],
            'disk_write_ops_per_sec{device="a"}': [0] * 6,
            'disk_io_util_percent{device="a"}': [1, 1, 1, 1, 1, 60],
        },
        set(),
    ),
}
HALF_STEPS = 2
"""Samples are each 10 s; their distance to the evaluations, each 15 s, is changed by 5 s."""


@pytest.mark.parametrize("name", PATTERNS)
def test_the_verdict_is_the_same_at_every_phase(name: str, tmp_path: Path, promtool_program: Path) -> None:
    """Between what happens, the samples and the evaluations: a host for each, and all or none of them have an alert."""
    pattern, fires = PATTERNS[name]
    length = len(next(iter(pattern.values())))
    phases = [(turn, late) for turn in range(length) for late in range(HALF_STEPS)]
    series = []
    for turn, late in phases:
        for key, values in {"limpet_start_time_seconds": [1.0] * length, **pattern}.items():
            metric, _, own = key.partition("{")
            labels = f'{{hostname="{turn}-{late}"' + (f", {own}" if own else "}")
            turned = [f"{values[(n + turn) % length]:g} _" for n in range(90)]
            series.append({"series": metric + labels, "values": " ".join(["_"] * late + turned)})
    count = 'count by (alertname, severity) (count_over_time(ALERTS{alertname=~"Host.*", alertstate="firing"}[15m]))'
    found = []
    for alert, severity in sorted((one.split() for one in fires), reverse=True):
        of = f'{{alertname="{alert}", severity="{severity}"}}'
        found.append({"labels": of, "value": len(phases)})
    test = {
        "rule_files": [str(rules.RULES / f"{file}.rules.yml") for file in ("fleet", "hosts")],
        "evaluation_interval": "15s",
        "group_eval_order": ["limpet-live", "limpet-presence"],
        "tests": [
            {
                "name": "phases",
                "interval": "5s",
                "input_series": series,
                "promql_expr_test": [{"expr": count, "eval_time": "15m", "exp_samples": found}],
            }
        ],
    }
    (tmp_path / "phases.test.yml").write_text(json.dumps(test))
    assert rules.run(promtool_program, [tmp_path / "phases.test.yml"]) == {"phases": ""}


def test_every_deadline_that_the_pages_name_has_a_test() -> None:
    pages = (*DOCS.glob("*.md"), CONFIG.parents[1] / "limpet.yaml")
    named = {found for page in pages for found in re.findall(r"batch_send_deadline: (\w+)", page.read_text())}
    tests = yaml.safe_load((rules.TESTS / "deadlines.test.yml").read_text())["tests"]
    tested = {match[1] for test in tests if (match := re.match(r"deadline of (\w+):", test["name"]))}
    assert named
    assert named <= tested


LEVEL = re.compile(r"([<>]=?) (-?[\d.]+)(?![\w.])")


def further(rule: dict[str, Any]) -> None:
    """Move the levels of an alert away by a half; what is compared with 0 is compared with 20."""

    def moved(match: re.Match[str]) -> str:
        number = float(match[2])
        away = number * (1.5 if match[1].startswith(">") == (number > 0) else 1 / 1.5) if number else 20
        return f"{match[1]} {away:g}"

    rule["expr"] = re.sub(LEVEL, moved, rule["expr"])


def nearer(rule: dict[str, Any]) -> None:
    """Move the levels of an alert nearer by a fifth, those of what it leaves out away, and `for` to two fifths."""

    def moved(match: re.Match[str]) -> str:
        number, up = float(match[2]), match[1].startswith(">")
        level = number * (0.8 if up == (number > 0) else 1.25) if number else (-20 if up else 20)
        return f"{match[1]} {level:g}"

    asked, *left_out = re.split(r"(?=^unless )", rule["expr"], flags=re.MULTILINE)
    rule["expr"] = re.sub(LEVEL, moved, asked) + "".join(left_out)
    time("for", 0.4)(rule)


def time(name: str, factor: float) -> Callable[[dict[str, Any]], None]:
    """Change `for` or `keep_firing_for`."""

    def change(rule: dict[str, Any]) -> None:
        if found := re.fullmatch(r"(\d+)([mh])", rule.get(name, "")):
            rule[name] = f"{int(found[1]) * (60 if found[2] == 'm' else 3600) * factor:.0f}s"

    return change


def without_gate(rule: dict[str, Any]) -> None:
    rule["expr"] = re.sub(r"and (?:\w+ \([\w, ]+\) )?limpet:live:bool", "", rule["expr"])


def test_a_disk_that_stays_read_only_is_meant_to_be_so_after_a_week(
    tmp_path: Path, promtool_program: Path
) -> None:
    """With an hour for the week and all that it needs from other files given: a week of evaluations takes a minute."""

    def sooner(rule: dict[str, Any]) -> None:
        rule["expr"] = rule["expr"].replace("offset 1w", "offset 1h")

    folder = rules.changed(tmp_path, sooner)
    firing = 'count(ALERTS{alertname="HostDiskReadOnly", alertstate="firing"}) or vector(0)'
    series = {
        'limpet:live:bool{hostname="a"}': "1x120",
        'disk_readonly{hostname="a", mountpoint="/"}': "0x19 1x100",
    }
    test = {
        "rule_files": ["../rules/hosts.rules.yml"],
        "evaluation_interval": "1m",
        "tests": [
            {
                "name": "ends",
                "interval": "1m",
                "input_series": [{"series": one, "values": values} for one, values in series.items()],
                "promql_expr_test": [
                    {"expr": firing, "eval_time": at, "exp_samples": [{"value": value}]}
                    for at, value in (("1h19m", 1), ("1h30m", 0), ("2h", 0))
                ],
            }
        ],
    }
    path = folder / "week.test.yml"
    path.write_text(yaml.safe_dump(test))
    assert rules.run(promtool_program, [path]) == {"ends": ""}


SILENT = {"LimpetHostSilent critical"}  # its level is in a recorded series
EVENTS = {"HostOomKill critical", "LimpetCollectorFailing warning stuck"}  # they have no `for`
EVENTS |= {"LimpetLinkWasDown info", "HostWasDown info"}
EVENTS |= {"LimpetManyHosts warning", "LimpetManyHosts critical"}
CHANGES: dict[str, tuple[Callable[[dict[str, Any]], None], str, set[str]]] = {
    # the change, the tests that notice it, alerts that it leaves alone
    "level": (further, "fires", SILENT),
    "longer": (time("for", 2.1), "fires|not before", EVENTS),
    "shorter": (time("for", 0.4), "fires|not before", EVENTS),
    "kept shorter": (time("keep_firing_for", 0.1), "clears", set()),
    "ungated": (without_gate, "late", UNGATED),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_of_any_alert_fails_a_test_of_it(name: str, tmp_path: Path, promtool_program: Path) -> None:
    change, kinds, exempt = CHANGES[name]
    outcomes = rules.run(promtool_program, rules.apart(tmp_path, kinds, change))
    matches = {name: rules.NAME.fullmatch(name) for name, why in outcomes.items() if why}
    assert ALERTS.keys() - {match["alert"] for match in matches.values() if match} == exempt


def test_every_alert_has_a_healthy_box_that_is_near_its_level(tmp_path: Path, promtool_program: Path) -> None:
    """None of them fires for the boxes of near*.test.yml, which is tested above; each does once its level is nearer."""
    folder, firing = rules.changed(tmp_path, nearer), set()
    files = [folder / path.name for path in rules.TESTS.glob("near*.test.yml")]
    for path in files:
        file = yaml.safe_load(path.read_text())
        for test in file["tests"]:
            assert [one["exp_samples"] for one in test["promql_expr_test"]] == [[]]
            test["promql_expr_test"][0]["exp_samples"] = [{"labels": '{nothing="fires"}', "value": 1}]
        path.write_text(yaml.safe_dump(file))
    for why in rules.run(promtool_program, files).values():
        firing |= {key(match[0]) for match in re.finditer(r"\{alertname=[^}]*\}", why)}
    assert firing == ALERTS.keys()


def key(labels: str) -> str:
    """Name the alert that has these labels, as its tests are named."""
    of = dict(re.findall(r'(\w+)="([^"]*)"', labels))
    return " ".join(filter(None, (of["alertname"], of["severity"], of.get("trouble"))))
