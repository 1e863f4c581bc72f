"""Destinations of a type that another package brings along: the `custom` section (docs/own-destinations.md)."""

from __future__ import annotations

from agent.config import values as v
from agent.config.destination import HttpDestination
from agent.config.section import Given, Problem, Problems
from agent.system import entry_points

GROUP = "limpet.destinations"


class Custom(HttpDestination, frozen=True, kw_only=True):
    """A destination of an installed type, which is the name of an entry point. The type reads `options` itself."""

    type: v.Words
    options: dict[v.Words, v.Anything] = {}

    @property
    def kind(self) -> str:
        """The type's own name."""
        return self.type

    @staticmethod
    def rules(got: Given) -> Problems:
        """Require the type to be installed, and to be a function."""
        yield from HttpDestination.rules(got)
        name = got["type"]
        if name is None:
            return
        try:
            build = entry_points.load(GROUP, name, "destination type")
        except entry_points.PluginFailed as error:
            yield Problem("type", error.what, error.do)
            return
        if build is None:
            installed = ", ".join(entry_points.names(GROUP)) or "none"
            yield Problem("type", f"no type {name!r} is installed", f"Installed here: {installed}.")
        elif not callable(build):
            what = f"the type {name!r} is a {type(build).__name__}, not a function"
            yield Problem("type", what, "docs/own-destinations.md says what it must be.")
