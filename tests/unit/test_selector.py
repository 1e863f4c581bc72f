"""Selectors: what they mean, and that no text is misread."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.ops.selector import Matcher, SelectorError, parse
from buffer.model import Series

SERIES = [
    Series("up", (("instance", "a:1"), ("job", "node"))),
    Series("up", (("instance", "b:1"), ("job", "db"))),
    Series("cpu_seconds_total", (("core", "0"), ("job", "node"))),
    Series("cpu_seconds_total", (("core", "10"), ("job", "node"), ("note", "two\nlines"))),
]

MEANING = {
    "up": [0, 1],
    "  up\n": [0, 1],
    "up{}": [0, 1],
    'up{job="node"}': [0],
    'up { job = "node" , }': [0],
    '{job="node"}': [0, 2, 3],
    "{job='node'}": [0, 2, 3],
    "{job=`node`}": [0, 2, 3],
    'up{job!="node"}': [1],
    'up{core=""}': [0, 1],
    '{job="node",core!=""}': [2, 3],
    '{core=~"1"}': [],  # a pattern matches the whole value
    '{core=~"1."}': [3],
    '{core=~"0|1"}': [2],
    '{core=~".+"}': [2, 3],
    '{job="node",core!~"1.*"}': [0, 2],
    '{note=~"two.lines"}': [3],
    '{note=~"two\\\\slines"}': [3],
    "{note=`two\nlines`}": [3],
    '{note="two\\nlines"}': [3],
    '{note="two\\012\\x6c\\u0069\\U0000006ees"}': [3],
    '{__name__="up"}': [0, 1],
    '{__name__=~"up|cpu.*",core="0"}': [2],
    '{"up"}': [0, 1],
    '{"up","job"="db"}': [1],
    '{job=~"(?i)NODE",core="0"}': [2],
    '{job=~"\\\\pL+",core="0"}': [2],
    '{job=~"[[:alpha:]]+",core="0"}': [2],
    '{job=~"(n|d)+.*",core="0"}': [2],
    '{job=~`\\w+`,core="0"}': [2],
    '{"core.of"="",job="db"}': [1],
    "nothing": [],
}


@pytest.mark.parametrize(("text", "selected"), MEANING.items(), ids=list(MEANING))
def test_what_a_selector_selects(text: str, selected: list[int]) -> None:
    selector = parse(text)
    assert [i for i, series in enumerate(SERIES) if selector.matches(series)] == selected


WRONG = {
    "": (1, "expected a metric name"),
    "9up": (1, "expected a metric name"),
    "up down": (4, "expected the end"),
    "up{job}": (7, "expected ="),
    "up{job=node}": (8, "a value in quotes"),
    'up{job="node}': (8, "not closed"),
    'up{job="a\nb"}': (8, "not closed"),
    'up{job="node"': (14, "expected , or }"),
    'up{job="node" x="y"}': (15, "expected , or }"),
    'up{,job="node"}': (4, "expected a label name"),
    'up{job=="node"}': (8, "a value in quotes"),
    'up{job=~"("}': (9, "pattern is not valid"),
    'up{job=~"(?!node)"}': (9, "pattern is not valid"),
    'up{job="\\U00110000"}': (9, "not an escape"),
    'up{job="\\q"}': (9, "not an escape"),
    'up{job="\\xg0"}': (9, "not an escape"),
    'up{job="\\400"}': (9, "not an escape"),
    'up{job="\\ud800"}': (9, "not an escape"),
    'up{job="\\xff"}': (8, "not UTF-8"),
    'up{__name__="up"}': (4, "given twice"),
    "{}": (1, "every series would match"),
    '{job=""}': (1, "every series would match"),
    '{job=~".*"}': (1, "every series would match"),
    'up{job="x"}}': (12, "expected the end"),
}


@pytest.mark.parametrize(("text", "at", "what"), [(t, *w) for t, w in WRONG.items()], ids=list(WRONG))
def test_an_error_says_what_and_where(text: str, at: int, what: str) -> None:
    with pytest.raises(SelectorError, match=re.escape(what)) as caught:
        parse(text)
    assert f"character {at}, at" in str(caught.value)
    assert caught.value.exit_code == 2


VALUES = st.text(st.characters(codec="utf-8"), max_size=12)
LABELS = st.from_regex(r"[a-zA-Z_][a-zA-Z0-9_]{0,8}", fullmatch=True).filter(lambda name: name != "__name__")
OPERATORS = st.sampled_from(["=", "!=", "=~", "!~"])


def double(text: str) -> str:
    plain = {"\\": "\\\\", '"': '\\"', "\n": "\\n"}
    return '"' + "".join(plain.get(c, c) for c in text) + '"'


def single(text: str) -> str:
    return "'" + "".join("".join(f"\\x{b:02x}" for b in c.encode()) for c in text) + "'"


def numbered(text: str) -> str:
    return '"' + "".join(f"\\U{ord(c):08x}" for c in text) + '"'


def raw(text: str) -> str:
    return f"`{text}`" if "`" not in text else double(text)


@given(
    st.lists(
        st.tuples(LABELS, OPERATORS, VALUES, st.sampled_from([double, single, numbered, raw])), max_size=4
    ),
    st.sampled_from(["", " ", "\t\n"]),
)
def test_what_is_written_in_any_quotes_is_read_back(
    parts: list[tuple[str, str, str, object]], space: str
) -> None:
    texts, expected = [], [Matcher("__name__", "=", "up")]
    for label, operator, value, quote in parts:
        assert callable(quote)
        value = re.escape(value) if "~" in operator else value
        texts.append(f"{label}{space}{operator}{space}{quote(value)}")
        expected.append(Matcher(label, operator, value))
    text = f"{space}up{space}{{{space}" + f"{space},{space}".join(texts) + f"{space}}}{space}"
    assert list(parse(text).matchers) == expected


@given(LABELS, OPERATORS, VALUES, st.dictionaries(LABELS, VALUES, max_size=3))
def test_a_matcher_means_what_prometheus_says(
    label: str, operator: str, value: str, labels: dict[str, str]
) -> None:
    quoted = double(re.escape(value) if "~" in operator else value)
    series = Series("up", tuple(sorted(labels.items())))
    wanted = (labels.get(label, "") == value) == (operator in ("=", "=~"))
    assert parse(f"up{{{label}{operator}{quoted}}}").matches(series) is wanted


@given(st.text(st.sampled_from("up{}=!~\"'`\\,x1u \n(*é"), max_size=24))
def test_no_text_is_more_than_an_error(text: str) -> None:
    try:
        selector = parse(text)
    except SelectorError:
        return
    assert selector.matchers
    selector.matches(SERIES[0])
