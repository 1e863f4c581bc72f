"""Keys with another name by now are read as that, with a warning."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.config import Config, ConfigErrors, load
from agent.config.keys import RENAMED, keys

PAGE = Path(__file__).parents[2] / "docs" / "operating.md"
FILE = """
remote_write:
- url: https://prometheus.example.com/api/v1/write
{remote_write}
collect:
  host_root: /
{collect}
  collectors:
    scrape:
      targets:
      - url: http://localhost:9100
{target}
{top}
"""
SECTIONS = {"": "top", "collect": "collect", "remote_write[]": "remote_write"}  # all others: target
INDENT = {"top": "", "collect": "  ", "remote_write": "  ", "target": "        "}
VALUES = {
    "labels": "{role: gateway}", "interval": "7s", "timeout": "3s", "job": "node", "credentials": "hunter2",
    "credentials_file": "token",
}  # fmt: skip


def written(*paths: str) -> str:
    """A configuration in which the keys at these paths are set, whatever they are called."""
    lines = dict.fromkeys(INDENT, "")
    if not any(path.endswith((".job", ".job_name")) for path in paths):
        lines["target"] = "        job: node"
    for path in paths:
        section, _, key = path.rpartition(".")
        line = f"{key}: {VALUES[RENAMED.get(path, path).rpartition('.')[2]]}"
        if section.endswith("authorization"):
            section, line = section.removesuffix(".authorization"), f"authorization: {{{line}}}"
        place = SECTIONS.get(section, "target")
        lines[place] += f"\n{INDENT[place]}{line}"
    return FILE.format(**lines)


@pytest.mark.parametrize(("old", "new"), RENAMED.items())
def test_the_old_name_means_the_new_one_and_says_so(old: str, new: str) -> None:
    then, now = load(written(old), "f.yaml"), load(written(new), "f.yaml")
    shown = {path: path.replace("[]", "[0]") for path in (old, new)}
    assert then.config == now.config != Config()
    (warning,) = set(then.warnings) - set(now.warnings)
    line = next(n for n, text in enumerate(written(old).split("\n"), 1) if old.rpartition(".")[2] in text)
    assert warning == f"f.yaml:{line}: {shown[old]} is called {shown[new]} by now: write that"


@pytest.mark.parametrize(("old", "new"), RENAMED.items())
def test_the_old_name_and_the_new_one_together_are_wrong(old: str, new: str) -> None:
    with pytest.raises(ConfigErrors) as caught:
        load(written(new, old), "f.yaml")
    (problem,) = caught.value.problems
    assert problem.path == old.replace("[]", "[0]")
    below = new[len(old.rpartition(".")[0]) :].lstrip(".")
    assert problem.what.startswith(f"it is called {below} by now, and ")
    assert "hunter2" not in str(caught.value)


def test_the_table_leads_from_keys_that_are_none_to_keys_that_are() -> None:
    known = set(keys())
    assert not known & set(RENAMED)
    assert known >= set(RENAMED.values())


def test_the_page_has_the_table() -> None:
    rows = [f"| `{old}` | `{new}` |" for old, new in RENAMED.items()]
    assert [line for line in PAGE.read_text().splitlines() if line in rows] == rows
