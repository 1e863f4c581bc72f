"""`limpet status` judges: by what was seen of an agent, one word, and what to do first. No agent runs here."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from agent.cli import overview
from agent.config import Config
from agent.ops import verdict
from agent.ops.seen import File, Seen
from agent.running import Note
from buffer.inspect.status import Status
from tests.unit.test_cli_show import destination, text

NOW = 1_800_000_000.0
MS = int(NOW * 1000)
DAY = 86_400
PATH = "/etc/limpet/limpet.yaml"
NOTE = Note(
    version="0.1.0",
    pid=812,
    boot_id="a" * 32,
    started_ms=MS - 3 * DAY * 1000,
    config=PATH,
    digest="a" * 64,
    loaded_ms=MS - DAY * 1000,
)
FILE = File(PATH, "a" * 64, config=Config(hostname="web-01"))
WELL = destination(
    "central", state="idle", pending_samples=0, lag_seconds=0.0, delivered_timestamp_ms=MS - 12_000
)
STATUS = Status(
    data_dir="/var/lib/limpet",
    bytes=24 << 20,
    max_bytes=256 << 20,
    segments=7,
    samples=1_000_000,
    bytes_per_sample=0.9,
    oldest_timestamp_ms=MS - DAY * 1000,
    newest_timestamp_ms=MS - 3000,
    writer_pid=812,
    disk_state="ok",
    unbuffered_samples=0,
    time_until_full_seconds=None,
    damaged_records=0,
    destinations=[WELL._replace(clock_skew_seconds=0.2)],
    free_bytes=12 << 30,
    volume_bytes=32 << 30,
    min_free_bytes=1 << 30,
)
SEEN = Seen(NOW, "/var/lib/limpet", FILE, STATUS, None, "limpet", NOTE, "a" * 32, service="there")
AWAY = SEEN._replace(status=STATUS._replace(writer_pid=None, disk_state=None))


def with_status(**changes: Any) -> Seen:
    return SEEN._replace(status=STATUS._replace(**changes))


def with_destination(**changes: Any) -> Seen:
    return with_status(destinations=[WELL._replace(**{"pending_samples": 5000, **changes})])


def with_note(**changes: Any) -> Seen:
    return SEEN._replace(note=replace(NOTE, **changes))


BOXES: dict[str, tuple[Seen, str, str, str]] = {
    # seen, the word, the part to act on first, what is said there or what is to be done
    "stopped": (AWAY._replace(note=replace(NOTE, ended_ms=MS - 60_000)), "stopped", "agent", "stopped 1 min ago"),
    "killed": (AWAY, "stopped", "agent", "process 812 died without a stop"),
    "restarted host": (AWAY._replace(boot_id="b" * 32), "stopped", "agent", "this host was restarted"),
    "service masked": (AWAY._replace(service="masked"), "stopped", "agent", "systemctl unmask limpet"),
    "crash-looping": (
        AWAY._replace(file=File(PATH, "b" * 64, "limpet.yaml:3: colect: unknown key.")),
        "stopped", "configuration", "colect: unknown key",
    ),
    "no service": (AWAY._replace(service=None), "stopped", "agent", f"limpet run --config {PATH}"),
    "copied card": (
        with_note(copied_ms=MS - 60_000), "attention", "agent", "its data_dir began on another machine (1 min ago)",
    ),
    "data_dir gone": (
        SEEN._replace(status=None, reason="missing", homeless=812),
        "attention", "agent", "process 812 runs, and its data_dir /var/lib/limpet is gone",
    ),
    "never run": (SEEN._replace(status=None, reason="missing", note=None), "stopped", "agent", "none has run"),
    "not reloaded": (
        SEEN._replace(file=FILE._replace(digest="b" * 64)), "attention", "configuration", "systemctl reload limpet",
    ),
    "refused": (
        with_note(refused_ms=MS - 60_000, problem="limpet.yaml:3: loud")._replace(
            file=File(PATH, "b" * 64, "limpet.yaml:3: loud")
        ),
        "attention", "configuration", f"limpet check-config {PATH}",
    ),
    "corrected, not reloaded": (
        with_note(refused_ms=MS - 60_000, problem="limpet.yaml:3: loud")._replace(
            file=FILE._replace(digest="b" * 64)
        ),
        "attention", "configuration", "a reload was refused 1 min ago",
    ),
    "another file": (with_note(config="/tmp/x.yaml"), "attention", "configuration", "runs with /tmp/x.yaml"),
    "held": (
        with_destination(state="held", last_error="HTTP 401: check the user and password", failed_tries=4,
                         next_try_timestamp_ms=MS + 36_000),
        "attention", "to central", "HTTP 401: check the user and password",
    ),
    "no link": (
        with_destination(state="waiting", last_error="no connection with r: no route to host",
                         lag_seconds=3900.0),
        "attention", "to central", "no route to host",
    ),
    "never delivered": (
        with_destination(state="waiting", last_error="connection refused", lag_seconds=11.0, delivered_timestamp_ms=None),
        "attention", "to central", "nothing was delivered yet",
    ),
    "full disk": (
        with_status(disk_state="full", free_bytes=1 << 20, unbuffered_samples=77, newest_timestamp_ms=MS - DAY * 1000),
        "attention", "kept", "1 MiB are free, less than buffer.min_free_space (1 GiB); 77 samples were kept in memory",
    ),
    "full disk, stopped": (
        AWAY._replace(status=STATUS._replace(writer_pid=None, free_bytes=0)), "stopped", "agent", "none runs",
    ),
    "read-only disk": (with_status(disk_state="readonly"), "attention", "kept", "the disk is read-only"),
    "wrong clock": (
        with_status(destinations=[WELL._replace(clock_skew_seconds=-400.0 * DAY, state="held", last_error="too old")]),
        "attention", "clock", "400 d behind the one of central",
    ),
    "clock not believed": (
        with_status(provisional_samples=1200), "attention", "clock",
        "it was not believed: 1,200 samples wait for their times",
    ),
    "clock set back": (
        with_status(newest_timestamp_ms=MS + 9 * DAY * 1000), "attention", "clock", "it was set back",
    ),
    "full soon": (with_status(time_until_full_seconds=3600.0), "attention", "kept", "full in 1 h"),
    "damage": (with_status(damaged_records=2), "attention", "kept", "limpet buffer verify"),
    "hangs": (with_status(newest_timestamp_ms=MS - 900_000), "attention", "collecting", "15 min old"),
    "a dead mount": (
        SEEN._replace(failing=("disk_usage (/net does not answer)",)), "attention", "collecting", "/net does not answer",
    ),
    "two with one name": (
        with_status(quarantine_items=2, quarantine_samples=9, quarantine_reasons=("duplicate",)),
        "attention", "refused", "Another sender has the same series: give one of them another hostname",
    ),
    "quarantine": (
        with_status(quarantine_items=2, quarantine_samples=9), "attention", "refused", "limpet buffer quarantine list",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BOXES)
def test_the_cause_and_the_action_come_first(name: str) -> None:
    seen, word, part, words = BOXES[name]
    found = verdict.parts(seen)
    assert verdict.word(seen, found) == word
    first = verdict.first(found)
    assert first is not None
    assert first.title == part
    assert words in f"{first.finding.said} {first.finding.do}"
    assert first.finding.do


@pytest.mark.parametrize("name", BOXES)
def test_nothing_is_cut_on_80_columns_and_24_lines(name: str) -> None:
    seen = BOXES[name][0]
    found = verdict.parts(seen)
    lines = text(overview.show(seen, found), 80).splitlines()
    assert len(lines) <= 24
    assert lines[0].startswith(BOXES[name][1])
    whole = re.sub(r"\s+", "", "".join(lines))
    first = verdict.first(found)
    assert first is not None
    assert first.finding.do is not None
    assert whole.endswith(re.sub(r"\s+", "", f"Do first: {first.title}: {first.finding.do}"))
    for one in found:
        assert re.sub(r"\s+", "", one.title) in whole


WELL_BOXES = {
    "a buffer that began just now": with_status(
        time_until_full_seconds=3600.0, oldest_timestamp_ms=MS - 60_000
    ),
    "well": SEEN,
    "an outage of a minute": with_destination(state="waiting", last_error="no route", lag_seconds=60.0),
    "catching up": with_destination(state="sending", lag_seconds=3000.0, drain_eta_seconds=8.0),
    "a removed destination": with_status(
        destinations=[WELL, WELL._replace(name="old", state="held", removed_timestamp_ms=1)]
    ),
    "a destination not tried yet": with_status(destinations=[WELL._replace(delivered_timestamp_ms=None)]),
    "without a configuration": SEEN._replace(file=None),
    "of another user": SEEN._replace(file=File(PATH, None, "cannot be read", is_denied=True)),
    "without a note": SEEN._replace(note=None),
    "with a note of another run": with_note(pid=7),
}


@pytest.mark.parametrize("name", WELL_BOXES)
def test_nothing_needs_doing(name: str) -> None:
    seen = WELL_BOXES[name]
    found = verdict.parts(seen)
    assert verdict.first(found) is None
    assert verdict.word(seen, found) == "ok"
    assert "Do first" not in text(overview.show(seen, found), 80)


def test_a_stranger_hears_whose_it_is() -> None:
    seen = SEEN._replace(status=None, reason="permission denied", note=None)
    found = verdict.parts(seen)
    assert verdict.word(seen, found) == "unknown"
    first = verdict.first(found)
    assert first is not None
    assert "belongs to limpet" in first.finding.said
    assert first.finding.do == "Run this as root, or as limpet."


def test_the_first_line_names_the_host_and_the_words_what_is_known(tmp_path: Path) -> None:
    seen = with_destination(
        state="held", last_error="HTTP 401", failed_tries=4, next_try_timestamp_ms=MS + 36_000
    )
    shown = text(overview.show(seen, verdict.parts(seen)))
    assert shown.splitlines()[0] == "attention  web-01  /var/lib/limpet"
    assert "process 812 runs since " in shown
    assert "(3 d ago), version 0.1.0" in shown
    assert "last delivery 12 s ago; 4 tries; next in 36 s" in shown
    assert "24 MiB of 256 MiB, 12 GiB are free on the volume" in shown
