"""How a fleet returns: real agents at the defaults, whose receiver refuses connections for a while.

    python -m tests.bench.fleet --agents 150 --away 120 --picture docs/pictures/fleet.svg

Prints when the hosts were back, and the rate of requests at the receiver around the outage; the picture shows that rate by the second.
Needs 40 MB of memory an agent. It ends by itself. Exit status: 0 where all were back within 30 s and nothing was lost, else 1.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import median, quantiles

from tests.support.many import Fleet, Outage, by_second
from tests.support.prometheus import Prometheus
from tools.servers import ensure

STEADY_FOR = 60.0
SHOWN = 60
"""Seconds after the return that the picture shows."""
BACK_WITHIN = 30.0


def main() -> int:
    """Run the fleet, and print what it did."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.fleet", description="How a fleet returns.")
    parser.add_argument("--agents", type=int, default=150, metavar="N")
    parser.add_argument("--away", type=float, default=120.0, metavar="SECONDS")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="write an SVG of the requests a second")
    options = parser.parse_args()
    since = time.time()
    with tempfile.TemporaryDirectory(prefix="limpet-fleet-") as name:
        folder = Path(name)
        with Prometheus(ensure("prometheus").path, folder / "prometheus") as prometheus:
            fleet = Fleet(folder, prometheus, options.agents)
            with fleet.running():
                outage = fleet.outage(STEADY_FOR, options.away, SHOWN)
                fleet.stop()
            lost = [name for name in fleet.agents if fleet.lost(name, since)]
            ledgers = [agent.destination("central")["ledger"] for agent in fleet.agents.values()]
    back = sorted(outage.back.values())
    uneven = sum(one["appended"] != one["delivered"] + one["pending"] for one in ledgers)
    print(f"{options.agents} agents, {options.away:.0f} s of refused connections")
    print(
        f"first request after: median {median(back):.1f} s, 90 % {quantiles(back, n=10)[-1]:.1f} s, last {back[-1]:.1f} s"
    )
    print(
        f"requests a second: {outage.steady:.1f} before, {outage.peak:.1f} times that in the worst second after"
    )
    print(f"hosts with a sample that is missing: {len(lost)}; ledgers that do not balance: {uneven}")
    if options.picture:
        options.picture.write_text(picture(outage, options.away))
    return int(back[-1] > BACK_WITHIN or bool(lost) or bool(uneven))


def picture(outage: Outage, away: float) -> str:
    """Return an SVG of the requests in each second, from the steady flow to a minute after the return."""
    counts = by_second(outage.requests)
    first, last = -int(away) - int(STEADY_FOR), SHOWN
    width, height, left, bottom = 4, 160, 44, 36
    top = max(counts.get(second, 0) for second in range(first, last))
    across, down = left + width * (last - first) + 12, height + bottom + 16

    def x(second: float) -> float:
        return left + width * (second - first)

    bars = [
        f'<rect x="{x(second)}" y="{16 + height - height * count / top:.1f}" width="{width - 1}" height="{height * count / top:.1f}"/>'
        for second, count in sorted(counts.items())
        if first <= second < last
    ]
    steady = 16 + height - height * outage.steady / top
    labels = {x(-away): f"{-away:.0f} s: away", x(0): "0: back", x(SHOWN - 10): f"{SHOWN} s"}
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {across} {down}" font-family="sans-serif" font-size="11">',
            f"<title>Requests a second of {len(outage.back)} agents whose receiver was away for {away:.0f} s</title>",
            f'<rect width="{across}" height="{down}" fill="#fff"/>',
            f'<g fill="#3a6ea5">{"".join(bars)}</g>',
            f'<line x1="{left}" x2="{across - 12}" y1="{steady:.1f}" y2="{steady:.1f}" stroke="#b33" stroke-dasharray="4 3"/>',
            f'<text x="{left - 4}" y="22" text-anchor="end">{top}/s</text>',
            f'<text x="{left - 4}" y="{steady + 4:.1f}" text-anchor="end" fill="#b33">{outage.steady:.1f}/s</text>',
            *_below(labels, 16 + height),
            "</svg>",
            "",
        ]
    )


def _below(labels: Mapping[float, str], y: int) -> list[str]:
    return [
        f'<line x1="{x}" x2="{x}" y1="{y}" y2="{y + 5}" stroke="#333"/><text x="{x}" y="{y + 18}">{text}</text>'
        for x, text in labels.items()
    ]


if __name__ == "__main__":
    sys.exit(main())
