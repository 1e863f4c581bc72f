"""Root as the owner of a folder: in a folder of another user, root does no more than that user could.

A folder is as trustworthy as its owner.  Root that acted there with its own rights could be led, by a link or a rename
at the right moment, to read or remove what the owner may not touch.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from buffer.errors import LimpetError

_TURN = threading.RLock()  # rights are those of the whole process


@contextmanager
def acting_in(folder: str | int) -> Iterator[None]:
    """Act as the owner of the folder (a path or a descriptor), and without root's other groups, where this is root and the folder is not root's.

    Where there is no such folder yet, nothing changes.  Raises OSError.
    """
    if os.getuid() != 0:
        yield
        return
    with _TURN:
        owner = None if os.geteuid() != 0 else _owner(folder)
        if owner is None:
            yield
            return
        group, groups = os.getegid(), os.getgroups()
        try:
            os.setgroups([])
            os.setegid(owner[1])
            os.seteuid(owner[0])
            yield
        finally:
            os.seteuid(0)
            os.setegid(group)
            os.setgroups(groups)


def become(folder: str) -> None:
    """Become the owner of the folder for good, on the same conditions as `acting_in`.

    Where the disk does not even say who that is, root stays root, and acts as the owner when it does.  Raises
    OSError, and LimpetError where the owner may not read this program, which loads parts of itself later.
    """
    owner = None
    with suppress(OSError):
        owner = _owner(folder) if os.geteuid() == 0 else None
    if owner is None:
        return
    user, group = owner
    os.setgroups([])
    os.setresgid(group, group, group)
    os.setresuid(user, user, user)
    for part in (__file__, os.__file__):
        if not os.access(part, os.R_OK):
            what = f"root runs as its owner (user {user}), who may not read the program, such as {part}"
            raise LimpetError(folder, what, "Install Limpet and its Python where every user may read them.")


def _owner(folder: str | int) -> tuple[int, int] | None:
    """Return the user and the group that the folder belongs to; None where that is root, or there is no folder."""
    try:
        found = os.stat(folder)
    except FileNotFoundError:
        return None
    return (found.st_uid, found.st_gid) if found.st_uid != 0 else None
