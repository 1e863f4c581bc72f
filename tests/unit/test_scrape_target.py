"""A scrape target: what a run returns when it is up, when it is down, and from one run to the next."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from agent.collect.series import MAX_TICK_BYTES, Collected
from agent.config import Target
from agent.scrape.fetch import Exposition, ScrapeFailed
from agent.scrape.target import METRICS, Scrape
from agent.system.events import Event
from buffer.exemplars import MOST, Exemplar, Exemplars
from buffer.model import Series
from tests.support.collecting import Log

HOST = {"hostname": "web-01", "environment": "production"}
LABELS = {**HOST, "job": "app", "instance": "localhost:9100"}
OWN = {metric.name for metric in METRICS}


class Rig:
    """A target that says what it is given."""

    def __init__(
        self, relabel: Callable[[Mapping[str, str]], dict[str, str] | None] | None = None, **more: Any
    ) -> None:
        self.log, self.says, self.openmetrics = Log(), "", False
        target = Target(url="http://localhost:9100/metrics", job="app", **more)
        self.scrape = Scrape(target, HOST, 5.0, self.log, relabel, self._fetch)

    def _fetch(self) -> Exposition:
        if self.says == "down":
            raise ScrapeFailed("connection refused")
        return Exposition(self.says.encode(), self.openmetrics)

    def run(self, says: str) -> Collected:
        self.says = says
        series, values = self.scrape(0.0)
        assert len(series) == len(values)
        assert all(isinstance(value, float) for value in values)
        return series, values

    def stamped(self) -> dict[str, tuple[int, float]]:
        return {
            one.name: (row.at_ms, value)
            for row in self.scrape.stamped
            for one, value in zip(row.series, row.values, strict=True)
        }

    def values(self, says: str) -> dict[str, float]:
        series, values = self.run(says)
        for one in series:
            assert LABELS.items() <= dict(one.labels).items()
        return {one.name: value for one, value in zip(series, values, strict=True)}


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_a_target_that_is_up(rig: Rig) -> None:
    found = rig.values("# TYPE a counter\n# HELP a Things.\na 5\nb 6\n")
    assert found.pop("scrape_duration_seconds") < 1
    assert found == {"a": 5, "b": 6, "up": 1, "scrape_samples_scraped": 2}
    series, _ = rig.run("# TYPE a counter\n# HELP a Things.\na 5\nb 6\n")
    assert [(s.name, s.type, s.help) for s in series[:2]] == [
        ("a", "counter", "Things."),
        ("b", "unknown", ""),
    ]
    assert rig.log.events == []


def test_one_that_is_down_has_its_reports_and_nothing_else(rig: Rig) -> None:
    before, _ = rig.run("a 5\n")
    found = rig.values("down")
    assert found.pop("scrape_duration_seconds") < 1
    assert found == {"up": 0, "scrape_samples_scraped": 0}
    assert rig.scrape.error == "connection refused"
    after, _ = rig.run("a 5\n")
    assert after is before  # an append costs nothing more than before
    assert rig.scrape.error is None


def test_the_first_failure_of_a_row_is_reported_and_the_recovery(rig: Rig) -> None:
    for says in ("a 1\n", "down", "down", "a 1\n", "down"):
        rig.run(says)
    told = {"job": "app", "instance": "localhost:9100"}
    failed = {**told, "error": "connection refused"}
    assert rig.log.events == [
        ("warning", Event.SCRAPE_FAILED, failed),
        ("debug", Event.SCRAPE_FAILED, failed),
        ("info", Event.SCRAPE_RECOVERED, told),
        ("warning", Event.SCRAPE_FAILED, failed),
    ]


def test_the_series_are_the_same_object_while_their_set_is_the_same(rig: Rig) -> None:
    one, _ = rig.run("a 1\nb 2\n")
    two, _ = rig.run("b 3\na 4\n")
    three, _ = rig.run("a 1\n")
    assert two is one
    assert three is not one
    assert {s.name for s in three} == {"a"} | OWN


def test_a_malformed_exposition_fails_as_a_whole(rig: Rig) -> None:
    assert rig.values("a 5\nb\n")["up"] == 0
    assert rig.scrape.error == "not a sample: 'b'"


@pytest.mark.parametrize("samples", [3, 4])
def test_the_sample_limit_counts_after_relabeling(samples: int) -> None:
    rig = Rig(lambda labels: None if labels["__name__"] == "drop" else dict(labels), sample_limit=3)
    found = rig.values("".join(f"m{i} 1\n" for i in range(samples)) + 'drop{a="1"} 1\ndrop{a="2"} 1\n')
    assert (found["up"], found["scrape_samples_scraped"]) == ((1, 5) if samples == 3 else (0, 0))
    assert (found.keys() == OWN) is (samples > 3)
    assert rig.scrape.error == (None if samples == 3 else "more than sample_limit (3) samples")


def test_more_than_fits_in_a_record_fails(rig: Rig) -> None:
    text = "".join(f'm{{a="{i:05}{"x" * 1000}"}} 1\n' for i in range(MAX_TICK_BYTES // 1000))
    assert rig.values(text).keys() == OWN
    assert "the labels of the series take" in str(rig.scrape.error)


def test_a_target_that_says_up_itself_is_not_heard(rig: Rig) -> None:
    found = zip(*rig.run('up 7\nup{a="b"} 8\n'), strict=True)
    assert [(dict(s.labels).get("a"), v) for s, v in found if s.name == "up"] == [("b", 8.0), (None, 1.0)]


def test_honor_labels() -> None:
    rig = Rig(honor_labels=True)
    series, _ = rig.run('a{job="b",hostname="c"} 1\n')
    assert dict(series[0].labels) == {**LABELS, "job": "b", "hostname": "c"}
    assert dict(series[1].labels) == LABELS  # `up` is ours
    series, _ = Rig().run('a{job="b",hostname="c"} 1\n')
    assert dict(series[0].labels) == {**LABELS, "exported_job": "b", "exported_hostname": "c"}


def test_series_that_are_there_twice_are_reported_when_that_begins(rig: Rig) -> None:
    for says in ("a 1\n", "a 1\na 2\n", "a 3\na 4\n", "a 1\na 2\nb 1\n", "a 1\n", "a 1\na 1\nb 1\nc 1\n"):
        assert rig.values(says)["a"] in (1, 3)
    assert [fields["duplicates"] for fields in rig.log.of(Event.SCRAPE_DUPLICATES)] == [1, 1]


def test_openmetrics(rig: Rig) -> None:
    rig.openmetrics = True
    assert rig.values("a 1 # {} 3 1700000000\n# EOF\n")["a"] == 1
    assert rig.values("a 1\n")["up"] == 0
    assert rig.scrape.error == "the exposition does not end with # EOF"


NOW = 1_750_000_000_000


def test_timestamps_are_kept_unless_they_are_not_honored(monkeypatch: pytest.MonkeyPatch) -> None:
    rig, plain = Rig(), Rig(honor_timestamps=False)
    for each in (rig, plain):
        monkeypatch.setattr(each.scrape, "_clock", lambda: NOW / 1000)
    text = f"a 1 {NOW - 5}\nb 2\n"
    for _ in range(2):
        assert set(plain.values(text)) == {"a", "b", *OWN}
        assert plain.stamped() == {}
    found = rig.values(text)
    assert (found["b"], found["scrape_samples_scraped"]) == (2.0, 2.0)
    assert set(found) == {"b", *OWN}
    assert rig.stamped() == {"a": (NOW - 5, 1.0)}
    assert set(rig.values(text)) == {"b", *OWN}
    assert rig.stamped() == {}  # it says nothing new
    later = rig.run(f"a 3\t{NOW}\nb 2\n")[0]
    assert rig.stamped() == {"a": (NOW, 3.0)}
    assert rig.run(f"a 3\t{NOW}\nb 2\n")[0] is later
    rig.run("down")
    assert rig.stamped() == {}


def test_a_stamped_sample_is_labeled_and_relabeled_and_counts_for_the_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def relabel(labels: Mapping[str, str]) -> dict[str, str] | None:
        return None if labels["__name__"] == "drop" else {**labels, "new": "x"}

    rig = Rig(relabel, sample_limit=1)
    monkeypatch.setattr(rig.scrape, "_clock", lambda: NOW / 1000)
    rig.run(f"drop 1 {NOW}\na 1 {NOW}\n")
    (row,) = rig.scrape.stamped
    assert dict(row.series[0].labels) == {**LABELS, "new": "x"}
    assert rig.values(f"a 1 {NOW}\nb 1\n")["up"] == 0
    assert rig.values(f"a 1 {NOW}\nb 1 {NOW}\n")["up"] == 0
    assert rig.values(f"a x {NOW}\n")["up"] == 0
    assert rig.values("a 1\n")["up"] == 1


def test_exemplars_that_are_new_are_handed_on() -> None:
    """Those of the last hour, with labels that receivers take; of a series the first, and once for as long as it is the same."""
    rig, found = Rig(), list[Exemplar]()
    rig.scrape._exemplars, rig.openmetrics = found.extend, True
    now = rig.scrape._clock()

    def taken(*lines: str) -> list[tuple[str, dict[str, str], float]]:
        found.clear()
        rig.run("".join(f"{line}\n" for line in (*lines, "# EOF")))
        for one in found:
            assert LABELS.items() <= dict(one.series.labels).items()
            assert abs(one.at_ms / 1000 - now) < 3601
        return [(one.series.name, dict(one.labels), one.value) for one in found]

    a, b = f'a_total 1 # {{t="x"}} 2 {now:.3f}', 'b_total{le="1"} 1 # {t="y",e=""} NaN'
    first = [one[:2] for one in taken(a, b)]  # a NaN is not equal to itself
    assert first == [("a_total", {"t": "x"}), ("b_total", {"t": "y"})]
    assert taken(a, b.replace("NaN", "3")) == [("b_total", {"t": "y"}, 3)]
    assert taken(a.replace("x", "z"), a.replace("x", "w")) == [("a_total", {"t": "z"}, 2)]
    assert taken(a.replace("x", 127 * "z")) == [("a_total", {"t": 127 * "z"}, 2)]
    assert taken(a.replace("x", 128 * "z")) == []  # OpenMetrics: 128 characters
    assert (
        taken(a.replace(" 1", f'{{long="{5000 * "x"}"}} 1', 1)) == []
    )  # of the series: it would be remembered
    assert taken("c_total 1 # {} 2", 'd_total 1 # {t=""} 2') == []
    assert taken(f'a_total 1 # {{t="old"}} 2 {now - 3700}', 'b_total 1 # {t="far"} 2 1e300') == []


def test_exemplars_are_kept_for_everybody_and_no_more_than_that() -> None:
    kept = Exemplars()
    assert kept.after(0)[1] == []

    def one(number: int) -> Exemplar:
        return Exemplar(Series("a", ()), (("t", str(number)),), 1.0, number)

    kept.add([one(0), one(1)])
    for _ in range(2):
        assert kept.after(0) == (2, [one(0), one(1)])
    assert kept.after(1) == (2, [one(1)])
    assert kept.after(2) == (2, [])
    kept.add([one(i) for i in range(2, MOST + 500)])
    assert kept.after(2) == (MOST + 500, [one(i) for i in range(500, MOST + 500)])
    assert kept.after(MOST + 498)[1] == [one(MOST + 498), one(MOST + 499)]
