"""Text files: what is read, what is left out and reported, and what nothing in the folder can do."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Mapping
from pathlib import Path

import pytest

from agent.collect.series import Collected
from agent.scrape import textfile
from agent.scrape.textfile import Textfile
from agent.system.events import Event
from tests.support.collecting import Log

HOST = {"hostname": "web-01", "environment": "production"}
LINK = "it is a link, which can lead anywhere"
OWN = ("node_textfile_scrape_error", "limpet_textfile_left_out")


class Folder:
    """A folder of text files, and the collector that reads it."""

    def __init__(self, path: Path) -> None:
        self.path, self.log = path, Log()
        self.textfile = Textfile(str(path), HOST, self.log)

    def write(self, name: str, text: str, mtime: float | None = None) -> Path:
        """As it is to be done: under another name, and renamed."""
        temporary, path = self.path / f".{name}.new", self.path / name
        temporary.write_text(text)
        if mtime is not None:
            os.utime(temporary, (mtime, mtime))
        temporary.rename(path)
        return path

    def run(self) -> Collected:
        series, values = self.textfile(0.0)
        assert len(series) == len(values)
        assert len({one[:2] for one in series}) == len(series)
        assert all(HOST.items() <= dict(one.labels).items() for one in series)
        return series, values

    def values(self) -> dict[str, float]:
        """By name, and behind a colon what distinguishes series of one name."""
        found = {}
        for series, value in zip(*self.run(), strict=True):
            own = {k: v for k, v in series.labels if k not in HOST}
            found[":".join([series.name, *(os.path.basename(v) for v in own.values())])] = value
        return found

    def told(self, event: Event) -> list[tuple[str, str]]:
        return [(os.path.basename(one["file"]), one.get("error", "")) for one in self.log.of(event)]


def in_time(folder: Folder) -> None:
    thread = threading.Thread(target=folder.run, daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def good(values: Mapping[str, float]) -> bool:
    return values["node_textfile_scrape_error"] == values["limpet_textfile_left_out"] == 0


def test_files_are_read_and_their_times_are_reported(folder: Folder) -> None:
    path = folder.write("a.prom", '# HELP a Things.\n# TYPE a counter\na{b="c"} 5\n', 1_700_000_000.9)
    folder.write("b.prom", "b 6\n", 1_700_000_100)
    assert folder.values() == {
        "a:c": 5,
        "b": 6,
        "node_textfile_mtime_seconds:a.prom": 1_700_000_000,  # whole seconds, as node_exporter has them
        "node_textfile_mtime_seconds:b.prom": 1_700_000_100,
        "node_textfile_scrape_error": 0,
        "limpet_textfile_left_out": 0,
    }
    series, _ = folder.run()
    assert series[0][2:] == ("counter", "", "Things.")
    assert [dict(series[i].labels) for i in (0, 2)] == [{**HOST, "b": "c"}, {**HOST, "file": str(path)}]
    assert (folder.log.events, folder.textfile.error) == ([], None)


def test_an_empty_folder(folder: Folder) -> None:
    assert tuple(folder.values()) == OWN
    folder.write("empty.prom", "")
    assert good(folder.values())


def test_what_does_not_change_is_not_opened_and_gives_the_same_series(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.write("a.prom", "a 1\n", 1000)
    folder.write("b.prom", "b 1\n", 1000)
    opened: list[str] = []
    read = textfile._read

    def counted(folder: int, name: str) -> object:
        opened.append(name)
        return read(folder, name)

    monkeypatch.setattr(textfile, "_read", counted)
    first, _ = folder.run()
    again, _ = folder.run()
    assert opened == ["a.prom", "b.prom"]
    assert again is first
    folder.write("a.prom", "a 2\n", 1001)
    changed, values = folder.run()
    assert opened == ["a.prom", "b.prom", "a.prom"]
    assert changed is first
    assert values[0] == 2


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("# TYPE b GAUGE\nb 1\n", "gauge"),  # from here on: node_exporter takes it, Prometheus does not
        ("# TYPE b\nb 1\n", "unknown"),
        ("# TYPE\n# HELP\nb 1\n", "unknown"),
        ("#TYPE b counter\nb 1\n", "counter"),
        ('# HELP "b" #\n# TYPE "b" Counter\nb 1\n', "counter"),
        ("# TYPE b  counter \nb 1\n", "counter"),
        ("# HELP b \udcff\udcfe\n# TYPE b Untyped\nb 1\n", "unknown"),
        ("# TYPE b gauge\n{b} 1\n", "gauge"),
        ("{ b , } 1\n", "unknown"),
    ],
)
def test_what_node_exporter_takes_is_taken(folder: Folder, text: str, kind: str) -> None:
    (folder.path / "b.prom").write_bytes(text.encode(errors="surrogateescape"))
    assert good(values := folder.values())
    assert values["b"] == 1
    series, _ = folder.run()
    assert series[0].type == kind


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("bad\n", "1 line left out; not a sample: 'bad'"),
        ("c x\n", "1 line left out; not a value: 'x'"),
        ("c -nan\n", "1 line left out; not a value: '-nan'"),
        ("c 1e999\n", "1 line left out; not a value: '1e999'"),
        ("c 12", "its last line has no line break, and may be half-written"),
        ("c 1 1700000000000\n", "1 line left out; a sample has a timestamp, which is not read here"),
        ("b 2\n", "1 series left out as duplicates"),
        ("# TYPE b thing\n", "1 line left out; not a type: '# TYPE b thing'"),
        ("bad\nworse\nb 3\nb 4", ("its last line has no line break, and may be half-written; "
         "1 series left out as duplicates; 2 lines left out; not a sample: 'bad'")),
        ('c{d="\n"} 1\n', "2 lines left out; not a sample: 'c{d=\"'"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_costs_itself_is_reported_once_and_counted(
    folder: Folder, text: str, error: str
) -> None:
    folder.write("a.prom", "a 1\n", 1000)
    folder.write("b.prom", f"b 1\n{text}", 1000)
    times = {f"node_textfile_mtime_seconds:{name}.prom": 1000.0 for name in "ab"}
    for _ in range(3):
        assert folder.values() == {"a": 1, "b": 1} | times | dict.fromkeys(OWN, 1)
    assert folder.told(Event.TEXTFILE_FAILED) == [("b.prom", error)]
    assert folder.textfile.error == f"{folder.path}/b.prom: {error}"
    folder.write("b.prom", "b 2\n")
    assert good(values := folder.values())
    assert values["b"] == 2
    assert folder.told(Event.TEXTFILE_RECOVERED) == [("b.prom", "")]


def test_what_is_wrong_is_wrong_until_it_is_corrected_even_if_another_line_changes(folder: Folder) -> None:
    folder.write("b.prom", "# TYPE b thing\nb 1\n", 1000)
    folder.run()
    folder.write("b.prom", "# TYPE b thing\nb 2\n", 2000)
    assert folder.values()["node_textfile_scrape_error"] == 1


def test_an_error_that_changes_is_reported_again_and_a_file_that_vanishes_is_no_error(folder: Folder) -> None:
    path = folder.write("b.prom", "bad\n")
    folder.run()
    folder.write("b.prom", "worse\n")
    folder.run()
    told = [("b.prom", f"1 line left out; not a sample: '{text}'") for text in ("bad", "worse")]
    assert folder.told(Event.TEXTFILE_FAILED) == told
    path.unlink()
    assert good(folder.values())


def test_nothing_in_the_folder_makes_a_run_wait_or_takes_its_memory(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(textfile, "LARGEST_FILE", 1000)
    folder.write("a.prom", "a 1\n")
    os.mkfifo(folder.path / "pipe.prom")
    (folder.path / "folder.prom").mkdir()
    for name, to in (("device", "/dev/zero"), ("nowhere", "nowhere"), ("loop", "loop.prom")):
        (folder.path / f"{name}.prom").symlink_to(to)
    folder.write("large.prom", "# " + "x" * 1000 + "\n")
    (folder.path / "\udce9.prom").write_text("bad\n")
    in_time(folder)
    assert folder.values()["limpet_textfile_left_out"] == 7
    assert dict(folder.told(Event.TEXTFILE_FAILED)) == {
        "pipe.prom": "it is not a regular file",
        "folder.prom": "it is not a regular file",
        **dict.fromkeys(("device.prom", "nowhere.prom", "loop.prom"), LINK),
        "large.prom": "it is larger than 1000 bytes",
        "\\xe9.prom": "1 line left out; not a sample: 'bad'",
    }


def test_a_pipe_that_takes_the_file_s_place_between_two_looks(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.write("a.prom", "a 1\n")
    ordinary = os.stat(folder.path / "a.prom")
    os.mkfifo(folder.path / "b.prom")
    monkeypatch.setattr(os, "stat", lambda path, **_: ordinary)
    in_time(folder)
    monkeypatch.undo()
    assert folder.told(Event.TEXTFILE_FAILED) == [("b.prom", "it cannot be read: it is not a regular file")]


def test_a_file_that_goes_while_it_is_looked_at_is_no_error(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "listdir", lambda _: ["gone.prom"])
    assert good(folder.values())


def test_a_link_out_of_the_folder_is_not_read(
    folder: Folder, tmp_path_factory: pytest.TempPathFactory
) -> None:
    secret = tmp_path_factory.mktemp("outside") / "password"
    secret.write_text("canary 5\n")
    (folder.path / "a.prom").symlink_to(secret)
    (folder.path / "b.prom").hardlink_to(secret)
    assert set(folder.values()) == set(OWN)
    assert folder.told(Event.TEXTFILE_FAILED) == [("a.prom", LINK), ("b.prom", LINK)]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize(
    "text", ["canary\n", "# TYPE a canary\n", 'a{canary="1",canary="2"} 1\n', "a canary\n"]
)
def test_a_line_of_another_user_s_file_is_not_shown(folder: Folder, text: str) -> None:
    os.chown(folder.write("a.prom", text), 65534, 65534)
    folder.run()
    assert folder.told(Event.TEXTFILE_FAILED) == [("a.prom", "1 line left out")]


def test_a_file_that_may_not_be_read(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.write("a.prom", "a 1\n")

    def refuse(path: str, **_: object) -> int:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)

    monkeypatch.setattr(textfile, "open_foreign", refuse)  # root may read everything
    folder.run()
    assert folder.told(Event.TEXTFILE_FAILED) == [("a.prom", "it cannot be read: permission denied")]


def test_of_a_series_in_several_files_the_first_by_name_counts(folder: Folder) -> None:
    folder.write("b.prom", "a 2\nb 3\n", 1000)
    folder.write("a.prom", "a 1\n", 1000)
    for _ in range(2):
        values = folder.values()
        assert (values["a"], values["b"], *map(values.get, OWN)) == (1, 3, 1, 0)
    assert folder.told(Event.TEXTFILE_FAILED) == [(folder.path.name, "1 series occur twice")]
    folder.write("a.prom", "c 1\n", 1001)
    assert good(values := folder.values())
    assert (values["a"], values["b"], values["c"]) == (2, 3, 1)


def test_a_folder_that_is_not_there_and_comes(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "later")
    for _ in range(2):
        assert [*map(folder.values().get, OWN)] == [1, 0]
    text = "the folder cannot be read: no such file or directory"
    assert folder.told(Event.TEXTFILE_FAILED) == [("later", text)]
    folder.path.mkdir()
    assert good(folder.values())
    assert folder.told(Event.TEXTFILE_RECOVERED) == [("later", "")]


def test_what_is_gone_is_gone(folder: Folder) -> None:
    folder.write("a.prom", "a 1\n", 1000)
    path = folder.write("b.prom", "b 1\n", 1000)
    folder.run()
    path.unlink()
    assert folder.values().keys() == {"a", "node_textfile_mtime_seconds:a.prom", *OWN}
    assert folder.textfile._tables.keys() == {"a.prom"}


def test_a_label_of_the_host_s_name_becomes_exported(folder: Folder) -> None:
    folder.write("a.prom", 'a{hostname="x"} 1\n')
    series, _ = folder.run()
    assert dict(series[0].labels) == {**HOST, "exported_hostname": "x"}
