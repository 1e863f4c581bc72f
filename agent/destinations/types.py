"""The destination types by their sections of the configuration. A type is imported where it is used."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from agent.config import OTLP, Custom, DestinationConfig, File, InfluxDB, RemoteWrite
from agent.destinations.base import Speaks
from buffer.exemplars import Exemplars


def speaks(
    to: DestinationConfig,
    from_boot: frozenset[str] = frozenset(),
    clock: Callable[[], float] = time.monotonic,
    wall: Callable[[], float] = time.time,
    exemplars: Exemplars | None = None,
) -> Speaks:
    """Return what says how to send to a destination now. `from_boot` are the groups that count from the host's boot.

    `exemplars` go along where the type and the destination take them. Raises LimpetError where a type of another package
    cannot be built.
    """
    if isinstance(to, InfluxDB):
        from agent.destinations.influxdb.destination import influxdb

        return influxdb(to, wall)
    if isinstance(to, OTLP):
        from agent.destinations.otlp.destination import otlp

        return otlp(to, from_boot, wall)
    if isinstance(to, File):
        from agent.destinations.file.destination import file

        return file(to)
    if isinstance(to, Custom):
        from agent.destinations.custom import custom

        return custom(to)
    assert isinstance(to, RemoteWrite)
    from agent.destinations.remote_write.formats import remote_write

    return remote_write(to, from_boot, clock, wall, exemplars)


def load(destinations: Iterable[DestinationConfig]) -> None:
    """Import what these destinations need."""
    for to in destinations:
        speaks(to)
