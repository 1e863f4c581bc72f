"""A configuration is either good, or everything that is wrong with it is reported at once and without secrets."""

from __future__ import annotations

import os
import re
import textwrap
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.collectors import COLLECTORS, HostPaths
from agent.config import (
    Authorization,
    BasicAuth,
    BufferSection,
    CollectSection,
    Config,
    ConfigErrors,
    FreeSpace,
    HttpHeader,
    Loaded,
    LogSection,
    MetadataConfig,
    OAuth2,
    Problem,
    QueueConfig,
    RemoteWrite,
    Secret,
    TlsConfig,
    load,
    load_file,
)
from agent.config.schema import OFF
from agent.config.urls import public_url
from agent.config.values import TAKEN_LABELS
from buffer.errors import LimpetError
from buffer.limits import MIN_SEGMENTS
from tests.support.run import python

URL = "https://prometheus.example.com/api/v1/write"


def problems_of(text: str) -> tuple[Problem, ...]:
    with pytest.raises(ConfigErrors) as caught:
        load(text, "f.yaml")
    return caught.value.problems


def destination(text: str) -> str:
    return f"remote_write:\n- url: {URL}\n" + textwrap.indent(textwrap.dedent(text), "  ")


def first(text: str) -> RemoteWrite:
    return load(destination(text), "/etc/limpet/f.yaml").config.remote_write[0]


# --- what is wrong: the text, the key's path, and words of the message -------------------------------------

Case = tuple[str, str, str]


def sent(text: str, key: str, told: str) -> Case:
    """A case of a destination."""
    return destination(text), f"remote_write[0].{key}", told


TOKEN = "oauth2: {client_id: x, token_url: 'https://t/'}"


def tokened(text: str, key: str, told: str) -> Case:
    """A case of a destination with OAuth 2, whose client and token server are fine."""
    return sent(f"{TOKEN[:-1]}, {text}}}", f"oauth2.{key}", told)


def from_token_server(url: str, told: str) -> Case:
    return sent(f"oauth2: {{client_id: x, token_url: '{url}'}}", "oauth2.token_url", told)


def both(one: str, other: str = "") -> str:
    return f"{one} and {other or one + '_file'} exclude each other"


def collected(text: str, key: str, told: str) -> Case:
    """A case of a collector."""
    return f"collect: {{collectors: {{{text}}}}}", f"collect.collectors.{key}", told


def scraped(targets: str, key: str, told: str) -> Case:
    """A case of a target; its key begins with its index."""
    return collected(f"scrape: {{targets: [{targets}]}}", f"scrape.targets{key}", told)


