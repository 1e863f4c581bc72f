"""Plugins: what they may import, how they are found and checked, and that they are trusted with nothing."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import limpet.collectors
from agent.collect.mask import Mask
from agent.collect.plans import plans
from agent.collect.series import CheckedColumns
from agent.collectors import plugins
from agent.config import ConfigErrors, load
from agent.system import entry_points
from limpet.collectors import CollectorKind, HostPaths, Metric, Options, Sample, Trouble
from tests.support.collecting import Log
from tests.support.package import install

METRICS = (
    Metric("queue_jobs", "gauge", "", "Jobs that wait."),
    Metric("queue_done_total", "counter", "", "Done."),
)
HOST = {"hostname": "web-01"}

GOOD = """
from limpet.collectors import CollectorKind, Metric, Options, Sample


class Queue(Options, frozen=True, forbid_unknown_fields=True, kw_only=True):
    path: str
    most: int = 5
    share: float = 0.5
    deep: bool = False
    skip: tuple[str, ...] = ("a.*",)
    other: str | None = None

    def __post_init__(self) -> None:
        if self.most > 100:
            raise ValueError("most: more than there can be")


def build(options, paths):
    return lambda now: [Sample("queue_jobs", float(options.most), (("path", options.path),))]


KIND = CollectorKind((Metric("queue_jobs", "gauge", "", "Jobs that wait."),), Queue, build)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of packages that are installed for the test."""
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    entry_points.load.cache_clear()
    yield tmp_path
    entry_points.load.cache_clear()
    for name in set(sys.modules) - before:
        if name.startswith("limpet_"):
            del sys.modules[name]


def test_the_public_face_is_exactly_this() -> None:
    public = {name for name in vars(limpet.collectors) if not name.startswith("_")}
    assert public == set(limpet.collectors.__all__) == {
        "Collect",
        "CollectorKind",
        "HostPaths",
        "Labels",
        "Metric",
        "MetricType",
        "Options",
        "Report",
        "Sample",
        "Trouble",
    }  # fmt: skip
    fields = {kind.__name__: kind._fields for kind in (CollectorKind, HostPaths, Metric, Sample, Trouble)}
    assert fields == {
        "CollectorKind": ("metrics", "options", "build"),
        "HostPaths": ("proc", "sys", "root", "patience", "report"),
        "Metric": ("name", "type", "unit", "help"),
        "Sample": ("name", "value", "labels"),
        "Trouble": ("kind", "name", "why", "stuck", "denied"),
    }
    page = (Path(__file__).parents[2] / "docs" / "own-collectors.md").read_text(encoding="utf-8")
    assert all(f"`{name}`" in page for name in limpet.collectors.__all__)


def test_a_plugin_loads_no_part_of_the_agent_but_the_collectors() -> None:
    code = "import sys, limpet.collectors; print(*sorted(n for n in sys.modules if n.startswith('agent.')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {name.split(".")[1] for name in done.stdout.split()} <= {"collectors", "crew", "regex"}


def problem(text: str) -> str:
    with pytest.raises(ConfigErrors) as caught:
        load(f"{{remote_write: [], collect: {{collectors: {{{text}}}}}}}", "f.yaml")
    (found,) = caught.value.problems
    return f"{found.path}: {found.what}. {found.do}"


def test_one_that_is_named_is_found_and_configured(folder: Path) -> None:
    install(folder, "limpet_queue", GOOD, {"queue": "limpet_queue:KIND"})
    text = (
        "{collect: {collectors: {queue: {path: /x, most: 7, share: 1.5, deep: on, skip: [b], interval: 1m}}}}"
    )
    config = load(text, "f.yaml").config
    planned = config.collect.plan()[-1]
    assert (planned.name, planned.interval, planned.timeout) == ("queue", 60.0, 5.0)
    options: Any = planned.options
    assert (options.path, options.most, options.share, options.deep, options.skip) == (
        "/x",
        7,
        1.5,
        True,
        ("b",),
    )
    plan = plans(config, HOST, Log(), Mask())[-1]
    (series,), values = plan.run(0.0)
    assert (series.name, series.labels, series.help) == (
        "queue_jobs",
        (("hostname", "web-01"), ("path", "/x")),
        "Jobs that wait.",
    )
    assert values == [7.0]


def test_one_that_is_not_named_or_not_enabled_does_not_run(folder: Path) -> None:
    install(folder, "limpet_queue", GOOD, {"queue": "limpet_queue:KIND"})
    bare = load("{remote_write: []}", "f.yaml").config
    assert "queue" not in [planned.name for planned in bare.collect.plan()]
    assert "limpet_queue" not in sys.modules
    off = load("{collect: {collectors: {queue: {path: /x, enabled: false}}}}", "f.yaml").config
    assert "queue" not in [planned.name for planned in off.collect.plan()]


def test_its_keys_are_those_of_its_options(folder: Path) -> None:
    install(folder, "limpet_queue", GOOD, {"queue": "limpet_queue:KIND"})
    place = "collect.collectors.queue"
    assert problem("queue: {}").startswith(f"{place}.path: this key is missing")
    assert "Did you mean most?" in problem("queue: {path: /x, mots: 1}")
    assert problem("queue: {path: /x, most: many}").startswith(
        f"{place}.most: expected a whole number, got 'many'"
    )
    assert problem("queue: {path: /x, share: x}").startswith(f"{place}.share: expected a number")
    assert problem("queue: {path: /x, deep: 3}").startswith(f"{place}.deep: expected true or false")
    assert problem("queue: {path: /x, skip: ['(']}").startswith(
        f"{place}.skip[0]: expected a regular expression"
    )
    assert problem("queue: {path: /x, most: 101}").startswith(
        f"{place}: most: more than there can be. See what"
    )


def test_a_name_that_nobody_has_is_reported_with_those_that_are_installed(folder: Path) -> None:
    install(folder, "limpet_queue", GOOD, {"queue": "limpet_queue:KIND"})
    assert problem("queues: {}").startswith("collect.collectors.queues: unknown key. Did you mean queue?")
    assert problem("zzz: {}").endswith("host, sensors, pressure, link, scrape, textfile, queue.")


@pytest.mark.parametrize(
    ("code", "reported"),
    [
        ("import nothing_of_the_kind", "limpet_bad:KIND cannot be loaded: ModuleNotFoundError"),
        ("1 / 0", "cannot be loaded: ZeroDivisionError: division by zero"),
        ("raise SystemExit(3)", "cannot be loaded: SystemExit: 3"),
        ("KINDS = 1", "cannot be loaded: AttributeError"),
        ("KIND = 1", "the collector is a int, not a CollectorKind"),
        ("KIND = CollectorKind((), dict, print)", "has options that are not a subclass of Options"),
        ("KIND = CollectorKind((), Options, None)", "has a `build` that cannot be called"),
        ("KIND = CollectorKind(('a',), Options, print)", "has a row 'a' that is not a Metric"),
        ("KIND = CollectorKind((Metric('a b', 'gauge', '', ''),), Options, print)", "with a valid name"),
        (
            "KIND = CollectorKind((Metric('a', 'histogram', '', ''),), Options, print)",
            "neither gauge nor counter",
        ),
        ("KIND = CollectorKind((Metric('a', 'gauge', '', ''),) * 2, Options, print)", "in its table twice"),
    ],
)
def test_one_that_cannot_be_used_is_reported_of(folder: Path, code: str, reported: str) -> None:
    head = "from limpet.collectors import CollectorKind, Metric, Options\n"
    install(folder, "limpet_bad", head + code + "\n", {"bad": "limpet_bad:KIND"})
    assert reported in problem("bad: {}")


def test_two_of_the_same_name(folder: Path) -> None:
    install(folder, "limpet_queue", GOOD, {"queue": "limpet_queue:KIND"})
    install(folder, "limpet_other", GOOD, {"queue": "limpet_other:KIND"})
    assert "limpet-other and limpet-queue both bring a collector of this name" in problem("queue: {path: /x}")


def test_it_cannot_take_the_place_of_one_that_is_built_in(folder: Path) -> None:
    install(folder, "limpet_cpu", GOOD, {"cpu": "limpet_cpu:KIND"})
    planned = load("{collect: {collectors: {cpu: {}}}}", "f.yaml").config.collect.plan()[0]
    assert type(planned.options) is Options
    assert "limpet_cpu" not in sys.modules


# --- what a run may not do ------------------------------------------------------------------------------------------


def kind(build: Any) -> CollectorKind:
    return CollectorKind(METRICS, Options, build)


def test_building_is_part_of_a_run_and_tried_again() -> None:
    calls: list[int] = []

    def build(options: Options, paths: HostPaths) -> Any:
        calls.append(len(calls))
        if len(calls) < 3:
            raise OSError("not yet")
        return lambda now: [Sample("queue_jobs", now)]

    run = plugins.collect(kind(build), Options(), HostPaths())
    assert calls == []
    for _ in range(2):
        with pytest.raises(OSError, match="not yet"):
            run(1.0)
    assert [run(2.0), run(3.0)] == [[Sample("queue_jobs", 2.0)], [Sample("queue_jobs", 3.0)]]
    assert len(calls) == 3


@pytest.mark.parametrize(
    ("returned", "reported"),
    [
        (None, "NoneType"),
        (5, "int"),
        (["a"], "something that is not a Sample"),
        ([("queue_jobs", 1.0, ())], "something that is not a Sample"),
        ([Sample("other", 1.0)], "it returned 'other', which is not in its table"),
        ([Sample("queue_jobs", "x")], "could not convert"),  # type: ignore[arg-type]
        ([Sample("queue_jobs", None)], "float"),  # type: ignore[arg-type]
        (
            [Sample("queue_jobs", 1.0), Sample("queue_jobs", 2.0)],
            "it returned queue_jobs {'hostname': 'web-01'} twice",
        ),
        ([Sample("queue_jobs", 1.0, (("a-b", "c"),))], "with the label 'a-b'='c'"),
        ([Sample("queue_jobs", 1.0, (("__a", "c"),))], "with the label '__a'='c'"),
        ([Sample("queue_jobs", 1.0, (("a", 5),))], "with the label 'a'=5"),  # type: ignore[arg-type]
        ([Sample("queue_jobs", 1.0, (("a", "\ud800"),))], "surrogates not allowed"),
        ([Sample("queue_jobs", 1.0, (("a", str(i)),)) for i in range(100_001)], "100001 series at once"),
    ],
)
def test_what_it_may_not_return(returned: Any, reported: str) -> None:
    columns = CheckedColumns(METRICS, HOST)
    for _ in range(2):
        with pytest.raises((ValueError, TypeError), match=reported):
            columns(returned)
    (series,), values = columns([Sample("queue_jobs", 3)])
    assert (series.name, values) == ("queue_jobs", [3.0])
