"""What the system says about its network, and the tries that follow: made-up messages, and the kernel's own in a namespace."""

from __future__ import annotations

import errno
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.destinations.base import Outcome, Verdict
from agent.send.early import GAP, Early
from agent.send.state import Rules, Situation, State
from agent.system.news import MOST, SUSPENDED, News
from tests.support import namespaces

NEW_LINK, NEW_ROUTE, UP, RUNNING = 16, 24, 0x1, 0x40


def message(kind: int, text: bytes) -> bytes:
    whole = struct.pack("=IHHII", 16 + len(text), kind, 0, 0, 0) + text
    return whole + bytes(-len(whole) % 4)


def link(index: int, flags: int) -> bytes:
    return message(NEW_LINK, struct.pack("=BxHiII", 0, 1, index, flags, 0xFFFFFFFF) + b"\x01\x02\x03")


class Kernel:
    """The news of a kernel that says what a test sends."""

    def __init__(self, folder: Path) -> None:
        self.said, heard = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        heard.setblocking(False)
        self.suspended, self.file = 5.0, folder / "resolv.conf"
        self.news = News(lambda: heard, lambda: self.suspended, [str(self.file), str(folder / "none")])

    def say(self, *messages: bytes) -> None:
        self.said.send(b"".join(messages))


@pytest.fixture
def kernel(tmp_path: Path) -> Iterator[Kernel]:
    found = Kernel(tmp_path)
    yield found
    found.news.close()
    found.said.close()


def test_without_an_event_there_is_no_news(kernel: Kernel) -> None:
    assert [kernel.news.heard() for _ in range(3)] == [False] * 3


def test_a_route_is_news_once(kernel: Kernel) -> None:
    kernel.say(message(NEW_ROUTE, bytes(12)))
    assert [kernel.news.heard() for _ in range(3)] == [True, False, False]


def test_a_link_is_news_when_it_changes_and_not_when_it_repeats_itself(kernel: Kernel) -> None:
    for flags, is_news in ((UP, True), (UP, False), (UP | RUNNING, True), (UP | RUNNING, False), (0, True)):
        kernel.say(link(2, flags))
        assert kernel.news.heard() is is_news
    kernel.say(link(2, 0), link(3, UP), link(2, 0))
    assert kernel.news.heard()


def test_a_suspend_is_news(kernel: Kernel) -> None:
    kernel.suspended += SUSPENDED / 2  # two clocks that were not read at the same moment
    assert not kernel.news.heard()
    kernel.suspended += 60
    assert kernel.news.heard()
    assert not kernel.news.heard()


def test_other_name_servers_are_news(kernel: Kernel) -> None:
    kernel.file.write_text("nameserver 192.0.2.1\n")
    assert kernel.news.heard()
    other = kernel.file.with_suffix(".new")
    other.write_text("nameserver 192.0.2.2\n")
    other.replace(kernel.file)
    assert kernel.news.heard()
    kernel.file.unlink()
    assert kernel.news.heard()
    assert not kernel.news.heard()


def test_a_flood_is_read_in_parts(kernel: Kernel) -> None:
    kernel.said.setblocking(False)
    with suppress(BlockingIOError):
        for _ in range(100_000):
            kernel.say(message(NEW_ROUTE, bytes(12)))
    looks = 0
    while kernel.news.heard():
        looks += 1
    assert looks >= 1
    for _ in range(2 * MOST):  # and there is room again
        kernel.say(link(1, UP))
        kernel.news.heard()


@given(st.binary(max_size=200))
def test_whatever_the_kernel_says_nothing_is_raised(data: bytes) -> None:
    said, heard = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    heard.setblocking(False)
    with said:
        news = News(lambda: heard, lambda: 0.0, [])
        said.send(data)
        news.heard()
        said.send(link(1, UP)[:-9])
        assert not news.heard()
        news.close()


class Broken:
    """A socket whose every read fails."""

    def __init__(self, number: int) -> None:
        self.number, self.reads = number, 0

    def recv(self, _size: int) -> bytes:
        self.reads += 1
        raise OSError(self.number, os.strerror(self.number)) if self.reads % 2 else BlockingIOError

    def close(self) -> None:
        pass


def test_what_the_kernel_had_to_drop_is_news_and_a_broken_socket_is_left() -> None:
    full = News(lambda: Broken(errno.ENOBUFS), lambda: 0.0, [])  # type: ignore[arg-type, return-value]
    assert [full.heard() for _ in range(3)] == [True] * 3
    broken = News(lambda: Broken(errno.EBADF), lambda: 0.0, [])  # type: ignore[arg-type, return-value]
    assert [broken.heard() for _ in range(3)] == [True, False, False]


def test_where_the_system_says_nothing_there_is_no_news() -> None:
    news = News(lambda: None, lambda: 0.0, [])
    assert not news.heard()
    news.close()


def test_the_system_of_this_host_can_be_heard() -> None:
    news = News()
    news.heard()
    news.close()
    assert isinstance(news.heard(), bool)


UNREACHED, ANSWERED = Outcome(Verdict.RETRY), Outcome(Verdict.RETRY, 503)
DELIVERED = Outcome(Verdict.DELIVERED, 204)
RULES, WAITING = Rules(1.0, 60.0), Situation(10, State.WAITING, not_before=900.0)