WRONG = [
    # unknown keys
    ("colect: {}", "colect", "Did you mean collect?"),
    ("max_size: 1GiB", "max_size", "It belongs at buffer.max_size"),
    ("zzz: 1", "zzz", "Known here: hostname, hostname_file, labels, labels_file, data_dir, mask, collect, buffer, history, clock, remote_write, influxdb, otlp, file, custom, serve, log"),
    ("collect: {intervall: 1s}", "collect.intervall", "Did you mean interval?"),
    collected("cpus: {}", "cpus", "Did you mean cpu?"),
    collected("disk_io: {exclude_device: []}", "disk_io.exclude_device", "Did you mean exclude_devices?"),
    collected("cpu: {exclude_devices: []}", "cpu.exclude_devices", "unknown key"),
    sent("queue_config: {max_backof: 1s}", "queue_config.max_backof", "mean max_backoff?"),
    sent("username: x", "username", "It belongs at remote_write[].basic_auth.username"),
    ('"a\\nb": 1', "'a\\nb'", "unknown key"),
    # what is not here yet, and what is called otherwise
    ("history: {raw: 7x}", "history.raw", "expected a duration"),
    ("history: {2m: 7d}", "history.2m", "unknown key"),
    ("mask: [disk]", "mask[0]", "expected mountpoint, device, interface or sensor, got 'disk'"),
    ("mask: device", "mask", "expected a list, got a text"),
    ("collect: {mask: [device]}", "collect.mask", "Write it at the top of the file."),
    collected("disk_io: {partitions: 1}", "disk_io.partitions", "true or false"),
    ("buffer: {on_full: sometimes}", "buffer.on_full", "thin"),
    sent("start: yesterday", "start", "oldest"),
    sent("oauth2: {client_id: x}", "oauth2.token_url", "this key is missing"),
    sent("oauth2: {token_url: 'https://t/'}", "oauth2.client_id", "this key is missing"),
    sent("oauth2: {client_id: '', token_url: 'https://t/'}", "oauth2.client_id", "not empty"),
    from_token_server("http://t.example/", "plain http:// to another host"),
    from_token_server("https://x:y@t/", "Move them to client_id and client_secret_file"),
    from_token_server("t/token", "Write it like https://auth.example.com/oauth2/token"),
    tokened("client_secret: a, client_secret_file: b", "client_secret_file", both("client_secret")),
    tokened("scopes: [a], endpoint_params: {scope: b}", "endpoint_params.scope", "scopes sets this"),
    tokened("scopes: a", "scopes", "expected a list"),
    tokened("endpoint_params: {a: [b]}", "endpoint_params.a", "expected one value"),
    tokened("no_proxy: a", "no_proxy", "no_proxy has no effect without proxy_url"),
    tokened("proxy_url: 'https://p'", "proxy_url", "in plain HTTP only"),
    tokened("tls_config: {cert_file: x}", "tls_config.cert_file", "no key"),
    *(tokened(f"{key}: x", key, "not in this version") for key in sorted(OAuth2.later)),
    sent(f"basic_auth: {{username: u}}\n{TOKEN}", "oauth2", both("basic_auth", "oauth2")),
    sent(f"{TOKEN}\nauthorization: {{credentials: x}}", "oauth2", both("authorization", "oauth2")),
    ("scrape_configs: []", "scrape_configs", "Write collect: {collectors: {scrape"),
    ("textfile: {directory: /x}", "textfile", "Write it below collect.collectors"),
    scraped("{url: localhost:9100, job: a}", "[0].url", "expected an http:// or https:// URL"),
    scraped("{url: 'http://a:b@x', job: a}", "[0].url", "holds a user or a password"),
    scraped("{url: 'http://x#y', job: a}", "[0].url", "has a part after #"),
    scraped("{job: a}", "[0].url", "this key is missing"),
    scraped("{job: a, url: http://x, static_configs: [{targets: [b]}]}", "[0].static_configs", "exclude each other"),
    scraped("{job: a, url: http://x, metrics_path: /y}", "[0].metrics_path", "exclude each other"),
    scraped("{job: a, url: http://x, params: {y: [z]}}", "[0].params", "exclude each other"),
    scraped("{job: a, url: http://x, scheme: https}", "[0].scheme", "exclude each other"),
    scraped("{job: a, static_configs: [{targets: ['http://b:1/c']}]}", "[0].static_configs[0].targets[0]", "expected a host"),
    scraped("{job: a, static_configs: [{targets: [b], labels: {job: c}}]}", "[0].static_configs[0].labels.job", "every target has"),
    scraped("{job: a, static_configs: [{targets: [b, 'b:80']}]}", "[0].job", "has this job and the same host and port"),
    scraped("{job: a, static_configs: [{targets: [b]}], metrics_path: m}", "[0].metrics_path", "begins with /"),
    scraped("{url: http://x, job: a, scrape_protocols: [PrometheusProto]}", "[0].scrape_protocols", "none that is read"),
    scraped("{url: http://x, job: a, fallback_scrape_protocol: PrometheusProto}", "[0].fallback_scrape_protocol", "expected Open"),
    scraped("{url: http://x, job: a, label_limit: -1}", "[0].label_limit", "expected a whole number"),
    scraped("{url: http://x, job: a, kubernetes_sd_configs: []}", "[0].kubernetes_sd_configs", "no service discovery"),
    scraped("{url: http://x}", "[0].job", "this key is missing"),
    scraped("{url: http://x, job: a, jobs: b}", "[0].jobs", "Did you mean job?"),
    scraped("{url: http://x, job: a, job_name: a}", "[0].job_name", "Keep job, and remove this."),
    scraped("{url: http://x, job: a, sample_limit: 100001}", "[0].sample_limit", "up to 100000"),
    scraped("{url: http://x, job: a, body_size_limit: 1}", "[0].body_size_limit", "1KiB to 256MiB"),
    scraped("{url: http://x, job: a, basic_auth: {username: u}, authorization: {credentials: c}}",
            "[0].authorization", "exclude each other"),
    scraped("{url: http://x, job: a}, {url: http://x/other, job: a}", "[1].job",
            "targets[0] has this job and the same host and port"),
    scraped("{url: http://x, job: a, timeout: 11s}", "[0].timeout", "longer than this target's interval"),
    scraped("{url: http://x, job: a, timeout: 2s, interval: 1s}", "[0].timeout", "longer than this target's"),
    scraped("{url: http://x, job: a, tls_config: {ca: }}, 3", "[1]", "expected keys"),
    *(sent(f"{key}: {{}}", key, "not in this version") for key in sorted(RemoteWrite.later)),
    *(sent(f"proxy_url: {x}", "proxy_url", "the http:// URL of a proxy") for x in ("proxy:3128", "http://p/x")),
    sent("proxy_url: https://p:1", "proxy_url", "in plain HTTP only"),
    sent("proxy_url: http://p\nproxy_from_environment: true", "proxy_url",
         both("proxy_from_environment", "proxy_url")),
    sent("no_proxy: a\nproxy_from_environment: true", "no_proxy", both("proxy_from_environment", "no_proxy")),
    sent("no_proxy: a", "no_proxy", "no_proxy has no effect without proxy_url"),
    sent("queue_config: {sample_age_limit: never}", "queue_config.sample_age_limit", "expected a duration"),
    sent("drain_order: newest", "drain_order", "expected oldest_first, fresh_first or auto"),
    sent("max_bandwidth: 10", "max_bandwidth", "expected 100 bytes per second or more"),
    sent("protobuf_message: v2", "protobuf_message",
         "expected auto, prometheus.WriteRequest or io.prometheus.write.v2.Request"),
    sent("bearer_token: x\nauthorization: {credentials: y}", "bearer_token",
         "Keep authorization, and remove this."),
    sent('bearer_token: "x\\n"', "authorization.credentials", "one line"),
    ("global: {}", "global", "Write labels for external_labels"),
    # the wrong kind of value
    ("- a", "", "expected keys with their values, got a list"),
    ("just text", "", "expected keys with their values, got a text"),
    ("collect: 10s", "collect", "expected keys with their values, got a text"),
    ("collect: {interval: [1s]}", "collect.interval", "expected one value, got a list"),
    ("collect: {collectors: [cpu]}", "collect.collectors", "expected keys with their values, got a list"),
    collected("cpu: on", "cpu", "expected keys with their values, got a text"),
    ("remote_write: {url: x}", "remote_write", "expected a list, got keys with values"),
    (f"remote_write: {URL}", "remote_write", "expected a list, got a text"),
    ("remote_write: [null]", "remote_write[0]", "got nothing"),
    ("remote_write: [x]", "remote_write[0]", "got a text"),
    ("remote_write: [{}]", "remote_write[0].url", "missing"),
    ("remote_write: [{url: null}]", "remote_write[0].url", "missing"),
    *((f"collect: {{interval: {text}}}", "collect.interval",
       f"expected a duration such as 10s, 500ms or 1h30m, got '{text}'") for text in ("ten", "10", "1:30")),
    ("collect: {interval: 50ms}", "collect.interval", "expected a duration of 100ms or more, got '50ms'"),
    ("collect: {timeout: 0s}", "collect.timeout", "1ms or more"),
    ("buffer: {max_size: lots}", "buffer.max_size",
     "expected a size such as 256MiB, 1.5GiB or a number of bytes"),
    ("buffer: {max_size: 256kB}", "buffer.max_size", "got '256kB'"),
    ("buffer: {max_size: 1000}", "buffer.max_size", "expected 1MiB or more"),
    ("buffer: {segment_size: 1000}", "buffer.segment_size", "expected 64KiB or more"),
    ("buffer: {max_size: 4MiB, segment_size: 3MiB}", "buffer.segment_size",
     "larger than an eighth of max_size"),
    *((f"buffer: {{min_free_space: {share}}}", "buffer.min_free_space", "expected a share such as 5%")
      for share in ("100%", "-1%")),
    ("log: {level: warn}", "log.level", "expected debug, info, warning or error, got 'warn'"),
    ("log: {format: xml}", "log.format", "expected auto, console, json or journal, got 'xml'"),
    sent("allow_http: maybe", "allow_http", "expected true or false, got 'maybe'"),
    sent("queue_config: {max_samples_per_send: 0}", "queue_config.max_samples_per_send",
         "expected a whole number from 1"),
    sent("tls_config: {min_version: TLS10}", "tls_config.min_version",
         "TLS 1.0 and 1.1 are not spoken here (RFC 8996). Write TLS12 or TLS13"),
    sent("tls_config: {max_version: TLS11}", "tls_config.max_version", "TLS 1.0 and 1.1 are not spoken here"),
    sent("tls_config: {max_version: '1.3'}", "tls_config.max_version", "expected TLS12 or TLS13, got '1.3'"),
    *(sent(f"tls_config: {{{key}: x}}", f"tls_config.{key}", "not in this version") for key in sorted(TlsConfig.later)),
    # names and labels
    ("hostname: ''", "hostname", "not empty"),
    ("hostname: [a]", "hostname", "got a list"),
    *((f"labels: {{{name}: b}}", f"labels.{name}", "expected a label name") for name in ("1a", "a-b", "__a")),
    ("labels: {hostname: b}", "labels.hostname", "Set `hostname` at the top"),
    ("labels: {device: b}", "labels.device", "a label of this name already"),
    ("labels: {a: ''}", "labels.a", "not empty"),
    ("labels: {a: null}", "labels.a", "got nothing"),
    ("labels: {a: {b: c}}", "labels.a", "got keys with values"),
    ("data_dir: ''", "data_dir", "expected the path"),
    collected("network: {exclude_interfaces: [lo, '(']}", "network.exclude_interfaces[1]",
              "expected a regular expression"),
    collected("disk_usage: {exclude_mountpoints: ['(?=a)b']}", "disk_usage.exclude_mountpoints[0]",
              "expected a regular expression"),
    # rules between keys
    ("collect: {interval: 10s, timeout: 11s}", "collect.timeout", "longer than the interval"),
    ("collect: {timeout: 11s}", "collect.timeout", "longer than the interval"),
    collected("cpu: {timeout: 11s}", "cpu.timeout", "longer than this collector's interval"),
    collected("disk_usage: {timeout: 61s}", "disk_usage.timeout", "longer than this collector's interval"),
    sent("queue_config: {min_backoff: 2s, max_backoff: 1s}", "queue_config.max_backoff", "below min_backoff"),
    sent("basic_auth: {username: u, username_file: f}", "basic_auth.username_file", both("username")),
    sent("basic_auth: {username: u, password: p, password_file: f}", "basic_auth.password_file",
         both("password")),
    sent("basic_auth: {password: p}", "basic_auth", "no user name"),
    sent("basic_auth: {username: 'a:b'}", "basic_auth.username", "without colons"),
    sent("authorization: {type: Bearer}", "authorization", "no credentials"),
    sent("authorization: {type: basic, credentials: x}", "authorization.type", "Use basic_auth"),
    sent('authorization: {credentials: "a\\r\\nX-Evil: b"}', "authorization.credentials", "one line"),
    sent("basic_auth: {username: u}\nauthorization: {credentials: x}", "authorization",
         both("basic_auth", "authorization")),
    sent("tls_config: {ca: x, ca_file: y}", "tls_config.ca_file", "exclude each other"),
    sent("tls_config: {cert_file: x}", "tls_config.cert_file", "no key"),
    sent("tls_config: {key: x}", "tls_config.key", "no certificate"),
    sent("tls_config: {min_version: TLS13, max_version: TLS12}", "tls_config.max_version",
         "below min_version"),
    *(sent(f"headers: {{{name}: x}}", f"headers.{name}", "belongs to the protocol")
      for name in ("Host", "CONTENT-type", "user-agent", "X-Prometheus-Remote-Write-Version")),
    sent("headers: {authorization: x}", "headers.authorization", "Use basic_auth"),
    sent("http_headers: {Authorization: {values: [x]}}", "http_headers.Authorization",
         "Use basic_auth, authorization or oauth2"),
    sent("http_headers: {X-A: x}", "http_headers.X-A", "expected keys"),
    sent("http_headers: {X-A: {values: x}}", "http_headers.X-A.values", "a list"),
    sent('http_headers: {X-A: {values: [b, "x\\r\\ny"]}}', "http_headers.X-A.values[1]", "one line"),
    sent('http_headers: {X-A: {secrets: ["x\\ny"]}}', "http_headers.X-A.secrets[0]", "one line"),
    sent("http_headers: {X-A: {value: [x]}}", "http_headers.X-A.value", "Did you mean values?"),
    sent("headers: {'a b': x}", "headers.a b", "name of an HTTP header"),
    sent('headers: {a: "x\\r\\ny"}', "headers.a", "one line"),
    # names of destinations
    *(sent(f"name: {name}", "name", "expected a name of 1 to 64") for name in ("a/b", "..", "a" * 65)),
    ("remote_write: [{url: https://a/, name: n}, {url: https://b/, name: n}]", "remote_write[1].name",
     "the name 'n' belongs to remote_write[0] already"),
    ("remote_write: [{url: https://a/}, {url: https://a/}]", "remote_write[1].name",
     "belongs to remote_write[0]"),
    # URLs
    *((f'remote_write: [{{url: "{url}"}}]', "remote_write[0].url", told) for told, urls in {
        "expected an http:// or https:// URL": (
            *("prometheus:9090", "ftp://a/", "https://", "https://a:x/", "https://a:0/", "https://a b/"),
            *("https://a/\\nx", "https://[::1/")),
        "Move them to basic_auth": ("https://u@a/",),
        "after #": ("https://a/#x",),
        "plain http:// to another host": (
            *("http://a/", "http://127.evil.example/", "http://localhost.evil.example/", "http://0.0.0.0/"),),
    }.items() for url in urls),
]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "path", "error"), WRONG, ids=[f"{path}-{error[:24]}" for _, path, error in WRONG]
)
def test_what_is_wrong_is_reported_with_its_path(text: str, path: str, error: str) -> None:
    problems = problems_of(text)
    assert [problem.path for problem in problems] == [path]  # this, and nothing that follows from it
    line = problems[0].text("f.yaml")
    assert error in line
    assert re.match(r"f\.yaml:\d+: ", line)
    assert line.endswith((".", "?"))
    assert "\n" not in line


