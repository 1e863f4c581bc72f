"""Changing a buffer as root: as the one it belongs to, so that the agent can read what was written."""

from __future__ import annotations

import os


def act_as_owner(data_dir: str) -> None:
    """From now on, if this is root, be the owner of the folder for all files. Raises OSError."""
    if os.geteuid() == 0:
        owner = os.stat(data_dir)
        os.setegid(owner.st_gid)
        os.seteuid(owner.st_uid)
