"""The files of the page: what they weigh, that nothing comes from elsewhere, that text stays text, and that colors can be distinguished."""

from __future__ import annotations

import hashlib
import re
from itertools import product
from pathlib import Path

import pytest

from agent.serve.app import SECURITY
from agent.serve.files import FILES, INDEX, STYLES, styles

DOCS = Path(__file__).parents[2] / "docs"
LIMIT = 150_000
VENDORED = ("uplot.js", "uplot.css", "uplot.LICENSE")
OWN = sorted(set(FILES) - set(VENDORED))
PAGE = FILES[INDEX].body.decode()
SCRIPTS = {name: FILES[name].body.decode() for name in OWN if name.endswith(".js")}
CSS = PAGE + FILES["page.css"].body.decode()


def test_all_of_it_together_weighs_less_than_150_kb() -> None:
    assert sum(len(file.body) for file in FILES.values()) < LIMIT


def test_every_file_is_used_and_every_file_that_is_named_is_there() -> None:
    named = set(re.findall(r'(?:href|src)="([^"#]+)"', PAGE))
    imported = {name for text in SCRIPTS.values() for name in re.findall(r'from "\./([^"]+)"', text)}
    assert named == set(FILES) - {INDEX, "uplot.LICENSE"}
    assert imported == set(SCRIPTS) - {"main.js"}


def test_every_module_is_fetched_at_once_and_not_one_after_another() -> None:
    assert set(re.findall(r'rel="modulepreload" href="([^"]+)"', PAGE)) == set(SCRIPTS)


@pytest.mark.parametrize("name", OWN)
def test_nothing_leads_elsewhere(name: str) -> None:
    text = FILES[name].body.decode().replace('xmlns="http://www.w3.org/2000/svg"', "")
    addresses = re.findall(r"(?:https?:)?//[a-z][^\s\"')]+", text)
    assert [one for one in addresses if one != "http://www.w3.org/2000/svg"] == []


@pytest.mark.parametrize("name", SCRIPTS)
def test_no_text_can_become_html(name: str) -> None:
    """Text reaches the page as text: no way to make HTML, a script or a style of it is used."""
    ways = r"innerHTML|outerHTML|insertAdjacent|document\.write|createContextualFragment|DOMParser|setHTML|\beval\b|Function\("
    assert re.findall(ways, SCRIPTS[name]) == []


def test_the_page_has_no_script_of_its_own_and_the_policy_allows_its_one_style() -> None:
    assert re.findall(r"<script(?![^>]* src=)", PAGE) == []
    assert re.findall(r"""\s(?:on\w+|style)=["']""", PAGE) == []
    (hashed,) = STYLES
    policy = dict(SECURITY)["Content-Security-Policy"]
    assert policy.startswith(f"default-src 'self'; style-src 'self' {hashed};")
    assert "unsafe" not in policy


def test_the_hash_of_a_style_is_that_of_the_standard() -> None:
    """Content Security Policy Level 3, section 2.3.1 (hash-source): base64 of the text's SHA-256; openssl made this one."""
    assert styles(b"<style>a{}</style>") == ["'sha256-X1RutGBrXCt9KkSaXMK7tHftWiRscFHOhxsS8tv8hBk='"]
    assert styles(b"<p>none</p>") == []


def test_the_library_is_as_it_was_published() -> None:
    """What is vendored is unchanged: the decision has its version and hash."""
    record = (DOCS / "decisions" / "0081-the-page.md").read_text()
    for name in ("uplot.js", "uplot.css"):
        assert hashlib.sha256(FILES[name].body).hexdigest() in record
    assert "uPlot (v1.6.32)" in FILES["uplot.js"].body.decode()[:100] and "1.6.32" in record
    assert "MIT License" in FILES["uplot.LICENSE"].body.decode()


# Colors, by the Web Content Accessibility Guidelines 2.2: "contrast ratio" and "relative luminance".

THEMES = {"light": 0, "dark": 1}
TEXTS = ("--text", "--soft", "--good", "--warn", "--bad")
LINES = (*(f"--line-{number}" for number in range(8)), "--good-fill", "--warn-fill", "--bad-fill", "--accent")


def color(name: str, theme: str) -> str:
    """The color of a custom property in a theme, as six digits."""
    pair = re.search(rf"{name}: light-dark\((#[0-9a-f]+), (#[0-9a-f]+)\)", CSS)
    assert pair, name
    digits = pair[THEMES[theme] + 1][1:]
    return digits if len(digits) == 6 else "".join(2 * digit for digit in digits)


def luminance(digits: str) -> float:
    parts = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    red, green, blue = (one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_contrast_is_that_of_the_guidelines() -> None:
    assert contrast("000000", "ffffff") == pytest.approx(21)
    assert contrast("777777", "ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize(("theme", "name"), list(product(THEMES, TEXTS)))
def test_text_can_be_read(theme: str, name: str) -> None:
    for ground in ("--card", "--page", "--soft-card"):
        assert contrast(color(name, theme), color(ground, theme)) >= 4.5, ground


@pytest.mark.parametrize("theme", THEMES)
def test_what_is_pressed_can_be_read(theme: str) -> None:
    assert contrast(color("--on-accent", theme), color("--accent", theme)) >= 4.5


@pytest.mark.parametrize(("theme", "name"), list(product(THEMES, LINES)))
def test_lines_and_bars_can_be_seen(theme: str, name: str) -> None:
    assert contrast(color(name, theme), color("--card", theme)) >= 3
