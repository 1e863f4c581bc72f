"""As which user the agent of a configuration runs, so that root can look with that user's rights.

Root may read everything, so a check by root shows nothing of what the agent may read: a password file for root alone
passes, and the agent does not start. The user is the one of systemd's unit where that unit has this configuration, else the owner of
data_dir, as whom `limpet run` of root runs too.
"""

from __future__ import annotations

import os
import pwd
from contextlib import suppress
from glob import glob
from typing import NamedTuple

from buffer.owner import User, name

UNIT = "limpet.service"
UNIT_FOLDERS = (
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
)
CONFIG = "/etc/limpet/limpet.yaml"
"""The configuration of the unit."""
DATA_DIR = "/var/lib/limpet"
"""The data_dir that systemd makes for the unit, and gives to its user."""
LARGEST = 1 << 20


class Unit(NamedTuple):
    """What systemd's files say about the agent's service."""

    is_masked: bool = False
    user: str = ""
    groups: tuple[str, ...] = ()
    """Supplementary ones."""


def unit(folders: tuple[str, ...] = UNIT_FOLDERS, run: str = "/run/systemd/system") -> Unit | None:
    """Return the agent's service; None where systemd does not run here, or has none."""
    if not os.path.isdir(run):
        return None
    path = next((one for folder in folders if os.path.lexists(one := f"{folder}/{UNIT}")), None)
    if path is None:
        return None
    if os.path.realpath(path) == os.devnull:
        return Unit(is_masked=True)
    user, groups = "", list[str]()
    changes = [one for folder in reversed(folders) for one in sorted(glob(f"{folder}/{UNIT}.d/*.conf"))]
    for one in (path, *changes):
        for key, value in _lines(one):
            if key == "User":
                user = value
            elif key == "SupplementaryGroups":
                groups = [*groups, *value.split()] if value else []
    return Unit(user=user, groups=tuple(groups))


def _lines(path: str) -> list[tuple[str, str]]:
    with suppress(OSError), open(path, encoding="utf-8", errors="replace") as file:
        pairs = [line.partition("=") for line in file.read(LARGEST).splitlines()]
        return [(key.strip(), value.strip()) for key, _, value in pairs]
    return []


def user(data_dir: str, path: str | None, found: Unit | None) -> User | None:
    """Return the user of the agent, if this is root and the agent's is another one; `path` is its configuration."""
    if os.geteuid() != 0:
        return None
    if found is not None and found.user and path is not None and os.path.abspath(path) == CONFIG:
        with suppress(KeyError):
            entry = pwd.getpwnam(found.user)
            return _rights(entry, entry.pw_gid, found.groups) if entry.pw_uid else None
    try:
        owner = os.stat(data_dir)
    except OSError:
        return None
    if owner.st_uid == 0:
        return None
    try:
        return _rights(pwd.getpwuid(owner.st_uid), owner.st_gid, ())
    except KeyError:
        return User(owner.st_uid, owner.st_gid)


def _rights(entry: pwd.struct_passwd, gid: int, more: tuple[str, ...]) -> User:
    import grp

    groups = set(os.getgrouplist(entry.pw_name, entry.pw_gid))
    for group in more:
        with suppress(KeyError):
            groups.add(grp.getgrnam(group).gr_gid)
    return User(entry.pw_uid, gid, tuple(sorted(groups)))


def owner(path: str) -> str | None:
    """Return the name of the user whose file or folder it is; None where nothing can be seen there."""
    try:
        return name(os.stat(path).st_uid)
    except OSError:
        return None
