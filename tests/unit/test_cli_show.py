"""The views: what is in them, that they fit, and that nothing in them is obeyed by a terminal."""

from __future__ import annotations

import re
from collections.abc import Mapping
from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from agent.cli import collect, quarantine_list, quarantine_show, querying, screen, segments, status, verify
from agent.cli.view import Table, View
from agent.ops.collect import Group
from buffer.inspect.segments import SegmentStatus
from buffer.inspect.status import Balance, DestinationStatus, Status
from buffer.inspect.verify import Verification, VerifiedCursor
from buffer.model import Series
from buffer.quarantine import Item

NOW = 1_750_000_000.0
HOST = {"hostname": "web-01", "role": "gateway"}


def text(view: View, columns: int = 200, *, is_narrow: bool = True, **console: Any) -> str:
    out = StringIO()
    Console(file=out, width=columns, highlight=False, markup=False, emoji=False, **console).print(
        screen.renderable(view), crop=False
    )
    lines = out.getvalue().splitlines()
    plain = [re.sub(r"\x1b\[[0-9;]*m", "", line).rstrip() for line in lines]
    assert all(len(line) <= columns or " " not in line.strip() for line in plain) or not is_narrow
    return "\n".join(line.rstrip() for line in lines)


def destination(name: str, *, ledger: Mapping[str, Any] = {}, **changes: Any) -> DestinationStatus:
    balance = Balance(1000, 600, 400, {"evicted": 0, "rejected": 0}, 0, 0.0)._replace(**ledger)
    usual = DestinationStatus(name, "sending", None, None, 400, 2048, 1, 3900.0, 12.0, balance)
    return usual._replace(**changes)


def found(*destinations: DestinationStatus, **changes: Any) -> Status:
    return Status(
        data_dir="/var/lib/limpet",
        bytes=128 << 20,
        max_bytes=256 << 20,
        segments=1,
        samples=1_234_567,
        bytes_per_sample=0.934,
        oldest_timestamp_ms=int((NOW - 7500) * 1000),
        newest_timestamp_ms=int((NOW - 3) * 1000),
        writer_pid=812,
        disk_state="ok",
        unbuffered_samples=0,
        time_until_full_seconds=90000.0,
        damaged_records=0,
        destinations=list(destinations),
    )._replace(**changes)


@pytest.mark.parametrize(("skew", "said"), [(-86400.0, "behind"), (90.0, "ahead of"), (4.0, ""), (None, "")])
def test_a_clock_that_differs_is_shown(skew: float | None, said: str) -> None:
    shown = " ".join(
        text(status.show(found(destination("central", clock_skew_seconds=skew)), NOW, 80), 80).split()
    )
    assert ("central: this host's clock is" in shown) is bool(said)
    assert f"{said} the receiver's" in shown or not said


def test_the_header() -> None:
    lines = text(status.show(found(), NOW, 80), 80).splitlines()
    rows = {line[:9].strip(): line[9:] for line in lines if line.strip()}
    assert rows["buffer"] == "/var/lib/limpet"
    assert rows["size"] == "█" * 12 + "░" * 12 + " 128 MiB of 256 MiB"
    assert rows["samples"] == "1.23 M in 1 segment, 0.93 bytes each"
    assert rows["oldest"].endswith(", 2 h 5 min ago")
    assert rows["newest"].endswith(", 3 s ago")
    assert rows["writer"] == "process 812"
    assert rows["full in"].startswith("1 d 1 h")
    assert "damage" not in rows
    assert "No destination" in lines[-1]


def test_an_ill_disk_is_shown_and_its_end() -> None:
    ill = text(status.show(found(disk_state="full", unbuffered_samples=300), NOW, 80), 80)
    assert "disk     full, 300 samples were kept in memory so far" in ill
    well = text(status.show(found(unbuffered_samples=300), NOW, 80), 80)
    assert "disk     ok, 300 samples were kept in memory so far" in well
    assert "disk  " not in text(status.show(found(), NOW, 80), 80)
    why = status.not_fresh(found(disk_state="full"), 2, NOW)
    assert why == "the newest sample is 3 s old: the disk is full, and newer ones are in memory"


