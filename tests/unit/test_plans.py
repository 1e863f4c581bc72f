"""From the configuration to what runs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from agent.collect.local import LocalCollector
from agent.collect.mask import Mask
from agent.collect.plans import NAME_LOOKUP, SHARE, plans
from agent.config import Config, Target, load
from agent.scrape.fetch import Exposition
from agent.scrape.target import Scrape
from agent.scrape.textfile import Textfile
from buffer.exemplars import Exemplar, Exemplars
from buffer.model import Series
from tests.support.collecting import Log

HOST = {"hostname": "web-01"}
BUILT_IN = ["cpu", "memory", "disk_io", "network", "disk_usage", "host", "sensors"]


def config(collectors: str, more: str = "") -> Config:
    return load(f"{{collect: {{{more} collectors: {{{collectors}}}}}}}", "f.yaml").config


def test_without_targets_and_a_folder_there_are_the_seven() -> None:
    for text in ("", "scrape: {}", "scrape: {targets: []}, textfile: {directory: null}", "textfile: null"):
        assert [plan.name for plan in plans(config(text), HOST, Log(), Mask())] == BUILT_IN
    off = "scrape: {enabled: false, targets: [{url: 'http://x', job: a}]}, textfile: {enabled: no, directory: /x}"
    assert [plan.name for plan in plans(config(off), HOST, Log(), Mask())] == BUILT_IN


def test_each_target_is_a_plan_of_its_own() -> None:
    targets = (
        "{url: 'http://localhost:9100', job: node}, "
        "{url: 'https://x/metrics', job: app, interval: 1m, timeout: 20s}, "
        "{url: 'http://[::1]:80/m', job: app, interval: 1s}"
    )
    found = plans(config(f"scrape: {{interval: 15s, targets: [{targets}]}}"), HOST, Log(), Mask())[
        len(BUILT_IN) :
    ]
    assert [(plan.name, plan.interval_ms, plan.crew) for plan in found] == [
        ("scrape/node/localhost:9100", 15_000, "remote"),
        ("scrape/app/x:443", 60_000, "remote"),
        ("scrape/app/[::1]:80", 1_000, "remote"),
    ]
    # A scrape is over before the next one, and left to itself only where looking up its name hangs.
    assert [plan.timeout for plan in found] == [5 + NAME_LOOKUP, 20 + NAME_LOOKUP, SHARE * 1 + NAME_LOOKUP]
    assert all(isinstance(plan.collect, Scrape) for plan in found)


def test_text_files_are_one_plan(tmp_path: Path) -> None:
    plan = plans(config(f"textfile: {{directory: {tmp_path}, interval: 30s}}"), HOST, Log(), Mask())[-1]
    assert (plan.name, plan.interval_ms, plan.timeout, plan.crew) == ("textfile", 30_000, 5, "local")
    assert isinstance(plan.collect, Textfile)
    (tmp_path / "a.prom").write_text("bad\n")
    series, values = plan.run(0.0)
    assert len(series) == len(values) == 3
    assert plan.collect.error == f"{tmp_path}/a.prom: 1 line left out; not a sample: 'bad'"


@pytest.mark.parametrize(
    ("url", "instance"),
    [
        ("http://localhost", "localhost:80"),
        ("https://localhost", "localhost:443"),
        ("http://localhost:9100/metrics", "localhost:9100"),
        ("https://Host.Example.com:8443/x?y=z", "Host.Example.com:8443"),
        ("http://[::1]/m", "[::1]:80"),
        ("http://[::1]:9100/m", "[::1]:9100"),
        ("http://h:/m", "h:80"),
    ],
)
def test_the_instance_is_host_and_port(url: str, instance: str) -> None:
    assert Target(url=url, job="a").instance == instance


def test_a_url_without_a_path_is_the_usual_one() -> None:
    text = "scrape: {targets: [{url: 'http://a', job: a}, {url: 'http://b/', job: b}, {url: 'http://c?d=e', job: c}]}"
    options = config(text).collect.plan()[-1].options
    assert [target.url for target in getattr(options, "targets", ())] == [
        "http://a/metrics",
        "http://b/",
        "http://c/metrics?d=e",
    ]


def test_credentials_in_the_clear_are_worth_a_word_and_nothing_more() -> None:
    def warnings(url: str) -> tuple[str, ...]:
        target = f"{{url: '{url}', job: a, basic_auth: {{username: u, password: p}}}}"
        return load(
            f"{{remote_write: [], collect: {{collectors: {{scrape: {{targets: [{target}]}}}}}}}}", "f.yaml"
        ).warnings

    place = "collect.collectors.scrape.targets[0].url"
    assert any(
        f"{place}: the credentials travel in the clear" in one for one in warnings("http://192.0.2.1/m")
    )
    for url in ("http://127.0.0.1/m", "https://192.0.2.1/m"):
        assert not any(place in one for one in warnings(url))


def test_a_target_shows_no_secret() -> None:
    target = Target(url="http://a/m?token=secret", job="a", headers={"X": "secret"})
    assert repr(target) == "Target(job='a', url='http://a/m')"
    assert dict(target.__rich_repr__()) == {"job": "a", "url": "http://a/m"}


def test_relabeling_runs_once_for_a_series(monkeypatch: pytest.MonkeyPatch) -> None:
    rules = """
        - {source_labels: [__name__], regex: "go_.*", action: drop}
        - {source_labels: [job, path], separator: "@", target_label: where}
        - {regex: path, action: labeldrop}
    """
    head = "collect:\n  collectors:\n    scrape:\n      targets:\n      - url: http://x\n        job: app\n"
    text = f"{head}        metric_relabel_configs:{rules}"
    plan = plans(load(text, "f.yaml").config, HOST, Log(), Mask())[-1]
    scrape = plan.collect
    assert isinstance(scrape, Scrape)
    asked: list[str] = []
    relabel = scrape._naming._relabel
    assert relabel is not None

    def counted(labels: Mapping[str, str]) -> dict[str, str] | None:
        asked.append(labels["__name__"])
        return relabel(labels)

    scrape._naming._relabel = counted
    scrape._fetch = lambda: Exposition(b'go_a 1\na{path="/x"} 2\n', openmetrics=False)
    plan.run(0.0)
    series, values = plan.run(0.0)
    assert asked == ["go_a", "a"]
    assert (series[0].name, dict(series[0].labels)) == (
        "a",
        {"hostname": "web-01", "instance": "x:80", "job": "app", "where": "app@/x"},
    )
    assert values[0] == 2.0
    assert [s.name for s in series[1:]] == ["up", "scrape_duration_seconds", "scrape_samples_scraped"]


def test_names_are_masked_wherever_they_come_from(tmp_path: Path) -> None:
    """In text files and scrapes, too, and in errors about them; the series stay the same objects."""
    masked = Mask(["device"], b"key")
    text = (
        f"textfile: {{directory: {tmp_path}}}, scrape: {{targets: [{{url: 'http://localhost:1', job: a}}]}}"
    )
    found = {plan.name: plan for plan in plans(config(text), HOST, Log(), masked)}
    for name in ("cpu", "disk_usage"):
        assert isinstance(found[name].collect, LocalCollector)
    textfile, scrape = found["textfile"], found["scrape/a/localhost:1"]
    good = tmp_path / "a.prom"
    good.write_text('smart_ok{device="/dev/acme",disk="x"} 1\n')
    series, _ = textfile.run(0.0)
    assert dict(series[0].labels) == {
        "device": masked.value("device", "/dev/acme"),
        "disk": "x",
        "hostname": "web-01",
    }
    assert textfile.run(1.0)[0] is series

    good.write_text('smart_ok{device="/dev/acme",device="b"} 1\n')
    textfile.run(2.0)
    assert textfile.collect.error == f"{good}: 1 line left out; the label device occurs twice"
    assert isinstance(scrape.collect, Scrape)
    for body in (b'up{device="/dev/acme"} 1\n', b'up{device="/dev/acme} 1\n'):
        scrape.collect._fetch = lambda body=body: Exposition(body, False)  # type: ignore[misc]
        told = scrape.run(3.0)
        assert "acme" not in f"{told} {scrape.collect.error}"
    assert scrape.collect.error == "not a sample"


PASTED = """
job_name: "node"
scrape_interval: 15s
scrape_timeout: 10s
honor_labels: true
honor_timestamps: true
track_timestamps_staleness: false
scrape_protocols: [PrometheusProto, OpenMetricsText1.0.0, OpenMetricsText0.0.1, PrometheusText1.0.0, PrometheusText0.0.4]
fallback_scrape_protocol: PrometheusText0.0.4
metrics_path: /probe
scheme: https
params: {module: [http_2xx], target: ["http://a b/?c"], many: [x, y]}
sample_limit: 1000
label_limit: 30
label_name_length_limit: 200
label_value_length_limit: 200
body_size_limit: 10MB
target_limit: 0
keep_dropped_targets: 0
metric_name_validation_scheme: utf8
metric_name_escaping_scheme: allow-utf-8
native_histogram_bucket_limit: 0
native_histogram_min_bucket_factor: 0
always_scrape_classic_histograms: false
convert_classic_histograms_to_nhcb: false
scrape_failure_log_file: ""
enable_compression: true
follow_redirects: true
enable_http2: true
basic_auth: {username: u, password: p}
tls_config: {insecure_skip_verify: true}
static_configs:
  - targets: ["localhost:9115", "[::1]:9115"]
    labels: {room: cellar}
  - targets: ["example.com"]
