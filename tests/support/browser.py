"""A real browser: Chromium without a screen, from Debian's packages, driven by Playwright.

What goes wrong in a page is collected, so that a test can require that nothing did: errors of its scripts, whatever it
writes to the console, and every address that it requests.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import urlsplit

from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from tools.servers import PACKAGES

WAIT_MS = 60_000
"""How long a page may take for anything, on a busy machine."""
DESK, PHONE = (1280, 900), (390, 844)
Scheme = Literal["light", "dark"]


@contextmanager
def chromium(program: Path) -> Iterator[Browser]:
    """Run the browser. It has no sandbox of its own, because tests run as root; it loads nothing but the page under test."""
    with sync_playwright() as playwright:
        environment: dict[str, str | float | bool] = {**PACKAGES["chromium"].environment(program)}
        found = playwright.chromium.launch(
            executable_path=program, args=["--no-sandbox"], env=environment, timeout=WAIT_MS
        )
        try:
            yield found
        finally:
            found.close()


class Visit:
    """A person's visit to a page: a browser window of its own, without a memory of other visits."""

    def __init__(
        self,
        browser: Browser,
        size: tuple[int, int] = DESK,
        scheme: Scheme = "light",
        login: tuple[str, str] | None = None,
    ) -> None:
        options: dict[str, Any] = {}
        if login is not None:
            options["http_credentials"] = {"username": login[0], "password": login[1]}
        width, height = size
        self.context: BrowserContext = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme=scheme, **options
        )
        self.context.set_default_timeout(WAIT_MS)
        self.page: Page = self.context.new_page()
        self.wrong: list[str] = []
        self.requested: list[str] = []
        self.unanswered = 0
        self.page.on("pageerror", lambda error: self.wrong.append(f"error: {error}"))
        self.page.on("console", lambda message: self.wrong.append(f"{message.type}: {message.text}"))
        self.page.on("request", lambda request: self._sent(request.url))
        for event in ("requestfinished", "requestfailed"):
            self.page.on(event, lambda _: self._ended())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self.context.close()

    def _sent(self, url: str) -> None:
        self.requested.append(url)
        self.unanswered += 1

    def _ended(self) -> None:
        self.unanswered -= 1

    @property
    def hosts(self) -> set[str]:
        """The hosts and ports that were requested."""
        return {urlsplit(url).netloc for url in self.requested}
