"""The host's metrics from inside a container: a root, mounts, processes and a network of its own, made by unshare.

In it are Python, Limpet, an empty network, a /proc of its own, and the host's root at /host, as
`docker run -v /:/host:ro,rslave` makes it.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent.collectors import HostPaths
from tests.support.hosts import READING, Values, labeled, of, values
from tests.support.limpet import ENVIRONMENT, LIMPET
from tests.support.namespaces import inside
from tests.support.run import run

PROJECT = Path(__file__).parents[2]

# What programs need: the system's folders, the interpreter, its environment and the code.
SCRIPT = """
mount -t tmpfs -o mode=755 root "$ROOT"
for path in /bin /lib /lib64 /usr "$PYTHON" "$PROJECT" "$ENVIRONMENT" "$CONFIG"; do
    if [ -L "$path" ]; then ln -s "$(readlink "$path")" "$ROOT$path"; continue; fi
    [ -d "$path" ] || continue
    [ -d "$ROOT$path" ] && continue
    mkdir -p "$ROOT$path"
    mount --bind "$path" "$ROOT$path"
done
mkdir "$ROOT/proc" "$ROOT/host" "$ROOT/dev"
mount -t proc proc "$ROOT/proc"
mount --rbind / "$ROOT/host"
: > "$ROOT/dev/null"
hostname container 2>/dev/null || true
"""

Collect = Callable[[dict[str, Any]], subprocess.CompletedProcess[str]]


@pytest.fixture
def collect(tmp_path: Path) -> Collect:
    """Runs `limpet collect --json` in a container, with this section `collect` of the configuration."""
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "config").mkdir()
    config = tmp_path / "config" / "limpet.yaml"

    def collected(section: dict[str, Any]) -> subprocess.CompletedProcess[str]:
        config.write_text(yaml.safe_dump({"hostname": "web-01", "collect": section, "remote_write": []}))
        command, environment = inside(
            SCRIPT,
            more=["--pid", "--fork", "--net", "--uts"],
            command=["chroot", root, LIMPET, "collect", "--json", "--config", config],
        )
        folders = {"ROOT": root, "PYTHON": sys.base_prefix, "ENVIRONMENT": ENVIRONMENT, "PROJECT": PROJECT}
        folders |= {"CONFIG": config.parent}
        return run(
            *command, env={**environment, **{name: str(path) for name, path in folders.items()}}, timeout=60
        )

    return collected


def read(done: subprocess.CompletedProcess[str]) -> Values:
    assert done.returncode == 0, done.stderr
    found: Values = {}
    for one in json.loads(done.stdout):
        labels = one["labels"]
        assert labels.pop("hostname") == "web-01"
        found[one["name"], tuple(sorted(labels.items()))] = one["value"]
    return found


def of_the_host() -> Values:
    found: Values = {}
    for kind in READING.values():
        found |= values(kind.build(kind.options(), HostPaths())(0.0))
    return found


def same_file_systems(found: Values, host: Values) -> None:
    for name in ("disk_total_bytes", "inode_total"):
        mine, theirs = (
            {
                labels: value
                for (series, labels), value in of.items()
                if series == name and "/pytest-" not in str(labels)
            }
            for of in (found, host)
        )  # without what other tests mount in their folders
        assert mine == theirs, name
    for (name, labels), value in found.items():
        if name == "disk_used_bytes":
            assert value == pytest.approx(host[name, labels], abs=256 << 20)


@pytest.mark.quiet  # other tests mount and unmount
def test_with_the_hosts_root(collect: Collect) -> None:
    """Mount points, interfaces, sockets and all the rest are the host's, though the container has none of them."""
    before = of_the_host()
    done = collect({"host_root": "/host"})
    found, after = read(done), of_the_host()
    assert done.stderr == ""
    same_file_systems(found, before)
    assert labeled(found, "interface") == labeled(before, "interface")
    assert labeled(found, "device") == labeled(before, "device")
    for (name, labels), value in found.items():
        if name.endswith("_total") and name.startswith(("network", "disk_")):
            assert before[name, labels] <= value <= after[name, labels], name
    assert of(found)["memory_total_bytes"] == of(before)["memory_total_bytes"]
    assert of(found)["host_boot_time_seconds"] == pytest.approx(of(before)["host_boot_time_seconds"], abs=2)


def test_sockets_of_the_host_are_seen(collect: Collect) -> None:
    in_use = {"family": "udp4", "state": "in_use"}
    sockets = []
    try:
        for _ in range(50):
            sockets.append(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            sockets[-1].bind(("127.0.0.1", 0))
        found = read(collect({"host_root": "/host"}))
    finally:
        for each in sockets:
            each.close()
    assert of(found, **in_use)["network_connections"] >= 50


@pytest.mark.quiet  # other tests mount and unmount
def test_with_a_proc_of_its_own_mount_points_are_stripped(collect: Collect) -> None:
    """Where only the container's processes are seen, its mounts below /host are the host's; its network is its own."""
    before = of_the_host()
    found = read(collect({"host_root": "/host", "procfs": "/proc", "sysfs": "/host/sys"}))
    same_file_systems(found, before)
    assert not [point for point in labeled(found, "mountpoint") if point.startswith("/host")]
    assert labeled(found, "interface") <= {"sit0", "ip6tnl0", "tunl0", "gre0", "erspan0", "gretap0"} | (
        labeled(before, "interface") - {"eth0"}
    )
    assert labeled(found, "device") == labeled(before, "device")


def test_without_a_word_about_the_host_it_is_the_container(collect: Collect) -> None:
    found = read(collect({"collectors": {"disk_io": {"enabled": False}}}))
    assert "eth0" not in labeled(found, "interface")
    assert "/" not in labeled(found, "mountpoint")  # that is a tmpfs
