"""Every command line that people are given, in documents and in advice, is one that the command line takes.

In a block of code it is a line that begins with `limpet` (after `$`, `sudo` or `docker exec`), in prose and in the
program's own texts what is between backquotes. (Decisions may speak of what is not built.) The bare name of a command is a mention of it, and needs no arguments.
"""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path

import pytest

from agent.cli import registry
from agent.system import words
from agent.system.events import Event

PROJECT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    [
        PROJECT / "README.md",
        *(PROJECT / "docs").glob("*.md"),
        *(PROJECT / "docs" / "runbooks").glob("*.md"),
        *(PROJECT / "packaging").rglob("*.md"),
    ]
)
SOURCES = sorted(path for folder in ("agent", "buffer") for path in (PROJECT / folder).rglob("*.py"))
TEXTS = sorted([*(PROJECT / "config").rglob("*.y*ml"), *(PROJECT / "packaging").rglob("*.yaml")])
NAMES = {one.name for one in registry.COMMANDS}
FIRST = "|".join(sorted({name.split()[0] for name in NAMES}))
LINE = re.compile(rf"(?:^|[\s;|&])limpet ((?:{FIRST}|--version|--help)(?![\w:-]).*)")
SPAN = re.compile(r"`(?:(?:sudo|docker exec \w+) )?limpet ([^`\n]+)`")
ADVICE = re.compile(rf"(?:: |^)limpet ((?:{FIRST})\b[^.;,`\n]*)")
PARSER = registry.build()


def in_blocks(text: str) -> Iterator[str]:
    """The command lines in blocks of code, indented or fenced. If a block shows answers too, commands begin with `$`."""
    joined = re.sub(r" \\\n\s*", " ", text)
    blocks = re.findall(r"(?ms)^ *```\w*\n(.*?)^ *```", joined) + re.findall(
        r"(?m)(?:^    .*\n|^\n(?=    ))+", joined
    )
    for block in blocks:
        lines = [line.strip() for line in block.splitlines()]
        prompts = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
        for line in prompts or lines:
            if found := LINE.search(line):
                yield found[1]


def in_strings(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from SPAN.findall(node.value)
            yield from ADVICE.findall(node.value)


def printed() -> Iterator[tuple[str, str]]:
    for path in PAGES:
        text = path.read_text()
        prose = re.sub(r"(?ms)^ *```.*?^ *```$", "", text)
        for line in (*in_blocks(text), *SPAN.findall(prose)):
            yield str(path.relative_to(PROJECT)), line
    for path in SOURCES:
        for line in in_strings(path.read_text()):
            yield str(path.relative_to(PROJECT)), line
    for path in TEXTS:
        for line in SPAN.findall(path.read_text()):
            yield str(path.relative_to(PROJECT)), line


def wrong_with(line: str) -> str | None:
    """What the parser says against a command line; None where it takes it."""
    words = shlex.split(re.split(r"\s(?:[|>;]|&&|2>)", line)[0], comments=True)
    mention = [word for word in words if word not in ("...", "COMMAND")]
    if " ".join(mention) in NAMES or not mention:
        return None
    said = StringIO()
    try:
        with redirect_stderr(said):
            PARSER.parse_args(mention)
    except SystemExit as ended:
        return said.getvalue().splitlines()[-1] if ended.code else None
    return None


FOUND = sorted(set(printed()))


def test_commands_are_found() -> None:
    page = "Text `limpet buffer tail -n 2`.\n\n    $ limpet doctor --json | jq .\n    limpet.yaml: fine\n\nEnd.\n"
    assert [*in_blocks(page), *SPAN.findall(page)] == ["doctor --json | jq .", "buffer tail -n 2"]
    assert list(in_strings("x = 'See it: limpet buffer verify. It continues.'")) == ["buffer verify"]
    assert wrong_with("buffer tale") is not None
    assert wrong_with("doctor --verbose") is not None
    places = {place for place, _ in FOUND}
    assert {"README.md", "docs/commands.md", "agent/ops/doctor/host.py"} <= places
    assert any(place.startswith("docs/runbooks/") for place in places)


@pytest.mark.parametrize(("place", "line"), FOUND, ids=[f"{place}: {line}" for place, line in FOUND])
def test_it_is_a_command(place: str, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert wrong_with(line) is None
    capsys.readouterr()  # of --help


IN_THE_LOG = re.compile(r"journalctl -u limpet [^`\n]*?-g '?([\w.]+)'?")


def test_what_people_are_to_look_for_in_the_journal_is_there() -> None:
    """As the log is under systemd by default: words, with the event's name."""
    lines = [words.line({"event": event, "level": "info", "collector": "cpu"}) for event in Event]
    sought = {one for path in PAGES for one in IN_THE_LOG.findall(path.read_text())}
    assert {"collector", "reload_refused", "sender.held"} <= sought
    assert [one for one in sought if not any(re.search(one, line) for line in lines)] == []
