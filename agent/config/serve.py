"""What `limpet serve` listens on, and what it answers at most."""

from __future__ import annotations

from typing import Annotated

from agent.config import values as v
from agent.config.listen import DEFAULT, Address, parse
from agent.config.section import Given, Problem, Problems, Section


def _is_address(text: str) -> bool:
    try:
        parse(text)
    except ValueError:
        return False
    return True


Listen = Annotated[
    Address,
    v.Text(
        _is_address,
        "expected an address with a port, or a Unix socket",
        f"Write it like {DEFAULT} or unix:/run/limpet-serve/limpet.sock.",
        parse,
    ),
]


class LimitsSection(Section, frozen=True, kw_only=True):
    """What a request may cost; what they are is in `agent.serve.limits`."""

    duration: v.Duration = 30.0
    concurrent: v.Count = 2
    range: v.Duration = 400 * 86_400.0
    points: v.Count = 11_000
    series: v.Count = 5_000
    samples: v.Count = 10_000_000
    loaded_samples: v.Count = 2_000_000
    answer_size: v.Size = 16 << 20
    body_size: v.Size = 256 << 10
    connections: v.Count = 64


class ServeSection(Section, frozen=True, kw_only=True):
    """Who may ask, and where."""

    listen: Listen = parse(DEFAULT)
    limits: LimitsSection = LimitsSection()

    @staticmethod
    def rules(got: Given) -> Problems:
        """Require that nobody else can reach what needs no login."""
        if got["listen"] is not None:
            yield from open_to_others(got["listen"])


def open_to_others(listen: Address) -> Problems:
    """Yield a problem where others can reach an address, and nobody has to log in."""
    if not listen.is_private:
        what = "others can reach this address, and nobody has to log in"
        yield Problem("listen", what, "Choose a loopback address or a Unix socket.")
