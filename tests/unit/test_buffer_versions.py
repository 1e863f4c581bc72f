"""Versions of the format: every one there ever was can be read, and a later one is refused and left as it is."""

from __future__ import annotations

import hashlib
import json
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent.ops.replay import unfinished
from buffer import ledger, quarantine, requests, segment
from buffer.buffer import Buffer
from buffer.errors import NewerFormat
from buffer.fs import RealFs
from buffer.ledger import SLOT
from buffer.limits import Limits
from buffer.model import Doubted
from buffer.quarantine import Quarantine
from buffer.reader import Reader
from tests.support.buffers import drain, settle
from tests.support.limpet import limpet
from tests.support.ticks import BOOT, START_MS, STEP_MS, exactly, tick

GOLDEN = Path(__file__).parents[1] / "fixtures" / "buffers"
TODAY = f"segment{segment.VERSION}-cursor{ledger.AHEAD_VERSION}-quarantine{quarantine.ABOUT_VERSION}.json"
"""A buffer as this version writes it, with cursors of every version that it writes."""
DESTINATIONS = ("plain", "ahead")


def make(folder: Path) -> None:
    """A small buffer with everything in it: thinned segments, a torn tail, cursors, a quarantined item, and boots whose
    clock was wrong: one is placed by an estimate, one by its clock, and one waits.
    """
    buffer = Buffer(
        str(folder),
        Limits(max_size=4096, segment_size=512),
        DESTINATIONS,
        clock=lambda: 0.0,
        wall=lambda: 0.0,
    )
    for number in range(250):
        boot = "a" * 32 if number < 200 else "b" * 32
        buffer.append([tick(number, boot=boot), tick(number, 2, "other", boot)], missed=number % 7 == 0)
        if number % 50 == 49:
            buffer.sync()
    for name in DESTINATIONS:
        cursor = buffer.cursors[name]
        chunk = cursor.read(30)
        cursor.commit(chunk.start, chunk.end, chunk.samples - 2, {"rejected": 2})
    buffer.cursors["plain"].note("held", "HTTP 401: check the user and password")
    ahead = buffer.cursors["ahead"]
    assert ahead.go_ahead(10)
    chunk = ahead.read_ahead(10)
    settle(ahead, chunk)
    assert ahead.ledger.ahead
    Quarantine(str(folder)).put("plain", 7, [tick(3), tick(4)], "rejected", 400, "no", 1_000)
    for boot, base_ms in (("c", 0), ("d", 1000)):
        buffer.append([tick(300, boot=boot * 32)], clock=Doubted(base_ms))
    buffer.place("d" * 32, START_MS + 400 * STEP_MS)
    buffer.log.sync()
    buffer.log.mark()
    buffer.append([tick(400, boot="d" * 32)])
    buffer.append([tick(401, boot="d" * 32)], clock=Doubted(5, START_MS))
    buffer.close()
    newest = max((folder / "segments").iterdir())
    newest.write_bytes(newest.read_bytes() + bytes([segment.MARK, 200]))


def content(folder: Path) -> dict[str, Any]:
    """What a buffer says: what is in it, and what became of it for whom."""
    buffer = Buffer(str(folder), Limits(max_size=1 << 20), DESTINATIONS)
    reader, ticks = Reader(RealFs(), f"{folder}/segments"), []
    while (entry := reader.next()) is not None:
        ticks += [(entry.seq, entry.end, entry.missed, *one) for one in exactly(entry.ticks)]
    kept = Quarantine(str(folder))
    items = [
        [*item, [repr(exactly(entry.ticks)) for entry in kept.entries(item.id)]] for item in kept.items()
    ]
    ledgers = {name: json.loads(json.dumps(buffer.cursors[name].ledger)) for name in DESTINATIONS}
    found = {
        "ticks": len(ticks),
        "sha256": hashlib.sha256(repr(ticks).encode()).hexdigest(),
        "first": buffer.log.first,
        "end": buffer.log.end,
        "missed": buffer.log.missed,
        "thinned": [list(header)[:4] for header in buffer.log.thinned.values()],
        "ledgers": ledgers,
        "pending": {name: buffer.cursors[name].pending() for name in DESTINATIONS},
        "quarantine": items,
        "damaged": reader.damaged,
    }
    reader.close()
    buffer.close()
    return found


