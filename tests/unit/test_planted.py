"""What a user may plant in data_dir: every command answers within a second, in a line, and touches nothing outside."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import pytest

from agent.cli.main import main
from agent.collectors import COLLECTORS
from agent.running import Keeper
from buffer.buffer import Buffer
from buffer.errors import LimpetError
from buffer.limits import Limits
from buffer.quarantine import Quarantine
from tests.support.buffers import fill
from tests.support.ticks import tick

CANARY = "canary-of-another-user"
LIMITS = Limits(1 << 20, segment_size=512)
ITEM = "there-" + "0" * 20


class Place(NamedTuple):
    """A data directory, and a file outside it that nobody may touch."""

    data_dir: Path
    outside: Path

    @property
    def segments(self) -> list[Path]:
        return sorted((self.data_dir / "segments").iterdir())


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("template") / "data"
    buffer = Buffer(str(folder), LIMITS, ["there"])
    fill(buffer, 0, 60)
    buffer.close()
    Quarantine(str(folder)).put("there", 0, [tick(1)], "rejected", 400, "no", 1000)
    (folder / "mask.key").write_text("ab" * 32 + "\n")
    (folder / "requests" / "trim.json").write_text('{"version": 1, "before": 0}')
    Keeper(str(folder), "0" * 32, "/nowhere/limpet.yaml", "a" * 64).write()
    return folder


@pytest.fixture
def place(tmp_path: Path, template: Path) -> Place:
    data_dir, outside = tmp_path / "data", tmp_path / "outside"
    shutil.copytree(template, data_dir)
    outside.mkdir()
    (outside / "secret").write_text(f"{CANARY}\n")
    (outside / "more").mkdir()
    return Place(data_dir, outside)


# What is planted, and where.


def fifo(path: Path, _: Path) -> None:
    os.mkfifo(path)


def device(path: Path, _: Path) -> None:
    path.symlink_to("/dev/zero")


def folder(path: Path, _: Path) -> None:
    path.mkdir()
    (path / "file").touch()


def link(path: Path, outside: Path) -> None:
    path.symlink_to(outside / "secret")


def link_to_folder(path: Path, outside: Path) -> None:
    path.symlink_to(outside)


def hard_link(path: Path, outside: Path) -> None:
    path.hardlink_to(outside / "secret")


def sparse(path: Path, _: Path) -> None:
    path.touch()
    os.truncate(path, 1 << 40)


KINDS: list[Callable[[Path, Path], None]] = [fifo, device, folder, link, link_to_folder, hard_link, sparse]
WHERE: dict[str, Callable[[Place], Path]] = {
    "lock": lambda place: place.data_dir / "lock",
    "oldest": lambda place: place.segments[0],
    "newest": lambda place: place.segments[-1],
    "cursor": lambda place: place.data_dir / "cursors" / "there.json",
    "item": lambda place: place.data_dir / "quarantine" / ITEM,
    "about": lambda place: place.data_dir / "quarantine" / ITEM / "about.json",
    "ticks": lambda place: next((place.data_dir / "quarantine" / ITEM).glob("*.seg")),
    "key": lambda place: place.data_dir / "mask.key",
    "request": lambda place: place.data_dir / "requests" / "trim.json",
    "note": lambda place: place.data_dir / "agent.json",
    "segments": lambda place: place.data_dir / "segments",
    "cursors": lambda place: place.data_dir / "cursors",
    "quarantine": lambda place: place.data_dir / "quarantine",
    "requests": lambda place: place.data_dir / "requests",
}
COMMANDS = {
    **{
        name: f"buffer {name}" for name in ("status", "segments", "verify", "verify --deep", "tail", "export")
    },
    "overview": "status",
    "trim": "buffer trim --to-size 1KiB --yes",
    "list": "buffer quarantine list",
    "show": f"buffer quarantine show {ITEM}",
    "resend": "buffer quarantine replay --all --to http://127.0.0.1:9/ --give-up-after 100ms",
    "drop": "buffer quarantine drop --all --yes",
    "replay": "buffer replay --dry-run --to http://127.0.0.1:9/",
}


def plant(place: Place, where: str, kind: Callable[[Path, Path], None]) -> None:
    path = WHERE[where](place)
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
    kind(path, place.outside)


@contextmanager
def in_time() -> Iterator[None]:
    """Fail what blocks, however deep it is in a system call, and what takes ten seconds of the processor."""

    def late(_number: int, _frame: object) -> None:
        raise AssertionError("it does not come back")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(20)
    began = time.process_time()
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    assert time.process_time() - began < 10


def untouched(place: Place) -> bool:
    return (place.outside / "secret").read_text() == f"{CANARY}\n" and {
        path.name for path in place.outside.rglob("*")
    } == {"secret", "more"}


@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_answers_in_a_line_and_touches_nothing_outside(
    place: Place, template: Path, command: str, where: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for kind in KINDS:
        shutil.rmtree(place.data_dir)
        shutil.copytree(template, place.data_dir)
        plant(place, where, kind)
        with in_time():
            status = main([*COMMANDS[command].split(), "--data-dir", str(place.data_dir)])
        out, err = capsys.readouterr()
        assert status in (0, 1, 2), kind
        assert len(err.splitlines()) <= 1, (kind, err)
        assert CANARY not in out + err, kind
        assert untouched(place), kind


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can read what a user cannot")
def test_root_does_not_read_the_file_that_a_note_names(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    config = place.outside / "limpet.yaml"
    config.write_text(f"{CANARY}: 1\n")
    assert main(["check-config", str(config)]) == 2
    assert CANARY in "".join(capsys.readouterr())  # where somebody asks for it by name
    Keeper(str(place.data_dir), "0" * 32, str(config), "a" * 64).write()
    for line in ("status", "status --json"):
        assert main([*line.split(), "--data-dir", str(place.data_dir)]) == 1
        out, err = capsys.readouterr()
        assert CANARY not in out + err


@pytest.mark.parametrize(
    "where", ["lock", "oldest", "newest", "cursor", "item", "about", "ticks", "key", "request", "quarantine"]
)
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_the_agent_s_buffer_opens_and_keeps_what_comes(
    place: Place, where: str, kind: Callable[[Path, Path], None]
) -> None:
    plant(place, where, kind)
    with in_time():
        buffer = Buffer(str(place.data_dir), LIMITS, ["there"])
        end = buffer.append([tick(100)])
        for _ in range(2):
            try:
                buffer.sync()
            except OSError:
                pass
        while (chunk := buffer.cursors["there"].read(1000)).ticks and chunk.end < end:
            try:
                buffer.cursors["there"].commit(chunk.start, chunk.end, chunk.samples, {})
            except OSError:
                pass
        assert chunk.ticks[-1].values == tick(100).values
        try:
            buffer.close()
        except OSError:
            pass
    assert untouched(place)


@pytest.mark.parametrize("where", ["lock", "newest", "cursor", "about", "key", "segments", "quarantine"])
@pytest.mark.parametrize("command", ["doctor", "collect"])
def test_the_commands_that_look_at_the_host_do_not_wait_either(
    place: Place, template: Path, command: str, where: str, capsys: pytest.CaptureFixture[str]
) -> None:
    config = place.data_dir.with_name("limpet.yaml")
    off = ", ".join(f"{name}: {{enabled: false}}" for name in COLLECTORS if name != "load")
    config.write_text(
        f"data_dir: {place.data_dir}\nmask: [device]\nremote_write: []\ncollect: {{collectors: {{{off}}}}}\n"
    )
    more = {"doctor": ["--timeout", "1s"], "collect": ["--interval", "100ms", "--json"]}[command]
    for kind in KINDS:
        shutil.rmtree(place.data_dir)
        shutil.copytree(template, place.data_dir)
        plant(place, where, kind)
        with in_time():
            status = main([command, "--config", str(config), *more])
        out, err = capsys.readouterr()
        assert status in (0, 1, 2), (kind, err)
        assert len(err.splitlines()) <= 1, (kind, err)
        assert CANARY not in out + err, kind
        assert untouched(place), kind


@pytest.mark.parametrize("where", ["segments", "cursors", "quarantine", "requests", "item"])
@pytest.mark.parametrize("command", [*COMMANDS.values(), "doctor --timeout 1s"])
def test_a_folder_that_a_link_leads_to_is_not_even_listed(place: Place, command: str, where: str) -> None:
    plant(place, where, link_to_folder)
    config = place.data_dir.with_name("limpet.yaml")
    config.write_text(f"data_dir: {place.data_dir}\nremote_write: []\n")
    arguments = (
        ["--config", str(config)] if command.startswith("doctor") else ["--data-dir", str(place.data_dir)]
    )
    folders = [place.outside / "more", place.outside]
    for folder in folders:
        os.utime(folder, (1e9, 1.1e9))  # so that the next look at it shows, also with relatime
    main([*command.split(), *arguments])
    assert [os.stat(folder).st_atime for folder in folders] == [1e9, 1e9]


def test_an_item_that_is_a_link_is_not_entered(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    """At the worst moment of a race the item, or the quarantine itself, leads to a folder that looks like one."""
    item, before = WHERE["item"](place), set[str]()
    for path in (item, item.parent):
        target = place.outside / path.name
        shutil.move(path, target)
        path.symlink_to(target)
        before |= {str(one) for one in place.outside.rglob("*")}
        assert Quarantine(str(place.data_dir)).get(ITEM) is None
        main(["buffer", "quarantine", "drop", "--all", "--yes", "--data-dir", str(place.data_dir)])
        with suppress(OSError):
            Quarantine(str(place.data_dir)).put("there", 0, [tick(2)], "rejected", 400, "no", 2000)
        if path == item:
            assert path.is_symlink()
    assert {str(one) for one in place.outside.rglob("*")} == before
    assert len(capsys.readouterr().err.splitlines()) <= 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may make devices")
def test_a_device_is_not_even_opened(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    path = WHERE["newest"](place)
    path.unlink()
    os.mknod(path, 0o600 | 0o020000, os.makedev(1, 5))  # /dev/zero
    with in_time():
        main(["buffer", "verify", "--data-dir", str(place.data_dir)])
    assert "not a regular file" in capsys.readouterr().out


def test_a_key_that_is_a_link_is_no_key(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    from agent.collect import mask

    for kind in KINDS:
        plant(place, "key", kind)
        with in_time():
            try:
                _, note = mask.look(str(place.data_dir), ["device"])
            except LimpetError as error:
                note = str(error)
        assert note is not None
        assert CANARY not in note