def test_everything_wrong_is_reported_at_once_in_the_order_of_the_file() -> None:
    text = """\
        hostname: ''
        labels: {x: y, x: z}
        collect: {interval: ten, timeout: 3s}
        remote_write:
        - url: http://a/
          queue_config: {max_backof: 1s}
          basic_auth: {username: u, password: p, password_file: f}
        - name: b
          remote_timeout: soon
        log: {levle: info}
        """
    with pytest.raises(ConfigErrors) as caught:
        load(textwrap.dedent(text), "limpet.yaml")
    lines = str(caught.value).splitlines()
    assert [line.split(": ")[:2] for line in lines] == [
        ["limpet.yaml:1", "hostname"],
        ["limpet.yaml:2", "labels.x"],
        ["limpet.yaml:3", "collect.interval"],
        ["limpet.yaml:5", "remote_write[0].url"],
        ["limpet.yaml:6", "remote_write[0].queue_config.max_backof"],
        ["limpet.yaml:7", "remote_write[0].basic_auth.password_file"],
        ["limpet.yaml:8", "remote_write[1].url"],
        ["limpet.yaml:9", "remote_write[1].remote_timeout"],
        ["limpet.yaml:10", "log.levle"],
    ]
    error: LimpetError = caught.value
    assert (error.exit_code, error.where) == (2, "limpet.yaml")
    assert error.what == "the configuration has 9 problems"


