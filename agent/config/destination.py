"""What all destinations have in common, whatever their type: the way there, and how samples become requests."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Literal
from urllib.parse import urlsplit

import msgspec

from agent.config import values as v
from agent.config.http_client import (
    Authorization,
    BasicAuth,
    HttpHeader,
    OAuth2,
    TlsConfig,
    in_the_clear,
    proxy_rules,
)
from agent.config.relabeling import RelabelConfig
from agent.config.section import Given, Problem, Problems, Section
from agent.config.units import format_duration
from buffer.model import Series


class QueueConfig(Section, frozen=True, kw_only=True):
    """How samples become requests, and how a request that failed is repeated."""

    ignored = {
        "capacity": "the buffer on disk is the queue; its size is buffer.max_size",
        "max_shards": "there is one request at a time to a destination, which keeps the samples in order",
        "min_shards": "there is one request at a time to a destination, which keeps the samples in order",
        "retry_on_http_429": "a 429 is always retried",
    }

    max_samples_per_send: v.Count = 100_000
    batch_send_deadline: v.Duration = 30.0
    min_backoff: v.Duration = 1.0
    max_backoff: v.Duration = 60.0
    sample_age_limit: v.Limit = 0.0

    @staticmethod
    def rules(got: Given) -> Problems:
        """Require the waits to be in order; a default gives way."""
        least, most = got["min_backoff"], got["max_backoff"]
        if least is None or most is None or least <= most:
            return
        if "min_backoff" not in got.given:
            got.values["min_backoff"] = most
        elif "max_backoff" not in got.given:
            got.values["max_backoff"] = least
        else:
            yield Problem("max_backoff", "it is below min_backoff", "Raise it, or lower min_backoff.")


METERED: Mapping[str, float] = {"queue_config.batch_send_deadline": 180.0, "max_bandwidth": 32 << 10}
"""What `link: metered` sets: paths of keys in a destination, in seconds and bytes a second."""
LONGEST_UNCHANGED = 240.0
"""Seconds: with a minute between two ticks, what Prometheus looks back for a value is just not exceeded."""
MOST_PRIORITY = 1000
"""Characters of the selectors of a `data_budget`, as JSON."""
_AUTH = ("basic_auth", "authorization", "oauth2")


class DataBudget(Section, frozen=True, kw_only=True):
    """The most bytes on the wire in a day and in a month (UTC)."""

    per_day: v.DataSize | None = None
    per_month: v.DataSize | None = None
    priority: tuple[v.SeriesSelector, ...] = ()

    @staticmethod
    def rules(got: Given) -> Problems:
        """Warn of a limit that never counts."""
        day, month = got["per_day"], got["per_month"]
        if day and month and month <= day:
            yield Problem("per_day", "a day may cost more than a month, so only per_month counts")
        priority = got["priority"] or ()
        if priority and not day and not month:
            yield Problem("priority", "it counts when a budget is spent, and there is none")
        if len(json.dumps(priority)) > MOST_PRIORITY:
            what = f"the selectors have more than {MOST_PRIORITY} characters, which are kept with the cursor"
            yield Problem("priority", what, 'Select by a pattern, such as {__name__=~"disk_.*"}.')


def selected(selectors: Sequence[str]) -> Callable[[Series], bool]:
    """Return what says whether a series matches one of these. Raises SelectorError."""
    if not selectors:
        return lambda series: False
    from agent.ops.selector import parse  # only where there are some

    tests = [parse(one).matches for one in selectors]
    return lambda series: any(matches(series) for matches in tests)


class DestinationConfig(Section, frozen=True, kw_only=True):
    """A destination of any type: what its lane needs. Its `name` is never empty once loaded, and unique."""

    name: v.DestinationName = ""
    remote_timeout: v.Duration = 30.0
    queue_config: QueueConfig = QueueConfig()
    link: Literal["usual", "metered"] = "usual"
    drain_order: Literal["oldest_first", "fresh_first", "auto"] = "oldest_first"
    max_bandwidth: v.Bandwidth | None = None
    send_unchanged_every: v.Limit = 0.0
    data_budget: DataBudget = DataBudget()
    send_window: tuple[v.DayTimes, ...] = ()
    write_relabel_configs: tuple[RelabelConfig, ...] = ()
    start: Literal["oldest", "now"] = "oldest"

    @property
    def kind(self) -> str:
        """The type, as people know it: the section's name."""
        return type(self).__name__.lower()

    @property
    def where(self) -> str:
        """Where the samples go, as a URL. Its query may hold secrets."""
        raise NotImplementedError

    @property
    def write_url(self) -> str:
        """Where requests go."""
        return self.where

    def by_link(self) -> dict[str, tuple[float, bool]]:
        """Return the keys that `link` is a word for: their values, and whether they are what it sets."""
        queue, bandwidth = self.queue_config, self.max_bandwidth or 0
        found = {"queue_config.batch_send_deadline": queue.batch_send_deadline, "max_bandwidth": bandwidth}
        return (
            {key: (found[key], found[key] == METERED[key]) for key in METERED}
            if self.link == "metered"
            else {}
        )

    @staticmethod
    def rules(got: Given) -> Problems:
        """Let the keys that were given win over what `link` sets; allow no order that a send window contradicts."""
        if got["link"] == "metered":
            unless_given(got, METERED)
        if got["send_window"] and got["drain_order"] in ("oldest_first", "auto"):
            what = "outside of it fresh samples go ahead of the backlog, and drain_order does not allow that"
            do = "Set drain_order: fresh_first, and have a receiver that takes samples out of order."
            yield Problem("send_window", what, do)
        if (got["send_unchanged_every"] or 0) > LONGEST_UNCHANGED:
            what = f"constant series may have gaps: queries look back 5m, and samples are up to {format_duration(got['send_unchanged_every'])} apart; set 4m or less"
            yield Problem("send_unchanged_every", what)


