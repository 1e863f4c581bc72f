"""The on-disk write-ahead buffer.  It knows nothing of HTTP, psutil, or the agent.

These names are its public face, together with `buffer.inspect`.  A module is imported when a name of it is first used:
no command pays for more than it needs.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from buffer.buffer import Buffer
    from buffer.cursor import Cursor
    from buffer.cursors import Listener
    from buffer.errors import BufferFull, BufferInUse, LimpetError, NewerFormat
    from buffer.limits import Limits, Tiers
    from buffer.model import Chunk, Instant, Series, Tick
    from buffer.quarantine import Quarantine
    from buffer.sheltered import ShelteredBuffer

__all__ = [
    "Buffer",
    "BufferFull",
    "BufferInUse",
    "Chunk",
    "Cursor",
    "Instant",
    "Limits",
    "LimpetError",
    "Listener",
    "NewerFormat",
    "Quarantine",
    "Series",
    "ShelteredBuffer",
    "Tick",
    "Tiers",
]
_HOME = {
    "Buffer": "buffer",
    "Listener": "cursors",
    "Cursor": "cursor",
    "Limits": "limits",
    "Tiers": "limits",
    "Quarantine": "quarantine",
    "ShelteredBuffer": "sheltered",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = _HOME.get(name, "model" if name in ("Chunk", "Instant", "Series", "Tick") else "errors")
    return getattr(import_module(f"buffer.{home}"), name)
