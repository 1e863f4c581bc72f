"""What `limpet serve` listens on, and what it answers at most."""

from __future__ import annotations

from typing import Annotated

from agent.config import values as v
from agent.config.listen import DEFAULT, Address, parse
from agent.config.section import Given, Problem, Problems, Section
from agent.config.web import Name, Role


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
    web_config_file: v.File | None = None
    tokens_file: v.File | None = None
    roles: dict[Name, Role] = {}
    access_log: v.Written | None = None
    access_log_size: v.DataSize = 10 << 20
    access_log_files: v.Count = 5
    limits: LimitsSection = LimitsSection()

    @staticmethod
    def rules(got: Given) -> Problems:
        """Require that nobody else can reach what needs no login; whether TLS and a login are there is seen when the files are read."""
        if got["listen"] is not None and not got["listen"].is_private and got["web_config_file"] is None:
            yield OPEN_TO_OTHERS


OPEN_TO_OTHERS = Problem(
    "listen",
    "others can reach this address, which needs TLS and a login",
    "Name a web_config_file with both, or choose a loopback address or a Unix socket.",
)
"""The problem of an address that others can reach."""
