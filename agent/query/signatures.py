"""The functions that are supported, with the types of their arguments.

A letter is an argument: v an instant vector, m a range vector, s a scalar, t a string. `?` behind it: it may be left
out; `*`: it may come any number of times, or not at all.
"""

from __future__ import annotations

from agent.query.tree import Kind

KINDS: dict[str, Kind] = {"v": "vector", "m": "matrix", "s": "scalar", "t": "string"}

_ONE_VECTOR = (
    "abs absent acos acosh asin asinh atan atanh ceil cos cosh deg exp floor ln log10 log2 rad scalar sgn sin sinh sort "
    "sort_desc sqrt tan tanh timestamp"
)
_ONE_RANGE = (
    "absent_over_time avg_over_time changes count_over_time delta deriv idelta increase irate last_over_time max_over_time "
    "min_over_time present_over_time rate resets stddev_over_time stdvar_over_time sum_over_time"
)
_DATES = "day_of_month day_of_week day_of_year days_in_month hour minute month year"

FUNCTIONS: dict[str, str] = {
    **dict.fromkeys(_ONE_VECTOR.split(), "v"),
    **dict.fromkeys(_ONE_RANGE.split(), "m"),
    **dict.fromkeys(_DATES.split(), "v?"),
    "clamp": "vss",
    "clamp_max": "vs",
    "clamp_min": "vs",
    "histogram_quantile": "sv",
    "label_join": "vttt*",
    "label_replace": "vtttt",
    "pi": "",
    "predict_linear": "ms",
    "quantile_over_time": "sm",
    "round": "vs?",
    "time": "",
    "vector": "s",
}
PARAMETERS: dict[str, Kind | None] = {
    **dict.fromkeys(["avg", "count", "group", "max", "min", "stddev", "stdvar", "sum"], None),
    "bottomk": "scalar",
    "count_values": "string",
    "quantile": "scalar",
    "topk": "scalar",
}
"""The aggregations that are supported, with the type of their parameter."""
NOT_SUPPORTED = frozenset(
    [
        "double_exponential_smoothing",
        "histogram_avg",
        "histogram_count",
        "histogram_fraction",
        "histogram_stddev",
        "histogram_stdvar",
        "histogram_sum",
        "holt_winters",
        "info",
        "limit_ratio",
        "limitk",
        "mad_over_time",
        "sort_by_label",
        "sort_by_label_desc",
        "ts_of_last_over_time",
        "ts_of_max_over_time",
        "ts_of_min_over_time",
    ]
)
"""Functions and aggregations of Prometheus for native histograms, or that it has switched off by default."""


def arguments(function: str) -> tuple[list[Kind], int, int | None]:
    """Return the types of the arguments, and the least and the largest number of them (None: any number)."""
    text = FUNCTIONS[function]
    letters = [letter for letter in text if letter in KINDS]
    least = len(letters) - text.count("?") - text.count("*")
    return [KINDS[letter] for letter in letters], least, None if "*" in text else len(letters)
