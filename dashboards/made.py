"""Every dashboard, by its uid, and its file next to this code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from dashboards import capacity, fleet, host, limpet

FOLDER = Path(__file__).parent / "json"


def dashboards() -> dict[str, dict[str, Any]]:
    """All of them, by uid, as Grafana loads them."""
    return {found["uid"]: found for found in (part.make() for part in (fleet, host, limpet, capacity))}


def files() -> dict[Path, str]:
    """Return the text of each file. The same code makes the same bytes."""
    return {FOLDER / f"{uid}.json": json.dumps(found, indent=1) + "\n" for uid, found in dashboards().items()}
