"""What the whole suite shares: the marker of each folder, a real Prometheus, and certificates."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.support.alertmanager import ready
from tests.support.certs import Certs, make_certs
from tests.support.plays import Plays
from tests.support.quiet import share
from tools.servers import PACKAGES, ServerError, ensure

FOLDER = Path(__file__).parent

# A shell has what it starts in the background ignore SIGINT, and so would every command that a test interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)


class _Sys:
    """`sys` as threads see it when they start: Python refuses a trace function while another thread installs its own,
    and the thread would be gone; a moment later it takes it.
    """

    def __getattr__(self, name: str) -> object:
        return getattr(sys, name)

    def settrace(self, function: Any) -> None:
        for _ in range(1000):
            try:
                return sys.settrace(function)
            except RuntimeError:
                time.sleep(0.001)
        return sys.settrace(function)


vars(threading)["_sys"] = _Sys()
os.environ.pop("COLUMNS", None)  # pytest-xdist sets it to the terminal's width; commands would obey it

# How long an example takes, or its making, is that of a machine with much to do, and nothing that is promised. The same
# examples in every run of CI, so that a red one is about the change; new ones everywhere else.
settings.register_profile("usual", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("usual"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "usual")

LOCKS = FOLDER.parent / ".cache" / "tests"
MARKED = ("integration", "fault", "load")  # a test is marked as its folder is named
LONG = {  # files of a minute or more: `pytest --durations=100` shows them
    "fault/test_buffer_crash.py",
    "fault/test_kills.py",
    "integration/test_ansible.py",
    "integration/test_dashboards.py",
    "integration/test_deb.py",
    "integration/test_doctor.py",
    "integration/test_image.py",
    "integration/test_receivers.py",
    "integration/test_release.py",
    "integration/test_reload.py",
    "integration/test_replay.py",
    "integration/test_rules.py",
    "integration/test_service.py",
    "load/test_fleet.py",
    "load/test_plays_agents.py",
    "load/test_plays_levels.py",
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        part = _folder(item)
        if part in MARKED:
            item.add_marker(part)
    items.sort(key=_turn)
    _keep_stories(items)


def _keep_stories(items: list[pytest.Item]) -> None:
    """Put the tests of each module with `IN_ORDER = True` back in their order: they share one host, step by step."""
    stories: dict[Path, list[int]] = {}
    for place, item in enumerate(items):
        if isinstance(item, pytest.Function) and getattr(item.module, "IN_ORDER", False):
            stories.setdefault(item.path, []).append(place)
    for places in stories.values():
        steps = sorted((items[place] for place in places), key=lambda item: item.reportinfo()[1] or 0)
        for place, item in zip(places, steps, strict=True):
            items[place] = item


def _turn(item: pytest.Item) -> int:
    """Return when a test has its turn: the order is random (pytest-randomly) among those of the same number.

    What has the machine for itself comes first, when there is nothing yet that it must wait for. What is long and begins
    late leaves processes without work at the end. The rest is mixed: while some tests wait, unit tests have the processor.
    """
    if item.get_closest_marker("quiet"):
        return 0
    return 1 if item.path.relative_to(FOLDER).as_posix() in LONG else 2


def _folder(item: pytest.Item) -> str:
    return item.path.relative_to(FOLDER).parts[0]


@pytest.hookimpl(wrapper=True, tryfirst=True)  # outside of the time that a test is given
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return (yield)
    with share(LOCKS, alone=item.get_closest_marker("quiet") is not None):
        return (yield)


@pytest.fixture(scope="session")
def prometheus_program() -> Path:
    """The newest Prometheus that is available; fetched into the cache when it is not there yet."""
    return ensure("prometheus").path


def program(name: str) -> Path:
    """Return a server's program. Skip the test, with the reason, where it is not available."""
    try:
        return ensure(name).path
    except ServerError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def stable_prometheus_program() -> Path:
    """The Prometheus of this machine's own suite: an old one, which knows remote write 1.0 only."""
    return program("stable-prometheus")


@pytest.fixture(scope="session")
def promtool_program() -> Path:
    return program("promtool")


@pytest.fixture(scope="session")
def influxdb_program() -> Path:
    return program("influxdb")


@pytest.fixture(scope="session")
def victoria_program() -> Path:
    return program("victoria-metrics")


@pytest.fixture(scope="session")
def alertmanager_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ready(program("alertmanager"), tmp_path_factory.mktemp("alertmanager-program"))


@pytest.fixture(scope="session")
def amtool() -> Path:
    """What checks Alertmanager's configuration, and renders its templates."""
    return program("amtool")


@pytest.fixture(scope="session")
def node_exporter_program() -> Path:
    return program("node-exporter")


@pytest.fixture(scope="session")
def tinyproxy_program() -> Path:
    return program("tinyproxy")


@pytest.fixture(scope="session")
def nginx_program() -> Path:
    return program("nginx")


@pytest.fixture(scope="session")
def chromium_program() -> Path:
    return program("chromium")


@pytest.fixture(scope="session")
def faketime_library() -> Path:
    """What gives a process another clock, by LD_PRELOAD."""
    found = program("faketime")
    folders = [*PACKAGES["faketime"].libraries(found), *Path("/usr/lib").glob("*/faketime")]
    library = next((one for folder in folders if (one := folder / "libfaketime.so.1").is_file()), None)
    if library is None:
        pytest.skip(f"{found} has no library")
    return library


@pytest.fixture(scope="session")
def certs(tmp_path_factory: pytest.TempPathFactory) -> Certs:
    return make_certs(tmp_path_factory.mktemp("certs"))


@pytest.fixture
def played(
    promtool_program: Path,
    alertmanager_program: Path,
    certs: Certs,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> Plays:
    """What plays the lives of a fleet, and counts the messages."""
    return Plays(promtool_program, alertmanager_program, certs, tmp_path, request.node.name)
