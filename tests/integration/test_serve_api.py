"""`limpet serve` answers as a real Prometheus with the same samples does: data, statuses, types of errors, shapes."""

from __future__ import annotations

import json
import re
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode

import pytest

from agent.serve.app import ROUTES
from buffer.model import Instant, Series, Tick
from tests.bench import replay
from tests.support import queried
from tests.support.prometheus import Prometheus
from tests.support.queried import END_MS, START_MS
from tests.support.serving import Answered, Serving, fill

START, END = START_MS // 1000, END_MS // 1000
AT = START + 1800
Asked = tuple[str, list[tuple[str, object]]]
RANGE = [("start", START + 600), ("end", START + 1800), ("step", 30)]

THE_SAME: tuple[Asked, ...] = (
    ("query", [("query", "requests_total"), ("time", AT)]),
    ("query", [("query", "requests_total[2m]"), ("time", AT)]),
    ("query", [("query", "sum by (job) (rate(requests_total[5m]))"), ("time", f"{AT}.125")]),
    ("query", [("query", "42"), ("time", AT)]),
    ("query", [("query", '"text"'), ("time", AT)]),
    ("query", [("query", "nothing_there"), ("time", AT)]),
    ("query", [("query", "requests_total"), ("time", "2023-11-14T22:43:20.5Z")]),
    ("query", [("query", "requests_total"), ("time", "2023-11-14T23:43:20+01:00")]),
    ("query", [("query", "special"), ("time", AT)]),
    ("query_range", [("query", "temperature"), *RANGE]),
    ("query_range", [("query", "special"), *RANGE]),
    ("query_range", [("query", "time()"), *RANGE]),
    ("query_range", [("query", "temperature"), ("start", AT), ("end", AT), ("step", "15s")]),
    ("query_range", [("query", "7"), ("start", AT), ("end", AT), ("step", 1)]),
    (
        "query_range",
        [("query", "rate(requests_total[5m])"), ("start", START), ("end", END), ("step", "1m30s")],
    ),
    ("series", [("match[]", "requests_total")]),
    (
        "series",
        [
            ("match[]", 'requests_total{job="api"}'),
            ("match[]", "temperature"),
            ("start", START),
            ("end", END),
        ],
    ),
    ("series", [("match[]", "requests_total"), ("start", END + 9000), ("end", END + 9001)]),
    ("series", [("match[]", '{__name__="odd:name"}')]),
    ("labels", []),
    ("labels", [("match[]", "latency_bucket")]),
    ("label/job/values", []),
    ("label/job/values", [("match[]", 'team_info{team="north"}')]),
    ("label/__name__/values", [("match[]", '{job="web"}')]),
    ("label/nowhere/values", []),
    ("label/U__x_2E_y/values", []),
    ("format_query", [("query", "SUM(rate(requests_total{job='api'}[5m])) BY(job) # a comment")]),
    ("format_query", [("query", f"{' + '.join(['requests_total'] * 12)}")]),
    # What is refused.
    ("format_query", []),
    ("format_query", [("query", "sum(")]),
    ("query", []),
    ("query", [("query", "")]),
    ("query", [("query", "sum(")]),
    ("query", [("query", "up"), ("time", "yesterday")]),
    ("query", [("query", "up"), ("timeout", "x")]),
    ("query", [("query", "up"), ("limit", "-1")]),
    ("query", [("query", "requests_total * on () temperature"), ("time", AT)]),
    ("query", [("query", "label_replace(requests_total, 'job', 'x', '', '')"), ("time", AT)]),
    ("query_range", [("query", "up")]),
    ("query_range", [("query", "up"), ("start", AT), ("end", AT - 1), ("step", 1)]),
    ("query_range", [("query", "up"), ("start", AT), ("end", AT), ("step", 0)]),
    ("query_range", [("query", "up"), ("start", AT), ("end", AT), ("step", -1)]),
    ("query_range", [("query", "up"), ("start", AT), ("end", AT), ("step", "x")]),
    ("query_range", [("query", "up"), ("start", 0), ("end", 11000), ("step", 1)]),
    ("query_range", [("query", "up"), ("start", 0), ("end", 11001), ("step", 1)]),
    ("query_range", [("query", "up[5m]"), *RANGE]),
    ("query_range", [("query", "'text'"), *RANGE]),
    ("series", []),
    ("series", [("match[]", "{")]),
    ("series", [("match[]", '{job=~".*"}')]),
    ("series", [("match[]", "up"), ("start", AT), ("end", AT - 1)]),
    ("labels", [("start", "x")]),
    ("labels", [("match[]", "{}")]),
)


