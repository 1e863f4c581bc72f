"""Destinations that take InfluxDB's line protocol: the `influxdb` section."""

from __future__ import annotations

from typing import Literal
from urllib.parse import urlencode

from agent.config import values as v
from agent.config.destination import HttpDestination
from agent.config.section import Given, Problem, Problems
from agent.config.urls import split_url

_PATHS = {"v1": "/write", "v2": "/api/v2/write", "v3": "/api/v3/write_lp"}
_NEEDED = {"v1": ("db",), "v2": ("org", "bucket"), "v3": ("db",)}
_KNOWN = {"v1": ("db", "rp"), "v2": ("org", "bucket"), "v3": ("db",)}


class InfluxDB(HttpDestination, frozen=True, kw_only=True):
    """A destination that takes line protocol. `url` is the server's, without the path of a write."""

    api: Literal["v1", "v2", "v3"] = "v1"
    db: v.Words | None = None
    rp: v.Words | None = None
    org: v.Words | None = None
    bucket: v.Words | None = None
    naming: Literal["metric", "telegraf", "table"] = "metric"

    @property
    def write_url(self) -> str:
        """Where requests are posted to: with timestamps in milliseconds, and what can be stored of one is stored."""
        query = {key: value for key in _KNOWN[self.api] if (value := getattr(self, key)) is not None}
        query["precision"] = "millisecond" if self.api == "v3" else "ms"
        if self.api == "v3":
            query["accept_partial"] = "true"
        return f"{self.url.rstrip('/')}{_PATHS[self.api]}?{urlencode(query)}"

    @staticmethod
    def rules(got: Given) -> Problems:
        """Require what the API needs, and nothing that it does not know; a bucket alone shows that it is v2."""
        yield from HttpDestination.rules(got)
        if "api" not in got.given and "bucket" in got.given:
            got.values["api"] = "v2"
        api, parts = got["api"], split_url(got["url"] or "")
        if api is None:
            return
        for key in _NEEDED[api]:
            if key not in got.given:
                yield Problem(key, f"the API {api} needs this key", f"Set {key}, or another api.")
        for key in ("db", "rp", "org", "bucket"):
            if key in got.given and key not in _KNOWN[api]:
                yield Problem(key, f"the API {api} does not take this key", "Remove it, or set another api.")
        if parts is not None and parts.query:
            yield Problem("url", "it has a query", "Write what is in it as db, rp, org and bucket.")
        elif parts is not None and parts.path.rstrip("/").endswith(tuple(_PATHS.values())):
            yield Problem("url", "it has the path of a write, which is added to it", "Remove that.")
