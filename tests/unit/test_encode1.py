"""What only remote write 1.0 has: metadata in messages of their own, of the families that are due."""

from __future__ import annotations

from collections.abc import Mapping

from agent.destinations.remote_write.encode1 import Encoder1
from buffer.model import Instant, Series, Tick
from tests.support import wire

SENT = Series("sent_bytes_total", (("device", "eth0"),), "counter", "bytes", "Bytes sent.")
FREE = Series("free_bytes", (("device", "sda"),), "gauge", "bytes", "Bytes free.")
INFO = Series("host_info", (), "info", "", "")

NOW = 1_750_000_000_000


def tick(series: tuple[Series, ...], *values: float) -> Tick:
    return Tick(Instant(NOW, 0, "x"), "net", series, values)


def test_metadata_is_sent_for_the_given_families() -> None:
    ticks = [tick((SENT, FREE, INFO), 1, 2, 3)]
    encoder = Encoder1()
    assert wire.decode_message(encoder.encode(ticks).body).metadata == ()
    body = encoder.encode(ticks, {"sent_bytes_total", "host_info", "other"}).body
    assert body == wire.WriteRequest.FromString(body).SerializeToString()  # and no byte more
    found = wire.decode_message(body)
    assert found.metadata == (
        wire.Metadata("host_info", "info", "", ""),
        wire.Metadata("sent_bytes_total", "counter", "bytes", "Bytes sent."),
    )
    assert found.samples == 3


def test_a_family_has_the_name_that_relabeling_gave_it() -> None:
    def relabel(labels: Mapping[str, str]) -> dict[str, str] | None:
        if labels["__name__"] == "free_bytes":
            return None
        return {**labels, "__name__": "my_" + labels["__name__"]}

    encoder, ticks = Encoder1(relabel), [tick((SENT, FREE), 1, 2)]
    assert encoder.families(ticks) == {"my_sent_bytes_total": ("counter", "bytes", "Bytes sent.")}
    found = wire.decode_message(encoder.encode(ticks, encoder.families(ticks)).body)
    assert [one.name for one in found.metadata] == ["my_sent_bytes_total"]


def test_help_that_is_no_unicode_is_escaped() -> None:
    odd = INFO._replace(help="\udcff", unit="\ud800")
    ticks = [tick((odd,), 1)]
    told = ("host_info", "info", "\\ud800", "\\udcff")
    assert wire.decode_message(Encoder1().encode(ticks, ["host_info"]).body).metadata == (told,)
