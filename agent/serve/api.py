"""Prometheus's HTTP API over the buffer: the same parameters, statuses, types of errors and shapes of answers.

Source: Prometheus's documentation (querying/api), and web/api/v1/api.go of Prometheus 3.5. What of it is there: docs/serve.md.
Each function does one request in a thread of its own, and raises Refusal where the answer is an error.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any

from agent import __version__
from agent.query import answer
from agent.query.engine import Result, evaluate
from agent.query.limits import Stopped
from agent.query.parse import parse
from agent.query.printer import formatted
from agent.query.source import BufferSource, Found
from agent.query.tree import NAMES, Node, QueryError, kind
from agent.query.value import Steps
from agent.serve import parameters as read
from agent.serve.limits import Turn
from agent.serve.message import Answer, Parameters, Refusal, bad_data, json_bytes, success
from agent.text import human
from buffer.errors import LimpetError
from buffer.model import Labels

SPEAKS = "3.5.0"
"""The version of Prometheus whose API this is; Grafana looks for it."""
TRUNCATED = "results truncated due to limit"


def query(data_dir: str, turn: Turn, found: Parameters) -> Answer:
    """Answer an expression at one time."""
    at = read.time_ms(found, "time", int(time.time() * 1000))
    most = read.limit(found)
    text, tree = _parsed(found)
    source = BufferSource(data_dir, turn.budget, cache=turn.cache)
    result = _evaluated(tree, text, Steps(at, at, 1), source, turn)
    return _answered(result, source, most, turn)


def query_range(data_dir: str, turn: Turn, found: Parameters) -> Answer:
    """Answer an expression at the steps of a time."""
    start, end = read.time_ms(found, "start"), read.time_ms(found, "end")
    if end < start:
        raise bad_data('invalid parameter "end": end timestamp must not be before start time')
    step = round(read.duration(found, "step") * 1000)
    if step <= 0:
        raise bad_data(
            'invalid parameter "step": zero or negative query resolution step widths are not accepted. '
            "Try a positive integer"
        )
    if (end - start) // step > turn.limits.points:
        raise bad_data(
            f"exceeded maximum resolution of {turn.limits.points:,} points per timeseries. "
            "Try decreasing the query resolution (?step=XX)"
        )
    if end - start > turn.limits.range * 1000:
        raise bad_data(f"the time is longer than {human.duration(turn.limits.range)}: ask for less")
    most = read.limit(found)
    text, tree = _parsed(found)
    if kind(tree) not in ("scalar", "vector"):
        name = NAMES[kind(tree)].removeprefix("a ").removesuffix(" such as x[5m]").removeprefix("an ")
        raise bad_data(
            f'invalid parameter "query": invalid expression type "{name}" for range query, '
            "must be Scalar or instant Vector"
        )
    source = BufferSource(data_dir, turn.budget, cache=turn.cache)
    result = _evaluated(tree, text, Steps(start, end, step), source, turn)
    # At a single step it is a matrix too.
    lines = result.lines if result.type == "matrix" else sorted(result.lines)
    return _answered(result._replace(type="matrix", lines=lines), source, most, turn)


def format_query(data_dir: str, turn: Turn, found: Parameters) -> Answer:
    """Write an expression as Prometheus writes it; the buffer is not read."""
    try:
        return success(formatted(found.get("query")))
    except LimpetError as error:
        raise _not_valid(error) from None


def _not_valid(error: LimpetError) -> Refusal:
    return bad_data(f'invalid parameter "query": {error.what}')


def _parsed(found: Parameters) -> tuple[str, Node]:
    text = found.get("query")
    if found.get("lookback_delta"):
        raise bad_data('invalid parameter "lookback_delta": it is always 5m here')
    try:
        return text, parse(text)
    except LimpetError as error:
        raise _not_valid(error) from None


def _evaluated(tree: Node, text: str, steps: Steps, source: BufferSource, turn: Turn) -> Result:
    try:
        return evaluate(tree, text, steps, source.read, turn.budget)
    except QueryError as error:
        raise refused(error, turn) from None


def refused(error: QueryError, turn: Turn) -> Refusal:
    """Return the refusal of what could not be evaluated."""
    if isinstance(error, Stopped) and turn.is_late:
        return Refusal(503, "timeout", f"query timed out in expression evaluation: {error.what}")
    return Refusal(422, "execution", f"{error.what}. {error.do}")


def _answered(result: Result, source: BufferSource, most: int, turn: Turn) -> Answer:
    """Return the answer, which is written series by series so that only its text is in memory as a whole."""
    said = source.warnings()
    if result.type in ("scalar", "string"):
        return success(answer.of_result(result), said)
    if most and len(result.lines) + len(result.raw) > most:
        said.append(TRUNCATED)
        left = result._replace(lines=result.lines[:most], raw=result.raw[: most - len(result.lines[:most])])
        result = left
    pieces: list[bytes] = []
    size = 0
    for one in _each(result):
        turn.budget.check_time()
        for entry in answer.of_result(one)["result"]:
            pieces.append(json_bytes(entry))
            size += len(pieces[-1])
            if size > turn.limits.answer:
                do = "Ask for a shorter time, a longer step, or fewer series."
                what = f"the answer is larger than {human.size(turn.limits.answer)}"
                raise Refusal(422, "execution", f"{what}. {do}")
    head = b'{"status":"success","data":{"resultType":"' + result.type.encode() + b'","result":['
    tail = b"]}" + (b',"warnings":' + json_bytes(said) if said else b"") + b"}"
    return Answer(200, head + b",".join(pieces) + tail)


def _each(result: Result) -> Iterable[Result]:
    for line in result.lines:
        yield result._replace(lines=[line], raw=[])
    for raw in result.raw:
        yield result._replace(lines=[], raw=[raw])


# What there is.


def series(data_dir: str, turn: Turn, found: Parameters) -> Answer:
    """List the series that match."""
    if not found.all("match[]"):
        raise bad_data("no match[] parameter provided")
    source = BufferSource(data_dir, turn.budget, cache=turn.cache)
    listed = [dict(one.labels) for one in _found(source, turn, found)]
    return _listed(listed, found, source)


def labels(data_dir: str, turn: Turn, found: Parameters) -> Answer:
    """List the names of labels."""
    source = BufferSource(data_dir, turn.budget, cache=turn.cache)
    names = sorted({name for one in _found(source, turn, found) for name, _ in one.labels})
    return _listed(names, found, source)


def label_values(data_dir: str, turn: Turn, found: Parameters, name: str) -> Answer:
    """List the values of a label."""
    name = _unescaped(name)
    if not name:
        raise bad_data('invalid label name: ""')
    source = BufferSource(data_dir, turn.budget, cache=turn.cache)
    values = {value for one in _found(source, turn, found) for key, value in one.labels if key == name}
    return _listed(sorted(values), found, source)


def _unescaped(name: str) -> str:
    """Return a label's name; one that is not plain comes as U__ with its other characters as _HEX_."""
    if not name.startswith("U__"):
        return name
    import re

    try:
        return re.sub(
            "__|_([0-9a-fA-F]+)_", lambda found: chr(int(found[1], 16)) if found[1] else "_", name[3:]
        )
    except (ValueError, OverflowError):
        return name


def _found(source: BufferSource, turn: Turn, found: Parameters) -> list[Found]:
    """Return the series of all selectors, or all series without one, by their labels."""
    wanted, times = read.selectors(found), read.span(found)
    out: dict[Labels, Found] = {}
    try:
        for matchers in wanted or [()]:
            out |= {one.labels: one for one in source.series(matchers, times)}
    except QueryError as error:
        raise refused(error, turn) from None
    return [out[key] for key in sorted(out)]


def _listed(entries: Sequence[Any], found: Parameters, source: BufferSource) -> Answer:
    most, said = read.limit(found), source.warnings()
    if most and len(entries) > most:
        entries, said = entries[:most], [*said, TRUNCATED]
    return success(entries, said)


def build_info() -> Answer:
    """Say what this is: which API it has, and which Limpet."""
    return success(
        {
            "version": SPEAKS,
            "revision": "",
            "branch": "",
            "buildUser": "",
            "buildDate": "",
            "goVersion": "",
            "application": "limpet",
            "applicationVersion": __version__,
        }
    )
