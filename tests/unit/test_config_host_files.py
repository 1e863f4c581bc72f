"""`hostname_file` and `labels_file`: what is read, what wins, what is wrong, and what counts as a change."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent.collect.series import host_labels
from agent.config import ConfigErrors, Loaded, load, load_file

WRITE = "remote_write: [{url: 'https://a.example.com/api/v1/write', name: central}]\n"


def loaded(folder: Path, keys: str = "hostname_file: name\nlabels_file: labels.yaml\n") -> Loaded:
    file = folder / "limpet.yaml"
    file.write_text(keys + WRITE)
    return load_file(file)


def problems(folder: Path, keys: str) -> list[str]:
    with pytest.raises(ConfigErrors) as caught:
        loaded(folder, keys)
    return [problem.text("f.yaml") for problem in caught.value.problems]


def test_a_name_and_labels_of_the_host(tmp_path: Path) -> None:
    (tmp_path / "name").write_text("box-017\n")
    (tmp_path / "labels.yaml").write_text("# of this box\nsite: mill-3\ncustomer: 4711\n")
    found = loaded(
        tmp_path, "hostname_file: name\nlabels: {site: none, env: prod}\nlabels_file: labels.yaml\n"
    )
    assert found.warnings == ()
    assert host_labels(found.config) == {
        "hostname": "box-017", "site": "mill-3", "customer": "4711", "env": "prod",
    }  # fmt: skip


@pytest.mark.parametrize("text", ["box\n", " box \r\n", "\ufeffbox", "box\0", "\n\nbox\n\n"])
def test_what_is_around_a_name_does_not_count(tmp_path: Path, text: str) -> None:
    (tmp_path / "name").write_text(text)
    assert loaded(tmp_path, "hostname_file: name\n").config.hostname == "box"


@pytest.mark.parametrize("text", ["", "\n", "# nothing yet\n", "{}"])
def test_a_file_without_labels_is_one(tmp_path: Path, text: str) -> None:
    (tmp_path / "labels.yaml").write_text(text)
    assert loaded(tmp_path, "labels: {a: b}\nlabels_file: labels.yaml\n").config.labels == {"a": "b"}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "hostname_file: PATH is empty. Write the host's name into it, and nothing else."),
        (b" \n\0", "hostname_file: PATH is empty. Write"),
        (b"one\ntwo\n", "hostname_file: PATH has several lines. Write"),
        (b"a\x1bb", "hostname_file: PATH holds a control character. Write"),
        (b"\xff", "hostname_file: PATH is not UTF-8. Save it as UTF-8."),
        (b"x" * 2000, "hostname_file: PATH is larger than 1024 bytes. Check that it is the right file."),
    ],
)
def test_a_file_that_holds_no_name(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "name").write_bytes(content)
    (told,) = problems(tmp_path, "hostname_file: name\n")
    assert said.replace("PATH", str(tmp_path / "name")) in told


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: b\nhostname: x\n", "line 2: hostname: every series has this label already"),
        ("core: x\n", "line 1: core: some series have a label of this name already"),
        ("a: b\n1x: y\n", "line 2: 1x: expected a label name"),
        ("a: ''\n", "line 1: a: expected a text that is not empty"),
        ("a: [b]\n", "line 1: a: expected one value, got a list"),
        ("a: 1\na: 2\n", "line 2: a: "),
        ("- a\n", "line 1: expected keys with their values, got a list"),
        ("just a text\n", "line 1: expected keys with their values, got a text"),
        ("a: {b: [\n", "not valid YAML"),
    ],
)
def test_labels_that_are_none(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "labels.yaml").write_text(text)
    told = problems(tmp_path, "labels_file: labels.yaml\n")
    assert any(f"labels_file: {tmp_path / 'labels.yaml'}, " in one and said in one for one in told), told


def test_all_that_is_wrong_is_reported_at_once(tmp_path: Path) -> None:
    (tmp_path / "name").touch()
    (tmp_path / "labels.yaml").write_text("a: ''\nb: ''\n")
    assert len(problems(tmp_path, "hostname_file: name\nlabels_file: labels.yaml\n")) == 3


@pytest.mark.parametrize("key", ["hostname_file", "labels_file"])
def test_a_file_that_is_not_there_or_is_a_folder(tmp_path: Path, key: str) -> None:
    (told,) = problems(tmp_path, f"{key}: nothing\n")
    assert "cannot be read: no such file or directory. Check its name and its permissions." in told
    (told,) = problems(tmp_path, f"{key}: .\n")
    assert "is a folder" in told


@pytest.mark.timeout(60)
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "name")
    (told,) = problems(tmp_path, "hostname_file: name\n")
    assert "is empty" in told


def test_a_name_is_in_one_place(tmp_path: Path) -> None:
    (tmp_path / "name").write_text("a")
    (told,) = problems(tmp_path, "hostname: a\nhostname_file: name\n")
    assert "hostname and hostname_file exclude each other" in told


def test_a_change_of_either_file_is_a_change(tmp_path: Path) -> None:
    def digest(name: str, labels: str) -> str:
        (tmp_path / "name").write_text(name)
        (tmp_path / "labels.yaml").write_text(labels)
        return loaded(tmp_path).digest

    digests = [digest("a", "x: y"), digest("b", "x: y"), digest("a", "x: z"), digest("a", "x: y")]
    assert len(set(digests)) == 3
    assert digests[0] == digests[3]


def test_a_text_alone_opens_nothing() -> None:
    assert load(f"hostname_file: /nonexistent\n{WRITE}", "f.yaml").config.hostname is None