def is_due(early: Early) -> bool:
    return early.hurried(WAITING).not_before == 0


class Told:
    """News that are there when a test says so."""

    def __init__(self) -> None:
        self.is_news, self.opened = False, 0

    def open(self) -> Told:
        self.opened += 1
        return self

    def heard(self) -> bool:
        return self.is_news

    def close(self) -> None:
        self.opened -= 1


def test_a_flood_of_news_becomes_no_flood_of_tries() -> None:
    told, now = Told(), 0.0
    early = Early(told.open, lambda: now)
    early.take(WAITING, UNREACHED, RULES)
    told.is_news = True
    tries = []
    while now < 60:
        if is_due(early):
            tries.append(now)
        now += 0.5
    assert tries == [0, 1, 3, 7, 15, 23, 31, 39, 47, 55]


def test_news_within_the_gap_is_not_forgotten_and_after_the_trouble_all_is_as_at_first() -> None:
    told, now = Told(), 0.0
    early = Early(told.open, lambda: now)
    early.take(WAITING, UNREACHED, RULES)
    told.is_news = True
    assert is_due(early)
    assert not is_due(early)
    told.is_news = False
    now += GAP
    assert is_due(early)
    now += 100
    assert not is_due(early)
    early.take(Situation(10, answered=True), DELIVERED, RULES)  # a probe: the samples are still to come
    assert told.opened == 1
    early.take(Situation(10), DELIVERED, RULES)
    assert told.opened == 0
    early.take(WAITING, UNREACHED, RULES)
    told.is_news = True
    assert is_due(early)
    now += GAP
    assert is_due(early)


def test_a_receiver_that_answered_is_left_alone_but_for_an_operator() -> None:
    told = Told()
    early = Early(told.open, lambda: 0.0)
    early.take(WAITING, ANSWERED, RULES)
    told.is_news = True
    assert not is_due(early)
    early.ask()
    assert is_due(early)
    assert not is_due(early)
    told.is_news = False
    early.take(WAITING, UNREACHED, RULES)
    assert not is_due(early)  # it came while the receiver answered


def test_a_storm_of_reloads_is_a_try_each_second_and_the_last_one_counts() -> None:
    now = 0.0
    early, tries = Early(None, lambda: now), []
    for number in range(1000):
        now = number / 100
        early.ask()
        if is_due(early):
            tries.append(now)
    assert tries == [float(second) for second in range(10)]
    assert early.every <= GAP
    now += GAP
    assert is_due(early)
    assert not is_due(early)
    assert early.every == float("inf")


def test_a_thousand_outages_leave_no_descriptor_behind() -> None:
    opened: list[News] = []

    def listen() -> News:
        opened.append(News())
        return opened[-1]

    early, before = Early(listen, lambda: 0.0), len(os.listdir("/proc/self/fd"))
    for _ in range(1000):
        early.take(WAITING, UNREACHED, RULES)
        early.take(WAITING, UNREACHED, RULES)
        early.hurried(WAITING)
        early.take(Situation(10), DELIVERED, RULES)
    assert len(opened) == 1000
    assert len(os.listdir("/proc/self/fd")) <= before + 1


def test_where_the_socket_is_forbidden_nothing_is_raised_or_left_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = len(os.listdir("/proc/self/fd"))

    class Refused(socket.socket):
        def bind(self, address: object) -> None:
            raise PermissionError(errno.EPERM, "by a filter of system calls")

    monkeypatch.setattr(socket, "socket", Refused)
    for _ in range(100):
        assert not News().heard()
    assert len(os.listdir("/proc/self/fd")) <= before + 1


# Events of a kernel, in a network namespace: each command is news, and what others hear of is none.
SETUP = """
ip link set lo up
ip link add veth0 type veth peer name veth1
ip addr add 192.0.2.1/24 dev veth0
"""
EVENTS = (
    "link set veth0 up",
    "link set veth1 up",
    "route add default via 192.0.2.9",
    "route del default",
    "addr add 2001:db8::1/64 dev veth0 nodad",
    "link set veth1 down",
    "route add unreachable 198.51.100.0/24",
)
LISTEN = """
import json, subprocess, sys, time
from agent.system.news import News

news, found = News(), {}
for event in sys.argv[1:]:
    time.sleep(0.05)
    while news.heard():  # duplicate address detection, say
        time.sleep(0.05)
    subprocess.run(["ip", *event.split()], check=True)
    end = time.monotonic() + 60
    while not (heard := news.heard()) and time.monotonic() < end:
        time.sleep(0.01)
    found[event] = heard
print(json.dumps(found))
"""


def test_the_kernels_own_news() -> None:
    if reason := namespaces.reason():
        pytest.skip(reason)
    if not shutil.which("ip"):
        pytest.skip("there is no ip")
    command, env = namespaces.inside(SETUP, more=["--net"], command=[sys.executable, "-c", LISTEN, *EVENTS])
    done = subprocess.run(command, env=dict(env), capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == dict.fromkeys(EVENTS, True)