# --- what is good ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["", "remote_write: []", "remote_write:", "collect:\nbuffer:\nlog: null\nlabels:"]
)
def test_without_a_destination_the_agent_collects_and_says_so(text: str) -> None:
    loaded = load(text, "f.yaml")
    assert loaded.config == Config()
    assert len(loaded.warnings) == 1
    assert "there is no destination" in loaded.warnings[0]


def test_the_defaults_are_those_of_the_design() -> None:
    config = load(f"remote_write: [{{url: {URL}}}]", "f.yaml").config
    assert config == Config(remote_write=(RemoteWrite(url=URL, name="prometheus.example.com"),))
    assert (config.hostname, config.labels, config.data_dir) == (None, {}, "/var/lib/limpet")
    assert config.buffer == BufferSection(
        max_size=256 << 20, min_free_space=FreeSpace(percent=5.0), segment_size=4 << 20, sync_interval=10.0
    )
    assert config.log == LogSection(level="info", format="auto")
    one = config.remote_write[0]
    assert (one.headers, one.http_headers, one.remote_timeout, one.allow_http) == ({}, {}, 30.0, False)
    assert (one.basic_auth, one.authorization, one.oauth2, one.tls_config) == (None, None, None, TlsConfig())
    assert one.protobuf_message == "auto"
    assert one.queue_config == QueueConfig(
        max_samples_per_send=100_000, batch_send_deadline=30.0, min_backoff=1.0, max_backoff=60.0
    )
    assert (one.tls_config.min_version, one.tls_config.max_version) == ("TLS12", None)


def test_texts_stay_as_they_are_written() -> None:
    config = load("hostname: 007\nlabels: {role: on, rack: 010, day: 2024-01-01}", "f.yaml").config
    assert (config.hostname, config.labels) == ("007", {"role": "on", "rack": "010", "day": "2024-01-01"})


@pytest.mark.parametrize(
    ("written", "percent", "size", "floor"),
    [("5%", 5.0, None, 500), ("0%", 0.0, None, 0), ("2.5%", 2.5, None, 250), ("1KiB", None, 1024, 1024)],
)
def test_the_floor_of_free_space(written: str, percent: float | None, size: int | None, floor: int) -> None:
    value = load(f"buffer: {{min_free_space: {written}}}", "f.yaml").config.buffer.min_free_space
    assert (value.percent, value.bytes, value.on(10_000)) == (percent, size, floor)


def test_defaults_give_way_to_what_is_given() -> None:
    assert load("collect: {interval: 1s}", "f.yaml").config.collect.timeout == 1.0
    assert load("buffer: {max_size: 2MiB}", "f.yaml").config.buffer.segment_size == 256 << 10
    assert first("queue_config: {max_backoff: 100ms}").queue_config.min_backoff == 0.1
    assert first("queue_config: {min_backoff: 10m}").queue_config.max_backoff == 600.0


def plan_of(text: str) -> dict[str, tuple[float, float]]:
    return {one.name: (one.interval, one.timeout) for one in load(text, "f.yaml").config.collect.plan()}


def test_the_plan_has_every_collector() -> None:
    slow = dict.fromkeys(("disk_usage", "sensors"), (60.0, 5.0))
    usual = dict.fromkeys(COLLECTORS.keys() - OFF, (10.0, 5.0)) | slow
    assert {"pressure", "link"} == OFF
    assert plan_of("") == plan_of("collect: {collectors: {cpu: , disk_usage: {}}}") == usual
    assert {one.name: one.options for one in CollectSection().plan()} == {
        n: k.options() for n, k in COLLECTORS.items() if n not in OFF
    }


