"""Relabeling does with labels what Prometheus does, and a rule it would refuse is an error that says why."""

from __future__ import annotations

import re
import textwrap
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from agent.config import ConfigErrors, Loaded, Problem, RelabelConfig, load
from agent.relabel import Relabel, compile_rules, lowercase, uppercase

URL = "https://prometheus.example.com/api/v1/write"
Labels = dict[str, str]


def loaded(rules: str) -> Loaded:
    head = f"remote_write:\n- url: {URL}\n  write_relabel_configs:\n"
    return load(head + textwrap.indent(rules, "  "), "f.yaml")


def compiled(*rules: dict[str, Any]) -> Relabel:
    """Rules as a configuration has them, written and read."""
    config = loaded(yaml.safe_dump(list(rules))).config
    relabel = compile_rules(config.remote_write[0].write_relabel_configs)
    assert relabel is not None
    return relabel


def rule(action: str = "replace", sources: str = "", target: str = "", **more: Any) -> dict[str, Any]:
    """A rule; `sources` are names with spaces between."""
    made = {"action": action, "source_labels": sources.split(), "target_label": target}
    return {key: value for key, value in made.items() if value} | more


def made(action: str, sources: str = "", target: str = "", **more: Any) -> Relabel:
    """The same of a single rule, without a configuration."""
    config = RelabelConfig(action=action, source_labels=tuple(sources.split()), target_label=target, **more)  # type: ignore[arg-type]
    relabel = compile_rules([config])
    assert relabel is not None
    return relabel


ABC = {"a": "foo", "b": "bar", "c": "baz"}
TAGS = {"__meta_tags": "path:/secret,job:some-job,label:foo=bar"}
PORTS = {"__tmp_port": "1234", "__port1": "1234", "__port2": "5678"}

