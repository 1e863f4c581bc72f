"""Targets, a text folder and relabeling that attack the real agent: it keeps its time and its memory, and stops in time."""

from __future__ import annotations

import gzip
import signal
import time
from contextlib import closing
from itertools import pairwise
from pathlib import Path

from buffer.buffer import Buffer
from buffer.model import Instant, Series, Tick
from tests.support.agent import Agent
from tests.support.exporter import Exporter, Page
from tests.support.net import wait_for
from tests.support.receiver import Receiver

MIB = 1 << 20
SIZE = 16 * MIB - 1000
ZIPPED = {"Content-Encoding": "gzip"}
BODIES = {
    "tabs": b"a" + 200_000 * b"\t" + b"{\n",
    "same": SIZE // 6 * b"aa 11\n",
    "label": b'a{b="' + SIZE * b"c" + b'"} 1\n',
    "blank": SIZE // 2 * b" \n",
    "quadratic": b'a{b="' + 60_000 * b"a" + b'"} 1\n',
}


def cpu(agent: Agent) -> list[tuple[int, float]]:
    found = agent.buffered().items()
    return next((times for labels, times in found if ("__name__", "cpu_usage_percent") in labels), [])


def test_others_bytes_cost_no_tick_and_no_memory(tmp_path: Path) -> None:
    folder = tmp_path / "text"
    folder.mkdir()
    (folder / "tabs.prom").write_bytes(BODIES["tabs"])
    (folder / "same.prom").write_bytes(BODIES["same"])
    (folder / "control.prom").write_bytes(
        b"".join(b'c{b="%d%s"} 1\n' % (i, 60_000 * b"\x01") for i in range(30))
    )
    (folder / "caf\udce9.prom").write_text("good 1\n")
    pages = {f"/{name}": Page(gzip.compress(body), headers=ZIPPED) for name, body in BODIES.items()}
    rule = {"source_labels": ["b"], "regex": ".*a.*b", "action": "drop"}
    with Exporter(pages) as exporter, Receiver() as receiver:
        targets = [{"url": f"{exporter.url}/{name}", "job": name, "interval": "2s"} for name in BODIES]
        collectors = {"cpu": {}, "textfile": {"directory": str(folder)}, "scrape": {"targets": targets}}
        remote = [{"name": "a", "url": receiver.url, "write_relabel_configs": [rule]}]
        collect = {"interval": "1s", "collectors": collectors}
        with Agent(tmp_path / "agent", remote, collect=collect) as agent:
            wait_for(lambda: len(cpu(agent)) >= 10, 40, "ten ticks")
            wait_for(lambda: receiver.requests, 10, "what is sent")
            status = Path(f"/proc/{agent.pid}/status").read_text()
            assert agent.stop(signal.SIGTERM) == 0
            found, ticks = agent.buffered(), cpu(agent)
            failed = agent.events("buffer.append_failed")
    peak = int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) * 1024
    assert peak < 256 * MIB
    assert [b[0] - a[0] for a, b in pairwise(ticks)] == [1000] * (len(ticks) - 1)
    up = {
        dict(labels)["job"]: times[-1][1] for labels, times in found.items() if ("__name__", "up") in labels
    }
    assert up == {"tabs": 0, "same": 0, "label": 0, "blank": 0, "quadratic": 1}
    assert any(("__name__", "good") in labels for labels in found)
    assert failed == []


def test_a_buffer_that_holds_a_label_which_is_slow_to_match_is_drained(tmp_path: Path) -> None:
    now = int(time.time() * 1000)
    series = (Series("slow", (("b", 200_000 * "a"),)), Series("quick", (("b", "c"),)))
    with closing(Buffer(str(tmp_path / "agent" / "data"))) as buffer:
        buffer.append([Tick(Instant(now - 5000, 1000, 32 * "0"), "probe", series, [1.0, 2.0])])
    rule = {"source_labels": ["b"], "regex": ".*a.*b", "action": "drop"}
    with Receiver() as receiver:
        remote = [{"name": "a", "url": receiver.url, "write_relabel_configs": [rule]}]
        collect = {"interval": "1s", "collectors": {"cpu": {}}}
        with Agent(tmp_path / "agent", remote, collect=collect) as agent:
            wait_for(lambda: len(cpu(agent)) >= 3, 20, "three ticks")
            wait_for(
                lambda: agent.destination("a").get("ledger", {}).get("delivered", 0) >= 4,
                10,
                "what was in the buffer",
            )
            assert agent.stop(signal.SIGTERM) == 0
            ticks = cpu(agent)
    assert [b[0] - a[0] for a, b in pairwise(ticks)] == [1000] * (len(ticks) - 1)
