"""Each destination type is imported where it is used: nobody pays for another one."""

from __future__ import annotations

import pytest

from tests.support.run import python

REMOTE_WRITE = "RemoteWrite(url='https://example.com/api/v1/write')"
FILE = "File(path='/media/stick')"
OTLP = "OTLP(url='https://example.com/v1/metrics')"
INFLUXDB = "InfluxDB(url='https://example.com', db='m')"


@pytest.mark.parametrize(
    ("destination", "needs", "not_needed"),
    [
        (REMOTE_WRITE, "agent.destinations.remote_write.formats", "agent.destinations.influxdb.destination"),
        (REMOTE_WRITE, "snappy", "agent.destinations.zstd"),
        (INFLUXDB, "agent.destinations.influxdb.destination", "snappy"),
        (FILE, "agent.destinations.file.destination", "snappy"),
        (OTLP, "agent.destinations.otlp.destination", "agent.destinations.influxdb.destination"),
    ],
)
def test_a_type_is_imported_where_it_is_used(destination: str, needs: str, not_needed: str) -> None:
    code = (
        "import sys; from agent import process; from agent.config import OTLP, File, InfluxDB, RemoteWrite; "
    )
    code += f"process.types.load([{destination}]); print(*sys.modules)"
    loaded = python(code).split()
    assert needs in loaded
    assert not_needed not in loaded
