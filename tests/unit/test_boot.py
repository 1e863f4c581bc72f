"""Why a host was booted: what the system left is read from folders that are handed in, and may be anybody's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent import running
from agent.system.boot import LARGEST, MOST, RECORDS, WATCHDOG, Before, Reason, found

RAN = Before(shut_down=False, ended=False, records=())
PANIC = "Panic#1 Part1\n<0>[ 12.3] Kernel panic - not syncing: Fatal exception\n"
NO_MEMORY = "Panic#1 Part1\n<0>[ 12.3] Kernel panic - not syncing: Out of memory: system-wide panic_on_oom\n"
OOPS = "Oops#1 Part1\n<1>[ 12.3] BUG: kernel NULL pointer dereference\n"


def put(root: Path, path: str, text: str) -> Path:
    file = Path(f"{root}{path}")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def reason(root: Path, before: Before | None = RAN) -> Reason:
    return found(before, str(root)).reason


def test_nothing_at_all(tmp_path: Path) -> None:
    assert found(None, str(tmp_path)) == (Reason.UNKNOWN, [])
    assert reason(tmp_path) is Reason.POWER_LOSS
    assert reason(tmp_path, RAN._replace(ended=True)) is Reason.UNKNOWN
    assert reason(tmp_path, RAN._replace(ended=True, shut_down=True)) is Reason.CLEAN


@pytest.mark.parametrize("path", [f"{RECORDS[0]}/dmesg-ramoops-0", f"{RECORDS[1]}/1800000000/001/dmesg.txt"])
def test_a_record_of_the_kernel(tmp_path: Path, path: str) -> None:
    put(tmp_path, path, PANIC)
    assert reason(tmp_path) is Reason.PANIC
    assert reason(tmp_path, RAN._replace(ended=True)) is Reason.PANIC
    put(tmp_path, path, NO_MEMORY)
    assert reason(tmp_path) is Reason.OOM
    put(tmp_path, path, OOPS)
    assert reason(tmp_path) is Reason.POWER_LOSS
    put(tmp_path, path, "Out of memory: Killed process 1\n" + PANIC.replace("panic", "pan"))
    assert reason(tmp_path) is Reason.PANIC


def test_a_record_counts_for_one_boot(tmp_path: Path) -> None:
    put(tmp_path, f"{RECORDS[0]}/dmesg-efi-1", PANIC)
    first = found(RAN, str(tmp_path))
    again = RAN._replace(records=first.records)
    assert (first.reason, reason(tmp_path, again)) == (Reason.PANIC, Reason.POWER_LOSS)
    put(tmp_path, f"{RECORDS[0]}/dmesg-efi-2", PANIC)
    assert reason(tmp_path, again) is Reason.PANIC


def test_the_watchdog(tmp_path: Path) -> None:
    for text, expected in (
        ("32\n", Reason.WATCHDOG),
        ("48", Reason.WATCHDOG),
        ("0\n", Reason.POWER_LOSS),
        ("1\n", Reason.POWER_LOSS),
        ("-32", Reason.POWER_LOSS),
        ("\u0663\u0662", Reason.POWER_LOSS),
        ("9" * 5000, Reason.POWER_LOSS),
    ):
        put(tmp_path, WATCHDOG, text)
        assert reason(tmp_path) is expected, text
    put(tmp_path, WATCHDOG, "32")
    put(tmp_path, f"{RECORDS[0]}/dmesg-1", PANIC)
    assert reason(tmp_path) is Reason.PANIC  # after which the watchdog has reset it


def test_the_folder_of_records_may_hold_anything(tmp_path: Path) -> None:
    folder = put(tmp_path, f"{RECORDS[0]}/other", PANIC).parent
    os.mkfifo(folder / "dmesg-fifo")
    (folder / "dmesg-link").symlink_to(folder / "other")
    (folder / "dmesg-folder").mkdir()
    (folder / "loop").symlink_to(folder)
    (folder / "dmesg-large").write_bytes(b"x" * (LARGEST + 1) + PANIC.encode())
    (folder / "dmesg-\udcff").write_bytes(b"\xff" * 100)
    assert reason(tmp_path) is Reason.POWER_LOSS
    for n in range(10 * MOST):
        (folder / f"dmesg-{n}").write_text(OOPS)
    assert len(found(RAN, str(tmp_path)).records) <= MOST


class Host:
    """A data_dir on a host that boots."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.boot = folder, 0

    def start(self, kept_ms: int = 0) -> running.Keeper:
        keeper = running.Keeper(
            str(self.folder), f"{self.boot:032x}", "f", "a", kept_ms=kept_ms, root=str(self.folder)
        )
        keeper.write()
        return keeper


def test_boots_are_counted_over_restarts_of_the_agent(tmp_path: Path) -> None:
    host = Host(tmp_path)
    assert host.start().note.boots == {"unknown": 1}
    assert host.start().note.boots == {"unknown": 1}
    host.start().ended(shut_down=True)
    host.boot += 1
    note = host.start(5).note
    assert (note.boots, note.reason, note.before_ms) == ({"clean": 1, "unknown": 1}, "clean", 5)
    note = host.start(900).note  # after a kill
    assert (note.boots, note.reason, note.before_ms) == ({"clean": 1, "unknown": 1}, "clean", 5)
    host.boot += 1
    assert host.start(901).note.boots == {"clean": 1, "power_loss": 1, "unknown": 1}
    host.boot += 1
    note = host.start(902).note
    assert (note.boots["power_loss"], note.before_ms) == (2, 902)
    host.start().ended()  # by a person
    host.boot += 1
    assert host.start().note.reason == "unknown"


def test_the_first_report_of_a_boot_is_without_it(tmp_path: Path) -> None:
    host = Host(tmp_path)
    host.start()
    host.boot += 1
    keeper = host.start()
    assert keeper.boots() == {"unknown": 1, "power_loss": 0}
    assert keeper.boots() == host.start().boots() == {"unknown": 1, "power_loss": 1}


@pytest.mark.parametrize(
    "changed",
    [
        b'"boots":{"clean":-1}',
        b'"boots":{"clean":1e300}',
        b'"records":["x"]',
        b'"before_ms":-5',
        b'"shut_down":7',
    ],
)
def test_a_note_that_makes_no_sense_is_none(tmp_path: Path, changed: bytes) -> None:
    host = Host(tmp_path)
    host.start()
    file = tmp_path / running.NAME
    file.write_bytes(b"{" + changed + b"," + file.read_bytes()[1:].replace(changed.split(b":")[0], b'"x"'))
    host.boot += 1
    note = host.start().note
    assert (note.boots, note.reason) == ({"unknown": 1}, "unknown")