class Both(NamedTuple):
    """A Prometheus and `limpet serve`, with the same samples."""

    theirs: Prometheus
    ours: Serving


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory, prometheus_program: Path) -> Iterator[Both]:
    stored, folder = queried.stored(), tmp_path_factory.mktemp("serve")
    config = folder / "own.yml"
    config.write_text("global: {evaluation_interval: 1m}")
    fill(folder / "data", queried.by_series())
    with (
        Prometheus(prometheus_program, folder, config=config) as theirs,
        Serving(folder / "ours", folder / "data") as ours,
    ):
        queried.send(theirs, stored)
        yield Both(theirs, ours)


def of_prometheus(server: Prometheus, path: str, asked: list[tuple[str, object]]) -> tuple[int, Any]:
    try:
        with urllib.request.urlopen(f"{server.url}{path}?{urlencode(asked)}", timeout=30) as found:
            return found.status, json.load(found)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def rounded(found: Any) -> Any:
    """Return a document with numbers that compare: the last digits of a float may differ."""
    if isinstance(found, dict):
        return {key: rounded(value) for key, value in found.items()}
    if isinstance(found, list):
        return [rounded(one) for one in found]
    try:
        return float(f"{float(found):.10g}") if isinstance(found, str) and found != "NaN" else found
    except ValueError:
        return found


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_the_answers_are_those_of_prometheus(both: Both, method: str) -> None:
    wrong = []
    for path, asked in THE_SAME:
        whole = f"/api/v1/{path}"
        if method == "POST" and path.startswith("label/"):
            continue
        status, theirs = of_prometheus(both.theirs, whole, asked)
        ours = both.ours.ask(whole, asked, method=method)
        assert ours.headers["content-type"] == "application/json"
        found = ours.json
        if "error" in theirs:
            assert found.pop("error")
            del theirs["error"]
        theirs.pop("infos", None)
        theirs.pop("warnings", None)
        if path == "query":
            order = lambda one: sorted(one["metric"].items())  # noqa: E731
            for document in (theirs, found):
                if document.get("data", {}).get("resultType") in ("vector", "matrix"):
                    document["data"]["result"].sort(key=order)
        if path == "series" and "data" in theirs:
            theirs["data"].sort(key=lambda one: sorted(one.items()))
        if (status, rounded(theirs)) != (ours.status, rounded(found)):
            wrong.append(f"{path} {asked}:\n  {status} {theirs}\n  {ours.status} {found}"[:1500])
    assert not wrong, "\n".join(wrong)


def test_a_limit_leaves_out_and_says_so(both: Both) -> None:
    for path, asked in (
        ("query", [("query", "temperature"), ("time", AT)]),
        ("series", [("match[]", "temperature")]),
        ("labels", []),
    ):
        found = both.ours.ask(f"/api/v1/{path}", [*asked, ("limit", 2)]).json
        listed = found["data"]["result"] if path == "query" else found["data"]
        assert (len(listed), found["warnings"]) == (2, ["results truncated due to limit"])


# A host, as it is now.


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    folder = tmp_path_factory.mktemp("host")
    recording = replay.load()
    replay.fill(
        folder / "data", replay.repeated(recording, recording.samples, round(time.time() * 1000)), ["central"]
    )
    with Serving(folder, folder / "data") as server:
        yield server


def test_every_answer_has_the_headers_that_keep_a_browser_safe(serving: Serving) -> None:
    for path in ("/", "/index.html", "/metrics", "/api/v1/buffer", "/nowhere", "/api/v1/query"):
        headers = serving.ask(path).headers
        assert headers["content-security-policy"].startswith("default-src 'self';"), path
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["referrer-policy"] == "no-referrer"
        assert "access-control-allow-origin" not in headers
        assert "server" not in headers


def test_the_page_is_there_and_is_known_again(serving: Serving) -> None:
    first = serving.ask("/")
    assert first.headers["content-type"] == "text/html; charset=utf-8"
    assert b"<!doctype html>" in first.body
    assert serving.ask("/index.html").body == first.body
    again = serving.ask("/", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status, again.body) == (304, b"")


