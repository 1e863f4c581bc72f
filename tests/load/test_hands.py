"""A user who owns data_dir and the textfile folder, and exchanges what is in them all the time while root runs every command.

In full, each command 1,000 times: LIMPET_HANDS=1000 pytest -s tests/load/test_hands.py
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import pytest

from agent.cli.main import main
from agent.collectors import COLLECTORS
from agent.running import Keeper
from buffer.buffer import Buffer
from buffer.limits import Limits
from buffer.quarantine import Quarantine
from tests.support.buffers import fill
from tests.support.limpet import started_by_root
from tests.support.ticks import tick

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
TIMES = int(os.environ.get("LIMPET_HANDS", "3"))
NOBODY = 65534
CANARY = "canary-of-root"
ITEM = "there-" + "0" * 20
NOWHERE = "--to http://127.0.0.1:9/ --give-up-after 100ms"
COMMANDS = (
    "status",
    *(f"buffer {name}" for name in ("status", "segments", "tail", "verify", "verify --deep", "export")),
    *("buffer trim --to-size 1KiB --yes", f"buffer replay --dry-run {NOWHERE}", f"buffer replay {NOWHERE}"),
    *(
        "buffer quarantine list",
        f"buffer quarantine show {ITEM}",
        f"buffer quarantine replay --all {NOWHERE}",
    ),
    "buffer quarantine drop --all --yes",
)
CONFIGURED = ("doctor --timeout 1s --config", "collect --interval 100ms --json --config", "check-config")
RUNS = max(1, TIMES // 20)
"""Times that the agent itself is started, and stopped."""


class Place(NamedTuple):
    """What is in `base` is the user's; `outside` is root's, and holds what nobody may touch."""

    base: Path
    outside: Path

    @property
    def data(self) -> Path:
        return self.base / "data"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    monkeypatch.setenv("HOME", str(tmp_path))  # where root's own state of a replay is
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    with tempfile.TemporaryDirectory() as name:  # not below tmp_path, into which only root may look
        os.chmod(name, 0o755)  # noqa: S103
        made = Place(Path(name) / "base", Path(name) / "outside")
        template = made.base / "template"
        buffer = Buffer(str(template), Limits(1 << 20, segment_size=512), ["there"])
        fill(buffer, 0, 60)
        buffer.close()
        Quarantine(str(template)).put("there", 0, [tick(1)], "rejected", 400, "no", 1000)
        (template / "mask.key").write_text("ab" * 32 + "\n")
        (template / "requests" / "trim.json").write_text('{"version": 1, "before": 0}')
        Keeper(str(template), "0" * 32, str(made.outside / "open"), "a" * 64).write()
        shutil.copytree(template, made.data)
        shutil.copytree(template, made.outside)
        (made.outside / "secret").write_text(f"{CANARY} 1\n")
        (made.outside / "open").write_text(f"{CANARY} 2\n")
        (made.base / "text").mkdir()
        (made.base / "seeds").mkdir()
        # As where the kernel lets a user link files that are not his own (fs.protected_hardlinks=0).
        (made.base / "seeds" / "hard").hardlink_to(made.outside / "secret")
        for path in made.base.rglob("*"):
            if path.name != "hard":
                os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
        for path in (made.outside, *made.outside.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
        (made.outside / "secret").chmod(0o600)
        yield made


# The user.


def huge(path: Path) -> None:
    path.touch()
    os.truncate(path, 1 << 40)


def attack(place: Place, seed: int) -> None:
    """Exchange files, until the parent ends this process."""

    def wake(_number: int, _frame: object) -> None:
        raise InterruptedError  # from a pipe that the other one of these made

    signal.signal(signal.SIGALRM, wake)
    rng = random.Random(seed)
    data, outside, template = place.data, place.outside, place.base / "template"
    known = [path.relative_to(template) for path in template.rglob("*")]
    known += [path.with_name(f"{path.name}{end}") for path in known for end in (".tmp", ".damaged")]
    traps: list[Callable[[Path], object]] = [
        lambda path: path.symlink_to(outside / "secret"),
        lambda path: path.symlink_to(outside / "open"),
        lambda path: path.symlink_to(
            outside / path.relative_to(data) if path.is_relative_to(data) else outside
        ),
        lambda path: path.symlink_to(outside),
        lambda path: path.symlink_to("/dev/zero"),
        lambda path: path.symlink_to(path),
        lambda path: path.hardlink_to(place.base / "seeds" / "hard"),
        lambda path: os.mkfifo(path),
        lambda path: path.mkdir(),
        lambda path: path.write_bytes(rng.randbytes(200)),
        huge,
    ]
    turn, parent = 0, os.getppid()
    while os.getppid() == parent:  # and no longer, however it ends
        with suppress(OSError, shutil.Error):
            signal.setitimer(signal.ITIMER_REAL, 0.5)
            turn += 1
            if turn % 12 == 1:  # what commands and traps have removed comes back
                for name in os.listdir(data):
                    shutil.rmtree(data / name, ignore_errors=True)
                    with suppress(OSError):
                        os.unlink(data / name)
                shutil.copytree(template, data, dirs_exist_ok=True)
            path = data / rng.choice(known)
            if rng.random() < 0.2:
                path = place.base / "text" / f"{rng.randrange(4)}.prom"
            exchange(path, place.base / "seeds" / f"aside-{seed}", rng.choice(traps), rng)


def exchange(path: Path, aside: Path, trap: Callable[[Path], object], rng: random.Random) -> None:
    """Let something else have a place for a moment."""
    with suppress(OSError):
        os.rename(path, aside)
    with suppress(OSError):
        trap(path)
    time.sleep(rng.choice((0, 0, 0.0005, 0.003)))
    with suppress(OSError):
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
    with suppress(OSError):
        os.rename(aside, path)
    shutil.rmtree(aside, ignore_errors=True)
    with suppress(OSError):
        aside.unlink()


@contextmanager
def attacked(place: Place) -> Iterator[None]:
    pids = []
    for seed in range(2):
        if (pid := os.fork()) == 0:
            try:
                os.setgroups([])
                os.setresgid(NOBODY, NOBODY, NOBODY)
                os.setresuid(NOBODY, NOBODY, NOBODY)
                attack(place, seed)
            finally:
                os._exit(1)
        pids.append(pid)
    try:
        yield
        assert [os.waitpid(pid, os.WNOHANG) for pid in pids] == [(0, 0)] * len(
            pids
        )  # they were at it all the time
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
            with suppress(ChildProcessError):
                os.waitpid(pid, 0)


# What nobody may touch.


def age(place: Place) -> None:
    """Let everything outside be read last before it was written: then the next read shows in its atime."""
    for path in (*place.outside.rglob("*"), place.outside):
        os.utime(path, (1e9, 1.1e9))


def seen(place: Place, paths: list[Path]) -> dict[str, tuple[int, ...]]:
    """Return what a touch would change. This itself touches nothing."""
    found: dict[str, tuple[int, ...]] = {}
    for path in paths:
        one = os.lstat(path)
        size = one.st_size if stat.S_ISREG(one.st_mode) else 0
        found[str(path)] = (one.st_mode, one.st_uid, one.st_gid, size, one.st_mtime_ns, one.st_atime_ns)
    return found


def contents(paths: list[Path]) -> dict[Path, bytes]:
    found = {}
    for path in paths:
        if path.is_file():
            with open(os.open(path, os.O_RDONLY | os.O_NOATIME), "rb") as file:
                found[path] = file.read()
    return found


@contextmanager
def in_time(what: str) -> Iterator[None]:
    def late(_number: int, _frame: object) -> None:
        raise AssertionError(f"{what} does not come back")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(60)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def ended_with(line: str) -> int:
    """Run a command, and return its exit status: in a process of its own, since some become the agent's user for good."""
    child = os.fork()
    if not child:
        status = 70
        try:
            status = main(line.split())
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    try:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    except BaseException:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        raise


