"""A file as a destination: what is in it comes back bit for bit, in every format that promises it."""

from __future__ import annotations

import math
import re
import struct
from pathlib import Path
from typing import Literal, get_args

import pytest

from agent.config import File, RelabelConfig, load
from agent.config.section import ConfigErrors
from agent.destinations.base import RELABELED, UNSTORABLE
from agent.destinations.file import store
from agent.destinations.file.destination import file
from agent.destinations.file.ticks import digests
from agent.destinations.file.wire import Writer
from buffer.fs import RealFs
from buffer.model import STALE, Instant, Series, Tick
from buffer.whole import pack, ticks_of
from tests.support import folders
from tests.support.ticks import BOOT, bits, exactly, tick

Form = Literal["jsonl", "segments", "openmetrics"]
TEXTS = ("a b  c", "a,b", 'a="b"', "C:\\x\\", "Größe 温度 🌡", "a\nb\r\nc\td", "", "17")
NAN = struct.unpack("<d", bytes.fromhex("efbeadde0000f87f"))[0]
NUMBERS = (0.0, -0.0, 1.5, math.inf, -math.inf, math.nan, NAN, 5e-324, 1.7976931348623157e308, 2.0**53 + 2)
SERIES = (
    *(Series("texts", (("hostname", "a"), ("text", text)), "gauge", "bytes", text) for text in TEXTS),
    Series("work_total", (("hostname", "a"),), "counter", "ops", "Work."),
    Series("with.dots", (("hostname", "a"), ("with.dots", "1"))),
)


def special(number: int) -> Tick:
    values = [*NUMBERS[number % len(NUMBERS) :], *NUMBERS[: number % len(NUMBERS)]]
    return Tick(Instant(1_750_000_000_000 + number * 10_000, number * 10_000, BOOT), "all", SERIES, values)


def flat(batches: list[list[Tick]]) -> list[Tick]:
    return [one for batch in batches for one in batch]


def write(path: Path, to: File, *batches: list[Tick], hostname: str = "a") -> None:
    encode = file(to)().encode
    writer = Writer(to.format, hostname)
    for ticks in batches:
        writer.write(RealFs(str(path)), str(path), encode(ticks, False).request)


@pytest.mark.parametrize("form", ["jsonl", "segments"])
def test_what_is_written_comes_back_bit_for_bit(tmp_path: Path, form: Form) -> None:
    batches = [[special(n), tick(n)] for n in range(12)]
    write(tmp_path, File(path=str(tmp_path), format=form), *batches[:4], flat(batches[4:]))
    found: dict[tuple[Series, int], list[bytes]] = {}
    wanted: dict[tuple[Series, int], list[bytes]] = {}
    for into, ticks in ((found, folders.ticks_of(tmp_path)), (wanted, flat(batches))):
        for one in ticks:
            for series, value in zip(one.series, one.values, strict=True):
                kept = series._replace(labels=tuple(pair for pair in series.labels if pair[1]))
                into.setdefault((kept, one.at.wall_ms), []).append(bits([value]))
    assert found == wanted
    manifests = folders.manifests(tmp_path)
    assert [one["samples"] for one in manifests] == [13] * 4 + [8 * 13]
    assert {one["hostname"] for one in manifests} == {"a"}
    assert manifests[-1]["oldest_timestamp_ms"] == special(4).at.wall_ms
    assert manifests[-1]["newest_timestamp_ms"] == special(11).at.wall_ms
    assert manifests[-1]["series"] == len(SERIES) + 3


def test_a_segment_has_the_ticks_as_they_were_collected(tmp_path: Path) -> None:
    ticks = [special(n) for n in range(30)] + [tick(n, group="other") for n in range(25, 40)]
    assert exactly([one for run in ticks_of(pack(ticks)) for one in run]) == exactly(ticks)


def test_a_segment_that_is_cut_short_or_changed_is_not_read_in_silence() -> None:
    data = pack([special(n) for n in range(5)])
    for at in range(20, len(data), 7):
        with pytest.raises(ValueError):
            list(ticks_of(data[:at] + bytes((data[at] ^ 1,)) + data[at + 1 :]))
    for cut in (0, 20, 40, len(data) - 1):
        with pytest.raises(ValueError):
            list(ticks_of(data[:cut]))


def test_openmetrics_leaves_out_markers_and_says_so(tmp_path: Path) -> None:
    series = (Series("a_total", (), "counter"), Series("b", ()))
    ticks = [
        Tick(Instant(1000 * n, n, BOOT), "g", series, [float(n), STALE if n == 2 else float(n)])
        for n in range(3)
    ]
    to = File(path=str(tmp_path), format="openmetrics")
    encoded = file(to)().encode(ticks, False)
    assert (encoded.request.samples, encoded.dropped) == (5, {UNSTORABLE: 1})
    write(tmp_path, to, ticks)
    (text,) = folders.text_of(tmp_path)
    assert text.splitlines() == [
        "# TYPE a counter", "a_total 0.0 0", "a_total 1.0 1", "a_total 2.0 2", "# TYPE b gauge", "b 0.0 0", "b 1.0 1", "# EOF",
    ]  # fmt: skip


