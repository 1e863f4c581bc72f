"""What a user can set per collector, beside `enabled`, `interval` and `timeout`, which the schedule owns.

Every `exclude_*` is a list of regular expressions that must match the whole name, as in Prometheus. A list
that is given replaces the default list. A pattern that does not compile raises ValueError when the struct is
made, which msgspec reports as a ValidationError with the path of the value.
"""

from __future__ import annotations

import re

import msgspec


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A collector without options of its own: cpu, memory, host."""


class DiskIoOptions(Options, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`exclude_devices`: block devices by their kernel name, such as `sda` or `dm-0`."""

    exclude_devices: tuple[str, ...] = ("loop.*", "ram.*", "zram.*", "sr[0-9]+", "fd[0-9]+")

    def __post_init__(self) -> None:
        matcher("exclude_devices", self.exclude_devices)


class NetworkOptions(Options, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`exclude_interfaces`: network interfaces by name."""

    exclude_interfaces: tuple[str, ...] = ("lo", "veth.*")

    def __post_init__(self) -> None:
        matcher("exclude_interfaces", self.exclude_interfaces)


class DiskUsageOptions(Options, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`exclude_fstypes` and `exclude_mountpoints`.

    The default leaves out what is memory (tmpfs), what is another file system seen twice (overlay) and
    read-only images, which are always full. File systems of the kernel that store nothing (proc, sysfs,
    cgroup, ...) are left out whatever is set here.
    """

    exclude_fstypes: tuple[str, ...] = ("tmpfs", "overlay", "squashfs", "fuse.snapfuse", "erofs", "iso9660")
    exclude_mountpoints: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        matcher("exclude_fstypes", self.exclude_fstypes)
        matcher("exclude_mountpoints", self.exclude_mountpoints)


def matcher(key: str, patterns: tuple[str, ...]) -> re.Pattern[str]:
    """One pattern that matches, by `fullmatch`, what any of `patterns` does; none of them matches nothing.

    Raises ValueError naming `key` and the pattern that is not a regular expression.
    """
    for pattern in patterns:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"{key}: {pattern!r} is not a regular expression: {error}") from None
    return re.compile("|".join(f"(?:{pattern})" for pattern in patterns) if patterns else "(?!)")
