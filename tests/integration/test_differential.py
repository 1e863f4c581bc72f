"""Made-up expositions and text files: Limpet makes of them what a real Prometheus and a real node_exporter make of them.

DIFFERENTIAL_SEED and DIFFERENTIAL_COUNT make others, and more. What may differ is here, and in a table of docs/scraping.md.
"""

from __future__ import annotations

import http.client
import os
import re
import urllib.request
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import yaml

from agent.scrape.exposition import go_float
from agent.scrape.naming import Naming
from agent.scrape.table import Table
from agent.scrape.textfile import Textfile
from agent.system.events import Event
from buffer.model import Labels
from tests.support.agent import HOSTNAME
from tests.support.collecting import Log
from tests.support.exporter import Exporter
from tests.support.expositions import generated, generated_files
from tests.support.net import wait_for
from tests.support.node_exporter import NodeExporter
from tests.support.prometheus import Prometheus
from tests.support.scraped import scraped

SEED = int(os.environ.get("DIFFERENTIAL_SEED", "1"))
COUNT = int(os.environ.get("DIFFERENTIAL_COUNT", "300"))

Samples = dict[Labels, float]

ENDS_EARLY = re.compile(rb"(?:^|\n)[ \t]*\0|#(?:\0|[^ \t\n][^\n]*\0)")
"""A zero byte at the beginning of a line, or in a comment without a blank: Prometheus reads nothing behind it."""
EMPTY_TWICE = re.compile(rb'[{,][ \t]*"?([^\s"={,]*)"?[ \t]*=[^\n]*,[ \t]*"?\1"?[ \t]*=')
"""A label that occurs twice, where it may be empty once: what Prometheus makes of it depends on their order."""


def alike(samples: Samples) -> dict[Labels, str]:
    """Return the samples without what differs for a reason: blanks in front of a name, `le` and `quantile` elsewhere."""
    found = {}
    for labels, value in samples.items():
        pairs = []
        for name, text in labels:
            if name == "__name__":
                pairs.append((name, text.lstrip(" \t")))
            else:
                pairs.append((name, go_float(text) if name in ("le", "quantile") else text))
        found[tuple(pairs)] = repr(value)
    return found


def test_an_exposition_is_read_as_prometheus_reads_it(tmp_path: Path, prometheus_program: Path) -> None:
    pages = {f"/p{i}": page for i, page in enumerate(generated(SEED, COUNT))}
    with Exporter(pages) as exporter:
        labels = [{"hostname": HOSTNAME, "__metrics_path__": path, "job": path.strip("/")} for path in pages]
        address = exporter.url.partition("//")[2]
        job = {
            "job_name": "pages",
            "honor_timestamps": False,
            "scrape_interval": "4s",
            "scrape_timeout": "4s",
            "static_configs": [{"targets": [address], "labels": one} for one in labels],
        }
        folder = tmp_path / "prometheus"
        folder.mkdir()
        (folder / "own.yml").write_text(yaml.safe_dump({"scrape_configs": [job]}))
        with Prometheus(prometheus_program, folder, config=folder / "own.yml") as prometheus:
            wait_for(lambda: len(prometheus.query("up")) == len(pages), 60, "all pages to be scraped")
            everything = prometheus.query(f'{{hostname="{HOSTNAME}",__name__!~"scrape_.*"}}')
        theirs: dict[str, Samples] = {path.strip("/"): {} for path in pages}
        for key, value in everything.items():
            theirs[dict(key)["job"]][key] = value
        good = explained = 0
        for path, page in pages.items():
            expected = theirs[path.strip("/")]
            assert isinstance(page.body, bytes)
            good += any(value == 1.0 for key, value in expected.items() if ("__name__", "up") in key)
            found = scraped(exporter.url, path)
            if {key: repr(value) for key, value in found.items()} == {
                k: repr(v) for k, v in expected.items()
            }:
                continue
            explained += 1
            collide = len(alike(expected)) != len(expected)  # where a blank in front is no part of a name
            if not (ENDS_EARLY.search(page.body) or EMPTY_TWICE.search(page.body) or collide):
                assert alike(found) == alike(expected), f"seed {SEED}: {page}"
    print(
        f"seed {SEED}: {COUNT} expositions, of which Prometheus takes {good}; {explained} differ for a reason"
    )
    assert COUNT // 4 < good < COUNT * 3 // 4
    assert explained < COUNT // 4


def answers(start: Callable[[], NodeExporter], folder: Path, files: dict[str, bytes]) -> Iterator[bytes]:
    """Yield what it makes of these files; of one for which it dies (TYPE gauge_histogram), nothing."""
    for path in folder.iterdir():
        path.unlink()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    try:
        with start() as exporter, urllib.request.urlopen(f"{exporter.url}/metrics", timeout=30) as answer:
            body = answer.read()
    except http.client.RemoteDisconnected:
        names, half = sorted(files), len(files) // 2
        for some in (names[:half], names[half:]) if half else ():
            yield from answers(start, folder, {name: files[name] for name in some})
    else:
        yield re.sub(rb"(?m)^(?!f\d+_|# (TYPE|HELP) f\d+_|node_textfile_mtime).*\n", b"", body)


def test_what_node_exporter_takes_of_a_text_file_is_taken(
    tmp_path: Path, node_exporter_program: Path
) -> None:
    folder, other = tmp_path / "files", tmp_path / "exporter"
    folder.mkdir()
    other.mkdir()
    files = generated_files(SEED, COUNT)
    flags = ("--collector.textfile", f"--collector.textfile.directory={folder}")
    start = partial(NodeExporter, node_exporter_program, other, flags=flags)
    body = b"".join(answers(start, folder, files))
    read = Table(Naming({}), 100_000).read(body, openmetrics=False)
    theirs = {one[:2]: value for one, value in zip(read.series, read.values, strict=True)}
    taken = {
        Path(dict(labels)["file"]).name for name, labels in theirs if name == "node_textfile_mtime_seconds"
    }

    for name, content in files.items():
        (folder / name).write_bytes(content)
    log = Log()
    textfile = Textfile(str(folder), {}, log)
    series, values = textfile(0.0)
    ours = {one[:2]: value for one, value in zip(series, values, strict=True)}
    wrong = {Path(one["file"]).name: one["error"] for one in log.of(Event.TEXTFILE_FAILED)}
    compared = 0
    for name in taken:
        # It makes histograms and summaries complete, and writes -0 as 0.
        if not re.search(rb"(?i)histogram|summary", files[name]):
            prefix, compared = f"f{name.removesuffix('.prom')}_", compared + 1
            expected, found = (
                {key: repr(value + 0.0) for key, value in samples.items() if key[0].startswith(prefix)}
                for samples in (theirs, ours)
            )
            assert found == expected, f"seed {SEED}: {files[name]!r}"
            assert "duplicates" in wrong.get(name, "duplicates")  # it reports these elsewhere
    print(f"seed {SEED}: {COUNT} text files, of which node_exporter takes {len(taken)}; {compared} compared")
    assert compared > COUNT // 6
