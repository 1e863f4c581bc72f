"""Patterns mean here what they mean for RE2, and what cannot be had is refused with a reason."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.re2 import Refused, Regex, chars
from agent.re2.parse import DEEPEST

CODES = st.integers(0, 0x10FFFF)
RANGES = st.lists(st.tuples(CODES, CODES).map(lambda ends: (min(ends), max(ends))), max_size=6)

# --- what Go answered -------------------------------------------------------------------------------------------

# Made once with Go 1.19's regexp package, of random patterns, and of texts made from them: [pattern, text, the
# ends of each group of ^(?s:pattern)$ or null, a template, what it becomes]. Where a repeated part can be
# empty, the whole match alone is there (docs/decisions/0009-re2-in-re.md).
GO = [json.loads(line) for line in Path("tests/fixtures/re2/go.jsonl").read_text().splitlines()]


def test_what_go_matches_is_matched_with_the_same_groups() -> None:
    assert len(GO) > 400
    for pattern, text, spans, template, expanded in GO:
        regex = Regex(pattern)
        match = regex.fullmatch(text)
        assert (match is None) == (spans is None), (pattern, text)
        if match is not None:
            got = [list(match.span(i)) if match.start(i) >= 0 else None for i in range(len(regex.names))]
            assert got[: len(spans)] == spans, (pattern, text)
            if regex.exact:
                assert len(got) == len(spans)
                assert regex.template(template).expand(match) == expanded, (pattern, text, template)


# --- by hand: a pattern, texts that it matches, texts that it does not --------------------------------------------

MEANS = [
    # the whole text, and any character
    ("b", ["b"], ["ab", "ba", "b\n", ""]),
    ("a|b", ["a", "b"], ["ab", "xa", "bx"]),
    ("", [""], ["a", "\n"]),
    (".", ["a", "\n", "é", "\U0001f600"], ["", "ab"]),
    ("(?-s).", ["a", "\r"], ["\n"]),
    ("(?-s:.).", ["a\n"], ["\na"]),
    # anchors
    ("^a$", ["a"], ["a\n"]),
    (r"\Aa\z", ["a"], ["a\n"]),
    ("(?m)a$\n^b", ["a\nb"], ["ab"]),
    ("a$.*", ["a"], ["a\n"]),
    ("(?m)a$.*", ["a", "a\nb"], ["ab"]),
    # ASCII classes
    (r"\d", ["0", "9"], ["٣", "a"]),
    (r"\w", ["a", "_", "0"], ["é", "-"]),
    (r"\s", [" ", "\t", "\n", "\f", "\r"], ["\v", "\x1c", "\xa0"]),
    (r"\D\W\S", ["é é", "a-\v"], ["0 é", "a0é", "a-\t"]),
    (r"[^\d]", ["a", "\n"], ["1"]),
    (r".\b.\B.", [" ab", "éab", "a-é"], ["aab", "a-a"]),
    (r"\B", [""], ["a"]),
    (r"a\b-", ["a-"], []),
    (r"é\Bà", ["éà"], []),
    ("[[:alpha:]]", ["a", "Z"], ["é", "1", ":"]),
    ("[[:^alpha:]]", ["é", "1", ":"], ["a"]),
    ("[[:word:][:space:]-]", ["_", "\v", "-"], ["+"]),
    ("[[:punct:]]", list("!/:@[`{~"), ["a", " "]),
    # brackets
    ("[]a]", ["]", "a"], ["["]),
    ("[^]a]", ["b", "["], ["]", "a"]),
    ("[a-]", ["a", "-"], ["b"]),
    ("[-a]", ["a", "-"], ["b"]),
    (r"[\d-z]", ["1", "-", "z"], ["a"]),
    ("[+--]", ["+", ",", "-"], ["."]),
    ("[&&||~~[]", ["&", "|", "~", "["], ["a"]),
    (r"[\]\\\^]", ["]", "\\", "^"], ["a"]),
    (r"[^\x00-\x{10FFFF}]|b", ["b"], ["a"]),
    # escapes
    (r"\x41\x{1F600}\101\0", ["A\U0001f600A\0"], []),
    (r"\a\f\n\r\t\v", ["\a\f\n\r\t\v"], []),
    (r"\_\-\.\/\@\ ", ["_-./@ "], []),
    (r"\Qa.*\E+", ["a.*", "a.**"], ["aa"]),
    (r"\Q\E|\Qx\y\E", ["", "x\\y"], []),
    # categories
    (r"\pL+", ["aéßж"], ["1", "_"]),
    (r"\p{Lu}\P{Lu}\p{^Lu}\P{^Lu}", ["ÉéaA"], ["aaaa"]),
    (r"[\pN\p{Zs}]+", ["1٣Ⅷ\xa0"], ["a"]),
    (r"\p{Any}\p{ASCII}\p{Assigned}", ["éaa"], ["éé\u0378", "ééa"]),
    (r"\p{lu}\p{l_u}\p{LC}\PC", ["AAaa"], ["AA1a"]),
    # counts
    ("a{2}b{1,}c{0,2}", ["aab", "aabbcc"], ["ab", "aabccc"]),
    ("a{,2}", ["a{,2}"], ["a", "aa"]),
    ("a{01}|{|a{|}|]", ["a{01}", "{", "a{", "}", "]"], ["a"]),
    ("(?:ab){0}c", ["c"], ["abc"]),
    ("^*a$+", ["a"], [""]),
    # flags
    ("(?i)straße", ["STRAßE", "\u017ftraẞe"], ["strasse"]),
    ("(?i)k", ["k", "K", "\u212a"], ["i"]),
    ("(?i)[i-k]", ["I", "\u212a"], ["İ", "\u0131"]),
    ("(?i)\u03c3", ["\u03c3", "ς", "Σ"], []),
    (r"(?i)\w", ["\u017f", "\u212a"], ["é"]),
    ("(?i)[^k]", ["a"], ["K", "\u212a"]),
    (r"(?i)\p{Lu}", ["a"], ["1"]),
    ("a(?i)b|c", ["ab", "aB", "C"], ["Ab"]),
    ("(a(?i)b)c", ["aBc"], ["aBC"]),
    ("(?i:a)b", ["Ab"], ["AB"]),
    ("(?i)a(?-i)b(?i-s:.)", ["Abx"], ["AB", "Ab\n"]),
    ("a(?i)*", ["aaa", ""], ["A"]),  # what is repeated is the last thing that can be
    # names
    ("(?P<n>a)(?<n>b)(?P<1>c)", ["abc"], []),
]


@pytest.mark.parametrize(("pattern", "yes", "no"), MEANS)
def test_what_a_pattern_matches(pattern: str, yes: list[str], no: list[str]) -> None:
    regex = Regex(pattern)
    assert [text for text in yes if not regex.fullmatch(text)] == []
    assert [text for text in no if regex.fullmatch(text)] == []


REFUSED = [
    # what RE2 does not have
    ("(?=a)", "lookahead"),
    ("(?!a)", "lookahead"),
    ("(?<=a)", "lookbehind"),
    ("(?<!a)b", "lookbehind"),
    ("(?>a)", "atomic group"),
    (r"(a)\1", "backreferences"),
    ("(?P<n>a)(?P=n)", "backreference"),
    (r"\k<n>", "backreferences"),
    ("a++", "a repetition of a repetition"),
    ("a**", "a repetition of a repetition"),
    ("a{2}{3}", "a repetition of a repetition"),
    ("a*?+", "a repetition of a repetition"),
    ("(?x)a", "opens no group"),
    ("(?a:a)", "opens no group"),
    ("(?#a)", "opens no group"),
    ("(?i-)a", "opens no group"),
    ("(?(1)a)", "opens no group"),
    (r"\Z", r"\Z means nothing"),
    (r"\C", r"\C means nothing"),
    (r"\u0041", r"\u means nothing"),
    (r"\N{DASH}", r"\N means nothing"),
    (r"\h", r"\h means nothing"),
    (r"\é", r"\é means nothing"),
    (r"\E", r"\E means nothing"),
    (r"[\b]", r"\b means nothing"),
    (r"\8", "backreferences"),
    # what is no pattern
    ("*", "a repetition of nothing"),
    ("a|+", "a repetition of nothing"),
    ("(?i)*", "a repetition of nothing"),
    ("(", "the ( at character 1 has no )"),
    ("a(b", "the ( at character 2 has no )"),
    ("(?i", "(?i opens no group"),
    ("a)", "a ) without its ("),
    ("a)|(b", "a ) without its ("),  # Prometheus takes this one, because it puts ( and ) around it
    ("[a", "the [ at character 1 has no ]"),
    ("[]", "the [ at character 1 has no ]"),
    ("[^]", "the [ at character 1 has no ]"),
    ("[a-", "the [ at character 1 has no ]"),
    ("[z-a]", "the range z-a is the wrong way round"),
    (r"[a-\d]", r"\d means nothing"),
    ("[[:foo:]]", "[:foo:] is no class"),
    ("\\", r"a \ at the end"),
    (r"\x", r"\x means nothing"),
    (r"\x4", r"\x means nothing"),
    (r"\x{}", r"\x means nothing"),
    (r"\x{110000}", r"\x means nothing"),
    (r"\Qa", r"\Q without its \E"),
    (r"\p", r"\p with a class that is not known here"),
    (r"\p{", r"\p with a class that is not known here"),
    (r"\p{}", r"\p with a class that is not known here"),
    (r"\px", r"\p with a class that is not known here: 'x'"),
    ("a{2,1}", "{2,1} is no count"),
    ("a{1001}", "{1001} is no count"),
    ("a{1001,}", "{1001,} is no count"),
    (f"a{{{'9' * 5000}}}", "} is no count"),
    ("(a{100}){11}", "counted repetitions in each other"),
    ("(?P<>a)", "a group's name"),
    ("(?P<a-b>a)", "a group's name"),
    ("(?P<é>a)", "a group's name"),
    ("(?P<n", "opens no group"),
    # what is not here
    (r"\p{Greek}", r"\p with a class that is not known here: 'Greek'"),
    ("(" * (DEEPEST + 1) + ")" * (DEEPEST + 1), "too deep"),
]


@pytest.mark.parametrize(("pattern", "what"), REFUSED)
def test_what_is_refused(pattern: str, what: str) -> None:
    with pytest.raises(Refused) as caught:
        Regex(pattern)
    assert what in caught.value.what
    assert caught.value.do.endswith(".")


def test_as_deep_as_it_may_be_it_compiles() -> None:
    for opened in ("(", "(?:", "(?:a|"):
        assert Regex(opened * DEEPEST + "a" + ")" * DEEPEST).fullmatch("a")


@settings(max_examples=300)
@given(st.text(alphabet=st.sampled_from("ab()[]{}*+?|\\^$.:<>Pn=!-,12dwpLQEsimU é\n"), max_size=12))
def test_anything_is_a_pattern_or_refused(pattern: str) -> None:
    try:
        Regex(pattern).fullmatch("ab")
    except Refused:
        pass


@given(st.text(), st.text())
def test_what_is_quoted_matches_itself_alone(text: str, other: str) -> None:
    quoted = Regex("".join(f"\\{char}" if char.isascii() and not char.isalnum() else char for char in text))
    assert quoted.fullmatch(text)
    assert (quoted.fullmatch(other) is not None) == (text == other)


@given(st.from_regex("[ab.|*+?()]{1,8}", fullmatch=True), st.text(alphabet="ab\n", max_size=6))
def test_what_is_common_is_what_it_is_in_python(pattern: str, text: str) -> None:
    try:
        regex, theirs = Regex(pattern), re.compile(pattern, re.DOTALL)
    except (Refused, re.error):
        return
    assert (regex.fullmatch(text) is None) == (theirs.fullmatch(text) is None)


# --- sets of characters ---------------------------------------------------------------------------------------------


@given(RANGES, RANGES, CODES)
def test_sets_are_sets(one: list[tuple[int, int]], other: list[tuple[int, int]], code: int) -> None:
    def has(ranges: chars.Ranges, code: int) -> bool:
        return any(low <= code <= high for low, high in ranges)

    both = chars.union((*one, *other))
    assert has(both, code) == (has(tuple(one), code) or has(tuple(other), code))
    assert has(chars.negated(both), code) != has(both, code)
    assert chars.negated(chars.negated(both)) == both
    assert not chars.overlap(both, chars.negated(both))
    assert chars.overlap(chars.union(one), chars.union(other)) == any(
        low <= high2 and low2 <= high for low, high in one for low2, high2 in other
    )


def test_every_letter_has_all_its_cases() -> None:
    for code in range(0x20000):
        cases = chars.folded(((code, code),))
        for char in {chr(code).lower(), chr(code).upper()} if chr(code) not in "\u0130\u0131" else ():
            # A mapping to one letter and back is one of case; ẞ and ß have none in the other direction.
            if len(char) == 1 and char.lower() == chr(code).lower():
                assert any(low <= ord(char) <= high for low, high in cases), chr(code)
    for code, short in chars._ASCII_CASES.items():  # the short table is a part of the long one
        assert set(short) == set(chars._cases()[code])
    assert len(chars._ASCII_CASES) == 52
    assert chars.folded(((0x130, 0x131),)) == ((0x130, 0x131),)  # dotted and dotless


# --- templates ------------------------------------------------------------------------------------------------------

TEMPLATES = [
    ("$1", "b"),
    ("${1}", "b"),
    ("$0-$1", "ab-b"),
    ("$name", "b"),
    ("${name}", "b"),
    ("${1}x$$1$$", "bx$1$"),
    ("$1x", ""),
    ("$name_x|$1_", "|"),
    ("$1.$1", "b.b"),
    ("$2|${2}|$9|$x", "|||"),
    ("$01|${01}|$1000000000", "||"),
    ("$", "$"),
    ("$$", "$"),
    ("$$$", "$$"),
    ("$$$1", "$b"),
    ("${", "${"),
    ("${}", "${}"),
    ("${1", "${1"),
    ("${1-}", "${1-}"),
    ("${ 1}", "${ 1}"),
    ("$-$ $é", "$-$ "),
    ("$\u0661", ""),
    ("a{1}", "a{1}"),
    ("", ""),
    (r"\1\g<1>", r"\1\g<1>"),
]


@pytest.mark.parametrize(("template", "becomes"), TEMPLATES)
def test_what_a_template_becomes(template: str, becomes: str) -> None:
    regex = Regex("a(?P<name>b)(?:(c)|)")
    match = regex.fullmatch("ab")
    assert match is not None
    assert regex.template(template).expand(match) == becomes


def test_of_groups_of_one_name_the_first_that_took_part_counts() -> None:
    regex = Regex("(?P<n>a)|(?P<n>b)")
    match = regex.fullmatch("b")
    assert match is not None
    assert regex.template("$n").expand(match) == "b"


def test_a_template_knows_what_it_refers_to() -> None:
    template = Regex("(?P<n>a)(b)").template("$0 ${n} $2x $3 $$2 ${2")
    assert template.groups == {0, 1}
    assert template.unknown == ["$2x", "$3"]


# --- time -----------------------------------------------------------------------------------------------------------

HOSTILE = [
    "(a+)+",
    "(a*)*",
    "(.*)+",
    "(.*)*x",
    "(a|aa)+",
    "(?:a|ab|b)*c",
    "(.*,)*x",
    r"(\w+\s?)*:",
    "(?:a?b?)*",
    "(?:a|(?:a|b)c?)*",
    "((ab)*)*",
    "(a{1,20}){10}",
    "(a?){30}a{30}",
    "(?:a+){2,}b",
    "x(y(?:a*a)*z)?",
    "(?i)(?:k|K)*(?:\u212a+)+",
    r"([a-z]+\d*)+$",
    r"(?:\b|^|a|a?)*",
    "(?:[a-m]|[k-z]b|lb)*",
]
HARMLESS = [
    ".*",
    "(.*)-(.*)-(.*)",
    "(?:[a-z]+,)*x",
    r"(?:\d{1,3}\.){3}\d{1,3}",
    r"(?:[0-9a-f]{1,4}:?){8}",
    "(?:[0-9a-f]{2}:){5,20}[0-9a-f]{2}",
    "(?:[0-9a-f]{16}-){9}",
    "(?:(?:[a-z]+:)*;)*",
    "(?:a|b|a)*",
    "(?:ab|ac|ad)+",
    "(?:a?)*",
    "(?:^)*(?:\b){20}a",
    "(?:(?:^)?){20}a",
    "(ab*c)*d",
    "(a|ab)(c|bcd)(d*)",
    "(?:.+,|^)job:([^,]+).*",
    "(?:foo|foobar|bar)_.*",
    "|".join(f"metric_{i}_total" for i in range(3000)),
]


@pytest.mark.parametrize("pattern", HOSTILE)
def test_what_could_take_exponential_time_is_refused(pattern: str) -> None:
    with pytest.raises(Refused, match="exponential"):
        Regex(pattern)


@pytest.mark.parametrize("pattern", HARMLESS)
def test_what_could_not_is_taken(pattern: str) -> None:
    regex = Regex(pattern)
    for word in ("a", "ab", "b", "0:", "a,", ":;", "aaaa-"):
        begun = time.process_time()
        regex.fullmatch(word * 40 + "!")
        assert time.process_time() - begun < 5  # of an exponential one the sun would not see the end


def test_judging_is_bounded() -> None:
    """What is large is judged or given up within a second."""
    for pattern, taken in (
        ("(?:" + "|".join(f"{i:04}" for i in range(300)) + ")*", True),
        ("(?:" + "|".join(f"{i:04}" for i in range(1500)) + ")*", False),
        ("(?:" + ".?" * 1500 + ")*", False),
        ("(?:" + "|".join("[a-z]{3}" + str(i) for i in range(300)) + ")*", False),
        ("(?:(?:(?:(?:a{8}){5}){5}){5})*", True),
        ("(" * 90 + "a" + ")*" * 90, False),
    ):
        begun = time.process_time()
        if taken:
            Regex(pattern)
        else:
            with pytest.raises(Refused, match=r"exponential|too large"):
                Regex(pattern)
        assert time.process_time() - begun < 5
