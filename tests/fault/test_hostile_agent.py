"""Targets, receivers, a text folder and relabeling that attack the real agent, all at once and below a real limit of memory:
it keeps its time and its memory, and stops in time.
"""

from __future__ import annotations

import gzip
import os
import signal
import socket
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
from tests.support.tcp import listener, read_request
from tests.support.walls import memory

MIB = 1 << 20
SIZE = 16 * MIB - 1000
ZIPPED = {"Content-Encoding": "gzip"}
LIMIT = 256 * MIB
"""The MemoryMax of the unit, and the memory of a small box."""
BODIES = {
    "tabs": b"a" + 200_000 * b"\t" + b"{\n",
    "same": SIZE // 6 * b"aa 11\n",
    "label": b'a{b="' + SIZE * b"c" + b'"} 1\n',
    "blank": SIZE // 2 * b" \n",
    "emoji": b"".join(b'a{b="%d%s"} 1\n' % (i, 16_000 * "\U0001f600".encode()) for i in range(120)),
    "names": b"".join(b"%s%d 1\n" % (200 * b"n", i) for i in range(4_000)),
    "described": b"".join(b"# HELP a%d %s\n" % (i, 400 * b"x") for i in range(2_000)) + b"a 1\n",
    "samples": b"".join(b"a%d 1\n" % i for i in range(110_000)),
    "quadratic": b'a{b="' + 60_000 * b"a" + b'"} 1\n',
}
UP = {"quadratic", "described", "names"}
"""Jobs that are within the limits, and too small to wait for others."""
INTERIM = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"


def flooding(connection: socket.socket) -> None:
    read_request(connection)
    for _ in range(5000):
        connection.sendall(100 * INTERIM)


def dripping(connection: socket.socket) -> None:
    read_request(connection)
    connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        connection.sendall(b"a")
        connection.recv(1)


def moved(connection: socket.socket) -> None:
    while read_request(connection):
        connection.sendall(b"HTTP/1.1 307 X\r\nLocation: http://[::1\r\nContent-Length: 0\r\n\r\n")


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
    (folder / "secret.prom").symlink_to("/etc/passwd")
    (folder / "zero.prom").symlink_to("/dev/zero")
    os.mkfifo(folder / "pipe.prom")
    pages = {f"/{name}": Page(gzip.compress(body, 1), headers=ZIPPED) for name, body in BODIES.items()}
    rule = {"source_labels": ["b"], "regex": ".*a.*b", "action": "drop"}
    with (
        Exporter(pages) as exporter,
        Receiver() as receiver,
        listener(flooding) as flood,
        listener(dripping) as drip,
        listener(moved) as elsewhere,
        memory(LIMIT) as wall,
    ):
        urls = {name: f"{exporter.url}/{name}" for name in BODIES}
        urls |= {"flood": flood, "drip": drip, "elsewhere": elsewhere}
        targets = [{"url": url, "job": name, "interval": "5s"} for name, url in urls.items()]
        collectors = {"cpu": {}, "textfile": {"directory": str(folder)}, "scrape": {"targets": targets}}
        remote = [
            {"name": name, "url": url, "write_relabel_configs": [rule]}
            for name, url in {"a": receiver.url, "flood": flood, "drip": drip, "elsewhere": elsewhere}.items()
        ]
        collect = {"interval": "3s", "collectors": collectors}
        agent = Agent(tmp_path / "agent", remote, collect=collect)
        agent.inside = wall.inside
        with agent:
            wait_for(lambda: receiver.requests, 60, "what is sent")
            wait_for(lambda: agent.destination("elsewhere").get("state") == "held", 60, "a redirect is held")
            wait_for(lambda: len(cpu(agent)) >= 5, 60, "five ticks")
            begun = time.monotonic()
            assert agent.stop(signal.SIGTERM) == 0
            # On a machine with more work than processors everything takes that much longer.
            assert time.monotonic() - begun < 5 * max(1, os.getloadavg()[0] / (os.cpu_count() or 1))
            found, ticks = agent.buffered(), cpu(agent)
            failed = agent.events("buffer.append_failed")
            said = agent.log.read_text()
        print(wall.kind, "bytes at most:", wall.most())
    assert [b[0] - a[0] for a, b in pairwise(ticks)] == [3000] * (len(ticks) - 1)
    up = {
        dict(labels)["job"]: times[-1][1] for labels, times in found.items() if ("__name__", "up") in labels
    }
    assert up == {name: name in UP for name in urls}
    assert "root:" not in said
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
