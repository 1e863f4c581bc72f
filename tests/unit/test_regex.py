"""Patterns mean what they mean in Prometheus, take linear time, and cost no library where they are plain."""

from __future__ import annotations

import sys
import time

import pytest
import re2
from hypothesis import given, settings
from hypothesis import strategies as st

from agent import regex
from agent.collectors.options import DEVICES, FSTYPES, INTERFACES
from agent.regex import Regex, RegexError, any_of, is_plain
from buffer.errors import LimpetError
from tests.support.run import python

# --- a pattern, texts that it matches, texts that it does not: where RE2 and Python's `re` differ, above all -----------

MEANS = [
    ("b", ["b"], ["ab", "ba", "b\n", ""]),
    ("a|b", ["a", "b"], ["ab", "xa", "bx"]),
    ("", [""], ["a", "\n"]),
    (".", ["a", "\n", "é", "\U0001f600"], ["", "ab"]),
    ("(?-s).", ["a", "\r"], ["\n"]),
    ("^a$", ["a"], ["a\n"]),
    (r"\Aa\z", ["a"], ["a\n"]),
    ("(?m)a$\n^b", ["a\nb"], ["ab"]),
    (r"\D\W\S", ["é é", "a-\v"], ["0 é", "a0é", "a-\t"]),
    (r"\d\w\s", ["0_\f"], ["٣a ", "0é ", "0a\xa0"]),
    (r".\b.\B.", [" ab", "éab", "a-é"], ["aab", "a-a"]),
    ("[[:alpha:]]+", ["aZ"], ["é", "1", ":"]),
    ("[]a][^]a]", ["]b", "a["], ["]]", "ba"]),
    ("[&&||~~[]", ["&", "|", "~", "["], ["a"]),
    ("[+--]", ["+", ",", "-"], ["."]),
    (r"\x41\x{1F600}\101\0", ["A\U0001f600A\0"], []),
    (r"\_\-\.\/\@\ ", ["_-./@ "], []),
    (r"\Qa.*\E+", ["a.*", "a.**"], ["aa"]),
    (r"\pL+\P{Lu}", ["aéßж"], ["1", "_"]),
    (r"\p{Greek}+", ["αβγ"], ["abc"]),
    ("a{2}b{1,}c{0,2}", ["aab", "aabbcc"], ["ab", "aabccc"]),
    ("a{,2}", ["a{,2}"], ["a", "aa"]),
    ("(?i)straße", ["STRAßE", "\u017ftraẞe"], ["strasse"]),
    ("(?i)[i-k]", ["I", "\u212a"], ["İ", "\u0131"]),
    ("a(?i)b|c", ["ab", "aB", "C"], ["Ab"]),
    ("(a+)+b", ["aab"], ["aa"]),
    ("(a|b*)*", ["", "abba"], ["c"]),
    ("(?P<n>a)(?<m>b)", ["ab"], []),
    ("(" * 500 + "a" + ")" * 500, ["a"], ["b"]),
    ("|".join(f"metric_{i}_total" for i in range(3000)), ["metric_2999_total"], ["metric_3000_total"]),
]


@pytest.mark.parametrize(("pattern", "yes", "no"), MEANS, ids=[case[0][:20] for case in MEANS])
def test_what_a_pattern_matches(pattern: str, yes: list[str], no: list[str]) -> None:
    compiled = Regex(pattern)
    assert [text for text in yes if not compiled.matches(text)] == []
    assert [text for text in no if compiled.matches(text)] == []


REFUSED = [
    *(("(?=a)", "no lookaround"), ("(?!a)", "no lookaround"), ("(?<!a)b", "no lookaround")),
    *((r"(a)\1", r"\1"), ("(?P<n>a)(?P=n)", "(?P"), ("(?>a)", "(?>"), ("(?#a)", "(?#"), ("(?(1)a)", "(?(")),
    *(("a++", "++"), ("a**", "**"), ("*", "*"), ("a{2,1}", "{2,1}"), ("a{1001}", "{1001}")),
    *((r"\Z", r"\Z"), (r"\u0041", r"\u"), ("\\", "trailing"), (r"[\b]", r"\b"), (r"\px", r"\px")),
    *(("(", "missing )"), ("a)", "unexpected )"), ("a)|(b", "unexpected )"), ("[a", "missing ]")),
    *(("[z-a]", "z-a"), (r"a\C", "a part of a character"), (r"\\\C", "a part of a character")),
    *(("(?P<n>a)|(?P<n>b)", "two groups have one name"), ("\udcff", "not valid Unicode")),
]


