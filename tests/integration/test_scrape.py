"""Scraping with the real agent, a real node_exporter and a real Prometheus, which scrapes the same target."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent.collect import grid
from agent.config import Target
from agent.scrape.fetch import Exposition
from agent.scrape.target import METRICS, Scrape
from agent.system.log import Silent
from buffer.model import is_stale
from tests.support.agent import HOSTNAME, Agent
from tests.support.exporter import OPENMETRICS, RECORDED, Exporter, Page, recorded
from tests.support.net import free_port, wait_for
from tests.support.node_exporter import NodeExporter
from tests.support.prometheus import Prometheus
from tests.support.scraped import REPORTS, scraped
from tests.support.server import Samples

# --- what Prometheus itself makes of an exposition ------------------------------------------------------------------

ODD = rb"""
# HELP odd_total Backslash \\ and line\nbreak.
# TYPE odd_total counter
odd_total{a="b",c="d\"\\\n}",e=""}  1.5e3
odd_total{a="tab"}	+Inf
odd_total{ a = "blanks" , } NaN
odd_total{a="no" c="comma"} 1
odd_total {a="apart"} -0
odd_total{a="close"}7
# a comment
#another

odd_total{job="mine",instance="there",hostname="x",exported_job="again"} 2
# TYPE h histogram
h_bucket{le="0.1"} 1
h_bucket{le="1"} 2
h_bucket{le="10.0"} 3
h_bucket{le="2.5e+05"} 3
h_bucket{le="1000000"} 3
h_bucket{le="12345678.9"} 3
h_bucket{le="0.00001"} 3
h_bucket{le="+Inf"} 4
h_sum 5
h_count 4
# TYPE s summary
s{quantile="0.50"} 1
s{quantile="1",le="1"} 2
s_sum 1
s_count 1
# TYPE g gauge
g{le="1",quantile="1"} 1
:colon:_9 1e-400
stamped{a="b"} 7 7
stamped{a="c"}  1.5 	1700000000000
untyped{x="\xc3\xbc \xf0\x9f\xa6\x9f"} 0.1
"""
OPEN = b"""\
# TYPE requests counter
# HELP requests Those \\"that\\" came.
requests_total{path="/a # {"} 5 # {trace="x"} 0.5 1700000000
requests_created{path="/a # {"} 1700000000
# TYPE heat_celsius gauge
# UNIT heat_celsius celsius
heat_celsius -0.5
# TYPE wait histogram
wait_bucket{le="1"} 1 # {} 0.5
wait_bucket{le="+Inf"} 1
wait_count 1
wait_sum 0.5
# TYPE build info
build_info{version="1"} 1
# TYPE falling counter
falling_total -1
# TYPE open histogram
open_bucket{le="1"} 1
open_count 1
open_sum 1
# EOF
"""
PAGES = {
    "/odd": Page(ODD),
    "/open": Page(OPEN, OPENMETRICS),
    **{f"/{name}": Page(recorded(name)) for name in RECORDED},
}
REFUSED_TEXT = [
    b"a\n", b"a 1 x\n", b"a 1\nb 1_0\n", b"a 0x10\n", b"a{b=c} 1\n", b'a{b="c} 1\n', b'a{b="c"\n',
    b'a{,b="c"} 1\n', b'a{b="c",b="d"} 1\n', b'a{b="\xff"} 1\n', b"1a 1\n", b"a-b 1\n", b"a 1 2 3\n",
    b"a 1 -5\n", b"a 1\r\n", b"# TYPE a thing\na 1\n", b"# TYPE a\na 1\n",
]  # fmt: skip
REFUSED_OPEN = [
    b"a 1\n", b"a 1\n# EOF\nb 1\n", b"a 1\n\n# EOF\n", b"a  1\n# EOF\n", b'a {b="c"} 1\n# EOF\n',
    b"# a comment\n# EOF\n", b"# TYPE a untyped\n# EOF\n", b"# TYPE a gauge\n# UNIT a seconds\n# EOF\n",
]  # fmt: skip
REFUSED = [
    Page(b"a 1\n", status=500),
    *map(Page, REFUSED_TEXT),
    *(Page(body, OPENMETRICS) for body in REFUSED_OPEN),
]


@contextmanager
def scraping(program: Path, folder: Path, url: str, paths: list[str], **more: Any) -> Iterator[Prometheus]:
    """A Prometheus that scrapes these paths, each as a job of its own."""
    folder.mkdir()
    config = folder / "prometheus.yml"
    scrape = [
        {
            "job_name": path.strip("/"),
            "metrics_path": path,
            "static_configs": [{"targets": [url.partition("//")[2]], "labels": {"hostname": HOSTNAME}}],
            "honor_timestamps": False,
            **more,
        }
        for path in paths
    ]
    config.write_text(yaml.safe_dump({"global": {"scrape_interval": "1s"}, "scrape_configs": scrape}))
    with Prometheus(program, folder, config=config) as prometheus:
        yield prometheus


@pytest.mark.parametrize("honor", [False, True], ids=["ours", "honored"])
def test_it_is_what_prometheus_itself_would_have_stored(
    tmp_path: Path, prometheus_program: Path, honor: bool
) -> None:
    folder, paths = tmp_path / "prometheus", list(PAGES)
    with (
        Exporter(PAGES) as exporter,
        scraping(prometheus_program, folder, exporter.url, paths, honor_labels=honor) as prometheus,
    ):
        wait_for(lambda: len(prometheus.query("up == 1")) == len(PAGES), 20, "all to be scraped")
        for path in PAGES:
            theirs = prometheus.query(f'{{job="{path.strip("/")}"}} or {{exported_job="{path.strip("/")}"}}')
            if honor and path == "/odd":
                theirs |= prometheus.query('odd_total{job="mine"}')
            theirs = {
                labels: v
                for labels, v in theirs.items()
                if not dict(labels)["__name__"].startswith("scrape_")
            }
            assert scraped(exporter.url, path, honor_labels=honor) == pytest.approx(
                theirs, rel=0, abs=0, nan_ok=True
            )


def test_timestamps_are_kept_as_prometheus_keeps_them(tmp_path: Path, prometheus_program: Path) -> None:
    now = int(time.time() * 1000)
    lines = [
        f"a {now - 5000}",
        f"a {now - 3000}",
        f"b {now - 4000}",
        f"c {now + 3_600_000}",
        f"d {now - 7_200_000}",
        "e",
        f"f {now}",
    ]
    body = "".join(
        f"{name} {i}{at}\n"
        for i, (name, _, stamp) in enumerate(line.partition(" ") for line in lines)
        for at in [f" {stamp}" * bool(stamp)]
    )
    with (
        Exporter({"/kept": Page(body.encode())}) as exporter,
        scraping(
            prometheus_program, tmp_path / "prometheus", exporter.url, ["/kept"], honor_timestamps=True
        ) as prometheus,
    ):
        wait_for(lambda: prometheus.query('up{job="kept"} == 1'), 30, "it to be scraped")
        stored = prometheus.raw_samples('{job="kept",__name__=~"[a-f]"}', now - 10_000_000, now + 4_000_000)
    theirs = {dict(labels)["__name__"]: [one for one in of if one[0] != 0] for labels, of in stored.items()}
    target = Target(url=f"{exporter.url}/kept", job="kept")
    fetched = Exposition(body.encode(), openmetrics=False)
    scrape = Scrape(target, {"hostname": HOSTNAME}, 10, Silent(), fetch=lambda: fetched)
    series, _ = scrape(0.0)
    ours: dict[str, list[tuple[int, float]]] = {}
    for row in scrape.stamped:
        for one, value in zip(row.series, row.values, strict=True):
            ours.setdefault(one.name, []).append((row.at_ms, value))
    assert [one.name for one in series[: -len(METRICS)]] == ["e"]
    del theirs["e"]
    assert ours == theirs
    assert set(ours) == {"a", "b", "f"}


def test_what_prometheus_refuses_is_refused(tmp_path: Path, prometheus_program: Path) -> None:
    pages = {"/good": Page(b"a 1\n"), **{f"/bad{i}": page for i, page in enumerate(REFUSED)}}
    with (
        Exporter(pages) as exporter,
        scraping(prometheus_program, tmp_path / "prometheus", exporter.url, list(pages)) as prometheus,
    ):
        wait_for(lambda: len(prometheus.query("up")) == len(pages), 20, "all to be scraped")
        theirs = {dict(labels)["job"]: value for labels, value in prometheus.query("up").items()}
        found = {path.strip("/"): scraped(exporter.url, path) for path in pages}
    up = {job: one[labels] for job, one in found.items() for labels in one if ("__name__", "up") in labels}
    assert up == theirs
    assert [job for job, value in up.items() if value] == ["good"]
    assert all(len(one) == 1 for job, one in found.items() if job != "good")


# --- the real agent -------------------------------------------------------------------------------------------------


def agent_with(folder: Path, to: str, collectors: dict[str, Any]) -> Agent:
    nobody = {"url": f"http://127.0.0.1:{free_port()}/api/v1/write", "name": "nobody"}  # keeps the whole log
    collect = {"interval": "1s", "collectors": collectors}
    return Agent(folder, [{"url": to, "name": "central"}, nobody], collect=collect)


def test_node_exporter_s_metrics_arrive_and_end_when_it_does(
    tmp_path: Path, prometheus_program: Path, node_exporter_program: Path
) -> None:
    exporter = NodeExporter(node_exporter_program, tmp_path / "exporter")
    target = {"url": f"http://localhost:{exporter.port}/metrics", "job": "node"}
    of_it = f'{{job="node",instance="localhost:{exporter.port}",hostname="{HOSTNAME}"}}'
    with Prometheus(prometheus_program, tmp_path / "prometheus") as prometheus:
        agent = agent_with(tmp_path / "agent", prometheus.write_url, {"scrape": {"targets": [target]}})
        with exporter, agent:
            wait_for(lambda: prometheus.query(f"up{of_it} == 1"), 30, "the first scrape to arrive")
            load = wait_for(lambda: prometheus.query(f"node_load1{of_it}"), 30, "a metric of it")
            assert len(prometheus.query(of_it)) > 300
            (value,) = load.values()
            assert 0 <= value < 1000
            (scraped,) = prometheus.query(f"scrape_samples_scraped{of_it}").values()
            assert scraped == len(prometheus.query(of_it)) - len(METRICS)

            exporter.kill()
            wait_for(lambda: prometheus.query(f"up{of_it} == 0"), 30, "it to be down")
            # Its series ended, with a marker, and not by Prometheus's five minutes.
            wait_for(lambda: not prometheus.query(f"node_load1{of_it}"), 10, "its series to end")
            assert {dict(labels)["__name__"] for labels in prometheus.query(of_it)} == REPORTS
            exporter.start()
            wait_for(lambda: prometheus.query(f"up{of_it} == 1"), 30, "it to be up again")
            wait_for(lambda: prometheus.query(f"node_load1{of_it}"), 10, "its series again")
            assert agent.stop() == 0
        failed, recovered = agent.events("scrape.failed"), agent.events("scrape.recovered")
        assert [event["level"] for event in failed].count("warning") >= 1
        # A scrape that is under way when it dies is reset, a later one refused.
        assert failed[0]["error"].startswith("no connection with localhost: connection re")
        assert len(recovered) == 1
        assert agent.status()["destinations"][0]["ledger"]["missed"] == 0


def test_targets_that_hang_delay_nobody(tmp_path: Path) -> None:
    slow = Page(b"a 1\n", delay_s=60)
    given: list[int] = []

    def stamped() -> bytes:
        given.append(int(time.time() * 1000) - 250)
        return b"b 1\nc %d %d\n" % (len(given), given[-1])

    pages = {f"/slow{i}": slow for i in range(8)} | {"/quick": Page(stamped)}
    with Exporter(pages) as exporter:
        targets = [
            {"url": f"{exporter.url}/slow{i}", "job": f"slow{i}", "timeout": "500ms"} for i in range(8)
        ]
        targets.append({"url": f"{exporter.url}/quick", "job": "quick"})
        agent = agent_with(
            tmp_path / "agent", f"http://127.0.0.1:{free_port()}/x", {"scrape": {"targets": targets}}
        )
        with agent:
            wait_for(lambda: len(times(agent.buffered(), "load_average_1m")) >= 8, 30, "some rounds")
            assert agent.stop() == 0
    found = agent.buffered()
    for name, job in (("load_average_1m", None), ("limpet_start_time_seconds", None), ("b", "quick")):
        on_grid(times(found, name, job))
    # Timestamps of the target are kept, to the millisecond.
    kept = times(found, "c", "quick")
    assert len(kept) >= 5
    assert kept == given[: len(kept)]
    # Each of them is reported as down, at its own time on the grid. The first round is stamped with a time that is
    # past, so that the second one can be due while the first scrape is under way.
    for i in range(8):
        of_it = times(found, "up", f"slow{i}")
        assert len(of_it) >= 5
        on_grid(of_it[1:])
    assert {
        value for key, of in found.items() if ("job", "slow0") in key for _, value in of if value == value
    } >= {0.0}
    assert agent.status()["destinations"][0]["ledger"]["missed"] <= 8 * len(METRICS)


def times(samples: Samples, name: str, job: str | None = None) -> list[int]:
    for labels, of in samples.items():
        if ("__name__", name) in labels and (job is None or ("job", job) in labels):
            return [at for at, value in of if not is_stale(value)]
    return []


def on_grid(found: list[int]) -> None:
    offset = grid.offset(HOSTNAME, 1000)
    assert found == list(range(found[0], found[-1] + 1, 1000))
    assert all((at - offset) % 1000 == 0 for at in found)


def test_text_files_arrive_and_end(tmp_path: Path, prometheus_program: Path) -> None:
    folder = tmp_path / "textfiles"
    folder.mkdir()

    def write(name: str, text: str) -> None:
        (folder / "new").write_text(text)
        (folder / "new").rename(folder / name)

    write("backup.prom", "# TYPE backup_last_success_seconds gauge\nbackup_last_success_seconds 1700000000\n")
    write("broken.prom", "broken\nbackup_age_seconds 5\n")
    with Prometheus(prometheus_program, tmp_path / "prometheus") as prometheus:
        agent = agent_with(tmp_path / "agent", prometheus.write_url, {"textfile": {"directory": str(folder)}})
        with agent:
            found = wait_for(
                lambda: prometheus.query("backup_last_success_seconds"), 30, "the file to arrive"
            )
            assert list(found.values()) == [1_700_000_000]
            assert list(prometheus.query("node_textfile_scrape_error").values()) == [1]
            assert list(prometheus.query("limpet_textfile_left_out").values()) == [1]
            assert list(prometheus.query("backup_age_seconds").values()) == [5]
            assert {dict(labels)["file"] for labels in prometheus.query("node_textfile_mtime_seconds")} == {
                str(folder / name) for name in ("backup.prom", "broken.prom")
            }
            (folder / "backup.prom").unlink()
            write("broken.prom", "repaired 1\n")
            wait_for(lambda: prometheus.query("repaired"), 20, "what was repaired")
            wait_for(lambda: not prometheus.query("backup_last_success_seconds"), 10, "its series to end")
            assert agent.stop() == 0
        assert len(agent.events("textfile.failed")) == 1
        assert len(agent.events("textfile.recovered")) == 1
