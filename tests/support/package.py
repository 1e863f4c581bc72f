"""Packages as an installer leaves them: a module, and its metadata next to it."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path

GROUP = "limpet.collectors"


def install(
    folder: Path, module: str, code: str, entry_points: Mapping[str, str], group: str = GROUP
) -> None:
    """Put a module into a folder of sys.path, with these entry points, for collectors where nothing else is said."""
    name = module.replace("_", "-")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{module}.py").write_text(code)
    info = folder / f"{module}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    lines = "".join(f"{key} = {value}\n" for key, value in entry_points.items())
    (info / "entry_points.txt").write_text(f"[{group}]\n{lines}")
    importlib.invalidate_caches()
