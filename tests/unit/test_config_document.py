"""YAML as texts with lines: nothing is guessed, nothing crashes, nothing that may be secret is repeated."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.config import document
from agent.config.document import Node, parse
from tests.support.run import python


@pytest.fixture(params=["CSafeLoader", "SafeLoader"], autouse=True)
def loader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(document, "_LOADER", getattr(yaml, request.param))


def plain(node: Node) -> object:
    if isinstance(node.value, list):
        return [plain(one) for one in node.value]
    if isinstance(node.value, dict):
        return {key: plain(entry.node) for key, entry in node.value.items()}
    return node.value


MEANT = {
    "a: on": {"a": "on"},
    "a: 010": {"a": "010"},
    "a: 1:30": {"a": "1:30"},
    "a: 2024-01-01": {"a": "2024-01-01"},
    "on: x": {"on": "x"},
    "1: x": {"1": "x"},
    "a:": {"a": None},
    "a: ~": {"a": None},
    "a: null": {"a": None},
    "a: 'null'": {"a": "null"},
    "a: ''": {"a": ""},
    "a: !!str null": {"a": "null"},
    "a: |\n  x\n  y": {"a": "x\ny"},
    "a: &b {c: d}\ne: *b": {"a": {"c": "d"}, "e": {"c": "d"}},
    "[a, [b]]": ["a", ["b"]],
    "": None,
    "# nothing": None,
    "---\na: b\n...\n": {"a": "b"},
    "'<<': a": {"<<": "a"},
}


@pytest.mark.parametrize(("text", "meaning"), MEANT.items())
def test_what_is_written_is_what_counts(text: str, meaning: object) -> None:
    node, problems = parse(text)
    assert (plain(node), problems) == (meaning, ())


def test_lines_are_known() -> None:
    node, _ = parse("a: 1\nb:\n  - x\n  - c:\n      y\n")
    assert isinstance(node.value, dict)
    b = node.value["b"].node.value
    assert isinstance(b, list)
    assert (node.value["b"].line, b[0].line, b[1].line) == (2, 3, 4)


REFUSED = {
    "a: 1\na: 2": (2, "there twice, first on line 1"),
    "x: 1\na: *hunter2": (2, "alias"),
    "a: !hunter2 x": (1, "tags"),
    "a: !hunter2!b x": (1, "not valid YAML"),
    "a: !!binary eA==": (1, "tags"),
    "a: !!python/object:os.system x": (1, "tags"),
    "&a [*a]": (1, "alias"),
    "[&x [a], " + "*x, " * 101 + "]": (1, "more than 100 aliases"),
    "a: &x {b: c}\nd:\n  <<: *x": (3, "merge keys"),
    "{[a]: b}": (1, "not a text"),
    "{a: b}: c": (1, "not a text"),
    "~: b": (1, "not a text"),
    "a: 1\n---\nb: 2": (2, "a second document"),
    "[" * 100_000: (1, "nested deeper"),
    "{a: " * 100_000: (1, "nested deeper"),
    "- " * 100_000: (1, "nested deeper"),
    "a:\n- b\n  hunter2: x\n c: d": (3, "not valid YAML"),
    "a: 'hunter2": (1, "not valid YAML"),
    "a: hunter2: b": (1, "not valid YAML"),
    "a: @hunter2": (1, "not valid YAML"),
    "a: %hunter2": (1, "not valid YAML"),
    "a: [hunter2": (1, "not valid YAML"),
    "%YAML 9.9\n---\na: b": (1, "not valid YAML"),
    "\ta: b": (1, "not valid YAML"),
    "a: b\x01": (None, "not valid YAML"),
    "a: \ud800": (None, "not valid text"),
}


@pytest.mark.parametrize(("text", "error"), REFUSED.items(), ids=[text[:20] for text in REFUSED])
def test_what_is_not_understood_is_refused_with_its_line(text: str, error: tuple[int | None, str]) -> None:
    _, problems = parse(text)
    assert len(problems) == 1
    line, what = error
    assert what in problems[0].what
    assert line is None or problems[0].line in (line, line + 1)
    assert "hunter2" not in problems[0].text("f.yaml")


@pytest.mark.parametrize(
    ("text", "error"),
    {
        "a: [1\nb: 2": "expected `,` or `]`",
        "a: {hunter2: 1\nb: 2": "expected `,` or `}`",
    }.items(),
)
def test_the_sign_that_is_missing_is_named(text: str, error: str) -> None:
    _, [problem] = parse(text)
    assert error in problem.what and "hunter2" not in problem.what


def test_every_duplicate_is_reported_with_its_path() -> None:
    _, problems = parse("a: 1\na: 2\nb:\n- {c: 1, c: 2, c: 3}\n")
    assert [problem.path for problem in problems] == ["a", "b[0].c", "b[0].c"]


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(st.characters() | st.sampled_from("{}[]:,-&*!|>'\"%@#? \n\t<~"), max_size=60))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    node, problems = parse(text)
    assert isinstance(node, Node)
    assert all(problem.what and problem.do for problem in problems)


def test_brackets_do_not_end_the_process() -> None:
    """PyYAML's own tree builder overflows the stack on this; a bad file on reload must not kill the agent."""
    code = "from agent.config.document import parse; print(parse('[' * 1000000)[1][0].what)"
    assert python(code) == "nested deeper than any configuration is\n"
