"""The way out of the site: which questions are sent, and what the answers are worth. Nothing here sends a packet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.collectors import Collect, HostPaths, Options, Trouble, link
from agent.collectors.link import Asks, Past, state
from agent.collectors.routes import (
    Gateway,
    Route,
    Site,
    asked,
    name_servers,
    parse_neighbors,
    parse_routes,
)
from tests.support.hosts import Values, values
from tools import metrics_page

HEAD = b"Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
ROUTES = (
    HEAD
    + b"""eth0\t00000000\t0100A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0
wlan0\t00000000\t0101A8C0\t0003\t0\t0\t600\t00000000\t0\t0\t0
eth1\t00000000\t01020A0A\t0003\t0\t0\t700\t00000000\t0\t0\t0
ppp0\t00000000\t00000000\t0001\t0\t0\t800\t00000000\t0\t0\t0
eth0\t0000A8C0\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0
wlan0\t0001A8C0\t00000000\t0001\t0\t0\t600\t00FFFFFF\t0\t0\t0
tun0\t0000000A\t00000000\t0001\t0\t0\t0\t000000FF\t0\t0\t0
*\t0000A0AC\t00000000\t0201\t0\t0\t0\t0000FFFF\t0\t0\t0
"""
)
ARP_HEAD = b"IP address       HW type     Flags       HW address            Mask     Device\n"
MAIN, RESERVE = Gateway("eth0", "192.168.0.1"), Gateway("wlan0", "192.168.1.1")
LOCAL = ("eth0", "wlan0", "eth1")
FLAGS = {"eth0": "0x1003", "wlan0": "0x1003", "eth1": "0x1003", "ppp0": "0x10d1", "tun0": "0x10d1"}


def arp(*lines: tuple[str, str, str]) -> bytes:
    """The table with these addresses, flags and interfaces."""
    rows = (
        f"{at:16} 0x1         {flags}         02:fc:00:00:00:05     *        {dev}\n"
        for at, flags, dev in lines
    )
    return ARP_HEAD + "".join(rows).encode()


def test_routes_that_work_in_the_bytes_of_this_machine() -> None:
    routes, wrong = parse_routes(ROUTES)
    assert wrong == 0
    assert routes[0] == Route("eth0", 0, 0, 0xC0A80001, 100)
    assert routes[4] == Route("eth0", 0xC0A80000, 0xFFFFFF00, 0, 100)
    assert [one.interface for one in routes if one.is_default] == ["eth0", "wlan0", "eth1", "ppp0"]
    assert "*" not in {one.interface for one in routes}  # it rejects
    assert parse_routes(HEAD + b"eth0\t0\n" + b"eth0 x 0 3 0 0 0 0 0 0 0\n") == ([], 2)


def test_the_preferred_gateways_of_the_site_one_for_an_interface() -> None:
    routes = parse_routes(ROUTES)[0]
    more = [Route("eth0", 0, 0, 0xC0A800FE, 50), *routes]
    assert Site(routes, LOCAL).gateways(2) == [MAIN, RESERVE]
    assert Site(routes, LOCAL).gateways(9)[2:] == [Gateway("eth1", "10.10.2.1")]
    assert Site(more, LOCAL).gateways(9)[0] == Gateway("eth0", "192.168.0.254")
    assert Site(routes, ("wlan0",)).gateways(2) == [RESERVE]
    assert Site(routes, ()).gateways(2) == []


@pytest.mark.parametrize(
    ("address", "is_near"),
    [("127.0.0.1", True), ("127.0.0.53", True), ("::1", True), ("192.168.0.1", True), ("192.168.1.77", True),
     ("192.168.2.1", False), ("8.8.8.8", False), ("10.0.0.53", False), ("172.16.0.1", False), ("fe80::1%eth0", False),
     ("2001:db8::1", False), ("", False), ("router.lan", False), ("1.2.3.4.5", False)],
)  # fmt: skip
def test_what_is_near_is_a_neighbor_by_its_best_route(address: str, is_near: bool) -> None:
    """10.0.0.53 is behind a tunnel, 8.8.8.8 behind the gateway."""
    assert Site(parse_routes(ROUTES)[0], LOCAL).has(address) is is_near


def test_neighbors() -> None:
    table = arp(("192.168.0.1", "0x2", "eth0"), ("192.168.1.1", "0x0", "wlan0"), ("10.10.2.1", "0x6", "eth1"))
    found, wrong = parse_neighbors(table + b"oh\n")
    assert found == {MAIN: True, RESERVE: False, Gateway("eth1", "10.10.2.1"): None}
    assert wrong == 1


def test_name_servers_and_what_is_behind_the_stub() -> None:
    text = b"# nameserver 9.9.9.9\nsearch lan\nnameserver 192.168.0.1\n nameserver ::1 # two\nnameserver\noptions edns0\n"
    assert name_servers(text) == ["192.168.0.1", "::1"]
    assert name_servers(b"nameserver 1\n" * 5) == ["1"] * 3
    assert asked(["127.0.0.53"], ["192.168.0.1", "8.8.8.8"]) == ["192.168.0.1", "8.8.8.8"]
    assert asked(["127.0.0.53", "192.168.0.9"], ["192.168.0.1"]) == ["127.0.0.53", "192.168.0.9"]
    assert asked([], ["192.168.0.1"]) == []


@given(st.binary(max_size=200))
def test_garbage_is_counted_and_raises_nothing(content: bytes) -> None:
    routes, _ = parse_routes(HEAD + content)
    parse_neighbors(ARP_HEAD + content)
    for server in name_servers(content):
        Site(routes, LOCAL).has(server)
    Site(routes, [one.interface for one in routes]).gateways(2)


@pytest.mark.parametrize(
    ("answers", "resolved", "ups"),
    [
        ("yyny", [True] * 4, [1, 1, 0, 1]),  # one ping was lost
        ("ynnn", [True, True, False, False], [1, 0, 0, 0]),  # it is gone
        ("ynnn", [True] * 4, [1, 0, 1, 1]),  # it drops pings since its update
        ("nnnn", [True] * 4, [None, 1, 1, 1]),  # it always did, or nobody may ping
        ("nnnn", [True, True, False, True], [None, 1, 0, 1]),
        ("nnnn", [False] * 4, [0, 0, 0, 0]),
        ("nnnn", [None] * 4, [None] * 4),  # a person set its address
        ("ynnn", [None] * 4, [1, 0, 0, 0]),
    ],
)  # fmt: skip
def test_what_a_silent_gateway_is(answers: str, resolved: list[bool | None], ups: list[float | None]) -> None:
    past, found = Past(), []
    for answer, arp_says in zip(answers, resolved, strict=True):
        found.append(state(answer == "y", arp_says, past))
        past = Past(past.answered or answer == "y", answer == "n")
    assert found == ups


class Box:
    """A host's files, made by a test, and what its network answers, in seconds."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.told, self.asked = folder, list[Trouble](), list[Sequence[object]]()
        self.gateways: dict[Gateway, float] = {}
        self.dns: float | None = None
        for name, flags in FLAGS.items():
            self.write(f"sys/class/net/{name}/flags", f"{flags}\n".encode())
        self.write("proc/net/route", ROUTES)
        self.write("proc/net/arp", arp())
        self.write("etc/resolv.conf", b"nameserver 192.168.0.1\nnameserver 8.8.8.8\n")
        monkeypatch.setattr(link, "OWN_ROUTES", f"{folder}/proc/net/route")

    def write(self, path: str, content: bytes) -> None:
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)

    def collector(self) -> Collect:
        root = str(self.folder)
        paths = HostPaths(f"{root}/proc", f"{root}/sys", root, report=self.told.append)
        return link.build(Options(), paths, Asks(self._gateways, self._dns))

    def _gateways(self, gateways: Sequence[Gateway], within: float) -> Mapping[Gateway, float]:
        assert within == 1.0
        self.asked.append(gateways)
        return {one: self.gateways[one] for one in gateways if one in self.gateways}

    def _dns(self, servers: Sequence[str], within: float) -> float | None:
        assert within == 1.0
        self.asked.append(servers)
        return self.dns


