"""Label tuples made once per device, so that the same series is the same object in every run."""

from __future__ import annotations

from collections.abc import Callable, Container

from agent.collectors.files import label
from agent.collectors.metric import Labels

MOST = 2048  # names come and go on a host of containers: beyond this all are forgotten between two runs


class Names(dict[bytes, Labels | None]):
    """`names[raw]` is the one label `key` with the name, or None for a name that is left out.

    Left out is what is not `wanted`, and what `hidden(raw, names)` says, which sees all names met.
    """

    def __init__(
        self,
        key: str,
        wanted: Callable[[str], bool],
        hidden: Callable[[bytes, Container[bytes]], bool] | None = None,
    ) -> None:
        self._key, self._wanted, self._hidden = key, wanted, hidden

    def begin(self) -> None:
        """Forget what is too much to remember; to be called before a run, because a run needs all it meets."""
        if len(self) > MOST:
            self.clear()

    def __missing__(self, raw: bytes) -> Labels | None:
        name = label(raw)
        left_out = not self._wanted(name) or (self._hidden and self._hidden(raw, self))
        self[raw] = found = None if left_out else ((self._key, name),)
        return found
