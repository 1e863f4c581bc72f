"""What the whole suite shares: the marker of each folder, a real Prometheus, and certificates."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

from tests.support.certs import Certs, make_certs
from tools.servers import ensure

FOLDER = Path(__file__).parent

# The same examples in every run of CI, so that a red one is about the change; new ones everywhere else.
settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")

MARKED = ("integration", "fault", "load")  # a test is marked as its folder is named


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        part = item.path.relative_to(FOLDER).parts[0]
        if part in MARKED:
            item.add_marker(part)


@pytest.fixture(scope="session")
def prometheus_program() -> Path:
    """The newest Prometheus to be had; fetched into the cache when it is not there yet."""
    return ensure("prometheus").path


@pytest.fixture(scope="session")
def certs(tmp_path_factory: pytest.TempPathFactory) -> Certs:
    return make_certs(tmp_path_factory.mktemp("certs"))