def test_one_that_is_off_runs_where_it_is_named() -> None:
    for text in ("pressure: ", "pressure: {}", "pressure: {interval: 10s}"):
        assert plan_of(f"collect: {{collectors: {{{text}}}}}")["pressure"] == (10.0, 5.0)
    assert "pressure" not in plan_of("collect: {collectors: {pressure: {enabled: false}}}")
    assert plan_of("collect: {collectors: {link: {}}}")["link"] == (60.0, 5.0)


def test_the_plan_follows_the_collectors_settings() -> None:
    plan = plan_of(
        "collect: {interval: 2s, collectors: {cpu: {enabled: false}, memory: {interval: 1s},"
        " network: {interval: 1m, timeout: 30s}, disk_usage: {interval: 500ms}}}"
    )
    assert plan == dict.fromkeys(("disk_io", "host"), (2.0, 2.0)) | {
        "sensors": (60.0, 2.0),
        "memory": (1.0, 1.0), "network": (60.0, 30.0), "disk_usage": (0.5, 0.5),
    }  # fmt: skip
    assert plan_of("collect: {interval: 5m}")["disk_usage"] == (300.0, 5.0)


def test_a_collectors_options_are_its_own() -> None:
    text = "collect: {collectors: {disk_io: {interval: 5s, exclude_devices: ['sd[a-c]']}}}"
    planned = {one.name: one for one in load(text, "f.yaml").config.collect.plan()}["disk_io"]
    assert planned.options == COLLECTORS["disk_io"].options(exclude_devices=("sd[a-c]",))


def test_the_host_from_inside_a_container(tmp_path: Path) -> None:
    def paths(text: str) -> tuple[HostPaths, tuple[str, ...]]:
        whole = f"collect: {{{text}}}\nremote_write: [{{url: {URL}}}]"
        config, warnings, _ = load(whole, str(tmp_path / "f.yaml"))
        return config.collect.paths(), warnings

    assert paths("") == paths("host_root: /") == (HostPaths(), ())
    assert paths("host_root: /host/") == (HostPaths("/host/proc", "/host/sys", "/host"), ())
    assert paths("host_root: /host, procfs: /p, sysfs: /s/") == (HostPaths("/p", "/s", "/host"), ())
    assert paths("host_root: host")[0].root == str(tmp_path / "host")
    found, [warning] = paths("procfs: /host/proc")
    assert found == HostPaths("/host/proc", "/sys", "")
    assert "collect.procfs: mount points are looked up in this host's root" in warning


def test_the_hosts_folders_must_be_there(tmp_path: Path) -> None:
    file = tmp_path / "f.yaml"
    file.write_text("collect: {host_root: host, procfs: f.yaml}\nremote_write: []")
    with pytest.raises(ConfigErrors) as caught:
        load_file(file)
    assert [(problem.path, problem.what) for problem in caught.value.problems] == [
        ("collect.host_root", f"{tmp_path / 'host'} cannot be read: no such file or directory"),
        ("collect.procfs", f"{file} cannot be read: not a directory"),
    ]
    (tmp_path / "host").mkdir()
    file.write_text("collect: {host_root: host}\nremote_write: []")
    assert load_file(file).config.collect.host_root == str(tmp_path / "host")


def test_no_label_can_clash_with_those_of_a_collector() -> None:
    carried: set[str] = set()
    for kind in COLLECTORS.values():
        collect = kind.build(kind.options(), HostPaths())
        for now in (0.0, 1.0):
            carried.update(name for sample in collect(now) for name, _ in sample.labels)
    assert carried
    assert carried <= TAKEN_LABELS


# --- Prometheus's own blocks ------------------------------------------------------------------------------------

PASTED = {
    "grafana cloud": """
        url: https://prometheus-prod-01-eu-west-0.grafana.net/api/prom/push
        basic_auth:
          username: 123456
          password: glc_hunter2==
        """,
    "mimir": """
        url: https://mimir.example.com/api/v1/push
        name: mimir
        headers:
          X-Scope-OrgID: edge
        remote_timeout: 1m
        send_exemplars: true
        send_native_histograms: false
        queue_config:
          capacity: 10000
          max_shards: 50
          min_shards: 1
          max_samples_per_send: 2000
          batch_send_deadline: 5s
          min_backoff: 30ms
          max_backoff: 5s
          retry_on_http_429: true
        metadata_config:
          send: true
          send_interval: 1m
        follow_redirects: true
        enable_http2: true
        round_robin_dns: false
        """,
    "private authority": """
        url: https://10.0.0.1:9090/api/v1/write
        protobuf_message: prometheus.WriteRequest
        authorization:
          credentials_file: token
        tls_config:
          ca_file: certs/ca.pem
          cert_file: /abs/client.pem
          key_file: certs/client.key
          server_name: prometheus.internal
          min_version: TLS13
          insecure_skip_verify: false
        """,
    "oauth2": """
        url: https://mimir.example.com/api/v1/push
        oauth2:
          client_id: limpet
          client_secret_file: secret
          scopes: [metrics:write, offline]
          token_url: https://auth.example.com/oauth2/token
          endpoint_params:
            audience: https://mimir.example.com
          tls_config:
            ca_file: certs/auth.pem
          proxy_url: http://user:hunter2@proxy:3128
          no_proxy: 10.0.0.0/8
        http_headers:
          X-Scope-OrgID:
            values: [edge]
          X-Key:
            secrets: [hunter2]
            files: [certs/key]
        """,
}


def pasted(name: str) -> Loaded:
    block = textwrap.indent(textwrap.dedent(PASTED[name]).strip(), "    ")
    return load(f"remote_write:\n  -{block[3:]}\n", "/etc/limpet/f.yaml")


def test_a_block_with_basic_auth_can_be_pasted() -> None:
    loaded = pasted("grafana cloud")
    one = loaded.config.remote_write[0]
    assert loaded.warnings == ()
    assert one.name == "prometheus-prod-01-eu-west-0.grafana.net"
    assert one.basic_auth == BasicAuth(username="123456", password=Secret("glc_hunter2=="))


