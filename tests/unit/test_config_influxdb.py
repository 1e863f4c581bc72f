"""The `influxdb` section: where its writes go, what it needs, and names next to those of other destinations."""

from __future__ import annotations

import json

import pytest

from agent.config import Config, ConfigErrors, InfluxDB, load

URL = "https://influx.example.com:8086"


def loaded(*influxdb: dict[str, object], **config: object) -> Config:
    return load(json.dumps({"influxdb": influxdb, **config}), "f.yaml").config


def problems(*influxdb: dict[str, object], **config: object) -> list[tuple[str, str]]:
    with pytest.raises(ConfigErrors) as caught:
        loaded(*influxdb, **config)
    return [(problem.path, problem.what) for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("keys", "written"),
    [
        ({"db": "m"}, "/write?db=m&precision=ms"),
        ({"db": "a&b", "rp": "one week"}, "/write?db=a%26b&rp=one+week&precision=ms"),
        ({"org": "o", "bucket": "b/x"}, "/api/v2/write?org=o&bucket=b%2Fx&precision=ms"),
        (
            {"api": "v3", "db": "m"},
            "/api/v3/write_lp?db=m&precision=millisecond&accept_partial=true",
        ),
    ],
)
def test_where_writes_go(keys: dict[str, object], written: str) -> None:
    for url in (URL, f"{URL}/", f"{URL}/influx"):
        [to] = loaded({"url": url, **keys}).influxdb
        assert to.write_url == url.rstrip("/") + written


def test_a_bucket_shows_that_it_is_v2() -> None:
    [to] = loaded({"url": URL, "org": "o", "bucket": "b"}).influxdb
    assert to.api == "v2"


@pytest.mark.parametrize(
    ("keys", "key", "words"),
    [
        ({}, "db", "the API v1 needs this key"),
        ({"api": "v3"}, "db", "the API v3 needs this key"),
        ({"bucket": "b"}, "org", "the API v2 needs this key"),
        ({"org": "o", "api": "v2"}, "bucket", "the API v2 needs this key"),
        ({"api": "v3", "db": "m", "rp": "r"}, "rp", "the API v3 does not take this key"),
        ({"org": "o", "bucket": "b", "db": "m"}, "db", "the API v2 does not take this key"),
        ({"url": f"{URL}/?db=m", "db": "m"}, "url", "it has a query"),
        ({"url": f"{URL}/api/v2/write", "org": "o", "bucket": "b"}, "url", "it has the path of a write"),
        ({"url": "http://influx.example.com", "db": "m"}, "url", "plain http://"),
        ({"db": "m", "metadata_config": {}}, "metadata_config", "unknown key"),
        ({"db": "m", "api": "v4"}, "api", "expected v1, v2 or v3"),
    ],
)
def test_what_is_wrong(keys: dict[str, object], key: str, words: str) -> None:
    found = problems({"url": URL, **keys})
    assert [path for path, _ in found] == [f"influxdb[0].{key}"]
    assert words in found[0][1]


def test_names_are_unique_among_all_types() -> None:
    write = [{"url": "https://p.example.com/api/v1/write", "name": "central"}]
    found = problems({"url": URL, "db": "m", "name": "central"}, remote_write=write)
    assert found == [("influxdb[0].name", "the name 'central' belongs to remote_write[0] already")]


def test_two_of_one_host_have_names_of_their_own_and_are_listed_behind_remote_write() -> None:
    write = [{"url": f"{URL}/api/v1/write"}]
    config = loaded({"url": URL, "db": "m"}, {"url": URL, "db": "n"}, remote_write=write)
    names = [to.name for to in config.destinations]
    assert len(set(names)) == 3
    assert all(name.startswith("influx.example.com-8086-") for name in names)
    assert [isinstance(to, InfluxDB) for to in config.destinations] == [False, True, True]
