"""PromQL to a tree. That whole expressions mean what they mean in Prometheus is tested in tests/integration."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.query.parse import DEEPEST, LONGEST, MOST_OPERATORS, parse
from agent.query.signatures import FUNCTIONS, NOT_SUPPORTED, PARAMETERS, arguments
from agent.query.tree import Binary, Negation, Node, Number, Paren, QueryError, Selector, Subquery, Text, kind
from tests.support import expressions


def test_every_expression_of_the_comparison_is_read() -> None:
    for text in expressions.expressions():
        assert kind(parse(text)) in ("scalar", "vector")


@pytest.mark.parametrize(
    ("text", "at", "says"),
    [
        ("", 1, "there is no expression"),
        ("1 +", 4, "expected a metric"),
        ("sum(a) b", 8, "expected an operator or the end"),
        ("rate(a)", 6, "rate takes a range vector such as x[5m], not an instant vector"),
        ("1 + no_such(a)", 5, "the function no_such does not exist"),
        ("mad_over_time(a[5m])", 1, "the function mad_over_time is not supported here"),
        ("limitk(1, a)", 1, "the function limitk is not supported here"),
        ("abs(a, b)", 1, "abs takes 1 arguments, not 2"),
        ("label_join(a)", 1, "label_join takes 3 or more arguments, not 1"),
        ('a{b=~"("}', 6, "the pattern is not valid"),
        ('a{b="\\z"}', 6, "not an escape"),
        ("a{b='x}", 5, "the quotes are not closed"),
        ("a[5m1h]", 3, "a duration has y, w, d, h, m, s, ms in this order"),
        ("a[999999999y]", 3, "longer than 292 years"),
        ("a @ 1e300", 5, "there is no such time"),
        ("a # comment\n§", 13, "there is no such number or sign"),
    ],
)
def test_an_error_says_what_and_where(text: str, at: int, says: str) -> None:
    with pytest.raises(QueryError) as error:
        parse(text)
    assert says in str(error.value)
    assert f"character {at}," in str(error.value)


def test_every_function_that_prometheus_has_besides_is_named() -> None:
    for name in NOT_SUPPORTED:
        assert name not in FUNCTIONS
        assert name not in PARAMETERS
        with pytest.raises(QueryError, match=f"{name} is not supported here"):
            parse(f"{name}(a)")
    assert all(len(arguments(name)[0]) >= arguments(name)[1] for name in FUNCTIONS)


def test_the_page_has_every_function_and_aggregation() -> None:
    page = (Path(__file__).parents[2] / "docs" / "query.md").read_text(encoding="utf-8")
    assert {*FUNCTIONS, *PARAMETERS} <= set(re.findall(r"`(\w+)`", page))


@pytest.mark.parametrize(
    ("text", "grouped"),
    [
        ("a + b * c", "(a + (b * c))"),
        ("a * b % c", "((a * b) % c)"),
        ("a ^ b ^ c", "(a ^ (b ^ c))"),
        ("-a ^ b", "-((a ^ b))"),
        ("-a * b", "(-(a) * b)"),
        ("a ^ -b * c", "((a ^ -(b)) * c)"),
        ("a or b and c unless d", "(a or ((b and c) unless d))"),
        ("a == b + c", "(a == (b + c))"),
        ("a AND b", "(a and b)"),
        ("a - b - c", "((a - b) - c)"),
        ("a atan2 b + c", "((a atan2 b) + c)"),
    ],
)
def test_operators_bind_as_in_prometheus(text: str, grouped: str) -> None:
    assert shown(parse(text)) == grouped


def shown(node: Node) -> str:
    if isinstance(node, Binary):
        return f"({shown(node.left)} {node.operator} {shown(node.right)})"
    if isinstance(node, Negation):
        return f"-({shown(node.inner)})"
    assert isinstance(node, Selector)
    return node.matchers[0].value


def test_values_are_read() -> None:
    assert parse("-0x1F") == Number(0, -31.0)
    assert parse("1h30m") == Number(0, 5400.0)
    assert repr(parse("nan")) == "Number(at=0, value=nan)"
    assert parse("`a\\n`") == Text(0, "a\\n")
    subquery = parse("(a[5m:30s] offset -1m @ 1.5)")
    assert isinstance(subquery, Paren)
    inner = subquery.inner
    assert isinstance(inner, Subquery)
    assert (inner.range_ms, inner.step_ms, inner.offset_ms, inner.moment) == (300_000, 30_000, -60_000, 1500)


def test_what_is_too_long_or_too_deep_is_refused_and_not_a_crash() -> None:
    for text in (
        "(" * 5000,
        "-" * 5000,
        "a+" * 5000,
        "a" + " + a" * (MOST_OPERATORS + 1),
        "abs(" * 5000,
        "a^" * 5000,
        "2^" * 100 + "2",
        "a" * (LONGEST + 1),
    ):
        with pytest.raises(QueryError):
            parse(text)
    assert parse("(" * (DEEPEST - 1) + "a" + ")" * (DEEPEST - 1))
    assert parse("a" + " + a" * MOST_OPERATORS)


PIECES = st.sampled_from(
    (
        *(
            "a",
            "b1",
            "sum",
            "rate",
            "topk",
            "label_replace",
            "offset",
            "bool",
            "on",
            "by",
            "without",
            "and",
            "or",
        ),
        *(
            "group_left",
            "start()",
            "end()",
            "inf",
            "5m",
            "1h",
            "7",
            ".5",
            '"x"',
            "'y'",
            "`z`",
            '{a="b"}',
            "[5m]",
        ),
        *("[5m:1m]", "==", "!=", "=~", "#", *"(){}[],:@+-*/^=>"),
    )
)


@given(st.one_of(st.text(max_size=40), st.lists(PIECES, max_size=14).map(" ".join)))
def test_any_text_is_an_expression_or_an_error_with_a_place(text: str) -> None:
    try:
        parse(text)
    except QueryError as error:
        found = str(error)
        assert "character" in found
