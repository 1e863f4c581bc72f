"""The tables of docs/alerts.md are what the rule files and the runbooks say now."""

from __future__ import annotations

from tools import alerts_page


def test_the_tables_are_those_of_the_rules() -> None:
    page = alerts_page.PAGE.read_text()
    assert page == alerts_page.filled(page), "stale: python -m tools.alerts_page"


def test_every_alert_and_every_recorded_series_is_on_the_page() -> None:
    page, found = alerts_page.PAGE.read_text(), alerts_page.rules()
    assert len(found) > 200
    for rule in found:
        series, _, kind = rule.name.partition(":")
        whole = f"`{rule.name}`" in page or f"[{rule.name}](" in page
        assert whole or (f"`{series}`" in page and f"`...:{kind}`" in page)


def test_every_rule_file_is_read() -> None:
    files = {path.name for path in alerts_page.RULES.iterdir()}
    assert {f"{name}.rules.yml" for name in alerts_page.FILES} == files
