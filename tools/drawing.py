"""Draws a dashboard's panels as Grafana would, roughly, from what a server answered: for the documentation.

Only what these dashboards use is drawn: figures, lines, strips of states and tables, with units, limits and marks.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from tools.spelling import legend, over, plain, shade, spelled

COLUMN, LINE, GAP = 60, 28, 6  # pixels: a column of the grid, a line of it, the space between panels
BACK, PANEL, EDGE, TEXT, DIM = "#111217", "#181b1f", "#2b2e35", "#d5d6dd", "#8e8f98"
PALETTE = (
    "#7eb26d",
    "#eab839",
    "#6ed0e0",
    "#ef843c",
    "#e24d42",
    "#5794f2",
    "#ba43a9",
    "#b7dbab",
    "#f9934e",
    "#82b5d8",
)

Matrix = list[tuple[dict[str, str], list[tuple[float, float]]]]
"""Series by their labels, with (time, value)."""


class Answers(NamedTuple):
    """What a panel's queries gave, by their letter: series of points, one point for a query at an instant."""

    by_letter: Mapping[str, Matrix]
    since: float
    until: float


class Marks(NamedTuple):
    """What is marked over all graphs: instants, and stretches."""

    instants: Sequence[tuple[float, str]]
    stretches: Sequence[tuple[float, float, str]]


def draw(dashboard: Mapping[str, Any], answers: Mapping[int, Answers], marks: Marks, path: Path) -> None:
    """Draw a dashboard into a PNG. `answers` are by a panel's id."""
    shown = dashboard["panels"]
    height = max(p["gridPos"]["y"] + p["gridPos"]["h"] for p in shown) * LINE + 2 * GAP
    width = 24 * COLUMN + 2 * GAP
    with mpl.rc_context(
        {"font.size": 7.5, "font.family": "DejaVu Sans", "text.color": TEXT, "axes.labelcolor": TEXT}
    ):
        figure = Figure(figsize=(width / 100, height / 100), dpi=100, facecolor=BACK)
        for panel in shown:
            at = panel["gridPos"]
            left, top = GAP + at["x"] * COLUMN, GAP + at["y"] * LINE
            box = (left + GAP / 2, top + GAP / 2, at["w"] * COLUMN - GAP, at["h"] * LINE - GAP)
            if panel["type"] == "row":
                figure.text(
                    box[0] / width,
                    1 - (box[1] + box[3] / 2) / height,
                    panel["title"],
                    size=10,
                    weight="bold",
                    va="center",
                )
                continue
            axes = figure.add_axes(
                (box[0] / width, 1 - (box[1] + box[3]) / height, box[2] / width, box[3] / height)
            )
            axes.set(xlim=(0, box[2]), ylim=(box[3], 0), facecolor=PANEL)
            axes.tick_params(left=False, bottom=False, labelleft=False, labelbottom=False)
            for spine in axes.spines.values():
                spine.set_color(EDGE)
            KINDS[panel["type"]](figure, axes, panel, answers[panel["id"]], marks, box[2:], (width, height))
        figure.savefig(path, facecolor=BACK)
    with Image.open(path) as picture:
        picture.convert("RGB").quantize(256, kmeans=1, dither=Image.Dither.NONE).save(path, optimize=True)


def _figure_of(*given: Any) -> None:
    _, axes, panel, answers, _, (width, height), _ = given
    title = axes.text(8, 13, panel["title"], size=8, va="center")
    defaults, found = (
        panel["fieldConfig"]["defaults"],
        [one for each in answers.by_letter.values() for one in each],
    )
    text, color = defaults.get("noValue", "-"), DIM
    if found:
        labels, points = found[0]
        value = points[-1][1]
        color = shade(value, defaults["thresholds"]["steps"])
        if panel["options"]["textMode"] == "name":
            text = legend(panel["targets"][0].get("legendFormat", ""), labels)
        else:
            text = spelled(value, defaults["unit"], defaults.get("decimals"))
        if panel["options"]["colorMode"] == "background":
            axes.set_facecolor(color)
            color = over(color)
            title.set_color(color)
    size = min(21, 0.95 * width / max(3, len(text)))
    axes.text(
        width / 2,
        height / 2 + 9,
        text,
        size=size,
        weight="bold",
        color=color,
        ha="center",
        va="center",
        wrap=True,
    )