def test_a_requested_path_is_looked_up_and_never_a_file(serving: Serving) -> None:
    for path in (
        *("/../limpet.yaml", "/..%2flimpet.yaml", "/%2e%2e/limpet.yaml", "/etc/passwd", "//etc/passwd"),
        *("/index.html/", "/./index.html", "/index.html%00", "/app.py", "/__init__.py", "/page/index.html"),
        *("/api/v1/label//values", "/api/v1/query/", "/API/V1/query"),
        "/" + "a" * 5000,
    ):
        assert serving.ask(path).status == 404, path


def test_a_method_that_a_path_does_not_take_is_refused(serving: Serving) -> None:
    for path, method, status in (
        ("/api/v1/query", "DELETE", 405),
        ("/api/v1/query", "OPTIONS", 405),
        ("/metrics", "POST", 405),
        ("/", "PUT", 405),
        ("/nowhere", "PUT", 404),
    ):
        answered = serving.ask(path, method=method)
        assert answered.status == status, (path, method)
        assert status != 405 or "GET" in answered.headers["allow"]
    head = serving.ask("/metrics", method="HEAD")
    assert (head.status, head.body) == (200, b"")
    assert int(head.headers["content-length"]) > 1000


def test_a_name_of_a_stranger_does_not_lead_here(serving: Serving) -> None:
    for host, status in (
        *(("localhost", 200), ("localhost:1", 200), ("127.0.0.1", 200), ("[::1]:80", 200), ("10.0.0.7", 200)),
        *(("evil.example", 421), ("127.0.0.1.evil.example", 421), ("localhost.", 421), ("a b", 421)),
    ):
        assert serving.ask("/api/v1/labels", headers={"Host": host}).status == status, host


def test_an_answer_is_packed_for_those_who_take_it(serving: Serving) -> None:
    import gzip

    plain = serving.ask("/metrics")
    packed = serving.ask("/metrics", headers={"Accept-Encoding": "gzip, deflate"})
    assert packed.headers["content-encoding"] == "gzip"
    assert len(packed.body) < len(plain.body) / 4
    assert gzip.decompress(packed.body) == plain.body


def test_an_answer_does_not_wait_until_its_beginning_is_acknowledged(serving: Serving) -> None:
    """A kernel acknowledges after 40 ms what it has nothing to answer to."""
    took = []
    connection = serving.connection()
    try:
        for _ in range(40):
            begun = time.monotonic()
            connection.request("GET", "/-/healthy")
            connection.getresponse().read()
            took.append(time.monotonic() - begun)
    finally:
        connection.close()
    assert sorted(took)[20] < 0.03


def test_the_host_says_how_it_is(serving: Serving) -> None:
    buffer = serving.ask("/api/v1/buffer").json["data"]
    assert [one["name"] for one in buffer["destinations"]] == ["central"]
    assert buffer["verdict"]["word"] == "stopped"
    collectors = {one["name"]: one for one in serving.ask("/api/v1/collectors").json["data"]["collectors"]}
    assert collectors["cpu"]["series"] > 2
    assert abs(collectors["cpu"]["newest_timestamp_ms"] - time.time() * 1000) < 300_000
    known = serving.ask("/api/v1/metadata").json["data"]
    assert known["memory_total_bytes"][0]["type"] == "gauge"
    assert known["memory_total_bytes"][0]["help"]
    assert list(serving.ask("/api/v1/metadata", {"metric": "load_average_1m"}).json["data"]) == [
        "load_average_1m"
    ]
    assert serving.ask("/api/v1/status/buildinfo").json["data"]["application"] == "limpet"
    forecast = serving.ask("/api/v1/forecast").json["data"]
    (root,) = [one for one in forecast["file_systems"] if one["labels"]["mountpoint"] == "/"]
    assert root["free_bytes"] > 0


def test_the_description_has_every_route(serving: Serving) -> None:
    described = serving.ask("/api/openapi.json").json["paths"]
    assert set(described) - {"/api/v1/label/{name}/values"} == set(ROUTES) - {"/api/openapi.json"}
    for path, operations in described.items():
        methods = {one.upper() for one in operations if one in ("get", "post")}
        route = ROUTES.get(path)
        assert route is None or methods == set(route.methods) - {"HEAD"}, path


