"""How the hardware is: temperatures, throttling, supply; and what the kernel may run out of.

Temperatures are those of `agent.collectors.chips`, supply and throttling those of `agent.collectors.raspberrypi`. The chips are
read one after another on a thread. One that hangs (on an i2c bus) costs its own readings, keeps that thread, and is not
read again before it has answered; another thread reads the others of the same run.

It runs each minute, because heat is slow and each series costs on a link that is paid for by the megabyte.
"""

from __future__ import annotations

from collections.abc import Iterator

from agent.collectors.base import Collect, HostPaths, Metric, Sample, Trouble
from agent.collectors.chips import Chip, Chips, Readings
from agent.collectors.kernel import KernelFile, number
from agent.collectors.options import SensorsOptions
from agent.collectors.raspberrypi import RaspberryPi
from agent.crew import Crew, Job

METRICS = (
    Metric(
        "sensor_temperature_celsius",
        "gauge",
        "celsius",
        "Temperature of a thermal zone, or of a sensor of a chip (hwmon).",
    ),
    Metric(
        "sensor_throttled",
        "gauge",
        "",
        "1 where a Raspberry Pi slows its processor down, for heat or for want of power; else 0.",
    ),
    Metric(
        "sensor_undervoltage",
        "gauge",
        "",
        "1 where the supply of a Raspberry Pi is or was too weak since the run before; else 0.",
    ),
    Metric("host_uptime_seconds", "gauge", "seconds", "Time since the host was booted, by no clock."),
    Metric("host_open_files", "gauge", "", "Open descriptors of files, sockets and pipes."),
    Metric("host_open_files_max", "gauge", "", "How many the kernel allows; absent where it sets no limit."),
    Metric(
        "host_conntrack_entries", "gauge", "", "Connections that the firewall follows; absent without it."
    ),
    Metric("host_conntrack_entries_max", "gauge", "", "How many it can follow; further ones are refused."),
    Metric(
        "host_entropy_bits",
        "gauge",
        "bits",
        "Entropy of the kernel's random numbers; absent from Linux 5.18 on, which has always enough.",
    ),
)

NEXT_AFTER = 0.05
"""Seconds without an answer after which another thread asks the next chip."""
NO_LIMIT = 2**63 - 1
CHANGING_POOL = 256
"""Bits of the entropy pool of Linux 5.18 and later, which stays full; that of earlier ones is larger."""


def build(options: SensorsOptions, paths: HostPaths) -> Collect:
    """Build the collector. A run leaves out what the host does not have, and never raises OSError."""
    facts, chips, pi = Facts(paths), Chips(paths.sys, options.sensors()), RaspberryPi(paths.sys)
    crew: Crew[Readings] = Crew(NEXT_AFTER, "sensors")

    def collect(now: float) -> list[Sample]:
        samples = list(facts.samples())
        asked: list[Chip | RaspberryPi] = [*chips.latest()]
        if pi.is_there():
            asked.append(pi)
        if not asked:
            return samples
        found = {
            done.key: done
            for done in crew.run([Job(one.name, one.read) for one in asked], paths.patience)
            if not done.late
        }
        stuck = crew.stuck()
        for one in asked:
            done = found.get(one.name)
            if done is not None and done.error is not None:
                paths.report(Trouble("sensor", one.name, type(done.error).__name__))
            elif done is not None and done.result is not None:
                samples += done.result[0]
                for trouble in done.result[1]:
                    paths.report(trouble)
            elif one.name in stuck:
                paths.report(Trouble("sensor", one.name, "it does not answer", stuck=True))
            else:
                crew.forget(one.name)  # its job has not begun, and nobody would wait for the answer
                paths.report(Trouble("sensor", one.name, "it is not asked, because others do not answer"))
        crew.close()
        return samples

    return collect


class Facts:
    """Numbers that the kernel keeps, each in a file of its own."""

    def __init__(self, paths: HostPaths) -> None:
        proc, tell = paths.proc, paths.report
        self._uptime = KernelFile(f"{proc}/uptime", tell, optional=True)
        self._files = KernelFile(f"{proc}/sys/fs/file-nr", tell, optional=True)
        self._entropy, self._pool = (
            KernelFile(f"{proc}/sys/kernel/random/{name}", tell, optional=True)
            for name in ("entropy_avail", "poolsize")
        )
        # The kernel shows each reader the connections of its own network namespace, not of the host that is looked at.
        self._conntrack = () if paths.root else ("count", "max")
        self._connections = {
            name: KernelFile(f"{proc}/sys/net/netfilter/nf_conntrack_{name}", tell, optional=True)
            for name in self._conntrack
        }

    def samples(self) -> Iterator[Sample]:
        """Yield those that the kernel has.

        What the kernel promises (proc_uptime(5), proc_sys_fs(5), networking/nf_conntrack-sysctl.rst, random(4)):

        - host_uptime_seconds: grows by a second in a second, also in suspend. In a container with lxcfs it is the container's.
        - host_open_files, host_open_files_max: of the whole host, containers included. The limit is for all users but root.
        - host_conntrack_entries, host_conntrack_entries_max: of the network namespace. At the limit the kernel drops packets of new
          connections. From inside a container that looks at its host they are absent.
        - host_entropy_bits: an estimate. Where it is near 0 a reader of /dev/random waits, on Linux before 5.6.
        """
        if (seconds := first(self._uptime, b".")) is not None:
            yield Sample("host_uptime_seconds", float(seconds))
        content = self._files.read_or_none()
        fields = [number(field) for field in (content or b"").split()]
        if len(fields) == 3 and fields[0] is not None:
            yield Sample("host_open_files", float(fields[0]))
            if fields[2] is not None and 0 < fields[2] < NO_LIMIT:
                yield Sample("host_open_files_max", float(fields[2]))
        elif content is not None:
            self._files.checked(((), 1))
        if (entries := first(self._connections.get("count"))) is not None:
            yield Sample("host_conntrack_entries", float(entries))
            if (most := first(self._connections.get("max"))) is not None:
                yield Sample("host_conntrack_entries_max", float(most))
        pool = first(self._pool)
        if pool is not None and pool > CHANGING_POOL and (bits := first(self._entropy)) is not None:
            yield Sample("host_entropy_bits", float(min(bits, pool)))


def first(file: KernelFile | None, end: bytes = b"\n") -> int | None:
    """Return the number that a file begins with, before `end`; None, and reported, if it has none."""
    content = None if file is None else file.read_or_none()
    if file is None or content is None:
        return None
    found = number(content.partition(end)[0].strip())
    return file.checked((found, int(found is None)))
