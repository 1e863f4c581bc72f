"""The description of the API in OpenAPI 3.1, as `/api/openapi.json` has it. Source: OpenAPI Specification 3.1.0.

Promise: a request that is as the description says is answered, and one that is not is refused with 400. What JSON Schema cannot say
is said in words: what the formats are, and which parameters must fit each other.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from agent import __version__
from agent.serve.message import FORM, JSON, Answer, json_bytes
from agent.serve.parameters import FIRST_MS, LAST_MS, LONGEST, MOST

_NOTHING = {"enum": [""]}
"""Empty is the same as not there."""
_TIME: dict[str, Any] = {
    "description": "Unix seconds, or RFC 3339",
    "anyOf": [
        {"type": "number", "minimum": FIRST_MS / 1000, "maximum": LAST_MS / 1000},
        {"type": "string", "format": "date-time"},
    ],
    "examples": [1700000000, "2023-11-14T22:43:20Z"],
}
_UNITS = "".join(f"([1-9][0-9]{{0,3}}{unit})?" for unit in ("w", "d", "h", "m", "s", "ms"))
"""The sum is shorter than 292 years, which is the longest duration that Prometheus has."""
_TIME_OR_NOTHING = {**_TIME, "anyOf": [*_TIME["anyOf"], _NOTHING]}
_DURATION = {
    "description": "seconds, or a duration",
    "anyOf": [
        {"type": "number", "minimum": 0.001, "exclusiveMaximum": LONGEST},
        {"type": "string", "minLength": 2, "pattern": f"^{_UNITS}$"},
    ],
    "examples": [60, "5m"],
}
_COUNT = {"anyOf": [{"type": "integer", "minimum": 0, "maximum": MOST}, _NOTHING]}
_TEXT = {"type": "string"}
_SELECTOR = {
    "description": "an instant selector of PromQL, with a matcher that the empty text does not match",
    "type": "string",
    "format": "promql-selector",
    "examples": ['up{job="node"}'],
}
_SELECTORS = {"type": "array", "items": _SELECTOR}
_PROMQL = {
    "description": "an expression in PromQL",
    "type": "string",
    "format": "promql",
    "examples": ["cpu_usage_percent"],
}
_OVER_TIME = {
    **_PROMQL,
    "description": "an expression in PromQL whose value is a scalar or an instant vector",
    "format": "promql-over-time",
}

_TIMEOUT = {
    "description": "seconds, or a duration; the server's own limit counts too",
    "anyOf": [
        {"type": "number", "minimum": 1, "exclusiveMaximum": LONGEST},
        {"type": "string", "pattern": "^[1-9][0-9]{0,4}[smh]$"},
        _NOTHING,
    ],
    "examples": [10, "1m"],
}

_FIT = (
    "`end` must not be before `start`. Between them there may be `serve.limits.points` steps (11,000), as many of each "
    "subquery, and the time of `serve.limits.range` (400 days) at most."
)

Parameter = tuple[str, dict[str, Any], bool]
_SPAN: list[Parameter] = [
    ("start", _TIME_OR_NOTHING, False),
    ("end", _TIME_OR_NOTHING, False),
    ("limit", _COUNT, False),
]
_MATCH: list[Parameter] = [("match[]", _SELECTORS, False), *_SPAN]
_BOUNDS: list[Parameter] = [("timeout", _TIMEOUT, False), ("limit", _COUNT, False)]


def _parameter(name: str, schema: dict[str, Any], required: bool, where: str = "query") -> dict[str, Any]:
    return {"name": name, "in": where, "required": required, "schema": schema}


def _in_a_form(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a value in a form, where one entry alone looks as a list with this entry does."""
    return {"anyOf": [schema, schema["items"]]} if "items" in schema else schema


_REFUSED = {"description": "refused", "content": {JSON: {"schema": {"$ref": "#/components/schemas/Error"}}}}


def _operation(
    id_: str, summary: str, parameters: list[Parameter], data: dict[str, Any], *, form: bool, statuses: str
) -> dict[str, Any]:
    answer = {
        "type": "object",
        "required": ["status", "data"],
        "properties": {
            "status": {"const": "success"},
            "data": data,
            "warnings": {"type": "array", "items": _TEXT},
        },
    }
    found: dict[str, Any] = {
        "operationId": id_,
        "summary": summary,
        "responses": {
            "200": {"description": "the answer", "content": {JSON: {"schema": answer}}},
            **dict.fromkeys(statuses.split(), _REFUSED),
        },
    }
    if form:
        schema = {
            "type": "object",
            "properties": {name: _in_a_form(schema) for name, schema, _ in parameters},
            "required": [name for name, _, required in parameters if required],
        }
        needed = any(required for _, _, required in parameters)
        found["requestBody"] = {"required": needed, "content": {FORM: {"schema": schema}}}
    else:
        found["parameters"] = [_parameter(*one) for one in parameters]
    return found


