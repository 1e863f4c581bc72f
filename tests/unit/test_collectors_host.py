from __future__ import annotations

import os
from pathlib import Path

from agent.collectors.kernel import label, number_after, read, read_or_none
from tests.support.hosts import Host, of, values


def test_a_host(tmp_path: Path) -> None:
    found = values(Host("server", tmp_path).collector("host")(0.0))
    assert of(found) == {"host_boot_time_seconds": 1750000000}
    uname = os.uname()
    assert of(found, kernel_release=uname.release, machine=uname.machine, os=uname.sysname) == {
        "host_info": 1
    }


def test_the_boot_time_follows_a_clock_that_is_set_within_a_minute(tmp_path: Path) -> None:
    host = Host("server", tmp_path)
    collect = host.collector("host")
    collect(0.0)
    stat = host.file("proc/stat")
    stat.write_bytes(stat.read_bytes().replace(b"btime 1750000000", b"btime 1750000077"))
    assert of(values(collect(50.0))) == {"host_boot_time_seconds": 1750000000}
    assert of(values(collect(60.0))) == {"host_boot_time_seconds": 1750000077}
    stat.unlink()
    assert [sample.name for sample in collect(120.0)] == ["host_info"]


def test_number_after() -> None:
    assert number_after(b"btime", b"a 1\nbtime 5\n") == 5
    assert number_after(b"btime", b"a 1\nbtime 5") == 5
    assert number_after(b"btime", b"a 1\nbtime\n") is number_after(b"btime", b"") is None


def test_a_file_is_read_to_its_end(tmp_path: Path) -> None:
    long = tmp_path / "long"
    long.write_bytes(b"0123456789\n" * 50_000)
    assert read(str(long)) == read_or_none(str(long)) == long.read_bytes()
    assert read_or_none(str(tmp_path / "none")) is None


def test_a_label_is_always_text() -> None:
    assert label(b"caf\xe9").encode() == b"caf\\xe9"
