"""From what a target exposes to the series that are stored: the host's and the target's labels, and relabeling.

As Prometheus does it, in this order (mutateSampleLabels of its scrape/scrape.go):

1. The labels of the host (`hostname` and the configured ones) and of the target (`job`, `instance`) are set on every
   sample. Where the sample has one of the same name, its own becomes `exported_NAME` (with one more `exported_` in
   front for as long as that is taken); with `honor_labels` the sample keeps its own, and ours is left out.
2. `metric_relabel_configs` see all of these and `__name__`. What they drop is left out.
3. So is a series with the name and labels of one of our own (`taken`): ours says more.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

from agent.collect.series import LONGEST_TEXT
from agent.collectors.base import Labels
from agent.scrape.families import Family
from agent.scrape.lines import ParseError
from buffer.model import Series

Relabel = Callable[[Mapping[str, str]], dict[str, str] | None]
"""What becomes of labels, `__name__` among them; None: the series is left out."""

NAME = "__name__"
_LEGACY_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_LEGACY_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")


class Limits(NamedTuple):
    """What a series may have after relabeling, the labels of the host and the target included; 0 is no limit.

    Lengths are bytes. With `legacy` names are of ASCII letters, digits and underscores.
    """

    labels: int = 0
    name_length: int = 0
    value_length: int = 0
    legacy: bool = False

    def check(self, labels: Mapping[str, str]) -> None:
        """Raise ParseError for labels, `__name__` among them, that exceed the limits."""
        if 0 < self.labels < len(labels):
            raise ParseError(f"a series has {len(labels)} labels, more than label_limit: {labels[NAME]!r}")
        for key, value in labels.items():
            if 0 < self.name_length < len(key.encode()):
                raise ParseError(f"the name of a label is longer than label_name_length_limit: {key!r}")
            if 0 < self.value_length < len(value.encode()):
                raise ParseError(
                    f"the value of a label is longer than label_value_length_limit: {key}={value[:80]!r}"
                )
            if self.legacy and not _LEGACY_LABEL.fullmatch(key):
                raise ParseError(f"a label's name is no legacy one: {key!r}")
        if self.legacy and not _LEGACY_NAME.fullmatch(labels[NAME]):
            raise ParseError(f"a name is no legacy one: {labels[NAME]!r}")


class Naming:
    """Names the series of one target, whose own labels are `ours`. Call `rest` between expositions."""

    def __init__(
        self,
        ours: Mapping[str, str],
        taken: Collection[tuple[str, Labels]] = (),
        *,
        honor: bool = False,
        relabel: Relabel | None = None,
        limits: Limits | None = None,
    ) -> None:
        self._ours = {name: value for name, value in ours.items() if value}
        self._taken, self._honor, self._relabel, self._limits = taken, honor, relabel, limits
        self._pairs: dict[tuple[str, str], tuple[str, str]] = {}

    def __call__(self, name: str, labels: Labels, family: Family) -> Series | None:
        """Return the series of a sample; None if it is dropped.

        Raises ParseError if relabeling leaves it without a name, or with a name or value of more than LONGEST_TEXT, or if
        it exceeds the limits.
        """
        found = self._merged(dict(labels))
        if self._relabel is not None:
            relabeled = self._relabel({NAME: name, **found})
            if relabeled is None:
                return None
            found = {key: value for key, value in relabeled.items() if value}
            name = found.pop(NAME, "")
            if not name:
                raise ParseError("metric_relabel_configs leave a series without a name")
            if any(len(text) > LONGEST_TEXT for text in (name, *found, *found.values())):
                raise ParseError(f"metric_relabel_configs make a text of more than {LONGEST_TEXT} characters")
        if self._limits is not None:
            self._limits.check({NAME: name, **found})
        # One object for the labels that many series share.
        pairs = tuple([self._pairs.setdefault(pair, pair) for pair in sorted(found.items())])
        if (name, pairs) in self._taken:
            return None
        return Series(name, pairs, family.type, family.unit, family.help)

    def _merged(self, exposed: dict[str, str]) -> dict[str, str]:
        if self._honor:
            return self._ours | exposed
        taken = sorted((key for key in self._ours if key in exposed), key=len)
        merged = exposed | self._ours
        for key in taken:
            other = f"exported_{key}"
            while other in merged:
                other = f"exported_{other}"
            merged[other] = exposed[key]
        return merged

    def rest(self) -> None:
        """Forget the shared labels: a series that comes later would gain less than they cost."""
        self._pairs.clear()
