"""Floating-point arithmetic as Go has it: nothing raises, what is undefined is NaN, what is too large is infinite.

Source: IEEE 754; package math of Go; `kahanSumInc` and `quantile` of Prometheus 3.5 (promql/functions.go, quantile.go).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

NAN, INF = math.nan, math.inf


def divide(a: float, b: float) -> float:
    """Return a / b."""
    try:
        return a / b
    except ZeroDivisionError:
        return NAN if a == 0 or a != a else math.copysign(INF, a) * math.copysign(1.0, b)


def modulo(a: float, b: float) -> float:
    """Return the remainder of a / b, with the sign of a."""
    try:
        return math.fmod(a, b)
    except ValueError:
        return NAN


def power(a: float, b: float) -> float:
    """Return a to the power of b."""
    try:
        return math.pow(a, b)
    except OverflowError:
        return -INF if a < 0 and b % 2 == 1 else INF
    except ValueError:
        if a != 0:
            return NAN
        return math.copysign(INF, a) if b % 2 == 1 else INF


def floor(value: float) -> float:
    """Return the largest whole number that is not above the value."""
    return math.copysign(float(math.floor(value)), value) if math.isfinite(value) else value


def ceil(value: float) -> float:
    """Return the smallest whole number that is not below the value."""
    return math.copysign(float(math.ceil(value)), value) if math.isfinite(value) else value


def largest(a: float, b: float) -> float:
    """Return the larger one; NaN where one is NaN, unless the other is +Inf."""
    if a == INF or b == INF:
        return INF
    return NAN if a != a or b != b else max(a, b)


def smallest(a: float, b: float) -> float:
    """Return the smaller one; NaN where one is NaN, unless the other is -Inf."""
    if a == -INF or b == -INF:
        return -INF
    return NAN if a != a or b != b else min(a, b)


def total(function: Callable[[float], float], at_zero: float = NAN) -> Callable[[float], float]:
    """Return a function of `math` that never raises: +Inf where it overflows, NaN where it is undefined.

    `at_zero` is its value at 0, where `math` has none.
    """

    def anywhere(value: float) -> float:
        try:
            return function(value)
        except OverflowError:
            return INF
        except ValueError:
            return at_zero if value == 0 else NAN

    return anywhere


def add(value: float, sum_: float, c: float) -> tuple[float, float]:
    """Return a sum with one more value, and what was lost to rounding so far (Neumaier's variant of Kahan's sum)."""
    t = sum_ + value
    if t in (INF, -INF):
        return t, 0.0
    if abs(sum_) >= abs(value):
        return t, c + ((sum_ - t) + value)
    return t, c + ((value - t) + sum_)


def kahan_sum(values: Iterable[float]) -> float:
    """Return the sum of the values."""
    sum_ = c = 0.0
    for value in values:
        sum_, c = add(value, sum_, c)
    return sum_ if sum_ in (INF, -INF) else sum_ + c


def kahan_mean(values: Sequence[float]) -> float:
    """Return the mean of one value or more, also where their sum would be infinite."""
    sum_, c, mean = values[0], 0.0, 0.0
    incremental = False
    for count, value in enumerate(values[1:], 2):
        if not incremental:
            larger, lost = add(value, sum_, c)
            if larger not in (INF, -INF):
                sum_, c = larger, lost
                continue
            incremental = True
            mean, c = sum_ / (count - 1), c / (count - 1)
        q = (count - 1) / count
        mean, c = add(value / count, q * mean, q * c)
    return mean + c if incremental else sum_ / len(values) + c / len(values)


def quantile(q: float, values: Iterable[float]) -> float:
    """Return the q-quantile, between two values in proportion; NaN counts as the smallest value."""
    if q != q:
        return NAN
    if not 0 <= q <= 1:
        return -INF if q < 0 else INF
    found = sorted(values, key=lambda value: (value == value, value if value == value else 0.0))
    if not found:
        return NAN
    rank = q * (len(found) - 1)
    lower = math.floor(rank)
    weight = rank - lower
    return found[lower] * (1 - weight) + found[min(len(found) - 1, lower + 1)] * weight
