"""Functions of range vectors: from the samples in a window to a value, or to none.

A sample that was made of many counts as these in `avg_`, `count_`, `max_`, `min_` and `sum_over_time`, and as one in all others.

A function is prepared for a series once (`prepare`), so that a window costs as little as it can: what a window of any
length needs, such as the places of counter resets, is found beforehand. Stale markers are not among the samples.

Source: promql/functions.go of Prometheus 3.5. Sums of values of one sign are correctly rounded here (`math.fsum`), which
is what Kahan's sum gives but for the last bit.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left
from collections.abc import Callable
from operator import mul
from typing import NamedTuple, TypeAlias

from agent.query.arithmetic import INF, NAN, add, divide, kahan_mean, kahan_sum, quantile
from agent.query.value import Samples, Thinned

Times: TypeAlias = "array[int]"
Values: TypeAlias = "array[float]"


class Window(NamedTuple):
    """Samples `low` to before `high`, in the window from after `start_ms` to `end_ms`, for the step at `step_ms`."""

    low: int
    high: int
    start_ms: int
    end_ms: int
    step_ms: int


Function = Callable[[Window, float], "float | None"]
"""From a window with one sample or more, and the scalar argument, to a value."""


def prepare(name: str, one: Samples) -> Function:
    """Return the function for a series."""
    if one.thinned is not None and name in WHOLE:
        return _WHOLE[name](one.values, one.thinned)
    return _FUNCTIONS[name](one.times, one.values)


def _extrapolated(counter: bool, per_second: bool) -> Callable[[Times, Values], Function]:
    def prepared(times: Times, values: Values) -> Function:
        resets = [i for i in range(1, len(values)) if values[i] < values[i - 1]] if counter else []

        def at(window: Window, _: float) -> float | None:
            low, high, start_ms, end_ms, _step = window
            if high - low < 2:
                return None
            first, last = values[low], times[high - 1]
            result = values[high - 1] - first
            if resets:
                for i in resets[bisect_left(resets, low + 1) : bisect_left(resets, high)]:
                    result += values[i - 1]
            sampled = (last - times[low]) / 1000
            between = sampled / (high - low - 1)
            to_start, to_end = (times[low] - start_ms) / 1000, (end_ms - last) / 1000
            # A gap at an end that is not much longer than those between samples is a part of the series.
            threshold = between * 1.1
            if to_start >= threshold:
                to_start = between / 2
            if counter and result > 0 and first >= 0:
                to_start = min(to_start, sampled * (first / result))  # a counter began at 0 at the earliest
            if to_end >= threshold:
                to_end = between / 2
            factor = (sampled + to_start + to_end) / sampled
            if per_second:
                factor /= (end_ms - start_ms) / 1000
            return result * factor

        return at

    return prepared


def _of_last_two(counter: bool) -> Callable[[Times, Values], Function]:
    def prepared(times: Times, values: Values) -> Function:
        def at(window: Window, _: float) -> float | None:
            if window.high - window.low < 2:
                return None
            last = window.high - 1
            result = values[last]
            if not counter:
                return result - values[last - 1]
            if not result < values[last - 1]:
                result -= values[last - 1]
            return result / ((times[last] - times[last - 1]) / 1000)

        return at

    return prepared


def _counted(differs: Callable[[float, float], bool]) -> Callable[[Times, Values], Function]:
    def prepared(_: Times, values: Values) -> Function:
        places = [i for i in range(1, len(values)) if differs(values[i - 1], values[i])]
        return lambda w, _: float(bisect_left(places, w.high) - bisect_left(places, w.low + 1))

    return prepared


def _is_change(before: float, now: float) -> bool:
    return before != now and (before == before or now == now)


def _regression(times: Times, values: Values, low: int, high: int, zero_ms: int) -> tuple[float, float]:
    """Return the slope per second and the value at `zero_ms` of the line with the least squares."""
    first = values[low]
    if all(value == first for value in values[low:high]):
        return (NAN, NAN) if first in (INF, -INF) else (0.0, first)
    n = float(high - low)
    x = [(ms - zero_ms) / 1000 for ms in times[low:high]]
    y = values[low:high]
    sums = [[0.0, 0.0] for _ in range(4)]
    for a, b in zip(x, y, strict=True):
        for pair, value in zip(sums, (a, b, a * b, a * a), strict=True):
            pair[0], pair[1] = add(value, pair[0], pair[1])
    sum_x, sum_y, sum_xy, sum_x2 = (sum_ + c for sum_, c in sums)
    slope = divide(sum_xy - sum_x * sum_y / n, sum_x2 - sum_x * sum_x / n)
    return slope, sum_y / n - slope * sum_x / n


def _deriv(times: Times, values: Values) -> Function:
    def at(window: Window, _: float) -> float | None:
        low, high = window.low, window.high
        return None if high - low < 2 else _regression(times, values, low, high, times[low])[0]

    return at


def _predict_linear(times: Times, values: Values) -> Function:
    def at(window: Window, seconds: float) -> float | None:
        if window.high - window.low < 2:
            return None
        slope, intercept = _regression(times, values, window.low, window.high, window.step_ms)
        return slope * seconds + intercept

    return at


def _folded(
    fast: Callable[[Values], float], slow: Callable[[Values], float]
) -> Callable[[Times, Values], Function]:
    """Return a function of the values alone: `fast` for series of finite values of one sign, `slow` for others."""

    def prepared(_: Times, values: Values) -> Function:
        # A NaN fails both comparisons, in whatever order min and max met it.
        if not (
            _none_is_nan(values)
            and ((min(values) >= 0 and max(values) < INF) or (min(values) > -INF and max(values) <= 0))
        ):
            return lambda w, _: slow(values[w.low : w.high])

        def at(window: Window, _: float) -> float:
            part = values[window.low : window.high]
            try:
                return fast(part)
            except OverflowError:
                return slow(part)

        return at

    return prepared


def _none_is_nan(values: Values) -> bool:
    return all(map(float.__eq__, values, values))


def _extreme(
    fast: Callable[[Values], float], beats: Callable[[float, float], bool]
) -> Callable[[Times, Values], Function]:
    def prepared(_: Times, values: Values) -> Function:
        if _none_is_nan(values):
            return lambda w, _: fast(values[w.low : w.high])

        def at(window: Window, _: float) -> float:
            best = values[window.low]
            for value in values[window.low : window.high]:
                if best != best or beats(value, best):
                    best = value
            return best

        return at

    return prepared


def _variance(values: Values) -> float:
    mean = mean_c = squares = squares_c = 0.0
    for count, value in enumerate(values, 1):
        delta = value - (mean + mean_c)
        mean, mean_c = add(delta / count, mean, mean_c)
        squares, squares_c = add(delta * (value - (mean + mean_c)), squares, squares_c)
    return (squares + squares_c) / len(values)


def _simple(function: Callable[[Values], float]) -> Callable[[Times, Values], Function]:
    return lambda _, values: lambda w, _: function(values[w.low : w.high])


def _stddev(values: Values) -> float:
    found = _variance(values)
    return math.sqrt(found) if found >= 0 else NAN


def _last(_: Times, values: Values) -> Function:
    return lambda w, _: values[w.high - 1]


def _quantile(_: Times, values: Values) -> Function:
    return lambda w, q: quantile(q, values[w.low : w.high])


def _one(_: Times, __: Values) -> Function:
    return lambda _w, _: 1.0


def _count(_: Times, __: Values) -> Function:
    return lambda w, _: float(w.high - w.low)


def _thinned_sum(values: Values, thinned: Thinned) -> Function:
    sums = array("d", map(mul, values, thinned.counts))
    return lambda w, _: kahan_sum(sums[w.low : w.high])


def _thinned_mean(values: Values, thinned: Thinned) -> Function:
    sums, counts = array("d", map(mul, values, thinned.counts)), thinned.counts

    def at(window: Window, _: float) -> float:
        low, high = window.low, window.high
        part = values[low:high]
        if part.count(part[0]) == len(part):  # no rounding where nothing changes
            return part[0]
        return kahan_sum(sums[low:high]) / sum(counts[low:high])

    return at


_WHOLE: dict[str, Callable[[Values, Thinned], Function]] = {
    "avg_over_time": _thinned_mean,
    "count_over_time": lambda _, thinned: lambda w, _: sum(thinned.counts[w.low : w.high]),
    "max_over_time": lambda _, thinned: _FUNCTIONS["max_over_time"](thinned.steps, thinned.high),
    "min_over_time": lambda _, thinned: _FUNCTIONS["min_over_time"](thinned.steps, thinned.low),
    "sum_over_time": _thinned_sum,
}
"""Functions that know what the samples were made of, where some of them were made coarser."""
WHOLE = dict.fromkeys(_WHOLE, "counts") | {"max_over_time": "high", "min_over_time": "low"}
"""What of `Thinned` each of them needs."""

_FUNCTIONS: dict[str, Callable[[Times, Values], Function]] = {
    "absent_over_time": _one,
    "avg_over_time": _folded(lambda v: math.fsum(v) / len(v), kahan_mean),
    "changes": _counted(_is_change),
    "count_over_time": _count,
    "delta": _extrapolated(counter=False, per_second=False),
    "deriv": _deriv,
    "idelta": _of_last_two(counter=False),
    "increase": _extrapolated(counter=True, per_second=False),
    "irate": _of_last_two(counter=True),
    "last_over_time": _last,
    "max_over_time": _extreme(max, float.__gt__),
    "min_over_time": _extreme(min, float.__lt__),
    "predict_linear": _predict_linear,
    "present_over_time": _one,
    "quantile_over_time": _quantile,
    "rate": _extrapolated(counter=True, per_second=True),
    "resets": _counted(float.__gt__),
    "stddev_over_time": _simple(_stddev),
    "stdvar_over_time": _simple(_variance),
    "sum_over_time": _folded(math.fsum, kahan_sum),
}
