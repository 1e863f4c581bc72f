"""Garbage in the kernel's files: whatever they hold, a run returns good samples or raises OSError.

Their content is made of what a kernel wrote, with bytes, fields and lines changed, doubled, left out or cut
off, and of bytes that never were a kernel's.
"""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.collectors import COLLECTORS, Sample, Trouble, disk_usage
from agent.collectors.disk_usage import Space, space_samples
from agent.collectors.kernel import number, numbers
from agent.collectors.links import parse_speed
from agent.collectors.mounts import choose, parse_mountinfo, unescape
from agent.collectors.options import DiskUsageOptions
from tests.support.hostile import seconds
from tests.support.hosts import Host

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "40"))

FILES = {
    "cpu": ("proc/stat", "proc/loadavg"),
    "memory": ("proc/meminfo", "proc/vmstat"),
    "disk_io": ("proc/diskstats",),
    "network": ("proc/net/dev", "proc/net/sockstat", "proc/net/sockstat6", "proc/net/snmp"),
    "disk_usage": ("proc/self/mountinfo",),
    "host": ("proc/stat",),
    "sensors": ("proc/uptime", "proc/sys/fs/file-nr", "proc/sys/kernel/random/poolsize"),
    "pressure": ("proc/pressure/cpu", "proc/pressure/memory", "proc/pressure/io"),
}
ODD_FIELDS = (
    b"", b"0", b"-1", b"18446744073709551615", b"18446744073709551616", b"9" * 5000, b"1e400", b"nan", b"inf",
    b"0x10", b"1_000", b"+5", b"\xff\xfe", b"\x00", b":", b"a:b", b"../../x", b"\\040", b"\\777", b"\xc2\xb2", b"-",
)  # fmt: skip


@st.composite
def spoiled(draw: st.DrawFn, content: bytes) -> bytes:
    """The content of a file after some accidents."""
    for _ in range(draw(st.integers(1, 4))):
        lines = content.split(b"\n")
        at = draw(st.integers(0, len(lines) - 1))
        match draw(st.sampled_from(["byte", "field", "cut", "drop", "twice", "insert", "all"])):
            case "byte" if content:
                place = draw(st.integers(0, len(content) - 1))
                content = content[:place] + draw(st.binary(max_size=3)) + content[place + 1 :]
            case "field":
                fields = lines[at].split(b" ")
                fields[draw(st.integers(0, len(fields) - 1))] = draw(st.sampled_from(ODD_FIELDS))
                lines[at] = b" ".join(fields)
                content = b"\n".join(lines)
            case "cut":
                content = content[: draw(st.integers(0, len(content)))]
            case "drop":
                content = b"\n".join(lines[:at] + lines[at + 1 :])
            case "twice":
                content = b"\n".join([*lines[:at], lines[at], *lines[at:]])
            case "insert":
                content = b"\n".join([*lines[:at], draw(st.binary(max_size=80)), *lines[at:]])
            case _:
                content = draw(st.binary(max_size=200))
    return content


def check(samples: list[Sample], name: str) -> None:
    known = {metric.name for metric in COLLECTORS[name].metrics}
    seen = set()
    for sample in samples:
        assert sample.name in known
        assert isinstance(sample.value, float)
        assert math.isfinite(sample.value)
        assert sample.value >= 0 or sample.name == "sensor_temperature_celsius"
        for _, value in sample.labels:
            value.encode()  # a receiver takes UTF-8 only
        assert sample[::2] not in seen, sample
        seen.add(sample[::2])


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


@pytest.fixture(autouse=True)
def _no_real_mounts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk_usage, "statvfs", lambda path: Space(4096, 1000, 400, 350, 500, 100))


