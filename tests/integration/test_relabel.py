"""What becomes of labels here becomes of them in a real Prometheus, which relabels its targets by the same rules.

Each case is a target that is never reached: Prometheus says what its labels were and what they became.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from agent.config import ConfigErrors, load
from agent.config.values import RelabelAction
from agent.relabel import Relabel, compile_rules
from tests.support.net import wait_for
from tests.support.prometheus import Prometheus
from tests.unit.test_sender_relabel import CASES

# Cases that are otherwise there: labels of a target have no order, and an empty name is one.
OTHERWISE = ("of two for one name", "labelmap to no name", "what is sent")

Rules = list[dict[str, Any]]
NEEDED = ("__address__", "__scheme__", "__metrics_path__", "__scrape_interval__", "__scrape_timeout__")

NAMES = ["a", "b", "c", "ab", "a_b", "x1"]
VALUES = ["a", "b", "ab", "aab", "a-b", "a;b", "Ab", "é", "ÉS", "1", "12", "a\nb", "/mnt/a b", "x" * 30]
ATOMS = ["a", "b", "x", ".", r"\d", r"\w", r"\S", "[a-c]", "[^a]", "[[:alpha:]]", r"\pL", "-", ";", "é", "/"]
COUNTS = ["", "", "", "*", "+", "?", "*?", "+?", "{1,2}", "{2,}"]
PARTS = ["$1", "${1}", "$2", "${2}x", "$n", "$0", "$$", "$", "a", "b", "_", "1", "é"]


def pattern(pick: random.Random, depth: int = 2) -> str:
    if not depth or pick.random() < 0.3:
        return pick.choice(ATOMS) + pick.choice(COUNTS)
    if pick.random() < 0.6:
        return "".join(pattern(pick, depth - 1) for _ in range(pick.randint(1, 3)))
    inside = "|".join(pattern(pick, depth - 1) for _ in range(pick.randint(1, 3)))
    return f"({pick.choice(['', '', '?:', '?i:', '?P<n>', '?-s:', '?U:'])}{inside}){pick.choice(COUNTS)}"


def text(pick: random.Random) -> str:
    return "".join(pick.choice(PARTS) for _ in range(pick.randint(0, 3)))


def rule(pick: random.Random) -> dict[str, Any]:
    """A rule that may be wrong."""
    action = pick.choice(
        ["replace", "labelmap", *get_args(RelabelAction), "replace", "replace", "replace", "replace"]
    )
    if action in ("labeldrop", "labelkeep"):
        # What a target cannot do without must stay.
        wanted = pattern(pick)
        return {"action": action, "regex": f"__.*|{wanted}" if action == "labelkeep" else wanted}
    made: dict[str, Any] = {"action": action}
    made["source_labels"] = pick.sample([*NAMES, "job", "missing"], pick.randint(0, 3))
    if action not in ("keep", "drop", "labelmap"):
        made["target_label"] = text(pick) if action == "replace" else pick.choice(NAMES)
    if action == "hashmod":
        made["modulus"] = pick.randint(1, 1 << 64)
    if action not in ("keepequal", "dropequal") and pick.random() < 0.8:
        made["regex"] = pattern(pick)
    if action == "replace":
        made["replacement"] = text(pick)
    if action == "labelmap":  # no two labels get one name: which of them stays depends on what relabels
        made["replacement"] = f"{pick.choice(PARTS[8:])}${{0}}{pick.choice(PARTS[8:])}"
    if action == "replace" and pick.random() < 0.3:
        made["separator"] = pick.choice(["", "/", ";;"])
    return made


def compiled(rules: Rules) -> Relabel | None:
    """The rules, unless one of them is wrong."""
    try:
        config = load(
            yaml.safe_dump({"remote_write": [{"url": "https://a/", "write_relabel_configs": rules}]}), "f"
        )
    except ConfigErrors:
        return None
    return compile_rules(config.config.remote_write[0].write_relabel_configs)


@pytest.fixture(scope="module")
def cases() -> dict[str, tuple[dict[str, str], Rules, Relabel]]:
    """By the target's job: its labels, its rules, and these compiled."""
    found = {}
    for about, labels, rules, _ in CASES:
        if not about.startswith(OTHERWISE) and (relabel := compiled(rules)):
            found[about] = (labels, rules, relabel)
    pick = random.Random(4)
    while len(found) < 600:
        rules = [rule(pick) for _ in range(pick.randint(1, 3))]
        if relabel := compiled(rules):
            labels = {name: pick.choice(VALUES) for name in pick.sample(NAMES, pick.randint(1, 4))}
            found[f"random {len(found)}"] = (labels, rules, relabel)
    return found


def test_labels_become_what_they_become_in_prometheus(
    prometheus_program: Path, tmp_path: Path, cases: dict[str, tuple[dict[str, str], Rules, Relabel]]
) -> None:
    config = tmp_path / "prometheus.yml"
    jobs = [
        {
            "job_name": job,
            "scrape_interval": "1h",
            "static_configs": [{"targets": ["127.0.0.1:1"], "labels": labels}],
            "relabel_configs": rules,
        }
        for job, (labels, rules, _) in cases.items()
    ]
    config.write_text(yaml.safe_dump({"scrape_configs": jobs}, allow_unicode=True))
    # Prometheus does not list a target whose address was removed by a rule.
    gone = 0
    for job, (labels, _, relabel) in cases.items():
        got = relabel(labels | dict.fromkeys(NEEDED, "x") | {"job": job})
        gone += got is not None and "__address__" not in got
    before: dict[str, dict[str, str]] = {}
    after: dict[str, dict[str, str]] = {}
    with Prometheus(prometheus_program, tmp_path / "prometheus", config=config) as prometheus:

        def all_are_told_of() -> bool:
            targets = prometheus._api("targets", {"state": "any"})
            for target in targets["activeTargets"]:
                after[target["discoveredLabels"]["job"]] = target["labels"]
            for target in (*targets["activeTargets"], *targets["droppedTargets"]):
                before[target["discoveredLabels"]["job"]] = target["discoveredLabels"]
            return len(before) >= len(cases) - gone

        wait_for(all_are_told_of, 60, "Prometheus to have looked at all targets")
    assert gone < 50

    for job, labels in before.items():
        got = cases[job][2](labels)
        if got is None:
            assert job not in after, (labels, cases[job][1])
        else:
            got.setdefault("instance", got["__address__"])
            seen = {name: value for name, value in got.items() if not name.startswith("__")}
            assert after.get(job) == seen, (labels, cases[job][1])