def _api(
    name: str,
    summary: str,
    parameters: list[Parameter],
    data: dict[str, Any],
    *,
    form: bool = False,
    statuses: str = "400 401 403 421 422 429 500 503",
    words: str = "",
) -> dict[str, Any]:
    found = {"get": _operation(name, summary, parameters, data, form=False, statuses=statuses)}
    if form:
        found["post"] = _operation(
            f"{name}_post", summary, parameters, data, form=True, statuses=f"{statuses} 413"
        )
    for operation in found.values() if words else ():
        operation["description"] = words
    return found


def _text(name: str, summary: str, kinds: tuple[str, ...], statuses: str) -> dict[str, Any]:
    content: dict[str, Any] = {kind: {"schema": _TEXT} for kind in kinds}
    responses = {
        "200": {"description": "the answer", "content": content},
        **dict.fromkeys(statuses.split(), _REFUSED),
    }
    return {"get": {"operationId": name, "summary": summary, "responses": responses}}


_RESULT = {"type": "object", "required": ["resultType", "result"]}
_NAMES = {"type": "array", "items": _TEXT}
_OBJECT = {"type": "object"}


@cache
def document() -> dict[str, Any]:
    """Return the description."""
    expression: list[Parameter] = [("query", _PROMQL, True)]
    times: list[Parameter] = [("start", _TIME, True), ("end", _TIME, True), ("step", _DURATION, True)]
    over_time: list[Parameter] = [("query", _OVER_TIME, True), *_BOUNDS, *times]
    series: list[Parameter] = [("match[]", {**_SELECTORS, "minItems": 1}, True), *_SPAN]
    values = _api("label_values", "The values of a label", _MATCH, _NAMES, form=True)
    label = _parameter("name", {"type": "string", "minLength": 1, "examples": ["device"]}, True, "path")
    each: list[Parameter] = [
        ("metric", _TEXT, False),
        ("limit", _COUNT, False),
        ("limit_per_metric", _COUNT, False),
    ]
    at: list[Parameter] = [*expression, *_BOUNDS, ("time", _TIME_OR_NOTHING, False)]
    text, refused = "text/plain", "401 403 421 429 500 503"
    metrics = (text, "application/openmetrics-text")
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Limpet",
            "version": __version__,
            "description": "What this host's buffer holds: Prometheus's HTTP API, and the host about itself.",
        },
        "paths": {
            "/api/v1/query": _api("query", "An expression at one time", at, _RESULT, form=True),
            "/api/v1/query_range": _api(
                "query_range", "An expression over time", over_time, _RESULT, form=True, words=_FIT
            ),
            "/api/v1/format_query": _api(
                "format_query", "An expression as Prometheus writes it", expression, _TEXT, form=True
            ),
            "/api/v1/series": _api(
                "series", "The series that match", series, {"type": "array", "items": _OBJECT}, form=True
            ),
            "/api/v1/labels": _api("labels", "The names of labels", _MATCH, _NAMES, form=True),
            "/api/v1/label/{name}/values": {"parameters": [label], **values},
            "/api/v1/metadata": _api("metadata", "Type, unit and help of metrics", each, _OBJECT),
            "/api/v1/status/buildinfo": _api("build_info", "What this is", [], _OBJECT),
            "/api/v1/buffer": _api("buffer", "The buffer and its destinations", [], _OBJECT),
            "/api/v1/collectors": _api("collectors", "What is collected, and what fails", [], _OBJECT),
            "/api/v1/forecast": _api("forecast", "When file systems are full", [], _OBJECT),
            "/metrics": _text("metrics", "The newest values, for a scrape", metrics, refused),
            "/-/healthy": _text("healthy", "Whether this server works", (text,), "421 500"),
            "/-/ready": _text("ready", "Whether there is a buffer to read", (text,), "421 500 503"),
        },
        "components": {
            "schemas": {
                "Error": {
                    "type": "object",
                    "required": ["status", "errorType", "error"],
                    "properties": {"status": {"const": "error"}, "errorType": _TEXT, "error": _TEXT},
                }
            },
            "securitySchemes": {
                "basic": {"type": "http", "scheme": "basic"},
                "token": {"type": "http", "scheme": "bearer"},
            },
        },
        "security": [{}, {"basic": []}, {"token": []}],
    }


def answer() -> Answer:
    """Return the description as an answer."""
    return Answer(200, json_bytes(document()))