@pytest.mark.parametrize("name", FILES)
@settings(max_examples=EXAMPLES, deadline=None)
@given(data=st.data())
def test_spoiled_files(name: str, folder: Path, data: st.DataObject) -> None:
    host = Host(data.draw(st.sampled_from(["vm", "server"])), folder)
    told: list[Trouble] = []
    kind = COLLECTORS[name]
    collect = kind.build(kind.options(), host.paths._replace(report=told.append))
    originals = {file: host.file(file).read_bytes() for file in FILES[name]}
    for now in (0.0, 10.0, 20.0):
        for file, content in originals.items():
            host.file(file).write_bytes(data.draw(spoiled(content)) if data.draw(st.booleans()) else content)
        with suppress(OSError):
            check(collect(now), name)
    for file, content in originals.items():  # and it comes back by itself
        host.file(file).write_bytes(content)
    collect(90.0)  # where a counter can seem to leap from what was spoiled
    told.clear()
    found = {(sample.name, sample.labels) for sample in collect(100.0)}
    told_of, usual = told.copy(), list[Trouble]()
    first = kind.build(kind.options(), host.paths._replace(report=usual.append))(0.0)
    assert found >= {(sample.name, sample.labels) for sample in first}
    assert told_of == usual


@given(st.binary(max_size=30))
def test_numbers_are_the_kernels_or_none(text: bytes) -> None:
    for found in (number(text), *(numbers(text.split()) or [])):
        assert found is None or 0 <= found < 2**64
    speed = parse_speed(text)
    assert speed is None or 0 < speed < 2**32


@given(st.binary(max_size=60))
def test_unescaping_never_fails(field: bytes) -> None:
    assert len(unescape(field)) <= len(field)


answers = st.integers(0, 2**64 - 1)


@given(st.builds(Space, st.integers(1, 2**32), answers, answers, answers, answers, answers))
def test_whatever_a_file_system_answers(space: Space) -> None:
    check(space_samples(space, ()), "disk_usage")
    for sample in space_samples(space, ()):
        assert sample.value <= 100 or not sample.name.endswith("percent")


paths = st.lists(st.sampled_from(["a", "b", "c"]), max_size=3).map(lambda parts: "/" + "/".join(parts))
mounts = st.lists(
    st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 4), paths, paths), max_size=9
)


@given(mounts)
def test_mounts_that_make_no_sense_together(lines: list[tuple[int, int, int, str, str]]) -> None:
    """Ids that are there twice, parents in a circle, mounts over mounts: no loop, no device twice, no path twice."""
    content = "".join(
        f"{one} {up} 8:{dev} {root} {at} rw - ext4 /dev/x{dev} rw\n" for one, up, dev, root, at in lines
    )
    parsed, wrong = parse_mountinfo(content.encode())
    assert (len(parsed), wrong) == (len(lines), 0)
    places = choose(parsed, DiskUsageOptions())
    assert len({place.path for place in places}) == len(places)
    assert len({place.device for place in places}) == len(places)


@pytest.mark.parametrize(
    ("name", "file", "line"),
    [
        ("disk_usage", "proc/self/mountinfo", "{0} 0 8:{0} / /m/{0} rw - ext4 /dev/x{0} rw\n"),
        ("disk_usage", "proc/self/mountinfo", "{0} {1} 8:{0} / /m rw - ext4 /dev/x{0} rw\n"),
        ("disk_usage", "proc/self/mountinfo", "{0} {0} 8:1 /{0} /m/{0} rw - ext4 /dev/x rw\n"),
        ("disk_io", "proc/diskstats", "8 {0} sd{0} 1 2 3 4 5 6 7 8 9 10 11\n"),
        ("network", "proc/net/dev", "eth{0}: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n"),
        ("cpu", "proc/stat", "cpu{0} 1 2 3 4 5 6 7 8 9 10\n"),
        ("memory", "proc/meminfo", "A{0}: 1 kB\n"),
    ],
)
def test_a_long_file_takes_time_linear_in_its_length(name: str, file: str, line: str, folder: Path) -> None:
    host, took = Host("vm", folder), []
    kind, original = COLLECTORS[name], host.file(file).read_bytes()
    for lines in (200, 800):
        host.file(file).write_text("".join(line.format(i, i - 1) for i in range(1, lines)))
        collect = kind.build(kind.options(), host.paths)

        def work(collect: Callable[[float], list[Sample]] = collect) -> None:
            with suppress(OSError):
                collect(0.0)

        took.append(min(seconds(work) for _ in range(6)))
    host.file(file).write_bytes(original)
    assert took[1] < 9 * max(took[0], 0.004)
