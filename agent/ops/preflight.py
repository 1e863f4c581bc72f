"""What kills the first send, found before it: what the files of a configuration hold, and values that nobody means.

`agent.config` says what cannot be a configuration; here is what is one, and does not work. Files are read, nothing is sent,
and no secret is in what is said. What cannot work is an error. What works, and surprises, is a warning, and so is a
date: certificates are renewed, and clocks are set, without a change of the configuration.
"""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import urlsplit

from agent import crew
from agent.collect.series import host_labels
from agent.config import Config, File, HttpDestination, Problem, ScrapeOptions, TlsConfig
from agent.config.units import format_duration
from agent.destinations.file import medium
from agent.http import endpoint
from agent.http.certificates import Certificate, decoded, ends
from agent.http.endpoint import Endpoint
from agent.ops.doctor.certificate import DAY, SOON, names
from agent.ops.doctor.folder import existing
from buffer.errors import LimpetError

LOOK_BACK = 300.0
"""Seconds: how old the newest value of a series may be for Prometheus, and for what has its query language."""
WAY = 30.0
"""Seconds that a request may take on a slow link."""
ANSWER = 5.0
"""Seconds that a file system is given to answer."""
COMMON = frozenset(
    [
        "alarmpi",
        "alpine",
        "archlinux",
        "armbian",
        "beaglebone",
        "buildroot",
        "debian",
        "dietpi",
        "fedora",
        "host",
        "jetson",
        "linux",
        "localhost",
        "localhost.localdomain",
        "odroid",
        "openwrt",
        "orangepi",
        "pi",
        "raspberrypi",
        "raspbian",
        "rpi",
        "server",
        "ubuntu",
        "ubuntu-server",
    ]
)
"""Names that images of systems come with."""
_PLACEHOLDER = re.compile(r"\$\w|\$\{|\$\(|%\{|\{\{|<[A-Za-z_]+>")
"""What a shell, systemd, logstash, or a template would have replaced."""


def check(config: Config, now: float) -> Iterator[Problem]:
    """Yield everything that is found at the UTC time `now` in seconds; a problem without `do` is a warning."""
    yield from _names(config)
    yield from _alerts(config)
    for one in config.file:
        yield from _medium(one, config.data_dir)
    for to in endpoints(config):
        yield from _secrets(to)
        yield from _headers(to)
        if to.is_https:
            yield from _certificates(to, now)


def _names(config: Config) -> Iterator[Problem]:
    place = "hostname_file" if config.hostname_file else "hostname"
    texts = {f"labels.{name}": text for name, text in config.labels.items()}
    for path, text in {place: config.hostname or "", **texts}.items():
        if _PLACEHOLDER.search(text):
            what = f"{text!r} is sent as it is written: nothing in it is replaced"
            if not config.hostname_file or path != place:
                key = "hostname_file" if path == place else "labels_file"
                what += f". For one configuration on many hosts there is {key}"
            yield Problem(path, what)
    hostname = host_labels(config)["hostname"]
    if hostname.lower() in COMMON:
        whose = "" if config.hostname else " (the system's)"
        what = (
            f"many hosts have the name {hostname!r}{whose}, and at a receiver two with one name are one host"
        )
        yield Problem(place, what)


def _alerts(config: Config) -> Iterator[Problem]:
    for to in config.remote_write:
        if urlsplit(to.url).path in ("", "/"):
            yield Problem(f"{to.name}.url", "it has no path; Prometheus takes samples at /api/v1/write")
        slowest = max(config.collect.own(), to.send_unchanged_every)
        most = LOOK_BACK - WAY - slowest
        if to.queue_config.batch_send_deadline > most:
            what = f"Prometheus looks back {format_duration(LOOK_BACK)} for the newest value, and what is collected each "
            what += f"{format_duration(slowest)} may be older before the next request arrives: graphs have gaps, and alerts "
            what += "that must hold for minutes do not fire"
            if most > 0:
                what += f"; {format_duration(most // 60 * 60 or most)} is short enough"
            yield Problem(f"{to.name}.queue_config.batch_send_deadline", what)


