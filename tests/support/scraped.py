"""What the agent makes of a target, without the agent around it: to compare with what a real Prometheus makes of it."""

from __future__ import annotations

from contextlib import closing
from typing import Any

from agent.config import Target
from agent.scrape.fetch import Fetcher
from agent.scrape.target import METRICS, Scrape
from agent.system.log import Silent
from buffer.model import Labels
from tests.support.agent import HOSTNAME

REPORTS = {metric.name for metric in METRICS}


def scraped(url: str, path: str, **more: Any) -> dict[Labels, float]:
    """Return the samples of the second scrape of a page, in which nearly all is known; of the reports only `up`.

    Timestamps are read over.
    """
    target = Target(url=url + path, job=path.strip("/"), honor_timestamps=False, **more)
    with closing(Fetcher(target, 10, "test")) as fetcher:
        scrape = Scrape(target, {"hostname": HOSTNAME}, 10, Silent(), fetch=fetcher.get)
        scrape(0.0)
        series, values = scrape(1.0)
    found = {}
    for one, value in zip(series, values, strict=True):
        if one.name not in REPORTS or one.name == "up":
            found[tuple(sorted([*one.labels, ("__name__", one.name)]))] = value
    return found