def files(folder: Path) -> dict[str, str]:
    """Every file of a buffer, but the lock, which names a process."""
    return {
        str(path.relative_to(folder)): path.read_bytes().hex()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "lock"
    }


def test_this_version_has_its_golden_buffer(tmp_path: Path) -> None:
    """Where it is missing it is written: look at it, and commit it. Those of other versions stay."""
    golden, folder = GOLDEN / TODAY, tmp_path / "data"
    if not golden.exists():
        make(folder)
        told = {"files": files(folder), "content": content(folder)}
        golden.parent.mkdir(exist_ok=True)
        golden.write_text(json.dumps(told, indent=1) + "\n")
        pytest.fail(f"{golden} was missing, and is written now")
    told = json.loads(golden.read_text())
    versions = {
        segment.version(bytes.fromhex(data)) for name, data in told["files"].items() if name.endswith(".seg")
    }
    assert versions == {segment.PLAIN_VERSION, segment.VERSION}
    cursors = {
        ledger.version(bytes.fromhex(data)) for name, data in told["files"].items() if name.startswith("cur")
    }
    assert cursors == {ledger.PLAIN_VERSION, ledger.AHEAD_VERSION}
    assert told["content"]["thinned"]
    make(folder)
    assert files(folder) == told["files"]  # else it is another format, which has another version


@pytest.mark.parametrize("golden", sorted(GOLDEN.glob("*.json")), ids=lambda path: path.stem)
def test_every_version_there_ever_was_is_read_and_gone_on_with(tmp_path: Path, golden: Path) -> None:
    told = json.loads(golden.read_text())
    for name, data in told["files"].items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(bytes.fromhex(data))
    assert content(tmp_path) == told["content"]
    buffer = Buffer(str(tmp_path), Limits(max_size=1 << 20), DESTINATIONS)
    buffer.append([tick(1000)])
    buffer.place(BOOT, START_MS)
    for cursor in buffer.cursors.values():
        drain(cursor, 1000)
        was = cursor.ledger
        assert was.position == buffer.log.end == told["content"]["end"] + 3
        assert was.position - was.start == was.delivered + sum(was.dropped.values())
    buffer.close()


# Later versions. All that is known of them is where their version number is.


