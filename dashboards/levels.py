"""Where values are worth a warning, and where they are critical: the colors of the panels, and the limits of the alerts."""

from __future__ import annotations

from typing import NamedTuple

from grafana_foundation_sdk.models import dashboard as model

GREEN, YELLOW, RED, BLUE, GRAY = "green", "#EAB839", "red", "blue", "#808080"


class Limits(NamedTuple):
    """Where a value is worth a warning, and where it is critical; with `below`, what is less is worse.

    `unit` is Grafana's name of the value's unit, `top` the end of a graph's axis, `decimals` the digits of a figure.
    """

    unit: str
    warning: float | None
    critical: float | None
    below: bool = False
    top: float | None = None
    decimals: int | None = None

    def steps(self) -> list[model.Threshold]:
        """Return the colors from the lowest value on."""
        if self.below:
            first = YELLOW if self.critical is None else RED
            colors = [(self.critical, YELLOW), (self.warning, GREEN)]
        else:
            first, colors = GREEN, [(self.warning, YELLOW), (self.critical, RED)]
        known = [model.Threshold(value, color) for value, color in colors if value is not None]
        return [model.Threshold(None, first), *known]


# The limits of the alerts (config/prometheus/rules), so that a panel is red when somebody is called.
CPU = Limits("percent", 80, 95, top=100, decimals=0)
MEMORY = Limits("percent", 85, 95, top=100, decimals=0)
DISK = Limits("percent", 80, 90, top=100, decimals=0)
INODES = Limits("percent", 80, None, top=100, decimals=1)
BUSY = Limits("percent", 80, None, top=100, decimals=0)
AWAIT = Limits("ms", 100, 500)
BANDWIDTH = Limits("percent", 80, 95, top=100, decimals=0)
DROPS = Limits("percentunit", 0.01, None)
HEAT = Limits("celsius", 85, None, decimals=0)
WEAK = Limits("percentunit", 0.3, None, top=1, decimals=0)
PRESSURE = Limits("percentunit", 0.2, None, decimals=0)
LOSS = Limits("percentunit", 0.0005, 0.001, decimals=2)
AGE = Limits("s", 300, 3600, decimals=0)
SILENT = Limits("s", 120, 300, decimals=0)
SKEW = Limits("s", 5, 30, decimals=1)
QUALITY = Limits("percentunit", 0.99, 0.9, below=True, top=1, decimals=1)
DAYS = Limits("none", 30, 7, below=True, decimals=1)
NONE_WANTED = Limits("none", None, 1)
SOME = Limits("none", 1, None)
