"""The configuration as types: every key, its default, and the rules that hold between keys.

Attributes are named as the keys are. Durations are seconds (float), sizes bytes. A key that is not given, or
null, has its default. Whoever holds a `Config` that `load` returned may rely on every rule here.

What Prometheus or a later version knows and this one does not stands beside the section: `later` (an error
that says so), `elsewhere` (an error that says what to write), `ignored` (a warning that says why). A key of
`never_null` must not be null, because for Prometheus that is another value than the default.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Literal, NamedTuple

import msgspec

from agent.collectors import COLLECTORS, HostPaths
from agent.collectors.options import Options
from agent.config import values as v

DISK_USAGE_INTERVAL = 60.0
SEGMENTS = 8  # the buffer is made of this many at least, so that dropping one is a small loss


class Complaint(NamedTuple):
    """A rule is broken: the key within the section (may be a path), what is wrong, what to do."""

    key: str
    what: str
    do: str


class Note(NamedTuple):
    """Nothing is broken, but the operator should know."""

    key: str
    text: str


class Given:
    """What a section's rules see: `values` of all keys but the wrong ones, and the keys that were `given`.

    A rule may change a default in `values` that has to give way to what was given.
    """

    __slots__ = ("given", "values")

    def __init__(self, values: dict[str, Any], given: frozenset[str]) -> None:
        self.values, self.given = values, given

    def __getitem__(self, key: str) -> Any:
        """The value, or None where it was wrong."""
        return self.values.get(key)

    def one_of(self, *keys: str) -> Iterator[Complaint]:
        """Complain if more than one of `keys` was given."""
        present = [key for key in keys if key in self.given]
        if len(present) > 1:
            yield Complaint(present[1], f"{' and '.join(present)} exclude each other", "Keep one of them.")


Verdicts = Iterator[Complaint | Note]


class Section(msgspec.Struct, frozen=True, kw_only=True):
    """A mapping of known keys."""

    later: ClassVar[frozenset[str]] = frozenset()
    elsewhere: ClassVar[Mapping[str, str]] = {}
    ignored: ClassVar[Mapping[str, str]] = {}
    never_null: ClassVar[frozenset[str]] = frozenset()

    @staticmethod
    def rules(got: Given) -> Verdicts:
        """What is wrong between the keys."""
        yield from ()


class Planned(NamedTuple):
    """A collector that is to run: its name, the seconds between its runs, the seconds a run may take."""

    name: str
    interval: float
    timeout: float
    options: Options


class Collector(Section, frozen=True, kw_only=True):
    """One collector. In the file its `options` stand beside the other keys."""

    enabled: v.Flag = True
    interval: v.Interval | None = None
    timeout: v.Duration | None = None
    options: Options


class Collect(Section, frozen=True, kw_only=True):
    """What is collected, and when. `collectors` holds the ones that were named; `plan()` knows them all."""

    elsewhere = {"mask": "Write it at the top of the file."}

    interval: v.Interval = 10.0
    timeout: v.Duration = 5.0
    host_root: v.Root = "/"
    procfs: v.Root | None = None
    sysfs: v.Root | None = None
    collectors: dict[str, Collector] = {}

    def plan(self) -> tuple[Planned, ...]:
        """The enabled collectors. A timeout is never longer than the interval it belongs to."""
        planned = []
        for name, kind in COLLECTORS.items():
            one = self.collectors.get(name) or Collector(options=kind.options())
            if one.enabled:
                interval = _interval(name, one, self.interval)
                timeout = one.timeout or min(self.timeout, interval)
                planned.append(Planned(name, interval, timeout, one.options))
        return tuple(planned)

    def paths(self) -> HostPaths:
        """Where the collectors find the host."""
        root = "" if self.host_root == "/" else self.host_root
        return HostPaths(self.procfs or f"{root}/proc", self.sysfs or f"{root}/sys", root)

    @staticmethod
    def rules(got: Given) -> Verdicts:
        """A timeout is within its interval; a default that is not gives way. What is asked is what is seen."""
        if got["procfs"] not in (None, "/proc") and got["host_root"] == "/":
            yield Note(
                "procfs", "mount points are asked in this root all the same, because there is no host_root"
            )
        common = got["interval"]
        if common is not None and got["timeout"] is not None:
            if "timeout" not in got.given:
                got.values["timeout"] = min(got["timeout"], common)
            elif got["timeout"] > common:
                yield Complaint(
                    "timeout", "the timeout is longer than the interval", "Shorten it, or lengthen interval."
                )
        for name, one in (got["collectors"] or {}).items():
            if one.timeout is None or (common is None and one.interval is None):
                continue
            if one.timeout > _interval(name, one, common):
                yield Complaint(
                    f"collectors.{name}.timeout",
                    "the timeout is longer than this collector's interval",
                    "Shorten it, or lengthen the interval.",
                )


def _interval(name: str, one: Collector, common: float) -> float:
    if one.interval is not None:
        return one.interval
    return max(DISK_USAGE_INTERVAL, common) if name == "disk_usage" else common


class Buffer(Section, frozen=True, kw_only=True):
    """The buffer on disk."""

    max_size: v.Size = 256 << 20
    min_free_space: v.Floor = v.FreeSpace(percent=5.0)
    segment_size: v.Size = 4 << 20
    sync_interval: v.Interval = 10.0
    on_full: Literal["thin", "drop_oldest", "drop_newest"] = "thin"
    forget_after: v.Duration = 604_800.0

    @staticmethod
    def rules(got: Given) -> Verdicts:
        """The buffer is made of several segments; a default segment gives way to a small buffer."""
        largest, segment = got["max_size"], got["segment_size"]
        if largest is not None and largest < 1 << 20:
            yield Complaint("max_size", "expected 1MiB or more", "Give the buffer more room.")
            return
        if segment is not None and segment < 64 << 10:
            yield Complaint("segment_size", "expected 64KiB or more", "Remove the key to have 4MiB.")
        if largest is None or segment is None:
            return
        if "segment_size" not in got.given:
            got.values["segment_size"] = min(segment, largest // SEGMENTS)
        elif segment > largest // SEGMENTS:
            yield Complaint(
                "segment_size",
                "a segment is larger than an eighth of max_size",
                "Choose a smaller one, because whole segments are dropped.",
            )


class BasicAuth(Section, frozen=True, kw_only=True):
    """User and password; without a password an empty one is sent, as Prometheus does."""

    later = frozenset(("username_ref", "password_ref"))

    username: v.Username | None = None
    username_file: v.File | None = None
    password: v.Hidden | None = None
    password_file: v.File | None = None

    @staticmethod
    def rules(got: Given) -> Verdicts:
        """There is one user name, and at most one password."""
        yield from got.one_of("username", "username_file")
        yield from got.one_of("password", "password_file")
        if not got.given & {"username", "username_file"}:
            yield Complaint("", "there is no user name", "Set username or username_file.")


class Authorization(Section, frozen=True, kw_only=True):
    """The Authorization header: a type and the credentials."""

    later = frozenset(("credentials_ref",))

    type: v.AuthorizationType = "Bearer"
    credentials: v.Credentials | None = None
    credentials_file: v.File | None = None

    @staticmethod
    def rules(got: Given) -> Verdicts:
        """There are credentials, once."""
        yield from got.one_of("credentials", "credentials_file")
        if not got.given & {"credentials", "credentials_file"}:
            yield Complaint("", "there are no credentials", "Set credentials or credentials_file.")


class TlsConfig(Section, frozen=True, kw_only=True):
    """How the receiver is verified, and how this host shows who it is. `ca`, `cert`, `key` are PEM texts."""

    later = frozenset(("ca_ref", "cert_ref", "key_ref"))

    ca: v.Pem | None = None
    ca_file: v.File | None = None
    cert: v.Pem | None = None
    cert_file: v.File | None = None
    key: v.Hidden | None = None
    key_file: v.File | None = None
    server_name: v.Words | None = None
    insecure_skip_verify: v.Flag = False
    min_version: v.TlsVersion = "TLS12"
    max_version: v.TlsVersion | None = None

    @staticmethod
    def rules(got: Given) -> Verdicts:
        """Each part is there once, a certificate with its key, and the versions leave something."""
        for part in ("ca", "cert", "key"):
            yield from got.one_of(part, f"{part}_file")
        cert, key = got.given & {"cert", "cert_file"}, got.given & {"key", "key_file"}
        if bool(cert) != bool(key):
            there, missing = ("certificate", "key") if cert else ("key", "certificate")
            yield Complaint(
                min(cert or key), f"there is a {there} but no {missing}", "A client certificate needs both."
            )
        if got["min_version"] == "TLS13" and got["max_version"] == "TLS12":
            yield Complaint("max_version", "it is below min_version", "Raise it, or remove one of the two.")
        if got["insecure_skip_verify"]:
            yield Note("insecure_skip_verify", "anybody on the way can read and change what is sent")


def _proxy_rules(got: Given) -> Verdicts:
    if got["proxy_from_environment"]:
        for key in sorted(got.given & {"proxy_url", "no_proxy"}):
            what = f"proxy_from_environment and {key} exclude each other"
            yield Complaint(key, what, "Keep one of them.")
    elif "no_proxy" in got.given and "proxy_url" not in got.given:
        yield Complaint("no_proxy", "there is no proxy_url that it excepts from", "Set proxy_url.")


class OAuth2(Section, frozen=True, kw_only=True):
    """A token from a token server, by client credentials (RFC 6749, 4.4); without a secret an empty one is sent."""

    later = frozenset(
        (
            "audience",
            "claims",
            "client_certificate_key",
            "client_certificate_key_file",
            "client_certificate_key_id",
            "client_certificate_key_ref",
            "client_secret_ref",
            "grant_type",
            "iss",
            "proxy_connect_header",
            "signature_algorithm",
        )
    )

    client_id: v.Words
    client_secret: v.Hidden | None = None
    client_secret_file: v.File | None = None
    scopes: tuple[v.Words, ...] = ()
    token_url: v.TokenUrl
    endpoint_params: dict[v.Words, v.Hidden] = {}
    tls_config: TlsConfig = TlsConfig()
    proxy_url: v.ProxyUrl | None = None
    proxy_from_environment: v.Flag = False
    no_proxy: v.Words | None = None

    @staticmethod
    def rules(got: Given) -> Verdicts:
        """There is at most one secret, and no parameter twice."""
        yield from got.one_of("client_secret", "client_secret_file")
        if got["scopes"] and "scope" in (got["endpoint_params"] or {}):
            yield Complaint(
                "endpoint_params.scope", "scopes sets this parameter already", "Keep one of them."
            )
        yield from _proxy_rules(got)

    def __repr__(self) -> str:
        return f"OAuth2(client_id={self.client_id!r}, token_url={v.public_url(self.token_url)!r})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("client_id", self.client_id), ("token_url", v.public_url(self.token_url))]


class HttpHeader(Section, frozen=True, kw_only=True):
    """The values of an HTTP header: written here, written here and secret, and in files."""

    values: tuple[v.HeaderValue, ...] = ()
    secrets: tuple[v.Credentials, ...] = ()
    files: tuple[v.File, ...] = ()


class QueueConfig(Section, frozen=True, kw_only=True):
    """How samples become requests, and how a request that failed is repeated."""

    ignored = {
        "capacity": "the buffer on disk is the queue; its size is buffer.max_size",
        "max_shards": "there is one request at a time to a destination, which keeps the samples in order",
        "min_shards": "there is one request at a time to a destination, which keeps the samples in order",
        "retry_on_http_429": "a 429 is always retried",
    }

    max_samples_per_send: v.Count = 10_000
    batch_send_deadline: v.Duration = 30.0
    min_backoff: v.Duration = 1.0
    max_backoff: v.Duration = 300.0
    sample_age_limit: v.Limit = 0.0

    @staticmethod
    def rules(got: Given) -> Verdicts:
        """The waits are in order; a default gives way."""
        least, most = got["min_backoff"], got["max_backoff"]
        if least is None or most is None or least <= most:
            return
        if "min_backoff" not in got.given:
            got.values["min_backoff"] = most
        elif "max_backoff" not in got.given:
            got.values["max_backoff"] = least
        else:
            yield Complaint("max_backoff", "it is below min_backoff", "Raise it, or lower min_backoff.")


class MetadataConfig(Section, frozen=True, kw_only=True):
    """Whether type, unit and help are sent, and with remote write 1.0 how often and how many at once."""

    send: v.Flag = True
    send_interval: v.Duration = 300.0
    max_samples_per_send: v.Count = 2000


# Keys that an action does not take, and the actions that need a target.
_WITHOUT = {
    "keepequal": frozenset(("separator", "regex", "modulus", "replacement")),
    "dropequal": frozenset(("separator", "regex", "modulus", "replacement")),
    "labeldrop": frozenset(("source_labels", "separator", "target_label", "modulus", "replacement")),
    "labelkeep": frozenset(("source_labels", "separator", "target_label", "modulus", "replacement")),
    "lowercase": frozenset(("replacement",)),
    "uppercase": frozenset(("replacement",)),
}
_WITH_TARGET = frozenset(("replace", "hashmod", "keepequal", "dropequal", "lowercase", "uppercase"))
# A name that every receiver takes, with the references that a rule fills in.
_PLAIN_NAME = re.compile(r"(?![0-9])(?:\w|\$\{\w+\}|\$\w+)*", re.ASCII)


class RelabelConfig(Section, frozen=True, kw_only=True):
    """A rule of relabeling. The keys, and what they need and exclude, are Prometheus's (relabel.go)."""

    never_null = frozenset(("action", "regex", "replacement", "separator"))

    source_labels: tuple[v.SourceLabel, ...] = ()
    separator: v.Text = ";"
    target_label: v.Text = ""
    regex: v.Re2 = "(.*)"
    modulus: v.Modulus = 0
    replacement: v.Text = "$1"
    action: v.Action = "replace"

    @staticmethod
    def rules(got: Given) -> Verdicts:
        """The action has what it needs and nothing it would not heed, and what it fills in is there."""
        action, target = got["action"], got["target_label"]
        if action is None:
            return
        for key in sorted(got.given & _WITHOUT.get(action, frozenset())):
            # Where the default was written, Prometheus sees it of these two only.
            if key in ("regex", "source_labels") or got[key] not in (None, getattr(RelabelConfig(), key)):
                yield Complaint(key, f"action {action} does not take this key", "Remove it.")
        if action in _WITH_TARGET and target == "":
            yield Complaint("target_label", f"action {action} needs it", "Write the name of a label.")
        if action == "hashmod" and got["modulus"] == 0:
            yield Complaint("modulus", "action hashmod needs it", "Write a number from 1.")
        if action == "labelmap" and got["replacement"] == "":
            yield Complaint("replacement", "action labelmap needs the name of a label", "Write one, or $1.")
        if action in ("replace", "labelmap") and got["regex"] is not None:
            yield from _filled_in(got, action)
        if action in _WITH_TARGET - {"keepequal", "dropequal"} and not _PLAIN_NAME.fullmatch(target or ""):
            yield Note("target_label", "receivers older than Prometheus 3 take no label of this name")


