"""What docs/install.md and its neighbors tell people to type: configurations that are right, files that are there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent.config import load

PROJECT = Path(__file__).resolve().parents[2]
DOCS = PROJECT / "docs"
PAGES = ("install.md", "operating.md", "capacity.md", "alerts.md")
INSTALL = (DOCS / "install.md").read_text()
BLOCKS = re.findall(r"^```yaml\n(.*?)^```$", INSTALL, re.MULTILINE | re.DOTALL)
VARIABLES = {"inventory_hostname": "edge-001", "environment_name": "production", "region": "eu-west"}


def filled(text: str) -> str:
    """A template of Ansible's with its variables put in."""
    return re.sub(r"\{\{ (\w+) \}\}", lambda match: VARIABLES[match[1]], text)


def configurations() -> list[str]:
    """Each limpet.yaml of the page: whole, and within the user data of cloud-init."""
    found = [block for block in BLOCKS if re.search("^remote_write:", block, re.MULTILINE)]
    cloud: dict[str, Any] = next(
        yaml.safe_load(block) for block in BLOCKS if block.startswith("#cloud-config")
    )
    within = [file["content"] for file in cloud["write_files"] if file["path"].endswith("limpet.yaml")]
    return [*(block for block in found if not block.startswith("#cloud-config")), *within]


@pytest.mark.parametrize("text", configurations())
def test_every_configuration_is_right(text: str) -> None:
    loaded = load(filled(text), "limpet.yaml")
    without = [line for line in loaded.warnings if "there is no destination" not in line]
    assert without == []


def test_the_playbook_is_yaml_and_checks_before_it_installs() -> None:
    [playbook] = [yaml.safe_load(block) for block in BLOCKS if block.startswith("- hosts:")]
    tasks = {task.pop("name"): task for task in playbook[0]["tasks"]}
    assert tasks["Configuration"]["ansible.builtin.template"]["validate"] == "limpet check-config %s"
    handlers = {handler["name"] for handler in playbook[0]["handlers"]}
    assert {task["notify"] for task in tasks.values() if "notify" in task} <= handlers
    assert tasks["This host's password"]["ansible.builtin.copy"]["mode"] == "0640"


def test_one_host_is_installed_as_the_readme_has_it() -> None:
    readme = (PROJECT / "README.md").read_text().partition("## Install")[2]
    commands = [line for line in readme.splitlines() if line.startswith("    ")][:4]
    assert all(command in INSTALL for command in commands)


@pytest.mark.parametrize("page", PAGES)
def test_files_that_are_named_are_there(page: str) -> None:
    named = set(
        re.findall(
            r"(?<![\w/])((?:packaging|config|requirements|tests|docs)/[\w./-]+\w)", (DOCS / page).read_text()
        )
    )
    assert [path for path in sorted(named) if not (PROJECT / path).exists()] == []
