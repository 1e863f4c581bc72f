"""Which file systems of ext4 turned read-only after an error, where their options do not say so.

ext4 that was mounted with `errors=remount-ro` takes no more writes after its first error. Until Linux 6.11 its superblock
was `ro` then; since commit d3476f3dad4a (6.12, also 5.15.168 and 6.1.113) it is not, and before 6b76715d5e41 (6.15, also
late stable kernels of 6.14) its options say nothing. What any user may read on all of them:

- `/sys/fs/ext4/NAME/errors_count`: errors since the last e2fsck, in mounts before this one too. ext4_handle_error() in
  fs/ext4/super.c counts each, in memory at once, and lets the file system take writes further only with `errors=continue`. It never
  falls while the file system is mounted.
- `/proc/fs/ext4/NAME/options`: all options, those included that are as the superblock has them, which mountinfo leaves out.
- The folder `/sys/fs/ext4/NAME` is made by each mount; a new one has another inode number (kernfs numbers its files in order).

An error between two looks at the same mount is therefore one that turned it. It stays so until it is unmounted: the kernel
refuses to remount it. Whether an error before the first look is of this mount nobody can say: it counts as none.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from agent.collectors.kernel import number, read_or_none
from agent.collectors.mounts import Place

REMOUNTED = b"errors=remount-ro"


class Ext4Errors:
    """Remembers how many errors each mounted ext4 had when it was first looked at. `proc` and `sys` as in HostPaths."""

    def __init__(self, proc: str, sys: str) -> None:
        self._proc, self._sys = proc, sys
        self._first: dict[int, int] = {}

    def turned(self, places: Iterable[Place]) -> set[Place]:
        """Return those that had an error since they were first looked at, and take no writes after one."""
        before, self._first, found = self._first, {}, set()
        for place in places:
            if not dict(place.labels)["fstype"].startswith("ext"):
                continue
            try:
                name = os.path.basename(os.readlink(f"{self._sys}/dev/block/{os.fsdecode(place.number)}"))
                mounted = os.stat(f"{self._sys}/fs/ext4/{name}").st_ino
            except OSError:  # a file system of another kind, or unmounted by now
                continue
            count = number((read_or_none(f"{self._sys}/fs/ext4/{name}/errors_count") or b"").strip())
            if count is None:
                continue
            self._first[mounted] = before.get(mounted, count)
            if count > self._first[mounted]:
                options = read_or_none(f"{self._proc}/fs/ext4/{name}/options") or b""
                if REMOUNTED in options.splitlines():
                    found.add(place)
        return found
