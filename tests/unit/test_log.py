"""The log: one line an event, names that are kept, and nothing imported that costs memory."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.system import log, words
from agent.system.events import Event

# Somebody alerts on these. A change here is a line in the changelog, under Changed or Removed.
EVENTS = {
    "agent": "reload_refused reloaded renamed started stopped stopping thread_died thread_stuck",
    "buffer": "append_failed append_recovered cursor_reset evicted forgotten restarting sheltered sync_failed "
    "thinned trimmed unsheltered",
    "clock": "believed doubted not_placed placed",
    "collector": "denied failed readable recovered stuck timed_out unreadable",
    "config": "warning",
    "schedule": "clock_stepped",
    "scrape": "duplicates failed recovered",
    "sender": "aged apart batch_halved budget_spent delivered drain_order failed first_delivered held protocol quarantine_failed quarantine_full quarantined refused rejected repeated resumed retry",
    "serve": "access access_log_failed failed reload_refused reloaded started stopped",
    "textfile": "failed recovered",
}

NOT_FOR_A_DAEMON = {
    "asyncio", "bcrypt", "google.protobuf", "greenlet", "hypothesis", "importlib.metadata", "markdown_it", "numpy",
    "pkg_resources", "psutil", "pygments", "pytest", "rich", "setuptools", "shtab", "sqlite3",
    "subprocess", "trustme",
}  # fmt: skip


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    yield
    structlog.reset_defaults()


def lines(out: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_the_names_of_events_are_kept() -> None:
    assert {str(event) for event in Event} == {
        f"{of}.{name}" for of, names in EVENTS.items() for name in names.split()
    }


def test_a_line_is_an_object_with_name_level_and_utc_time() -> None:
    out = io.StringIO()
    log.configure("info", "json", out)
    log.get().warning(Event.COLLECTOR_TIMED_OUT, collector="nfs", timeout_seconds=5.0)
    (line,) = lines(out)
    written = datetime.fromisoformat(line.pop("timestamp"))
    assert abs(datetime.now(UTC) - written) < timedelta(minutes=1)
    assert line == {
        "event": "collector.timed_out",
        "level": "warning",
        "collector": "nfs",
        "timeout_seconds": 5.0,
    }


def test_an_event_is_one_line_whatever_is_in_it() -> None:
    out = io.StringIO()
    log.configure("info", "json", out)
    log.get().error(Event.APPEND_FAILED, error='two\nlines, "quoted", \u2028 and \x1b[31m')
    assert out.getvalue().count("\n") == 1
    assert "\x1b" not in out.getvalue()
    assert lines(out)[0]["error"] == 'two\nlines, "quoted", \u2028 and \x1b[31m'


def test_an_exception_is_a_field() -> None:
    out = io.StringIO()
    log.configure("info", "json", out)
    try:
        raise ValueError("odd")
    except ValueError as error:
        log.get().critical(Event.THREAD_DIED, exc_info=(type(error), error, error.__traceback__))
    (line,) = lines(out)
    assert line["level"] == "critical"
    assert line["exception"].startswith("Traceback")
    assert line["exception"].endswith("ValueError: odd")


@pytest.mark.parametrize("level", ["debug", "info", "warning", "error"])
def test_what_is_below_the_level_is_not_written(level: str) -> None:
    out = io.StringIO()
    log.configure(level, "json", out)
    for each in log.LEVELS:
        getattr(log.get(), each)(each)
    names = list(log.LEVELS)
    assert [line["event"] for line in lines(out)] == names[names.index(level) :]


@pytest.mark.parametrize(
    ("style", "out", "is_json"),
    [
        ("auto", io.StringIO, True),
        ("auto", Terminal, False),
        ("json", Terminal, True),
        ("console", io.StringIO, False),
        ("journal", Terminal, False),
    ],
)
def test_console_is_for_terminals(style: str, out: type[io.StringIO], is_json: bool) -> None:
    written = out()
    log.configure("info", style, written)
    log.get().info(Event.STARTED, pid=7)
    text = written.getvalue()
    assert text.startswith("{") == is_json
    assert "agent.started" in text
    assert ("\x1b[" in text) == (isinstance(written, Terminal) and style == "auto")


@pytest.mark.parametrize("closed", ["2>/dev/full", "2>&-", "2>&- >&- <&-", "2> >(exec 2>&-; exit)"])
def test_a_log_that_cannot_be_written_is_lost_and_nothing_else(closed: str) -> None:
    code = """
