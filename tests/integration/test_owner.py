"""A command run by root on a folder of another user: it works, and takes no more rights than that user has."""

from __future__ import annotations

import os
import signal
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from buffer.buffer import Buffer
from buffer.limits import Limits
from buffer.quarantine import Quarantine
from tests.support.buffers import fill
from tests.support.limpet import limpet, started_by_root
from tests.support.net import wait_for
from tests.support.ticks import tick

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
NOBODY = 65534
CANARY = "canary-of-root"


@pytest.fixture
def data_dir() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:  # not below tmp_path, into which only root may look
        os.chown(name, NOBODY, NOBODY)
        folder = Path(name) / "data"
        buffer = Buffer(str(folder), Limits(1 << 20, segment_size=512), ["there"])
        fill(buffer, 0, 60)
        buffer.close()
        Quarantine(str(folder)).put("there", 0, [tick(1)], "rejected", 400, "no", 1000)
        give(folder)
        yield folder


def give(folder: Path) -> None:
    for path in (folder, *folder.rglob("*")):
        os.chown(path, NOBODY, NOBODY, follow_symlinks=False)


def test_what_only_root_may_read_stays_unread_and_what_root_asks_for_is_root_s(
    data_dir: Path, tmp_path: Path
) -> None:
    newest = max((data_dir / "segments").iterdir())
    newest.write_bytes(CANARY.encode())
    newest.chmod(0o600)
    os.chown(newest, 0, 0)  # as a hard link to a file of root's would be
    done = limpet(tmp_path, "buffer export --data-dir", data_dir, "--output", tmp_path / "out.jsonl")
    assert (tmp_path / "out.jsonl").stat().st_uid == 0  # into a folder that the owner may not even enter
    assert CANARY not in done.out + done.err + (tmp_path / "out.jsonl").read_text()
    dry = "buffer replay --to http://127.0.0.1:9/ --give-up-after 100ms --data-dir"
    done = limpet(tmp_path, dry, data_dir)
    assert "Permission" not in done.out + done.err
    assert (done.status, "--resume to continue" in done.err) == (1, True)  # its state is in root's home
    assert all(path.stat().st_uid == NOBODY for path in (data_dir / "cursors").iterdir())


def test_a_race_of_renames_leads_drop_nowhere(data_dir: Path, tmp_path: Path) -> None:
    """The owner exchanges an item for a link to a folder of root's, over and over, while root drops it."""
    [item] = (data_dir / "quarantine").iterdir()
    outside = data_dir.parent / "outside"
    outside.mkdir()
    (outside / "about.json").write_bytes((item / "about.json").read_bytes())
    aside, trap, over = item.with_name("aside"), item.with_name("trap"), threading.Event()
    trap.symlink_to(outside)

    def exchange() -> None:
        while not over.is_set():
            for old, new in ((item, aside), (trap, item), (item, trap), (aside, item)):
                try:
                    os.rename(old, new)
                except OSError:
                    pass

    thread = threading.Thread(target=exchange)
    thread.start()
    try:
        for _ in range(6):
            limpet(tmp_path, "buffer quarantine drop --all --yes --data-dir", data_dir)
    finally:
        over.set()
        thread.join()
    assert [path.name for path in outside.iterdir()] == ["about.json"]


def test_run_by_root_is_the_owner_and_leaves_nothing_of_root_s(data_dir: Path, tmp_path: Path) -> None:
    config = data_dir.parent / "limpet.yaml"
    config.write_text(f"data_dir: {data_dir}\ncollect: {{interval: 1s}}\nremote_write: []\n")
    os.unlink(data_dir / "lock")
    os.mkfifo(data_dir / "lock")
    give(data_dir)
    agent = started_by_root(tmp_path, config)
    try:
        before = len(list((data_dir / "segments").iterdir()))
        wait_for(
            lambda: len(list((data_dir / "segments").iterdir())) > before, 20, "a segment of this process"
        )
        status = Path(f"/proc/{agent.pid}/status").read_text()
        assert f"Uid:\t{NOBODY}\t{NOBODY}\t{NOBODY}\t{NOBODY}" in status
        assert "Groups:\t \n" in status
        agent.send_signal(signal.SIGTERM)
        assert agent.wait(10) == 0
    finally:
        agent.kill()
        agent.communicate()
    assert {path.lstat().st_uid for path in data_dir.rglob("*")} == {NOBODY}
