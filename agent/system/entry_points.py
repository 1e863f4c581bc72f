"""What other packages bring along for the agent: entry points (packaging.python.org, "Entry points specification").

Nothing is looked for and nothing imported until somebody names one.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from buffer.errors import LimpetError


class PluginFailed(LimpetError):
    """What an installed package brings along cannot be used."""


def names(group: str) -> list[str]:
    """Return the names of the installed entry points of a group."""
    return sorted(_entry_points(group).names)


@cache
def load(group: str, name: str, what: str) -> Any:
    """Return what the installed entry point leads to; None if there is none. `what` is a word for it.

    Raises PluginFailed where two packages bring one of this name, or it cannot be imported.
    """
    entries = _entry_points(group).select(name=name)
    if not entries:
        return None
    if len(entries) > 1:
        made_by = " and ".join(sorted(entry.dist.name if entry.dist else "?" for entry in entries))
        raise PluginFailed(name, f"{made_by} both bring a {what} of this name", "Uninstall one of them.")
    (entry,) = entries
    try:
        return entry.load()
    except (Exception, SystemExit) as error:
        why = f"{entry.value} cannot be loaded: {type(error).__name__}: {error}"
        raise PluginFailed(name, why, "Repair or uninstall the package, or remove this key.") from None


def _entry_points(group: str) -> Any:
    from importlib.metadata import entry_points  # costs memory: only who names one pays for it

    return entry_points(group=group)
