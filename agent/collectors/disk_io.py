"""What the disks did, from /proc/diskstats (Documentation/admin-guide/iostats.rst of the kernel).

Whole disks only, unless `partitions` is set, because what a partition did is in its disk's numbers, and a sum
over devices would count it twice. Device mapper and md devices are whole disks of their own, in addition to the
disks below them.

A time per request is over reads and writes that completed in the interval; discards and flushes do not count,
or the weekly trim would look like a slow disk. It is 0 where none completed, and the operations per second of that interval
are 0 too: that is how the alert on slow disks distinguishes an absence from a time of 0. A series that came and went with each idle
interval would cost a marker, and a description of the tick in the buffer, each time.

A device that has never completed a request has no series before it does: the 16 nbd devices that the module makes, say.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence

from agent.collectors.base import Collect, HostPaths, Labels, Metric, Report, Sample, Trouble, ignore
from agent.collectors.kernel import Growth, KernelFile, Names, mean, numbers, rate, share
from agent.collectors.options import DiskIoOptions

METRICS = (
    Metric("disk_read_bytes_total", "counter", "bytes", "Read from the device."),
    Metric("disk_written_bytes_total", "counter", "bytes", "Written to the device."),
    Metric("disk_reads_completed_total", "counter", "", "Read requests completed."),
    Metric("disk_writes_completed_total", "counter", "", "Write requests completed."),
    Metric("disk_io_time_seconds_total", "counter", "seconds", "Time with at least one request in flight."),
    Metric("disk_read_bytes_per_sec", "gauge", "bytes_per_sec", "Read from the device in the interval."),
    Metric("disk_write_bytes_per_sec", "gauge", "bytes_per_sec", "Written to the device in the interval."),
    Metric("disk_read_ops_per_sec", "gauge", "ops_per_sec", "Read requests completed in the interval."),
    Metric("disk_write_ops_per_sec", "gauge", "ops_per_sec", "Write requests completed in the interval."),
    Metric("disk_read_time_ms", "gauge", "ms", "Mean time of a read with its wait; 0 if none completed."),
    Metric("disk_write_time_ms", "gauge", "ms", "Mean time of a write with its wait; 0 if none completed."),
    Metric("disk_await_time_ms", "gauge", "ms", "Mean time of a read or write; 0 if none completed."),
    Metric("disk_io_util_percent", "gauge", "percent", "Share of the interval with a request in flight."),
    Metric("disk_queue_length", "gauge", "", "Mean number of requests in flight in the interval."),
)

SECTOR = 512  # of the kernel's accounting, whatever the device's is

Disk = tuple[int, ...]
"""Counters of one device since boot: reads completed, bytes read, ms of all reads, the same three of writes;
then, if the platform reports them, ms with a request in flight, and ms of all requests with those in flight."""


def build(options: DiskIoOptions, paths: HostPaths) -> Collect:
    """Build the collector. A run reads one file; it raises OSError if it cannot."""
    diskstats = KernelFile(f"{paths.proc}/diskstats", paths.report)
    return disk_io(
        names_of(options),
        lambda names: diskstats.checked(parse_diskstats(diskstats.read(), names)),
        paths.report,
    )


def names_of(options: DiskIoOptions) -> Names:
    """Return the labels of the devices that the options ask for."""
    return Names("device", options.devices(), None if options.partitions else is_partition)


def disk_io(names: Names, read_disks: Callable[[Names], dict[bytes, Disk]], tell: Report = ignore) -> Collect:
    """Build the collector from a reader that returns the devices which `names` does not leave out."""
    growth = Growth()

    def collect(now: float) -> list[Sample]:
        names.begin()
        seconds, grown, disks = growth.step(now, read_disks(names))
        samples: list[Sample] = []
        for name, disk in disks.items():
            labels = names[name]
            if labels is not None and any(disk):
                samples += counters(disk, labels)
                if name in grown:
                    found, impossible = rates(grown[name], seconds, labels)
                    samples += found
                    if impossible:
                        tell(Trouble("device", labels[0][1], impossible))
        return samples

    return collect


def counters(disk: Sequence[int], labels: Labels) -> list[Sample]:
    """Return the cumulative series of one device."""
    samples = [
        Sample("disk_read_bytes_total", float(disk[1]), labels),
        Sample("disk_written_bytes_total", float(disk[4]), labels),
        Sample("disk_reads_completed_total", float(disk[0]), labels),
        Sample("disk_writes_completed_total", float(disk[3]), labels),
    ]
    if len(disk) > 6:
        samples.append(Sample("disk_io_time_seconds_total", disk[6] / 1000, labels))
    return samples


def rates(grown: Sequence[int], seconds: float, labels: Labels) -> tuple[list[Sample], str]:
    """Return the series of one device over an interval of `seconds` > 0 in which its counters grew by `grown`.

    Then what is impossible in it, and so left out; or nothing.
    """
    reads, read_bytes, read_ms, writes, written_bytes, write_ms = grown[:6]
    samples = [
        Sample("disk_read_bytes_per_sec", rate(read_bytes, seconds, 0), labels),
        Sample("disk_write_bytes_per_sec", rate(written_bytes, seconds, 0), labels),
        Sample("disk_read_ops_per_sec", rate(reads, seconds, 2), labels),
        Sample("disk_write_ops_per_sec", rate(writes, seconds, 2), labels),
        Sample("disk_read_time_ms", mean(read_ms, reads), labels),
        Sample("disk_write_time_ms", mean(write_ms, writes), labels),
        Sample("disk_await_time_ms", mean(read_ms + write_ms, reads + writes), labels),
    ]
    if len(grown) <= 6:
        return samples, ""
    samples.append(Sample("disk_queue_length", rate(grown[7] / 1000, seconds, 2), labels))
    util = share(grown[6], seconds * 1000)
    if util is None:
        return samples, "it was busy for longer than the interval"
    return [*samples, Sample("disk_io_util_percent", util, labels)], ""


def parse_diskstats(content: bytes, names: Names) -> tuple[dict[bytes, Disk], int]:
    """Return the devices of /proc/diskstats that `names` does not leave out, and how many lines are malformed.

    What the kernel promises (Documentation/admin-guide/iostats.rst; diskstats_show() in block/genhd.c):

    - disk_read_bytes_total, disk_written_bytes_total, disk_reads_completed_total, disk_writes_completed_total: rise since the
      device was attached. 32 bits where the kernel has 32: requests are then followed over a wrap, while bytes wrap with
      their sectors, at 2 TiB, and begin again.
    - disk_io_time_seconds_total, disk_io_util_percent: 32 bits of milliseconds on every kernel, so it wraps after 50 busy
      days, and is followed. Sampled by the clock tick since Linux 5.0. Some kernels count more of it than there was
      time: such a utilization is absent.
    - disk_read_time_ms, disk_write_time_ms, disk_await_time_ms: from 32 bits of milliseconds, followed over a wrap. A
      request counts when it completes, with all the time that it took.
    - disk_queue_length: from 32 bits of milliseconds, followed over a wrap. Before Linux 5.0 it comes from the
      number of requests in flight.
    - disk_read_bytes_per_sec, disk_write_bytes_per_sec, disk_read_ops_per_sec, disk_write_ops_per_sec: from the counters; absent
      for an interval in which one of the device's counters fell.
    """
    disks: dict[bytes, Disk] = {}
    wrong = 0
    for line in content.splitlines():
        fields = line.split(None, 14)
        if len(fields) < 14:
            wrong += 1
            continue
        if names[fields[2]] is None:
            continue
        counted = numbers(fields[3:11] + fields[12:14])  # between: requests in flight, which is no counter
        if counted is None:
            wrong += 1
            continue
        reads, _, read_sectors, read_ms, writes, _, written_sectors, write_ms, io_ms, weighted_ms = counted
        disks[fields[2]] = (
            reads, read_sectors * SECTOR, read_ms,
            writes, written_sectors * SECTOR, write_ms,
            io_ms, weighted_ms,
        )  # fmt: skip
    return disks, wrong


def is_partition(name: bytes, known: Container[bytes]) -> bool:
    """Whether `name` is a partition of a disk among `known`.

    The kernel calls a partition by its disk's name and its number, with a `p` between them if the disk's name
    ends in a digit (bdev_name() in lib/vsprintf.c), and lists a disk before its partitions. So no file of
    sysfs is needed, and `xvda1` of a virtual machine that has no `xvda` is the whole disk that it is.
    """
    disk = name.rstrip(b"0123456789")
    if disk == name or not disk:
        return False
    if disk in known:
        return True
    return disk.endswith(b"p") and disk[-2:-1].isdigit() and disk[:-1] in known
