"""Which interfaces have a speed that something measured, which are there at all, and what their drops were."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from agent.collectors import COLLECTORS, HostPaths, Trouble
from agent.collectors.links import Links
from tests.support import namespaces
from tests.support.hosts import Values, labeled, of, values


class Net:
    """A host's files of the network, made by a test; `count` sets what an interface has counted."""

    def __init__(self, folder: Path) -> None:
        self.sys, self.told, self._lines = folder / "sys/class/net", list[Trouble](), dict[str, str]()
        self._dev = folder / "proc/net/dev"
        self._dev.parent.mkdir(parents=True)
        paths = HostPaths(str(folder / "proc"), str(folder / "sys"), report=self.told.append)
        self._collect, self._now = COLLECTORS["network"].build(COLLECTORS["network"].options(), paths), -10.0

    def add(self, name: str, *, device: bool = False, **files: str) -> None:
        """An interface, on a bus or not, with these files; `lower` are the names of those below it."""
        for below in files.pop("lower", "").split():
            (self.sys / name / f"lower_{below}").mkdir(parents=True)
        if device:
            (self.sys / name / "device").mkdir(parents=True)
        for file, content in files.items():
            path = self.sys / name / file.replace("__", "/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content + "\n")

    def count(
        self, name: str, received: int = 0, packets: int = 0, drops: int = 0, frame: int = 0, fifo: int = 0
    ) -> None:
        self._lines[name] = f"{name}: {received} {packets} 0 {drops} {fifo} {frame} 0 0 0 0 0 0 0 0 0 0\n"

    def run(self) -> Values:
        self._dev.write_text("".join(self._lines.values()))
        self._now += 10
        return values(self._collect(self._now))

    def usage(self, name: str, received: int) -> float | None:
        """The usage of an interface after one more run, in which it has received so much in all."""
        self.count(name, received, received // 1000)
        return of(self.run(), interface=name).get("network_bandwidth_usage_percent")


@pytest.fixture
def net(tmp_path: Path) -> Net:
    return Net(tmp_path)


WLAN, WWAN = "DEVTYPE=wlan\nINTERFACE=wlan0", "DEVTYPE=wwan\nINTERFACE=wwan0"


def test_only_a_cable_and_what_is_made_of_cables_has_a_speed(net: Net) -> None:
    net.add("eth0", device=True, speed="1000", uevent="INTERFACE=eth0")
    net.add("eth1", device=True, speed="1000")
    net.add("eth0.7", speed="1000", uevent="DEVTYPE=vlan", lower="eth0")
    net.add("bond0", speed="2000", uevent="DEVTYPE=bond", lower="eth0 eth1")
    net.add("team0", speed="2000", uevent="DEVTYPE=team", lower="eth0 eth1")
    net.add("bond0.9", speed="2000", uevent="DEVTYPE=vlan", lower="bond0")
    net.add("bond1", speed="11000", uevent="DEVTYPE=bond", lower="eth0 veth1")  # a part of it is made up
    net.add("tun0", speed="10", tun_flags="0x1001")
    net.add("tap0", speed="10000", tun_flags="0x1002")
    net.add("veth1", speed="10000", lower="eth0")
    net.add("br0", speed="10000", uevent="DEVTYPE=bridge", lower="eth0")
    net.add("macvlan0", speed="1000", uevent="DEVTYPE=macvlan", lower="eth0")
    net.add("wlan0", device=True, speed="54", uevent=WLAN)
    net.add("wlan1", device=True, speed="54", phy80211__index="0")
    net.add("wwan0", device=True, speed="150", uevent=WWAN)
    net.add("ens3", device=True, speed="-1")  # virtio
    net.add("eth2", device=True, speed="65535000000")  # what no driver says
    links = Links(str(net.sys))
    speeds = {folder.name: links.speed(folder.name.encode()) for folder in net.sys.iterdir()}
    measured = {name: speed for name, speed in speeds.items() if speed is not None}
    assert measured == {
        "eth0": 1000,
        "eth1": 1000,
        "eth0.7": 1000,
        "bond0": 2000,
        "team0": 2000,
        "bond0.9": 2000,
    }


def test_interfaces_below_each_other_end(net: Net) -> None:
    net.add("a", speed="1", uevent="DEVTYPE=bond", lower="b")
    net.add("b", speed="1", uevent="DEVTYPE=bond", lower="a")
    assert Links(str(net.sys)).speed(b"a") is None


def test_a_tunnel_at_24_mbit_has_no_bandwidth_usage(net: Net) -> None:
    """It had 236 % of its 10 Mbit/s, and HostNetworkBusy was critical."""
    net.add("tun0", speed="10", tun_flags="0x1001")
    net.usage("tun0", 1000)
    assert net.usage("tun0", 29_500_000) is None
    assert net.told == []


def test_a_speed_that_is_exceeded_is_not_believed_until_it_changes(net: Net) -> None:
    """A card of a virtual machine claims a speed, and its traffic passes no cable."""
    net.add("eth0", device=True, speed="100")
    received = 1000
    net.usage("eth0", received)
    for megabits, usage in ((50, 50), (105, 100), (400, None), (50, None), (50, None)):
        received += megabits * 1_250_000
        assert net.usage("eth0", received) == usage
    why = "more passes than its speed of 100 Mbit/s allows, so that is not believed"
    assert net.told == [Trouble("interface", "eth0", why)]  # once, and not in every run
    net.add("eth0", speed="1000")
    found = [net.usage("eth0", received + (turn + 1) * 50 * 1_250_000) for turn in range(7)]
    assert found[-1] == 5


def test_a_link_that_became_faster_within_the_minute(net: Net) -> None:
    net.add("eth0", device=True, speed="100")
    net.usage("eth0", 1000)
    assert net.usage("eth0", 125_001_000 // 2) == 50
    net.add("eth0", speed="1000")
    assert net.usage("eth0", 125_001_000 // 2 + 625_000_000) == 50
    assert net.told == []


def test_what_is_down_and_has_never_counted_has_no_series(net: Net) -> None:
    for name, state in {
        "docker0": "down",
        "dummy0": "down",
        "vlan9": "lowerlayerdown",
        "eth0": "up",
        "wg0": "unknown",
    }.items():
        net.add(name, operstate=state)
        net.count(name)
    net.count("nothing-is-known0")
    assert labeled(net.run(), "interface") == {"eth0", "wg0", "nothing-is-known0"}
    net.add("docker0", operstate="up")
    assert labeled(net.run(), "interface") == {"eth0", "wg0", "nothing-is-known0", "docker0"}
    net.count("docker0", 1000, 10)
    net.add("docker0", operstate="down")
    assert "docker0" in labeled(net.run(), "interface")  # it has counted, so its series stay


def drops(found: Values) -> tuple[float | None, ...]:
    mine = of(found, interface="eth0")
    return tuple(mine.get(f"network_{what}_in_total") for what in ("drops", "missed", "unwanted"))


def test_lost_packets_are_counted_apart_from_unwanted_ones(net: Net) -> None:
    """Of the column `drop` of /proc/net/dev: rx_missed_errors is loss, rx_dropped mostly what nobody listens to."""
    net.count("eth0", 1000, 10)
    assert drops(net.run()) == (0, 0, 0)  # without a look at sysfs
    net.add(
        "eth0", statistics__rx_missed_errors="0", statistics__rx_over_errors="0", statistics__rx_dropped="40"
    )
    net.count("eth0", 1000, 10, drops=40)
    assert drops(net.run()) == (40, 0, 40)
    net.add("eth0", statistics__rx_missed_errors="5", statistics__rx_dropped="41")
    assert drops(net.run()) == (40, 0, 40)  # the columns are the same, so the files are
    net.count("eth0", 1000, 10, drops=46)
    assert drops(net.run()) == (46, 5, 41)
    net.add("eth0", statistics__rx_over_errors="9")  # the same loss, as some drivers say it
    net.count("eth0", 1000, 10, drops=46, frame=9)
    assert drops(net.run()) == (46, 9, 41)
    net.count("eth0", 1000, 10, drops=46, frame=9, fifo=12)
    assert drops(net.run()) == (46, 12, 41)
    shutil.rmtree(net.sys / "eth0")
    net.count("eth0", 1000, 10, drops=47, frame=9, fifo=12)
    assert drops(net.run()) == (47, None, None)


# Interfaces of the kernel itself, in a network namespace: a frame for nobody, and speeds that it makes up.
REAL = """
mount -t sysfs none /sys
ip link set lo up
ip tuntap add dev tun0 mode tun
ip link add veth0 type veth peer name veth1
ip link add br0 type bridge
ip link add link veth0 name mac0 type macvlan
ip link set veth0 up; ip link set veth1 up
"""
SEND_AND_READ = """
import json, socket, sys
from agent.collectors import COLLECTORS, HostPaths
from agent.collectors.links import Links

collect = COLLECTORS["network"].build(COLLECTORS["network"].options(exclude_interfaces=("lo",)), HostPaths())
before = {str(s[:1] + s[2:]): s.value for s in collect(0.0)}
out = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
out.bind(("veth0", 0))
for _ in range(500):
    out.send(b"\\xff" * 6 + b"\\x02\\x00\\x00\\x00\\x00\\x01" + b"\\x88\\xb5" + bytes(60))  # an experimental protocol
after = collect(10.0)
names = [n for n in ("tun0", "veth0", "br0", "mac0")]
print(json.dumps([[list(s) for s in after], {n: Links("/sys/class/net").speed(n.encode()) for n in names}]))
"""


def test_the_kernels_own_interfaces() -> None:
    if reason := namespaces.reason():
        pytest.skip(reason)
    if not shutil.which("ip"):
        pytest.skip("there is no ip")
    command, env = namespaces.inside(REAL, more=["--net"], command=[sys.executable, "-c", SEND_AND_READ])
    done = subprocess.run(command, env=dict(env), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    samples, speeds = json.loads(done.stdout)
    found = {(name, dict(map(tuple, labels)).get("interface")): value for name, value, labels in samples}
    assert speeds == dict.fromkeys(speeds, None)
    assert not [name for name, _ in found if name == "network_bandwidth_usage_percent"]
    assert {interface for name, interface in found if name == "network_sent_bytes_total"} >= {
        "veth0",
        "veth1",
    }
    assert ("network_sent_bytes_total", "tun0") not in found
    assert found["network_unwanted_in_total", "veth1"] >= 500
    assert found["network_drops_in_total", "veth1"] >= 500
    assert found["network_missed_in_total", "veth1"] == 0
