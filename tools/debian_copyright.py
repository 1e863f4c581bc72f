"""The package's copyright file, made of what the libraries in it say of themselves.

Promise: Limpet and every library that is unpacked below `site` has a paragraph, with the whole text of its licence.
A library without a licence file, or with a licence that has no known name, is a SbomError.

Source: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/ (DEP-5).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.metadata import Distribution
from pathlib import Path

from tools.sbom import SbomError, licence

HEAD = "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\nUpstream-Name: limpet\n"
APACHE = "On Debian systems the full text of the licence is in /usr/share/common-licenses/Apache-2.0."


def copyright_file(stage: Path, site: Path) -> str:
    """Return the file for the libraries in `stage / site`, where `site` is their folder in the package."""
    infos = sorted((stage / site).glob("*.dist-info"), key=lambda path: path.name.lower())
    own = f"\nFiles: *\nCopyright: The Limpet authors\nLicense: Apache-2.0\n{indented(APACHE)}"
    return HEAD + own + "".join(paragraph(i, site) for i in infos if not i.name.startswith("limpet-"))


def paragraph(info: Path, site: Path) -> str:
    """Return the paragraph of the library with this metadata. Raises SbomError where it has no licence."""
    package = Distribution.at(info)
    name = package.metadata["Name"]
    texts = {path: path.read_text(encoding="utf-8", errors="replace") for path in licence_files(info)}
    if not texts:
        raise SbomError(name, "has no licence file", "Look for one; nothing may be shipped without.")
    holders = {
        line.strip(" *#\t"): None for text in texts.values() for line in text.splitlines() if is_holder(line)
    }
    author = package.metadata["Author"] or package.metadata["Author-email"] or "see the licence"
    lines = [f"\nFiles: {' '.join(f'/{site / top}' for top in tops(info))}\n"]
    lines += ["Copyright: ", "\n ".join(holders or {author: None}), "\n"]
    lines += [f"License: {licence(package).replace(' OR ', ' or ').replace(' AND ', ' and ')}\n"]
    for path, text in texts.items():
        known = "Apache License" in text and len(text) > 9000
        lines += [indented(f"{path.name}:\n\n{APACHE if known else text.strip()}\n")]
    if any(info.glob("sboms/*")):
        lines += [
            f"Comment: what is linked into it, with its licences, is listed in\n /{site / info.name}/sboms.\n"
        ]
    return "".join(lines)


def licence_files(info: Path) -> list[Path]:
    """Return the files with licences in the metadata of a library."""
    wanted = re.compile(r"licen[cs]e|copying|notice", re.IGNORECASE)
    return sorted(path for path in info.rglob("*") if path.is_file() and wanted.search(path.name))


def is_holder(line: str) -> bool:
    """Whether a line of a licence names who holds the copyright."""
    return (
        bool(re.match(r"[\s*#]*copyright\b.*(\d{4}|©|\(c\))", line, re.IGNORECASE)) and "[yyyy]" not in line
    )


def tops(info: Path) -> Iterator[str]:
    """Yield the patterns that cover a library's files."""
    listed = info / "top_level.txt"
    names = listed.read_text(encoding="utf-8").split() if listed.is_file() else [info.name.split("-")[0]]
    for name in sorted(set(names)):
        folder = info.parent / name
        yield f"{name}/*" if folder.is_dir() else f"{name}*"
    yield f"{info.name}/*"


def indented(text: str) -> str:
    """Return a text as the lines that continue a field: one blank in front, a dot where a line is empty."""
    return "".join(f" {line.rstrip() or '.'}\n" for line in text.strip().expandtabs().splitlines())
