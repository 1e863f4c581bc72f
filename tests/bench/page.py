"""The page of `limpet serve` in a real browser: what it weighs, how soon it is there, and pictures of it.

    python -m tests.bench.page --pictures docs/pictures

The host is made up: a month of a gateway with an outage, a boot and a disk that fills. The agent, the server, the browser
and one of the two receivers are real; at the other one nobody listens.
"""

from __future__ import annotations

import argparse
import base64
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from agent.serve.files import FILES
from tests.support.browser import DESK, PHONE, Scheme, Visit, chromium
from tests.support.history import DAY, Disk, Story
from tests.support.net import free_port, wait_for
from tests.support.prometheus import Prometheus
from tests.support.serving import Serving
from tests.support.shown import host, serving
from tools.servers import ensure

HOUR = 3600.0
STORY = Story(
    disks={"/": Disk(32, 71, 0.35), "/var": Disk(120, 82.4, 1.1), "/boot": Disk(0.5, 31, 0.0)},
    outages=((5.2 * HOUR, 4.1 * HOUR), (2400.0, 1500.0)),
    boots=(3.1 * HOUR, 6 * DAY, 21 * DAY),
    busy=((2 * HOUR, 1.8 * HOUR),),
    hot=((10 * HOUR, 9 * HOUR),),
    oom=(7100.0,),
)
PAST = ((10 * DAY, 900.0), (DAY, 60.0), (HOUR, 10.0))
OFF = ("cpu", "memory", "disk_io", "network", "disk_usage", "sensors", "host", "link")
LINK = {"offline": False, "latency": 300, "downloadThroughput": 125_000, "uploadThroughput": 125_000}
"""1 Mbit/s, and 300 ms from each request to the first byte of its answer."""
QUALITY = 70


def main() -> None:
    """Measure, and take pictures."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.page", description="The page in a browser.")
    parser.add_argument("--pictures", type=Path, metavar="FOLDER", help="write pictures of it")
    options = parser.parse_args()
    bodies = [file.body for file in FILES.values()]
    packed = sum(len(file.packed or file.body) for file in FILES.values())
    print(
        f"weight: {sum(map(len, bodies)) / 1000:.1f} kB in {len(bodies)} files, {packed / 1000:.1f} kB on the wire"
    )
    with tempfile.TemporaryDirectory(prefix="limpet-page-") as name:
        folder = Path(name)
        with Prometheus(ensure("prometheus").path, folder / "prometheus") as prometheus:
            to = [
                {"name": "hub", "url": prometheus.write_url},
                {"name": "spare", "url": f"http://127.0.0.1:{free_port()}/api/v1/write"},
            ]
            collectors = {name: {"enabled": False} for name in OFF}
            agent = host(
                folder / "host",
                "edge-0417",
                STORY,
                to,
                *PAST,
                collect={"interval": "10s", "collectors": collectors},
            )
            with agent, serving(folder, agent) as server, chromium(ensure("chromium").path) as browser:
                wait_for(
                    lambda: agent.destination("hub").get("pending_samples", 1) < 100,
                    120,
                    "the hub to have all",
                )
                measure(browser, server)
                if options.pictures:
                    for file, size, scheme, place in PICTURES:
                        picture(browser, server, options.pictures / file, size, scheme, place)


PICTURES: tuple[tuple[str, tuple[int, int], Scheme, str], ...] = (
    ("page-light.webp", (1280, 1500), "light", "header"),
    ("page-dark.webp", (1280, 1500), "dark", "#history"),
    ("page-phone.webp", PHONE, "light", "header"),
    ("page-phone-dark.webp", PHONE, "dark", "#history"),
)
"""File, size of the window, theme, and the part that is scrolled to."""


def measure(browser: Any, server: Serving) -> None:
    """Print how soon the page is there, on a slow link and on none, and what it costs the server."""
    assert server.pid is not None
    process = psutil.Process(server.pid)
    for name, link in (("1 Mbit/s, 300 ms", LINK), ("loopback", None)):
        paints, whole, spent = [], [], []
        for _ in range(5):
            with Visit(browser, DESK) as visit:
                if link is not None:
                    session = visit.context.new_cdp_session(visit.page)
                    session.send("Network.enable")
                    session.send("Network.emulateNetworkConditions", link)
                before = sum(process.cpu_times()[:2])
                visit.page.goto(server.url)
                visit.page.wait_for_selector("#panel-cpu canvas")
                whole.append(visit.page.evaluate("performance.now()"))
                paints.append(visit.page.evaluate("performance.getEntriesByType('paint')[0].startTime"))
                visit.page.wait_for_selector("#events .events")
                spent.append(sum(process.cpu_times()[:2]) - before)
        print(
            f"{name}: first paint {sorted(paints)[2]:.0f} ms, first chart {sorted(whole)[2]:.0f} ms, "
            f"CPU of the server {sorted(spent)[2] * 1000:.0f} ms (medians of 5)"
        )
    print(f"memory of the server: {process.memory_info().rss / 1e6:.0f} MB")


def picture(
    browser: Any, server: Serving, to: Path, size: tuple[int, int], scheme: Scheme, place: str
) -> None:
    """Write a picture of what is in the window."""
    with Visit(browser, size, scheme) as visit:
        page = visit.page
        page.goto(server.url)
        page.wait_for_selector("#events .events")
        page.wait_for_selector("#collectors table")
        page.get_by_role("button", name="6 h", exact=True).click()
        page.locator("#charts:not([aria-busy])").wait_for()
        page.evaluate("(place) => document.querySelector(place).scrollIntoView()", place)
        time.sleep(0.5)  # the fade-in of the charts
        session = visit.context.new_cdp_session(page)
        found = session.send("Page.captureScreenshot", {"format": "webp", "quality": QUALITY})
        to.write_bytes(base64.b64decode(found["data"]))


if __name__ == "__main__":
    main()
