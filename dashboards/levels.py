"""Where values are worth a warning, and where they are critical: the colors of the panels, and the limits of the alerts."""

from __future__ import annotations

from typing import NamedTuple

from grafana_foundation_sdk.models import dashboard as model

GREEN, YELLOW, RED, BLUE, GRAY = "green", "#EAB839", "red", "blue", "#808080"


class Limits(NamedTuple):
    """Where a value is worth a warning, and where it is critical; with `below`, what is less is worse."""

    warning: float | None
    critical: float | None
    below: bool = False

    def steps(self) -> list[model.Threshold]:
        """The colors from the lowest value on."""
        if self.below:
            first = YELLOW if self.critical is None else RED
            colors = [(self.critical, YELLOW), (self.warning, GREEN)]
        else:
            first, colors = GREEN, [(self.warning, YELLOW), (self.critical, RED)]
        known = [model.Threshold(value, color) for value, color in colors if value is not None]
        return [model.Threshold(None, first), *known]


# The limits of the alerts (config/prometheus/rules), so that a panel is red when somebody is called.
CPU = Limits(80, 95)
MEMORY = Limits(85, 95)
DISK = Limits(80, 90)
INODES = Limits(80, None)
BUSY = Limits(80, None)
AWAIT = Limits(100, 500)
BANDWIDTH = Limits(80, 95)
DROPS = Limits(0.01, None)
LOSS = Limits(0.0005, 0.001)
AGE = Limits(300, 3600)
SILENT = Limits(120, 300)
SKEW = Limits(5, 30)
QUALITY = Limits(0.99, 0.9, below=True)
DAYS = Limits(30, 7, below=True)
NONE_WANTED = Limits(None, 1)
SOME = Limits(1, None)
UNUSUAL = Limits(3, 4)
