"""The collector `link` in network namespaces: a router that answers, drops pings and goes; name servers that stop.

Two namespaces, joined by a link: the site, where a router and name server is at 192.0.2.1 and, beyond it, a name server at
198.51.100.53; and the host, where the collector runs as it does for the agent. In the second test it may not ping.
"""

from __future__ import annotations

from pathlib import Path

from tests.integration.test_network_returns import LINKED, SITE, run

BEYOND = "ip addr add 198.51.100.53/32 dev lo\n"
COLLECT = """
import json, sys, time
from agent.collectors import COLLECTORS, HostPaths

collect = COLLECTORS["link"].build(COLLECTORS["link"].options(), HostPaths())
for _ in sys.stdin:
    print(json.dumps({s.name.removeprefix("link_"): s.value for s in collect(time.monotonic())}), flush=True)
"""
HOST = """
mount -t sysfs sysfs /sys
echo "{group}" > /proc/sys/net/ipv4/ping_group_range
# The kernel asks ARP again within seconds, not within a minute.
echo 1000 > /proc/sys/net/ipv4/neigh/wan/base_reachable_time_ms
echo 1 > /proc/sys/net/ipv4/neigh/wan/delay_first_probe_time
mount --bind {folder}/resolv.conf /etc/resolv.conf
exec "$@"
"""
BEGIN = (
    LINKED
    + """
import socket
from tests.support.dns import NameServer

servers = Path(sys.argv[1]) / "resolv.conf"
servers.write_text("nameserver 192.0.2.1\\nnameserver 198.51.100.53\\n")
beyond = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
beyond.bind(("198.51.100.53", 53))
beyond.setblocking(False)
router = NameServer("192.0.2.1", "localhost", "127.0.0.1")
router.start()
collector = subprocess.Popen(
    [*inside, "unshare", "--mount", "--propagation", "private", "sh", "-ec", HOST, "sh", sys.executable, "-c", COLLECT],
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    text=True,
)


def look():
    collector.stdin.write("now\\n")
    collector.stdin.flush()
    return json.loads(collector.stdout.readline())


def until(what, **wanted):
    def is_so():
        seen = look()
        return wanted.items() <= seen.items() and seen
    found[what] = wait_for(is_so, 60, what)


def pings(ignored):
    Path("/proc/sys/net/ipv4/icmp_echo_ignore_all").write_text(str(ignored))


"""
)
END = """
try:
    beyond.recv(512)
    raise SystemExit("a question has left the site")
except BlockingIOError:
    pass
collector.stdin.close()
collector.wait(10)
host.kill()
host.wait()
print(json.dumps(found))
"""
MAY_PING = """
until("all is well", default_routes=1, gateway_up=1, dns_up=1)

router.stop()
until("the name server has stopped", gateway_up=1, dns_up=0)
servers.write_text("nameserver 192.0.2.9\\nnameserver 192.0.2.1\\n")
router.start()
until("the first of two is dead", dns_up=1)
servers.write_text("nameserver 198.51.100.53\\n")
until("a name server beyond the site", gateway_up=1)

pings(ignored=1)
first = look()
found["pings are dropped"], found["and ARP answers"] = first, look()
pings(ignored=0)
until("pings are answered", gateway_up=1, default_routes=1)

ip("addr del 192.0.2.1/24 dev site")
until("the router is gone", gateway_up=0)
ip("addr add 192.0.2.1/24 dev site")
until("the router is back", gateway_up=1)

ip("route del default", inside)
until("no way out", default_routes=0)
"""
MAY_NOT_PING = """
found["the first run"] = look()
until("by ARP", default_routes=1, gateway_up=1, dns_up=1)
ip("addr del 192.0.2.1/24 dev site")
until("the router is gone", gateway_up=0)
ip("addr add 192.0.2.1/24 dev site")
until("the router is back", gateway_up=1)
"""


def looks(script: str, group: str, folder: Path) -> dict[str, dict[str, float]]:
    """What was collected in each situation of a script."""
    host = f"COLLECT, HOST = {COLLECT!r}, {HOST.format(group=group, folder=folder)!r}\n"
    return dict(run(SITE + BEYOND, host + BEGIN + script + END, folder))  # type: ignore[arg-type]


def test_what_a_technician_would_find(tmp_path: Path) -> None:
    found = looks(MAY_PING, "0 0", tmp_path)
    well = found["all is well"]
    assert set(well) == {"default_routes", "gateway_up", "gateway_answer_ms", "dns_up", "dns_answer_ms"}
    assert 0 < well["gateway_answer_ms"] <= 1000 and 0 < well["dns_answer_ms"] <= 1000
    assert "dns_answer_ms" not in found["the name server has stopped"]
    assert found["the first of two is dead"]["dns_answer_ms"] >= 500  # the dead one's half of a second
    assert not {"dns_up", "dns_answer_ms"} & found["a name server beyond the site"].keys()
    assert found["pings are dropped"] == {
        "default_routes": 1,
        "gateway_up": 0,
    }  # as if it were gone, for one run
    assert found["and ARP answers"] == {"default_routes": 1, "gateway_up": 1}
    assert "gateway_answer_ms" in found["pings are answered"]
    assert found["the router is gone"] == {"default_routes": 1, "gateway_up": 0}
    assert found["no way out"] == {"default_routes": 0}


def test_nobody_may_ping(tmp_path: Path) -> None:
    found = looks(MAY_NOT_PING, "1 0", tmp_path)
    assert "gateway_up" not in found["the first run"]
    for seen in found.values():
        assert "gateway_answer_ms" not in seen
