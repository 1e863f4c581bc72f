"""The base class of every error that is meant for an operator; see `buffer.errors`."""

from __future__ import annotations

from buffer.errors import LimpetError

__all__ = ["LimpetError"]