def _filled_in(got: Given, action: str) -> Verdicts:
    """What is wrong with references, such as $1, to the groups of the regex."""
    from agent.re2 import Regex  # not needed where nothing is relabeled

    regex = Regex(got["regex"])
    for key in ("replacement", "target_label")[: 2 if action == "replace" else 1]:
        template = regex.template(got[key] or "")
        if template.unknown:
            names = " and ".join(template.unknown)
            yield Note(
                key, f"{names} is no group of the regex, so nothing stands there; a group 1 is $1 or ${{1}}"
            )
        if template.groups - {0} and not regex.exact:
            what = f"what a group of it holds, which {key} takes, is not sure to be what it is for Prometheus"
            do = "Repeat what is not empty: (?:a|b)* instead of (?:a?|b)*."
            yield Complaint("regex", what, do)


_AUTH = ("basic_auth", "authorization", "oauth2")
_OTHER_AUTH = frozenset(("azuread", "google_iam", "sigv4"))


class RemoteWrite(Section, frozen=True, kw_only=True):
    """A destination. Its `name` is never empty once loaded, and unique.

    Shown (repr), it says its name and public URL only: headers and queries may hold secrets.
    """

    later = _OTHER_AUTH | {
        "proxy_connect_header",
    }
    elsewhere = {
        "bearer_token": "Write authorization: {credentials: ...}.",
        "bearer_token_file": "Write authorization: {credentials_file: ...}.",
    }
    ignored = {
        "enable_http2": "HTTP/1.1 is spoken, with one request at a time",
        "follow_redirects": "a redirect is never followed; it is shown as an error until the url is corrected",
        "round_robin_dns": "one connection is kept, to an address the system chose",
        "send_exemplars": "there are none",
        "send_native_histograms": "there are none",
    }

    url: v.Url
    name: v.DestinationName = ""
    headers: dict[v.HeaderName, v.HeaderValue] = {}
    http_headers: dict[v.HeaderName, HttpHeader] = {}
    remote_timeout: v.Duration = 30.0
    protobuf_message: v.Message = "auto"
    basic_auth: BasicAuth | None = None
    authorization: Authorization | None = None
    oauth2: OAuth2 | None = None
    tls_config: TlsConfig = TlsConfig()
    proxy_url: v.ProxyUrl | None = None
    proxy_from_environment: v.Flag = False
    no_proxy: v.Words | None = None
    queue_config: QueueConfig = QueueConfig()
    metadata_config: MetadataConfig = MetadataConfig()
    drain_order: Literal["oldest_first", "fresh_first", "auto"] = "oldest_first"
    max_bandwidth: v.Bandwidth | None = None
    write_relabel_configs: tuple[RelabelConfig, ...] = ()
    start: Literal["oldest", "now"] = "oldest"
    allow_http: v.Flag = False

    @staticmethod
    def rules(got: Given) -> Verdicts:
        """One way to authenticate, and nothing goes to another host in the clear unasked."""
        yield from got.one_of(*_AUTH)
        yield from _proxy_rules(got)
        credentials = "the credentials" if got.given & set(_AUTH) else None
        yield from _in_the_clear(got, "url", got["url"], credentials)
        if got["oauth2"]:
            token_url = got["oauth2"].token_url
            yield from _in_the_clear(got, "oauth2.token_url", token_url, "the client secret and the token")

    def __repr__(self) -> str:
        return f"RemoteWrite(name={self.name!r}, url={v.public_url(self.url)!r})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("name", self.name), ("url", v.public_url(self.url))]


