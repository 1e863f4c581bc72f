"""Root as the owner of a folder: in a folder of another user, root does no more than that user could.

A folder is as trustworthy as its owner.  Root that acted there with its own rights could be led, by a link or a rename
at the right moment, to read or remove what the owner may not touch.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

from buffer.errors import LimpetError

_TURN = threading.RLock()  # rights are those of the whole process


class User(NamedTuple):
    """A user's rights."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()
    """The further groups."""


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
        with acting_as(owner):
            yield


@contextmanager
def acting_as(user: User) -> Iterator[None]:
    """Act as this user; for root, on whose behalf nothing else acts as somebody else meanwhile.  Raises OSError."""
    with _TURN:
        group, groups = os.getegid(), os.getgroups()
        try:
            os.setgroups(user.groups)
            os.setegid(user.gid)
            os.seteuid(user.uid)
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
    if owner is not None:
        become_user(owner, folder)


def become_user(user: User, folder: str) -> None:
    """Become this user for good, who owns the folder, or is to.  Raises as `become` does."""
    os.setgroups(user.groups)
    os.setresgid(user.gid, user.gid, user.gid)
    os.setresuid(user.uid, user.uid, user.uid)
    for part in (__file__, os.__file__):
        if not os.access(part, os.R_OK):
            what = f"root runs as its owner (user {user.uid}), who may not read the program, such as {part}"
            raise LimpetError(folder, what, "Install Limpet and its Python where every user may read them.")


def name(uid: int) -> str:
    """Return the name of a user, or its number where it has none."""
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _owner(folder: str | int) -> User | None:
    """Return the user and the group that the folder belongs to; None where that is root, or there is no folder."""
    try:
        found = os.stat(folder)
    except FileNotFoundError:
        return None
    return User(found.st_uid, found.st_gid) if found.st_uid != 0 else None
