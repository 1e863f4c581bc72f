"""A host to look at in a browser: a real agent whose buffer has a made-up past, and `limpet serve` over it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from agent.collectors import COLLECTORS
from buffer.buffer import Buffer
from buffer.limits import Limits
from buffer.model import Series, Tick
from tests.support.agent import Agent
from tests.support.history import History, Story
from tests.support.serving import Serving

PLACE = {"environment": "production", "region": "eu-west", "role": "gateway"}
OWNER = {metric.name: name for name, kind in COLLECTORS.items() for metric in kind.metrics}
"""The collector of each metric; all others are the agent's own."""


def times(end: float, *stretches: tuple[float, float]) -> Iterator[float]:
    """Return times until `end`, oldest first: each stretch is seconds before it, and the step from there on."""
    for (first, step), last in zip(stretches, [*(ago for ago, _ in stretches[1:]), 0.0], strict=True):
        at = end - first
        while at < end - last:
            yield at
            at += step


def by_collector(ticks: Iterable[Tick]) -> Iterator[list[Tick]]:
    """Part each tick into those of the collectors, as the agent writes them."""
    known: dict[tuple[Series, ...], list[tuple[str, list[int], tuple[Series, ...]]]] = {}
    for tick in ticks:
        if tick.series not in known:
            owners = [OWNER.get(series.name, "limpet") for series in tick.series]
            places = {owner: [i for i, one in enumerate(owners) if one == owner] for owner in owners}
            known[tick.series] = [
                (owner, found, tuple(tick.series[i] for i in found)) for owner, found in places.items()
            ]
        yield [
            Tick(tick.at, owner, series, [tick.values[i] for i in found])
            for owner, found, series in known[tick.series]
        ]


def host(
    folder: Path,
    hostname: str,
    story: Story,
    to: list[dict[str, Any]],
    *stretches: tuple[float, float],
    **config: Any,
) -> Agent:
    """Return an agent that has not been started, whose buffer has the past that its story says, until now."""
    agent = Agent(folder, to, hostname=hostname, labels=PLACE, **config)
    names = [str(one["name"]) for one in to]
    history = History(hostname, PLACE, story, end := time.time(), names, seed=7)
    buffer = Buffer(str(agent.data_dir), Limits(), names)
    for ticks in by_collector(history.ticks(times(end, *stretches))):
        buffer.append(ticks)
    buffer.close()
    return agent


def serving(folder: Path, agent: Agent, settings: str = "") -> Serving:
    """Return the server over an agent's buffer, which has not been started."""
    return Serving(folder / "serve", agent.data_dir, settings)
