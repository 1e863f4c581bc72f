"""Expositions as columns: against Prometheus's own library, and from one exposition to the next."""

from __future__ import annotations

import math
import random
import re
import struct
from collections.abc import Callable, Iterable

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Enum, Gauge, Histogram, Info, Metric, Summary
from prometheus_client.openmetrics import exposition, parser
from prometheus_client.parser import text_string_to_metric_families as library_text

from agent.collectors.base import Labels
from agent.scrape.exposition import go_float
from agent.scrape.families import Family
from agent.scrape.lines import ParseError
from agent.scrape.table import Read, Table, TooMany
from buffer.model import Series
from tests.support.exporter import RECORDED, Load, recorded

library_openmetrics: Callable[[str], Iterable[Metric]] = parser.text_string_to_metric_families
generate_latest: Callable[[CollectorRegistry], bytes] = exposition.generate_latest

Found = dict[tuple[str, Labels], float]


def named(name: str, labels: Labels, family: Family) -> Series:
    return Series(name, tuple(sorted(labels)), family.type, family.unit, family.help)


def read(text: str | bytes, *, openmetrics: bool = False) -> Read:
    body = text if isinstance(text, bytes) else text.encode()
    return Table(named, 100_000).read(body, openmetrics=openmetrics)


def ours(found: Read) -> Found:
    return {series[:2]: value for series, value in zip(found.series, found.values, strict=True)}


def theirs(families: Iterable[Metric]) -> Found:
    """What the library says, the first of two of the same; it writes le and quantile as they are."""
    found: Found = {}
    for each in families:
        normalized = {"histogram": "le", "summary": "quantile"}.get(each.type)
        for one in each.samples:
            labels = {k: go_float(v) if k == normalized else v for k, v in one.labels.items() if v}
            found.setdefault((one.name, tuple(sorted(labels.items()))), float(one.value))
    return found


def same(one: Found, other: Found) -> bool:
    """Bit for bit, but that all NaN are one."""

    def bits(found: Found) -> dict[tuple[str, Labels], bytes]:
        return {key: struct.pack("<d", math.nan if v != v else v) for key, v in found.items()}

    return bits(one) == bits(other)


# --- compared with the library ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", RECORDED)
def test_what_real_programs_say_is_read_as_the_library_reads_it(name: str) -> None:
    body = recorded(name)
    families = list(library_text(body.decode()))
    # The library calls every counter ..._total, whatever its name is: that much is not compared.
    renamed = {
        f.name for f in families if f.type == "counter" and f"# TYPE {f.name} counter" in body.decode()
    }
    expected = theirs(families)
    for key in [key for key in expected if key[0].removesuffix("_total") in renamed]:
        expected[key[0].removesuffix("_total"), key[1]] = expected.pop(key)
    found = read(body)
    assert same(ours(found), expected)
    assert found.scraped == len(found.series) > 500
    text = body.decode()
    kinds = dict(re.findall(r"(?m)^# TYPE (\S+) (\S+)$", text))
    helps = dict(re.findall(r"(?m)^# HELP (\S+) (.*)$", text))
    for series in found.series:
        name = re.sub("_(total|bucket|sum|count)$", "", series.name)
        name = series.name if series.name in kinds else name
        assert series.type == kinds.get(name, "unknown").replace("untyped", "unknown")
        assert series.help == helps.get(name, "").replace("\\n", "\n")