@pytest.fixture
def box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Box:
    return Box(tmp_path, monkeypatch)


def seen(found: Values) -> dict[str, float]:
    return {
        " ".join([name, *(value for _, value in labels)]): value for (name, labels), value in found.items()
    }


def test_the_most_series_there_are(box: Box) -> None:
    box.gateways, box.dns = {MAIN: 0.000412, RESERVE: 0.0152}, 0.00345
    collect = box.collector()
    first = collect(0.0)
    assert seen(values(first)) == {
        "link_default_routes": 4.0,
        "link_gateway_up eth0": 1.0,
        "link_gateway_answer_ms eth0": 0.41,
        "link_gateway_up wlan0": 1.0,
        "link_gateway_answer_ms wlan0": 15.2,
        "link_dns_up": 1.0,
        "link_dns_answer_ms": 3.45,
    }
    assert box.asked == [[MAIN, RESERVE], ["192.168.0.1"]]  # and not what is beyond the site
    assert box.told == []
    for one, other in zip(first, collect(60.0), strict=True):
        assert one.name in {metric.name for metric in link.METRICS}
        assert one.labels is other.labels
        assert tuple(key for key, _ in one.labels) == metrics_page.labels_of(one.name)


def test_nobody_answers(box: Box) -> None:
    collect = box.collector()
    box.write("proc/net/arp", arp(("192.168.0.1", "0x0", "eth0"), ("192.168.1.1", "0x2", "wlan0")))
    first = {"link_default_routes": 4.0, "link_gateway_up eth0": 0.0, "link_dns_up": 0.0}
    assert seen(values(collect(0.0))) == first
    assert seen(values(collect(60.0))) == first | {"link_gateway_up wlan0": 1.0}