def test_the_header_of_an_empty_buffer() -> None:
    empty = found(
        max_bytes=None,
        bytes=0,
        segments=0,
        samples=0,
        oldest_timestamp_ms=None,
        newest_timestamp_ms=None,
        writer_pid=None,
        damaged_records=2,
    )
    lines = text(status.show(empty, NOW, 80), 80).splitlines()
    assert "size     0 B" in lines
    assert "samples  0 in 0 segments" in lines
    assert "oldest   -" in lines
    assert "writer   not running" in lines
    assert "damage   2 stretches" in lines
    assert not any(line.startswith("full in") for line in lines)


def test_a_clock_that_was_set_back() -> None:
    view = status.show(found(newest_timestamp_ms=int((NOW + 60) * 1000)), NOW, 80)
    assert "1 min ahead of this clock" in text(view)


TWO = (
    destination("central", ledger={"missed": 3, "dropped": {"evicted": 5, "rejected": 0, "aged": 1}}),
    destination(
        "backup",
        state="held",
        last_error="HTTP 401: \x1b[2J\r\nwrong [red]password[/red]",
        drain_eta_seconds=None,
        ledger={"loss_ratio": 0.00123},
    ),
)


@pytest.mark.parametrize(("columns", "tables"), [(80, 2), (120, 1)])
def test_destinations(columns: int, tables: int) -> None:
    shown = text(status.show(found(*TWO), NOW, columns), columns)
    assert shown.count("destination ") == tables
    figures = [
        " ".join(line.split()) for line in shown.splitlines() if line.startswith(("central", "backup"))
    ]
    joined = " | ".join(figures)
    assert "central sending 400 2 KiB 1 h 5 min 12 s" in joined
    assert "backup held 400 2 KiB 1 h 5 min -" in joined
    assert "600 5 evicted 3 0 %" in joined
    assert "1 aged" in shown
    assert "600 0 0 0.123 %" in joined
    assert r"backup: HTTP 401: \x1b[2J\r\nwrong [red]password[/red]" in shown


def test_the_longest_names_and_numbers_fit() -> None:
    widest = destination(
        "d" * 64,
        pending_samples=10**12,
        pending_bytes=1 << 50,
        last_error="x" * 300,
        lag_seconds=5e7,
        ledger={"delivered": 10**12, "missed": 10**12, "dropped": {"evicted": 10**12}},
    )
    for columns in (80, 120):
        assert "1,000.00 G" in text(status.show(found(widest), NOW, columns), columns)


def test_colors_say_nothing_that_words_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    view = status.show(found(*TWO), NOW, 120)
    colored = text(view, 120, force_terminal=True, color_system="standard")
    assert "\x1b[31mheld" in colored
    monkeypatch.setenv("NO_COLOR", "1")
    plain = text(view, 120, force_terminal=True, color_system="standard")
    assert not re.search(r"\x1b\[3[0-7]m", plain)
    assert re.sub(r"\x1b\[[0-9;]*m", "", colored) == re.sub(r"\x1b\[[0-9;]*m", "", plain)


def test_a_destination_that_was_removed() -> None:
    shown = text(status.show(found(destination("old", removed_timestamp_ms=int(NOW * 1000))), NOW, 120))
    assert re.search(r"^old: not in the configuration since 2025-06-1\d", shown, re.MULTILINE)


def test_segments() -> None:
    files = [
        SegmentStatus("00000000000000000000.seg", 1, 0, 600, 4096, 50, 2, 100, 1, 2, 1, 30),
        SegmentStatus("00000000000000000600.seg", 0, 600, 600, 0, 0, 0, 0, None, None, 0, 0),
    ]
    lines = [" ".join(line.split()) for line in text(segments.show(files)).splitlines()]
    assert lines[1].startswith("0 4 KiB 1 min 50 2 100 19")
    assert lines[1].endswith(" 1")
    assert lines[2] == "600 0 B full 0 0 0 - - 0"
    assert lines[3] == "2 segments, 4 KiB, 100 samples"
    assert text(segments.show([])).splitlines()[-1] == "0 segments, 0 B, 0 samples"


