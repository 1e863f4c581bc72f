"""Every query of docs/first-week.md, asked of a real Prometheus that has what a real agent in trouble sent: each finds something.

The agent has four destinations: the Prometheus, one that wants a password, one that refuses all samples, and one whose
clock is three days ahead.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import ExitStack
from email.utils import formatdate
from pathlib import Path

import pytest

from tests.support.agent import HOSTNAME, Agent
from tests.support.net import wait_for
from tests.support.prometheus import Prometheus
from tests.support.receiver import Answer, Receiver

PAGE = (Path(__file__).parents[2] / "docs" / "first-week.md").read_text()
QUERIES = [
    one for one in re.findall(r"`([^`\n]+)`", PAGE) if re.search(r"\blimpet_\w+\b(?!\*)|\{hostname", one)
]
FINDS = {
    "oldest_pending_age": HOSTNAME,
    "held == 1": "locked",
    "dropped_samples": "aged",
    "clock_skew": "ahead",
    "sent_bytes": HOSTNAME,
    "count by (version)": "0.",
    "count by (hostname)": HOSTNAME,
    "limpet_build_info": "0.",
}
"""By a part of a query, what is among the labels that it finds."""


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory, prometheus_program: Path) -> Iterator[Prometheus]:
    folder = tmp_path_factory.mktemp("week")
    ahead = formatdate(time.time() + 3 * 86_400, usegmt=True)
    with ExitStack() as stack:
        server = stack.enter_context(Prometheus(prometheus_program, folder / "prometheus"))
        locked, refusing, late = (stack.enter_context(Receiver(keep=10)) for _ in range(3))
        locked.default, locked.takes_empty_writes = Answer(401), False
        refusing.default = Answer(400, body=b"out of bounds")
        late.default = Answer(204, {"Date": ahead})
        urls = {
            "central": server.write_url,
            "locked": locked.url,
            "refusing": refusing.url,
            "ahead": late.url,
        }
        agent = Agent(folder / "agent", [{"url": url, "name": name} for name, url in urls.items()])
        stack.enter_context(agent)
        yield server


def test_they_are_found() -> None:
    assert len(QUERIES) >= 8
    assert all(any(part in query for part in FINDS) for query in QUERIES)


@pytest.mark.parametrize("query", QUERIES)
def test_it_finds_something(prometheus: Prometheus, query: str) -> None:
    wanted = next(text for part, text in FINDS.items() if part in query)

    def found() -> bool:
        return any(value.startswith(wanted) for labels in prometheus.query(query) for _, value in labels)

    wait_for(found, 60, f"what {query} finds")
