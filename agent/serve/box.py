"""What this host says about itself beyond Prometheus's API: its buffer, its collectors, and when its disks are full."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from agent import running
from agent.ops import verdict
from agent.ops.seen import Seen, failing
from agent.ops.selector import NAME
from agent.query.engine import evaluate
from agent.query.parse import parse
from agent.query.source import BufferSource
from agent.query.tree import QueryError
from agent.query.value import Steps
from agent.serve import api, exposed, forecast
from agent.serve import parameters as read
from agent.serve.limits import Turn
from agent.serve.message import Answer, Parameters, Refusal, success
from agent.serve.newest import Newest, NewestSamples
from agent.text import human
from buffer.inspect.status import Status, status

OWN = "limpet_collector_"
POINTS = 168
"""Points of a forecast: an hour of a week each."""
WEEK_MS = 7 * 86_400_000


class Box(NamedTuple):
    """A buffer with what is known of its limits.

    Attributes:
        data_dir: its folder.
        max_bytes, history_max_bytes: the caps of the buffer and of its history, None where no configuration gives them.
        min_free: returns the floor of free space, in bytes, for a volume's size.
        newest: the newest samples in it.
    """

    data_dir: str
    max_bytes: int | None
    history_max_bytes: int | None
    min_free: Callable[[int], int] | None
    newest: NewestSamples


def buffer(box: Box) -> Answer:
    """Return what `limpet buffer status --json` prints, and what there is to do about it."""
    now = time.time()
    found = status(box.data_dir, box.max_bytes, now, box.min_free, box.history_max_bytes)
    return success({**found.document(), "verdict": _verdict(box, found, now)})


def _verdict(box: Box, found: Status, now: float) -> dict[str, Any]:
    """Return the parts of `limpet status` that the buffer alone shows: delivering, and what is kept."""
    note = running.read(box.data_dir)
    seen = Seen(now, box.data_dir, None, found, None, None, note, running.boot_id())
    seen = seen._replace(failing=tuple(failing(box.data_dir)) if found.writer_pid is not None else ())
    parts = [one for one in verdict.parts(seen) if one.title != verdict.CONFIGURATION]
    first = verdict.first(parts)
    return {
        "word": verdict.word(seen, parts),
        "first": first and {"part": first.title, "said": first.finding.said, "do": first.finding.do},
        "parts": [{"part": one.title, **one.finding._asdict()} for one in parts],
    }


def ready(box: Box) -> Answer:
    """Say that there is a buffer that can be read. Raises Refusal where there is none."""
    try:
        os.listdir(box.data_dir)
    except OSError as error:
        raise Refusal(503, "unavailable", f"the buffer cannot be read: {human.reason(error)}") from None
    return Answer(200, b"Limpet is ready.\n", "text/plain; charset=utf-8")


def collectors(box: Box) -> Answer:
    """Return each collector: how old its newest samples are, how many series it has, and what fails."""
    now = time.time()
    groups: dict[str, dict[str, Any]] = {}
    found = box.newest.at(int(now * 1000))
    for one in found:
        if "/" in one.group and not one.group.startswith("scrape"):
            continue
        group = groups.setdefault(one.group, _collector(one.group))
        group["series"] += 1
        group["newest_timestamp_ms"] = max(group["newest_timestamp_ms"] or 0, one.ms)
    for one in found:
        labels = dict(one.series.labels)
        if one.series.name.startswith(OWN) and "collector" in labels:
            group = groups.setdefault(labels["collector"], _collector(labels["collector"]))
            _health(group, one, labels)
    listed = [groups[name] for name in sorted(groups)]
    return success({"collectors": listed, "failing": list(failing(box.data_dir))})


def _collector(name: str) -> dict[str, Any]:
    return {
        "name": name,
        "series": 0,
        "newest_timestamp_ms": None,
        "duration_seconds": None,
        "failures": None,
        "timeouts": None,
        "unreadable": None,
        "denied": None,
        "stuck_seconds": None,
    }


def _health(group: dict[str, Any], one: Newest, labels: dict[str, str]) -> None:
    """Add what the agent reports about a collector."""
    key = one.series.name.removeprefix(OWN).removesuffix("_total")
    if key == "stuck_seconds":
        group[key] = max(group[key] or 0.0, one.value)
    elif key in group:
        group[key] = one.value if key == "duration_seconds" else int(one.value)


def metadata(box: Box, found: Parameters) -> Answer:
    """Return type, unit and help of each metric, as far as it has been collected lately."""
    most, name = read.limit(found), found.get("metric")
    out: dict[str, list[dict[str, str]]] = {}
    for one in box.newest.at(int(time.time() * 1000)):
        series = one.series
        if (not name or series.name == name) and (series.name in out or not most or len(out) < most):
            entry = {"type": series.type or "unknown", "unit": series.unit, "help": series.help}
            known = out.setdefault(series.name, [])
            if entry not in known:
                known.append(entry)
    each = read.limit(found, "limit_per_metric")
    return success({key: (known[:each] if each else known) for key, known in out.items()})


def metrics(box: Box, accept: str) -> Answer:
    """Return the newest values for a scrape."""
    return exposed.metrics(box.newest.at(int(time.time() * 1000)), accept)


def forecasts(box: Box, turn: Turn) -> Answer:
    """Return for each file system when it is full, if it continues as in the last week."""
    now_ms = int(time.time()) * 1000
    step = WEEK_MS // POINTS
    source = BufferSource(box.data_dir, turn.budget, cache=turn.cache)
    newest = {
        one.series.labels: one.value for one in box.newest.at(now_ms) if one.series.name == "disk_free_bytes"
    }
    # Where there is less than a week, its steps are shorter.
    oldest = min((one.first_ms for one in _listed(source, turn, now_ms)), default=now_ms)
    step = max(60_000, min(step, (now_ms - oldest) // POINTS))
    text = f"avg_over_time(disk_free_bytes[{step}ms])"
    try:
        result = evaluate(
            parse(text), text, Steps(now_ms - step * (POINTS - 1), now_ms, step), source.read, turn.budget
        )
    except QueryError as error:
        raise api.refused(error, turn) from None
    out = []
    for line in result.lines:
        points = [
            (ms / 1000, value)
            for ms, value in zip(result.times, line.values, strict=True)
            if value is not None
        ]
        labels = tuple(one for one in line.labels if one[0] != NAME)
        if labels in newest:
            out.append(forecast.document(dict(labels), points, newest[labels]))
    return success(
        {"method": forecast.METHOD, "step_seconds": step / 1000, "file_systems": out}, source.warnings()
    )


def _listed(source: BufferSource, turn: Turn, now_ms: int) -> list[Any]:
    from agent.ops.selector import parse as selector

    try:
        return source.series(selector("disk_free_bytes").matchers, (now_ms - WEEK_MS, now_ms))
    except QueryError as error:
        raise api.refused(error, turn) from None