def test_keys_that_mean_nothing_here_are_accepted_and_the_warning_says_why() -> None:
    loaded = pasted("mimir")
    one = loaded.config.remote_write[0]
    assert one.headers == {"X-Scope-OrgID": "edge"}
    assert one.queue_config == QueueConfig(
        max_samples_per_send=2000, batch_send_deadline=5.0, min_backoff=0.03, max_backoff=5.0
    )
    assert one.metadata_config == MetadataConfig(send=True, send_interval=60.0)
    told = {warning.split(" is ignored: ")[0].rpartition(".")[2] for warning in loaded.warnings}
    assert told == {
        *("capacity", "max_shards", "min_shards", "retry_on_http_429", "follow_redirects"),
        *("enable_http2", "round_robin_dns", "send_native_histograms"),
    }
    assert all(
        re.match(r"/etc/limpet/f\.yaml:\d+: remote_write\[0\]\.\S+ is ignored: \w", w)
        for w in loaded.warnings
    )


def test_files_are_found_from_the_folder_of_the_configuration() -> None:
    one = pasted("private authority").config.remote_write[0]
    assert one.authorization == Authorization(type="Bearer", credentials_file="/etc/limpet/token")
    files = (one.tls_config.ca_file, one.tls_config.cert_file, one.tls_config.key_file)
    assert files == ("/etc/limpet/certs/ca.pem", "/abs/client.pem", "/etc/limpet/certs/client.key")
    assert load("data_dir: var", "/etc/limpet/f.yaml").config.data_dir == "/etc/limpet/var"


def test_a_block_with_oauth2_and_http_headers_can_be_pasted() -> None:
    loaded = pasted("oauth2")
    one = loaded.config.remote_write[0]
    assert loaded.warnings == ()
    assert one.oauth2 == OAuth2(
        client_id="limpet",
        client_secret_file="/etc/limpet/secret",
        scopes=("metrics:write", "offline"),
        token_url="https://auth.example.com/oauth2/token",
        endpoint_params={"audience": Secret("https://mimir.example.com")},
        tls_config=TlsConfig(ca_file="/etc/limpet/certs/auth.pem"),
        proxy_url=Secret("http://user:hunter2@proxy:3128"),
        no_proxy="10.0.0.0/8",
    )
    assert one.http_headers == {
        "X-Scope-OrgID": HttpHeader(values=("edge",)),
        "X-Key": HttpHeader(secrets=(Secret("hunter2"),), files=("/etc/limpet/certs/key",)),
    }


def test_the_smallest_oauth2_is_the_smallest_that_prometheus_takes() -> None:
    one = first(TOKEN).oauth2
    assert one == OAuth2(client_id="x", token_url="https://t/")


# --- destinations -------------------------------------------------------------------------------------------------


def names(*urls: str) -> list[str]:
    text = "remote_write:\n" + "".join(f"- {{url: '{url}', allow_http: true}}\n" for url in urls)
    return [one.name for one in load(text, "f.yaml").config.remote_write]


def test_a_destination_is_named_for_its_host() -> None:
    urls = ("https://a.example/x", "http://127.0.0.1:9090/x", "http://[::1]:9090/x")
    assert names(*urls) == ["a.example", "127.0.0.1-9090", "1--9090"]
    assert len(names(f"https://{'a' * 300}/")[0]) <= 64


def test_destinations_on_one_host_are_distinguished_whatever_their_order() -> None:
    one, two, other = names("https://a/1", "https://a/2", "https://b/")
    assert re.fullmatch("a-[0-9a-f]{8}", one)
    assert re.fullmatch("a-[0-9a-f]{8}", two)
    assert other == "b"
    assert names("https://a/2", "https://b/", "https://a/1") == [two, other, one]
    warnings = load("remote_write: [{url: https://a/1}, {url: https://a/2}]", "f.yaml").warnings
    assert len(warnings) == 2
    assert all("set names" in warning for warning in warnings)


def test_a_derived_name_gives_way_to_a_given_one() -> None:
    config = load("remote_write: [{url: https://a/1}, {url: https://b/2, name: a}]", "f.yaml").config
    assert re.fullmatch("a-[0-9a-f]{8}", config.remote_write[0].name)
    assert config.remote_write[1].name == "a"


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST", "127.0.0.1", "127.8.9.1", "[::1]", "localhost:9090"]
)
def test_plain_http_to_this_machine_is_fine(host: str) -> None:
    assert load(f"remote_write: [{{url: 'http://{host}/'}}]", "f.yaml").warnings == ()


def test_plain_http_elsewhere_must_be_meant() -> None:
    text = "remote_write: [{url: 'http://a/', allow_http: true%s}]"
    assert load(text % "", "f.yaml").warnings == ()
    (warning,) = load(text % ", basic_auth: {username: u}", "f.yaml").warnings
    assert "in the clear" in warning


def test_a_token_in_the_clear_must_be_meant() -> None:
    text = "remote_write: [{url: 'https://a/', allow_http: true, oauth2: {client_id: x, token_url: 'http://t/'}}]"
    (warning,) = load(text, "f.yaml").warnings
    assert warning == (
        "f.yaml:1: remote_write[0].oauth2.token_url: the client secret and the token travel in the clear, "
        "because this is plain http://"
    )
    (warning,) = load(f"remote_write: [{{url: 'http://a/', allow_http: true, {TOKEN}}}]", "f.yaml").warnings
    assert "remote_write[0].url: the credentials travel in the clear" in warning
    assert load(destination("oauth2: {client_id: x, token_url: 'http://[::1]:1/'}"), "f.yaml").warnings == ()


def test_no_verification_is_warned_of() -> None:
    (warning,) = load(destination("tls_config: {insecure_skip_verify: true}"), "f.yaml").warnings
    assert "insecure_skip_verify" in warning


# --- secrets ------------------------------------------------------------------------------------------------------

