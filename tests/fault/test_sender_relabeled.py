"""write_relabel_configs between the buffer and the wire, in both protocols: what is dropped is in the ledger."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from agent.config import QueueConfig, RelabelConfig
from buffer.model import Series
from tests.support import wire
from tests.support.protocols import PROTOCOLS
from tests.support.receiver import Answer, Receiver
from tests.support.sending import FIRST_MS, STEP_MS, Host, arrived, destination, host

pytestmark = pytest.mark.parametrize("protocol", PROTOCOLS)

SERIES = (
    Series("cpu_usage_percent", (("core", "all"), ("hostname", "a")), "gauge", "percent", "Used."),
    Series("disk_read_bytes_total", (("device", "sda"), ("hostname", "a")), "counter", "bytes", "Read."),
    Series("disk_read_bytes_total", (("device", "sdb"), ("hostname", "a")), "counter", "bytes", "Read."),
)
TICKS = 30


def relabeled(folder: Path, receiver: Receiver, protocol: str, rules: Sequence[RelabelConfig]) -> Host:
    """Send TICKS ticks with these rules, and return the host, stopped."""
    to = destination(
        receiver.url,
        queue_config=QueueConfig(batch_send_deadline=0.02),
        protobuf_message=protocol,
        write_relabel_configs=tuple(rules),
    )
    with host(folder, to, series=SERIES, ticks=TICKS) as one:
        one.settled()
    return one


def column(index: int) -> dict[int, float]:
    return {FIRST_MS + n * STEP_MS: float(n * 1000 + index) for n in range(TICKS)}


def name(series: str, **labels: str) -> wire.Labels:
    return tuple(sorted({"__name__": series, **labels}.items()))


def test_a_dropped_series_is_counted_and_not_sent(tmp_path: Path, protocol: str) -> None:
    rules = [RelabelConfig(source_labels=("device",), regex="sd.", action="drop")]
    with Receiver() as receiver:
        one = relabeled(tmp_path, receiver, protocol, rules)
        assert arrived(receiver) == {name("cpu_usage_percent", core="all", hostname="a"): column(0)}
    assert one.cursor.ledger.dropped == {"relabeled": 2 * TICKS}


def test_a_series_is_sent_under_its_new_labels_and_described_so(tmp_path: Path, protocol: str) -> None:
    rules = [
        RelabelConfig(
            source_labels=("__name__",), regex="disk_(.*)", target_label="__name__", replacement="io_$1"
        ),
        RelabelConfig(regex="hostname", action="labeldrop"),
        RelabelConfig(target_label="site", replacement="ship"),
    ]
    with Receiver() as receiver:
        one = relabeled(tmp_path, receiver, protocol, rules)
        assert arrived(receiver) == {
            name("cpu_usage_percent", core="all", site="ship"): column(0),
            name("io_read_bytes_total", device="sda", site="ship"): column(1),
            name("io_read_bytes_total", device="sdb", site="ship"): column(2),
        }
        told = {one.name for request in receiver.requests for one in request.write.metadata}
        assert told == {"cpu_usage_percent", "io_read_bytes_total"}
    assert one.cursor.ledger.dropped == {}


def test_series_that_become_one_are_sent_once_for_each_instant(tmp_path: Path, protocol: str) -> None:
    rules = [RelabelConfig(regex="device", action="labeldrop")]
    with Receiver() as receiver:
        one = relabeled(tmp_path, receiver, protocol, rules)
        got = arrived(receiver)
        assert got[name("disk_read_bytes_total", hostname="a")].keys() == column(1).keys()
    assert one.cursor.ledger.dropped == {"rejected": TICKS}


def test_when_nothing_is_left_nothing_is_sent(tmp_path: Path, protocol: str) -> None:
    for rule in (RelabelConfig(action="drop"), RelabelConfig(regex="__name__", action="labeldrop")):
        with Receiver() as receiver:
            one = relabeled(tmp_path / rule.action, receiver, protocol, [rule])
            assert not receiver.requests
        assert one.cursor.ledger.dropped == {"relabeled": 3 * TICKS}


def test_what_is_refused_is_kept_as_it_was_collected(tmp_path: Path, protocol: str) -> None:
    """So that a replay relabels it once, not twice."""
    rules = [
        RelabelConfig(source_labels=("core",), regex="all", action="drop"),
        RelabelConfig(source_labels=("device",), target_label="disk"),
        RelabelConfig(regex="device", action="labeldrop"),
    ]
    with Receiver() as receiver:
        receiver.refuse = lambda write: (
            Answer(400, body=b"no sdb here")
            if any(dict(one.labels).get("disk") == "sdb" for one in write.series)
            else None
        )
        one = relabeled(tmp_path, receiver, protocol, rules)
        assert arrived(receiver) == {name("disk_read_bytes_total", disk="sda", hostname="a"): column(1)}
        assert one.kept() == {name("disk_read_bytes_total", device="sdb", hostname="a"): column(2)}
    assert one.cursor.ledger.dropped == {"relabeled": TICKS, "rejected": TICKS}
