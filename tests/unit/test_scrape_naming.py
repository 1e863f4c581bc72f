"""Labels of a scraped series: the host's, the target's, the target's own, and what relabeling makes of them."""

from __future__ import annotations

import re
from collections.abc import Mapping

import pytest

from agent.collectors.base import Labels
from agent.scrape.families import Family
from agent.scrape.lines import ParseError
from agent.scrape.naming import Limits, Naming
from buffer.model import Series

OURS = {"hostname": "web-01", "job": "app", "instance": "localhost:9100"}
GAUGE = Family("gauge", "seconds", "Help.")


def named(naming: Naming, **labels: str) -> dict[str, str] | None:
    series = naming("m", tuple(labels.items()), GAUGE)
    if series is None:
        return None
    assert list(series.labels) == sorted(series.labels)
    assert (series.name, *series[2:]) == ("m", "gauge", "seconds", "Help.")
    return dict(series.labels)


FOO = {"foo": "1", "exported_foo": "2", "exported_exported_foo": "3"}
MERGED: dict[str, tuple[Naming, dict[str, str], dict[str, str]]] = {
    "ours are on every series": (Naming(OURS), {"path": "/"}, {**OURS, "path": "/"}),
    "an empty one is none": (Naming({**OURS, "empty": ""}), {"path": "/"}, {**OURS, "path": "/"}),
    "one of the same name": (Naming(OURS), {"job": "cron", "hostname": "x"}, {**OURS, "exported_job": "cron", "exported_hostname": "x"}),
    # As Prometheus's TestScrapeLoopAppend and resolveConflictingExposedLabels have it.
    "one that is exported already": (Naming(OURS), {"job": "a", "exported_job": "b"}, {**OURS, "exported_job": "b", "exported_exported_job": "a"}),
    "two of them": (Naming(FOO), {"foo": "4", "exported_foo": "5"}, {**FOO, "exported_exported_exported_foo": "4", "exported_exported_exported_exported_foo": "5"}),
    "honored": (Naming(OURS, honor=True), {"job": "cron", "path": "/"}, {**OURS, "job": "cron", "path": "/"}),
}  # fmt: skip


@pytest.mark.parametrize(("naming", "exposed", "merged"), MERGED.values(), ids=MERGED)
def test_labels_are_merged(naming: Naming, exposed: dict[str, str], merged: dict[str, str]) -> None:
    assert named(naming, **exposed) == merged


def test_relabeling_sees_everything_and_can_rename() -> None:
    seen: list[Mapping[str, str]] = []

    def relabel(labels: Mapping[str, str]) -> dict[str, str]:
        seen.append(labels)
        return {"__name__": "n", "job": labels["job"], "gone": ""}

    series = Naming(OURS, relabel=relabel)("m", (("job", "x"),), GAUGE)
    assert series == Series("n", (("job", "app"),), "gauge", "seconds", "Help.")
    assert seen == [{"__name__": "m", **OURS, "exported_job": "x"}]


def test_relabeling_can_drop() -> None:
    assert named(Naming(OURS, relabel=lambda _: None)) is None


def test_a_series_without_a_name_is_none() -> None:
    with pytest.raises(ParseError, match="without a name"):
        Naming(OURS, relabel=lambda _: {"job": "x"})("m", (), GAUGE)


def test_a_series_that_is_called_like_one_of_ours_is_left_out() -> None:
    labels: Labels = tuple(sorted(OURS.items()))
    naming = Naming(OURS, {("up", labels)})
    assert naming("up", (), GAUGE) is None
    assert naming("up", (("a", "b"),), GAUGE) is not None


def test_labels_that_series_share_are_one_object() -> None:
    naming = Naming(OURS)
    one, other = naming("a", (("x", "1" * 40),), GAUGE), naming("b", (("x", "1" * 40),), GAUGE)
    assert one is not None
    assert other is not None
    assert all(a is b for a, b in zip(one.labels, other.labels, strict=True))
    naming.rest()
    assert naming("b", (("x", "1" * 40),), GAUGE) == other


@pytest.mark.parametrize(
    ("limits", "text"),
    [
        # With the name, as Prometheus counts; lengths are bytes.
        (Limits(labels=5), "a series has 6 labels, more than label_limit: 'm'"),
        (Limits(name_length=7), "longer than label_name_length_limit: '__name__'"),
        (Limits(value_length=14), "longer than label_value_length_limit: b='üüüüüüüü'"),
        (Limits(legacy=True), "a label's name is no legacy one: 'a.a'"),
    ],
)
def test_a_series_beyond_a_limit_fails_the_scrape(limits: Limits, text: str) -> None:
    labels = (("a.a", "1"), ("b", 8 * "ü"))
    with pytest.raises(ParseError, match=re.escape(text)):
        Naming(OURS, limits=limits)("m", labels, GAUGE)
    assert Naming(OURS, limits=Limits(6, 8, 16))("m", labels, GAUGE) is not None


def test_with_legacy_names_a_name_in_utf8_fails_the_scrape() -> None:
    with pytest.raises(ParseError, match=r"a name is no legacy one: 'm\.n'"):
        Naming(OURS, limits=Limits(legacy=True))("m.n", (), GAUGE)
    assert Naming(OURS, limits=Limits(legacy=True))("m:n", (), GAUGE) is not None
