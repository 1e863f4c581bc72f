"""What a real Prometheus understands in an expression: its syntax tree, and the names of the metrics in it."""

from __future__ import annotations

import json
from typing import Any

from tests.support.prometheus import Prometheus


def metrics(server: Prometheus, expression: str) -> set[str]:
    """Return the names of all metrics that the expression asks for. Raises ServerFailed for a syntax error.

    A selector without a name, or with a pattern for it, is an error: nobody could say what it asks for.
    """
    tree = json.loads(server.get("/api/v1/parse_query", {"query": expression}))["data"]
    found: set[str] = set()
    _walk(tree, found)
    return found


def _walk(node: Any, found: set[str]) -> None:
    if isinstance(node, list):
        for each in node:
            _walk(each, found)
    elif isinstance(node, dict):
        if node.get("type") in ("vectorSelector", "matrixSelector"):
            assert node["name"], f"a selector without a name: {node}"
            found.add(node["name"])
        for each in node.values():
            _walk(each, found)