from agent.system import log
import os, time
log.configure("info", "auto")
for _ in range(20):  # the reader may take a moment to go away
    log.get().error("buffer.append_failed", error="no space left")
    time.sleep(0.01)
assert os.open(os.devnull, os.O_RDONLY) > 2
"""
    shell = f'exec "$0" -c "$1" {closed}'
    done = subprocess.run(["bash", "-c", shell, sys.executable, code], check=False, timeout=20)
    assert done.returncode == 0


def test_a_log_that_nobody_reads_holds_nobody_up() -> None:
    code = """
from agent.system import log
import os
os.set_blocking(2, False)
try:
    while True:
        os.write(2, b"x")
except BlockingIOError:
    os.set_blocking(2, True)
log.configure("info", "json")
log.get().error("buffer.append_failed")
"""
    reader, writer = os.pipe()
    try:
        done = subprocess.run([sys.executable, "-c", code], stderr=writer, check=False, timeout=20)
    finally:
        os.close(reader)
        os.close(writer)
    assert done.returncode == 0


@pytest.mark.parametrize("style", ["json", "console", "auto", "journal"])
def test_the_journal_gets_the_priority(style: str) -> None:
    code = f"""
import os
found = os.fstat(2)
os.environ["JOURNAL_STREAM"] = f"{{found.st_dev}}:{{found.st_ino}}"
from agent.system import log
log.configure("debug", "{style}")
for say in ("debug", "info", "warning", "error", "critical"):
    getattr(log.get(), say)("agent.started", pid=7)
os.environ["JOURNAL_STREAM"] = "1:2"
log.configure("debug", "{style}")
log.get().error("agent.stopped")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    *told, other = done.stderr.splitlines()
    assert [line[:3] for line in told] == ["<7>", "<6>", "<4>", "<3>", "<2>"]
    assert (other[0] == "<") == (style == "journal")
    if style == "json":
        assert [json.loads(line[3:])["pid"] for line in told] == [7] * 5
    if style in ("auto", "journal"):
        assert {line[3:] for line in told} == {"Limpet runs as process 7 [agent.started]"}


def modules_after(statement: str) -> set[str]:
    code = f"{statement}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_what_limpet_run_imports_has_nothing_in_it_that_only_people_and_tests_need(tmp_path: Path) -> None:
    config = tmp_path / "limpet.yaml"
    config.write_text(f"data_dir: {tmp_path}\n")
    # The real command up to the call that would not return.
    modules = modules_after(f"""
from agent import process
from agent.cli.main import main
process.run = lambda *_: 0
assert main(["run", "--config", {str(config)!r}]) == 0
""")
    assert {"agent.process", "structlog", "yaml"} <= modules
    assert modules & NOT_FOR_A_DAEMON == set()


def test_the_log_brings_no_rich_and_leaves_it_importable() -> None:
    # It is installed, else this would prove nothing.
    assert "rich" in modules_after("import structlog")
    assert "rich" not in modules_after("import agent.system.log")
    assert "rich.table" in modules_after("import agent.system.log, rich.table")


def test_the_log_brings_no_greenlet_and_leaves_it_importable() -> None:
    # It is installed, else this would prove nothing.
    assert "greenlet" in modules_after("import structlog")
    assert "greenlet" not in modules_after("import agent.system.log")
    assert "greenlet._greenlet" in modules_after("import agent.system.log, greenlet")


def test_a_program_that_has_rich_already_keeps_it() -> None:
    assert "rich" in modules_after("import rich, agent.system.log")


def test_the_log_brings_no_asyncio_and_leaves_it_importable() -> None:
    assert "asyncio" not in modules_after("import agent.system.log")
    assert "asyncio.base_events" in modules_after("import agent.system.log, asyncio")
    assert "asyncio.base_events" in modules_after("import asyncio, agent.system.log")