def later_segment(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[4:6] = (segment.VERSION + 1).to_bytes(2, "little")
    head = segment.HEADER.size
    data[head - 4 : head] = zlib.crc32(data[: head - 4]).to_bytes(4, "little")
    path.write_bytes(bytes(data) + b"whatever a later version has")


def later_cursor(path: Path) -> None:
    """Its newest slot is of a later version, and has fields that nobody knows; the other one is as it was."""
    data = path.read_bytes().ljust(2 * SLOT)
    line = json.dumps({"version": ledger.AHEAD_VERSION + 1, "generation": 99, "spans": [[1, 2]]}).encode()
    path.write_bytes(data[:SLOT] + (line + b"\n%08x\n" % zlib.crc32(line)).ljust(SLOT))


def later_about(path: Path) -> None:
    path.write_text(json.dumps({"version": quarantine.ABOUT_VERSION + 1, "id": "x"}))


LATER: dict[str, tuple[str, Callable[[Path], None]]] = {
    "the newest segment": ("segments", later_segment),
    "a segment between others": ("segments", later_segment),
    "a cursor": ("cursors/plain.json", later_cursor),
    "a cursor of somebody who is not configured": ("cursors/stranger.json", later_cursor),
    "a quarantined segment": (
        "quarantine/plain-00000000000000000007/00000000000000000000.seg",
        later_segment,
    ),
    "a quarantined item": ("quarantine/plain-00000000000000000007/about.json", later_about),
}


@pytest.fixture(params=LATER)
def later(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Path]:
    """A buffer, and the file in it that is of a later version."""
    folder = tmp_path / "data"
    make(folder)
    shutil.copy(folder / "cursors/plain.json", folder / "cursors/stranger.json")
    (folder / "segments" / "00000000000000000003.seg.tmp").write_bytes(
        b"of a process that died while thinning"
    )
    requests.ask_trim(RealFs(), str(folder), 100)
    name, change = LATER[request.param]
    path = folder / name
    if path.is_dir():
        names = sorted(path.glob("*.seg"))
        path = names[-1] if "newest" in request.param else names[1]
    change(path)
    return folder, path


def everything(folder: Path) -> dict[str, Any]:
    return {
        str(path): (path.stat().st_mtime_ns, path.is_file() and path.read_bytes())
        for path in folder.rglob("*")
    }


def test_the_agent_refuses_it_and_leaves_every_byte_as_it_is(later: tuple[Path, Path]) -> None:
    folder, path = later
    before = everything(folder)
    for _ in range(2):
        with pytest.raises(NewerFormat) as caught:
            Buffer(str(folder), Limits(max_size=4096), DESTINATIONS)
        assert caught.value.where == str(path)
        assert "it is of format version " in caught.value.what
        assert caught.value.do.startswith("Run the version of Limpet that wrote it")
        assert everything(folder) == before


COMMANDS = (
    ("status",),
    ("status", "--json"),
    ("segments",),
    ("tail",),
    ("verify", "--deep"),
    ("export", "--format", "csv"),
    ("trim", "--before", "2030-01-01", "--yes"),
    ("quarantine", "list"),
    ("quarantine", "show", "plain-00000000000000000007"),
    ("quarantine", "drop", "--all", "--yes"),
)


def test_every_command_refuses_it_and_leaves_every_byte_as_it_is(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    make(folder)
    (folder / "lock").chmod(0o400)
    path = max((folder / "segments").iterdir())
    later_segment(path)
    before = everything(folder)
    for command in COMMANDS:
        done = limpet(tmp_path, "buffer", *command, "--data-dir", folder)
        assert (done.status, done.out) == (2, ""), command
        version = segment.VERSION + 1
        told = f"{path}: it is of format version {version}, and this program knows versions up to {version - 1}. "
        assert done.err.startswith(told), command
        assert everything(folder) == before, command


def test_a_downgrade_and_an_upgrade_lose_nothing(tmp_path: Path) -> None:
    """The later version comes back, and finds what it left, however often the earlier one was started meanwhile."""
    folder = tmp_path / "data"
    make(folder)
    was, path = content(folder), max((folder / "segments").iterdir())
    kept = path.read_bytes()
    later_segment(path)
    for _ in range(3):
        with pytest.raises(NewerFormat):
            Buffer(str(folder), Limits(), DESTINATIONS)
    path.write_bytes(kept)  # what it means to the later version
    assert content(folder) == was


def test_a_slot_that_a_later_version_wrote_in_an_earlier_one_is_read(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    make(folder)
    was = content(folder)
    path = folder / "cursors/plain.json"
    later_cursor(path)
    found = ledger.decode(bytes.fromhex(files(folder)["cursors/plain.json"]))
    assert found is not None
    path.write_bytes(ledger.encode(found, 100) + path.read_bytes()[SLOT:])
    assert content(folder) == was


def test_an_unfinished_replay_of_a_later_version_is_not_begun_again(tmp_path: Path) -> None:
    file = tmp_path / "replay-0.json"
    file.write_text(json.dumps({"version": unfinished.VERSION + 1, "whatever": 1}))
    with pytest.raises(NewerFormat, match=r"knows version 1\. Continue with the version"):
        unfinished.load(str(file))
    file.write_text(json.dumps({"version": "2"}))
    assert unfinished.load(str(file)) is None
