"""The software bill of materials of what is shipped (CycloneDX 1.6, JSON): `python -m tools.sbom > sbom.cdx.json`.

Promise: it names Limpet, everything in requirements/run.txt with the hashes of the lock, what is vendored with the hashes of
its files, each one's license, and who needs whom. The same tree gives the same bytes: the only time in it is SOURCE_DATE_EPOCH, where that is set.
The Debian package and the image ship the same document.

cyclonedx-py reads the lock. What it cannot know from there (licenses, dependencies, Limpet's version) comes from
the metadata of the same packages in this environment; SbomError where a version in it is not the locked one.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from importlib.metadata import Distribution, distribution
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

import agent
from buffer.errors import LimpetError

ROOT = Path(__file__).resolve().parents[1]
LOCK = ROOT / "requirements" / "run.txt"
PAGE = ROOT / "agent" / "serve" / "page"
_OLD_NAMES = {  # what packages say in the field License, or as a classifier, where SPDX has a name for it
    "BSD": "BSD-3-Clause",
    "License :: OSI Approved :: BSD License": "BSD-3-Clause",
    "License :: OSI Approved :: MIT License": "MIT",
}

# On the oldest Python most is needed; and what is written does not depend on the one that writes it.
_OLDEST = {"extra": "", "python_version": "3.11", "python_full_version": "3.11.0"}


class SbomError(LimpetError):
    """The bill cannot be written."""


def document(version: str = agent.__version__, environ: Mapping[str, str] = os.environ) -> str:
    """Return the bill for this version of Limpet."""
    found = _from_lock(environ)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    root = found["metadata"]["component"]
    extras = project["optional-dependencies"]
    needed = project["dependencies"] + extras["re2"] + extras["serve"]
    root |= {"version": version, "purl": f"pkg:generic/limpet@{version}"}
    components = {component["name"]: component for component in found["components"]}
    packages = {name: _installed(component) for name, component in components.items()}
    for name, component in components.items():
        del component["description"]  # the lock's line with its hashes, which follow as `hashes`
        for reference in component["externalReferences"]:
            reference["url"] = component["purl"]  # not the index that this machine happens to use
        component["licenses"] = [{"expression": license_of(packages[name]), "acknowledgement": "declared"}]
    refs = {name: component["bom-ref"] for name, component in components.items()}
    found["dependencies"] = [
        {"ref": root["bom-ref"], "dependsOn": _needs(needed, refs)},
        *({"ref": refs[name], "dependsOn": _needs(packages[name].requires, refs)} for name in components),
    ]
    found["components"].append(vendored())
    found["dependencies"][0]["dependsOn"].append(vendored()["bom-ref"])
    found["dependencies"].append({"ref": vendored()["bom-ref"]})
    return json.dumps(found, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def vendored() -> dict[str, Any]:
    """Return the component that is vendored: the charts of the page. Its version is in the first line of its file."""
    code = (PAGE / "uplot.js").read_bytes()
    version = re.search(rb"uPlot \(v([\d.]+)\)", code)
    if version is None:
        raise SbomError("uplot.js", "has no version in its first line", "Vendor it as it was published.")
    purl = f"pkg:npm/uplot@{version[1].decode()}"
    return {
        "bom-ref": purl,
        "type": "library",
        "name": "uplot",
        "version": version[1].decode(),
        "purl": purl,
        "hashes": [{"alg": "SHA-256", "content": hashlib.sha256(code).hexdigest()}],
        "licenses": [{"expression": "MIT", "acknowledgement": "declared"}],
    }


def license_of(package: Distribution) -> str:
    """Return the SPDX expression of a package's license. Raises SbomError where it says none that is known."""
    said = said_of(package, "License-Expression", "License")
    for word in (said, *([] if said else package.metadata.get_all("Classifier") or ())):
        if word in _OLD_NAMES:
            return _OLD_NAMES[word]
    if re.fullmatch(r"[A-Za-z0-9.+-]+( (OR|AND|WITH) [A-Za-z0-9.+-]+)*", said):
        return said
    raise SbomError(
        package.metadata["Name"],
        f"states an unknown license: {said!r}",
        "Add its SPDX name in tools/sbom.py.",
    )


def said_of(package: Distribution, *fields: str) -> str:
    """Return the first of these fields of a package's metadata that it has, empty where it has none."""
    return next((text for field in fields for text in package.metadata.get_all(field) or () if text), "")


def _from_lock(environ: Mapping[str, str]) -> Any:
    command: list[str | Path] = [sys.executable, "-W", "ignore", "-m", "cyclonedx_py", "requirements"]
    command += [
        "--pyproject",
        ROOT / "pyproject.toml",
        "--output-reproducible",
        "--sv",
        "1.6",
        "--no-validate",
        LOCK,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=dict(environ))
    if done.returncode:
        raise SbomError(str(LOCK), f"cyclonedx-py: {done.stderr.strip()}", "Look at the lock.")
    return json.loads(done.stdout)


def _installed(component: Mapping[str, str]) -> Distribution:
    found = distribution(component["name"])
    if found.version != component["version"]:
        raise SbomError(
            component["name"],
            f"this environment has {found.version}, the lock {component['version']}",
            "Set the environment up again: rm .venv/.ready, then make check.",
        )
    return found


def _needs(requires: list[str] | None, refs: Mapping[str, str]) -> list[str]:
    wanted = [Requirement(line) for line in requires or ()]
    named = {_normal(one.name) for one in wanted if one.marker is None or one.marker.evaluate(_OLDEST)}
    return sorted(ref for name, ref in refs.items() if _normal(name) in named)


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    sys.stdout.write(document())
