"""The page of `limpet serve` in a real browser, over a real agent's buffer: charts, events, states, keys, themes, and a hostile label.

One agent, one server and one browser for all tests; each test is a visit of its own. The past in the buffer is made up.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import bcrypt
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from tests.support.agent import Agent
from tests.support.browser import DESK, PHONE, WAIT_MS, Scheme, Visit, chromium
from tests.support.history import Disk, Story
from tests.support.net import free_port, wait_for
from tests.support.serving import Serving
from tests.support.shown import host, serving

HOSTILE = "/<script>window.hacked = 1</script><img src=x onerror='window.hacked = 1'>"
STORY = Story(
    disks={"/data": Disk(32, 93, 0.05), HOSTILE: Disk(8, 40, 0.0)},
    outages=((2400.0, 900.0),),
    boots=(1800.0, 90_000.0),
    busy=((3000.0, 2500.0),),
    oom=(2700.0,),
)
PAST = ((3600.0, 10.0),)
expect.set_options(timeout=WAIT_MS)


class Rig(NamedTuple):
    browser: Browser
    agent: Agent
    server: Serving


@pytest.fixture(scope="module")
def rig(chromium_program: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    folder = tmp_path_factory.mktemp("page")
    to = [{"name": "hub", "url": f"http://127.0.0.1:{free_port()}/api/v1/write"}]
    agent = host(folder / "host", "edge-7", STORY, to, *PAST)
    server = serving(folder, agent)
    with agent, server, chromium(chromium_program) as browser:
        wait_for(lambda: agent.destination("hub").get("last_error"), 60, "the first failure")
        yield Rig(browser, agent, server)


@pytest.fixture
def desk(rig: Rig) -> Iterator[Visit]:
    """A visit at a desk, once all of its first requests have been answered; nothing may go wrong in it."""
    with Visit(rig.browser) as visit:
        opened(visit, rig.server)
        yield visit
    assert visit.wrong == []


def opened(visit: Visit, server: Serving) -> Page:
    """Open the page, and wait until it is whole."""
    page = visit.page
    page.goto(server.url)
    page.locator("#panel-cpu canvas").wait_for()
    page.locator("#events .events").wait_for()
    page.locator("#collectors table").wait_for()
    page.locator("#disks p").wait_for()
    return page


def ask(page: Page) -> None:
    """Have the page ask at once, as it does when it is shown again."""
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")


def says(page: Page, text: str) -> None:
    """Wait until the line about what is live says this; the page asks all the time."""

    def there() -> bool:
        ask(page)
        return text in page.locator("#live-text").inner_text()

    wait_for(there, 60, text)


COLORED = """(canvas) => {
  const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
  let found = 0;
  for (let at = 0; at < data.length; at += 4) {
    const [red, green, blue, alpha] = data.subarray(at, at + 4);
    if (alpha > 200 && Math.max(red, green, blue) - Math.min(red, green, blue) > 40) found += 1;
  }
  return found;
}"""
"""Counts the pixels that have a color: lines have, the axes and the grid have none."""


@pytest.fixture(scope="class")
def seen(rig: Rig) -> Iterator[Visit]:
    """The visit that the tests of a class share."""
    with Visit(rig.browser) as visit:
        opened(visit, rig.server)
        yield visit
    assert visit.wrong == []


class TestWhatIsShown:
    """All of it in one visit, which changes nothing."""

    def test_the_charts_have_data_and_new_samples_appear_without_reloading(
        self, rig: Rig, seen: Visit
    ) -> None:
        page = seen.page
        assert page.locator(".chart:visible h3").all_inner_texts()[:2] == [
            "CPU in use share of the time that was not idle",
            "Memory in use share of what there is",
        ]
        for panel in ("cpu", "memory", "network", "io", "disks", "load", "temperature", "backlog"):
            drawn = page.locator(f"#panel-{panel} canvas")
            drawn.scroll_into_view_if_needed()
            assert drawn.evaluate(COLORED) > 100, panel
        page.locator("#panel-cpu").get_by_role("button", name="Table").click()
        newest = page.locator("#panel-cpu .values table >> nth=1").locator("tbody tr >> nth=0")
        before = newest.inner_text()
        assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\t(\d+\.?\d* %|\N{EN DASH}))+", before), before

        def moved() -> bool:
            ask(page)
            return newest.inner_text() != before

        wait_for(moved, 60, "a newer point")

    def test_this_host_now_has_its_numbers_with_units(self, seen: Visit) -> None:
        page = seen.page
        assert page.title() == "edge-7 \N{EN DASH} Limpet"
        expect(page.locator("#labels")).to_have_text("environment production · region eu-west · role gateway")
        tiles = {tile.locator("h3").inner_text(): tile.inner_text() for tile in page.locator(".tile").all()}
        assert {"CPU", "Memory", "Load", "Network", "Disk I/O", "Up for"} <= tiles.keys()
        assert re.search(r"^\d+(\.\d)? %", tiles["CPU"].partition("\n")[2].strip())
        assert re.search(r"[\d.]+ [KMG]iB of [\d.]+ [KMGT]iB", tiles["Memory"])
        assert len(re.findall(r"[\d.]+ [KMG]?i?B/s", tiles["Network"])) == 2
        disk = page.locator("#disks tbody tr", has_text="/data").inner_text()
        assert re.search(r"9[23]\.\d %", disk) and "30.4 GiB" not in disk and "32 GiB" in disk

    def test_events_name_the_outage_the_boot_the_threshold_and_the_kill(self, seen: Visit) -> None:
        events = seen.page.locator("#events li")
        for text in (
            "Nothing reached hub: the oldest sample waited 25 min",
            "The host was booted",
            "The agent started",
            "The CPU was busy: up to 9",
            "1 process was killed for want of memory",
            "/data was nearly full: up to 9",
        ):
            expect(events.filter(has_text=text).first).to_be_visible()

    def test_the_destination_says_what_is_wrong_and_its_ledger_adds_up(self, rig: Rig, seen: Visit) -> None:
        card = seen.page.locator(".destination", has_text="hub")
        expect(card).to_contain_text("connection refused")
        facts = dict(
            zip(card.locator("dt").all_inner_texts(), card.locator("dd").all_inner_texts(), strict=True)
        )
        number = {
            key: int(facts[key].replace(",", "")) for key in ("appended", "delivered", "pending", "dropped")
        }
        assert number["appended"] == number["delivered"] + number["pending"] + number["dropped"] > 20_000
        assert re.fullmatch(r"[\d.]+ % \(limit 0\.1 %\)", facts["lost"])
        assert "ago)" in facts["oldest sample"] and facts["backlog"].endswith("iB")
        collectors = seen.page.locator("#collectors")
        for name in ("cpu", "memory", "disk_usage", "limpet"):
            expect(collectors.get_by_role("rowheader", name=name, exact=True)).to_be_visible()

    def test_what_a_label_says_is_text_and_nothing_is_loaded_from_elsewhere(
        self, rig: Rig, seen: Visit
    ) -> None:
        page = seen.page
        expect(page.get_by_role("rowheader", name=HOSTILE, exact=True)).to_be_visible()
        expect(page.locator("#panel-disks .legend")).to_contain_text(HOSTILE)
        page.locator("#panel-disks").get_by_role("button", name="Table").click()
        expect(page.locator("#panel-disks .values")).to_contain_text(HOSTILE)
        assert page.evaluate("window.hacked") is None
        assert seen.hosts == {f"127.0.0.1:{rig.server.port}"}


Points = list[tuple[float, float]]


def happened(
    page: Page, starts: Points, boots: Points, end: float, step: int = 10
) -> list[tuple[str, float, bool]]:
    """What the page reads off these starts of the agent and boots: each text, since when, and whether it still lasts."""
    lines = [
        {"metric": {"__name__": name}, "values": [[at, str(value)] for at, value in points]}
        for name, points in (("limpet_start_time_seconds", starts), ("host_boot_time_seconds", boots))
    ]
    found = page.evaluate(
        "async ([lines, step, end]) => (await import('/events.js')).happenings(lines, [], step, end)",
        [lines, step, end],
    )
    return [(one["text"], one["from"], bool(one.get("lasting"))) for one in found]


def constant(value: float, first: int, last: int) -> Points:
    return [(float(at), value) for at in range(first, last, 10)]


class TestWhatIsReadOffSeries:
    """Events that no test host has at will: the clock, the boot and the gaps are handed in."""

    BOOT, AGENT = 1000.0, 1025.0

    def test_a_clock_that_is_set_is_no_boot(self, seen: Visit) -> None:
        starts = constant(self.AGENT, 5000, 8000)
        for by, text in ((10_800.0, "forward by 3 h"), (-120.0, "back by 2 min")):
            boots = [*constant(self.BOOT, 5000, 6000), *constant(self.BOOT + by, 6000, 8000)]
            assert happened(seen.page, starts, boots, 8000) == [(f"The clock was set {text}", 6000, False)]
        drift = [*constant(self.BOOT, 5000, 6000), *constant(self.BOOT + 2, 6000, 8000)]
        assert happened(seen.page, starts, drift, 8000) == []

    def test_a_boot_is_no_clock_and_a_correction_after_it_is_one(self, seen: Visit) -> None:
        starts = [*constant(self.AGENT, 5000, 6000), *constant(6030.0, 6010, 8000)]
        boots = [
            *constant(self.BOOT, 5000, 6000),
            *constant(6005.0, 6010, 7000),
            *constant(9605.0, 7000, 8000),
        ]
        assert happened(seen.page, starts, boots, 8000) == [
            ("The clock was set forward by 1 h", 7000, False),
            ("The agent started", 6030, False),
            ("The host was booted", 6005, False),
        ]

    def test_a_restart_of_the_agent_alone_is_no_boot(self, seen: Visit) -> None:
        starts = [*constant(self.AGENT, 5000, 6000), *constant(6001.0, 6010, 8000)]
        boots = constant(self.BOOT, 5000, 8000)
        assert happened(seen.page, starts, boots, 8000) == [("The agent started", 6001, False)]

    def test_a_gap_is_longer_than_three_intervals(self, seen: Visit) -> None:
        starts = [*constant(self.AGENT, 5000, 6000), *constant(self.AGENT, 6600, 8000)]
        gap = "No samples: the agent did not run, or could not write"
        assert happened(seen.page, starts, [], 8000) == [(gap, 5990, False)]
        short = [*constant(self.AGENT, 5000, 6000), *constant(self.AGENT, 6020, 8000)]
        assert happened(seen.page, short, [], 8000) == []
        assert happened(seen.page, starts, [], 9000)[0] == ("No samples since then", 7990, True)
        hourly = [(float(at), self.AGENT) for at in range(0, 40_000, 3600)]
        assert happened(seen.page, hourly, [], 40_000) == []


class TestWhatIsDrawn:
    """The lines of a chart, as they are made of answers."""

    GRID = """async (steps) => {
      const { Grid, PANELS } = await import('/panels.js');
      const grid = new Grid(1000, 1100, 10);
      for (const [device, value] of [['sda1', 1], ['vda', 2]]) {
        const metric = { limpet_page_metric: 'disk_usage_percent', mountpoint: '/', device };
        grid.put([{ metric, values: [[1000, String(value)], [1050, String(value + 10)], [1050.4, 'NaN']] }]);
      }
      const metric = { limpet_page_metric: 'disk_usage_percent', mountpoint: '/var', device: 'sda2' };
      grid.put([{ metric, values: [[1100, '3']] }]);
      grid.slide(steps);
      const { tracks } = grid.tracks(PANELS.find(({ id }) => id === 'disks'));
      return [grid.times[0], grid.times.length, Object.fromEntries(tracks.map(({ name, values }) => [name, values]))];
    }"""

    def test_two_lines_with_the_same_name_are_distinguished_and_no_number_is_a_gap(self, seen: Visit) -> None:
        first, length, lines = seen.page.evaluate(self.GRID, 0)
        assert (first, length) == (1000, 11)
        assert lines == {
            "/ on sda1": [1, *10 * [None]],
            "/ on vda": [2, *10 * [None]],
            "/var": [*10 * [None], 3],
        }

    def test_with_time_the_oldest_points_are_forgotten_and_then_their_lines(self, seen: Visit) -> None:
        assert seen.page.evaluate(self.GRID, 5) == [1050, 11, {"/var": [*5 * [None], 3, *5 * [None]]}]
        assert seen.page.evaluate(self.GRID, 11) == [1110, 11, {}]


# What people do.


def test_keys_move_through_a_chart_zoom_and_go_back(desk: Visit) -> None:
    page = desk.page
    whole = page.locator("#span").inner_text()
    chart = page.locator("#panel-cpu").get_by_role("slider")
    page.get_by_role("button", name="1 h", exact=True).focus()
    for _ in range(30):
        if chart.evaluate("(node) => node === document.activeElement"):
            break
        page.keyboard.press("Tab")
    expect(chart).to_be_focused()
    page.keyboard.press("End")
    last = int(chart.get_attribute("aria-valuenow") or -1)
    page.keyboard.press("ArrowLeft")
    expect(chart).to_have_attribute("aria-valuenow", str(last - 1))
    expect(chart).to_have_attribute(
        "aria-valuetext", re.compile(r"\d\d:\d\d:\d\d: all cores \d+(\.\d)? %, core 0 ")
    )
    expect(page.locator("#panel-cpu .tip")).to_contain_text("all cores")
    page.keyboard.press("Home")
    expect(chart).to_have_attribute("aria-valuenow", "0")
    page.keyboard.press("Shift+ArrowRight")
    expect(chart).to_have_attribute("aria-valuenow", "10")
    page.keyboard.press("+")
    expect(page.locator("#span")).not_to_contain_text("the present")
    assert page.locator("#span").inner_text() != whole
    chart.focus()
    page.keyboard.press("Escape")
    expect(page.locator("#span")).to_contain_text("the present")


def test_the_mouse_shows_values_zooms_every_chart_and_goes_back(desk: Visit) -> None:
    page = desk.page
    plot = page.locator("#panel-memory .u-over")
    plot.scroll_into_view_if_needed()
    box = plot.bounding_box()
    assert box is not None
    x, y, width = box["x"], box["y"] + 50, box["width"]
    page.mouse.move(x + width * 0.3, y)
    expect(page.locator("#panel-memory .tip")).to_contain_text("memory")
    expect(page.locator("#panel-cpu .tip")).to_contain_text("all cores")  # the same moment, in all charts
    page.mouse.down()
    page.mouse.move(x + width * 0.6, y, steps=4)
    page.mouse.up()
    expect(page.locator("#span")).not_to_contain_text("the present")
    start, end = re.findall(r"\d\d:\d\d:\d\d", page.locator("#span").inner_text())[:2]
    seconds = (_seconds(end) - _seconds(start)) % 86_400
    assert 900 < seconds < 1300
    page.locator("#charts:not([aria-busy])").wait_for()
    page.mouse.dblclick(x + width * 0.5, y)
    expect(page.locator("#span")).to_contain_text("the present")


def _seconds(clock: str) -> int:
    hours, minutes, seconds = map(int, clock.split(":"))
    return hours * 3600 + minutes * 60 + seconds


@pytest.mark.parametrize("name", ["6 h", "7 d", "1 y"])
def test_every_time_has_its_charts(desk: Visit, name: str) -> None:
    page = desk.page
    page.get_by_role("button", name=name, exact=True).click()
    expect(page.get_by_role("button", name=name, exact=True)).to_have_attribute("aria-pressed", "true")
    page.locator("#charts:not([aria-busy])").wait_for()
    expect(page.locator("#trouble")).to_be_hidden()
    assert page.locator("#panel-cpu .legend li").count() >= 5


def test_a_theme_is_chosen_and_kept(rig: Rig, desk: Visit) -> None:
    page = desk.page

    def background() -> str:
        return str(page.locator("body").evaluate("(node) => getComputedStyle(node).backgroundColor"))

    light = background()
    page.get_by_label("Theme").select_option("dark")
    dark = background()
    assert light != dark
    opened(desk, rig.server)
    assert background() == dark
    page.get_by_label("Theme").select_option("")
    assert background() == light


# Who cannot see it as others do.


def test_axe_finds_nothing_in_both_themes_and_sizes(rig: Rig, desk: Visit) -> None:
    page = desk.page
    page.locator("#panel-cpu").get_by_role("button", name="Table").click()
    looks: tuple[tuple[tuple[int, int], Scheme], ...] = (DESK, "light"), (DESK, "dark"), (PHONE, "dark")
    for (width, height), scheme in looks:
        page.set_viewport_size({"width": width, "height": height})
        page.emulate_media(color_scheme=scheme)
        page.locator("#panel-memory").get_by_role("slider").focus()
        page.keyboard.press("ArrowLeft")
        found = Axe().run(page)
        assert found.violations_count == 0, found.generate_report()
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_on_a_phone_all_of_it_can_be_reached_with_a_finger(rig: Rig) -> None:
    with Visit(rig.browser, PHONE) as visit:
        page = opened(visit, rig.server)
        for button in page.get_by_role("button").all():
            box = button.bounding_box()
            if box is not None:
                assert box["height"] >= 24 and box["x"] >= 0 and box["x"] + box["width"] <= PHONE[0]
        page.get_by_role("button", name="Zoom in").click()
        expect(page.locator("#span")).not_to_contain_text("the present")


# What goes away.


def test_an_agent_that_stops_is_named_and_one_that_starts_again_too(rig: Rig, desk: Visit) -> None:
    page = desk.page
    rig.agent.stop()
    try:
        says(page, "The agent is stopped: nothing is collected.")
        expect(page.locator("#parts")).to_contain_text("none runs")
        assert page.locator(".tile").count() >= 6  # what is known stays
    finally:
        rig.agent.start()
    says(page, "Live: ")


def test_a_server_that_is_away_is_named_and_what_is_known_stays(rig: Rig) -> None:
    with Visit(rig.browser) as visit:
        page = opened(visit, rig.server)
        rig.server.stop()
        try:
            says(page, "No answer from the server")
            expect(page.get_by_role("button", name="Try now")).to_be_visible()
            assert page.locator(".tile").count() >= 6
        finally:
            rig.server.start()
        page.get_by_role("button", name="Try now").click()
        says(page, "Live: ")
        expect(page.get_by_role("button", name="Try now")).to_be_hidden()
        assert [text for text in visit.wrong if "ERR_CONNECTION_REFUSED" not in text] == []


def test_a_login_is_needed_where_one_is_configured_and_a_revoked_one_is_named(
    rig: Rig, tmp_path: Path
) -> None:
    web = tmp_path / "web.yml"
    hashed = bcrypt.hashpw(b"correct horse", bcrypt.gensalt(4)).decode()
    web.write_text(f"basic_auth_users: {{anna: '{hashed}', scraper: '{hashed}'}}\n")
    settings = f"web_config_file: {web}, roles: {{scraper: metrics}}"
    with serving(tmp_path, rig.agent, settings) as server:
        for login, status in ((None, 401), (("anna", "wrong"), 401), (("scraper", "correct horse"), 403)):
            with Visit(rig.browser, login=login) as visit:
                answer = visit.page.goto(server.url)
                assert answer is not None and answer.status == status
        with Visit(rig.browser, login=("anna", "correct horse")) as visit:
            page = opened(visit, server)
            assert visit.wrong == []
            web.write_text(f"basic_auth_users: {{scraper: '{hashed}'}}\n")
            says(page, "The server wants to know who you are")
            assert page.locator(".tile").count() >= 6


def test_without_a_buffer_it_says_so(rig: Rig, tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    with Serving(tmp_path / "serve", data_dir) as server, Visit(rig.browser) as visit:
        data_dir.rmdir()
        visit.page.goto(server.url)
        expect(visit.page.locator("#first")).to_contain_text("there is no buffer in")


@pytest.fixture
def still(rig: Rig) -> Iterator[Visit]:
    """A visit whose clock moves only where the test moves it."""
    with Visit(rig.browser) as visit:
        page = visit.page
        page.clock.install()
        opened(visit, rig.server)
        page.clock.pause_at(page.evaluate("Date.now()") + 1000)
        settled(visit)
        yield visit


def api_requests(visit: Visit) -> int:
    """Return how many requests there were: what was sent before this one's own has been seen by then."""
    visit.page.evaluate("fetch('/-/healthy').then((answer) => answer.text())")
    return len([url for url in visit.requested if "/api/" in url])


