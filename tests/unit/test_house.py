"""The architecture, checked: who may import whom, how many loose modules there are, and how large they get.

The rooms are described in CONTRIBUTING.md; `ROOMS` here and the map there agree.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ONLY_READS = {
    "agent.send",
    "agent.destinations",
    "agent.http",
    "agent.collect",
    "agent.collectors",
    "agent.scrape",
    "agent.cli",
}
"""What a room that only reads the buffer has nothing to do with."""
FORBIDDEN = {
    "buffer": {"agent"},
    "agent.text": {"agent"},
    "agent.http": {"agent.send", "agent.destinations", "agent.collect", "agent.collectors", "agent.scrape"},
    "agent.collectors": {"agent.send", "agent.destinations", "agent.http", "agent.collect", "agent.scrape"},
    "agent.collect": {"agent.send", "agent.destinations"},
    "agent.scrape": {"agent.send", "agent.destinations"},
    "agent.destinations": {"agent.send", "agent.collect", "agent.scrape"},
    "agent.send": {"agent.collect", "agent.scrape", "agent.ops", "agent.cli"},
    "agent.ops": {"agent.cli", "agent.query", "agent.serve"},
    "agent.query": {*ONLY_READS, "agent.serve"},
    "agent.serve": ONLY_READS,
}
"""By room, the rooms of which nothing in it may import anything, not even for types."""
STILL_WRONG: set[str] = set()
"""What is still to be taken down; an entry that is no longer needed fails the test."""
STILL_LONG: set[str] = set()
LONGEST = 400
LARGEST_CLASS = 199


def modules() -> dict[str, Path]:
    """Every module of the product by its name."""
    files = [*ROOT.glob("agent/**/*.py"), *ROOT.glob("buffer/**/*.py")]
    names = (path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".") for path in files)
    return {name.removesuffix(".__init__"): path for name, path in zip(names, files, strict=True)}


def imports(path: Path, known: set[str]) -> Iterator[str]:
    """The modules of the product that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative import"
            for name in node.names:
                full = f"{node.module}.{name.name}"
                yield full if full in known else node.module
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names)


def arrows() -> dict[str, set[str]]:
    """By module, the other modules of the product that it imports."""
    known = modules()
    return {name: set(imports(path, set(known))) & set(known) - {name} for name, path in known.items()}


def room(name: str) -> str:
    """The folder that a module belongs to: `buffer`, `agent.<room>`, or the module where it is loose in `agent`."""
    return name.split(".")[0] if name.startswith("buffer") else ".".join(name.split(".")[:2])


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def circle(graph: dict[str, set[str]]) -> list[str]:
    """One circle in a graph, empty where there is none."""
    done: set[str] = set()

    def walk(name: str, path: list[str]) -> list[str]:
        if name in path:
            return [*path[path.index(name) :], name]
        if name in done:
            return []
        for other in sorted(graph[name]):
            if found := walk(other, [*path, name]):
                return found
        done.add(name)
        return []

    for name in sorted(graph):
        if found := walk(name, []):
            return found
    return []


def test_no_module_imports_what_its_room_must_not_know() -> None:
    wrong = [
        f"{name} -> {other}"
        for name, others in arrows().items()
        for package, forbidden in FORBIDDEN.items()
        if within(name, package)
        for other in others
        if any(within(other, one) for one in forbidden) and other != "agent" and not within(other, package)
    ]
    assert set(wrong) == STILL_WRONG


def test_there_is_no_circle_of_modules() -> None:
    assert circle(arrows()) == []


def test_a_circle_would_be_found() -> None:
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert circle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def test_few_modules_are_loose_and_the_map_names_every_room() -> None:
    loose = sorted(path.stem for path in (ROOT / "agent").glob("*.py"))
    assert len(loose) <= 8, loose
    rooms = {room(name) for name in modules() if name.count(".") >= 2} | {"buffer"}
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    mapped = set(re.findall(r"^\| `((?:agent|buffer)[\w/]*)/` \|", text, re.MULTILINE))
    assert {name.replace(".", "/") for name in rooms} == mapped


@pytest.mark.parametrize("name", sorted(set(modules()) - STILL_LONG))
def test_no_module_and_no_class_is_too_long(name: str) -> None:
    path = modules()[name]
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") <= LONGEST
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ClassDef) and node.end_lineno is not None:
            assert node.end_lineno - node.lineno + 1 <= LARGEST_CLASS, node.name


def test_no_group_is_repeated_possessively() -> None:
    """Python before 3.11.5 gets these wrong (cpython#106052), and Debian 12 has 3.11.2: a scrape failed there."""
    wrong = [
        str(path)
        for path in modules().values()
        if re.search(r"(?<!\\)\)[*+?]\+", path.read_text(encoding="utf-8"))
    ]
    assert wrong == []