def series(name: str, unit: str = "", kind: str = "gauge", **labels: str) -> Series:
    return Series(name, tuple(sorted({**HOST, **labels}.items())), kind, unit, "help")


GROUPS = [
    Group(
        "cpu",
        [
            (series("cpu_usage_percent", "percent", core="all"), 12.5),
            (series("cpu_usage_per_core_percent", "percent", core="0"), 5.0),
            (series("cpu_usage_per_core_percent", "percent", core="1"), 20.0),
            (series("cpu_user_seconds_total", "seconds", "counter"), 100.0),
        ],
    ),
    Group("disk_usage", [], "it takes longer than 5 s, and was left behind"),
    Group(
        "network",
        [
            (series("network_connections", family="tcp4", state="in_use"), 1.0),
            (series("network_connections", family="tcp6", state="in_use"), 2.0),
            (series("network_connections", family="tcp6", state="other"), 3.0),
            (series("network_bytes_sent_per_sec", "bytes_per_sec", interface="e\x1bvil"), 2048.0),
        ],
    ),
]


def test_readings() -> None:
    shown = text(collect.show(GROUPS, HOST, 200))
    lines = [" ".join(line.split()) for line in shown.splitlines()]
    assert lines[0] == "web-01 role=gateway"
    assert "cpu_usage_percent core=all 12.5 %" in lines
    assert "cpu_user_seconds_total 100 s" in lines
    assert "disk_usage it takes longer than 5 s, and was left behind" in lines
    assert "network_connections family=tcp6, state=other 3" in lines
    assert r"network_bytes_sent_per_sec interface=e\x1bvil 2 KiB/s" in lines
    assert shown.count("gateway") == 1


def test_the_live_view_has_a_row_for_each_metric() -> None:
    lines = [" ".join(line.split()) for line in text(collect.show_live(GROUPS, HOST, 40)).splitlines()]
    assert "cpu_usage_percent all 12.5 %" in lines
    assert "cpu_usage_per_core_percent 0 5 % 1 20 %" in lines
    assert "cpu_user_seconds_total 100 s" in lines
    assert "disk_usage it takes longer than 5 s, and was left behind" in lines
    assert "network_connections tcp4/in_use 1 tcp6/in_use 2 tcp6/other 3" in lines
    assert not any("Not shown" in line for line in lines)


@pytest.mark.parametrize("lines", [1, 5, 10, 11, 12, 13, 40])
def test_the_live_view_fits_and_counts_what_does_not(lines: int) -> None:
    shown = text(collect.show_live(GROUPS, HOST, lines), 80).splitlines()
    assert len(shown) <= max(lines, 4)
    rows = len(shown) - 2 - any("Not shown" in line for line in shown)
    note = " ".join(shown[-1].split())
    hidden = sum(int(number) for number in re.findall(r"(\d+) (?:counter|metric)", note))
    assert rows + hidden == 8
    assert hidden != 1 or note == "Not shown here: 1 counter."


LONG = "a-destination-with-a-name-that-is-as-long-as-a-name-may-be-" + "x" * 5
METRIC = "an_exporter_with_a_long_name_and_a_metric_of_it_with_a_longer_one_total"