FIELDS: dict[str, Any] = {
    "version": "1.2.3", "pid": 4711, "destinations": ["central", "far"], "changed": ["labels"], "was": "localhost",
    "hostname": "web-01", "problems": ["f.yaml:1: collect.interval: expected a duration"], "seconds": 90.0,
    "signal": "SIGTERM", "series_end": True, "thread": "lane-central", "text": "a url without a path",
    "back_seconds": 4000, "collector": "disk_usage", "timeout_seconds": 5.0, "mountpoint": "/mnt/nas",
    "error": "no space left", "job": "nginx", "instance": "127.0.0.1:9113", "duplicates": 3, "file": "/a.prom",
    "samples": 12345, "state": "full", "source": "unset", "estimated": 3, "upto": 1234567, "level": 2, "pending_samples": 1, "position": 7,
    "destination": "central", "url": "https://a/b", "bytes": 2048, "attempt": 3, "next_try_seconds": 36.0,
    "troubled_seconds": 7260, "item": "central-1", "limit": 500, "remote_write": "2.0", "order": "fresh_first",
    "address": "127.0.0.1:9147", "user": "grafana", "method": "GET", "path": "/metrics", "query": "query=up", "status": 200,
    "request": "5d413c0d-7",
}  # fmt: skip


def test_every_event_has_a_sentence_that_only_uses_fields_that_exist() -> None:
    """`FIELDS` has an example of each field, and a sentence with all of them has no gap."""
    assert set(words.SENTENCES) == set(Event)
    for event, parts in words.SENTENCES.items():
        used = set(re.findall(r"\{(\w+)\}", "".join(parts)))
        assert used <= FIELDS.keys() | {"device", "interface"}, event
        said = words.line(
            {"event": event, "level": "info"} | {key: FIELDS[key] for key in used & FIELDS.keys()}
        )
        assert said.endswith(f" [{event}]")
        assert not re.search(r"[{}]|  | [,;:]|None|True", said), said
        bare = words.line({"event": event, "level": "info"})
        assert not re.search(r"[{}]|^ |  |None", bare), bare


@pytest.mark.parametrize(
    ("event", "fields", "said"),
    [
        (
            Event.HELD,
            {"destination": "central", "error": "HTTP 401: check the user and password", "next_try_seconds": 36.0, "attempt": 1},
            "central held: HTTP 401: check the user and password; next try in 36 s",
        ),
        (
            Event.RETRY,
            {"destination": "a", "error": "no route", "next_try_seconds": 7.9, "attempt": 912, "troubled_seconds": 7200},
            "a waiting: no route; failed 912 times; nothing went for 2 h; next try in 7.9 s",
        ),
        (Event.APPEND_FAILED, {"samples": 1, "error": "x", "do": "Free space"}, "lost 1 sample, not written: x; to do: Free space"),
        (Event.COLLECTOR_UNREADABLE, {"collector": "disk_io", "device": "sda", "error": "EIO"}, "collector disk_io cannot read device sda: EIO"),
        (Event.STOPPING, {"signal": "SIGTERM", "series_end": False}, "stopping on SIGTERM"),
        (Event.STOPPING, {"signal": "SIGTERM", "series_end": True}, "stopping on SIGTERM, the series of this host end"),
        (Event.STOPPED, {"seconds": 0.2, "odd": [1, "b"]}, "stopped after 0.2 s, everything is on disk (odd: 1, b)"),
        (Event.RELOADED, {"changed": [], "destinations": ["a"]}, "the configuration was read again; it sends to a"),
    ],
)  # fmt: skip
def test_an_event_in_words(event: Event, fields: dict[str, Any], said: str) -> None:
    assert words.line({"event": event, "level": "info"} | fields) == f"{said} [{event}]"


@settings(max_examples=60)
@given(
    st.dictionaries(st.sampled_from([*FIELDS, "do", "odd"]), st.text() | st.floats() | st.lists(st.text()))
)
def test_an_event_in_words_is_one_line_whatever_is_in_it(fields: dict[str, Any]) -> None:
    for event in (Event.HELD, Event.AGED, Event.STARTED, "unknown\n<0>event"):
        said = words.line(fields | {"event": event, "level": "info"})
        assert said.isprintable()
        assert "\n" not in said


def test_each_line_of_a_traceback_has_the_priority() -> None:
    out = io.StringIO()
    log.configure("info", "journal", out)
    try:
        raise ValueError("odd")
    except ValueError as error:
        log.get().critical(
            Event.THREAD_DIED, thread="lane-a", exc_info=(type(error), error, error.__traceback__)
        )
    first, *rest = out.getvalue().splitlines()
    assert (
        first
        == "<2>a defect ended the thread lane-a: the agent stops, to be started again [agent.thread_died]"
    )
    assert rest[0] == "<2>Traceback (most recent call last):"
    assert rest[-1] == "<2>ValueError: odd"
    assert all(line.startswith("<2>") for line in rest)
