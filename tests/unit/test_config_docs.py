"""The example file and the documentation have every key, with the defaults the code has."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from agent.config import Config, ConfigErrors, HttpDestination, load, load_file
from agent.config.document import parse
from agent.config.keys import default, fields, keys
from agent.config.reader import Reader
from agent.config.schema import OPTIONS, Collector
from agent.config.scrape import StaticConfig, Target
from agent.config.section import Section

EXAMPLE = Path("config/limpet.yaml")
PAGE = Path("docs/configuration.md").read_text()
URL = "https://prometheus.example.com/api/v1/write"


def uncommented() -> str:
    """The example with every key in force: `#key:` is a key, `# text` is a comment."""
    return re.sub(r"(?m)^( *)#(?! [A-Za-z])", r"\1", EXAMPLE.read_text())


def written_keys(text: str) -> set[str]:
    """The paths of the keys in a YAML text, as `keys()` writes them."""
    found: set[str] = set()

    def walk(value: Any, path: str) -> None:
        if isinstance(value, dict):
            for key, entry in value.items():
                place = f"{path}.{key}" if path else key
                found.add(place)
                walk(entry.node.value, place)
        elif isinstance(value, list):
            for one in value:
                walk(one.value, f"{path}[]")

    root, problems = parse(text)
    assert problems == ()
    walk(root.value, "")
    return found


def test_the_example_loads_without_a_word() -> None:
    assert load_file(EXAMPLE).warnings == ()


def test_the_example_shows_the_defaults() -> None:
    config = load_file(EXAMPLE).config
    bare = load(f"remote_write: [{{url: {URL}}}]", "f.yaml").config
    assert config.collect.plan() == bare.collect.plan()
    for key in Config.__struct_fields__:
        if key != "collect":
            assert getattr(config, key) == getattr(bare, key)


def once(path: str) -> str:
    """Return the path of a key in the example and on the page: what exists twice is described once."""
    common = "|".join(fields(HttpDestination))
    path = re.sub(rf"^(?:influxdb|otlp|file|custom)\[\]\.({common})\b", r"remote_write[].\1", path)
    path = re.sub(r"http_headers\.[^.]+", "http_headers.*", path)
    return path.replace(".oauth2.tls_config.", ".tls_config.")


def test_the_example_has_every_key_and_no_other() -> None:
    free = {"remote_write[].http_headers.*", "custom[].options.table"}  # a name is no key
    assert {once(path) for path in written_keys(uncommented())} - free == {once(path) for path in keys()}


def test_what_is_commented_out_would_be_right_but_for_what_excludes_each_other() -> None:
    with pytest.raises(ConfigErrors) as caught:
        load(uncommented(), "f.yaml")
    excluding = (
        *("username_file", "password_file", "credentials_file", "client_secret_file"),
        *("ca_file", "cert_file", "key_file", "oauth2", "authorization"),
        *("static_configs", "scheme", "metrics_path", "params"),
    )
    assert {problem.what.rpartition(" and ")[2] for problem in caught.value.problems} == {
        "no type 'jsonlines' is installed",
        "drain_order does not allow that",
        *(f"{key} exclude each other" for key in excluding),
    }


def test_every_key_has_a_comment() -> None:
    sections = {"collect", "buffer", "log", "memory", "network", "host", "disk_io", "disk_usage", "cpu"}
    sections |= {"sensors", "pressure", "link"}
    repeated = {
        "enabled",
        "interval",
        "timeout",
        "url",
        "username",
        "type",
        "max_version",
        "tls_config",
        "queue_config",
        "metadata_config",
    }
    for line in EXAMPLE.read_text().splitlines():
        key = re.match(r" *#?(?:- )? *([a-z0-9_]+):", line)
        if key and key[1] not in sections | repeated | {"exclude_devices"}:
            assert " # " in line, line


# --- docs/configuration.md ------------------------------------------------------------------------------------------


def rows() -> dict[str, str]:
    """The path of each key that the page documents, and the cell with its default."""
    found = {}
    for part in re.split(r"(?m)^##+ ", PAGE)[1:]:
        heading = part.splitlines()[0].strip("`")
        if (
            heading
            not in {"The file", "log", "collect", "collect.collectors", "buffer", "history", "clock", "serve"}
            and "[]" not in heading
        ):
            continue
        for key, cell in re.findall(r"(?m)^\| `([a-z0-9_.]+)` \| (.*?) \|", part):
            found[key if heading == "The file" else f"{heading}.{key}"] = cell
    return found


def documented(path: str) -> str:
    """Return where the page has a key: what all collectors take is described once."""
    name = "|".join(OPTIONS)
    path = re.sub(
        r"^collect\.collectors\.scrape\.targets\[\]\.(basic_auth|authorization|tls_config)\.",
        r"remote_write[].\1.",
        path,
    )
    path = path.replace(
        "collect.collectors.scrape.targets[].metric_relabel_configs[]",
        "remote_write[].write_relabel_configs[]",
    )
    return re.sub(
        rf"^collect\.collectors\.(?:{name})\.(enabled|interval|timeout)$",
        r"collect.collectors.\1",
        once(path),
    )


def test_the_page_has_every_key_and_no_other() -> None:
    collectors = {f"collect.collectors.{name}" for name in OPTIONS}  # named in the text
    assert {documented(path) for path in keys()} - collectors == set(rows())
    assert all(f"`{name}`" in PAGE for name in OPTIONS)


def default_of(kind: Any, path: str) -> Any:
    *above, key = path.replace("[]", "").replace(".*", "").split(".")
    for name in above:
        part = fields(kind)[name]
        kinds = [one for one in (part.type, *getattr(part.type, "__args__", ())) if isinstance(one, type)]
        kind = next(one for one in kinds if issubclass(one, Section))
    return fields(kind)[key]


def test_the_page_has_the_defaults_of_the_code() -> None:
    checked = 0
    for path, cell in rows().items():
        written = re.fullmatch("`([^`]*)`", cell)
        if path.startswith("collect.collectors."):
            _, _, name, *key = path.split(".")
            if not key:
                assert written is None or name == "enabled" or written[1] == f"collect.{name}"
                continue
            kind: Any = Target if key[0] == "targets[]" else OPTIONS[name]
            kind = StaticConfig if "static_configs[]" in key else kind
            field = fields(kind)[key[-1]]
        else:
            field = default_of(Config, path)
        if written:
            assert Reader("/").value(field.type, parse(written[1])[0], path) == default(field), path
            checked += 1
    assert checked > 20


def test_the_page_names_what_is_ignored_and_what_is_not_in_this_version() -> None:
    def sections(kind: type[Section]) -> list[type[Section]]:
        parts = [
            part
            for field in fields(kind).values()
            for part in (field.type, *getattr(field.type, "__args__", ()))
        ]
        below = [
            one
            for one in parts
            if isinstance(one, type) and issubclass(one, Section) and one is not Collector
        ]
        return [kind, *(deeper for one in below for deeper in sections(one))]

    for kind in sections(Config):
        assert all(f"`{key}`" in PAGE or f".{key}`" in PAGE for key in kind.ignored)
    from agent.config import RemoteWrite

    assert all(f"`{key}`" in PAGE for key in RemoteWrite.later)
