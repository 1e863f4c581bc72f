"""Python's regular expressions over others' text: none can take more than linear time.

Of two repetitions that follow each other the first must be possessive (`*+`), or what it repeats must not begin what follows, be it
itself, if it lies in a third one: else a text that does not match is tried in every division among them.
"""

from __future__ import annotations

import ast
import importlib
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from re import _constants as kind  # type: ignore[attr-defined]
from re import _parser  # type: ignore[attr-defined]
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
CALLS = {"compile", "match", "fullmatch", "search", "sub", "split", "findall", "finditer"}
GREEDY = {kind.MAX_REPEAT, kind.MIN_REPEAT}


def patterns() -> Iterator[tuple[str, str | bytes]]:
    """Every pattern that is a module's constant, however it is put together, or is written where it is used; with its place."""
    for room in ("agent", "buffer", "limpet"):
        for path in sorted((ROOT / room).rglob("*.py")):
            place = path.relative_to(ROOT).as_posix()
            if path.name != "__main__.py":
                module = importlib.import_module(
                    place.removesuffix(".py").replace("/", ".").removesuffix(".__init__")
                )
                for name, value in vars(module).items():
                    if isinstance(value, re.Pattern):
                        yield f"{place}:{name}", value.pattern
            tree = ast.parse(path.read_text())
            constants: dict[str, Any] = {}
            for node in ast.walk(tree):
                match node:
                    case ast.Assign(targets=[ast.Name(name)], value=value):
                        constants[name] = value
            for node in ast.walk(tree):
                match node:
                    case ast.Call(func=ast.Attribute(value=ast.Name("re"), attr=attr), args=[first, *_]):
                        if attr in CALLS and (text := written(first, constants)) is not None:
                            yield f"{place}:{node.lineno}", text


def written(node: ast.expr, constants: dict[str, Any]) -> str | bytes | None:
    match node:
        case ast.Constant(value=str() | bytes() as text):
            return text
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            parts: list[Any] = [written(left, constants), written(right, constants)]
            return None if None in parts else parts[0] + parts[1]
        case ast.Name(name) if name in constants:
            return written(constants[name], constants)
        case ast.JoinedStr(values=values):
            texts = [written(part, constants) for part in values]
            return None if None in texts else "".join(map(str, texts))
        case ast.FormattedValue(value=value):
            return written(value, constants)
    return None


def letters(node: Any) -> set[int] | None:
    """Return the characters (below 256) that one step of this can take; None: any."""
    op, av = node
    if op is kind.LITERAL:
        return {av}
    if op is kind.NOT_LITERAL:
        return set(range(256)) - {av}
    if op is kind.ANY:
        return set(range(256))
    if op is kind.IN:
        found: set[int] = set()
        for what, value in av:
            if what is kind.LITERAL:
                found.add(value)
            elif what is kind.RANGE:
                found |= set(range(value[0], min(value[1], 255) + 1))
            elif what is kind.CATEGORY:
                return None
        return set(range(256)) - found if av[0][0] is kind.NEGATE else found
    return None


def first(nodes: list[Any]) -> tuple[set[int], bool]:
    """Return what these can begin with, and whether they can be empty."""
    found: set[int] = set()
    for op, av in nodes:
        if op is kind.AT or op in (kind.ASSERT, kind.ASSERT_NOT):
            continue
        some, empty = begins(op, av)
        found |= some
        if not empty:
            return found, False
    return found, True


def begins(op: Any, av: Any) -> tuple[set[int], bool]:
    if op in GREEDY or op is kind.POSSESSIVE_REPEAT:
        some, empty = first(list(av[2]))
        return some, empty or av[0] == 0
    if op is kind.SUBPATTERN:
        return first(list(av[3]))
    if op is kind.ATOMIC_GROUP:
        return first(list(av))
    if op is kind.BRANCH:
        ways = [first(list(way)) for way in av[1]]
        return set().union(*(some for some, _ in ways)), any(empty for _, empty in ways)
    taken = letters((op, av))
    return (set(range(256)) if taken is None else taken), False


def is_risky(nodes: list[Any], behind: list[Any]) -> bool:
    """Return whether a repetition is followed by one that could take the same characters; `behind` is what follows.

    What is repeated is followed by itself.
    """
    for i, (op, av) in enumerate(nodes):
        rest = nodes[i + 1 :] + behind
        if op in GREEDY and av[1] > 16:
            own, _ = first(list(av[2]))
            if any(step is not None and own & step for step in repetitions(rest)):
                return True
        if op in GREEDY and is_risky(list(av[2]), [*(av[2] if av[1] > 1 else ()), *rest]):
            return True
        if op is kind.POSSESSIVE_REPEAT and is_risky(list(av[2]), list(av[2]) if av[1] > 1 else []):
            return True
        if op is kind.SUBPATTERN and is_risky(list(av[3]), rest):
            return True
        if op is kind.BRANCH and any(is_risky(list(way), rest) for way in av[1]):
            return True
    return False


def repetitions(nodes: list[Any]) -> Iterator[set[int] | None]:
    """Yield what the repetitions take that can come next, with nothing but what may be empty in between."""
    for op, av in nodes:
        if op in GREEDY or op is kind.POSSESSIVE_REPEAT:
            some, empty = first(list(av[2]))
            if av[1] > 16:
                yield some
            if av[0] and not empty:
                return
        elif op is kind.SUBPATTERN:
            yield from repetitions(list(av[3]))
            if not first(list(av[3]))[1]:
                return
        elif op is kind.BRANCH:
            for way in av[1]:
                yield from repetitions(list(way))
            if not begins(op, av)[1]:
                return
        elif op is not kind.AT:
            return


def risky(pattern: str | bytes) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return is_risky(list(_parser.parse(pattern)), [])


@pytest.mark.parametrize(
    "pattern",
    [
        "a+a+",
        "[ab]*b*c",
        "(a+)+",
        "(?:a*b?)*",
        r"\w*\d*x",
        "(a*)(a*)",
        ".*.*",
        "a*b?a*",
        "(?:a*b?)*+",
        "(?:x|a*)*",
    ],
)
def test_the_scan_finds(pattern: str) -> None:
    assert risky(pattern)


@pytest.mark.parametrize(
    "pattern",
    ["a+b+", "[ab]*+b*c", "(?:a++)*+", "a*ba*", "(?:a|b)*", "[0-9]{1,9}[0-9]{1,9}", '(?:"(?:x[^"x]*)*")*'],
)
def test_the_scan_lets_pass(pattern: str) -> None:
    assert not risky(pattern)


def test_no_pattern_has_repetitions_that_share_characters() -> None:
    found = list(patterns())
    assert len(found) > 60
    assert sum(where.startswith("agent/scrape/") for where, _ in found) > 20
    assert [(where, pattern) for where, pattern in found if risky(pattern)] == []
