"""The rules that ship, under promtool: all test files, some of their tests, or the same of a changed copy."""

from __future__ import annotations

import json
import os
import re
import shutil
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import yaml

from tests.support import run as programs
from tests.support.prometheus import CONFIG

RULES, TESTS = CONFIG.parent / "rules", CONFIG.parent / "tests"
NAME = re.compile(r"(?P<alert>(?:Host|Limpet)\w+ (?:warning|critical|info)(?: \w+)?): (?P<kinds>.+)")
"""The name of a test of an alert: its name, severity and perhaps trouble, and what is tested, with commas."""
WORD = re.compile(r"\w+(?::\w+)*")


def key(rule: dict[str, Any]) -> str:
    """What the tests of an alert are named for."""
    labels = rule["labels"]
    return " ".join(filter(None, (rule["alert"], labels["severity"], labels.get("trouble"))))


def alerts() -> dict[str, dict[str, Any]]:
    """Return every alerting rule, as the file has it, by its key."""
    files = [yaml.safe_load(path.read_text()) for path in sorted(RULES.glob("*.rules.yml"))]
    found = [rule for file in files for group in file["groups"] for rule in group["rules"] if "alert" in rule]
    by_key = {key(rule): rule for rule in found}
    assert len(by_key) == len(found), "two rules with the same name and labels"
    return by_key


def groups(file: str) -> list[dict[str, Any]]:
    """Return the groups of `FILE.rules.yml`, as the file has them."""
    found: list[dict[str, Any]] = yaml.safe_load((RULES / f"{file}.rules.yml").read_text())["groups"]
    return found


def tests_of_alerts() -> dict[str, set[str]]:
    """Return what is tested of each alert: the words behind the colon of its tests' names."""
    found: dict[str, set[str]] = {}
    for path in sorted(TESTS.glob("*.test.yml")):
        for test in yaml.safe_load(path.read_text())["tests"]:
            if match := NAME.fullmatch(test["name"]):
                found.setdefault(match["alert"], set()).update(match["kinds"].split(", "))
    return found


def changed(folder: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """Copy rules and tests into `folder`, each alerting rule changed; return the folder of the tests."""
    shutil.copytree(TESTS, folder / "tests")
    (folder / "rules").mkdir()
    for path in RULES.glob("*.rules.yml"):
        file = yaml.safe_load(path.read_text())
        for group in file["groups"]:
            for rule in group["rules"]:
                if "alert" in rule:
                    change(rule)
        (folder / "rules" / path.name).write_text(yaml.safe_dump(file, sort_keys=False))
    return folder / "tests"


def apart(
    folder: Path, kinds: str = "", change: Callable[[dict[str, Any]], None] = lambda _: None
) -> list[Path]:
    """Write for each alert a file with its tests of these kinds, and one with its rules, changed, and what they need.

    A test costs the evaluation of every rule that is loaded, hundreds of times: here it is a few rules, not all.
    """
    groups = [
        group for path in RULES.glob("*.rules.yml") for group in yaml.safe_load(path.read_text())["groups"]
    ]
    for rule in (rule for group in groups for rule in group["rules"] if "alert" in rule):
        change(rule)
    written = []
    for path in sorted(TESTS.glob("*.test.yml")):
        file, tests = yaml.safe_load(path.read_text()), dict[str, list[Any]]()
        for test in file["tests"]:
            if (match := NAME.fullmatch(test["name"])) and re.search(kinds, match["kinds"]):
                tests.setdefault(match["alert"], []).append(test)
        for alert, some in tests.items():
            needed = _needed(some, groups)
            place = folder / f"{path.stem} {alert}.yml"
            loaded = place.with_suffix(".rules")
            loaded.write_text(json.dumps({"groups": needed}))
            there = {group["name"] for group in needed}
            order = [name for name in file["group_eval_order"] if name in there]
            place.write_text(
                json.dumps(file | {"rule_files": [loaded.name], "group_eval_order": order, "tests": some})
            )
            written.append(place)
    return written


def _needed(tests: list[Any], groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return of the groups the rules that the tests name, and those that they name in turn."""
    named, before, kept = set(WORD.findall(json.dumps(tests))), 0, groups
    while len(named) > before:
        before = len(named)
        kept = [
            group
            | {"rules": [rule for rule in group["rules"] if {rule.get("alert"), rule.get("record")} & named]}
            for group in groups
        ]
        named |= set(WORD.findall(json.dumps(kept)))
    return [group for group in kept if group["rules"]]


def values(text: str) -> list[str]:
    """Return what an input series is at each interval, as promtool writes it: `3x2`, `0+21x19`, `_x30`, `stale`."""
    found: list[str] = []
    for word in text.split():
        match = re.fullmatch(r"(_|stale|[-\d.e]+?)([+-][\d.]+)?(?:x(\d+))?", word)
        assert match, word
        first, step, times = match[1], float(match[2] or 0), int(match[3] or 0)
        if first == "_":
            found += ["_"] * max(1, times)
        else:
            found += [f"{float(first) + step * n:g}" if step else first for n in range(times + 1)]
    return found


def run(promtool: Path, files: Iterable[Path], only: str = "") -> dict[str, str]:
    """Run test files, two at a time; return each test's failure by its name, empty where it passed.

    Each of the two has one thread and more garbage than Go likes to keep, which takes a fifth less of the processors.
    """
    environment = os.environ | {"GOMAXPROCS": "1", "GOGC": "400"}

    def one(path: Path) -> dict[str, str]:
        command = (promtool, "test", "rules", f"--run={only}", "--junit=/dev/stdout", path)
        done = programs.run(*command, timeout=800, env=environment)
        return _outcomes(path, done.stdout, done.stderr)

    with ThreadPoolExecutor(2) as pool:
        return {name: why for found in pool.map(one, files) for name, why in found.items()}


def _outcomes(path: Path, out: str, err: str) -> dict[str, str]:
    assert "<testsuites" in out, f"{path}:\n{out}\n{err}"
    document = out[out.index("<testsuites") : out.index("</testsuites>") + len("</testsuites>")]
    return {
        case.get("name", ""): "\n".join(part.text or part.get("message") or "failed" for part in case)
        for case in ET.fromstring(document).iter("testcase")  # noqa: S314 - promtool's own
    }
