"""Every command line that people are given is run, as it is printed, on a box with an agent, a past of weeks and a quarantine.

`tests/unit/test_printed_commands.py` finds them in pages, runbooks and advice. What changes for the run is where things are: the
names of configuration, folder, stick, receiver and item are those of the box. What gives something up or sends it again runs on a
copy, so that no command depends on another. `NOT_RUN` has the lines that are no whole command, each with the reason.
"""

from __future__ import annotations

import contextlib
import gzip
import re
import shlex
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from buffer.buffer import Buffer
from buffer.limits import Limits
from buffer.quarantine import Quarantine
from tests.support.agent import Agent
from tests.support.history import DAY, Disk, History, Story
from tests.support.limpet import Done, called
from tests.support.net import free_port, wait_for
from tests.support.receiver import Answer, Receiver
from tests.unit.test_printed_commands import FOUND, PARSER, wrong_with

HOUR = 3600.0
NAMED = "the command is named, without what it is about"
NOT_RUN = {
    "run": "it is how the agent of the box was started",
    "buffer": "all commands of the backlog",
    "buffer ...": "all commands of the backlog",
    "buffer quarantine": "all of its commands",
    **dict.fromkeys(
        ("serve", "serve --config limpet.yaml", "serve --config /etc/limpet/limpet.yaml",
         "serve --config /etc/limpet-serve/limpet.yaml"),
        "it serves until it is ended; tests/integration/test_serve_api.py starts it",
    ),
    "buffer replay --from /media/stick/limpet --config limpet.yaml --to central": (
        "the folder is what a destination of the type file wrote; tests/integration/test_replay.py has one"
    ),
    **dict.fromkeys(
        ("buffer quarantine drop", "buffer quarantine replay", "buffer quarantine show", "buffer replay",
         "buffer trim", "completion", "query"),
        NAMED,
    ),
}  # fmt: skip
FINDINGS = ("doctor", "status", "retry", "buffer trim")
"""Status 1 says that something needs doing, or that there is nothing to trim: a receiver is away."""
CHANGES = ("buffer trim", "buffer quarantine drop", "buffer quarantine replay")


class Box(NamedTuple):
    """A folder, the configuration in it, and a receiver that takes everything."""

    folder: Path
    config: Path
    receiver: Receiver

    @property
    def data_dir(self) -> Path:
        return self.folder / "data"

    def copy(self, name: str) -> Box:
        """The same without an agent, in a folder of its own."""
        folder = self.folder.parent / name
        folder.mkdir()
        while True:
            with contextlib.suppress(shutil.Error):  # the agent has dropped a file meanwhile
                shutil.copytree(self.data_dir, folder / "data", dirs_exist_ok=True)
                break
        shutil.copy(self.config, folder)
        return self._replace(folder=folder, config=folder / self.config.name)


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    """Three weeks, by the hour at first, for a receiver that takes all, one that refuses, and one that is away."""
    folder = tmp_path_factory.mktemp("box") / "box"
    with Receiver() as receiver, Receiver() as picky:
        away = f"http://127.0.0.1:{free_port()}/api/v1/write"
        to = {"central": receiver.url, "backup": receiver.url, "picky": picky.url, "away": away}
        agent = Agent(folder, [{"url": url, "name": name} for name, url in to.items()])
        agent.config["buffer"]["segment_size"] = "64KiB"
        past, now = Buffer(str(agent.data_dir), Limits(segment_size=64 << 10), list(to)), time.time()
        story = Story(disks={"/srv": Disk(120, 61, 0.4)})
        times = [
            *(now - 21 * DAY + n * 6 * HOUR for n in range(80)),
            *(now - n * 300 for n in range(150, 0, -1)),
        ]
        for tick in History("test-host", {}, story, now, ["central"], 1).ticks(times):
            past.append([tick])
        past.close()
        picky.default = Answer(400, body=b"out of bounds")
        with agent:
            wait_for(lambda: Quarantine(str(agent.data_dir)).items(), 60, "what is refused")
            picky.default = Answer()
            wait_for(
                lambda: agent.destination("central").get("pending_samples") == 0, 60, "the past to be sent"
            )
            yield Box(folder, agent.config_file, receiver)


LINES = sorted({line for _, line in FOUND})


def words_of(line: str) -> list[str]:
    """The words of one command, without what the shell does with its output."""
    return shlex.split(re.split(r"\s(?:[|>;]|&&|2>)", line)[0], comments=True)


def takes(words: list[str]) -> bool:
    return wrong_with(shlex.join(words)) is None


def on(box: Box, words: list[str]) -> list[str]:
    """The same words with the names of the box, and what a command asks for on a terminal."""
    item = Quarantine(str(box.data_dir)).items()[0].id
    names = {
        "limpet.yaml": str(box.config),
        "/var/lib/limpet": str(box.data_dir),
        "/mnt/old-disk/limpet": str(box.data_dir),
        "http://localhost:9090/api/v1/write": box.receiver.url,
        "COMMAND": "status",
        "2026-05-01": "12h",
        "2026-05-02": "now",
    }
    put = [names.get(word, re.sub(r"^central-\d{20}$", item, word)) for word in words]
    put = [word.replace("/media/stick/", "") for word in put]
    for more in (["--config", str(box.config)], ["--yes"]):
        if more[0] not in put and takes([*put, *more]):
            put += more
    return put


def run(box: Box, line: str) -> Done:
    """Run a command line on the box."""
    words = on(box, words_of(line))
    if "--from" in words:
        export(box, Path(words[words.index("--from") + 1]))
    return called(box.folder, *words)


def export(box: Box, file: Path) -> None:
    """Make the file that was exported at the site."""
    plain = file.with_suffix("") if file.suffix == ".gz" else file
    done = called(
        box.folder, "buffer export --force", "--config", box.config, "--since", "1h", "--output", plain
    )
    assert done.status == 0, done.err
    if plain != file:
        file.write_bytes(gzip.compress(plain.read_bytes()))


def test_what_is_not_run_is_printed_somewhere_and_could_not_be() -> None:
    assert NOT_RUN.keys() <= set(LINES)
    assert all(re.search(r"[a-z]", why) for why in NOT_RUN.values())
    for line in [line for line, why in NOT_RUN.items() if why == NAMED and line != "query"]:
        with pytest.raises(SystemExit):
            PARSER.parse_args(line.split())


@pytest.mark.parametrize("line", [line for line in LINES if line.strip() not in NOT_RUN])
def test_it_works_as_printed(box: Box, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    where = box.copy(tmp_path.name) if line.startswith(CHANGES) else box
    monkeypatch.chdir(tmp_path)
    done = run(where, line)
    fine = (0, 1) if line.startswith(FINDINGS) else (0,)
    assert done.status in fine, (done.out + done.err)[-2000:]
    assert done.out or "--output" in line, done.err
    if "--json" in line and "--help" not in line:
        assert done.json is not None
    if "--output" in line:
        written = words_of(line)[words_of(line).index("--output") + 1]
        assert Path(written.replace("/media/stick/", "")).stat().st_size
