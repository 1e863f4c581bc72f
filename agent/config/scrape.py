"""What is read from local programs: targets that expose metrics, and text files."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlencode

from msgspec.structs import replace

from agent.collectors.options import Options
from agent.config import values as v
from agent.config.http_client import Authorization, BasicAuth, TlsConfig
from agent.config.relabeling import RelabelConfig
from agent.config.section import Given, Problem, Problems, Section
from agent.config.urls import leaves_in_the_clear, split_url

_DISCOVERY = (
    "azure", "consul", "digitalocean", "dns", "docker", "dockerswarm", "ec2", "eureka", "file", "gce", "hetzner",
    "http", "ionos", "kubernetes", "kuma", "lightsail", "linode", "marathon", "nerve", "nomad", "openstack",
    "ovhcloud", "puppetdb", "scaleway", "serverset", "stackit", "triton", "uyuni", "vultr",
)  # fmt: skip
_NATIVE = "native histograms are not read, see docs/decisions/0044"


class StaticConfig(Section, frozen=True, kw_only=True):
    """Addresses of one kind, as Prometheus's static_configs have them."""

    targets: tuple[v.Address, ...]
    labels: dict[v.TargetLabel, v.Words] = {}


class Target(Section, frozen=True, kw_only=True):
    """An endpoint that exposes metrics; or several of one kind, in `static_configs`, which `each` gives one by one."""

    shown = ("job", "url")
    later = frozenset(("oauth2", "proxy_url", "proxy_connect_header", "proxy_from_environment", "no_proxy"))
    elsewhere = {
        "http_headers": "Write headers: {name: value}.",
        "relabel_configs": "Each target is written out: set its job, and what else it needs, in it.",
    } | {
        f"{name}_sd_configs": "There is no service discovery: write static_configs, or a url."
        for name in _DISCOVERY
    }
    ignored = {
        "always_scrape_classic_histograms": "classic histograms are always read",
        "convert_classic_histograms_to_nhcb": _NATIVE,
        "enable_compression": "gzip is requested from other hosts, and not on loopback",
        "enable_http2": "HTTP/1.1 is spoken",
        "follow_redirects": "a redirect is never followed; the scrape fails until the url is corrected",
        "keep_dropped_targets": "no target is dropped",
        "native_histogram_bucket_limit": _NATIVE,
        "native_histogram_min_bucket_factor": _NATIVE,
        "scrape_failure_log_file": "failures are in the agent's log",
        "scrape_native_histograms": _NATIVE,
        "target_limit": "the targets are written out",
        "track_timestamps_staleness": "a series with timestamps of its own gets no stale markers",
    }

    url: v.TargetUrl = ""
    job: v.Words
    static_configs: tuple[StaticConfig, ...] = ()
    scheme: v.Scheme = "http"
    metrics_path: v.UrlPath = "/metrics"
    params: dict[v.Words, tuple[v.Anything, ...]] = {}
    labels: dict[v.TargetLabel, v.Words] = {}
    interval: v.Interval | None = None
    timeout: v.Duration | None = None
    headers: dict[v.HeaderName, v.HeaderValue] = {}
    basic_auth: BasicAuth | None = None
    authorization: Authorization | None = None
    tls_config: TlsConfig = TlsConfig()
    scrape_protocols: tuple[v.ScrapeProtocol, ...] = v.SCRAPE_PROTOCOLS
    fallback_scrape_protocol: v.TextProtocol = "PrometheusText0.0.4"
    metric_name_validation_scheme: v.ValidationScheme = "utf8"
    metric_name_escaping_scheme: v.EscapingScheme | None = None
    honor_labels: v.Flag = False
    honor_timestamps: v.Flag = True
    metric_relabel_configs: tuple[RelabelConfig, ...] = ()
    sample_limit: v.SampleLimit = 20_000
    label_limit: v.NoOrLimit = 0
    label_name_length_limit: v.NoOrLimit = 0
    label_value_length_limit: v.NoOrLimit = 0
    body_size_limit: v.BodySizeLimit = 16 << 20

    @property
    def instance(self) -> str:
        """The label `instance`: host and port, as Prometheus writes them."""
        parts = split_url(self.url)
        assert parts is not None
        host = parts.netloc.rpartition("@")[2]
        return host if parts.port else f"{host.rstrip(':')}:{443 if parts.scheme == 'https' else 80}"

    def each(self) -> tuple[Target, ...]:
        """Return one target with a `url` for each address of `static_configs`; itself where it has a `url`."""
        if self.url:
            return (self,)
        query = urlencode(self.params, doseq=True)
        where = f"{self.metrics_path}?{query}" if query else self.metrics_path
        return tuple(
            replace(
                self,
                url=f"{self.scheme}://{address}{where}",
                labels={**self.labels, **one.labels},
                static_configs=(),
            )
            for one in self.static_configs
            for address in one.targets
        )

    @staticmethod
    def rules(got: Given) -> Problems:
        """Require a url, or static_configs; allow one way to authenticate, and plain http with a warning."""
        if not got.given & {"url", "static_configs"}:
            yield Problem(
                "url", "this key is missing", "It has no default; static_configs can take its place."
            )
        for key in ("static_configs", "scheme", "metrics_path", "params"):
            yield from got.one_of("url", key)
        yield from got.one_of("basic_auth", "authorization")
        urls = [got["url"]] if got["url"] else _urls(got["scheme"], got["static_configs"] or ())
        if any(map(leaves_in_the_clear, urls)) and got.given & {"basic_auth", "authorization"}:
            key = "url" if got["url"] else "scheme"
            yield Problem(key, "the credentials travel in the clear, because this is plain http://")
        protocols = got["scrape_protocols"]
        if protocols is not None and not set(protocols) - {v.PROTOBUF}:
            yield Problem(
                "scrape_protocols",
                "there is none that is read here",
                f"Name one of: {', '.join(v.SCRAPE_PROTOCOLS)}.",
            )
        elif protocols is not None and v.PROTOBUF in protocols:
            got.values["scrape_protocols"] = tuple(one for one in protocols if one != v.PROTOBUF)
            yield Problem("scrape_protocols", f"{v.PROTOBUF} is left out, because it is not read here")


def _urls(scheme: str, configs: Iterable[StaticConfig | None]) -> list[str]:
    return [f"{scheme}://{address}/" for one in configs if one is not None for address in one.targets]


class ScrapeOptions(Options, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is scraped."""

    targets: tuple[Target, ...] = ()

    def each(self) -> tuple[Target, ...]:
        """Return the targets, one for each address."""
        return tuple(target for one in self.targets for target in one.each())

    @staticmethod
    def rules(got: Given) -> Problems:
        """Require that job, host and port name one target."""
        seen: dict[tuple[str, str], tuple[int, int]] = {}
        number = 0
        for index, one in enumerate(got["targets"] or ()):
            for target in one.each() if one is not None else ():
                number += 1
                first, at = seen.setdefault((target.job, target.instance), (index, number))
                if at != number:
                    what = f"targets[{first}] has this job and the same host and port already"
                    yield Problem(f"targets[{index}].job", what, "Give each target a job of its own.")


class TextfileOptions(Options, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where the files are."""

    directory: v.Folder | None = None
