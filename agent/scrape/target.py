"""One scrape target: a run fetches its exposition and returns it as columns, together with whether it is up.

Promises:
- A run returns within the target's timeout, but for the time that looking up its name takes, and never raises for
  what a target does. If the scrape fails, it returns `up` 0, `scrape_duration_seconds` and `scrape_samples_scraped`, and the series
  of the target end there (the schedule stores their markers).
- A failed scrape gives nothing of the target, never a part: an exposition that is malformed anywhere, larger than
  `body_size_limit`, or of more samples than `sample_limit` after relabeling fails as a whole, as in Prometheus.
- With `honor_timestamps` samples that have timestamps are in `stamped`, and keep them.
- Of the exemplars, those go to `exemplars` that are not as in the scrape before. Their times are of the last hour, and their
  labels and those of their series are not too long.
- The series are the same object from run to run for as long as the set of them is the same.
- The first failure of a row is logged, and the recovery.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial

from agent import __version__
from agent.collect.plan import Collector
from agent.collect.series import Collected, Row, TooLarge, check_size
from agent.collectors.base import Labels, Metric
from agent.config import Target
from agent.scrape.exposition import Example
from agent.scrape.fetch import Exposition, Fetcher, ScrapeFailed
from agent.scrape.lines import ParseError
from agent.scrape.naming import Limits, Naming, Relabel
from agent.scrape.stamped import AHEAD_MS, BEHIND_MS, Stamps
from agent.scrape.table import Read, Table
from agent.system.events import Event, Logger
from buffer.exemplars import MOST_CHARACTERS, MOST_OF_SERIES, Exemplar
from buffer.model import Series

METRICS = (
    Metric("up", "gauge", "", "1 if the scrape succeeded, else 0."),
    Metric("scrape_duration_seconds", "gauge", "seconds", "How long the scrape took."),
    Metric(
        "scrape_samples_scraped", "gauge", "", "Samples that the target exposed; 0 where the scrape failed."
    ),
)


DIGITS = 4
"""Of a duration: the buffer stores such values as small integers."""


class Scrape(Collector):
    """A collector that scrapes one target. `words` returns what of an error may be shown."""

    def __init__(
        self,
        target: Target,
        host: Mapping[str, str],
        timeout: float,
        log: Logger,
        relabel: Relabel | None = None,
        fetch: Callable[[], Exposition] | None = None,
        words: Callable[[Exception], str] = str,
        clock: Callable[[], float] = time.time,
        exemplars: Callable[[Collection[Exemplar]], None] | None = None,
    ) -> None:
        self._log, self._words = log, words
        self._fetch = fetch or Fetcher(target, timeout, __version__).get
        self._job, self._instance = target.job, target.instance
        ours = {**host, **target.labels, "job": target.job, "instance": target.instance}
        labels = tuple(sorted((name, value) for name, value in ours.items() if value))
        self._reports = tuple(Series(m.name, labels, m.type, m.unit, m.help) for m in METRICS)
        taken = {series[:2] for series in self._reports}
        limits = Limits(
            target.label_limit,
            target.label_name_length_limit,
            target.label_value_length_limit,
            target.metric_name_validation_scheme == "legacy",
        )
        self._naming = Naming(ours, taken, honor=target.honor_labels, relabel=relabel, limits=limits)
        self._new_table = partial(Table, self._naming, target.sample_limit, honor=target.honor_timestamps)
        self._table = self._new_table()
        self._stamps, self._clock = Stamps(), clock
        self._exemplars, self._examples = exemplars, dict[tuple[str, Labels], Example]()
        self.stamped: Sequence[Row] = ()
        """What the last scrape found that has timestamps of its own."""
        self._exposed: tuple[Series, ...] = ()
        self._series = self._reports
        self._duplicates = 0
        self.error: str | None = None
        """Why the last scrape failed; None: it did not."""

    def __call__(self, _now: float, /) -> Collected:
        """Scrape once."""
        begun, self.stamped = time.perf_counter(), ()
        try:
            values, scraped = self._scrape()
        except (ScrapeFailed, ParseError, TooLarge) as error:
            text = self._words(error)
            log = self._log.debug if self.error is not None else self._log.warning
            log(Event.SCRAPE_FAILED, job=self._job, instance=self._instance, error=text)
            self.error = text
            return self._reports, [0.0, round(time.perf_counter() - begun, DIGITS), 0.0]
        if self.error is not None:
            self.error = None
            self._log.info(Event.SCRAPE_RECOVERED, job=self._job, instance=self._instance)
        values += (1.0, round(time.perf_counter() - begun, DIGITS), float(scraped))
        return self._series, values

    def _read(self) -> Read:
        exposition = self._fetch()
        try:
            return self._table.read(exposition.body, openmetrics=exposition.openmetrics)
        finally:
            self._naming.rest()
            if exposition.leave is not None:
                exposition.leave()

    def _scrape(self) -> tuple[list[float], int]:
        read = self._read()
        if read.series is not self._exposed:
            try:
                check_size(read.series)
            except TooLarge:
                self._table = self._new_table()  # nothing is kept of what cannot be stored
                raise
            self._exposed, self._series = read.series, read.series + self._reports
            found, before = self._table.duplicates, self._duplicates
            self._duplicates = found
            if found and not before:
                self._log.warning(
                    Event.SCRAPE_DUPLICATES, job=self._job, instance=self._instance, duplicates=found
                )
        now_ms = int(self._clock() * 1000)
        self.stamped = self._stamps(read.stamped, now_ms)
        if self._exemplars is not None:
            self._exemplars(self._new(read.examples, now_ms))
        return read.values, read.scraped

    def _new(self, examples: Sequence[tuple[Series, Example]], now_ms: int) -> list[Exemplar]:
        """Return the exemplars that are not as before, and that receivers take."""
        before, self._examples, found = self._examples, {}, []
        for series, one in examples:
            labels = tuple([pair for pair in one.labels if all(pair)])
            characters = sum(len(name) + len(value) for name, value in labels)
            if not 0 < characters <= MOST_CHARACTERS or series.characters > MOST_OF_SERIES:
                continue
            key = series[:2]
            if self._examples.setdefault(key, one) is not one or before.get(key) == one:
                continue
            at_ms = now_ms if one.seconds is None else int(one.seconds * 1000)
            if now_ms - BEHIND_MS <= at_ms <= now_ms + AHEAD_MS:
                found.append(Exemplar(series, labels, one.value, at_ms))
        return found
