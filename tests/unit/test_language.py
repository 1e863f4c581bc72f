"""English that is understood at first reading: house words that are not used, in pages and in the prose of the code.

`python -m tools.language [FOLDER]` lists what is left. The counts below may only fall; a room that is not listed has none.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import language

ALLOWED = {
    "agent": 11,
    "agent/collect": 17,
    "agent/collectors": 32,
    "agent/destinations": 21,
    "agent/ops": 9,
    "agent/scrape": 9,
    "agent/send": 48,
    "agent/system": 12,
    "buffer": 45,
    "config/alertmanager": 4,
    "config/prometheus": 36,
    "dashboards": 28,
    "packaging/compose": 14,
    "packaging/debian": 7,
    "packaging/systemd": 3,
    "tests": 3,
    "tests/bench": 9,
    "tests/fault": 24,
    "tests/integration": 61,
    "tests/load": 1,
    "tests/support": 39,
    "tests/unit": 89,
    "tools": 53,
}
UNFINISHED = {
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "README.md",
    "SECURITY.md",
    "docs/alerting.md",
    "docs/alerts.md",
    "docs/benchmarks.md",
    "docs/buffer-tools.md",
    "docs/buffer.md",
    "docs/commands.md",
    "docs/configuration.md",
    "docs/container.md",
    "docs/dashboards.md",
    "docs/doctor.md",
    "docs/health.md",
    "docs/install.md",
    "docs/metrics.md",
    "docs/other-systems.md",
    "docs/own-collectors.md",
    "docs/quarantine.md",
    "docs/reload.md",
    "docs/replay.md",
    "docs/retention.md",
    "docs/runbooks/HostDiskFilling.md",
    "docs/runbooks/HostDiskSlow.md",
    "docs/runbooks/HostInodesFull.md",
    "docs/runbooks/HostMemoryHigh.md",
    "docs/runbooks/HostNetworkBusy.md",
    "docs/runbooks/LimpetBacklogGrowing.md",
    "docs/runbooks/LimpetBufferFilling.md",
    "docs/runbooks/LimpetCollectorFailing.md",
    "docs/runbooks/LimpetDestinationHeld.md",
    "docs/runbooks/LimpetFleetSilent.md",
    "docs/runbooks/LimpetHostSilent.md",
    "docs/runbooks/LimpetLossBudgetSpent.md",
    "docs/scale.md",
    "docs/scraping.md",
    "docs/sender.md",
    "docs/service.md",
    "docs/threat-model.md",
    "docs/upgrade.md",
    "packaging/compose/README.md",
    "packaging/compose/receivers/README.md",
}
COUNTS = language.counts()


def shown(places: list[language.Found]) -> list[str]:
    return [f"{one.file}:{one.line}: {one.word!r}: {one.do}" for one in places]


@pytest.mark.parametrize(
    "page", language.pages(), ids=lambda page: page.relative_to(language.ROOT).as_posix()
)
def test_no_page_has_one(page: Path) -> None:
    if page.relative_to(language.ROOT).as_posix() not in UNFINISHED:
        assert shown(language.found(page)) == []


@pytest.mark.parametrize("room", sorted(ALLOWED.keys() | COUNTS.keys()))
def test_no_room_gets_more(room: str) -> None:
    if COUNTS[room] > ALLOWED.get(room, 0):
        pytest.fail(
            f"{room} has {COUNTS[room]} banned words, {ALLOWED.get(room, 0)} are allowed: python -m tools.language {room}"
        )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("It is told, and `told` is code.", ["told"]),
        ("Besides, what is\ntold.told is no word", ["told"]),
        ("Mend it:\nit goes on beside us.", ["Mend", "beside", "goes on"]),
        ("a stand-in, amended, the specification of 2.0", []),
        ("Do it.\n\n    Raises:\n        Error: never", ["Raises:"]),
    ],
)
def test_words_are_found_where_they_are_words(text: str, words: list[str]) -> None:
    assert sorted(word for _, word, _ in language.in_text(1, text)) == sorted(words)


def test_prose_of_python_is_found_and_names_are_not() -> None:
    source = "'''Doc.'''\ntold = 1  # a comment\nf(f\"{told} tells\")\n"
    assert sorted(language.python_prose(source)) == [(1, "Doc."), (2, "# a comment"), (3, " tells")]


def test_blocks_of_code_in_a_page_are_not_prose() -> None:
    text = "a\n```\nno\n```\n\n    no\nb"
    assert [line for _, line in language.markdown_prose(text)] == ["a", "", "b"]