SPOTS = [
    "basic_auth: {username: u, password: hunter2}",
    "basic_auth: {username: hunter2, password: hunter2, password_file: x}",
    "basic_auth: {username: 'hunter2:x', password: [hunter2]}",
    "basic_auth: hunter2",
    "basic_auth: {username: u, password: *hunter2}",
    "basic_auth: {username: u, password: !hunter2 x}",
    "basic_auth: {username: u, password: !hunter2!x y}",
    "basic_auth: {username: u, password: 'hunter2}",
    "basic_auth: {username: u, password: @hunter2}",
    'authorization: {credentials: "hunter2\\n"}',
    "authorization: {type: Bearer hunter2}",
    "authorization: {credentials: hunter2}",
    "headers: {X-Api-Key: hunter2}",
    'headers: {X-Api-Key: "hunter2\\n"}',
    "headers: {X-Api-Key: [hunter2]}",
    "http_headers: {X-Api-Key: {secrets: [hunter2]}}",
    "http_headers: {X-Api-Key: {secrets: hunter2}}",
    "http_headers: {X-Api-Key: hunter2}",
    'http_headers: {X-Api-Key: {secrets: ["hunter2\\n"]}}',
    "oauth2: {client_id: x, client_secret: hunter2, token_url: 'https://t/?hunter2'}",
    "oauth2: {client_id: x, client_secret: hunter2, client_secret_file: y, token_url: 'https://t/'}",
    "oauth2: {client_id: x, client_secret: [hunter2], token_url: 'https://t/'}",
    "oauth2: {client_id: x, token_url: 'https://hunter2@t/'}",
    "oauth2: {client_id: x, token_url: 'http://t/?hunter2'}",
    "oauth2: {client_id: x, token_url: 'https://t/', endpoint_params: {a: hunter2}}",
    "oauth2: {client_id: x, token_url: 'https://t/', proxy_url: 'http://u:hunter2@p:1/x'}",
    "oauth2: {client_id: x, token_url: 'https://t/', client_certificate_key: hunter2}",
    "oauth2: hunter2",
    "tls_config: {key: hunter2, cert: hunter2}",
    "tls_config: {key: hunter2}",
    "bearer_token: hunter2",
    "proxy_url: http://u:hunter2@p:3128",
    "proxy_url: https://u:hunter2@p:3128",
    "proxy_url: http://u:hunter2@p:x",
    "proxy_url: http://u:hunter2@p\nno_proxy: a\nproxy_from_environment: true",
    "password: hunter2",
]
URLS = [
    "https://u:hunter2@a/x",
    "https://hunter2@a/x",
    "https://u:hunter2#@a/x",
    "https://u:hunter2?@a/x",
    "https://[hunter2/x",
    "https://u:hunter2@a:x/",
    "https://a/x?token=hunter2",
    "http://a/x?token=hunter2",
    "https://a/x#hunter2",
    "ftp://hunter2/",
    "hunter2",
]


@pytest.mark.parametrize(
    "text", [destination(spot) for spot in SPOTS] + [f'remote_write: [{{url: "{url}"}}]' for url in URLS]
)
def test_a_secret_is_never_shown(text: str) -> None:
    from rich.pretty import pretty_repr

    try:
        loaded = load(text, "f.yaml")
        shown = f"{loaded!r} {loaded.warnings} {pretty_repr(loaded)}"
        for one in loaded.config.remote_write:
            shown += f"{one} {one!r} {one.tls_config.key} {one.authorization} {pretty_repr(one)}"
            shown += f"{one.oauth2} {pretty_repr(one.oauth2)} {one.http_headers}"
    except ConfigErrors as errors:
        shown = f"{errors} {errors!r} {errors.args} {errors.problems} {errors.__cause__!r}"
    assert "hunter2" not in shown


def test_a_secret_shows_itself_only_when_asked() -> None:
    secret = Secret("hunter2")
    assert f"{secret} {secret!r} {[secret]}" == "<secret> <secret> [<secret>]"
    assert secret.reveal() == "hunter2"
    assert secret == Secret("hunter2") != Secret("hunter3")
    assert len({secret, Secret("hunter2")}) == 1
    assert secret != "hunter2"


def test_the_public_part_of_a_url() -> None:
    assert public_url("https://u:p@a.example:9090/x/y?token=z#f") == "https://a.example:9090/x/y"
    assert public_url("https://[::1]:9090/x") == "https://[::1]:9090/x"
    assert public_url("nonsense") == "<not a URL>"


# --- files --------------------------------------------------------------------------------------------------------


def file_problems(path: Path) -> list[str]:
    with pytest.raises(ConfigErrors) as caught:
        load_file(path)
    return str(caught.value).replace(str(path.parent), "DIR").splitlines()


def test_a_file_is_loaded_and_nothing_is_created(tmp_path: Path) -> None:
    path = tmp_path / "f.yaml"
    path.write_text(
        f"\ufeffremote_write: [{{url: {URL}, basic_auth: {{username: u, password_file: p}}}}]\ndata_dir: d"
    )
    (tmp_path / "p").write_text("hunter2\n")
    loaded = load_file(path)
    assert loaded.config.data_dir == str(tmp_path / "d")
    assert sorted(os.listdir(tmp_path)) == ["f.yaml", "p"]
    assert load_file(str(path)) == loaded


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"", "DIR/f.yaml: the file is empty"),
        (b" \n\n", "DIR/f.yaml: the file is empty"),
        (b"hostname: a\nlabels: {a: \xff}\n", "DIR/f.yaml:2: not UTF-8"),
        (b"a: b: c\n", "DIR/f.yaml:1: not valid YAML"),
        (b"#" * 2_000_000, "DIR/f.yaml: larger than 1MiB"),
        (b"hostname: \x00", "DIR/f.yaml: not valid YAML"),
    ],
)
def test_a_file_that_is_no_configuration(tmp_path: Path, content: bytes, error: str) -> None:
    path = tmp_path / "f.yaml"
    path.write_bytes(content)
    (line,) = file_problems(path)
    assert line.startswith(error)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    assert file_problems(tmp_path / "none.yaml") == [
        "DIR/none.yaml: the file cannot be read: no such file or directory. Check its name and its permissions."
    ]
    assert "is a directory" in file_problems(tmp_path)[0]
    assert "not a valid path" in file_problems(tmp_path / "a\0b")[0]


