"""The doctor's walk to a destination, checked in one line: every step, or the first that fails."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from agent.config import load_file
from agent.ops.doctor.destination import Resolve, walk
from agent.ops.doctor.step import NOT_TRIED, Finding, Step

STEPS = [
    "name",
    "connection",
    "TLS",
    "authentication",
    "empty write",
    "protocol",
    "clock",
    "window",
    "sample",
]
Settings = dict[str, Any]


def configured(folder: Path, *remote_write: Settings, **more: Any) -> Path:
    """Write a configuration with these destinations."""
    file = folder / "limpet.yaml"
    file.write_text(yaml.safe_dump({"data_dir": "data", "remote_write": list(remote_write)} | more))
    return file


def walked(
    folder: Path, to: Settings, timeout: float = 5, gone: Path | None = None, **resolve: Resolve
) -> dict[str, Step]:
    """Return the steps to a destination by name; `gone` is a file that is removed before the first."""
    config = load_file(configured(folder, to)).config
    if gone is not None:
        gone.unlink()
    steps = list(walk(config.remote_write[0], timeout, **resolve))
    assert [one.step for one in steps] == STEPS
    return {one.step: one for one in steps}


def fine(folder: Path, to: Settings, *but: str, **options: Any) -> dict[str, Step]:
    """Return the steps, which are all fine `but` these."""
    found = walked(folder, to, **options)
    assert [name for name in STEPS if (not found[name].ok or found[name].do) and name not in but] == [], found
    return found


def fails(folder: Path, to: Settings, step: str, said: str, do: str = "", **options: Any) -> Step:
    """Return the step that fails: it says this, and what to do; none before it fails, and none behind it was tried."""
    found = walked(folder, to, **options)
    at = next(i for i, name in enumerate(STEPS) if found[name].ok is False)
    assert [found[name].said for name in STEPS[at + 1 :]] == [NOT_TRIED] * (len(STEPS) - at - 1)
    wrong = found[STEPS[at]]
    assert wrong.step == step
    assert said in wrong.said
    assert wrong.do
    assert do in wrong.do
    return wrong


def check(found: Finding | Step, kind: str, said: str = "", do: str = "") -> None:
    """Assert that a finding is fine, warning, wrong, unknown, or advice, and has these words."""
    todo = found.do is not None
    kinds = {True: ("fine", "warning"), False: ("wrong", "wrong"), None: ("unknown", "advice")}
    assert (kinds[found.ok][todo], todo or kind != "wrong") == (kind, True), found
    assert said in found.said
    assert do in (found.do or "")