def test_every_request_is_in_the_log_once(serving: Serving) -> None:
    ids = [
        serving.ask("/api/v1/query", {"query": "load_average_1m", "time": 5}).headers["x-request-id"],
        serving.ask("/nowhere").headers["x-request-id"],
    ]
    asked, refused = (serving.access(id_) for id_ in ids)
    assert (asked["address"], asked["method"], asked["path"]) == ("127.0.0.1", "GET", "/api/v1/query")
    assert (asked["query"], asked["status"], asked["level"]) == ("query=load_average_1m&time=5", 200, "info")
    assert asked["bytes"] > 50
    assert asked["seconds"] >= 0
    assert (refused["status"], refused["level"], refused["error"]) == (
        404,
        "warning",
        "there is nothing here",
    )


def test_what_is_appended_meanwhile_is_seen(tmp_path: Path) -> None:
    from buffer.buffer import Buffer
    from buffer.limits import Limits

    one = (Series("load_average_1m", (("hostname", "a"),)),)

    def tick(value: float) -> list[Tick]:
        now = round(time.time() * 1000)
        return [Tick(Instant(now, now, "0" * 32), "load", one, (value,))]

    def shown() -> list[str]:
        lines = server.ask("/metrics").body.decode().splitlines()
        return [line.rpartition(" ")[2] for line in lines if not line.startswith("#")]

    with (
        closing(Buffer(str(tmp_path / "data"), Limits(), ())) as buffer,
        Serving(tmp_path, tmp_path / "data") as server,
    ):
        assert shown() == []
        for value in (1.0, 2.0, 3.0):
            buffer.append(tick(value))
            assert shown() == [str(value)]


def test_damage_is_named_in_the_answer(tmp_path: Path) -> None:
    one = Series("load_average_1m", (("hostname", "a"),))
    fill(tmp_path / "data", [(one, [(START_MS + 10_000 * n, float(n)) for n in range(2000)])])
    (segment,) = (tmp_path / "data" / "segments").iterdir()
    data = bytearray(segment.read_bytes())
    data[len(data) // 2] ^= 0xFF
    segment.write_bytes(data)
    asked = {"query": "count_over_time(load_average_1m[10h])", "time": START + 30_000}
    with Serving(tmp_path / "ours", tmp_path / "data") as server:
        answered = server.ask("/api/v1/query", asked)
        assert answered.status == 200
        assert 0 < float(answered.json["data"]["result"][0]["value"][1]) < 2000
        (said,) = answered.json["warnings"]
        assert re.match(r"\d+ stretch(es)? of damage passed over, so samples may be missing", said)
        for path in ("series", "labels", "label/hostname/values"):
            answered = server.ask(f"/api/v1/{path}", {"match[]": "load_average_1m"})
            assert answered.status == 200
            assert answered.json["data"]


def test_what_was_read_before_it_was_damaged_is_answered_from_memory(tmp_path: Path) -> None:
    """Nothing looks at it again before it is read again, so the answer is whole and right, and names no damage."""
    one = Series("load_average_1m", (("hostname", "a"),))
    fill(tmp_path / "data", [(one, [(START_MS + 10_000 * n, float(n)) for n in range(2000)])])
    (segment,) = (tmp_path / "data" / "segments").iterdir()
    asked = {"query": "count_over_time(load_average_1m[10h])", "time": START + 30_000}
    with Serving(tmp_path / "ours", tmp_path / "data") as server:
        before = server.ask("/api/v1/query", asked).body
        data = bytearray(segment.read_bytes())
        data[len(data) // 2] ^= 0xFF
        segment.write_bytes(data)
        assert server.ask("/api/v1/query", asked).body == before
    with Serving(tmp_path / "ours", tmp_path / "data") as server:
        assert server.ask("/api/v1/query", asked).json["warnings"]


def test_a_buffer_that_is_not_there_is_said_and_awaited(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    with Serving(tmp_path, tmp_path / "data") as server:
        assert server.ask("/-/ready").status == 200
        (tmp_path / "data").rmdir()
        assert server.ask("/-/healthy").status == 200
        answered: Answered = server.ask("/-/ready")
        assert (answered.status, answered.json["errorType"]) == (503, "unavailable")
        (tmp_path / "data").mkdir()
        assert server.ask("/-/ready").status == 200