def test_what_the_library_exposes_as_openmetrics_is_read_as_it_reads_it() -> None:
    registry = CollectorRegistry()
    Counter("requests", "Those \\ that\ncame.", ["path"], registry=registry).labels('/"x\\\n').inc(
        3, {"trace": "a # b"}
    )
    Gauge("heat_celsius", "How warm.", registry=registry, unit="celsius").set(-0.5)
    histogram = Histogram("wait", "How long.", ["who"], registry=registry, buckets=(0.5, 1, 1e6))
    histogram.labels("a").observe(0.7, {"trace": "b"})
    Summary("size", "How large.", registry=registry).observe(3)
    Info("build", "Which.", registry=registry).info({"version": "1"})
    Enum("state", "Which state.", registry=registry, states=["on", "off"]).state("on")
    body = generate_latest(registry)
    found = read(body, openmetrics=True)
    families = list(library_openmetrics(body.decode()))
    assert same(ours(found), theirs(families))
    assert {s.name: s.type for s in found.series if "created" not in s.name} == {
        "requests_total": "counter",
        "heat_celsius": "gauge",
        "wait_bucket": "histogram",
        "wait_count": "histogram",
        "wait_sum": "histogram",
        "size_count": "summary",
        "size_sum": "summary",
        "build_info": "info",
        "state": "stateset",
    }
    (heat,) = [s for s in found.series if s.name == "heat_celsius"]
    assert (heat.unit, heat.help) == ("celsius", "How warm.")


NAMES = st.from_regex(r"[a-zA-Z_:][a-zA-Z0-9_:]{0,8}", fullmatch=True)
KEYS = st.from_regex(r"[a-zA-Z_][a-zA-Z0-9_]{0,6}", fullmatch=True).filter(
    lambda key: not key.startswith("__")
)
VALUES = st.text(
    st.characters(codec="utf-8", exclude_characters="\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"), max_size=8
)
NUMBERS = st.one_of(
    st.floats().map(repr), st.integers(-(10**18), 10**18).map(str), st.sampled_from(["+Inf", "NaN"])
)
BLANKS = st.sampled_from([" ", "  ", "\t"])
TIMES = st.one_of(st.just(""), st.integers(0, 10**13).map(lambda ms: f" {ms}"))


@st.composite
def lines(draw: st.DrawFn) -> str:
    kind = draw(st.integers(0, 9))
    if kind == 0:
        return draw(st.sampled_from(["", "# a comment", "#", "  ", "# HELP a Text.", "# HELP b"]))
    name = draw(NAMES)
    labels = draw(st.dictionaries(KEYS, VALUES, max_size=3))
    pairs = [f'{key}="{_escaped(value)}"' for key, value in labels.items()]
    inside = draw(st.sampled_from([",", ", ", " ,"])).join(pairs)
    braces = f"{{{inside}{draw(st.sampled_from(['', ',']) if pairs else st.just(''))}}}" if pairs else ""
    return f"{name}{braces}{draw(BLANKS)}{draw(NUMBERS)}{draw(TIMES)}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


@given(st.lists(lines(), max_size=12))
@example(['a{b="}"} 1', 'a{b="\\\\"} 1 5', 'a{b="\\\\",c="d"}\t1'])
def test_what_is_well_formed_is_read_as_the_library_reads_it(written: list[str]) -> None:
    text = "".join(f"{line}\n" for line in written)
    found = read(text)
    assert same(ours(found), theirs(library_text(text)))
    assert found.scraped == sum(line.strip() != "" and not line.startswith("#") for line in written)


PIECES = st.sampled_from(
    ["a", "b_total", "{", "}", '"', "\\", ",", "=", " ", "\t", "#", "1", "-", ".5", "e3", "NaN", "\n", "le",
     '{le="1"}', ' 5\n', "# TYPE ", "# HELP ", "counter", "histogram", "\x00", "ü", "\\n", " # {", "# EOF\n"]
)  # fmt: skip


@settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow])
@given(st.one_of(st.lists(PIECES, max_size=25).map("".join), st.text(max_size=40)), st.booleans())
@example("a 1\r", False)
@example("a{b='c'} 1", False)
def test_what_is_malformed_is_a_parse_error_and_what_both_take_is_read_alike(
    text: str, openmetrics: bool
) -> None:
    try:
        found = ours(read(text.encode("utf-8", "surrogatepass"), openmetrics=openmetrics))
    except ParseError:
        return
    try:
        expected = theirs(library_openmetrics(text) if openmetrics else library_text(text))
    except Exception:  # it refuses what Prometheus takes: a missing comma, `a1.5`, a counter that is not one
        return
    if "\r" in text or "TYPE" in text:  # it takes white space of any kind for none, and renames counters
        return
    assert same(found, expected)