def _graph(*given: Any) -> None:
    figure, axes, panel, answers, marks, (width, height), whole = given
    plot = _plot(figure, axes, panel, answers, (width, height), whole, left=52, bottom=44)
    defaults, overrides = panel["fieldConfig"]["defaults"], panel["fieldConfig"]["overrides"]
    custom = defaults.get("custom", {})
    stacked = custom.get("stacking", {}).get("mode") == "normal"
    below: dict[float, float] = {}
    names: list[tuple[str, str]] = []
    for number, (name, points) in enumerate(_lines(panel, answers)):
        own = {
            one["id"]: one["value"]
            for override in overrides
            if re.search(override["matcher"]["options"].strip("/"), name)
            for one in override["properties"]
        }
        color = PALETTE[number % len(PALETTE)]
        sign = -1 if own.get("custom.transform") == "negative-Y" else 1
        pieces = _without_gaps(points)
        for piece in pieces:
            times, values = [at for at, _ in piece], [sign * value for _, value in piece]
            if stacked:
                base = [below.get(at, 0.0) for at in times]
                values = [low + value for low, value in zip(base, values, strict=True)]
                plot.fill_between(times, base, values, color=color, alpha=0.45, linewidth=0)
            elif (fill := own.get("custom.fillOpacity", custom["fillOpacity"])) > 0:
                plot.fill_between(times, 0, values, color=color, alpha=fill / 100, linewidth=0)
            style = (0, (5, 3)) if "custom.lineStyle" in own else "-"
            plot.plot(times, values, color=color, linewidth=1.1, linestyle=style)
        if stacked:
            below |= {at: below.get(at, 0.0) + value for at, value in points}
        names.append((name, color))
    low, high = plot.get_ylim()
    if defaults.get("min") is not None:
        low = defaults["min"]
    high = defaults["max"] if defaults.get("max") is not None else high
    plot.set_ylim(low, high if high > low else low + 1)
    low, high = plot.get_ylim()
    if custom.get("thresholdsStyle", {}).get("mode") == "dashed":
        for step in defaults["thresholds"]["steps"]:
            if step["value"] is not None and low <= step["value"] <= high:
                plot.axhline(step["value"], color=plain(step["color"]), linewidth=0.9, linestyle=(0, (6, 4)))
    for at, color in marks.instants:
        if answers.since <= at <= answers.until:
            plot.axvline(at, color=plain(color), linewidth=1.0, linestyle=(0, (3, 2)))
    for begin, end, color in marks.stretches:
        plot.axvspan(begin, end, color=plain(color), alpha=0.13, linewidth=0)
    plot.set_yticks(plot.get_yticks()[1:-1] if len(plot.get_yticks()) > 4 else plot.get_yticks())
    plot.set_ylim(low, high)
    plot.yaxis.set_major_formatter(
        lambda value, _: spelled(
            abs(value) if low < 0 < high and _mirrored(overrides) else value, defaults["unit"]
        )
    )
    x = 10.0
    for name, color in names:
        needed = 14 + 5.1 * len(name)
        if x + needed > width - 8:
            axes.text(x, height - 12, "...", size=7, va="center", color=DIM)
            break
        axes.add_patch(Rectangle((x, height - 13.5), 9, 3, color=color))
        axes.text(x + 12, height - 12, name, size=7, va="center", color=TEXT)
        x += needed + 6
    if not names:
        axes.text(width / 2, height / 2, "No data", ha="center", color=DIM)


def _mirrored(overrides: Sequence[Mapping[str, Any]]) -> bool:
    return any(one["id"] == "custom.transform" for override in overrides for one in override["properties"])


def _strips(*given: Any) -> None:
    figure, axes, panel, answers, _, (width, height), whole = given
    lines = _lines(panel, answers)
    defaults = panel["fieldConfig"]["defaults"]
    if not lines:
        axes.text(8, 13, panel["title"], size=8, va="center")
        axes.text(width / 2, height / 2, defaults.get("noValue", "No data"), ha="center", color=DIM)
        return
    room = min(0.45 * width, 5.0 * max(len(name) for name, _ in lines) + 16)
    plot = _plot(figure, axes, panel, answers, (width, height), whole, left=room, bottom=24)
    states = defaults["mappings"][0]["options"]
    step = min(
        (b - a for _, points in lines for (a, _), (b, _) in pairwise(points)),
        default=60.0,
    )
    for row, (_, points) in enumerate(lines):
        for at, value in points:
            color = plain(states.get(f"{value:g}", {}).get("color", "gray"))
            plot.add_patch(
                Rectangle((at - step / 2, row - 0.36), step * 1.02, 0.72, color=color, linewidth=0)
            )
    plot.set_ylim(len(lines) - 0.4, -0.6)
    plot.set_yticks(range(len(lines)), [name for name, _ in lines])
    plot.grid(visible=False, axis="y")


def rows_of(panel: Mapping[str, Any], answers: Answers) -> tuple[list[str], list[list[Any]]]:
    """The headings and lines of a table: merged by labels, ordered, renamed and sorted as the panel says."""
    options = panel["transformations"][1]["options"]
    values = (
        [f"Value #{one['refId']}" for one in panel["targets"]] if len(panel["targets"]) > 1 else ["Value"]
    )
    merged: dict[tuple[tuple[str, str], ...], dict[str, Any]] = {}
    for target, value in zip(panel["targets"], values, strict=True):
        for labels, points in answers.by_letter[target["refId"]]:
            merged.setdefault(tuple(sorted(labels.items())), dict(labels))[value] = points[-1][1]
    order = sorted(options["indexByName"], key=options["indexByName"].__getitem__)
    names = [options["renameByName"][key] for key in order]
    rows: list[list[Any]] = [[line.get(key) for key in order] for line in merged.values()]
    by = panel["options"]["sortBy"][0]
    place = names.index(by["displayName"])
    there = [row for row in rows if row[place] is not None]
    there.sort(key=lambda row: row[place], reverse=by["desc"])
    return names, there + [row for row in rows if row[place] is None]


