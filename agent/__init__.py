"""Limpet: the agent process. The disk buffer it writes to is the package `buffer`."""

__version__ = "0.1.0"