@given(st.binary(max_size=60), st.booleans())
def test_bytes_of_any_kind_are_a_parse_error_at_worst(body: bytes, openmetrics: bool) -> None:
    try:
        read(body, openmetrics=openmetrics)
    except ParseError:
        pass


# --- from one to the next -------------------------------------------------------------------------------------------


class Counting(Table):
    """A table that counts what is parsed."""

    def __init__(self, most: int = 100_000) -> None:
        self.asked: list[str] = []

        def name(name: str, labels: Labels, family: Family) -> Series | None:
            self.asked.append(name)
            return None if name.startswith("drop") else named(name, labels, family)

        super().__init__(name, most)

    def get(self, text: str, *, openmetrics: bool = False) -> Read:
        self.asked.clear()
        return self.read(text.encode(), openmetrics=openmetrics)


SAME: dict[str, tuple[list[str], list[list[float]]]] = {
    "the same lines": (['a 1\nb{c="d"} 2\n', 'a 3\nb{c="d"} 4\n'], [[1, 2], [3, 4]]),
    "in another order": (["a 1\nb 2\nc 3\n", "c 6\na 4\nb 5\n"], [[1, 2, 3], [4, 5, 6]]),
    "a comment that changes": (["# TYPE a gauge\n# made at 12:00\na 1\n", "# made at 12:01\n# TYPE a gauge\na 2\n"], [[1], [2]]),
    "timestamps": (["a 1 1700000000000\nb 2\n", "a 3 1700000001000\nb 4\n", "a 5\nb 6 7\n"], [[1, 2], [3, 4], [5, 6]]),
    "a timestamp like the value": (["a 5 5\n", "a 5 7\n"], [[5], [5]]),
    "exemplars": (['a_total 1 # {t="x"} 1\n# EOF\n', 'a_total 2 # {t="y 3"} 4\n# EOF\n'], [[1], [2]]),
    "an exemplar like the value": (["a_total 5 # {} 5\n# EOF\n", "a_total 5 # {} 7\n# EOF\n"], [[5], [5]]),
    "other blanks": (["a 1\n", "a  2\n", "a\t3\n", " a 4\n", "a 5 \n", "a{} 6\n"], [[1], [2], [3], [4], [5], [6]]),
}  # fmt: skip


@pytest.mark.parametrize("case", SAME)
def test_what_differs_in_nothing_but_values_is_one_set_of_series(case: str) -> None:
    """A key is parsed once."""
    table, (texts, values) = Counting(), SAME[case]
    found, asked = [], []
    for text in texts:
        found.append(table.get(text, openmetrics=text.endswith("# EOF\n")))
        asked += table.asked
    assert len(asked) == (len(found[0].series) if case != "other blanks" else 4)  # of the keys with blanks
    assert [one.values for one in found] == values
    assert all(one.series is found[0].series for one in found)
    assert found[0].stamped == []


def test_a_series_that_comes_or_goes_makes_another_set_and_only_what_is_new_is_parsed() -> None:
    table = Counting()
    first = table.get("a 1\nb 2\n")
    second = table.get("a 3\nc 4\nb 5\n")
    assert table.asked == ["c"]
    assert [s.name for s in second.series] == ["a", "c", "b"]
    third = table.get("a 1\nb 2\n")
    assert table.asked == []
    assert third.series == first.series
    assert [id(s) for s in third.series] == [id(s) for s in first.series]


def test_metadata_that_changes_is_seen() -> None:
    table = Counting()
    table.get("# TYPE a gauge\na 1\n")
    (series,) = table.get("# TYPE a counter\n# HELP a More.\na 2\n").series
    assert (series.type, series.help) == ("counter", "More.")
    (series,) = table.get("a 2\n").series
    assert (series.type, series.help) == ("unknown", "")