@pytest.mark.timeout(20)
def test_the_files_it_names_are_looked_at_with_all_the_rest(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")  # opening it must not wait for a writer
    path = tmp_path / "f.yaml"
    path.write_text(
        textwrap.dedent(
            f"""\
            data_dir: f.yaml
            remote_write:
            - url: {URL}
              basic_auth: {{username_file: pipe, password_file: none}}
              tls_config:
                ca_file: folder
                cert_file: f.yaml
                key_file: "a\\0b"
            log: {{level: loud}}
            """
        )
    )
    lines = file_problems(path)
    assert [line.split(". ")[0] for line in lines] == [
        "DIR/f.yaml:1: data_dir: DIR/f.yaml is a file",
        "DIR/f.yaml:4: remote_write[0].basic_auth.password_file: DIR/none cannot be read: no such file or directory",
        "DIR/f.yaml:6: remote_write[0].tls_config.ca_file: DIR/folder is a folder",
        "DIR/f.yaml:8: remote_write[0].tls_config.key_file: expected the path of a file or folder, got 'a\\x00b'",
        "DIR/f.yaml:9: log.level: expected debug, info, warning or error, got 'loud'",
    ]


def test_the_files_of_oauth2_and_http_headers_are_looked_at(tmp_path: Path) -> None:
    path = tmp_path / "f.yaml"
    oauth2 = "{client_id: x, token_url: 'https://t/', client_secret_file: s, tls_config: {ca_file: c}}"
    path.write_text(destination(f"oauth2: {oauth2}\nhttp_headers: {{X-A: {{files: [f.yaml, h]}}}}"))
    missing = "cannot be read: no such file or directory"
    assert [line.split(". ")[0] for line in file_problems(path)] == [
        f"DIR/f.yaml:3: remote_write[0].oauth2.client_secret_file: DIR/s {missing}",
        f"DIR/f.yaml:3: remote_write[0].oauth2.tls_config.ca_file: DIR/c {missing}",
        f"DIR/f.yaml:4: remote_write[0].http_headers.X-A.files[1]: DIR/h {missing}",
    ]


def test_load_opens_nothing() -> None:
    code = """
        import difflib, sys
        from agent.config import ConfigErrors, load
        text = "data_dir: d\\nx: 1\\nremote_write: [{url: 'https://a/', basic_auth: {username: u, password_file: p}}]"
        touched = []
        watched = ("open", "os.", "socket.")
        sys.addaudithook(lambda event, args: touched.append(event) if event.startswith(watched) else None)
        load("remote_write: [{url: 'https://a/', tls_config: {ca_file: c}}]", "f.yaml")
        try:
            load(text, "f.yaml")
        except ConfigErrors as errors:
            problems = len(errors.problems)
        print(problems, touched)
        """
    assert python(textwrap.dedent(code)) == "1 []\n"


def test_importing_it_brings_nothing_heavy() -> None:
    heavy = {"rich", "asyncio", "subprocess", "dataclasses", "difflib", "ssl", "http", "logging"}
    loaded = python("import sys, agent.config; print(*sys.modules)").split()
    assert heavy.isdisjoint(loaded)


# --- any text -----------------------------------------------------------------------------------------------------

EXAMPLE = Path("config/limpet.yaml").read_text()
SCALARS = st.none() | st.booleans() | st.integers(-5, 10**12) | st.floats() | st.text(max_size=8)
SCALARS |= st.sampled_from(["10s", "0s", "1MiB", "5%", URL, "http://a", "cpu", "[", "a|b", "TLS13", "Bearer"])
WORDS = sorted(set(re.findall(r"\b[a-z_]+(?=:)", EXAMPLE)))
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS) | st.text(max_size=4), inner)
    ),
    max_leaves=12,
)
TREES = st.dictionaries(
    st.sampled_from(["hostname", "labels", "collect", "buffer", "remote_write", "log"]), VALUES
)


def loads_or_tells(text: str) -> None:
    told: list[str] = []
    config: Config | None = None
    try:
        config = load(text, "f.yaml").config
    except ConfigErrors as errors:
        told = str(errors).splitlines() if errors.problems else []
    if config is None:
        assert told
        assert all(re.match(r"f\.yaml(:\d+)?: .+\.", line) for line in told)
    else:
        assert all(one.timeout <= one.interval for one in config.collect.plan())
        assert len({one.name for one in config.remote_write}) == len(config.remote_write)
        assert config.buffer.segment_size * MIN_SEGMENTS <= config.buffer.max_size


@settings(max_examples=100, deadline=None)
@given(TREES)
def test_any_tree_is_loaded_or_reported(tree: dict[str, object]) -> None:
    loads_or_tells(yaml.safe_dump(tree, allow_unicode=True))


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_any_damage_to_the_example_is_loaded_or_reported(data: st.DataObject) -> None:
    text = re.sub(r"(?m)^( *)#(?=[a-z ]+:)", r"\1", EXAMPLE)
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(text)))
        length = data.draw(st.integers(0, 20))
        text = text[:start] + data.draw(st.text(max_size=6)) + text[start + length :]
    loads_or_tells(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("{}", 60), ("{interval: 1s}", 6), ("{interval: 10s}", 60), ("{interval: 30s}", 60), ("{interval: 5m}", 300),
        ("{interval: 1s, own_interval: 20s}", 20), ("{own_interval: 10s}", 10),
    ],
)  # fmt: skip
def test_the_agents_own_series_come_each_minute(text: str, seconds: float) -> None:
    url = "https://prometheus.example.com/api/v1/write"
    config = load(f"collect: {text}\nremote_write: [{{url: {url}}}]", "f.yaml").config
    assert config.collect.own() == seconds
