"""The newest ticks: the right ones, without decoding the rest, on every kind of log."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from agent.cli import main as cli
from agent.cli import tail
from agent.ops.tail import following, last
from buffer.fs import RealFs
from buffer.log import Log
from buffer.model import STALE, Instant, Series, Tick

BOOT = "0123456789abcdef" * 2
SEGMENT = 2000
HOST = (("hostname", "web-01"),)
CPU = tuple(
    Series("cpu_usage_per_core_percent", (("core", str(i)), *HOST), "gauge", "percent", "") for i in range(5)
)
LOAD = (Series("load_average_1m", HOST),)


def ticks(number: int) -> list[Tick]:
    at = Instant(1_750_000_000_000 + number * 10_000, number * 10_000, BOOT)
    found = [Tick(at, "cpu", CPU, [float(number + i) for i in range(5)])]
    return [*found, Tick(at, "load", LOAD, [number / 4])] if number % 2 else found


def write(folder: Path, numbers: range) -> list[Tick]:
    """Append the ticks of these instants; return all of them."""
    folder.mkdir(parents=True, exist_ok=True)
    log = Log(RealFs(), str(folder), SEGMENT)
    for number in numbers:
        log.append(ticks(number))
    log.close()
    return [tick for number in numbers for tick in ticks(number)]


class CountingFs(RealFs):
    """Counts the bytes that are read."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def read(self, fd: int, size: int, at: int) -> bytes:
        data = super().read(fd, size, at)
        self.count += len(data)
        return data


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Tick]]:
    folder = tmp_path_factory.mktemp("log") / "segments"
    written = write(folder, range(1000))
    assert len(list(folder.iterdir())) > 10
    return folder, written


@pytest.mark.parametrize("number", [0, 1, 2, 3, 100, 1499, 1500, 1501, 10**9])
def test_the_last_ticks(log: tuple[Path, list[Tick]], number: int) -> None:
    folder, written = log
    reader, found = last(str(folder), number)
    assert list(found) == (written[-number:] if number else [])
    assert reader.next() is None
    reader.close()


def test_only_the_last_segments_are_read(log: tuple[Path, list[Tick]]) -> None:
    folder, _ = log
    whole = sum(path.stat().st_size for path in folder.iterdir())
    fs = CountingFs()
    reader, _ = last(str(folder), 10, fs)
    reader.close()
    assert 0 < fs.count < whole / 4


@pytest.mark.parametrize("number", [0, 3])
def test_what_follows(tmp_path: Path, number: int) -> None:
    folder = tmp_path / "segments"
    written = write(folder, range(50))
    reader, found = last(str(folder), number)
    assert list(found) == (written[-number:] if number else [])
    later = write(folder, range(50, 300))  # another process of the agent: a segment of its own
    seen = []
    while (entry := following(reader)) is not None:
        seen += entry.ticks
    assert seen == later
    reader.close()


def test_a_log_that_is_not_there_yet(tmp_path: Path) -> None:
    folder = tmp_path / "segments"
    reader, found = last(str(folder), 10)
    assert list(found) == []
    assert following(reader) is None
    written = write(folder, range(3))
    entry = following(reader)
    assert entry is not None
    assert entry.ticks == written[:1]
    reader.close()


def test_damage_at_the_end_does_not_hide_what_is_before(tmp_path: Path) -> None:
    folder = tmp_path / "segments"
    written = write(folder, range(300))
    newest = max(folder.iterdir())
    newest.write_bytes(bytes(newest.stat().st_size))
    reader, found = last(str(folder), 5)
    reader.close()
    found = list(found)
    assert len(found) == 5
    at = written.index(found[0])
    assert found == written[at : at + 5]


def test_a_torn_tail(tmp_path: Path) -> None:
    folder = tmp_path / "segments"
    written = write(folder, range(10))
    newest = max(folder.iterdir())
    newest.write_bytes(newest.read_bytes()[:-3])
    reader, found = last(str(folder), 2)
    reader.close()
    assert list(found) == written[: -len(ticks(9))][-2:]


def test_a_line() -> None:
    tick = ticks(8)[0]
    whole = tail.line(tick, tail.UNLIMITED)
    assert whole.count("\n") == 1
    assert 'cpu            5 series  cpu_usage_per_core_percent{core="0"} 8 %, ' in whole
    assert whole.endswith('{core="3"} 11 % …\n')
    short = tail.line(tick, 80)
    head, values = short.splitlines()
    assert max(len(head), len(values)) <= 80
    assert values == '    cpu_usage_per_core_percent{core="0"} 8 % …'
    assert whole.startswith(head)
    assert tail.line(tick, 130).count("cpu_usage_per_core_percent{core=") == 2, "whole series or none"


def test_what_a_hostile_log_says_is_escaped() -> None:
    evil = Series("x", (("mountpoint", "/\x1b[2J\n"),))
    tick = Tick(Instant(10**17, 0, BOOT), "a\nb", (evil,), [1.0])
    for shown in (tail.line(tick, tail.UNLIMITED), tail.values(tick)):
        assert shown.count("\n") == 1
        assert "\x1b" not in shown


def test_values() -> None:
    lines = tail.values(ticks(9)[0]).splitlines()
    assert len(lines) == 5
    assert lines[2].endswith('        11 %  cpu_usage_per_core_percent{core="2",hostname="web-01"}')


def test_json() -> None:
    tick = ticks(9)[1]._replace(values=[math.nan])
    assert json.loads(json.dumps(tail.document(tick), allow_nan=False)) == {
        "timestamp_ms": 1_750_000_090_000,
        "boot_id": BOOT,
        "collector": "load",
        "samples": [{"name": "load_average_1m", "labels": {"hostname": "web-01"}, "value": "NaN"}],
    }


def test_series_that_ended() -> None:
    tick = ticks(9)[1]._replace(group="load.ended", values=[STALE])
    assert tail.line(tick, tail.UNLIMITED).endswith(
        '  load.ended     1 series  load_average_1m{hostname="web-01"} ended\n'
    )
    assert tail.values(tick).endswith('       ended  load_average_1m{hostname="web-01"}\n')
    document = tail.document(tick)
    assert (document["collector"], document["samples"][0]["value"]) == ("load.ended", "StaleNaN")


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "segments", range(8))
    where = ["buffer", "tail", "--data-dir", str(tmp_path)]
    assert cli.main([*where, "-n", "3"]) == 0
    assert [line.split()[2] for line in capsys.readouterr().out.splitlines()] == ["cpu", "cpu", "load"]
    assert cli.main([*where, "--json", "-n", "1"]) == 0
    assert json.loads(capsys.readouterr().out)["collector"] == "load"
    assert cli.main([*where, "--values", "-n", "2"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 6
