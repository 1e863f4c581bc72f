"""The way out of the site: is there a default route, does the gateway answer, how long does the name server take?

It shows whether a fault is in the site (cable, switch, router) or behind it. Off unless the configuration names it, and each minute then:
the questions go to the network of the site alone (`agent.collectors.routes`), and nothing leaves it, so that no link is paid for.
A gateway that nobody may ask without a price, behind a modem or a tunnel, has no series, and neither has a name server there.

A run waits for at most `HostPaths.patience`: half of it for the gateways, half for the name servers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from agent.collectors import echo
from agent.collectors.base import Collect, HostPaths, Metric, Sample, Trouble
from agent.collectors.kernel import KernelFile, Names, mean, read_or_none
from agent.collectors.links import Links
from agent.collectors.network import net_of
from agent.collectors.options import Options
from agent.collectors.routes import Gateway, Site, asked, name_servers, parse_neighbors, parse_routes

METRICS = (
    Metric("link_default_routes", "gauge", "", "Default routes of IPv4; 0: there is no way out."),
    Metric(
        "link_gateway_up",
        "gauge",
        "",
        "1 where the gateway of a default route answers, a ping or at least ARP; else 0.",
    ),
    Metric(
        "link_gateway_answer_ms",
        "gauge",
        "ms",
        "How long the gateway took to answer a ping; absent where it did not.",
    ),
    Metric("link_dns_up", "gauge", "", "1 where a name server of the site answers; else 0."),
    Metric(
        "link_dns_answer_ms",
        "gauge",
        "ms",
        "How long it took until a name server answered, with the time for those before it that did not.",
    ),
)

MOST_GATEWAYS = 2
"""The preferred one and a reserve, so that there are seven series at most."""
OWN_ROUTES = "/proc/net/route"
RESOLV_CONF, RESOLVED = "/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"


class Asks(NamedTuple):
    """Who asks: gateways, and name servers, each within so many seconds. Both return seconds."""

    gateways: Callable[[Sequence[Gateway], float], Mapping[Gateway, float]] = echo.echo
    name_servers: Callable[[Sequence[str], float], float | None] = echo.ask


class Past(NamedTuple):
    """What the runs before saw of a gateway: whether it ever answered a ping, and whether the last one was not answered."""

    answered: bool = False
    silent: bool = False


def build(options: Options, paths: HostPaths, asks: Asks | None = None) -> Collect:
    """Build the collector. A run reads two files of the kernel, and asks. It has no samples where the host has no IPv4.

    From inside a container it asks only if it is in the network of the host that it looks at; else that is reported.
    """
    who = asks or Asks()
    net = net_of(paths)
    routes = KernelFile(f"{net}/route", paths.report, optional=True)
    neighbors = KernelFile(f"{net}/arp", paths.report, optional=True)
    links, names = Links(f"{paths.sys}/class/net"), Names("interface", lambda _: True)
    past: dict[Gateway, Past] = {}

    def collect(now: float) -> list[Sample]:
        nonlocal past
        content = routes.read_or_none()
        if content is None:
            return []
        if paths.foreign and content != read_or_none(OWN_ROUTES):
            why = "it is not the network that the agent is in, so that no question is sent"
            paths.report(Trouble("file", routes.path, why))
            return []
        names.begin()
        found = routes.checked(parse_routes(content))
        local = {one.interface for one in found if links.is_local(one.interface.encode())}
        site = Site(found, local)
        samples = [Sample("link_default_routes", float(sum(one.is_default for one in found)))]
        gateways = site.gateways(MOST_GATEWAYS)
        if gateways:
            seconds = who.gateways(gateways, paths.patience / 2)
            resolved = neighbors.checked(parse_neighbors(neighbors.read_or_none() or b""))
            before, past = past, {}
            for one in gateways:
                was = before.get(one, Past())
                labels = names[one.interface.encode()] or ()
                up = state(one in seconds, resolved.get(one, False), was)
                past[one] = Past(was.answered or one in seconds, one not in seconds)
                if up is not None:
                    samples.append(Sample("link_gateway_up", up, labels))
                if one in seconds:
                    samples.append(Sample("link_gateway_answer_ms", mean(1000 * seconds[one], 1), labels))
        return samples + dns(site, servers_of(paths.root), paths.patience / 2, who)

    return collect


def servers_of(root: str) -> Sequence[str]:
    """Return the name servers that the lookups of a host depend on, in their order."""
    of_host, of_resolved = (
        name_servers(read_or_none(f"{root}{path}") or b"") for path in (RESOLV_CONF, RESOLVED)
    )
    return asked(of_host, of_resolved)


def dns(site: Site, servers: Sequence[str], within: float, who: Asks) -> list[Sample]:
    """Return what the name servers of the site have, none where there is none.

    What the standards promise: a name server answers for localhost itself (RFC 6761, 6.3), so that nothing leaves the site.

    What the kernel promises (resolv.conf(5), udp(7)):

    - link_dns_up: any answer counts, a refusal too. A name server beyond the site is not asked. Behind systemd-resolved's stub
      it is the servers that the stub queries.
    - link_dns_answer_ms: as this process sees it. Each of several servers gets the same part of a second, and a lookup asks them in
      the same order: where the first is dead, each lookup of the host is slow.
    """
    near = [one for one in servers if site.has(one)]
    if not near:
        return []
    seconds = who.name_servers(near, within)
    if seconds is None:
        return [Sample("link_dns_up", 0.0)]
    return [Sample("link_dns_up", 1.0), Sample("link_dns_answer_ms", mean(1000 * seconds, 1))]


def state(answered: bool, resolved: bool | None, past: Past) -> float | None:
    """Return whether a gateway is there: 1, 0, or None where one run cannot say it.

    An answer is a proof. Silence is none, because routers may drop pings: then ARP decides. But what the kernel has of it may be
    older than the packet that had it ask again, so that it counts from the second silent run on.

    What the kernel promises (icmp(7), arp(7)):

    - link_gateway_up: of the two preferred default routes over a cable or Wi-Fi, one for an interface. The kernel asks ARP again
      within a minute after a packet. Of a gateway that answers pings the first silent run has 0; one that never does has its
      first value in the second run, and its 0 in the second run after it has gone.
    - link_gateway_answer_ms: as this process sees it, of one ping. Absent where the group of the agent is not in
      net.ipv4.ping_group_range: then an empty packet to the port discard has the kernel ask ARP.
    """
    if answered:
        return 1.0
    if resolved is False:
        return 0.0
    if resolved is None or not past.silent:
        return 0.0 if past.answered else None
    return 1.0