# What is documented of each action, and the cases of Prometheus's own test (model/relabel/relabel_test.go, whose
# facts these are): what it is about, the labels, the rules, what becomes of them.
CASES: list[tuple[str, Labels, list[dict[str, Any]], Labels | None]] = [
    # replace
    ("a group twice in a replacement", ABC,
     [rule(sources="a", regex="f(.*)", target="d", replacement="ch${1}-ch${1}")], ABC | {"d": "choo-choo"}),
    ("a rule sees what the one before it has made", ABC,
     [rule(sources="a b", regex="f(.*);(.*)r", target="a", replacement="b${1}${2}m"),
      rule(sources="c a", regex="(b).*b(.*)ba(.*)", target="d", replacement="$1$2$2$3")],
     ABC | {"a": "boobam", "d": "boooom"}),
    ("a part of the value", {"a": "abc"}, [rule(sources="a", regex=".*(b).*", target="d")],
     {"a": "abc", "d": "b"}),
    ("without a match nothing", {"a": "boo"}, [rule(sources="a", regex="f", target="b", replacement="bar")],
     {"a": "boo"}),
    ("a part of the value is no match", {"a": "boo"}, [rule(sources="a", regex="o", target="b")],
     {"a": "boo"}),
    ("an empty replacement deletes the target", {"a": "foo", "f": "baz"},
     [rule(sources="a", regex="(f).*", target="$1", replacement="$2")], {"a": "foo"}),
    ("the default regex takes all of it", ABC, [rule(sources="a b", target="d")], ABC | {"d": "foo;bar"}),
    ("another separator", ABC, [rule(sources="a b", separator="/", target="d")], ABC | {"d": "foo/bar"}),
    ("no separator", ABC, [rule(sources="a b", separator="", target="d")], ABC | {"d": "foobar"}),
    ("a missing label is an empty one", {"a": "x"}, [rule(sources="a q", target="d")], {"a": "x", "d": "x;"}),
    ("an empty label is a missing one", {"a": "x", "e": ""}, [rule("drop", "q", regex="never")], {"a": "x"}),
    ("without sources a constant", {}, [rule(target="d", replacement="x")], {"d": "x"}),
    ("a constant on an empty value", {}, [rule(sources="q", target="d", replacement="x")], {"d": "x"}),
    ("an empty constant deletes", ABC, [rule(target="a", replacement="")], {"b": "bar", "c": "baz"}),
    ("an empty value deletes", ABC, [rule(sources="q", target="a")], {"b": "bar", "c": "baz"}),
    ("an empty regex matches what is empty", {"a": "x"},
     [rule(sources="q", regex="", target="d", replacement="none"),
      rule(sources="a", regex="", target="a", replacement="none")], {"a": "x", "d": "none"}),
    ("the target from the value", {"a": "some-name-value"},
     [rule(sources="a", regex="some-([^-]+)-([^,]+)", target="${1}", replacement="${2}")],
     {"a": "some-name-value", "name": "value"}),
    ("a group that there is not is empty", {"a": "some-name-value"},
     [rule(sources="a", regex="some-([^-]+)-([^,]+)", target="${1}", replacement="${3}")],
     {"a": "some-name-value"}),
    ("an empty target is none", {"a": "some-name-0"},
     [rule(sources="a", regex="some-([^-]+)-([^,]+)", target="${3}", replacement="${1}")],
     {"a": "some-name-0"}),
    ("several from one label, with ^ in the middle", TAGS,
     [rule(sources="__meta_tags", regex="(?:.+,|^)path:(/[^,]+).*", target="__metrics_path__"),
      rule(sources="__meta_tags", regex="(?:.+,|^)job:([^,]+).*", target="job"),
      rule(sources="__meta_tags", regex="(?:.+,|^)label:([^=]+)=([^,]+).*", target="${1}", replacement="${2}")],
     TAGS | {"__metrics_path__": "/secret", "job": "some-job", "foo": "bar"}),
    ("a dot takes a newline", {"a": "line1\nline2"},
     [rule(sources="a", regex="line1.*line2", target="d", replacement="match${1}")],
     {"a": "line1\nline2", "d": "match"}),
    ("names that only Prometheus 3 has", {"utf-8.label": "x"},
     [rule(sources="utf-8.label", target="é-$1"), rule(sources="é-x", target="0")],
     {"utf-8.label": "x", "é-x": "x", "0": "x"}),
    ("groups by name", {"a": "line1\nline2"},
     [rule(sources="a", regex="(line1).*(?<second>line2)", target="label1_${1}", replacement="val_${second}"),
      rule(sources="a", regex="(line1).*(?P<second>line2)", target="label2_$1", replacement="val_$second")],
     {"a": "line1\nline2", "label1_line1": "val_line2", "label2_line1": "val_line2"}),
    ("the name is a label", {"__name__": "http_requests_total"},
     [rule(sources="__name__", regex=".*_total$", target="type", replacement="counter"),
      rule(sources="__name__", regex="(.*)_total", target="__name__")],
     {"__name__": "http_requests", "type": "counter"}),
    ("a dollar sign", ABC, [rule(sources="a", target="d", replacement="$$1 $ $${1}")],
     ABC | {"d": "$1 $ ${1}"}),
    ("a longer name than was meant", ABC, [rule(sources="a", target="d", replacement="$1_x")], ABC),
    # keep and drop
    ("drop", {"a": "foo"}, [rule("drop", "a", regex=".*o.*"), rule(target="b", replacement="x")], None),
    ("drop on nothing", {"a": "foo"}, [rule("drop", "a", regex="no-match")], {"a": "foo"}),
    ("drop on one of several, but all of it", {"a": "foo"}, [rule("drop", "a", regex="f|o")], {"a": "foo"}),
    ("drop what has no such label", {"a": "foo"}, [rule("drop", "q", regex="")], None),
    ("drop takes everything by default", {"a": "foo"}, [rule("drop")], None),
    ("keep on nothing", {"a": "foo"}, [rule("keep", "a", regex="no-match")], None),
    ("keep", {"a": "foo"}, [rule("keep", "a", regex="f.*")], {"a": "foo"}),
    ("an action in capitals", {"a": "foo"}, [rule("KEEP", "a", regex="b")], None),
    # keepequal and dropequal
    ("keepequal of equals", PORTS, [rule("keepequal", "__tmp_port", "__port1")], PORTS),
    ("keepequal of others", PORTS, [rule("keepequal", "__tmp_port", "__port2")], None),
    ("dropequal of equals", PORTS, [rule("dropequal", "__tmp_port", "__port1")], None),
    ("dropequal of others", PORTS, [rule("dropequal", "__tmp_port", "__port2")], PORTS),
    ("two missing labels are equal", ABC, [rule("dropequal", "q", "r")], None),
    ("several are joined", ABC | {"d": "foo;bar"}, [rule("dropequal", "a b", "d")], None),
    # hashmod
    ("hashmod", ABC, [rule("hashmod", "c", "d", modulus=1000)], ABC | {"d": "976"}),
    ("hashmod of two lines", {"a": "foo\nbar"}, [rule("hashmod", "a", "b", modulus=1000)],
     {"a": "foo\nbar", "b": "734"}),
    ("hashmod does not need a match", ABC,
     [rule("hashmod", "c", "d", modulus=1000, regex="never", replacement="x")], ABC | {"d": "976"}),
    ("hashmod by the largest", {}, [rule("hashmod", "q", "d", modulus=2**64 - 1)],
     {"d": str(0xE9800998ECF8427E)}),
    ("hashmod by one", ABC, [rule("hashmod", "a b", "a", modulus=1)], ABC | {"a": "0"}),
    # labelmap
    ("labelmap", {"a": "foo", "b1": "bar", "b2": "baz"},
     [rule("labelmap", regex="(b.*)", replacement="bar_${1}")],
     {"a": "foo", "b1": "bar", "b2": "baz", "bar_b1": "bar", "bar_b2": "baz"}),
    ("labelmap to a part of the name",
     {"a": "foo", "__meta_my_bar": "aaa", "__meta_my_baz": "bbb", "__meta_other": "ccc"},
     [rule("labelmap", regex="__meta_(my.*)")],
     {"a": "foo", "__meta_my_bar": "aaa", "__meta_my_baz": "bbb", "__meta_other": "ccc", "my_bar": "aaa", "my_baz": "bbb"}),
    ("labelmap does not see what it sets", {"a": "1", "xa": "2"},
     [rule("labelmap", regex="(.*)", replacement="x$1")], {"a": "1", "xa": "1", "xxa": "2"}),
    ("of two for one name the last by name stays", {"b": "1", "a": "2"},
     [rule("labelmap", regex="[ab]", replacement="m")], {"a": "2", "b": "1", "m": "1"}),
    ("of two for one name what a rule has set stays", {"b": "1", "a": "2"},
     [rule(target="a", replacement="3"), rule("labelmap", regex="[ab]", replacement="m")],
     {"a": "3", "b": "1", "m": "3"}),
    ("labelmap to no name sets nothing", {"a": "1"}, [rule("labelmap", regex="(b?).*")], {"a": "1"}),
    # labeldrop and labelkeep
    ("labelkeep", {"a": "foo", "b1": "bar", "b2": "baz"}, [rule("labelkeep", regex="(b.*)")],
     {"b1": "bar", "b2": "baz"}),
    ("labeldrop", {"a": "foo", "b1": "bar", "b2": "baz"}, [rule("labeldrop", regex="(b.*)")], {"a": "foo"}),
    ("labeldrop of all", ABC, [rule("labeldrop", regex=".*")], {}),
    ("what was dropped can be set again", {"__name": "foo", "__port": "9091"},
     [rule("labeldrop", regex="^__name$"),
      rule(sources="__port", regex="(.+)", target="__name", replacement="metrics"),
      rule("keep", "__name", regex="^metrics$")], {"__name": "metrics", "__port": "9091"}),
    ("what was set can be dropped", {}, [rule(target="a", replacement="x"), rule("labeldrop", regex="a")],
     {}),
    # lowercase and uppercase
    ("both cases", {"foo": "bAr123Foo"}, [rule("uppercase", "foo", "up"), rule("lowercase", "foo", "down")],
     {"foo": "bAr123Foo", "up": "BAR123FOO", "down": "bar123foo"}),
    ("several in lower case", {"a": "X", "b": "Y"}, [rule("lowercase", "a b", "a")], {"a": "x;y", "b": "Y"}),
    ("nothing in lower case", {"a": "X"}, [rule("lowercase", "q", "a")], {}),
    # what is no unicode
    ("what is sent is what is seen", {"mountpoint": "/mnt/\udcff"},
     [rule(sources="mountpoint", regex=r".*\\(.*)", target="d")],
     {"mountpoint": "/mnt/\\udcff", "d": "udcff"}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("labels", "rules", "becomes"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_what_becomes_of_labels(labels: Labels, rules: list[dict[str, Any]], becomes: Labels | None) -> None:
    before = dict(labels)
    relabel = compiled(*rules)
    got = relabel(labels)
    assert got == becomes
    assert got is None or list(got) == sorted(got)
    assert labels == before
    assert relabel(labels) == got


def test_without_rules_there_is_nothing_to_do() -> None:
    assert compile_rules(()) is None


def test_letters_are_mapped_one_by_one() -> None:
    """As Go's strings package does: no letter becomes two, and none looks at its neighbors."""
    assert lowercase("ΑΣ-İ-ǅ-ẞ-K") == "\u03b1\u03c3-i-ǆ-ß-k"
    assert uppercase("ß-ŉ-ﬁ-ᾳ-ǆ-\u0131-\u017f-é") == "ß-ŉ-ﬁ-ᾼ-Ǆ-I-S-É"
    assert all(len(lowercase(chr(c))) == len(uppercase(chr(c))) == 1 for c in range(0x20000))


# --- properties -----------------------------------------------------------------------------------------------------

NAMES = st.text(alphabet="abx_", min_size=1, max_size=3)
VALUES = st.text(min_size=1, max_size=5).filter(lambda text: text.encode(errors="replace").decode() == text)
LABELS = st.dictionaries(NAMES, VALUES, max_size=6)
PATTERNS = st.sampled_from(["a.*", "(.)(.*)", "[^b]+", "x|_", ".*", "", "a?b?"])


@given(LABELS, PATTERNS)
def test_labeldrop_and_labelkeep_share_the_labels_between_them(labels: Labels, regex: str) -> None:
    kept = made("labelkeep", regex=regex)(labels)
    rest = made("labeldrop", regex=regex)(labels)
    assert kept is not None and rest is not None
    assert kept | rest == labels
    assert not kept.keys() & rest.keys()
    assert all(re.fullmatch(regex, name) for name in kept)
    assert made("labelkeep", regex=regex)(kept) == kept
    assert made("labeldrop", regex=regex)(rest) == rest


@given(LABELS, PATTERNS, NAMES)
def test_keep_and_drop_share_the_series_between_them(labels: Labels, regex: str, name: str) -> None:
    kept = made("keep", name, regex=regex)(labels)
    rest = made("drop", name, regex=regex)(labels)
    assert (kept is None) != (rest is None)
    assert (kept or rest or {}) == labels


@given(LABELS, NAMES, NAMES)
def test_keepequal_and_dropequal_do_so_too(labels: Labels, name: str, target: str) -> None:
    kept = made("keepequal", name, target)(labels)
    assert (kept is None) == (labels.get(name) != labels.get(target))
    assert (kept is None) != (made("dropequal", name, target)(labels) is None)


@given(LABELS, NAMES, st.integers(1, 2**64 - 1))
def test_hashmod_is_in_range_and_the_same_again(labels: Labels, name: str, modulus: int) -> None:
    relabel = made("hashmod", name, "shard", modulus=modulus)
    got = relabel(labels)
    assert got is not None
    assert 0 <= int(got["shard"]) < modulus
    assert got == relabel(got) == labels | {"shard": got["shard"]}
    other = relabel({name: labels[name]} if name in labels else {})
    assert other is not None and other["shard"] == got["shard"]  # by the source alone


@given(LABELS, NAMES, NAMES)
def test_what_changes_one_label_leaves_the_others(labels: Labels, name: str, target: str) -> None:
    for action in ("replace", "lowercase", "uppercase"):
        relabel = made(action, name, target)
        got = relabel(labels)
        assert got is not None
        assert {n: v for n, v in got.items() if n != target} == {
            n: v for n, v in labels.items() if n != target
        }
        assert (target in got) == (name in labels)
        if name == target:
            assert relabel(got) == got


@given(LABELS, PATTERNS)
def test_labelmap_removes_nothing(labels: Labels, regex: str) -> None:
    got = made("labelmap", regex=regex, replacement="new_$0")(labels)
    assert got is not None
    assert got == labels | {f"new_{n}": v for n, v in labels.items() if re.fullmatch(regex, n)}


# --- configuration --------------------------------------------------------------------------------------------------


def first(rules: str) -> RelabelConfig:
    return loaded(rules).config.remote_write[0].write_relabel_configs[0]


def test_the_defaults() -> None:
    made = first("- target_label: a")
    assert made == RelabelConfig(target_label="a")
    assert (made.source_labels, made.separator, made.regex) == ((), ";", "(.*)")
    assert (made.modulus, made.replacement, made.action) == (0, "$1", "replace")


def test_empty_texts_are_texts() -> None:
    made = first("- {source_labels: [a, b], separator: '', regex: '', target_label: t, replacement: \"\"}")
    assert (made.separator, made.regex, made.replacement) == ("", "", "")


def test_values_are_the_texts_that_were_written() -> None:
    made = first("- {source_labels: [on], separator: 010, regex: 1.50, target_label: yes, replacement: 0x1F}")
    assert made.source_labels == ("on",)
    assert (made.separator, made.regex, made.target_label, made.replacement) == ("010", "1.50", "yes", "0x1F")


WRONG = [
    ("- {}", "target_label", "action replace needs it"),
    ("- null", "", "expected keys with their values, got nothing"),
    ("- {target_label: ''}", "target_label", "action replace needs it"),
    *((f"- {{action: {action}}}", "target_label", f"action {action} needs it")
      for action in ("lowercase", "uppercase", "keepequal", "dropequal")),
    ("- {action: hashmod, modulus: 2}", "target_label", "action hashmod needs it"),
    ("- {action: hashmod, target_label: a}", "modulus", "action hashmod needs it"),
    ("- {action: hashmod, target_label: a, modulus: 0}", "modulus", "action hashmod needs it"),
    ("- {action: labelmap, replacement: ''}", "replacement", "needs the name of a label"),
    *((f"- {{action: {action}, {more}}}", more.split(": ")[-2].split(", ")[-1],
       f"action {action} does not take this key") for action, more in (
        ("lowercase", "target_label: a, replacement: x"), ("uppercase", "target_label: a, replacement: ''"),
        ("keepequal", "target_label: a, replacement: x"), ("keepequal", "target_label: a, regex: (.*)"),
        ("dropequal", "target_label: a, modulus: 1"), ("dropequal", "target_label: a, separator: ''"),
        ("labeldrop", "regex: a, source_labels: []"), ("labeldrop", "regex: a, target_label: a"),
        ("labelkeep", "regex: a, modulus: 1"), ("labelkeep", "regex: a, separator: '-'"),
        ("labelkeep", "regex: a, replacement: b"))),
    ("- {action: replaceall, target_label: a}", "action",
     "expected replace, keep, drop, keepequal, dropequal, hashmod, labelmap, labeldrop, labelkeep, lowercase or uppercase, got 'replaceall'"),
    *((f"- {{target_label: a, {key}: {null}}}", key, "expected a text, got nothing") for key, null in (
        ("action", "null"), ("regex", ""), ("separator", "~"), ("replacement", "null"))),
    ("- {target_label: a, regex: [a]}", "regex", "expected one value, got a list"),
    ("- {target_label: a, regex: '('}", "regex", "expected a regular expression (missing ): (), got '('"),
    ("- {target_label: a, regex: '(?!a)'}", "regex",
     "expected a regular expression (there is no lookaround), got '(?!a)'. Prometheus has no lookaround either."),
    ("- {target_label: a, source_labels: a}", "source_labels", "expected a list, got a text"),
    ("- {target_label: a, source_labels: [a, '']}", "source_labels[1]", "expected the name of a label"),
    ("- {target_label: a, source_labels: [null]}", "source_labels[0]", "expected one value, got nothing"),
    *((f"- {{action: hashmod, target_label: a, modulus: {number}}}", "modulus", "expected a whole number")
      for number in ("-1", "010", "18446744073709551616")),
    ("- {target_label: a, source_label: [a]}", "source_label", "Did you mean source_labels?"),
]  # fmt: skip


@pytest.mark.parametrize(("rules", "key", "words"), WRONG)
def test_what_is_wrong_is_reported(rules: str, key: str, words: str) -> None:
    with pytest.raises(ConfigErrors) as caught:
        loaded(f"- {{target_label: fine}}\n{rules}")
    (problem,) = caught.value.problems
    assert isinstance(problem, Problem)
    place = "remote_write[0].write_relabel_configs[1]"
    assert problem.path == (f"{place}.{key}" if key else place)
    assert words in f"{problem.what}. {problem.do}"
    assert problem.line == 5
    assert problem.do.endswith(".")


def test_where_the_default_is_written_it_is_not_seen() -> None:
    same = "separator: ;, modulus: 0, replacement: $1"
    loaded(f"- {{action: labeldrop, regex: a, target_label: '', {same}}}")
    loaded(f"- {{action: keepequal, target_label: a, {same}}}")
    loaded(f"- {{action: lowercase, target_label: a, regex: never, {same}}}")


WARNED = [
    ("- {target_label: a, replacement: $1_x}", "replacement: $1_x is no group of the regex"),
    ("- {target_label: '$2-$n', replacement: x}", "target_label: $2 and $n is no group of the regex"),
    ("- {action: labelmap, regex: a, replacement: b$1}", "replacement: $1 is no group of the regex"),
    ("- {target_label: a-b}", "target_label: receivers older than Prometheus 3 take no label of this name"),
    ("- {action: lowercase, target_label: 1a}", "target_label: receivers older than Prometheus 3"),
    ("- {target_label: a$}", "target_label: receivers older than Prometheus 3"),
]


@pytest.mark.parametrize(("rules", "words"), WARNED)
def test_what_is_odd_is_reported(rules: str, words: str) -> None:
    assert any(
        f"f.yaml:4: remote_write[0].write_relabel_configs[0].{words}" in one for one in loaded(rules).warnings
    )


@pytest.mark.parametrize(
    "rules",
    [
        "- {target_label: 'a${1}_$1b1', regex: '(?P<b1>.)(?P<1b1>.)'}",
        "- {source_labels: [a-b], target_label: __tmp, regex: '(a?)*', replacement: $0}",
        "- {action: keepequal, target_label: a-b}",
        "- {action: keep, source_labels: [a], regex: '(a?)*'}",
        "- {target_label: $1, replacement: $1, regex: '(a?)*'}",
        "- {target_label: a, regex: '(a+)+'}",
        r"- {target_label: a, regex: '(\p{Greek})'}",
        "- {action: drop, replacement: $7, modulus: 3}",
    ],
)
def test_what_is_fine_is_not_reported(rules: str) -> None:
    assert loaded(rules).warnings == ()


def test_every_wrong_rule_is_reported() -> None:
    with pytest.raises(ConfigErrors) as caught:
        loaded("- {action: hashmod, replacement: $x}\n- {action: what}\n- {target_label: a, regex: '['}")
    paths = [problem.path.rpartition("configs")[2] for problem in caught.value.problems]
    assert paths == ["[0].target_label", "[0].modulus", "[1].action", "[2].regex"]
