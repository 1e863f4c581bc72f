"""Mounts of a real kernel that are not as usual: one turns read-only, one mounts itself, one belongs to somebody else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support.namespaces import inside

WATCHING = (sys.executable, "-m", "tests.support.watching")
DEADLINE = 60.0


def run(script: str, command: Sequence[object] = ()) -> list[str]:
    """Run a script, and the command, in a mount namespace; return what it printed. Skip where it exits with 77."""
    outside, environment = inside(script, command=command)
    done = subprocess.run(
        outside, env=environment, capture_output=True, text=True, timeout=DEADLINE, check=False
    )
    if done.returncode == 77:
        pytest.skip(done.stderr.strip()[-200:])
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def runs(lines: Sequence[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines if line.startswith("{")]


@pytest.mark.skipif(os.geteuid() != 0, reason="loop devices need root")
def test_a_file_system_that_the_kernel_turned_read_only(tmp_path: Path) -> None:
    """ext4 with errors=remount-ro, after an error; then on a kernel whose options do not show it (Linux 6.12 to 6.14)."""
    proc, go = tmp_path / "proc", tmp_path / "go"
    mountinfo = f"sed 's/,emergency_ro//' /proc/self/mountinfo > {proc}/self/mountinfo"
    lines = run(f"""
        cd {tmp_path}
        truncate -s 16M image
        mkfs.ext4 -q image || exit 77
        mkdir mounted
        mount -o loop,errors=remount-ro image mounted || exit 77
        disk=$(losetup -j image | sed 's,^/dev/\\([^:]*\\):.*,\\1,')
        mkdir -p {proc}/self {proc}/fs
        ln -s /proc/fs/ext4 {proc}/fs/ext4
        {mountinfo}
        mkfifo {go}
        cd {os.getcwd()}
        ({" ".join((*WATCHING, "2", "0", str(proc), str(go)))}) > {tmp_path}/said &
        watching=$!
        trap "kill $watching" EXIT
        echo first > {go}
        while ! grep -q series {tmp_path}/said; do sleep 0.1; done
        echo 1 > /sys/fs/ext4/$disk/trigger_fs_error
        touch {tmp_path}/mounted/new 2>/dev/null && exit 77
        {mountinfo}
        grep -q "mounted.*emergency_ro" {proc}/self/mountinfo && exit 1
        echo second > {go}
        wait $watching
        trap - EXIT
        cat {tmp_path}/said
        {" ".join((*WATCHING, "1", "0"))}
    """)
    name = f"disk_readonly {tmp_path}/mounted"
    before, after, anew = (one["series"][name] for one in runs(lines))
    assert (before, after) == (0, 1)
    if anew == 0 and (5, 15) <= tuple(map(int, os.uname().release.split(".")[:2])) < (6, 15):
        pytest.skip("the options of this kernel do not show it")
    assert anew == 1


def test_a_view_that_is_read_only_is_no_file_system_that_is(tmp_path: Path) -> None:
    """As systemd's ProtectSystem=strict and a container's `ro` volume make it: a read-only bind mount."""
    (one,) = runs(
        run(
            f"""
            mkdir {tmp_path}/here {tmp_path}/image
            mount -t tmpfs here {tmp_path}/here
            mount -t tmpfs image {tmp_path}/image
            mount -o remount,bind,ro {tmp_path}/here
            mount -o remount,ro {tmp_path}/image
            """,
            [*WATCHING, 1, 0],
        )
    )
    found = {name.split("/")[-1]: value for name, value in one["series"].items() if "readonly" in name}
    assert (found["here"], found["image"]) == (0, 1)


def test_an_automount_is_not_kept_by_who_watches_it_nor_mounted_again(tmp_path: Path) -> None:
    """The automounter unmounts after a second without use, which is the kernel's to see."""
    folder = tmp_path / "auto"
    folder.mkdir()
    said, seen = tmp_path / "said", tmp_path / "seen"
    lines = run(f"""
        mkfifo {said}
        timeout 50 {sys.executable} -m tests.support.automount {folder} 1 > {said} 2>&1 &
        automount=$!
        trap "kill $automount" EXIT
        exec 3< {said}
        read line <&3
        [ "$line" = ready ] || {{ echo "$line" >&2; exit 77; }}
        ls {folder}/share
        timeout 50 {" ".join((*WATCHING, "400", "0.1"))} > {seen} &
        trap "kill $automount $!" EXIT
        read line <&3; echo "$line"
        read line <&3; echo "$line"
        lines=$(wc -l < {seen})
        while [ $(wc -l < {seen}) -lt $((lines + 5)) ]; do sleep 0.1; done
        cat {seen}
        timeout 0.3 cat <&3 || true
    """)
    assert [line for line in lines if "share" in line and not line.startswith("{")] == [
        "mounted share",
        "unmounted share",
    ]
    assert not [name for one in runs(lines) for name in one["series"] if "auto" in name]
    assert any(one["series"] for one in runs(lines))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
def test_a_mount_that_the_agents_user_may_not_reach_is_denied_and_no_error(tmp_path: Path) -> None:
    """As below /media/USER and /var/lib/kubelet, and the FUSE of another user, whose numbers are zeros."""
    (one,) = runs(
        run(
            """
            mount -t tmpfs here /mnt
            mkdir /mnt/private /mnt/open
            mount -t tmpfs other /mnt/private
            mkdir /mnt/private/stick
            mount -t tmpfs stick /mnt/private/stick
            chmod 700 /mnt/private
            mount -t tmpfs open /mnt/open
            """,
            ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *WATCHING, 1, 0],
        )
    )
    mine = {name: denied for name, denied in one["reported"].items() if name.startswith("/mnt/")}
    assert mine == {"/mnt/private/stick": True}
    assert {"disk_total_bytes /mnt/open", "disk_total_bytes /mnt/private"} <= one["series"].keys()