def test_of_two_of_the_same_the_first_counts() -> None:
    table = Counting()
    found = table.get('a 1\na 2\nb{c="d"} 3\nb{c="d",} 4\n')
    assert ours(found) == {("a", ()): 1.0, ("b", (("c", "d"),)): 3.0}
    assert (table.duplicates, found.scraped) == (2, 4)
    again = table.get('a 5\na 6\nb{c="d"} 7\nb{c="d",} 8\n')
    assert again.series is found.series
    assert again.values == [5.0, 7.0]
    fewer = table.get('a 9\nb{c="d"} 10\n')
    assert fewer.series is found.series
    assert fewer.values == [9.0, 10.0]
    assert table.duplicates == 0


def test_what_is_dropped_is_named_once_and_must_be_well_formed_all_the_same() -> None:
    table = Counting()
    found = table.get("a 1\ndrop_b 2\nc 3\n")
    assert ([s.name for s in found.series], found.values, found.scraped) == (["a", "c"], [1.0, 3.0], 3)
    again = table.get("a 4\ndrop_b 5\nc 6\n")
    assert (table.asked, again.values) == ([], [4.0, 6.0])
    with pytest.raises(ParseError, match="not a value: 'x'"):
        table.get("a 4\ndrop_b x\nc 6\n")


def test_more_samples_than_may_be_cost_no_more_than_may_be() -> None:
    table = Counting(most=3)
    assert len(table.get("a 1\nb 2\nc 3\ndrop_d 4\n").values) == 3
    many = "".join(f"m{i} 1\n" for i in range(1000))
    for _ in range(3):
        with pytest.raises(TooMany, match=r"more than sample_limit \(3\) samples"):
            table.get(many)
        assert len(table.asked) <= 4
    assert table.asked == []  # they are known by now
    with pytest.raises(TooMany):
        table.get("a 1\nb 2\nc 3\ne 4\n")
    assert len(table.get("a 1\nb 2\nc 3\n").values) == 3


def test_after_a_malformed_one_it_starts_again() -> None:
    table = Counting()
    first = table.get("a 1\nb 2\n")
    with pytest.raises(ParseError):
        table.get("a 1\nb\n")
    second = table.get("a 1\nb 2\n")
    assert second.series == first.series
    assert table.asked == ["a", "b"]


def test_series_that_come_and_go_are_forgotten() -> None:
    table = Counting()
    for i in range(300):
        table.get("".join(f"m{i}_{k} 1\n" for k in range(50)))
    assert len(table._known) <= 250


@pytest.mark.parametrize(
    "text", ["a 1\n", "a 1\n# EOF\n\n", "a 1\n# EOF\nb 1\n", "a 1\n\n# EOF\n", "", "# EOF \n", "  # EOF\n"]
)
def test_openmetrics_ends_with_its_end(text: str) -> None:
    with pytest.raises(ParseError):
        read(text, openmetrics=True)
    assert (
        read("a 1\n# EOF", openmetrics=True).values == read("a 1\n# EOF\n", openmetrics=True).values == [1.0]
    )


@pytest.mark.parametrize(
    "value", ["", "x", "1_0", "0x10", "1e", "--1", "1\x0b", "1\r", "\u0661", "1.0.0", "True"]
)
def test_what_is_no_number(value: str) -> None:
    for warm in (False, True):
        table = Counting()
        if warm:
            table.get("a 1\n")
        with pytest.raises(ParseError):
            table.get(f"a {value}\n")


@pytest.mark.parametrize(
    "value", ["1", "-1.5e-3", "+Inf", "-inf", "NaN", "nan", "Infinity", ".5", "5.", "1E5"]
)
def test_what_is_a_number(value: str) -> None:
    assert same({("a", ()): read(f"a {value}\n").values[0]}, {("a", ()): float(value)})


def test_nothing_is_nothing() -> None:
    for text in ("", "\n", "\n\n", "# only comments\n"):
        assert read(text)[:3] == ((), [], 0)
    table = Counting()
    table.get("a 1\n")
    assert table.get("").series == ()


