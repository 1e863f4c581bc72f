"""The package's copyright file, made of what the libraries in it say of themselves.

Promise: Limpet and every library that is unpacked below `site` has a paragraph, with the whole text of its license, and so has
what is vendored in our own folders.
A library without a license file, or with a license that has no known name, is a SbomError.

Source: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/ (DEP-5).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from importlib.metadata import Distribution
from pathlib import Path

from tools.sbom import SbomError, license_of, said_of

HEAD = "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\nUpstream-Name: limpet\n"
APACHE = "On Debian systems the full text of the license is in /usr/share/common-licenses/Apache-2.0."
_MARK = re.compile(r"[\s*#]*copyright\s+((\(c\)|©)\s*)?", re.IGNORECASE)


def copyright_file(stage: Path, site: Path, tops: Mapping[str, Iterable[str]]) -> str:
    """Return the file for the libraries in `stage / site`, where `site` is their folder in the package.

    `tops` are the files and folders in it that are of a library, by the name of its metadata's folder.
    """
    infos = sorted((stage / site).glob("*.dist-info"), key=lambda path: path.name.lower())
    own = f"\nFiles: *\nCopyright: The Limpet authors\nLicense: Apache-2.0\n{indented(APACHE)}"
    return (
        HEAD
        + own
        + "".join(vendored(path, site) for path in sorted((stage / site).glob("agent/**/*.LICENSE")))
        + "".join(paragraph(i, site, tops[i.name]) for i in infos if not i.name.startswith("limpet-"))
    )


def paragraph(info: Path, site: Path, tops: Iterable[str]) -> str:
    """Return the paragraph of the library with this metadata. Raises SbomError where it has no license."""
    package = Distribution.at(info)
    name = package.metadata["Name"]
    texts = {path: path.read_text(encoding="utf-8", errors="replace") for path in license_files(info)}
    if not texts:
        raise SbomError(name, "has no license file", "Look for one; nothing may be shipped without.")
    holders = {
        _MARK.sub("", line).strip(): None
        for text in texts.values()
        for line in text.splitlines()
        if is_holder(line)
    }
    author = said_of(package, "Author", "Author-email") or "see the license"
    lines = [
        "\nFiles:",
        *(f" /{site / top}{'/*' * (info.parent / top).is_dir()}" for top in sorted(tops)),
        "\n",
    ]
    lines += ["Copyright: ", "\n ".join(holders or {author: None}), "\n"]
    lines += [f"License: {license_of(package).replace(' OR ', ' or ').replace(' AND ', ' and ')}\n"]
    for path, text in texts.items():
        known = "Apache License" in text and len(text) > 9000
        lines += [indented(f"{path.name}:\n\n{APACHE if known else text.strip()}\n")]
    if any(info.glob("sboms/*")):
        lines += [
            f"Comment: what is linked into it, with its licenses, is listed in\n /{site / info.name}/sboms.\n"
        ]
    return "".join(lines)


def vendored(path: Path, site: Path) -> str:
    """Return the paragraph of files that are in our own folders: NAME.LICENSE is of all NAME.*. Raises SbomError."""
    text = path.read_text(encoding="utf-8")
    if not text.startswith("The MIT License"):
        raise SbomError(path.name, "is not the MIT license", "Write its name in tools/debian_copyright.py.")
    holders = [_MARK.sub("", line).strip() for line in text.splitlines() if is_holder(line)]
    folder = site / str(path.parent).partition(f"{site}/")[2]
    lines = [
        "\nFiles: ",
        f"/{folder / path.stem}.*",
        "\nCopyright: ",
        "\n ".join(holders),
        "\nLicense: MIT\n",
    ]
    return "".join([*lines, indented(text)])


def license_files(info: Path) -> list[Path]:
    """Return the files with licenses in the metadata of a library."""
    wanted = re.compile(r"licen[cs]e|copying|notice", re.IGNORECASE)
    return sorted(path for path in info.rglob("*") if path.is_file() and wanted.search(path.name))


def is_holder(line: str) -> bool:
    """Whether a line of a license names who holds the copyright."""
    return (
        bool(re.match(r"[\s*#]*copyright\b.*(\d{4}|©|\(c\))", line, re.IGNORECASE)) and "[yyyy]" not in line
    )


def indented(text: str) -> str:
    """Return a text as the lines that continue a field: one blank in front, a dot where a line is empty."""
    return "".join(f" {line.rstrip() or '.'}\n" for line in text.strip().expandtabs().splitlines())
