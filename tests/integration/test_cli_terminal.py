"""The command on a terminal, in a pipe, and into a full disk; and what it costs the terminal when it ends."""

from __future__ import annotations

import codecs
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from buffer.buffer import Buffer
from buffer.limits import Limits
from buffer.model import Instant, Series, Tick
from tests.support.limpet import LIMPET

ENTER, LEAVE, SHOW_CURSOR = "\x1b[?1049h", "\x1b[?1049l", "\x1b[?25h"


class Terminal:
    """A process on a pseudo terminal of its own."""

    def __init__(self, master: int, process: subprocess.Popen[bytes]) -> None:
        self._master, self.process, self.seen = master, process, ""
        self._decoder = codecs.getincrementaldecoder("utf-8")()

    def until(self, pattern: str) -> str:
        """Read until the pattern is there; return everything so far."""
        end = time.monotonic() + 30
        while not re.search(pattern, self.seen):
            ready, _, _ = select.select([self._master], [], [], max(0.0, end - time.monotonic()))
            assert ready, f"waited in vain for {pattern!r}; seen: {self.seen[-2000:]!r}"
            self._read()
        return self.seen

    def rest(self) -> str:
        """Read to the end, and wait for the process."""
        while self._read():
            pass
        self.process.wait(30)
        return self.seen

    def _read(self) -> bool:
        try:
            data = os.read(self._master, 65536)
        except OSError:  # the process has closed the other side
            return False
        self.seen += self._decoder.decode(data)
        return bool(data)

    def press(self, keys: bytes) -> None:
        os.write(self._master, keys)


@contextmanager
def terminal(*arguments: str, columns: int = 80, lines: int = 24, **environment: str) -> Iterator[Terminal]:
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    known = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "LINES", "NO_COLOR")}
    process = subprocess.Popen(
        [LIMPET, *arguments],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env=known | {"TERM": "xterm-256color"} | environment,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(slave)
    try:
        yield Terminal(master, process)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        os.close(master)


@pytest.mark.parametrize("command", [["buffer", "status", "--watch", "0.1"], ["collect", "--watch"]], ids=str)
@pytest.mark.parametrize("how", ["Ctrl-C", "SIGTERM", "SIGHUP"])
def test_the_screen_is_given_back(command: list[str], how: str, tmp_path: Path) -> None:
    if command[0] == "buffer":
        command = [*command, "--data-dir", str(tmp_path)]
    with terminal(*command) as shown:
        shown.until("Ctrl-C ends it")
        if how == "Ctrl-C":
            shown.press(b"\x03")
        else:
            shown.process.send_signal(getattr(signal, how))
        seen = shown.rest()
        status = {"Ctrl-C": 130, "SIGTERM": 143, "SIGHUP": 129}[how]
        assert shown.process.returncode == status
    assert seen.startswith(ENTER)
    assert seen.index(LEAVE) > seen.rindex(ENTER)
    assert seen.rindex(SHOW_CURSOR) > seen.index("Ctrl-C ends it")
    assert "Traceback" not in seen


def test_the_screen_is_given_back_when_the_buffer_goes_away(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    with terminal("buffer", "status", "--watch", "0.1", "--data-dir", str(data_dir)) as shown:
        shown.until("Ctrl-C ends it")
        data_dir.rmdir()
        seen = shown.rest()
        assert shown.process.returncode == 2
    assert "there is no such folder" in seen[seen.index(LEAVE) :]


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_no_line_is_wider_than_the_terminal(columns: int) -> None:
    with terminal("collect", columns=columns) as shown:
        lines = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.rest()).splitlines()
        assert shown.process.returncode == 0
    assert len(lines) > 40
    assert all(len(line) <= columns or " " not in line.strip() for line in lines)  # but for a single word


def test_the_live_view_has_all_categories_on_a_small_screen() -> None:
    with terminal("collect", "--watch", "--interval", "200ms") as shown:
        seen = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.until("Ctrl-C ends it"))
        shown.press(b"\x03")
        shown.rest()
    lines = [line.strip() for line in seen.splitlines()]
    for name in ("cpu", "memory", "disk_io", "network", "disk_usage"):
        at = lines.index(name)
        assert "_" in lines[at + 1], f"{name} has a row"


