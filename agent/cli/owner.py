"""Root as the owner of the buffer: what a command does in a folder, it does with no more rights than the folder's owner.

A folder is as trustworthy as its owner. Root that acts there with its own rights could be led, by a link or a rename at
the right moment, to read or remove what the owner may not touch.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from buffer.errors import LimpetError


def act_as_owner(data_dir: str, *, for_good: bool = False) -> None:
    """Become the owner of the folder, without root's other groups, where this is root and the folder is not root's.

    `as_caller` takes it back for a while, unless it is `for_good`. Raises OSError, and LimpetError where the owner may
    not read this program, parts of which are loaded later.
    """
    if os.geteuid() != 0:
        return
    found = os.stat(data_dir)
    if found.st_uid == 0:
        return
    os.setgroups([])
    if for_good:
        os.setresgid(found.st_gid, found.st_gid, found.st_gid)
        os.setresuid(found.st_uid, found.st_uid, found.st_uid)
    else:
        os.setegid(found.st_gid)
        os.seteuid(found.st_uid)
    if not os.access(__file__, os.R_OK, effective_ids=True):
        raise LimpetError(
            data_dir,
            f"root acts as its owner (user {found.st_uid}), who may not read this program: {os.path.dirname(__file__)}",
            "Install Limpet where every user may read it.",
        )


@contextmanager
def as_caller() -> Iterator[None]:
    """Act as the user who began the command, for the files that are the user's own: what is written and where."""
    user, group, groups = os.geteuid(), os.getegid(), os.getgroups()
    real, real_group = os.getuid(), os.getgid()
    if user == real or real != 0:
        yield
        return
    os.seteuid(real)
    os.setegid(real_group)
    try:
        yield
    finally:
        os.setgroups(groups)
        os.setegid(group)
        os.seteuid(user)
