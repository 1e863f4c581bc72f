"""What a user can set per collector, in addition to `enabled`, `interval` and `timeout`, which the schedule owns.

Every `include_*` and `exclude_*` is a list of regular expressions (`agent.regex`) that must match the whole name, as
in Prometheus. What an include list does not match is left out, and so is what an exclude list matches; without an
include list everything is included. A list that is given replaces the default list, and an include list takes
the place of the default exclude list of the same names, as in node_exporter. A pattern that does not compile
raises ValueError when the struct is made, which msgspec reports as a ValidationError with the path of the value.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from agent.regex import RegexError, any_of

Patterns = tuple[str, ...]


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A collector without options of its own: cpu, memory, host."""


DEVICES = (
    "loop.*", "ram.*", "zram.*", "sr[0-9]+", "fd[0-9]+",
    "nvme[0-9]c.*", "nvme[0-9][0-9]c.*", "mmcblk[0-9]boot[0-9]", "mmcblk[0-9]rpmb",
)  # fmt: skip
"""What is no disk, the paths of an NVMe multipath to a disk that is listed too, and the areas of an eMMC for boot loaders."""


class DiskIoOptions(Options, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Block devices by their kernel name, such as `sda` or `dm-0`; `partitions` of disks too, or not."""

    include_devices: Patterns = ()
    exclude_devices: Patterns = DEVICES
    partitions: bool = False

    def __post_init__(self) -> None:
        self.devices()

    def devices(self) -> Callable[[str], bool]:
        """Return a function that says whether a device of this name is wanted."""
        return selected("devices", self.include_devices, self.exclude_devices, DEVICES)


INTERFACES = ("lo", "veth.*")


class NetworkOptions(Options, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Network interfaces by name."""

    include_interfaces: Patterns = ()
    exclude_interfaces: Patterns = INTERFACES

    def __post_init__(self) -> None:
        self.interfaces()

    def interfaces(self) -> Callable[[str], bool]:
        """Return a function that says whether an interface of this name is wanted."""
        return selected("interfaces", self.include_interfaces, self.exclude_interfaces, INTERFACES)


SENSORS = ("coretemp/.*/Core.*", "nvme/.*/Sensor.*")
"""Parts of what has a temperature as a whole: the package of a processor, the composite of an NVMe disk."""


class SensorsOptions(Options, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Temperature sensors by their chip, device and label."""

    include_sensors: Patterns = ()
    exclude_sensors: Patterns = SENSORS

    def __post_init__(self) -> None:
        self.sensors()

    def sensors(self) -> Callable[[str], bool]:
        """Return a function that says whether a sensor of this name is wanted."""
        return selected("sensors", self.include_sensors, self.exclude_sensors, SENSORS)


FSTYPES = (
    "tmpfs", "overlay", "squashfs", "erofs", "cramfs", "romfs", "iso9660", "udf",
    "fuse.snapfuse", "fuse.squashfuse.*", "fuse.erofsfuse", "fuse.dwarfs", "fuse.fuseiso", "fuse.archivemount",
    r"fuse\..*\.[aA]pp[iI]mage",
)  # fmt: skip


class DiskUsageOptions(Options, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """File systems by their type and by their mount point; one has to be wanted for both.

    The default leaves out what is another file system seen twice (overlay) and images, which are always full, and it
    reports what is memory (tmpfs) only when it is nearly full. File systems of the kernel that store nothing (proc,
    sysfs, cgroup, ...) are left out whatever is set here.
    """

    include_fstypes: Patterns = ()
    exclude_fstypes: Patterns = FSTYPES
    include_mountpoints: Patterns = ()
    exclude_mountpoints: Patterns = ()

    def __post_init__(self) -> None:
        self.fstypes()
        self.mountpoints()

    def fstypes(self) -> Callable[[str], bool]:
        """Return a function that says whether a file system of this type is wanted."""
        return selected("fstypes", self.include_fstypes, self.exclude_fstypes, FSTYPES)

    def when_full(self) -> Callable[[str], bool]:
        """Return a function that says whether a file system of this type is wanted only when it is nearly full."""
        by_default = self.exclude_fstypes == FSTYPES and not self.include_fstypes
        return lambda name: by_default and name == "tmpfs"

    def mountpoints(self) -> Callable[[str], bool]:
        """Return a function that says whether a file system at this mount point is wanted."""
        return selected("mountpoints", self.include_mountpoints, self.exclude_mountpoints, None)


def selected(
    names: str, include: Patterns, exclude: Patterns, default: Patterns | None
) -> Callable[[str], bool]:
    """Return a function that says whether a name is wanted by `include_<names>` and `exclude_<names>` (`default`)."""
    wanted, unwanted = matcher(f"include_{names}", include), matcher(f"exclude_{names}", exclude)
    if not include:
        return lambda name: not unwanted(name)
    if exclude is default:  # the very object: the same list, written by a user, is meant
        return wanted
    return lambda name: wanted(name) and not unwanted(name)


def matcher(key: str, patterns: Patterns) -> Callable[[str], bool]:
    """Return a function that says whether a name matches any of `patterns`; none of them matches nothing.

    Raises ValueError naming `key` and the pattern that is not a regular expression.
    """
    try:
        return any_of(patterns)
    except RegexError as error:
        raise ValueError(f"{key}: {error.where!r} is not a regular expression: {error.what}") from None
