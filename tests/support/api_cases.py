"""What schemathesis must know about the parameters of the API, and JSON Schema cannot say: hooks for its command.

`/api/openapi.json` says the same in words: what is PromQL (`format`), and which parameters of `query_range` must fit each other.
A case that is to be refused is left as it is.
"""

from __future__ import annotations

import re
from typing import Any

import schemathesis
from hypothesis import strategies as st

from agent.serve.message import Parameters
from agent.serve.parameters import duration, time_ms
from tests.support.expressions import at_an_instant, expressions

POINTS, LONGEST_MS = 11_000, 400 * 86_400_000
"""The defaults of `serve.limits.points` and `serve.limits.range`."""
SUBQUERY_MS = 5_000
"""No subquery here has a shorter step."""


def _quoted(text: str) -> str:
    return '"' + "".join({"\\": "\\\\", '"': '\\"', "\n": "\\n"}.get(one, one) for one in text) + '"'


def _selectors() -> st.SearchStrategy[str]:
    text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
    label = st.from_regex(r"[a-zA-Z_][a-zA-Z0-9_]{0,9}", fullmatch=True)
    metric = st.from_regex(r"[a-zA-Z_:][a-zA-Z0-9_:]{0,9}", fullmatch=True)
    plain = st.builds("{}{}{}".format, label, st.sampled_from(("=", "!=")), text.map(_quoted))
    pattern = st.builds(
        "{}{}{}".format, label, st.sampled_from(("=~", "!~")), text.map(re.escape).map(_quoted)
    )
    matchers = st.lists(plain | pattern, max_size=3).map(",".join)
    return st.builds("{}{{{}}}".format, metric, matchers)


def _larger(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Return expressions made of others. These are aggregated first, so that no two series get the same labels."""
    one = inner.map("sum({})".format)
    number = st.floats(allow_nan=False, allow_infinity=False).map(repr)
    aggregation = st.sampled_from(("max", "count", "avg by (job)", "group without (instance)"))
    function = st.sampled_from(("abs", "-", "sqrt", "ceil", "absent", "timestamp"))
    operator = st.sampled_from(("+", "-", "*", "/", "%", "^", "> bool", "<=", "and", "or", "unless"))
    return st.one_of(
        st.builds("{}({})".format, aggregation, inner),
        st.builds("{}({})".format, function, one),
        st.builds("{} {} {}".format, one, operator, one),
        st.builds("{} * {}".format, one, number),
        one.map("vector(scalar({}))".format),
        st.builds("max_over_time({}[{}m:{}s])".format, one, st.integers(1, 9), st.integers(30, 90)),
    )


SELECTORS = _selectors()
OVER_TIME = st.sampled_from(expressions()) | st.recursive(SELECTORS, _larger, max_leaves=4)
schemathesis.openapi.format("promql-selector", SELECTORS)
schemathesis.openapi.format("promql-over-time", OVER_TIME)
schemathesis.openapi.format("promql", OVER_TIME | st.sampled_from(at_an_instant()))


@schemathesis.hook  # type: ignore[untyped-decorator]
def filter_case(context: schemathesis.HookContext, case: schemathesis.Case[Any]) -> bool:
    """Leave out what is no text in JSON and is one in a URL: `match[]=false` is the selector of a metric with this name."""
    fields = case.query if case.method == "GET" else case.body
    found = fields.get("match[]") if isinstance(fields, dict) else None
    return not any(isinstance(one, bool) for one in (found if isinstance(found, list) else [found]))


@schemathesis.hook.apply_to(path="/api/v1/query_range")  # type: ignore[untyped-decorator]
def map_case(context: schemathesis.HookContext, case: schemathesis.Case[Any]) -> schemathesis.Case[Any]:
    """Make the times of a valid case fit: `start` is not after `end`, and there are not too many steps between them."""
    fields: Any = case.query if case.method == "GET" else case.body
    if case.meta is not None and case.meta.generation.mode.is_positive:
        found = Parameters([(name, str(fields[name])) for name in ("query", "start", "end", "step")])
        start, end = sorted((time_ms(found, "start"), time_ms(found, "end")))
        shortest = round(duration(found, "step") * 1000)
        if re.search(r"\[\w+:", found.get("query")):
            shortest = min(shortest, SUBQUERY_MS)
        most = min(LONGEST_MS, (POINTS - 1) * shortest)
        fields["start"], fields["end"] = start / 1000, min(end, start + most) / 1000
    return case
