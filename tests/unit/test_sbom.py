"""The bill of materials: what the lock has, with licenses, the same bytes each time, and valid."""

from __future__ import annotations

import hashlib
import importlib
import json
import re
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion

from tools import sbom

ENVIRONMENT = {"PATH": "/usr/bin", "SOURCE_DATE_EPOCH": "1700000000"}


@pytest.fixture(scope="module")
def text() -> str:
    return sbom.document("1.2.3", ENVIRONMENT)


@pytest.fixture(scope="module")
def bill(text: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(text)
    return found


def test_it_is_valid(text: str) -> None:
    validation = importlib.import_module(
        "cyclonedx.validation.json"
    )  # takes seconds: not at the start of each process
    assert validation.JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None


def test_it_names_what_the_lock_has_with_its_hashes_and_a_license(bill: dict[str, Any]) -> None:
    lock = sbom.LOCK.read_text()
    locked = dict(re.findall(r"^([a-z0-9-]+)==(\S+)", lock, re.MULTILINE))
    components = {one["name"]: one for one in bill["components"] if ":npm/" not in one["purl"]}
    assert {name: one["version"] for name, one in components.items()} == locked
    hashes = [
        hashed["content"]
        for one in components.values()
        for reference in one["externalReferences"]
        for hashed in reference["hashes"]
    ]
    assert sorted(hashes) == sorted(re.findall(r"sha256:([0-9a-f]{64})", lock))
    assert components["structlog"]["licenses"][0]["expression"] == "MIT OR Apache-2.0"
    assert all(one["licenses"][0]["expression"] for one in components.values())


def test_it_names_what_is_vendored(bill: dict[str, Any]) -> None:
    (found,) = [one for one in bill["components"] if ":npm/" in one["purl"]]
    code = (sbom.PAGE / "uplot.js").read_bytes()
    assert f"(v{found['version']})".encode() in code[:100]
    assert found["hashes"] == [{"alg": "SHA-256", "content": hashlib.sha256(code).hexdigest()}]


def test_it_says_what_needs_what(bill: dict[str, Any]) -> None:
    names = {one["bom-ref"]: one["name"] for one in bill["components"]}
    needs = {one["ref"]: [names[ref] for ref in one.get("dependsOn", [])] for one in bill["dependencies"]}
    root = bill["metadata"]["component"]
    assert (root["name"], root["version"]) == ("limpet", "1.2.3")
    assert {"httpx", "msgspec", "psutil"} <= set(needs[root["bom-ref"]])
    assert "anyio" not in needs[root["bom-ref"]]
    reached: set[str] = set()
    todo = [root["bom-ref"]]
    refs = {name: ref for ref, name in names.items()}
    while todo:
        for name in needs[todo.pop()]:
            if name not in reached:
                reached.add(name)
                todo.append(refs[name])
    assert reached == set(names.values())


def test_the_same_bytes_each_time_and_no_address_of_this_machine(text: str) -> None:
    elsewhere = ENVIRONMENT | {"PIP_INDEX_URL": "https://mirror.example.com/simple", "TZ": "Asia/Tokyo"}
    assert sbom.document("1.2.3", elsewhere) == text
    assert "2023-11-14T22:13:20" in text
    assert "/simple" not in text