def test_no_color_and_dumb_terminals(tmp_path: Path) -> None:
    where = ("--data-dir", str(tmp_path))
    with terminal("buffer", "status", *where) as shown:
        assert re.search(r"\x1b\[[0-9;]*3[0-7]m", shown.rest())  # "not running" is yellow
    with terminal("buffer", "status", *where, NO_COLOR="1") as shown:
        assert not re.search(r"\x1b\[[0-9;]*3[0-7]m", shown.rest())
    with terminal("buffer", "status", "--watch", "0.1", *where, TERM="dumb") as shown:
        assert "\x1b" not in shown.until("(?s)buffer .*buffer ")


def load(data_dir: Path) -> tuple[str, ...]:
    """Fill a buffer with an hour of three load averages, and return the words of a command that shows them."""
    buffer, now = Buffer(str(data_dir), Limits(), []), int(time.time() * 1000)
    series = tuple(Series(f"load_average_{minutes}m", (("hostname", "a"),)) for minutes in (1, 5, 15))
    for n in range(360):
        at = Instant(now - (360 - n) * 10_000, n * 10_000, "0" * 32)
        buffer.append([Tick(at, "load", series, [n % 7, 3 + n % 5, 9.0])])
    buffer.close()
    return "show", "load", "--last", "1h", "--data-dir", str(data_dir)


def test_a_chart_fits_the_terminal_with_and_without_colors(tmp_path: Path) -> None:
    words = load(tmp_path / "data")
    for columns, lines in ((80, 24), (44, 16), (200, 60)):
        with terminal(*words, columns=columns, lines=lines) as shown:
            seen = shown.rest()
            assert shown.process.returncode == 0
        chart = seen[seen.index("load average") :]
        text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", chart).splitlines()
        assert max(map(len, text)) <= columns
        assert lines - 6 <= len(text) < lines
        assert re.search(r"\x1b\[[0-9;]*3[0-7]m", chart)
    with terminal(*words, NO_COLOR="1") as shown:
        seen = shown.rest()
        assert not re.search(r"\x1b\[[0-9;]*3[0-7]m", seen)
        assert {line[-1] for line in seen.replace("\r", "").splitlines() if "│" in line} >= {"a", "b", "c"}
    piped = subprocess.run([LIMPET, *words], capture_output=True, text=True, timeout=60, check=True)
    assert "\x1b" not in piped.stdout + piped.stderr
    assert "│" in piped.stdout


@pytest.mark.parametrize(
    "command",
    [["collect", "--format", "prometheus", "--watch"], ["collect", "--watch", "--interval", "100ms"]],
)
def test_a_reader_that_goes_away_is_no_error(command: list[str]) -> None:
    with subprocess.Popen([LIMPET, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(30) == 141
        assert process.stderr.read() == b""


@pytest.mark.parametrize("command", [["--help"], ["version"], ["collect", "--json"], ["completion", "bash"]])
def test_what_cannot_be_stored_is_reported(command: list[str]) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run([LIMPET, *command], stdout=full, stderr=subprocess.PIPE, text=True, timeout=30)
    assert (done.returncode, done.stderr) == (
        2,
        "standard output: it cannot be written: no space left on device. Send it elsewhere.\n",
    )


def test_a_locale_that_cannot_write_it(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "latin-1"}
    where = ["--data-dir", str(tmp_path / "größe→")]
    (tmp_path / "größe→").mkdir()
    done = subprocess.run(
        [LIMPET, "buffer", "status", *where], capture_output=True, env=environment, timeout=30, check=True
    )
    assert "größe\\u2192".encode("latin-1") in done.stdout


def test_python_m_agent_is_limpet() -> None:
    root = Path(__file__).resolve().parents[2]
    one, other = (
        subprocess.run([*command, "--help"], capture_output=True, text=True, timeout=30, cwd=root, check=True)
        for command in ([LIMPET], [sys.executable, "-m", "agent"])
    )
    assert one.stdout == other.stdout