@pytest.mark.parametrize(("pattern", "what"), REFUSED)
def test_what_is_refused(pattern: str, what: str) -> None:
    with pytest.raises(RegexError, match="expected a regular expression") as caught:
        Regex(pattern)
    assert what in caught.value.what
    assert caught.value.do.endswith(".")


@pytest.mark.parametrize("pattern", [r"\\C", r"\Q\C\E", r"[\\C]", r"\Q\C"])
def test_what_only_looks_like_a_byte_is_taken(pattern: str) -> None:
    Regex(pattern)


@settings(max_examples=100)
@given(
    st.text(alphabet=st.sampled_from("ab()[]{}*+?|\\^$.:<>Pn=!-,12dwpLQEsimUC é\n"), max_size=12), st.text()
)
def test_anything_is_a_pattern_or_refused(pattern: str, text: str) -> None:
    try:
        Regex(pattern).fullmatch(text)
    except RegexError:
        pass


def test_a_text_that_is_no_unicode_is_no_error() -> None:
    assert Regex("(a|.)*").matches("a\udcff")


# --- plain patterns: the same as RE2, in linear time, without it --------------------------------------------------------

PLAIN = [
    *("lo", "veth.*", "sr[0-9]+|fd.*", "(.*)", "disk_(.*)_total", r"fuse\..*", "[^a-c/]?x", "a|", "é*", ""),
    *(
        "(a)(b)",
        "(a|b)",
        "(.+);(.+)",
        ".*_bucket.*|up",
        "(.*)_(bytes|seconds)_(total|)",
        "[0-9]*.+",
        "()",
        r"(a|\))",
    ),
    "(a|b)c(d|e)",
]
NOT_PLAIN = [
    "a*b*",
    "(a*)*",
    "(a*|b)",
    "(a|b)+",
    "(.*)a(.*)b",
    "(.+)(.+)c",
    "(a|b)(c|d|e)",
    "a**",
    "a*?",
    "a{2}",
    r"\d",
    "^a",
    "[z-a]",
    "[[]",
    r"a\|b",
    "(?i)a",
]


def test_which_patterns_are_plain() -> None:
    assert [one for one in (*PLAIN, *DEVICES, *INTERFACES, *FSTYPES) if not is_plain(one)] == []
    assert [one for one in NOT_PLAIN if is_plain(one)] == []


ATOMS = st.sampled_from(
    ["a", "b", "é", ".", r"\.", r"\-", r"\\", r"\$", "-", " ", "\n", "[ab]", "[^a]", "[a-c/]", "[^_./]"]
)
ROW = st.lists(ATOMS, max_size=2).map("".join)
REPEATED = st.tuples(ATOMS, st.sampled_from("*+?")).map("".join)
CHOICE = st.lists(ROW, min_size=1, max_size=2).map(lambda ways: f"({'|'.join(ways)})")
GROUP = st.tuples(ROW, REPEATED, ROW).map(lambda parts: f"({''.join(parts)})")
FIXED = st.tuples(ROW, st.just("") | CHOICE, ROW).map("".join)
REST = st.sampled_from(["", ".*", ".+", "(.*)", "(.+)"])
PATTERNS = st.lists(
    st.tuples(FIXED, st.just("") | REPEATED | GROUP, FIXED, REST).map("".join), min_size=1, max_size=3
).map("|".join)
NEAR = st.text(alphabet="abcé.-\\$ \n_/", max_size=6)