def test_no_way_out_is_zero_and_nothing_is_sent(box: Box) -> None:
    box.write("proc/net/route", HEAD)
    box.write("etc/resolv.conf", b"nameserver 8.8.8.8\n")
    assert seen(values(box.collector()(0.0))) == {"link_default_routes": 0.0}
    box.write("proc/net/route", HEAD + ROUTES.splitlines(True)[4])  # by modem alone
    assert seen(values(box.collector()(0.0))) == {"link_default_routes": 1.0}
    (box.folder / "proc/net/route").unlink()
    assert box.collector()(0.0) == []
    assert (box.asked, box.told) == ([], [])


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("uevent", b"DEVTYPE=wwan\nINTERFACE=eth0\n"),
        ("flags", b"0x1083\n"),
        ("flags", b"0x1013\n"),
        ("flags", b"\n"),
    ],
)
def test_no_packet_into_what_may_be_paid_for(box: Box, file: str, content: bytes) -> None:
    box.write(f"sys/class/net/eth0/{file}", content)
    box.gateways, box.dns = {MAIN: 0.1, RESERVE: 0.1}, 0.1
    found = seen(values(box.collector()(0.0)))
    assert box.asked[0][0] == RESERVE
    assert not any("eth0" in name or "dns" in name for name in found)


def test_a_container_with_a_network_of_its_own_asks_nobody(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert box.collector()(0.0) == []
    assert box.asked == []
    assert [(one.kind, one.name) for one in box.told] == [("file", f"{box.folder}/proc/net/route")]


def test_what_is_malformed_is_reported(box: Box) -> None:
    box.write("proc/net/route", ROUTES + b"eth0\n")
    box.write("proc/net/arp", b"\nx\n")
    assert seen(values(box.collector()(0.0)))["link_default_routes"] == 4.0
    assert [one.name.rpartition("/")[2] for one in box.told] == ["route", "arp"]
