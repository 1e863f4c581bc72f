"""Lines of an exposition: what they say, and what is no line of one."""

from __future__ import annotations

import pytest

from agent.scrape.exposition import Line, go_float, sample
from agent.scrape.families import NO_FAMILY, Family, family, metadata
from agent.scrape.lines import ParseError

GOOD_TEXT = {
    b"a 1": ("a", (), b"1", None),
    b"a\t1": ("a", (), b"1", None),
    b" \ta 1 ": ("a", (), b"1", None),
    b"a:b_9 +Inf": ("a:b_9", (), b"+Inf", None),
    b"a{} 1": ("a", (), b"1", None),
    b"a{ } 1": ("a", (), b"1", None),
    b'a{b="c"}1': ("a", (("b", "c"),), b"1", None),
    b'a {b="c"} 1': ("a", (("b", "c"),), b"1", None),
    b'a{b="c",} 1': ("a", (("b", "c"),), b"1", None),
    b'a{ b = "c" , d="e" } 1': ("a", (("b", "c"), ("d", "e")), b"1", None),
    b'a{b="c" d="e"} 1': ("a", (("b", "c"), ("d", "e")), b"1", None),  # Prometheus takes it
    b'a{b="} 5 {\\"",d="e"} 1': ("a", (("b", '} 5 {"'), ("d", "e")), b"1", None),
    b'a{b="\\\\\\n\\"\\x"} 1': ("a", (("b", '\\\n"\\x'),), b"1", None),
    'a{b="grün"} 1'.encode(): ("a", (("b", "grün"),), b"1", None),
    b'a{b="",c="d"} 1': ("a", (("c", "d"),), b"1", None),
    b"a 1 1700000000000": ("a", (), b"1", 1700000000000),
    b'a{b="c"}  1\t1700000000000 ': ("a", (("b", "c"),), b"1", 1700000000000),
    b'a{b=" # {x"} 1': ("a", (("b", " # {x"),), b"1", None),
    b"a1.5": ("a1", (), b".5", None),  # as odd as Prometheus's own lexer
    b'{"a"} 1': ("a", (), b"1", None),  # names in quotes, which client libraries send unasked
    b'{"m.n", b="c"} 1 7': ("m.n", (("b", "c"),), b"1", 7),
    b'{ b="c" , "m n" } 1': ("m n", (("b", "c"),), b"1", None),
    '{"\\"\\\\\\n","ü.b"="c"} 1'.encode(): ('"\\\n', (("ü.b", "c"),), b"1", None),
    b'a{"b"="c","d e"="f"} 1': ("a", (("b", "c"), ("d e", "f")), b"1", None),
    b'a{b="c\nd"} 1': ("a", (("b", "c\nd"),), b"1", None),  # a line break in a label
    b'a{b="",b="c"} 1': ("a", (), b"1", None),
}
BAD_TEXT = [
    b"a", b"a ", b"1a 1", b"foo1", b"a{b} 1", b"a{b=c} 1", b'a{b="c} 1', b'a{b="c"', b'a{b="c"}',
    b'a{,b="c"} 1', b'a{b="c",,} 1', b'a{1b="c"} 1', b'a{b="c",b="d"} 1', b'a{__name__="c"} 1',
    b'{a} 1', b'{"a","b"} 1', b'a{"b"} 1', b'{""} 1', b'a{""="b"} 1', b'{b="c"} 1', b"{} 1", b'{"a" b="c"} 1', b'{"\xff"} 1',
    b'{"a\0"} 1', b"a 1 99999999999999999999", b"a 1 9223372036854775808", b'a{b="c\\\nd"} 1', b"5", b'a{b="\xff"} 1', b"a 1 2 3", b"a 1 -5", b"a 1 x", b'a 1 # {b="c"} 1',
    b"a{b='c'} 1",
]  # fmt: skip
GOOD_OPEN = {
    b"a 1": ("a", (), b"1", None),
    b'a{b="c"} 1': ("a", (("b", "c"),), b"1", None),
    b'a{b="c",} 1': ("a", (("b", "c"),), b"1", None),
    b"a 1 1700000000.123": ("a", (), b"1", 1700000000123),
    b'a 1 # {b="c"} 0.5 1700000000': ("a", (), b"1", None),
    b'a{b="c"} 1 17 # {} 0.5': ("a", (("b", "c"),), b"1", 17000),
    b'a{b=" # {\\""} 1 # {b="}"} 1': ("a", (("b", ' # {"'),), b"1", None),
}
BAD_OPEN = [
    b" a 1", b"a  1", b"a\t1", b"a 1 ", b'a{b="c"}1', b'a{ b="c"} 1', b'a{b="c" ,d="e"} 1',
    b'a{b="c" d="e"} 1', b"a 1 # x", b"a 1 2 3", b"# a comment",
]  # fmt: skip


@pytest.mark.parametrize("openmetrics", [False, True], ids=["text", "openmetrics"])
def test_what_a_line_says(openmetrics: bool) -> None:
    for line, expected in (GOOD_OPEN if openmetrics else GOOD_TEXT).items():
        found = sample(line, {}, openmetrics=openmetrics)
        assert found[1:5] == expected, line
        behind = line[len(found.key) :].strip(b" \t").removeprefix(found.value)
        assert found.last is (behind == b"" and line.endswith(found.value))
        assert line.startswith(found.key)


