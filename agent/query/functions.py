"""Functions of instant vectors: from the values at a step to others.

Source: promql/functions.go and quantile.go of Prometheus 3.5.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

from agent.ops.selector import NAME
from agent.query.arithmetic import INF, NAN, ceil, divide, floor, largest, smallest, total
from agent.query.tree import Node, Selector, bare
from agent.query.value import Column, Fail, Line, changed, distinct, label, merged, nameless, without
from agent.regex import Regex, RegexError
from buffer.model import Labels

ELEMENTWISE: dict[str, Callable[[float], float]] = {
    "abs": abs,
    "acos": total(math.acos),
    "acosh": total(math.acosh),
    "asin": total(math.asin),
    "asinh": total(math.asinh),
    "atan": total(math.atan),
    "atanh": lambda v: math.copysign(INF, v) if abs(v) == 1 else total(math.atanh)(v),
    "ceil": ceil,
    "cos": total(math.cos),
    "cosh": total(math.cosh),
    "deg": lambda v: v * 180 / math.pi,
    "exp": total(math.exp),
    "floor": floor,
    "ln": total(math.log, -INF),
    "log10": total(math.log10, -INF),
    "log2": total(math.log2, -INF),
    "rad": lambda v: v * math.pi / 180,
    "sgn": lambda v: 1.0 if v > 0 else -1.0 if v < 0 else v,
    "sin": total(math.sin),
    "sinh": lambda v: math.copysign(total(math.sinh)(abs(v)), v) if v == v else v,
    "sqrt": total(math.sqrt),
    "tan": total(math.tan),
    "tanh": total(math.tanh),
}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _days_in_month(at: datetime) -> int:
    return (at.replace(day=28) + timedelta(days=4)).replace(day=1).toordinal() - at.replace(day=1).toordinal()


_DATES: dict[str, Callable[[datetime], int]] = {
    "day_of_month": lambda at: at.day,
    "day_of_week": lambda at: at.isoweekday() % 7,
    "day_of_year": lambda at: at.timetuple().tm_yday,
    "days_in_month": _days_in_month,
    "hour": lambda at: at.hour,
    "minute": lambda at: at.minute,
    "month": lambda at: at.month,
    "year": lambda at: at.year,
}


def of_date(name: str) -> Callable[[float], float] | None:
    """Return a function of Unix seconds, None where it is none of them. Years beyond 1 to 9999 have no date: NaN."""
    part = _DATES.get(name)
    if part is None:
        return None

    def at(seconds: float) -> float:
        try:
            return float(part(_EPOCH + timedelta(seconds=int(seconds))))
        except (ValueError, OverflowError):
            return NAN

    return at


def each(lines: Sequence[Line], function: Callable[[float], float], fail: Fail) -> list[Line]:
    """Return every value changed by a function, without the name of the metric. Raises QueryError."""
    return merged(
        [
            Line(nameless(one.labels), [None if v is None else function(v) for v in one.values])
            for one in lines
        ],
        fail,
    )


def rounded(lines: Sequence[Line], nearest: Sequence[float], fail: Fail) -> list[Line]:
    """Return the values rounded to a multiple of `nearest`, up where they lie between two."""
    inverse = [divide(1.0, value) for value in nearest]

    def column(values: Column) -> Column:
        pairs = zip(values, inverse, strict=True)
        return [None if v is None else divide(floor(v * factor + 0.5), factor) for v, factor in pairs]

    return merged([Line(nameless(one.labels), column(one.values)) for one in lines], fail)


def clamped(lines: Sequence[Line], least: Sequence[float], most: Sequence[float], fail: Fail) -> list[Line]:
    """Return the values within limits; none at a step at which the limits are the wrong way round."""

    def column(values: Column) -> Column:
        rows = zip(values, least, most, strict=True)
        return [None if v is None or b < a else largest(a, smallest(b, v)) for v, a, b in rows]

    return merged([Line(nameless(one.labels), column(one.values)) for one in lines], fail)


def scalar(lines: Sequence[Line], steps: int) -> list[float]:
    """Return the value of the only series at each step, NaN where there is none or more than one."""
    result = []
    for step in range(steps):
        found = [value for line in lines if (value := line.values[step]) is not None]
        result.append(found[0] if len(found) == 1 else NAN)
    return result


def absent(argument: Node, lines: Sequence[Line], steps: int) -> list[Line]:
    """Return 1 at each step at which no series has a value, with the labels that the selector gives for certain."""
    missing: Column = [
        None if any(line.values[step] is not None for line in lines) else 1.0 for step in range(steps)
    ]
    return [Line(_certain(argument), missing)] if any(value is not None for value in missing) else []


def _certain(argument: Node) -> Labels:
    node, found, seen = bare(argument), dict[str, str](), set[str]()
    if isinstance(node, Selector):
        for matcher in node.matchers:
            if matcher.label == NAME:
                continue
            if matcher.operator == "=" and matcher.label not in seen:
                seen.add(matcher.label)
                found[matcher.label] = matcher.value
            else:
                found.pop(matcher.label, None)
    return tuple(sorted((name, value) for name, value in found.items() if value))


def in_order(lines: Sequence[Line], *, descending: bool) -> list[Line]:
    """Return the series by their value, NaN last. Of more than one step there is no order."""
    if not lines or len(lines[0].values) > 1:
        return list(lines)

    def key(line: Line) -> tuple[bool, float]:
        value = line.values[0] or 0.0
        return value != value, 0.0 if value != value else -value if descending else value

    return sorted(lines, key=key)


def label_replaced(
    lines: Sequence[Line], texts: Sequence[str], fail: Fail, count: Callable[[int], None]
) -> list[Line]:
    """Return the series with a label made of another one by a pattern. Raises QueryError.

    `count` is called with the characters that a label may have before it is made: each one can be many times as long as the last.
    """
    target, replacement, source, pattern = texts
    try:
        regex = Regex(pattern)
        template = regex.template(replacement)
    except RegexError as error:
        raise fail(f"the pattern of label_replace is not valid: {error.what}", error.do) from None
    _check_name(target, fail)

    references = replacement.count("$")

    def labels(old: Labels) -> Labels:
        match = regex.fullmatch(value := label(old, source))
        if match is None:
            return old
        count(len(replacement) + references * len(value))
        return changed(old, target, template.expand(match))

    return distinct([line._replace(labels=labels(line.labels)) for line in lines], fail)


def label_joined(
    lines: Sequence[Line], texts: Sequence[str], fail: Fail, count: Callable[[int], None]
) -> list[Line]:
    """Return the series with a label made of others, with a separator between them; `count` as in `label_replaced`."""
    target, separator, *sources = texts
    for name in (target, *sources):
        _check_name(name, fail)

    def labels(old: Labels) -> Labels:
        values = [label(old, name) for name in sources]
        count(sum(map(len, values)) + len(separator) * len(values))
        return changed(old, target, separator.join(values))

    return distinct([line._replace(labels=labels(line.labels)) for line in lines], fail)


def _check_name(name: str, fail: Fail) -> None:
    if not name:
        raise fail("a label has an empty name", "Name the label.")


_BOUND = re.compile(
    r"[+-]?(?:inf(?:inity)?|nan|(?:[0-9]++\.?[0-9]*+|\.[0-9]+)(?:e[+-]?[0-9]+)?)", re.IGNORECASE
)


def histogram_quantile(q: Sequence[float], lines: Sequence[Line], fail: Fail) -> list[Line]:
    """Return the q-quantile of each histogram, whose buckets have their upper bound in the label `le`.

    Series without such a bound are left out. Raises QueryError.
    """
    groups: dict[Labels, list[tuple[float, Column]]] = {}
    for line in lines:
        bound = label(line.labels, "le")
        if _BOUND.fullmatch(bound):
            rest = without(line.labels, frozenset(("le",)))
            groups.setdefault(rest, []).append((float(bound), line.values))
    result = []
    for labels, buckets in groups.items():
        buckets.sort(key=lambda one: one[0])
        columns = zip(*(values for _, values in buckets), strict=True)
        bounds = [bound for bound, _ in buckets]
        column: Column = []
        for step, row in enumerate(columns):
            present = [(bound, count) for bound, count in zip(bounds, row, strict=True) if count is not None]
            column.append(_bucket_quantile(q[step], present) if present else None)
        result.append(Line(nameless(labels), column))
    return merged(result, fail)


def _bucket_quantile(q: float, buckets: list[tuple[float, float]]) -> float:
    """Return the quantile of cumulative counts by their upper bounds, which rise."""
    if q != q:
        return NAN
    if not 0 <= q <= 1:
        return -INF if q < 0 else INF
    if buckets[-1][0] != INF:
        return NAN
    bounds, counts = list[float](), list[float]()
    for bound, count in buckets:
        if bounds and bounds[-1] == bound:
            counts[-1] += count
        else:
            bounds.append(bound)
            counts.append(count)
    _make_rise(counts)
    if len(bounds) < 2 or counts[-1] == 0:
        return NAN
    rank = q * counts[-1]
    # As Go's binary search finds it, also where a count is NaN.
    low, high = 0, len(bounds) - 1
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if counts[middle] >= rank else (middle + 1, high)
    if low == len(bounds) - 1:
        return bounds[-2]
    if low == 0 and bounds[0] <= 0:
        return bounds[0]
    start, before = (bounds[low - 1], counts[low - 1]) if low else (0.0, 0.0)
    return start + (bounds[low] - start) * divide(rank - before, counts[low] - before)


def _make_rise(counts: list[float]) -> None:
    """Take away what falls from one bucket to the next, and what differs by rounding only."""
    before = counts[0]
    for i, count in enumerate(counts[1:], 1):
        if count == before:
            continue
        if _nearly(before, count) or count < before:
            counts[i] = before
        else:
            before = count


def _nearly(a: float, b: float) -> bool:
    """Return whether two counts differ by less than a part in 10^12 of their sum."""
    if a != a and b != b:
        return True
    smallest_normal, both, apart = 2.0**-1022, abs(a) + abs(b), abs(a - b)
    if a == 0 or b == 0 or both < smallest_normal:
        return apart < 1e-12 * smallest_normal
    return apart / min(both, 1.7976931348623157e308) < 1e-12
