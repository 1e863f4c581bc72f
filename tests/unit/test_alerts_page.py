"""docs/alerts.md is what the rule files and the runbooks say now."""

from __future__ import annotations

from pathlib import Path

from tools import alerts_page

DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_the_page_is_what_the_rules_say() -> None:
    assert (DOCS / "alerts.md").read_text() == alerts_page.page(), (
        "make it anew: python -m tools.alerts_page > docs/alerts.md"
    )


def test_every_alert_and_every_recorded_series_is_on_the_page() -> None:
    page, found = alerts_page.page(), alerts_page.rules()
    assert len(found) > 200
    for rule in found:
        series, _, kind = rule.name.partition(":")
        assert (
            f"`{rule.name}`" in page
            or f"**{rule.name}**" in page
            or (f"`{series}`" in page and f"`...:{kind}`" in page)
        )


def test_every_rule_file_is_read() -> None:
    assert {f"{name}.rules.yml" for name in alerts_page.FILES} == {
        path.name for path in alerts_page.RULES.iterdir()
    }
