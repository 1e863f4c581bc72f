"""The folder of the data, as the user of the agent sees it, and as root or a stranger does.

Who runs the doctor is root, the user of the agent, or a stranger. A stranger can judge nothing in there: each check says then whose
it is, and none advises to change an owner.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress

from agent.ops import service
from agent.ops.doctor.step import Finding, fine, unknown, warning, wrong
from buffer.owner import name

DEEPEST = 8
"""Folders below each other in data_dir that are looked at; the agent makes two."""


def stranger(data_dir: str) -> Finding | None:
    """Return what to say to a user who is neither root nor the owner; None to these two, and where there is no folder."""
    me, whose = os.geteuid(), service.owner(data_dir)
    if me == 0 or whose is None or whose == name(me):
        return None
    return unknown(f"{data_dir} belongs to {whose}, and {name(me)} cannot judge it", run_as(whose))


def run_as(whose: str) -> str:
    """Return the advice to run this with more rights."""
    return "Run this as root." if whose == "root" else f"Run this as root, or as {whose}."


def folder(data_dir: str) -> Finding:
    """Check that the agent can write there, or make it."""
    me = name(os.geteuid())
    if os.path.isdir(data_dir):
        if os.access(data_dir, os.W_OK | os.X_OK, effective_ids=True):
            return fine(f"{data_dir}, {me} may write there")
        if os.statvfs(data_dir).f_flag & os.ST_RDONLY:
            do = f"See why, then mount it for writing: dmesg; findmnt --target {data_dir}"
            return wrong(f"{data_dir}: the disk is read-only", do)
        return wrong(f"{data_dir}: {me} may not write there", f"Let its owner: chmod u+rwx {data_dir}")
    above = existing(data_dir)
    if os.access(above, os.W_OK | os.X_OK, effective_ids=True):
        return fine(f"{data_dir} is not there yet; the agent makes it when it starts")
    if data_dir == service.DATA_DIR and service.unit() is not None:
        return fine(f"{data_dir} is not there yet; systemd makes it when the agent starts")
    do = f"Make it for the agent's user: install -d -m 0700 -o {me} {data_dir}"
    return wrong(f"{data_dir} is not there, and {me} may not make it in {above}", do)


def permissions(data_dir: str) -> Finding:
    """Check that the folder is for its owner only, and that everything in it is the owner's."""
    if not os.path.isdir(data_dir):
        return unknown("nothing is there yet")
    top = os.stat(data_dir)
    owner, others = name(top.st_uid), foreign(data_dir)
    if others:
        said = f"{others[0]} does not belong to {owner}, as the folder does ({len(others)} in all)"
        return wrong(said, f"Give it back: chown -R {owner} {data_dir}")
    mode = stat.S_IMODE(top.st_mode)
    said = f"{mode:04o}, all of it belongs to {owner}"
    if mode & 0o077:
        return warning(f"{said}: others may look into it", f"Close it: chmod 0700 {data_dir}")
    return fine(said)


def foreign(data_dir: str) -> list[str]:
    """Return what is below data_dir and does not belong to its owner. Raises OSError."""
    owner = os.stat(data_dir).st_uid
    return [path for path, found in below(data_dir) if found.st_uid != owner]


def existing(path: str) -> str:
    """Return the path, or the nearest existing folder above it."""
    path = os.path.abspath(path)
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    return path


def below(data_dir: str, folder: str = "") -> list[tuple[str, os.stat_result]]:
    """Return everything in a folder of data_dir, at any depth. Raises OSError where it cannot be listed.

    No link below data_dir is followed, even if folders are exchanged for links meanwhile. A missing folder is empty, and what
    is removed meanwhile is left out. What is deeper than DEEPEST is none of ours.
    """

    def fail(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):
            raise error

    top = os.path.join(os.path.realpath(data_dir), folder)
    if not os.path.lexists(top):
        return []
    found = []
    for at, folders, files, fd in os.fwalk(top, onerror=fail, follow_symlinks=False):
        for one in (*folders, *files):
            with suppress(FileNotFoundError):
                found.append((os.path.join(at, one), os.stat(one, dir_fd=fd, follow_symlinks=False)))
        if at.count("/") - top.count("/") >= DEEPEST:
            folders.clear()
    return found