def once(place: Place, config: Path, home: Path) -> str:
    """Run the agent for a moment, and return what it said."""
    agent = started_by_root(home, config)
    with suppress(subprocess.TimeoutExpired):
        return agent.communicate(timeout=2)[1]
    agent.send_signal(signal.SIGTERM)
    return agent.communicate(timeout=60)[1]


@pytest.mark.timeout(7200)
def test_nothing_outside_is_read_changed_or_deleted(place: Place, capfd: pytest.CaptureFixture[str]) -> None:
    config, home = place.outside.parent / "limpet.yaml", Path(os.environ["HOME"])
    on = f"textfile: {{directory: {place.base / 'text'}}}"
    off = ", ".join(f"{name}: {{enabled: false}}" for name in COLLECTORS if name != "load")
    config.write_text(
        f"data_dir: {place.data}\nmask: [device]\nremote_write: []\n"
        f"collect: {{interval: 1s, collectors: {{{off}, {on}}}}}\n"
    )
    lines = [f"{command} --data-dir {place.data}" for command in COMMANDS]
    lines += [f"{command} {config}" for command in CONFIGURED]
    paths = [place.outside, *sorted(place.outside.rglob("*"))]
    age(place)
    (place.outside / "open").read_bytes()
    atime_tells = os.stat(place.outside / "open").st_atime != 1e9
    age(place)
    witness = place.outside.with_name("witness")
    witness.mkdir()
    os.utime(witness, (1e9, 1.1e9))
    before, held = seen(place, paths), contents(paths)
    ended: Counter[str] = Counter()
    with attacked(place):
        for turn in range(TIMES):
            for line in lines:
                with in_time(line):
                    status = ended_with(line)
                out, err = capfd.readouterr()
                assert status in (0, 1, 2), line
                assert "Traceback" not in err, (line, err)
                assert CANARY not in out + err, (line, out, err)
                ended[f"{line.partition(' --')[0]}: {status}"] += 1
            if turn < RUNS:
                said = once(place, config, home)
                assert CANARY not in said
                assert "Traceback" not in said, said
            now = seen(place, paths)
            assert {path: one for path, one in now.items() if one != before[path]} == {}, seen(
                place, [witness]
            )
    assert contents(paths) == held
    assert [place.outside, *sorted(place.outside.rglob("*"))] == paths
    assert (os.geteuid(), os.getegid()) == (0, 0)
    assert atime_tells or os.statvfs(place.outside).f_flag & os.ST_NOATIME
    if TIMES >= 20:
        assert {name.rpartition(":")[0] for name in ended} == {
            name.rpartition(":")[0] for name in ended if not name.endswith("2")
        }  # each command got to its work
        with capfd.disabled():
            print(
                f"\n{TIMES} times {len(lines)} commands, {RUNS} runs; by exit status: {dict(sorted(ended.items()))}"
            )