@settings(deadline=None)
@given(st.integers(0, 1000))
def test_whatever_comes_before_an_exposition_is_read_as_if_it_were_the_first(seed: int) -> None:
    dice = random.Random(seed)
    table = Counting()
    for _ in range(6):
        names = dice.sample(["a", "b", 'c{d="e"}', 'c{d="f"}', "drop_g", "h"], dice.randint(0, 6))
        ends = dice.choice([[""], ["", " 1", " 2", " 3"]])
        text = "".join(
            f"{name}{dice.choice([' ', '  '])}{dice.randint(1, 3)}{dice.choice(ends)}\n"
            for name in names + names[: dice.randint(0, 1)]
        )
        found, fresh = table.get(text), Counting().get(text)
        assert same(ours(found), ours(fresh))
        assert found.scraped == fresh.scraped
    sizes = {len(table.get(body.decode()).series) for body in (Load(120)(), Load(120)())}
    assert sizes == {120}


# --- line breaks within quotes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('a{b="c\nd"} 1\ne 2\n', {("a", (("b", "c\nd"),)): 1.0, ("e", ()): 2.0}),
        ('a{b="\n# TYPE a counter\n\n",c="\n"} 1\n', {("a", (("b", "\n# TYPE a counter\n\n"), ("c", "\n"))): 1.0}),
        ('{"a\nb"} 1\n', {("a\nb", ()): 1.0}),
        ('a{b="\\"\nc"} 1\n', {("a", (("b", '"\nc'),)): 1.0}),
        ('# HELP "a\nb" c "\ne 2\n', {("e", ()): 2.0}),
        ('# UNIT "a\ne 2\n', {("e", ()): 2.0}),
        ('# HELP a "\ne 2\n', {("e", ()): 2.0}),
        (f'a{{b="{40_000 * "x"}\n{20_000 * "y"}"}} 1\ne 2\n', None),
    ],
)  # fmt: skip
def test_a_line_break_within_quotes_is_no_end(text: str, expected: Found | None) -> None:
    table = Counting()
    table.get(text)
    for found in (table.get(text), table.get(text)):
        assert expected is None or same(ours(found), expected)
        assert found.scraped == text.endswith("e 2\n") + (not text.startswith("#"))
        assert all(series.type == "unknown" for series in found.series)
    later = table.get(text + "f 3\n")  # what follows is seen, too
    assert len(later.series) == len(found.series) + 1


@pytest.mark.parametrize(
    "text", ['a{b="c\n', 'a{b="c\n"\n', '# HELP "a\n', 'a{b="c\\\nd"} 1\n', 'a 1 "\nb 2\n']
)
def test_quotes_that_do_not_end_are_malformed(text: str) -> None:
    with pytest.raises(ParseError):
        read(text)


def test_a_line_over_many_lines_has_the_same_limit_and_takes_linear_time() -> None:
    with pytest.raises(ParseError, match="a line of more than 65536 bytes"):
        read('a{b="' + 70_000 * "\n" + '"} 1\n')
    assert read('a{b="' + 60_000 * "\n" + '"} 1\n').values == [1.0]


def test_a_timestamp_behind_a_tab_is_seen_again() -> None:
    table = Counting()
    for _ in range(3):
        assert table.get("a 1\t1700000000000\nb 2 \t5\nc 3\t\n").values == [1.0, 2.0, 3.0]


@pytest.mark.parametrize("value", ["-nan", "+NaN", "1e400", "-1e400", "1e999999", f"1{400 * '0'}"])
def test_what_go_does_not_take_for_a_number_is_none(value: str) -> None:
    for text in (f"a {value}\n", f"a 1\nb {value}\n"):
        table = Counting()
        table.get("a 1\nb 1\n")
        with pytest.raises(ParseError):
            table.get(text)


@pytest.mark.parametrize(
    "end", ["x", "NaN", "+Inf", "1_0", "1 1 # {} 1", ' # {a="b"}', " # {} x", ' # {"a"} 1', ' # {a=b} 1', " # {} 1 NaN",
            ' # {a="\xff"} 1', " # {} -nan"]
)  # fmt: skip
def test_timestamps_and_exemplars_are_checked(end: str) -> None:
    with pytest.raises(ParseError):
        read(f"a_total 1 {end.strip()}\n# EOF\n".encode("latin-1"), openmetrics=True)