@pytest.mark.parametrize("form", ["jsonl", "segments", "openmetrics"])
def test_relabeling_is_done_and_counted(form: Form) -> None:
    rules = (
        RelabelConfig(source_labels=("place",), regex="1", action="drop"),
        RelabelConfig(target_label="site", replacement="north"),
    )
    spoken = file(File(path="/m", format=form, write_relabel_configs=rules))()
    ticks = [tick(n) for n in range(4)]
    encoded = spoken.encode(ticks, False)
    assert (encoded.request.samples, encoded.dropped) == (8, {RELABELED: 4})
    assert spoken.carries(ticks[0].series[1]) is None
    nothing = spoken.encode(
        [one._replace(series=one.series[1:2], values=one.values[1:2]) for one in ticks], False
    )
    assert (nothing.request.samples, nothing.request.body, nothing.dropped) == (0, b"", {RELABELED: 4})


def test_the_same_ticks_give_the_same_bytes() -> None:
    for form in get_args(Form):
        bodies = {
            file(File(path="/m", format=form))().encode([tick(1), tick(2)], False).request.body for _ in "ab"
        }
        assert len(bodies) == 1


def test_names_are_for_any_file_system(tmp_path: Path) -> None:
    to = File(path=str(tmp_path))
    late = tick(0)._replace(at=Instant((1 << 48) - 1, 5, BOOT))
    write(tmp_path, to, [tick(0)], [late], hostname='CON: a/b\\"?.')
    names = [name for one in tmp_path.rglob("*") for name in one.relative_to(tmp_path).parts]
    assert len(set(names)) == 6
    assert all(re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*(?<!\.)", name) for name in names)
    assert store.safe("..") == "host"


def test_a_tick_is_known_again_and_no_other_is_taken_for_it() -> None:
    one = special(3)
    others = [
        one._replace(group="b"),
        one._replace(at=one.at._replace(mono_ms=1)),
        one._replace(at=one.at._replace(wall_ms=1)),
        one._replace(at=one.at._replace(boot_id="f" * 32)),
        one._replace(values=[*one.values[:-1], 7.0]),
        one._replace(series=one.series[1:], values=one.values[1:]),
        one._replace(series=(one.series[0]._replace(help="other"), *one.series[1:])),
    ]
    assert len(set(digests([one, *others]))) == len(others) + 1
    assert digests([one]) == digests([one._replace(values=list(one.values), series=(*one.series,))])


def test_after_a_thousand_files_there_is_another_folder(tmp_path: Path) -> None:
    base = f"{tmp_path}/a"
    fs = RealFs(str(tmp_path))
    parcel = store.Parcel(b"x", ".seg", "segments", "a", 1, 1, 0, 0, [b"123456"])
    for number in (998, 999, 1000):
        assert store.put(fs, base, number, parcel).startswith(f"{base}/{number // 1000:05d}/{number:08d}-")
    assert store.look(fs, base).number == 1001
    assert [path.rpartition("/")[2][:8] for path in store.look(fs, base).newest] == [
        "00001000",
        "00000999",
        "00000998",
    ]


class Another(RealFs):
    """The file system where another agent looks at what has been left, at the worst time for who is writing."""

    def rename(self, old: str, new: str) -> None:
        super().rename(old, new)
        if not new.endswith(store.MANIFEST):
            self.unlink(new + store.MANIFEST)


def test_a_file_whose_manifest_another_agent_took_for_a_leftover_was_not_written(tmp_path: Path) -> None:
    """Nobody would ever play it."""
    request = file(File(path=str(tmp_path)))().encode([tick(1)], False).request
    writer = Writer("jsonl", "a")
    with pytest.raises(OSError, match="another agent"):
        writer.write(Another(str(tmp_path)), str(tmp_path), request)
    assert folders.ticks_of(tmp_path) == []
    writer.write(RealFs(str(tmp_path)), str(tmp_path), request)
    assert sum(len(one.values) for one in folders.ticks_of(tmp_path)) == 3


def test_a_manifest_whose_file_has_just_got_its_name_is_no_leftover(tmp_path: Path) -> None:
    write(tmp_path, File(path=str(tmp_path)), [tick(1)])
    (path,) = tmp_path.rglob("*.gz")
    path.rename(path.with_name("hidden"))

    class Late(RealFs):
        def list(self, folder: str) -> list[str]:
            found = super().list(folder)
            if folder == str(path.parent) and not path.exists():
                path.with_name("hidden").rename(path)
            return found

    store.look(Late(str(tmp_path)), f"{tmp_path}/a")
    assert len(folders.manifests(tmp_path)) == 1


WRONG = [
    ("path: stick", "file[0].path", "expected an absolute path"),
    ("path: /", "file[0].path", "the root of this host"),
    ("{path: /a/b, mount_point: /c}", "file[0].mount_point", "/a/b is not below it"),
    ("{path: /a, drain_order: fresh_first}", "file[0].drain_order", "not a key here"),
    ("{path: /a, url: https://a.b}", "file[0].url", "not a key here"),
    ("{path: /a, format: csv}", "file[0].format", "expected jsonl, segments or openmetrics"),
]


@pytest.mark.parametrize(("text", "path", "what"), WRONG)
def test_what_is_wrong_is_named(text: str, path: str, what: str) -> None:
    one = text if text.startswith("{") else f"{{{text}}}"
    with pytest.raises(ConfigErrors) as caught:
        load(f"file: [{one}]", "f.yaml")
    (problem,) = caught.value.problems
    assert problem.path == path
    assert what in problem.what


def test_it_is_named_for_its_folder_and_its_age_is_a_batchs_deadline() -> None:
    (to,) = load("file: [{path: /media/stick/., max_age: 1h}]", "f.yaml").config.file
    assert (to.name, to.path, to.queue_config.batch_send_deadline) == ("stick", "/media/stick", 3600.0)
    assert "path='/media/stick'" in repr(to)