@settings(max_examples=100)
@given(PATTERNS, NEAR | st.text(max_size=4))
def test_a_plain_pattern_means_the_same_as_in_re2(pattern: str, text: str) -> None:
    assert is_plain(pattern)
    options = re2.Options()
    options.dot_nl = True
    theirs = re2.compile(pattern, options).fullmatch(text)
    compiled = Regex(pattern)
    match = compiled.fullmatch(text)
    assert (match is not None, compiled.matches(text)) == (theirs is not None, theirs is not None)
    if theirs is not None:
        groups = [theirs[0], *(one or "" for one in theirs.groups())]
        assert [compiled.template(f"${i}").expand(match) for i in range(len(groups))] == groups


@given(st.lists(PATTERNS | st.sampled_from(["(a)(b)", "(?i)a", "^b"]), max_size=4), NEAR)
def test_any_of_several_is_each_of_them_alone(patterns: list[str], text: str) -> None:
    assert any_of(patterns)(text) == any(Regex(pattern).matches(text) for pattern in patterns)


def test_hostile_patterns_take_linear_time() -> None:
    hostile = ["(a+)+b", "(.*)*x", "(a|aa)+", "(a?){30}a{30}b", ".*a.*a.*a.*a.*b", ".*b", "a*b|a+b", "(a*b)"]
    hostile += ["a*" + "(a|a)" * 2 + "b", "a*" + "(a|a)" * 30 + "b", "a+(aa|aa)b(.+)|[a!]*b", ".*aa(a|aa)b.*"]
    for pattern in hostile:
        compiled = Regex(pattern)
        begun = time.process_time()
        assert not compiled.matches("a" * 100_000 + "!")
        assert time.process_time() - begun < 60, (
            pattern
        )  # of an exponential one the sun would not see the end
    begun = time.process_time()
    for pattern in ("a" * 200_000 + "{", "a*" * 100_000, "(a" * 500, "[a" * 100_000):
        assert not is_plain(pattern)
    assert time.process_time() - begun < 60


def test_the_default_configuration_does_without_the_library() -> None:
    code = (
        "import sys; from agent.config import load; from agent.collectors import COLLECTORS, HostPaths\n"
        "rule = '{source_labels: [a], target_label: b}'\n"
        "config = load('remote_write: [{url: https://a/, write_relabel_configs: [%s]}]' % rule, 'f').config\n"
        "for one in config.collect.plan(): one.name in COLLECTORS and COLLECTORS[one.name].build(one.options, HostPaths())\n"
        "print('re2' in sys.modules)"
    )
    assert python(code) == "False\n"


def test_without_the_library_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "re2", None)
    regex._library.cache_clear()
    assert Regex("veth.*").matches("veth0")
    with pytest.raises(LimpetError, match="needs google-re2") as caught:
        Regex("(veth|lo)+")
    assert "pip install google-re2" in caught.value.do


# --- templates ----------------------------------------------------------------------------------------------------------

TEMPLATES = {
    "$1": "b", "${1}": "b", "$0-$1": "ab-b", "$name": "b", "${name}": "b", "${1}x$$1$$": "bx$1$", "$1x": "",
    "$name_x|$1_": "|", "$1.$1": "b.b", "$2|${2}|$9|$x": "|||", "$01|${01}|$1000000000": "||", "$": "$",
    "$$": "$", "$$$": "$$", "$$$1": "$b", "${": "${", "${}": "${}", "${1": "${1", "${1-}": "${1-}",
    "${ 1}": "${ 1}", "$-$ $é": "$-$ ", "$\u0661": "", "$²": "$²", "a{1}": "a{1}", "": "", r"\1\g<1>": r"\1\g<1>",
}  # fmt: skip


@pytest.mark.parametrize(("template", "becomes"), TEMPLATES.items())
def test_what_a_template_becomes(template: str, becomes: str) -> None:
    compiled = Regex("a(?P<name>b)(?:(c)|)")
    match = compiled.fullmatch("ab")
    assert match is not None
    assert compiled.template(template).expand(match) == becomes


def test_a_template_knows_which_groups_there_are_not() -> None:
    assert Regex("(?P<n>a)(b)").template("$0 ${n} $2x $3 $$2 ${2").unknown == ["$2x", "$3"]
    assert Regex("(.*)").template("$1 $2 $n").unknown == ["$2", "$n"]