metric_relabel_configs:
  - {source_labels: [__name__], regex: "go_.*", action: drop}
"""
"""An element of scrape_configs with every key of Prometheus 3.5 that needs nothing else."""


def test_a_pasted_scrape_config_works() -> None:
    block = PASTED.strip().replace("\n", "\n        ")
    head = "remote_write: []\ncollect:\n  collectors:\n    scrape:\n      targets:\n      - "
    loaded = load(f"{head}{block}\n", "f.yaml")
    found = plans(loaded.config, HOST, Log(), Mask())
    targets = [plan for plan in found if plan.name.startswith("scrape/")]
    assert [plan.name for plan in targets] == [
        "scrape/node/localhost:9115", "scrape/node/[::1]:9115", "scrape/node/example.com:443"
    ]  # fmt: skip
    assert [plan.interval_ms for plan in targets] == [15_000] * 3
    options = loaded.config.collect.plan()[-1].options
    first, second, third = options.each()  # type: ignore[attr-defined]
    query = "module=http_2xx&target=http%3A%2F%2Fa+b%2F%3Fc&many=x&many=y"
    assert first.url == f"https://localhost:9115/probe?{query}"
    assert (first.labels, second.labels, third.labels) == ({"room": "cellar"}, {"room": "cellar"}, {})
    # Each key that does nothing says why.
    ignored = {
        "track_timestamps_staleness", "target_limit", "keep_dropped_targets",
        "native_histogram_bucket_limit", "native_histogram_min_bucket_factor", "always_scrape_classic_histograms",
        "convert_classic_histograms_to_nhcb", "scrape_failure_log_file", "enable_compression", "follow_redirects",
        "enable_http2",
    }  # fmt: skip
    text = "\n".join(loaded.warnings)
    assert all(f"targets[0].{key} is ignored: " in text for key in ignored)
    assert "targets[0].scrape_protocols: PrometheusProto is left out" in text


def test_labels_of_a_target_are_on_its_series() -> None:
    text = "scrape: {targets: [{url: 'http://x', job: a, labels: {room: cellar}}]}"
    plan = plans(config(text), HOST, Log(), Mask())[-1]
    assert isinstance(plan.collect, Scrape)
    plan.collect._fetch = lambda: Exposition(b'b{room="x"} 1\n', openmetrics=False)
    series, _ = plan.run(0.0)
    assert {dict(one.labels)["room"] for one in series} == {"cellar"}
    assert dict(series[0].labels)["exported_room"] == "x"


def test_exemplars_are_kept_where_a_destination_is_to_get_them_and_masked() -> None:
    """A host name or a path that is masked in series is masked in exemplars and in their series, too."""
    text = "{{collect: {{collectors: {{scrape: {{targets: [{{url: 'http://x', job: app}}]}}}}}}, remote_write: [{}]}}"
    url = "{url: 'https://receiver/', send_exemplars: %s}"
    on, off = (load(text.format(url % word), "f.yaml").config for word in ("true", "false"))
    for mask in (Mask(), Mask(("path",), b"key")):
        kept = Exemplars()
        (plan,) = (p for p in plans(on, HOST, Log(), mask, exemplars=kept) if p.name.startswith("scrape/"))
        (other,) = (p for p in plans(off, HOST, Log(), mask, exemplars=kept) if p.name.startswith("scrape/"))
        assert not plan.does_as(other)  # a reload that turns it on or off is heeded
        assert isinstance(other.collect, Scrape)
        assert other.collect._exemplars is None
        assert isinstance(plan.collect, Scrape)
        assert plan.collect._exemplars is not None
        one = Exemplar(Series("a", (("path", "/secret"),)), (("path", "/own"), ("trace", "t")), 1.0, 5)
        plan.collect._exemplars([one])
        (found,) = kept.after(0)[1]
        masked = (("path", mask.value("path", "/own")), ("trace", "t"))
        assert (found.series.labels, found.labels) == ((("path", mask.value("path", "/secret")),), masked)
        assert ("/own" in str(found)) == ("/secret" in str(found)) == (not mask)
