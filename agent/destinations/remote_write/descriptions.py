"""Which metrics are described in a request: by their type, unit and help, which receivers keep.

Promise: a metric is described along with its samples until that was delivered once; again when its description is another; again
after `metadata_config.send_interval`; and after a request that failed, since the receiver behind it may be another one, if AGAIN
seconds have passed since the last time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from agent.config import MetadataConfig
from agent.destinations.base import Outcome, Request, Verdict
from agent.destinations.remote_write.encode import Description

AGAIN = 300.0


class Descriptions:
    """What one receiver was sent of it, and when (`clock`, monotonic seconds). `Request.note` has what is in a request."""

    def __init__(self, config: MetadataConfig, clock: Callable[[], float] = time.monotonic) -> None:
        self._config, self._clock = config, clock
        self._sent: dict[str, tuple[float, Description]] = {}

    def due(self, families: Mapping[str, Description]) -> dict[str, Description]:
        """Return those of the metrics that are to be described now, `max_samples_per_send` at most, sorted."""
        if not self._config.send:
            return {}
        before, sent = self._clock() - self._config.send_interval, self._sent
        known = {name for name in families if name in sent and sent[name][0] > before}
        found = sorted(name for name in families if name not in known or sent[name][1] != families[name])
        return {name: families[name] for name in found[: self._config.max_samples_per_send]}

    def hear(self, request: Request, outcome: Outcome) -> None:
        """Take what came of a request."""
        now = self._clock()
        if outcome.verdict is Verdict.DELIVERED and isinstance(request.note, Mapping):
            self._sent |= {name: (now, description) for name, description in request.note.items()}
        elif outcome.verdict in (Verdict.RETRY, Verdict.HELD):
            self._sent = {name: sent for name, sent in self._sent.items() if now - sent[0] < AGAIN}
