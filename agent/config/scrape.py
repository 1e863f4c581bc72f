"""What is read from local programs: targets that expose metrics, and text files."""

from __future__ import annotations

from agent.collectors.options import Options
from agent.config import values as v
from agent.config.http_client import Authorization, BasicAuth, TlsConfig
from agent.config.relabeling import RelabelConfig
from agent.config.section import Given, Problem, Problems, Section
from agent.config.urls import leaves_in_the_clear, split_url


class Target(Section, frozen=True, kw_only=True):
    """An endpoint that exposes metrics."""

    shown = ("job", "url")
    later = frozenset(("oauth2", "proxy_url"))
    elsewhere = {
        "http_headers": "Write headers: {name: value}.",
        "metrics_path": "Write it into url.",
        "params": "Write them into url.",
        "relabel_configs": "Each target is written out: set its job, and what else it needs, in it.",
        "scheme": "Write it into url.",
        "static_configs": "Write one target with its url for each.",
    }
    ignored = {
        "enable_compression": "gzip is requested from other hosts, and not on loopback",
        "enable_http2": "HTTP/1.1 is spoken",
        "follow_redirects": "a redirect is never followed; the scrape fails until the url is corrected",
        "honor_timestamps": "all samples of a scrape have the time of the scrape",
    }

    url: v.TargetUrl
    job: v.Words
    interval: v.Interval | None = None
    timeout: v.Duration | None = None
    headers: dict[v.HeaderName, v.HeaderValue] = {}
    basic_auth: BasicAuth | None = None
    authorization: Authorization | None = None
    tls_config: TlsConfig = TlsConfig()
    honor_labels: v.Flag = False
    metric_relabel_configs: tuple[RelabelConfig, ...] = ()
    sample_limit: v.SampleLimit = 20_000
    body_size_limit: v.BodySizeLimit = 16 << 20

    @property
    def instance(self) -> str:
        """The label `instance`: host and port, as Prometheus writes them."""
        parts = split_url(self.url)
        assert parts is not None
        host = parts.netloc.rpartition("@")[2]
        return host if parts.port else f"{host.rstrip(':')}:{443 if parts.scheme == 'https' else 80}"

    @staticmethod
    def rules(got: Given) -> Problems:
        """Allow one way to authenticate; plain http is allowed, with a warning of credentials to another host."""
        yield from got.one_of("basic_auth", "authorization")
        if leaves_in_the_clear(got["url"]) and got.given & {"basic_auth", "authorization"}:
            yield Problem("url", "the credentials travel in the clear, because this is plain http://")


class ScrapeOptions(Options, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is scraped."""

    targets: tuple[Target, ...] = ()

    @staticmethod
    def rules(got: Given) -> Problems:
        """Require that job, host and port name one target."""
        seen: dict[tuple[str, str], int] = {}
        for index, one in enumerate(got["targets"] or ()):
            if one is not None and (first := seen.setdefault((one.job, one.instance), index)) != index:
                what = f"targets[{first}] has this job and the same host and port already"
                yield Problem(f"targets[{index}].job", what, "Give each target a job of its own.")


class TextfileOptions(Options, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where the files are."""

    directory: v.Folder | None = None
