"""The labels of a series as a destination gets them: after its relabeling, without empty ones, as valid text."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from agent.config import DestinationConfig
from buffer.model import Series

Relabel = Callable[[Mapping[str, str]], dict[str, str] | None]
"""What becomes of labels, `__name__` among them; None, and a result without a name: the series is not sent."""


def relabeling(to: DestinationConfig) -> Relabel | None:
    """Return the rules of a destination as one; None: there are none."""
    if not to.write_relabel_configs:
        return None
    from agent.relabel import compile_rules  # nobody else pays for it

    return compile_rules(to.write_relabel_configs)


def final(series: Series, relabel: Relabel | None) -> dict[str, str] | None:
    """Return the labels, `__name__` among them; None: the series is not sent."""
    found: dict[str, str] | None = {
        _clean(name): _clean(value)
        for name, value in (*series.labels, ("__name__", series.name))
        if name and value
    }
    if found is not None and relabel is not None:
        found = relabel(found)
    if not found or not found.get("__name__"):
        return None
    return {name: value for name, value in found.items() if name and value}


def utf8(text: str) -> bytes:
    """The text as UTF-8. What is not valid unicode (a mount point may hold any bytes) is written as an escape,
    since one such name must not cost the request.
    """
    return text.encode("utf-8", "backslashreplace")


def _clean(text: str) -> str:
    return text if text.isascii() else utf8(text).decode()
