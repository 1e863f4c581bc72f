"""Destinations of the type `file` for tests: how one is made, and how its files are read, as a replay does."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from agent.config import File, QueueConfig
from agent.destinations.file.medium import MARKER
from agent.destinations.file.store import MANIFEST
from agent.ops.replay.files import Files, look, paths
from buffer.model import Tick
from tests.support.sending import labels_of
from tests.support.server import Samples

OFTEN = QueueConfig(batch_send_deadline=0.02, max_samples_per_send=20)


def folder(path: Path, **settings: Any) -> File:
    """A destination to which small batches go at once, in a folder with a marker."""
    path.mkdir(parents=True, exist_ok=True)
    (path / MARKER).touch()
    given = {"path": str(path), "name": "there", "remote_timeout": 5.0, "queue_config": OFTEN, **settings}
    return File(**given)


def ticks_of(path: Path) -> list[Tick]:
    """Everything in the files below a folder, in their order."""
    plays = [look(one) for one in paths([str(path)])]
    return [tick for piece in Files(plays, {}).pieces(0) for tick in piece.ticks]


def samples_of(path: Path) -> Samples:
    """The same by labels; a sample that is there twice is here twice."""
    return by_labels(ticks_of(path))


def by_labels(ticks: Iterable[Tick]) -> Samples:
    """The samples of ticks by the labels of their series, in their order."""
    found = Samples()
    for tick in ticks:
        for series, value in zip(tick.series, tick.values, strict=True):
            found.setdefault(labels_of(series), []).append((tick.at.wall_ms, value))
    return found


def manifests(path: Path) -> list[dict[str, Any]]:
    """The manifests below a folder, in the order of their files; each is of a whole file."""
    found = []
    for one in sorted(path.rglob(f"*{MANIFEST}")):
        manifest = json.loads(one.read_bytes())
        data = one.with_name(manifest["file"]).read_bytes()
        assert (manifest["bytes"], manifest["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
        found.append(manifest)
    return found


def text_of(path: Path) -> list[str]:
    """What is in the compressed text files below a folder."""
    return [gzip.decompress(one.read_bytes()).decode() for one in sorted(path.rglob("*.gz"))]
