"""What is handed to other programs: Kubernetes' manifests against its schema, launchd's plist, and that both agree with the rest."""

from __future__ import annotations

import copy
import importlib
import json
import plistlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent.cli import registry
from agent.config import load
from tools import sbom

PACKAGING = Path(__file__).resolve().parents[2] / "packaging"
KUBERNETES = PACKAGING / "kubernetes"
DOCKERFILE = (PACKAGING / "container" / "Dockerfile").read_text()
MANIFESTS = sorted(path for path in KUBERNETES.glob("*.yaml") if path.name != "kustomization.yaml")
VERSIONS = ("1.28", "1.37")
UID = 10001


def read(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((KUBERNETES / name).read_text())
    return found


def kubernetes_validate() -> Any:
    """Return the library. Its import takes seconds, and every process of a suite would pay them at its start."""
    return importlib.import_module("kubernetes_validate")


def valid(manifest: dict[str, Any], version: str) -> None:
    kubernetes_validate().validate(manifest, version, strict=True)


@pytest.mark.parametrize("version", VERSIONS)
def test_every_manifest_is_valid(version: str) -> None:
    for path in MANIFESTS:
        valid(yaml.safe_load(path.read_text()), version)


def broken() -> Iterator[tuple[str, dict[str, Any]]]:
    """The daemon set, each time with one mistake that a person makes."""

    def changed() -> tuple[dict[str, Any], dict[str, Any]]:
        manifest = copy.deepcopy(read("daemonset.yaml"))
        return manifest, manifest["spec"]["template"]["spec"]

    manifest, pod = changed()
    pod["hostnetwork"] = pod.pop("hostNetwork")
    yield "a key in the wrong case", manifest
    manifest, pod = changed()
    pod["terminationGracePeriodSeconds"] = "15s"
    yield "a duration for a number", manifest
    manifest, _ = changed()
    del manifest["spec"]["selector"]
    yield "no selector", manifest
    manifest, pod = changed()
    pod["containers"][0]["securityContext"]["readOnlyRootFilesystem"] = "yes"
    yield "a word for a boolean", manifest


@pytest.mark.parametrize("manifest", [pytest.param(manifest, id=what) for what, manifest in broken()])
def test_a_broken_one_is_not(manifest: dict[str, Any]) -> None:
    with pytest.raises(kubernetes_validate().ValidationError):
        valid(manifest, VERSIONS[-1])


def test_the_pod_has_no_rights() -> None:
    pod = read("daemonset.yaml")["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": UID,
        "runAsGroup": UID,
        "fsGroup": UID,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    for container in (*pod["containers"], *pod["initContainers"]):
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["readOnlyRootFilesystem"] is True
        assert context["capabilities"]["drop"] == ["ALL"]
        assert container["resources"]["limits"]["memory"]
    [main] = pod["containers"]
    assert "add" not in main["securityContext"]["capabilities"]
    writable = [mount["name"] for mount in main["volumeMounts"] if not mount.get("readOnly")]
    assert writable == ["data"]
    assert not {"hostPID", "hostIPC"} & set(pod)


def test_it_agrees_with_the_image_and_with_the_agent() -> None:
    pod = read("daemonset.yaml")["spec"]["template"]["spec"]
    [main] = pod["containers"]
    assert f"USER {UID}:{UID}" in DOCKERFILE
    assert main["args"] == json.loads(DOCKERFILE.rpartition("CMD ")[2])
    for probe in ("livenessProbe", "readinessProbe"):
        limpet, *words = main[probe]["exec"]["command"]
        assert (limpet, registry.build().parse_args(words).command) == ("limpet", "buffer status")
    config = load(read("configmap.yaml")["data"]["limpet.yaml"], "limpet.yaml").config
    mounts = {mount["mountPath"] for mount in main["volumeMounts"]}
    [to] = config.remote_write
    assert to.basic_auth is not None
    assert {
        str(Path(str(to.basic_auth.password_file)).parent),
        config.data_dir,
        config.collect.host_root,
    } <= mounts
    assert set(read("secret.example.yaml")["stringData"]) == {"password", "ca.pem"}
    kustomization = read("kustomization.yaml")
    there = {path.name for path in MANIFESTS} - {"secret.example.yaml"}
    assert set(kustomization["resources"]) == there
    tags = {container["image"] for container in (*pod["containers"], *pod["initContainers"])}
    version = re.search(r"^ARG VERSION=(.+)$", DOCKERFILE, re.MULTILINE)
    assert version is not None
    assert tags == {f"limpet:{version[1]}"}
    assert kustomization["images"][0]["newTag"] == version[1]


def test_the_plist_of_macos_can_be_read() -> None:
    plist = plistlib.loads((PACKAGING / "launchd" / "org.limpet.agent.plist").read_bytes())
    _, *words = plist["ProgramArguments"]
    assert registry.build().parse_args(words).config == "/etc/limpet/limpet.yaml"
    assert (plist["Umask"], plist["KeepAlive"]) == (0o077, {"SuccessfulExit": False})
    assert plist["Label"] == "org.limpet.agent"


def test_the_bill_of_materials_next_to_the_lock_is_of_this_lock() -> None:
    """The image takes it from there. `make sbom` writes it again."""
    assert (sbom.LOCK.parent / "run.cdx.json").read_text() == sbom.document()
