"""The network goes and comes back under a real agent, in network namespaces: what the kernel reports ends a wait.

Two namespaces, joined by a link: the site, where a receiver listens at 192.0.2.1 and, beyond the default route, at 198.51.100.1;
and the host with the agent. The agent waits for ten minutes after a failure, so that nothing else can bring it back. In the second test
the receiver's name gets another address, and then the name server is another one (/etc/resolv.conf).
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import namespaces

SITE = """
ip link set lo up
ip addr add 198.51.100.1/32 dev lo
"""
NAMES = """
printf 'nameserver 192.0.2.1\\noptions timeout:1 attempts:1\\n' > {folder}/resolv.conf
mount --bind {folder}/resolv.conf /etc/resolv.conf
"""
LINKED = """
import json, os, subprocess, sys, time
from pathlib import Path
from tests.support.agent import QUICK, Agent
from tests.support.net import wait_for
from tests.support.receiver import Receiver

host = subprocess.Popen(["unshare", "--net", "cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
inside = ["nsenter", f"--net=/proc/{host.pid}/ns/net", "--"]


def there(*words):
    subprocess.run([*inside, *words], check=True)


def ip(words, where=()):
    subprocess.run([*where, "ip", *words.split()], check=True)


wait_for(lambda: os.readlink(f"/proc/{host.pid}/ns/net") != os.readlink("/proc/self/ns/net"), 10, "the namespace")
ip(f"link add site type veth peer name wan netns {host.pid}")
ip("addr add 192.0.2.1/24 dev site")
ip("link set site up")
ip("link set lo up", inside)
ip("addr add 192.0.2.2/24 dev wan", inside)
ip("link set wan up", inside)
ip("route add default via 192.0.2.1", inside)

found = {}
"""
RUN = (
    LINKED
    + """
waits = {**QUICK, "min_backoff": "10m", "max_backoff": "10m"}
with Receiver(address="192.0.2.1") as near, Receiver(address="198.51.100.1") as far:
    to = [near, far]
    agent = Agent(
        Path(sys.argv[1]),
        [
            {"name": r.address, "url": f"{r.url}/api/v1/write", "queue_config": waits, "remote_timeout": "3s", "allow_http": True}
            for r in to
        ],
    )
    agent.inside = inside

    def arrive(receivers, what):
        before = [r.samples for r in receivers]
        begun = time.monotonic()
        wait_for(lambda: all(r.samples > n for r, n in zip(receivers, before)), 60, what)
        found[what] = time.monotonic() - begun

    def wait(names):
        wait_for(lambda: all(agent.destination(n).get("state") == "waiting" for n in names), 60, f"{names} to wait")

    with agent:
        arrive([near, far], "the start")

        ip("link set wan down", inside)
        wait(["192.0.2.1", "198.51.100.1"])
        ip("link set wan up", inside)  # its address is still there, the default route is gone
        arrive([near], "a link that is up again")

        wait(["198.51.100.1"])
        ip("route add default via 192.0.2.1", inside)
        arrive([far], "a default route that is back")

        ip("addr flush dev wan", inside)
        wait(["192.0.2.1", "198.51.100.1"])
        ip("addr add 192.0.2.77/24 dev wan", inside)
        arrive([near], "another address")
        assert agent.stop() == 0
host.kill()
host.wait()
print(json.dumps(found))
"""
)

RENAMED = (
    LINKED
    + """
from tests.support.dns import NameServer

ip("addr add 192.0.2.3/24 dev site")
ip("addr add 192.0.2.4/24 dev site")


def arrive(receiver, what):
    before, begun = receiver.samples, time.monotonic()
    wait_for(lambda: receiver.samples > before, 60, what)
    found[what] = time.monotonic() - begun


def wait():
    wait_for(lambda: agent.destination("central").get("state") == "waiting", 60, "the agent to wait")


to = {"name": "central", "remote_timeout": "3s", "allow_http": True}
to["queue_config"] = {**QUICK, "min_backoff": "10m", "max_backoff": "10m"}
old = NameServer("192.0.2.1", "metrics.test", "192.0.2.3")
new = NameServer("192.0.2.4", "metrics.test", "192.0.2.4")
old.start()
with Receiver(address="192.0.2.3") as first, Receiver(address="192.0.2.4", port=first.port) as second:
    to["url"] = f"http://metrics.test:{first.port}/api/v1/write"
    agent = Agent(Path(sys.argv[1]), [to])
    agent.inside = inside
    with agent:
        arrive(first, "the start")

        first.stop()
        old.found = "192.0.2.4"
        arrive(second, "a name that has another address")

        old.stop()
        second.stop()
        wait()  # for a name that nobody knows now
        assert "name" in agent.destination("central")["last_error"], agent.destination("central")
        second.start()
        with new:
            Path("/etc/resolv.conf").write_text("nameserver 192.0.2.4\\noptions timeout:1 attempts:1\\n")
            arrive(second, "another name server")
        assert agent.stop() == 0
host.kill()
host.wait()
print(json.dumps(found))
"""
)


def run(script: str, what: str, folder: Path, within: float = 240) -> dict[str, float]:
    """Run Python code in the namespaces that a script makes, in so many seconds, and return the numbers that it prints."""
    if reason := namespaces.reason():
        pytest.skip(reason)
    if not shutil.which("ip"):
        pytest.skip("there is no ip")
    command, env = namespaces.inside(
        script, more=["--net"], command=[sys.executable, "-c", what, str(folder)]
    )
    done = subprocess.run(command, env=dict(env), capture_output=True, text=True, timeout=within, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, float] = json.loads(done.stdout)
    print(found)
    return found


def test_the_network_is_back_and_so_is_the_agent(tmp_path: Path) -> None:
    assert list(run(SITE, RUN, tmp_path)) == [
        "the start",
        "a link that is up again",
        "a default route that is back",
        "another address",
    ]


def test_the_receiver_and_the_name_server_have_moved(tmp_path: Path) -> None:
    assert list(run(SITE + NAMES.format(folder=tmp_path), RENAMED, tmp_path)) == [
        "the start",
        "a name that has another address",
        "another name server",
    ]
