"""Destinations that are files in a folder: the `file` section (docs/file.md)."""

from __future__ import annotations

from typing import Literal
from urllib.parse import quote

from agent.config import values as v
from agent.config.destination import DestinationConfig, unless_given
from agent.config.section import Given, Problem, Problems

_ORDER = "Remove it: files are written in the order of the samples."


class File(DestinationConfig, frozen=True, kw_only=True):
    """A folder, mostly on a medium that comes and goes. `mount_point` is the folder where that is mounted; None: `path`."""

    shown = ("name", "path")
    elsewhere = {
        "url": "Write path, the folder that the files are in.",
        "link": "Remove it: there is no link on the way to a folder.",
        "max_bandwidth": "Remove it: there is no link on the way to a folder.",
        "drain_order": _ORDER,
        "send_window": _ORDER,
    }

    path: v.Place
    mount_point: v.Place | None = None
    format: Literal["jsonl", "segments", "openmetrics"] = "jsonl"
    max_age: v.Duration = 600.0

    @property
    def where(self) -> str:
        """The folder as a URL."""
        return f"file://{quote(self.path)}"

    @property
    def mounted(self) -> str:
        """The folder on which the medium has to be mounted."""
        return self.mount_point or self.path

    @staticmethod
    def rules(got: Given) -> Problems:
        """Let `max_age` be the deadline of a batch; require the path to be at the mount point, or below."""
        yield from DestinationConfig.rules(got)
        path, mounted = got["path"], got["mount_point"]
        if got["max_age"] is not None:
            unless_given(got, {"queue_config.batch_send_deadline": got["max_age"]})
        if path == "/":
            yield Problem("path", "it is the root of this host", "Give the folder on the medium.")
        elif path and mounted and not f"{path}/".startswith(f"{mounted.rstrip('/')}/"):
            yield Problem(
                "mount_point",
                f"{path} is not below it",
                "Give the folder above path on which the medium is mounted.",
            )
