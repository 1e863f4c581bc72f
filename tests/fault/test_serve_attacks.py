"""`limpet serve` under attack: requests that are no requests, clients that are slow or many, queries that want everything.

After each of them it answers as before, and the log has what was refused.
"""

from __future__ import annotations

import json
import os
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.bench import replay
from tests.support.agent import Agent
from tests.support.net import wait_for
from tests.support.serving import Serving

LIMITS = (
    "limits: {duration: 2s, samples: 1000000, loaded_samples: 30000, series: 300, points: 1000, "
    "answer_size: 1MiB, body_size: 64KiB, connections: 24, range: 10d}"
)


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    folder = tmp_path_factory.mktemp("attacked")
    replay.fill(
        folder / "data",
        replay.repeated(replay.load(), replay.load().samples * 2, round(time.time() * 1000)),
        ["central"],
    )
    with Serving(folder, folder / "data", LIMITS) as server:
        yield server


@pytest.fixture(autouse=True)
def _answers_afterwards(serving: Serving) -> Iterator[None]:
    before = serving.pid
    yield
    found = wait_for(lambda: answers(serving), 30, "an answer after the attack")
    assert found
    assert serving.pid == before
    assert "serve.failed" not in serving.log.read_text()


def answers(serving: Serving) -> bool:
    found = serving.ask("/api/v1/query", {"query": "load_average_1m"})
    return found.status == 200 and len(found.json["data"]["result"]) == 1


def raw(serving: Serving, sent: bytes) -> bytes:
    """Send bytes, and return everything that comes until the server closes."""
    with socket.create_connection(("127.0.0.1", serving.port), 30) as connection:
        connection.settimeout(60)
        connection.sendall(sent)
        found = b""
        try:
            while data := connection.recv(65536):
                found += data
        except ConnectionError:
            pass
        return found


def statuses(answer: bytes) -> list[int]:
    return [int(one) for one in re.findall(rb"(?m)^HTTP/1\.1 (\d{3})", answer)]


def resident(pid: int | None) -> int:
    """Return the memory of a process in KiB."""
    found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1])


# Requests that are none.

HOST = b"Host: localhost\r\n"
MALFORMED: dict[str, bytes] = {
    "no HTTP": b"hello\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 400,
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "two hosts": b"GET / HTTP/1.1\r\n" + HOST + b"Host: evil\r\n\r\n",
    "a space in a name": b"GET / HTTP/1.1\r\n" + HOST + b"Content-Length : 5\r\n\r\nhello",
    "a folded line": b"GET / HTTP/1.1\r\n" + HOST + b"X: a\r\nFolded\r\n\r\n",
    "two lengths": b"POST /api/v1/query HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
    "a length that is none": b"POST /api/v1/query HTTP/1.1\r\n" + HOST + b"Content-Length: -5\r\n\r\nhello",
    "a plus": b"POST /api/v1/query HTTP/1.1\r\n" + HOST + b"Content-Length: +5\r\n\r\nhello",
    "an unknown encoding": b"POST /api/v1/query HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "a chunk that is none": b"POST /api/v1/query HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    "an endless chunk": b"POST /api/v1/query HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n" + b"F" * 40 + b"\r\n",
    "a control character": b"GET /\x01 HTTP/1.1\r\n" + HOST + b"\r\n",
    "a line feed in a value": b"GET / HTTP/1.1\r\n" + HOST + b"X: a\x00b\r\n\r\n",
    "a large head": b"GET / HTTP/1.1\r\n" + HOST + b"X: " + b"a" * 40_000 + b"\r\n\r\n",
    "a large line": b"GET /" + b"a" * 40_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n",
    "many headers": b"GET / HTTP/1.1\r\n" + HOST + b"".join(b"X%d: y\r\n" % i for i in range(5000)) + b"\r\n",
}  # fmt: skip