class HttpDestination(DestinationConfig, frozen=True, kw_only=True):
    """A destination over HTTP. Headers and queries may hold secrets."""

    shown = ("name", "url")
    ignored = {
        "enable_http2": "HTTP/1.1 is spoken, with one request at a time",
        "follow_redirects": "a redirect is never followed; it is shown as an error until the url is corrected",
    }

    url: v.Url
    headers: dict[v.HeaderName, v.HeaderValue] = {}
    http_headers: dict[v.HeaderName, HttpHeader] = {}
    basic_auth: BasicAuth | None = None
    authorization: Authorization | None = None
    oauth2: OAuth2 | None = None
    tls_config: TlsConfig = TlsConfig()
    proxy_url: v.ProxyUrl | None = None
    proxy_from_environment: v.Flag = False
    no_proxy: v.Words | None = None
    allow_http: v.Flag = False

    @property
    def where(self) -> str:
        """The URL as it is configured."""
        return self.url

    @staticmethod
    def rules(got: Given) -> Problems:
        """Allow one way to authenticate, and plain HTTP to another host only where it is allowed."""
        yield from DestinationConfig.rules(got)
        yield from got.one_of(*_AUTH)
        yield from proxy_rules(got)
        credentials = "the credentials" if got.given & set(_AUTH) else None
        yield from in_the_clear(got, "url", got["url"], credentials)
        if got["oauth2"]:
            token_url = got["oauth2"].token_url
            yield from in_the_clear(got, "oauth2.token_url", token_url, "the client secret and the token")


def unless_given(got: Given, settings: Mapping[str, float]) -> None:
    """Set the keys that were not given."""
    for path, value in settings.items():
        section, _, key = path.rpartition(".")
        if not section and key not in got.given:
            got.values[key] = value
        elif section and got[section] is not None and key not in got.below.get(section, ()):
            got.values[section] = msgspec.structs.replace(got[section], **{key: value})


def host_name(url: str) -> str:
    """Return the name of a destination that has none: its host, and the port where one is given; of a file the last folder."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2] or parts.path.rpartition("/")[2]
    safe = "".join(c if c.isascii() and (c.isalnum() or c in "_.-") else "-" for c in host)
    return safe.strip("-.")[:48] or "host"


def named(destinations: Sequence[DestinationConfig | None]) -> list[DestinationConfig | None]:
    """Return the same with no name empty: the host's, with eight digits of the URL's hash where that is taken."""
    wanted = [None if one is None else one.name or host_name(one.where) for one in destinations]
    found: list[DestinationConfig | None] = []
    for one, name in zip(destinations, wanted, strict=True):
        if one is not None and name is not None and not one.name:
            if wanted.count(name) > 1:
                import hashlib

                name += f"-{hashlib.sha256(one.write_url.encode()).hexdigest()[:8]}"
            one = msgspec.structs.replace(one, name=name)
        found.append(one)
    return found