def test_while_the_server_is_away_it_tries_less_and_less_often(still: Visit) -> None:
    page = still.page
    page.route("**/api/**", lambda route: route.abort())
    page.clock.fast_forward(10_000)
    expect(page.locator("#live-text")).to_contain_text("No answer from the server")
    for seconds in (20, 40, 60, 60):
        settled(still)
        before = api_requests(still)
        page.clock.fast_forward((seconds - 1) * 1000)
        assert api_requests(still) == before, seconds
        page.clock.fast_forward(1000)
        more(still, before)
    page.unroute_all()
    settled(still)
    page.get_by_role("button", name="Try now").click()
    expect(page.locator("#live-text")).to_contain_text("Live: ")


def more(visit: Visit, before: int) -> None:
    """Wait until there were more requests than before."""
    wait_for(lambda: api_requests(visit) > before, 60, "a request")


def settled(visit: Visit) -> None:
    """Wait until all that was requested is answered, and nothing follows from the answers: then the next round is planned."""

    def quiet() -> bool:
        before = api_requests(visit)
        return visit.unanswered == 0 and api_requests(visit) == before and visit.unanswered == 0

    wait_for(quiet, 60, "the end of a round")


def test_while_paused_or_hidden_nothing_is_requested(still: Visit) -> None:
    page = still.page
    button = page.get_by_role("button", name="Pause")
    button.click()
    expect(page.locator("#live-text")).to_contain_text("Paused")
    before = api_requests(still)
    page.clock.fast_forward(600_000)
    assert api_requests(still) == before
    page.evaluate("Object.defineProperty(document, 'hidden', { value: true, configurable: true })")
    button.click()
    page.clock.fast_forward(600_000)
    assert api_requests(still) == before
    page.evaluate("Object.defineProperty(document, 'hidden', { value: false })")
    ask(page)
    more(still, before)


def test_something_is_seen_before_styles_and_scripts_are_there(rig: Rig) -> None:
    """The first paint waits for the page itself and nothing more: this is what makes it quick on a slow link."""
    with Visit(rig.browser, scheme="dark") as visit:
        page = visit.page
        for kind in ("**/*.css", "**/*.js"):
            page.route(kind, lambda route: None)  # never answered
        page.goto(rig.server.url, wait_until="commit")
        expect(page.get_by_text("Asking this host …").first).to_be_visible()
        wait_for(lambda: page.evaluate("performance.getEntriesByType('paint').length"), 60, "the first paint")
        colors = page.locator("header").evaluate("(node) => getComputedStyle(node).backgroundColor")
        assert colors == "rgb(24, 32, 40)"  # its own style is in force: the policy allows it
        page.unroute_all(behavior="ignoreErrors")
