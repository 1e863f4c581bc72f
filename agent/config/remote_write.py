"""Destinations by remote write: the `remote_write` section, which is Prometheus's own, and a few more keys."""

from __future__ import annotations

from typing import Literal

from agent.config import values as v
from agent.config.destination import HttpDestination
from agent.config.section import Section


class MetadataConfig(Section, frozen=True, kw_only=True):
    """Whether type, unit and help are sent, and with remote write 1.0 how often and how many at once."""

    send: v.Flag = True
    send_interval: v.Duration = 3600.0
    max_samples_per_send: v.Count = 2000


class RemoteWrite(HttpDestination, frozen=True, kw_only=True):
    """A destination that takes remote write."""

    later = frozenset(("azuread", "google_iam", "proxy_connect_header", "sigv4"))
    ignored = {
        **HttpDestination.ignored,
        "round_robin_dns": "one connection is kept, to an address the system chose",
        "send_native_histograms": "there are none",
    }

    protobuf_message: Literal["auto", "prometheus.WriteRequest", "io.prometheus.write.v2.Request"] = "auto"
    metadata_config: MetadataConfig = MetadataConfig()
    send_exemplars: v.Flag = False

    @property
    def kind(self) -> str:
        """The section's name."""
        return "remote_write"
