"""`/metrics`: the newest values, as Prometheus scrapes them, in the text format or OpenMetrics.

Sources: "Text-based format" of Prometheus's documentation (instrumenting/exposition_formats); OpenMetrics 1.0.0.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from agent.serve.message import Answer
from agent.serve.newest import Newest
from agent.text.exposition import exposition, number, quoted_name, selector

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPEN_METRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
_ESCAPED = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})
_Q = re.compile(r"q=([0-9.]+)")


def metrics(found: Sequence[Newest], accept: str) -> Answer:
    """Return the newest values in the format that the header Accept prefers."""
    if _wants_open_metrics(accept):
        return Answer(200, open_metrics(found).encode(errors="replace"), OPEN_METRICS)
    text = exposition((one.series, one.value) for one in found)
    return Answer(200, text.encode(errors="replace"), TEXT)


def open_metrics(found: Iterable[Newest]) -> str:
    """Return the text of these values: families, each with its TYPE, UNIT and HELP, and `# EOF`.

    A counter must be called `..._total`, no other metric may have the name of its family, and a unit must end that name; where it is
    not so, the type is unknown, and the unit is left out.
    """
    families: dict[str, list[Newest]] = {}
    for one in found:
        families.setdefault(one.series.name, []).append(one)
    lines = []
    for name, members in families.items():
        first = members[0].series
        kind = first.type if first.type in ("gauge", "counter") else "unknown"
        if kind == "counter" and (not name.endswith("_total") or name.removesuffix("_total") in families):
            kind = "unknown"
        family = name.removesuffix("_total") if kind == "counter" else name
        plain = quoted_name(family)
        lines.append(f"# TYPE {plain} {kind}")
        if first.unit and family.endswith(f"_{first.unit}"):
            lines.append(f"# UNIT {plain} {first.unit}")
        if first.help:
            lines.append(f"# HELP {plain} {first.help.translate(_ESCAPED)}")
        lines += [f"{selector(name, one.series.labels)} {number(one.value)}" for one in members]
    return "".join(f"{line}\n" for line in [*lines, "# EOF"])


def _wants_open_metrics(accept: str) -> bool:
    """Return whether a header prefers OpenMetrics 1.0.0 to text, as Prometheus's does."""
    best = {"application/openmetrics-text": 0.0, "text/plain": 0.0}
    for part in accept.split(","):
        kind, *settings = (one.strip() for one in part.split(";"))
        weight = next((found[1] for one in settings if (found := _Q.fullmatch(one))), "1")
        if kind in best and not any(one.startswith("version=0.0.1") for one in settings):
            try:
                best[kind] = max(best[kind], float(weight))
            except ValueError:
                continue
    return best["application/openmetrics-text"] > best["text/plain"]