@pytest.mark.parametrize("name", MALFORMED)
def test_what_is_no_request_is_refused_and_nothing_behind_it_is_read(name: str, serving: Serving) -> None:
    found = raw(serving, MALFORMED[name] + b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
    first = statuses(found)
    assert len(first) == 1
    assert 400 <= first[0] < 600
    id_ = re.findall(rb"(?m)^X-Request-Id: (\S+)\r$", found)[0]
    logged = serving.access(id_.decode())
    assert (logged["status"], logged["level"]) == (first[0], "warning")
    assert logged["error"]


@pytest.mark.parametrize(
    "head",
    [
        b"Content-Length: 44\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n",
        b"Transfer-Encoding: chunked, identity\r\n",
        b"Transfer-Encoding:\x0bchunked\r\n",
    ],
)
def test_a_request_cannot_be_smuggled_in_the_body_of_another(head: bytes, serving: Serving) -> None:
    smuggled = b"GET /api/v1/buffer HTTP/1.1\r\nHost: localhost\r\n\r\n"
    sent = b"POST /api/v1/query HTTP/1.1\r\n" + HOST + head + b"\r\n0\r\n\r\n" + smuggled
    assert statuses(raw(serving, sent)) in ([400], [501])


def test_a_body_that_is_too_large_is_refused_before_it_is_there(serving: Serving) -> None:
    head = b"POST /api/v1/query HTTP/1.1\r\n" + HOST
    assert statuses(raw(serving, head + b"Content-Length: 99999999999999999999\r\n\r\n")) == [413]
    assert statuses(raw(serving, head + b"Content-Length: 65537\r\nExpect: 100-continue\r\n\r\n")) == [413]
    chunk = b"1000\r\n" + b"a" * 4096 + b"\r\n"
    assert statuses(raw(serving, head + b"Transfer-Encoding: chunked\r\n\r\n" + chunk * 20)) == [413]
    many = "&".join(f"a{i}=1" for i in range(2000))
    assert serving.ask(f"/api/v1/query?{many}").status == 400


def test_pipelined_requests_are_answered_one_after_the_other(serving: Serving) -> None:
    one = b"GET /-/healthy HTTP/1.1\r\n" + HOST + b"\r\n"
    last = b"GET /-/healthy HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n"
    assert statuses(raw(serving, one * 50 + last)) == [200] * 51


def test_a_request_is_only_text_in_the_log(serving: Serving) -> None:
    injected = 'x"}\n{"event":"serve.access","user":"root"\r\n\x1b[2J'
    found = serving.ask("/api/v1/query", {"query": injected})
    assert found.status == 400
    assert serving.access(found.headers["x-request-id"])["query"].startswith("query=x")
    assert not [one for one in serving.accesses() if one.get("user") == "root"]
    assert "\x1b" not in serving.log.read_text()


# Clients that are slow, or many.


def test_clients_that_send_nothing_keep_nobody_out(serving: Serving) -> None:
    held = []
    try:
        for number in range(200):
            one = socket.create_connection(("127.0.0.1", serving.port), 30)
            if number % 2:
                one.sendall(b"GET / HTTP/1.1\r\nHost: local")
            held.append(one)
        assert answers(serving)
        open_now = len(os.listdir(f"/proc/{serving.pid}/fd"))
        assert open_now < 24 + 40, "connections that gave way are closed"
    finally:
        for one in held:
            one.close()


def test_a_request_that_never_ends_is_given_up(serving: Serving) -> None:
    begun = time.monotonic()
    found = raw(serving, b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nX: ")
    assert statuses(found) == [408]
    assert time.monotonic() - begun > 5
    found = raw(serving, b"POST /api/v1/query HTTP/1.1\r\n" + HOST + b"Content-Length: 100\r\n\r\nquery=")
    assert statuses(found) == [408]


def test_answers_that_nobody_takes_hold_up_nobody(serving: Serving) -> None:
    held = []
    try:
        for _ in range(20):
            one = socket.socket()
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            one.settimeout(30)
            one.connect(("127.0.0.1", serving.port))
            one.sendall((b"GET /metrics HTTP/1.1\r\n" + HOST + b"\r\n") * 200)
            held.append(one)
        assert answers(serving)
        assert resident(serving.pid) < 200 << 10
    finally:
        for one in held:
            one.close()


def test_clients_that_go_away_leave_nothing_behind(serving: Serving) -> None:
    before = len(os.listdir(f"/proc/{serving.pid}/fd"))
    for _ in range(100):
        with socket.create_connection(("127.0.0.1", serving.port), 30) as one:
            one.sendall(
                b"GET /api/v1/query?query=max_over_time(load_average_1m[1h:1s]) HTTP/1.1\r\n" + HOST + b"\r\n"
            )
    wait_for(lambda: answers(serving), 60, "an answer")
    wait_for(
        lambda: len(os.listdir(f"/proc/{serving.pid}/fd")) <= before + 3, 30, "all connections to be closed"
    )


# Queries that want everything.

EVERYTHING: dict[str, dict[str, Any]] = {
    "all series": {"query": '{__name__=~".+"}[1w]'},
    "all series, over time": {"query": 'sum({__name__=~".+"})', "start": 0, "end": 0, "step": 1},
    "nested subqueries": {"query": "max_over_time(" * 8 + "load_average_1m" + "[1w:1s])" * 8},
    "a deep expression": {"query": "(" * 5000 + "1" + ")" * 5000},
    "many operators": {"query": "+".join(["load_average_1m"] * 900)},
    "a long expression": {"query": "x" * 15_000 + "{"},
    "a cross product": {"query": 'count_values("a", {__name__=~".+"}) * on() group_left() {__name__=~".+"}'},
    "windows upon windows": {"query": "avg_over_time(cpu_user_seconds_total[2h])", "start": -86400, "end": 0, "step": 87},
    "a pattern that explodes": {"query": 'load_average_1m{hostname=~"(a*)*(b|b+)+c(x+x+)+y"}'},
    "a pattern that is large": {"query": 'load_average_1m{hostname=~"((((a{0,1000}){0,1000}){0,1000}){0,1000})"}'},
    "label_replace that explodes": {"query": 'label_replace({__name__=~".+"}, "a", "$1$1$1$1$1$1$1$1", "hostname", "(.*)(.*)(.*)(.*)")'},
    "a range of centuries": {"query": "up", "start": -9e11, "end": 0, "step": 1e9},
    "too many steps": {"query": "up", "start": -10000, "end": 0, "step": 1},
    "a step of a millisecond": {"query": "up", "start": -10, "end": 0, "step": 0.001},
    "an offset of centuries": {"query": "load_average_1m offset 200y"},
}  # fmt: skip


@pytest.mark.parametrize("name", EVERYTHING)
def test_a_query_that_wants_everything_is_answered_or_stopped(name: str, serving: Serving) -> None:
    asked = dict(EVERYTHING[name])
    path = "/api/v1/query"
    if "step" in asked:
        path, now = "/api/v1/query_range", time.time()
        asked |= {"start": now + asked["start"], "end": now + asked["end"]}
    found = serving.ask(path, asked, method="POST" if len(str(asked)) > 8000 else "GET", timeout=120)
    assert found.status in (200, 400, 422, 503), found.body[:300]
    if found.status != 200:
        assert found.json["error"]
        logged = serving.access(found.headers["x-request-id"])
        assert (logged["status"], logged["level"]) == (found.status, "warning")
    assert resident(serving.pid) < 250 << 10


def test_what_is_stopped_says_why(serving: Serving) -> None:
    now = time.time()
    for asked, status, type_, words in (
        ({"query": '{__name__=~".+"}[1w]'}, 422, "execution", "more than 30,000 samples into memory"),
        ({"query": "max_over_time(max_over_time(load_average_1m[5m:1s])[5m:1s])"}, 503, "timeout", "longer than 0.001 s"),
        ({"query": "up", "start": now - 11 * 86400, "end": now, "step": "1d"}, 400, "bad_data", "the time is longer than"),
        ({"query": "up", "start": now - 2000, "end": now, "step": "1s"}, 400, "bad_data", "exceeded maximum resolution"),
        ({"query": 'cpu_usage_percent or {__name__=~"[a-z].+"}', "start": now - 3000, "end": now, "step": "3s"}, 422, "execution", ""),
    ):  # fmt: skip
        more = {"timeout": "1ms"} if type_ == "timeout" else {}
        path = "/api/v1/query_range" if "step" in asked else "/api/v1/query"
        found = serving.ask(path, {**asked, **more})
        assert (found.status, found.json["errorType"]) == (status, type_), found.body[:300]
        assert words in found.json["error"]


def test_a_query_ends_when_its_client_goes_away(serving: Serving) -> None:
    """Both places are taken by queries that would last; with their clients gone, the next one has its turn at once."""
    query = "max_over_time(max_over_time(load_average_1m[5m:1s])[10m:1s])"
    held = []
    for _ in range(2):
        one = socket.create_connection(("127.0.0.1", serving.port), 30)
        one.sendall(f"GET /api/v1/query?query={query} HTTP/1.1\r\n".encode() + HOST + b"\r\n")
        held.append(one)
    for one in held:
        one.close()

    def logged() -> bool:
        return any(one.get("error") == "the client went away" for one in serving.accesses())

    assert answers(serving)
    wait_for(logged, 20, "the client that went away in the log")


# All at once, while an agent collects.


class Asked(NamedTuple):
    """A request, and what came back: status 0 and no id where the connection was closed instead."""

    path: str
    status: int
    id: str
    error: str


def test_two_hundred_at_once_miss_no_tick_and_each_refusal_is_logged(tmp_path: Path) -> None:
    def one(number: int) -> Asked:
        path, asked = {
            0: ("/api/v1/query", {"query": "rate(cpu_user_seconds_total[5m])"}),
            1: ("/metrics", {}),
            2: ("/api/v1/query", {"query": "max_over_time(load_average_1m[1h:1s])"}),
            3: ("/api/v1/labels", {}),
            4: ("/nowhere", {}),
            5: ("/api/v1/query", {"query": "sum("}),
            6: ("/api/v1/query", {"query": "max_over_time(load_average_1m[30h:1s])"}),
        }[number % 7]
        try:
            found = server.ask(path, asked, timeout=120)
        except OSError:
            return Asked(path, 0, "", "")
        error = found.json["error"] if found.status >= 400 else ""
        return Asked(path, found.status, found.headers["x-request-id"], error)

    with (
        Agent(tmp_path / "agent", [{"url": "http://127.0.0.1:1/none"}]) as agent,
        Serving(tmp_path, agent.data_dir, "limits: {duration: 500ms}") as server,
    ):
        wait_for(lambda: server.ask("/metrics").body, 60, "a first tick")
        first_id = server.ask("/-/healthy").headers["x-request-id"]
        with ThreadPoolExecutor(200) as pool:
            found = list(pool.map(one, range(700)))
        before = resident(server.pid)
        with ThreadPoolExecutor(200) as pool:
            found += list(pool.map(one, range(700)))
        assert resident(server.pid) < before + (64 << 10)
        statuses_of = Counter(asked.status for asked in found)
        assert set(statuses_of) <= {0, 200, 400, 404, 422, 503}
        assert statuses_of[200] > 300
        assert threading.active_count() < 50
        status = json.loads(server.ask("/api/v1/buffer").body)["data"]
        last_id = server.ask("/-/healthy").headers["x-request-id"]
        wait_for(lambda: last_id in {logged["request"] for logged in server.accesses()}, 30, "the last line")
        accesses = [one for one in server.accesses() if "path" in one]
    assert status["destinations"][0]["ledger"]["missed"] == 0
    ids = Counter(logged["request"] for logged in accesses)
    assert [id_ for id_, times in ids.items() if times > 1] == []
    by_id = {logged["request"]: logged for logged in accesses}
    assert by_id[first_id]["status"] == 200
    refused = [asked for asked in found if asked.status >= 400]
    assert len(refused) > 500
    for asked in refused:
        logged = by_id[asked.id]
        assert (logged["path"], logged["status"], logged["level"]) == (asked.path, asked.status, "warning")
        assert logged["error"] == asked.error
    # None is in the log that nobody got, but for those whose connection ended before.
    got = {asked.id for asked in refused}
    alone = [logged for id_, logged in by_id.items() if logged["status"] >= 400 and id_ not in got]
    assert len(alone) <= statuses_of[0]
