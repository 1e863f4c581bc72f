"""Destinations that take OpenTelemetry's protocol, OTLP over HTTP: the `otlp` section."""

from __future__ import annotations

from typing import Literal

from agent.config.destination import HttpDestination
from agent.config.section import Given, Problem, Problems
from agent.config.urls import split_url


class OTLP(HttpDestination, frozen=True, kw_only=True):
    """A destination that takes OTLP over HTTP. `url` is that of its metrics, which ends with /v1/metrics."""

    compression: Literal["gzip", "zstd", "none"] = "gzip"
    names: Literal["as_is", "semantic"] = "as_is"

    @staticmethod
    def rules(got: Given) -> Problems:
        """Require a path: without one no receiver takes metrics."""
        yield from HttpDestination.rules(got)
        parts = split_url(got["url"] or "")
        if parts is not None and not parts.path.strip("/"):
            yield Problem("url", "it has no path", "Add that of the metrics: mostly /v1/metrics.")