def _table(*given: Any) -> None:
    _, axes, panel, answers, _, (width, height), _ = given
    axes.text(8, 13, panel["title"], size=8, va="center")
    names, rows = rows_of(panel, answers)
    styles = {
        one["matcher"]["options"]: {each["id"]: each["value"] for each in one["properties"]}
        for one in panel["fieldConfig"]["overrides"]
    }
    texts = [
        [
            value
            if isinstance(value, str)
            else ""
            if value is None
            else spelled(value, styles[name]["unit"], styles[name].get("decimals"))
            for name, value in zip(names, row, strict=True)
        ]
        for row in rows
    ]
    if not rows:
        axes.text(
            width / 2,
            height / 2,
            panel["fieldConfig"]["defaults"].get("noValue", "-"),
            ha="center",
            color=DIM,
        )
        return
    wide = [max(len(name) + 1, *(len(text[n]) for text in texts)) + 2 for n, name in enumerate(names)]
    scale = (width - 16) / sum(wide)
    line, x = 21.0, 8.0
    fits = int((height - 30) // line) - 1
    for n, name in enumerate(names):
        cell = wide[n] * scale
        number = not isinstance(next((row[n] for row in rows if row[n] is not None), ""), str)
        end, align = (x + cell - 6, "right") if number else (x + 4, "left")
        axes.text(end, 37, name, size=7, weight="bold", color="#6e9fff", ha=align, va="center")
        for r, (row, text) in enumerate(zip(rows[:fits], texts, strict=False)):
            y = 48 + r * line
            style = styles.get(name, {})
            value, ink = row[n], "#6e9fff" if "links" in style else TEXT
            if value is not None and "thresholds" in style:
                color = shade(value, style["thresholds"]["steps"])
                if color != "transparent":
                    axes.add_patch(Rectangle((x + 1, y + 1), cell - 2, line - 2, color=color, linewidth=0))
                    ink = over(color)
            axes.text(end, y + line / 2, text[n], size=7, color=ink, ha=align, va="center")
        x += cell
    for r in range(min(fits, len(rows)) + 1):
        axes.plot((8, width - 8), (48 + r * line,) * 2, color=EDGE, linewidth=0.6)


KINDS = {"stat": _figure_of, "timeseries": _graph, "state-timeline": _strips, "table": _table}


def _plot(
    figure: Figure,
    axes: Axes,
    panel: Mapping[str, Any],
    answers: Answers,
    size: tuple[float, float],
    whole: tuple[float, float],
    left: float,
    bottom: float,
) -> Axes:
    """The inner axes of a panel, with times below."""
    axes.text(8, 13, panel["title"], size=8, va="center")
    box = axes.get_position()
    inner = figure.add_axes(
        (
            box.x0 + left / whole[0],
            box.y0 + bottom / whole[1],
            (size[0] - left - 14) / whole[0],
            (size[1] - bottom - 28) / whole[1],
        ),
        facecolor=PANEL,
    )
    for spine in inner.spines.values():
        spine.set_visible(False)
    inner.grid(color=EDGE, linewidth=0.6)
    inner.tick_params(colors=DIM, length=0, labelsize=6.5, pad=2)
    inner.set_xlim(answers.since, answers.until)
    span = answers.until - answers.since
    every = next(
        step for step in (900, 1800, 3600, 7200, 21600, 86400, 172800) if span / step <= max(3, size[0] / 75)
    )
    first = answers.since // every * every + every
    ticks = [first + n * every for n in range(int((answers.until - first) // every) + 1)]
    form = "%H:%M" if every < 86400 else "%d %b"
    inner.set_xticks(ticks, [datetime.fromtimestamp(tick, UTC).strftime(form) for tick in ticks])
    return inner


def _lines(panel: Mapping[str, Any], answers: Answers) -> list[tuple[str, list[tuple[float, float]]]]:
    found = []
    for target in panel["targets"]:
        for labels, points in answers.by_letter[target["refId"]]:
            kept = [(at, value) for at, value in points if value == value and abs(value) != float("inf")]
            if kept:
                found.append((legend(target.get("legendFormat", ""), labels), kept))
    return found


def _without_gaps(points: list[tuple[float, float]]) -> list[list[tuple[float, float]]]:
    """The points, cut where some are missing."""
    steps = sorted(b[0] - a[0] for a, b in pairwise(points))
    usual = steps[0] if steps else 0.0
    pieces = [[points[0]]]
    for before, point in pairwise(points):
        if point[0] - before[0] > 1.5 * usual:
            pieces.append([])
        pieces[-1].append(point)
    return pieces
