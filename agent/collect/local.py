"""A collector of this host: what it could not read is counted and logged once, and its names are masked.

Promises:
- Each file, device, interface and mount point that a run could not read is counted, once a run. It is logged
  when that begins and when it is over, and not in between.
- What the agent's user may not read is logged in the same way and counted apart: it is no error.
- What hangs is reported with the time since when, for as long as it hangs.
- Nothing that comes out of here (samples, logs, errors) holds a name that is to be masked.
- Whatever a run raises is an Exception: a collector that ends its thread, or the process, fails like any other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from agent.collect.mask import Mask
from agent.collect.plan import Collector, Named
from agent.collectors import Collect, HostPaths, Sample, Trouble
from agent.system.events import Event, Logger

ANSWER_WITHIN = 2.0
"""Seconds that a run waits for what does not answer; less where half of its timeout is less."""


class LocalCollector(Collector):
    """The runs of a collector that `build` makes, as the schedule calls them."""

    def __init__(
        self,
        name: str,
        build: Callable[[HostPaths], Collect],
        timeout: float,
        paths: HostPaths,
        mask: Mask,
        log: Logger | None = None,
    ) -> None:
        self.name = name
        self.unreadable: int = 0
        self.denied = 0
        self.troubles: Mapping[Named, Trouble] = {}
        self.stuck: Mapping[Named, float] = {}
        self._mask, self._log = mask, log
        self._reported: dict[Named, Trouble] = {}
        patience = min(ANSWER_WITHIN, timeout / 2)
        self._collect = build(paths._replace(patience=patience, report=self._report))

    def __call__(self, now: float, /) -> list[Sample]:
        """Run once. Raises Exception."""
        self._reported = {}
        try:
            return self._mask.samples(self._collect(now))
        except BaseException as error:
            raised = error
            if not isinstance(error, Exception):
                error = RuntimeError(f"it raised {type(error).__name__}: {error}")
            shown = self._mask.error(error) if self._mask else error
            raise shown.with_traceback(raised.__traceback__) from None
        finally:
            self._settle(now)

    def _report(self, trouble: Trouble) -> None:
        name = self._mask.value(trouble.kind, trouble.name)
        self._reported[trouble.kind, name] = trouble._replace(name=name)

    def _settle(self, now: float) -> None:
        before, reported = self.troubles, self._reported
        self.denied = sum(one.denied for one in reported.values())
        self.unreadable += len(reported) - self.denied
        self.stuck = {named: self.stuck.get(named, now) for named, one in reported.items() if one.stuck}
        self.troubles = reported
        if self._log is None or before.keys() == reported.keys():
            return
        for named, trouble in reported.items():
            if named not in before:
                fields = {**self._fields(trouble), "error": trouble.why}
                if trouble.denied:
                    self._log.info(Event.COLLECTOR_DENIED, **fields)
                else:
                    event = Event.COLLECTOR_STUCK if trouble.stuck else Event.COLLECTOR_UNREADABLE
                    self._log.warning(event, **fields)
        for named, trouble in before.items():
            if named not in reported:
                self._log.info(Event.COLLECTOR_READABLE, **self._fields(trouble))

    def _fields(self, trouble: Trouble) -> dict[str, str]:
        return {"collector": self.name, trouble.kind: trouble.name}