@pytest.mark.parametrize(
    ("line", "openmetrics"), [(b, False) for b in BAD_TEXT] + [(b, True) for b in BAD_OPEN]
)
def test_what_is_no_line(line: bytes, openmetrics: bool) -> None:
    with pytest.raises(ParseError):
        sample(line, {}, openmetrics=openmetrics)


def test_a_message_shows_the_beginning_of_the_line() -> None:
    with pytest.raises(ParseError) as caught:
        sample(b"<html>" + 200 * b"x", {}, openmetrics=False)
    assert str(caught.value) == f"not a sample: '<html>{74 * 'x'}...'"


def test_brackets_in_a_row_take_no_longer_than_they_are_many() -> None:
    for line in (
        b"a{" + 100_000 * b'""',
        b"a{" + 100_000 * b'\\"',
        b'a{b="' + 100_000 * b"\\\\",
        100_000 * b"a",
    ):
        with pytest.raises(ParseError):
            sample(line, {}, openmetrics=False)


def test_the_metadata_of_text() -> None:
    lines = [
        b'# HELP a What it is: a \\\\ and\\na \\" too.',
        b"# TYPE a counter",
        b"#TYPE a nonsense",
        b"# anything at all",
        b"#",
        b"  # \t TYPE \t b \t".rstrip(b"\t") + b"gauge",
        b"# HELP c",
        b"# TYPE d untyped",
        b"# UNIT a seconds",
        b"# TYPE e histogram",
        b"# EOF",
        b'# HELP "m.n"Help.',  # the character behind the name is not looked at
    ]
    assert metadata(lines, openmetrics=False) == {
        "m.n": Family("unknown", "", "elp."),
        "a": Family("counter", "", 'What it is: a \\ and\na \\" too.'),
        "b": Family("gauge"),
        "c": Family(),
        "d": Family("unknown"),
        "e": Family("histogram"),
    }


def test_the_metadata_of_openmetrics() -> None:
    lines = [b"# TYPE a_seconds counter", b"# UNIT a_seconds seconds", b'# HELP a_seconds One\\n\\"two\\".']
    assert metadata(lines, openmetrics=True) == {"a_seconds": Family("counter", "seconds", 'One\n"two".')}
    kinds = ("unknown", "gauge", "histogram", "gaugehistogram", "summary", "info", "stateset")
    for kind in kinds:
        assert metadata([f"# TYPE a {kind}".encode()], openmetrics=True) == {"a": Family(kind)}


@pytest.mark.parametrize(
    ("line", "openmetrics"),
    [
        (b"# TYPE a", False), (b"# TYPE a number", False), (b"# TYPE a gauge ", False),
        (b"# TYPE a info", False), (b"# TYPE 1 gauge", False), (b"# HELP ", False),
        (b"# HELP a \xff", False), (b"# TYPE a untyped", True), (b"# a comment", True), (b"#", True),
        (b"#  TYPE a gauge", True), (b"# UNIT a seconds", True),
    ],
)  # fmt: skip
def test_what_is_no_metadata(line: bytes, openmetrics: bool) -> None:
    with pytest.raises(ParseError):
        metadata([line], openmetrics=openmetrics)


def test_the_family_of_a_series() -> None:
    families = {"a": Family("histogram"), "b_total": Family("counter"), "c": Family("summary")}
    assert family("a_bucket", families).type == family("a_sum", families).type == "histogram"
    assert family("b_total", families).type == "counter"
    assert family("c", families).type == family("c_count", families).type == "summary"
    assert family("d_count", families) == NO_FAMILY


def test_buckets_and_quantiles_are_written_one_way_and_nothing_else_is() -> None:
    families = {"h": Family("histogram"), "s": Family("summary"), "g": Family("gauge")}

    def labels(line: bytes) -> Line:
        return sample(line, families, openmetrics=False)

    assert labels(b'h_bucket{le="1",quantile="1"} 0').labels == (("le", "1.0"), ("quantile", "1"))
    assert labels(b's{quantile="0.50",le="1"} 0').labels == (("quantile", "0.5"), ("le", "1"))
    assert labels(b'g{le="1",quantile="1"} 0').labels == (("le", "1"), ("quantile", "1"))
    assert labels(b'h_bucket{le="many"} 0').labels == (("le", "many"),)


# Made by Go's strconv.AppendFloat(nil, f, 'g', -1, 64), with ".0" where there is neither a point nor an exponent.
@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("0", "0.0"), ("-0", "0.0"), ("1", "1.0"), ("-1", "-1.0"), ("+5", "5.0"), ("10", "10.0"),
        ("0.005", "0.005"), ("00.50", "0.5"), (".5", "0.5"), ("5.", "5.0"), ("100000", "100000.0"),
        ("999999.5", "999999.5"), ("1000000", "1e+06"), ("1e6", "1e+06"), ("1234567", "1.234567e+06"),
        ("12345678.5", "1.23456785e+07"), ("0.0001", "0.0001"), ("0.00012", "0.00012"),
        ("0.00001", "1e-05"), ("1.5e-7", "1.5e-07"), ("1e100", "1e+100"), ("1e-100", "1e-100"),
        ("+Inf", "+Inf"), ("inf", "+Inf"), ("-Infinity", "-Inf"), ("nan", "NaN"), ("1_0", "1_0"),
        (" 1", " 1"), ("", ""), ("0x10", "0x10"),
    ],
)  # fmt: skip
def test_numbers_in_labels_are_written_as_prometheus_does(text: str, written: str) -> None:
    assert go_float(text) == written
