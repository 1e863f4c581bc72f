"""The files of packaging/compose agree with each other and with the rest of the project, and set-up makes what they name.

What no container engine and no Grafana or Mimir proves here is proved as far as files go: the schema of compose files,
every path that is mounted, every secret, every name and port, every password against the hash that its server has.
"""

from __future__ import annotations

import re
import shutil
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bcrypt
import pytest
import yaml

from agent.config import load
from tests.support.compose import PROJECT, VARIABLE, mounts, read
from tests.support.run import output, run

FOLDER = PROJECT / "packaging" / "compose"
FILES = ("compose.yaml", "compose.year.yaml", "compose.mimir.yaml")
PORTS = {"prometheus": 9090, "alertmanager": 9093, "grafana": 3000, "mimir": 8080, "year": 9091}
TENANT = "limpet"
NAMES = {"STACK_NAMES": "metrics.example.com 192.0.2.10 2001:db8::1", "STACK_HOSTS": "web-01 web-02"}


def stacks() -> Iterator[tuple[str, dict[str, dict[str, Any]]]]:
    for name in FILES:
        yield name, read(FOLDER / name)


def document(path: str) -> Any:
    return yaml.safe_load((FOLDER / path).read_text())


def set_up(folder: Path, **variables: str) -> list[str]:
    """Run setup.sh, and return what it says that it has made."""
    done = run("sh", FOLDER / "setup.sh", folder, env={"PATH": "/usr/bin:/bin", **variables})
    assert (done.returncode, done.stderr) == (0, "")
    return [line.removeprefix("setup: ") for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stack") / "secrets"
    set_up(folder, **NAMES)
    return folder


def test_compose_files_are_of_the_compose_specification() -> None:
    check = (sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec")
    output(*check, *(FOLDER / name for name in FILES))


def test_everything_mounted_is_there_or_is_made(secrets: Path) -> None:
    made = {"setup.sh", "mimir.yaml", "secrets", "receivers"}
    for file, services in stacks():
        volumes = set(yaml.safe_load((FOLDER / file).read_text())["volumes"])
        for name, service in services.items():
            for mount in mounts(service):
                where = f"{file}: {name}: {mount}"
                if mount.named:
                    assert mount.source in volumes, where
                elif mount.source.startswith("./secrets/"):
                    assert (secrets / mount.source.removeprefix("./secrets/")).is_dir(), where
                elif mount.source.removeprefix("./") not in made:
                    assert (FOLDER / mount.source).exists(), where
                if not mount.named and name != "setup":
                    assert mount.read_only, f"{file}: {name} may write to {mount.source}"


def test_setup_sees_each_volume_and_each_secret() -> None:
    for file, services in stacks():
        own = {mount.source for mount in mounts(services["setup"])}
        for name, service in services.items():
            named = {mount.source for mount in mounts(service) if mount.named}
            assert named <= own, f"{file}: {name}: nobody gives these to its user: {named - own}"
            if name != "setup":
                assert service["depends_on"] == {"setup": {"condition": "service_completed_successfully"}}


@pytest.mark.parametrize("file", FILES)
def test_services_are_confined_and_pinned(file: str) -> None:
    for name, service in read(FOLDER / file).items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert "privileged" not in service, name
        if name == "setup":
            assert service["network_mode"] == "none"
            assert re.search(r"FROM debian:\d+\.\d+-slim\n", service["build"]["dockerfile_inline"])
            continue
        uid = service["user"].partition(":")[0]
        assert uid.isdigit() and int(uid) > 0, name
        if "build" not in service:
            assert re.fullmatch(r"[\w/]+:v?\d+\.\d+\.\d+", service["image"]), name
        for port in service.get("ports", []):
            published = f"127.0.0.1:{PORTS[name]}:{PORTS[name]}"
            assert port == published, "published to this machine alone by default"


@pytest.mark.parametrize(
    ("name", "without", "changed"),
    [
        ("mimir", {"prometheus"}, {"limpet": "./limpet.mimir.yaml"}),
        ("year", set(), {"prometheus": "./prometheus.year.yml"}),
    ],
)
def test_the_other_stacks_differ_only_where_they_must(
    name: str, without: set[str], changed: dict[str, str]
) -> None:
    differs = changed | {"setup": f"{name}:/volumes/{name}", "grafana": f"datasources/{name}.yaml"}
    one, other = read(FOLDER / "compose.yaml"), read(FOLDER / f"compose.{name}.yaml")
    assert one.keys() - other.keys() == without
    assert other.keys() - one.keys() == {name}
    for name in one.keys() & other.keys():
        new = set(other[name].pop("volumes")) - set(one[name].pop("volumes"))
        assert one[name] == other[name]
        assert bool(new) == (name in differs)
        assert all(differs[name] in volume or volume.endswith(":/stack/rules:ro") for volume in new)


def test_the_example_has_every_variable_with_its_default() -> None:
    texts = "".join((FOLDER / name).read_text() for name in FILES)
    used = {(found["name"], found["default"] or "") for found in VARIABLE.finditer(texts)}
    shown = dict(re.findall(r"^#(\w+)=(.*)$", (FOLDER / ".env.example").read_text(), re.MULTILINE))
    examples = {"STACK_NAMES", "STACK_HOSTS"}  # empty, if not set
    assert used == {(name, "" if name in examples else value) for name, value in shown.items()}


# By program: the files that name what it reads below /secrets.
SOURCES = [f"grafana/datasources/{name}.yaml" for name in ("prometheus", "mimir", "year")]
NAMED = {
    "prometheus": ("compose.yaml", "prometheus.yml", "prometheus.year.yml"),
    "alertmanager": ("compose.yaml",),
    "grafana": ("compose.yaml", *SOURCES),
    "year": ("compose.year.yaml",),
    "mimir": ("compose.mimir.yaml", "mimir.yaml"),
    "limpet": ("limpet.yaml", "limpet.mimir.yaml"),
}


def test_every_secret_named_is_made_and_nobody_else_can_read_it(secrets: Path) -> None:
    for program, files in NAMED.items():
        for file in files:
            text = (FOLDER / file).read_text()
            if file.startswith("compose"):
                text = yaml.safe_dump(read(FOLDER / file)[program])
            for name in re.findall(r"(?<!\.)/secrets/([\w.-]+)", text):
                assert (secrets / program / name).is_file(), f"{file}: {program}: {name}"
    for path in secrets.rglob("*"):
        assert not stat.S_IMODE(path.stat().st_mode) & 0o077, path


def test_every_address_is_a_service_with_that_port_and_name(secrets: Path) -> None:
    for file, services in stacks():
        texts = [yaml.safe_dump(services)]
        for service in services.values():
            for mount in mounts(service):
                path = FOLDER / mount.source
                own = path.is_relative_to(FOLDER) and path.parent != FOLDER.parent
                if own and path.suffix in (".yaml", ".yml"):
                    texts.append(path.read_text())
        if "mimir" in services:
            texts.append((FOLDER / "mimir.yaml").read_text())
        found = set(re.findall(rf"\b({'|'.join(PORTS)}):(\d{{4,5}})\b", "\n".join(texts)))
        assert found, file
        for name, port in found:
            assert PORTS[name] == int(port), f"{file}: {name}:{port}"
            assert name in services, f"{file}: {name}"
        assert "http://" not in "\n".join(texts)


@pytest.mark.parametrize("server", PORTS)
def test_certificates_are_for_their_names_and_of_the_authority(secrets: Path, server: str) -> None:
    cert = f"{server}/server.crt"
    for name in (server, "localhost", "metrics.example.com"):
        assert verified(secrets, cert, "sslserver", "-verify_hostname", name)
    for address in ("127.0.0.1", "192.0.2.10", "2001:db8::1"):
        assert verified(secrets, cert, "sslserver", "-verify_ip", address)
    assert not verified(secrets, cert, "sslserver", "-verify_hostname", "elsewhere.example.com")
    assert not verified(secrets, cert, "sslclient")  # a server's certificate opens no door at Mimir


@pytest.mark.parametrize("client", ["grafana/client", "limpet/client", "hosts/web-01/client"])
def test_clients_certificates_are_for_clients_only(secrets: Path, client: str) -> None:
    assert verified(secrets, f"{client}.crt", "sslclient")
    assert not verified(secrets, f"{client}.crt", "sslserver")


def verified(secrets: Path, cert: str, purpose: str, *more: str) -> bool:
    """Whether a certificate below `secrets` is its authority's, and for this purpose."""
    how = ("-x509_strict", "-CAfile", secrets / "ca/ca.pem", "-purpose", purpose, *more)
    return run("openssl", "verify", *how, secrets / cert).returncode == 0


def test_servers_have_the_hash_of_each_users_password_and_no_two_are_alike(secrets: Path) -> None:
    passwords = {path.name: path.read_text() for path in (secrets / "passwords").iterdir()}
    assert len(set(passwords.values())) == len(passwords) == 14
    assert all(re.fullmatch("[0-9a-f]{40}", password) for password in passwords.values())
    for server in ("prometheus", "alertmanager", "year"):
        web = yaml.safe_load((secrets / server / "web.yml").read_text())
        users = {name.partition("@")[0] for name in passwords if name.endswith(f"@{server}")}
        assert web["basic_auth_users"].keys() == users
        for user, hashed in web["basic_auth_users"].items():
            assert bcrypt.checkpw(passwords[f"{user}@{server}"].encode(), hashed.encode())
    # Each client's file has what its server expects of it.
    for client, user, server in (
        ("limpet/password", "limpet", "prometheus"),
        ("hosts/web-02/password", "web-02", "prometheus"),
        ("grafana/prometheus-password", "grafana", "prometheus"),
        ("grafana/alertmanager-password", "grafana", "alertmanager"),
        ("grafana/admin-password", "admin", "grafana"),
        ("prometheus/alertmanager-password", "prometheus", "alertmanager"),
        ("prometheus/prometheus-password", "prometheus", "prometheus"),
        ("prometheus/year-password", "prometheus", "year"),
        ("grafana/year-password", "grafana", "year"),
        ("year/prometheus-password", "year", "prometheus"),
    ):
        assert (secrets / client).read_text() == passwords[f"{user}@{server}"]
    assert (
        document("prometheus.yml")["alerting"]["alertmanagers"][0]["basic_auth"]["username"] == "prometheus"
    )
    assert document("limpet.yaml")["remote_write"][0]["basic_auth"]["username"] == "limpet"
    for file in SOURCES:
        for source in document(file)["datasources"]:
            assert source.get("basicAuthUser", "grafana") == "grafana"
            assert ("basicAuthUser" in source) == ("basicAuthPassword" in source["secureJsonData"])
    limits = yaml.safe_load((secrets / "mimir/mimir.yaml").read_text())["limits"]
    mimir = limits["ruler_alertmanager_client_config"]
    assert mimir["basic_auth_password"] == passwords[f"{mimir['basic_auth_username']}@alertmanager"]


def test_setup_again_changes_nothing_and_makes_only_what_is_missing(secrets: Path, tmp_path: Path) -> None:
    copy = tmp_path / "secrets"
    shutil.copytree(secrets, copy)  # copies have the times of their originals

    def contents() -> dict[str, bytes]:
        return {str(path.relative_to(copy)): path.read_bytes() for path in copy.rglob("*") if path.is_file()}

    before = contents()
    assert set_up(copy, **NAMES) == ["done"]
    assert contents() == before

    # A host is struck off: its password goes, and with it its place in Prometheus's web configuration.
    (copy / "passwords/web-02@prometheus").unlink()
    assert set_up(copy, **NAMES | {"STACK_HOSTS": "web-01"}) == [
        "the web configuration of prometheus",
        "done",
    ]
    assert "web-02" not in (copy / "prometheus/web.yml").read_text()

    # Another name: new certificates of servers, with the same keys and authority.
    said = set_up(copy, STACK_NAMES="other.example.com", STACK_HOSTS="web-01")
    assert [line.split(" (")[0] for line in said[:-1]] == [f"a certificate for {name}" for name in PORTS]
    assert verified(copy, "mimir/server.crt", "sslserver", "-verify_hostname", "other.example.com")
    assert contents()["mimir/server.key"] == before["mimir/server.key"]

    # A new authority: everything that hangs on it.
    (copy / "ca/ca.key").unlink()
    set_up(copy, STACK_NAMES="other.example.com", STACK_HOSTS="web-01")
    for name in PORTS:
        assert verified(copy, f"{name}/server.crt", "sslserver")
        assert contents()[f"{name}/ca.pem"] == contents()["ca/ca.pem"] != before["ca/ca.pem"]
    assert verified(copy, "hosts/web-01/client.crt", "sslclient")


def test_no_password_is_in_a_file() -> None:
    for path in FOLDER.rglob("*"):
        configures = path.is_file() and path.suffix in (".yaml", ".yml", ".example")
        if configures and "secrets" not in path.parts[-2:]:
            for line in path.read_text().splitlines():
                found = re.search(r"(?i)password(?!_file|__FILE|s?\b[^:=]*$)\w*\s*[:=]\s*(\S+)", line)
                if found and not line.lstrip().startswith("#"):
                    kept = ("$__file{/secrets/", "ALERTMANAGER_PASSWORD")
                    assert found[1].startswith(kept), f"{path.name}: {line}"


def test_prometheus_is_configured_as_the_one_that_ships() -> None:
    mine, ships = document("prometheus.yml"), document("../../config/prometheus/prometheus.yml")
    assert mine["storage"] == ships["storage"]
    assert mine["rule_files"] == ships["rule_files"]
    assert mine["alerting"].items() >= ships["alerting"].items()
    assert mine["global"].items() >= ships["global"].items()


def test_a_restart_of_prometheus_does_not_begin_alerts_again() -> None:
    # By default only alerts with a `for` of more than ten minutes continue; Alertmanager would report the others as resolved.
    flag = "--rules.alert.for-grace-period=1m"
    for name in ("compose.yaml", "compose.year.yaml"):
        assert flag in read(FOLDER / name)["prometheus"]["command"]
    assert flag in (FOLDER / "../../config/prometheus/prometheus.yml").read_text()


def test_the_one_with_a_year_adds_the_tiers_and_where_they_go() -> None:
    mine, plain = document("prometheus.year.yml"), document("prometheus.yml")
    assert mine.pop("rule_files") == [*plain.pop("rule_files"), "rules/tiers.rules.yml"]
    (write,) = mine.pop("remote_write")
    assert mine.pop("scrape_configs")[:-1] == plain.pop("scrape_configs")
    assert mine == plain
    (keep,) = write["write_relabel_configs"]
    rules = (PROJECT / "config/prometheus/rules").glob("*.rules.yml")
    recorded = {path.name: re.findall(r"record: (\S+)", path.read_text()) for path in rules}
    sent = {
        (file, name)
        for file, names in recorded.items()
        for name in names
        if re.fullmatch(keep["regex"], name)
    }
    assert sent == {("tiers.rules.yml", name) for name in recorded["tiers.rules.yml"] if name.endswith("_1h")}
    assert document("year.yml")["storage"] == plain["storage"]


def test_mimir_has_the_rules_the_tenant_and_the_window_of_the_others() -> None:
    rules = document("prometheus.yml")["rule_files"]
    targets = [mount.target for mount in mounts(read(FOLDER / "compose.mimir.yaml")["mimir"])]
    mounted = [target for target in targets if target.startswith("/etc/mimir/rules")]
    assert mounted == [f"/etc/mimir/rules/{TENANT}/{rule.removeprefix('rules/')}" for rule in rules]
    assert document("mimir.yaml")["ruler_storage"]["local"]["directory"] == "/etc/mimir/rules"
    assert document("limpet.mimir.yaml")["remote_write"][0]["headers"] == {"X-Scope-OrgID": TENANT}
    source = document("grafana/datasources/mimir.yaml")["datasources"][0]
    assert source["jsonData"]["httpHeaderName1"] == "X-Scope-OrgID"
    assert source["secureJsonData"]["httpHeaderValue1"] == TENANT
    window = document("prometheus.yml")["storage"]["tsdb"]["out_of_order_time_window"]
    assert document("mimir.yaml")["limits"]["out_of_order_time_window"] == window


def test_alertmanagers_secrets_are_those_that_the_readme_lists() -> None:
    text = (PROJECT / "config/alertmanager/alertmanager.yml").read_text()
    named = set(re.findall(r"_file: /etc/alertmanager/secrets/(\w+)", text))
    assert named
    assert named == set(re.findall(r"`(\w+_\w+)`", (FOLDER / "receivers/README.md").read_text()))
    targets = {mount.target for mount in mounts(read(FOLDER / "compose.yaml")["alertmanager"])}
    assert {"/etc/alertmanager/secrets", "/etc/alertmanager/templates"} <= targets


@pytest.mark.parametrize("name", ["limpet.yaml", "limpet.mimir.yaml"])
def test_the_agents_configuration_is_right(name: str) -> None:
    loaded = load((FOLDER / name).read_text(), name)
    assert loaded.warnings == ()
    assert loaded.config.collect.host_root == "/host"


def test_grafanas_files_name_what_is_mounted() -> None:
    for _, services in stacks():
        grafana = services["grafana"]
        targets = {mount.target: FOLDER / mount.source for mount in mounts(grafana) if not mount.named}
        provider = yaml.safe_load(targets["/etc/grafana/provisioning/dashboards/limpet.yaml"].read_text())
        folder = provider["providers"][0]["options"]["path"]
        home = grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
        assert (targets[folder] / Path(home).relative_to(folder)).is_file()
        sources = yaml.safe_load(targets["/etc/grafana/provisioning/datasources/limpet.yaml"].read_text())
        metrics, alerts, *_ = sources["datasources"]
        assert metrics["isDefault"] and metrics["type"] == "prometheus"
        assert metrics["jsonData"]["alertmanagerUid"] == alerts["uid"]
