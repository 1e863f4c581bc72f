"""What docs/scale.md names as the tests of a trouble is there, and every play is named."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from tests.support import rules

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "scale.md").read_text()
SECTION = PAGE.split("## Troubles of a whole fleet\n")[1].split("\n## ")[0]
PLAYS = {
    name
    for path in (ROOT / "tests" / "load").glob("test_plays*.py")
    for name in re.findall(r"(?m)^def (test_\w+)", path.read_text())
}


def test_every_trouble_has_a_test_of_promtool_and_a_play() -> None:
    tests = {
        path.name: {test["name"] for test in yaml.safe_load(path.read_text())["tests"]}
        for path in rules.TESTS.glob("*.test.yml")
    }
    rows = [line.split("|")[1:-1] for line in SECTION.splitlines() if ".test.yml:" in line]
    assert len(rows) == 8
    for trouble, by_promtool, plays in rows:
        for part in by_promtool.split(";"):
            file, names = part.strip().split(":", 1)
            assert set(re.findall(r"`([^`]+)`", names)) <= tests[file], trouble
            assert "`" in names, trouble
        assert set(re.findall(r"`(\w+)`", plays)) & PLAYS, trouble


def test_every_play_is_on_the_page_and_no_other() -> None:
    assert set(re.findall(r"`(test_\w+)`", SECTION)) == PLAYS