def _medium(to: File, data_dir: str) -> Iterator[Problem]:
    """Look whether the medium is there, and whether it is the volume of the buffer."""
    where = f"{to.name}.path"
    try:
        volume = crew.call(lambda: medium.volume(to), ANSWER)
    except medium.NotThereError as error:
        yield Problem(where, f"now {error}; until then samples wait in the buffer")
        return
    except OSError as error:
        yield Problem(
            where, f"{to.path} cannot be looked at now: {error}; until then samples wait in the buffer"
        )
        return
    if volume == os.stat(existing(data_dir)).st_dev:
        yield Problem(
            where, "it is on the same volume as data_dir, so what is lost with the one is lost with the other"
        )


def endpoints(config: Config) -> Iterator[Endpoint]:
    """Yield everything that the agent speaks to: destinations, token servers, scrape targets."""
    for to in config.destinations:
        if not isinstance(to, HttpDestination):
            continue
        yield (found := endpoint.of_destination(to))
        if found.oauth2 is not None:
            yield endpoint.of_token_server(found.oauth2, found.name)
    for plan in config.collect.plan():
        if isinstance(plan.options, ScrapeOptions):
            yield from map(endpoint.of_target, plan.options.targets)


def _secrets(to: Endpoint) -> Iterator[Problem]:
    """Look into the files that have one secret, or a name, each."""
    for section in ("basic_auth", "authorization", "oauth2"):
        keys: Any = getattr(to, section)
        for key in ("username_file", "password_file", "credentials_file", "client_secret_file"):
            if (name := getattr(keys, key, None)) is None:
                continue
            where, text = f"{to.name}.{section}.{key}", ""
            try:
                text = endpoint.text(where.removesuffix("_file"), None, name)
            except LimpetError as error:
                yield Problem(error.where, error.what, error.do)
                continue
            what = key.removesuffix("_file").replace("_", " ")
            if not text:
                yield Problem(where, f"{name} is empty", f"Write the {what} into it, and nothing else.")
            elif "\n" in text:
                yield Problem(where, f"{name} has several lines", f"Leave one: the {what}, and nothing else.")


def _headers(to: Endpoint) -> Iterator[Problem]:
    """Look into the files with values of headers."""
    for name, header in to.http_headers.items():
        try:
            endpoint.header_values(header, f"{to.name}.http_headers.{name}")
        except LimpetError as error:
            yield Problem(error.where, error.what, error.do)


def _certificates(to: Endpoint, now: float) -> Iterator[Problem]:
    try:
        context = endpoint.tls(to)
    except LimpetError as error:
        yield Problem(error.where, error.what, error.do)
        return
    config, where = to.tls_config, f"{to.name}.tls_config"
    if context is not None and (config.ca or config.ca_file):
        if not context.cert_store_stats()["x509"]:
            yield Problem(
                f"{where}.ca_file", f"{config.ca_file} has no certificate in it", "It must be a PEM text."
            )
        yield from _dates(f"{where}.ca", config, "ca", context.get_ca_certs(), now)
    if config.cert_file:
        own = decoded(config.cert_file)
        yield from _dates(f"{where}.cert", config, "cert", [own] if own is not None else [], now)


def _dates(
    where: str, config: TlsConfig, key: str, found: Iterable[Certificate], now: float
) -> Iterator[Problem]:
    path = f"{where}_file" if getattr(config, f"{key}_file") else where
    for one in found:
        left = ends(one) - now
        if left < 0:
            yield Problem(path, f"the certificate of {names(one)} has expired, on {one['notAfter']}")
        elif ssl.cert_time_to_seconds(one["notBefore"]) > now:
            yield Problem(
                path,
                f"the certificate of {names(one)} is good from {one['notBefore']} on, by this host's clock",
            )
        elif left < SOON * DAY:
            yield Problem(path, f"the certificate of {names(one)} expires in {left / DAY:.0f} days")
