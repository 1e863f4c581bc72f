"""What the agent counts of its link is what the kernel counts on the interface, and a data budget is kept, to 2 %.

In network namespaces, with real packets. By hand over ten minutes: LIMPET_BUDGET_SECONDS=600 LIMPET_BUDGET_BYTES=2000000 pytest tests/load/test_budget.py
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.integration.test_network_returns import LINKED, SITE, run

SECONDS = int(os.environ.get("LIMPET_BUDGET_SECONDS", "25"))
BUDGET = int(os.environ.get("LIMPET_BUDGET_BYTES", str(100 << 10)))
REQUEST = 4500
"""Bytes of one here, for which nothing is begun that would not suffice: heads are long, so that a short test spends a budget."""
RUN = (
    LINKED
    + """
# A virtual link would carry several packets as one, with one head: a real one does not.
ip("link set site gso_max_segs 1")
ip("link set wan gso_max_segs 1", inside)
ip("link set wan addrgenmode none", inside)  # nor is anything else to be counted: no IPv6
ip("addr flush dev wan scope link", inside)


def on_wire():
    "The bytes of IP packets on the interface: without the 14 of each frame, and ARP and IPv6 do not count much."
    names = ["rx_bytes", "tx_bytes", "rx_packets", "tx_packets"]
    paths = [f"/sys/class/net/wan/statistics/{name}" for name in names]
    done = subprocess.run([*inside, "unshare", "--mount", "sh", "-ec", "mount -t sysfs none /sys; cat " + " ".join(paths)], check=True, capture_output=True, text=True)
    rx, tx, packets, more = map(int, done.stdout.split())
    return rx + tx - 14 * (packets + more)

with Receiver(address="192.0.2.1") as receiver:
    budget = {"per_day": f"{limit}B"} if limit else {}
    to = {"name": "paid", "url": f"{receiver.url}/api/v1/write", "allow_http": True, "data_budget": budget, "headers": {"X-Long": "x" * 3000}}
    agent = Agent(Path(sys.argv[1]), [to])
    agent.inside = inside
    before = on_wire()
    with agent:
        time.sleep(seconds)
        found["waits"] = agent.destination("paid")["state"] == "waiting"
        agent.stop()
        found["counted"] = agent.destination("paid")["link"]["day_bytes"]
    time.sleep(1)
    found["on_wire"] = on_wire() - before
    ledger = agent.destination("paid")["ledger"]
    found["balanced"] = ledger["appended"] == ledger["delivered"] + ledger["pending"] and not any(ledger["dropped"].values())
host.stdin.close()
host.wait()
print(json.dumps(found))
"""
)


@pytest.mark.timeout(SECONDS + 120)
@pytest.mark.parametrize("limit", [0, BUDGET], ids=["counted", "kept"])
def test_real_bytes(tmp_path: Path, limit: int) -> None:
    found = run(SITE, f"limit, seconds = {limit}, {SECONDS}\n{RUN}", tmp_path, SECONDS + 90)
    assert found["balanced"]
    assert found["counted"] == pytest.approx(found["on_wire"], rel=0.02)
    assert found["waits"] == bool(limit)
    if limit:
        assert 0.98 * limit - REQUEST <= found["on_wire"] <= 1.02 * limit