def long_views(columns: int) -> dict[str, tuple[View, list[str]]]:
    """By command a view with long names, and what has to be in one piece."""
    item = Item(
        id=f"{LONG}-{'0' * 20}", destination=LONG, refused_at_ms=int(NOW * 1000), reason="rejected", code=400,
        message="label value too long " * 8, samples=12_345_678, bytes=1 << 22,
        oldest_timestamp_ms=int(NOW * 1000), newest_timestamp_ms=int(NOW * 1000),
    )  # fmt: skip
    one = series(METRIC, mountpoint="/srv/a/rather/long/path/as/people/have/them", role="gateway")
    named = 'mountpoint="/srv/a/rather/long/path/as/people/have/them"'
    path = f"/srv/{'deep/' * 20}limpet"
    whole = found(destination(LONG, last_error=f"open {path}: denied"), data_dir=path)
    cursors = [VerifiedCursor(LONG, 7, "its position is behind the end of the log")]
    return {
        "status": (status.show(whole, NOW, columns), [LONG, path, f"{path}:"]),
        "segments": (segments.show([SegmentStatus("0" * 12 + "12345678.seg", 1, 0, 1, 1 << 22, 1000, 9, 10**6, 1, 2, 0, 0)]), ["12345678"]),
        "quarantine list": (quarantine_list.show([item]), [item.id]),
        "quarantine show": (quarantine_show.show(item, {one: [(1, 2.0)]}), [item.id, LONG, METRIC, named]),
        "verify": (verify.show(Verification([], [], cursors, []), running=False), [LONG]),
        "collect": (collect.show([Group("scrape", [(one, 1e12)])], HOST, columns), [METRIC]),
    }  # fmt: skip


@pytest.mark.parametrize("columns", [40, 80, 109, 200])
def test_what_may_be_copied_is_in_one_piece(columns: int) -> None:
    for command, (view, pieces) in long_views(columns).items():
        shown = text(view, columns, is_narrow=False).split()
        for piece in pieces:
            assert any(piece in word for word in shown), (command, piece)


def test_a_table_without_room_is_a_block_for_each_row() -> None:
    table = Table("name, >size, *words", [("a" * 30, "1 KiB", "some words"), ("b", "2 KiB", "")])
    assert text([table], 80).splitlines()[1] == "a" * 30 + "  1 KiB  some words"
    assert text([table], 45).splitlines() == [
        "name " + "a" * 30,
        "  size 1 KiB",
        "  words some words",
        "name b",
        "  size 2 KiB",
    ]


def test_words_at_the_end_of_a_table_are_folded_between_words() -> None:
    table = Table("name, *words", [("a", "one two three four five six seven eight nine ten")])
    assert text([table], 40).splitlines() == [
        "name  words",
        "a     one two three four five six seven",
        "      eight nine ten",
    ]


def test_the_live_view_has_the_first_rows_of_each_collector() -> None:
    many = [Group(name, [(series(f"{name}_{i}"), 1.0) for i in range(12)]) for name in "abcde"]
    shown = text(collect.show_live([*many, Group("f", [])], HOST, 21), 80)
    assert [sum(f"{name}_" in line for line in shown.splitlines()) for name in "abcde"] == [3, 2, 2, 2, 2]
    assert re.search("^f$", shown, re.MULTILINE)


@pytest.mark.parametrize(("total", "rows"), [(0.0, 0), (1024.0, 2)])
def test_a_swap_that_is_not_there_has_no_rows_in_the_live_view(total: float, rows: int) -> None:
    memory = Group("memory", [(series("swap_total_bytes"), total), (series("swap_usage_percent"), 0.0)])
    assert text(collect.show_live([memory], HOST, 40)).count("swap_") == rows
    assert text(collect.show([memory], HOST, 80)).count("swap_") == 2, "the table has every series"


@pytest.mark.parametrize(
    "span_ms", [1, 9_000, 60_000, 3_600_000, 86_400_000, 365 * 86_400_000, 100 * 365 * 86_400_000]
)
def test_a_chart_ends_where_its_time_ends(span_ms: int) -> None:
    until = 1_790_000_007_000
    found = querying.steps(until - span_ms, until, None)
    assert 1 <= len(found.times) <= querying.POINTS + 1
    assert until - span_ms <= found.times[0]
    assert until - 10_000 < found.times[-1] <= until
    assert found.times[0] - (until - span_ms) < found.step_ms
