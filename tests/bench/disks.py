"""What HostDiskFilling does on made-up disks (tests.support.disks), next to a line through six hours and three days.

    python -m tests.bench.disks      writes the table into docs/decisions/0106-a-trend-is-what-remains.md

Everything is computed by the PromQL of `limpet query`, hour by hour, from the rule file as it ships.
"""

from __future__ import annotations

import re

from tests.support import disks, rules
from tests.support.disks import Outcome

PAGE = rules.RULES.parents[2] / "docs" / "decisions" / "0106-a-trend-is-what-remains.md"
LINE = "predict_linear(disk_free_bytes[{}], 7 * 86400) < 0"


def shipped() -> dict[str, Outcome]:
    """Return what the rule that ships does on each disk."""
    found = {
        rule.get("record", rule.get("alert")): rule
        for group in rules.groups("hosts")
        for rule in group["rules"]
    }
    names = (
        "disk_free_bytes:min_1d",
        "disk_free_bytes:fall_1w",
        "disk_free_bytes:min_1w",
        "disk_full:seconds",
    )
    alert = found["HostDiskFilling"]
    assert (alert["for"], alert["keep_firing_for"]) == ("30m", "2h")
    return outcomes(disks.firing([(name, found[name]["expr"]) for name in names], alert["expr"], 1, 2))


def line(window: str) -> dict[str, Outcome]:
    """Return what a line through so long a time does, for an hour, on each disk."""
    return outcomes(disks.firing([], LINE.format(window), 1, 1))


def outcomes(firing: dict[str, list[bool]]) -> dict[str, Outcome]:
    return {disk.name: disks.outcome(disk, firing[disk.name]) for disk in disks.ALL}


def table() -> str:
    """Return the table: each disk, and the sums."""
    ways = (shipped(), line("6h"), line("3d"))
    lines = ["| disk | is full on day | the rule | a line of 6 h | a line of 3 d |", "|---|---:|---|---|---|"]
    for disk in disks.ALL:
        full = disk.full()
        shown = [cell(way[disk.name], full is not None) for way in ways]
        lines.append(f"| {disk.name} | {'' if full is None else f'{full / 24:.1f}'} | {' | '.join(shown)} |")
    false = [str(sum(one.false_hours for one in way.values())) for way in ways]
    missed = [str(sum(way[disk.name].warning_days < 0.1 for disk in disks.FILLING)) for way in ways]
    lines.append(f"| **false hours** | | {' | '.join(false)} |")
    lines.append(f"| **missed** | | {' | '.join(missed)} |")
    return "\n".join(lines) + "\n"


def cell(of: Outcome, fills: bool) -> str:
    parts = [f"false for {of.false_hours} h in {of.times} times"] if of.false_hours else []
    if fills and of.warning_days < 0.1:
        parts.append("missed")
    elif fills:
        parts.append(
            f"{of.warning_days:.1f} days before" + (f", begun {of.times} times" if of.times > 1 else "")
        )
    return "; ".join(parts)


def main() -> None:
    text = PAGE.read_text()
    PAGE.write_text(
        re.sub(r"(<!-- disks -->\n).*?(<!-- end -->)", lambda m: m[1] + table() + m[2], text, flags=re.DOTALL)
    )


if __name__ == "__main__":
    main()
