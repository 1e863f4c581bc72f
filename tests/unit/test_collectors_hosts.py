"""Several kinds of host: every series that the collectors return, and no other, with the value in the file next to the tree."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from agent.collectors import COLLECTORS, Labels, Trouble, disk_usage
from agent.collectors.disk_usage import Space
from tests.support.hosts import HOSTS, KINDS, SECONDS, Host, Values, expected, values


@pytest.mark.parametrize("name", KINDS)
def test_every_series_of_both_instants(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host, told = Host(name, tmp_path), list[Trouble]()
    paths = host.paths._replace(report=told.append)
    collects = [kind.build(kind.options(), paths) for kind in COLLECTORS.values()]
    for at, now in (("first", 0.0), ("second", SECONDS)):
        host.show(at)
        answers = json.loads((HOSTS / name / at / "statvfs.json").read_text())
        monkeypatch.setattr(disk_usage, "statvfs", lambda path, known=answers: answer(known[path.decode()]))
        found: Values = {}
        for collect in collects:
            found |= values(sample for sample in collect(now) if sample.name != "host_info")
        compare(found, expected(name, at))
    assert told == []


def answer(numbers: list[int] | None) -> Space:
    if numbers is None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    return Space(*numbers)


def compare(found: Values, wanted: Values) -> None:
    def text(pairs: set[tuple[str, Labels]]) -> list[str]:
        return sorted(f"{name}{dict(labels)}" for name, labels in pairs)

    assert text(wanted.keys() - found.keys()) == []
    assert text(found.keys() - wanted.keys()) == []
    assert {key: value for key, value in found.items() if value != wanted[key]} == {}
