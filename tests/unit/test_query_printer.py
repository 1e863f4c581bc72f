"""An expression is written so that it means the same. That it is what Prometheus writes is tested in tests/integration."""

from __future__ import annotations

import pytest

from agent.query.parse import parse
from agent.query.printer import WIDTH, formatted
from agent.query.tree import Node, QueryError
from tests.support import expressions


def meaning(node: object) -> object:
    """Return a tree without where in its text each node is."""
    if not isinstance(node, tuple):
        return repr(node)
    if not hasattr(node, "_fields"):
        return [meaning(one) for one in node]
    fields = [name for name in node._fields if name != "at"]
    found = [meaning(getattr(node, name)) for name in fields]
    matchers = "matchers" in fields
    return [
        type(node).__name__,
        *(sorted(one, key=repr) if matchers and isinstance(one, list) else one for one in found),
    ]


def test_what_is_written_means_the_same() -> None:
    for text in (*expressions.expressions(), *expressions.at_an_instant()):
        tree: Node = parse(text)
        assert meaning(parse(formatted(text))) == meaning(tree), text


@pytest.mark.parametrize(
    ("text", "written"),
    [
        # Prometheus 3.5.3 leaves the quotes and the ignoring out, which means something else or nothing.
        ('a + on ("b c") d', 'a + on ("b c") d'),
        ('sum by ("a:b") (c)', 'sum by ("a:b") (c)'),
        ("a * ignoring () group_left (b) c", "a * ignoring () group_left (b) c"),
    ],
)
def test_what_prometheus_writes_wrong_keeps_its_meaning(text: str, written: str) -> None:
    assert formatted(text) == written


def test_a_long_one_is_broken_at_its_operators_and_arguments() -> None:
    name = "x" * 30
    assert formatted(f"sum by (job) (rate({name}[5m]) + {name} / {name} * {name})") == (
        f"sum by (job) (\n    rate({name}[5m])\n  +\n    {name} / {name} * {name}\n)"
    )
    assert "\n" not in formatted("y" * WIDTH + " ")
    assert formatted(f"abs({'y' * WIDTH})") == f"abs(\n  {'y' * WIDTH}\n)"


def test_an_expression_that_is_not_valid_is_refused() -> None:
    with pytest.raises(QueryError, match="character 5"):
        formatted("sum(")