def _in_the_clear(got: Given, key: str, url: str | None, secrets: str | None) -> Verdicts:
    """Complain of plain http:// to another host, or tell which secrets go that way where it is meant."""
    parts = v.split_url(url or "")
    if parts is None or parts.scheme == "https" or v.is_loopback(parts.hostname or ""):
        return
    if got["allow_http"] is False:
        do = "Use https://, or set allow_http: true if the way there is safe."
        yield Complaint(key, "plain http:// to another host", do)
    elif secrets:
        yield Note(key, f"{secrets} travel in the clear, because this is plain http://")


class Log(Section, frozen=True, kw_only=True):
    """What is logged, and how."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "console", "json"] = "auto"


class Config(Section, frozen=True, kw_only=True):
    """The whole file."""

    later = frozenset(("history", "query", "scrape", "serve", "textfile"))
    elsewhere = {
        "external_labels": "Write labels.",
        "global": "Write labels for external_labels, and collect.interval for scrape_interval.",
        "scrape_configs": "Local exporters are not read in this version.",
    }

    hostname: v.Words | None = None
    labels: dict[v.LabelName, v.Words] = {}
    data_dir: v.Folder = "/var/lib/limpet"
    mask: tuple[Literal["mountpoint", "device", "interface"], ...] = ()
    collect: Collect = Collect()
    buffer: Buffer = Buffer()
    remote_write: tuple[RemoteWrite, ...] = ()
    log: Log = Log()

    @staticmethod
    def rules(got: Given) -> Verdicts:
        """Names are unique; what has none is named for its host."""
        destinations = got["remote_write"]
        if destinations == ():
            yield Note(
                "remote_write", "there is no destination: samples are collected and kept, and sent nowhere"
            )
        if destinations is None:
            return
        got.values["remote_write"] = named(destinations)
        seen: dict[str, int] = {}
        for index, one in enumerate(got["remote_write"]):
            if one is None:  # it has problems of its own
                continue
            first = seen.setdefault(one.name, index)
            if first != index:
                what = f"the name {one.name!r} belongs to remote_write[{first}] already"
                yield Complaint(
                    f"remote_write[{index}].name", what, "Give each destination a name of its own."
                )
            elif one.name != destinations[index].name and one.name != host_name(one.url):
                yield Note(
                    f"remote_write[{index}].name",
                    f"another destination has this host, so this one is called {one.name}; "
                    "set names, because a destination that is called otherwise later starts anew",
                )


def host_name(url: str) -> str:
    """The name of a destination that has none: its host, and the port where one is given."""
    parts = v.split_url(url)
    host = parts.netloc.rpartition("@")[2] if parts else ""
    return (
        "".join(c if c.isascii() and (c.isalnum() or c in "_.-") else "-" for c in host).strip("-.")[:48]
        or "host"
    )


def named(destinations: tuple[RemoteWrite | None, ...]) -> tuple[RemoteWrite | None, ...]:
    """The same with no name empty: the host's, with eight digits of the URL's hash where that is taken."""
    wanted = [None if one is None else one.name or host_name(one.url) for one in destinations]
    return tuple(
        one
        if one is None or one.name
        else msgspec.structs.replace(one, name=_distinct(one.url, wanted.count(host_name(one.url)) > 1))
        for one in destinations
    )


def _distinct(url: str, taken: bool) -> str:
    if not taken:
        return host_name(url)
    import hashlib

    return f"{host_name(url)}-{hashlib.sha256(url.encode()).hexdigest()[:8]}"
