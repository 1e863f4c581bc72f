"""Label tuples made once per device, so that the same series is the same object in every run."""

from __future__ import annotations

import re
from collections.abc import Callable, Container

from agent.collectors.files import label
from agent.collectors.metric import Labels

MOST = 2048  # names come and go on a host of containers: beyond this all are forgotten and made again


class Names(dict[bytes, Labels | None]):
    """`names[raw]` is the one label `key` with the name, or None for a name that is left out.

    Left out is what `exclude` matches whole, and what `hidden(raw, names)` says, which sees all names met.
    """

    def __init__(
        self,
        key: str,
        exclude: re.Pattern[str],
        hidden: Callable[[bytes, Container[bytes]], bool] | None = None,
    ) -> None:
        self._key, self._exclude, self._hidden = key, exclude, hidden

    def __missing__(self, raw: bytes) -> Labels | None:
        if len(self) >= MOST:
            self.clear()
        name = label(raw)
        left_out = self._exclude.fullmatch(name) or (self._hidden and self._hidden(raw, self))
        self[raw] = found = None if left_out else ((self._key, name),)
        return found
