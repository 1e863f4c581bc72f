"""After an outage a real Prometheus has when it was and why: a real agent, whose link, receiver and name server go, and a kill -9.

In network namespaces, as in `test_network_returns`, where Prometheus is at the site, and is known by a name.
"""

from __future__ import annotations

from pathlib import Path

from tests.integration.test_network_returns import LINKED, NAMES, SITE, run

TOLD = """
from tests.support.dns import NameServer
from tests.support.net import free_port
from tests.support.prometheus import Prometheus

folder, port = Path(sys.argv[1]), free_port()
server = Prometheus(Path("PROGRAM"), folder / "prometheus", port=port, flags=(f"--web.listen-address=192.0.2.1:{port}",))
url = f"http://metrics.test:{port}/api/v1/write"
to = {"name": "central", "url": url, "allow_http": True, "remote_timeout": "1s"}
agent = Agent(folder / "agent", [to])
agent.inside = inside
spans = {}


def delivered():
    return agent.destination("central").get("ledger", {}).get("delivered", 0)


def arrive(what):
    before = delivered()
    wait_for(lambda: delivered() > before, 60, what)


def down(cause, seconds=3.0):
    # Nothing gets through, for this cause, for a few seconds.
    wait_for(lambda: agent.destination("central").get("state") == "waiting", 60, cause)
    begun = time.time()
    wait_for(lambda: time.time() > begun + seconds, 60, "time")
    spans[cause] = begun, time.time()


with NameServer("192.0.2.1", "metrics.test", "192.0.2.1") as names, server, agent:
    arrive("the start")

    ip("link set wan down", inside)
    down("link")
    agent.kill()
    killed = time.time()
    agent.start()
    down("link again")
    ip("link set wan up", inside)
    arrive("a link that is up")  # over the link alone
    ip("route add default via 192.0.2.1", inside)

    server.stop()
    down("tcp")
    names.stop()
    down("dns")
    names.start()
    server.start()
    arrive("Prometheus again")
    arrive("more")

    def shown(expr):
        return server.query_range(expr, spans["link"][0] - 5, time.time(), 1.0)

    for cause in ("link", "tcp", "dns"):
        [points] = shown(f'limpet_outage_seconds_total{{cause="{cause}"}}').values()
        rises = [at / 1000 for (_, before), (at, value) in zip(points, points[1:]) if value > before]
        found[cause] = sum(max(0, value - before) for (_, before), (_, value) in zip(points, points[1:]))
        spans[cause] = rises[0], spans["link again" if cause == "link" else cause][1] - spans[cause][0], rises[-1]
    [(_, start)] = server.query("limpet_outage_start_time_seconds").items()
    [(_, end)] = server.query("limpet_outage_end_time_seconds").items()
    found["backfilled"] = server.query("limpet_outage_backfilled_samples").popitem()[1]
    found["last outage"] = end - start
    # The one in which the agent was killed is one outage, that begins before the kill.
    starts = {value for points in shown("limpet_outage_start_time_seconds").values() for _, value in points}
    found["begins"] = len(starts)
    found["began before the kill"] = killed - min(starts)
    found["dead"] = spans["link"][1]
    # Each cause is shown over the time in which it was so.
    found["tcp after link"] = spans["tcp"][0] - spans["link"][2]
    found["dns after tcp"] = spans["dns"][0] - spans["tcp"][2]
    assert agent.stop() == 0
host.kill()
host.wait()
print(json.dumps(found))
"""


def test_prometheus_has_when_nothing_got_through_and_why(tmp_path: Path, prometheus_program: Path) -> None:
    script = SITE + NAMES.format(folder=tmp_path)
    found = run(script, LINKED + TOLD.replace("PROGRAM", str(prometheus_program)), tmp_path)
    assert (
        5 <= found["link"] <= found["dead"] + 2
    )  # what passed between the kill and the start counts for nothing
    assert 2 <= found["tcp"] <= 20
    assert 1 <= found["dns"] <= 20
    assert found["begins"] == 2
    assert found["began before the kill"] >= 3
    assert found["last outage"] >= 6
    assert found["backfilled"] > 0
    assert found["tcp after link"] > 0
    assert found["dns after tcp"] >= 0
