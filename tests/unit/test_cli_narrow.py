"""On a narrow terminal: a name, a path or a command is never folded or cut, so that it can be copied.

No line is wider than the terminal unless a single word is. Then the terminal would fold in a word, wherever the column is.
"""

from __future__ import annotations

import os
from pathlib import Path
from unittest.mock import patch

import pytest
import yaml

from agent.cli import doctor, replay, screen, tail
from agent.cli.view import View
from agent.ops.doctor.step import Step
from agent.ops.replay.cursor import Tally
from agent.ops.replay.run import Ended, RefusedSamples, Replayed
from buffer.buffer import Buffer
from buffer.limits import Limits
from buffer.model import Instant, Series, Tick
from tests.integration.test_cli_terminal import terminal

BOOT = "0123456789abcdef" * 2
AT = Instant(1_790_000_000_000, 1, BOOT)
JOB = "scrape/plc-gateway/cabinet-07.site-hamburg-altona.plants.example.com:9100"
METRIC = "node_netstat_IcmpMsg_OutType3_destination_unreachable_messages_total"
PATH = "/srv/data/plants/hamburg-altona/cabinet-07/limpet-buffer-of-the-gateway"
LABELS = tuple(sorted({"hostname": "cabinet-07.site-hamburg", "mountpoint": PATH, "role": "gateway"}.items()))
NAME = "metrics-receiver-of-the-central-plant-in-hamburg.example.com"
COLUMNS = (80, 40)


def shown(view: View, columns: int) -> list[str]:
    """The lines on a terminal of so many columns."""
    with patch.dict(os.environ, {"COLUMNS": str(columns)}):
        return screen.text(view).splitlines()


def no_wider(lines: list[str], columns: int) -> None:
    """Each line has room, or is one word; a sign may be in front of that."""
    for line in lines:
        assert len(line) <= columns or len(line.split()) == 1, line


def words(lines: list[str]) -> list[str]:
    return " ".join(lines).split()


STEPS = (
    Step("this host", f"backlog of {NAME}", False, f"held; 401 of https://{NAME}/api/v1/write", "Fix it: chmod 0700 " + PATH),
    Step("this host", f"collector {JOB}", True, f"55 samples in 3.1 ms, but not all: file {PATH}: permission denied", None),
    Step("this host", "space", True, "12.4 GiB of 28.9 GiB are free, the buffer may grow by 256.0 MiB", None),
)  # fmt: skip


@pytest.mark.parametrize("columns", COLUMNS)
def test_the_steps_of_doctor(columns: int) -> None:
    wide, lines = shown(doctor.show(STEPS), 1000), shown(doctor.show(STEPS), columns)
    no_wider(lines, columns)
    assert words(lines) == words(wide)
    assert "✗ wrong" in lines[1]
    for name in (NAME, JOB, PATH):
        assert any(name in line for line in lines), name


def test_a_step_with_room_is_still_a_row() -> None:
    """The long names of other steps do not move it."""
    row = next(line for line in shown(doctor.show(STEPS), 80) if "space" in line)
    assert row == "✓ fine       space                     12.4 GiB of 28.9 GiB are free, the buffer"


@pytest.mark.parametrize("columns", COLUMNS)
def test_the_ledger_of_a_replay(columns: int) -> None:
    said = f'400 Bad Request: out of order sample for {METRIC}{{mountpoint="{PATH}"}}'
    refusal = RefusedSamples(400, said, 1, 12, AT.wall_ms, AT.wall_ms)
    report = Replayed(Ended.COMPLETE, Tally(read=123_456_789, selected=1, relabeled=3), [refusal], None)
    wide, lines = shown(replay.show(report), 1000), shown(replay.show(report), columns)
    no_wider(lines, columns)
    assert words(lines) == words(wide)
    assert any(f'{METRIC}{{mountpoint="{PATH}"}}' in line for line in lines)


TICKS = (
    Tick(AT, JOB, (Series(METRIC, LABELS), Series("up", LABELS)), [1.0, 0.0]),
    Tick(AT, "cpu", (Series("cpu_usage_percent", (("core", "all"), *LABELS)),), [3.5]),
    Tick(AT, f"{JOB}/{'x' * 30}", (Series("x", LABELS),), [3.5]),
)


@pytest.mark.parametrize("columns", COLUMNS)
@pytest.mark.parametrize("tick", TICKS, ids=["long", "short", "longer"])
def test_the_newest_ticks(tick: Tick, columns: int) -> None:
    wide, lines = tail.line(tick, tail.UNLIMITED), tail.line(tick, columns).splitlines()
    no_wider(lines, columns)
    got = words(lines)
    assert (
        got[: got.index("series") + 1] == wide.split()[: got.index("series") + 1]
    )  # and then as many values as have room
    assert tick.group in got


@pytest.mark.parametrize("columns", COLUMNS)
def test_every_value_of_a_tick(columns: int) -> None:
    for tick in TICKS:
        lines = tail.values(tick, columns).splitlines()
        # A label is never folded, and has no room of its own here.
        assert all(len(line) <= columns or line.count("=") == 1 for line in lines), lines
        wide = tail.values(tick, tail.UNLIMITED)
        assert "".join(words(lines)) == "".join(wide.split())
        assert any(f'mountpoint="{PATH}"' in line for line in lines)


def test_a_comma_in_a_label_is_not_between_labels() -> None:
    series = Series("x", (("a", 'one",two=' * 9), ("b", "c")))
    lines = tail.values(Tick(AT, "x", (series,), [1.0]), 40).splitlines()
    assert len(lines) == 3 and lines[2] == '    b="c"}'


ON_A_TERMINAL = {
    "buffer tail -n 5": (JOB,),
    "buffer tail --values -n 5": (METRIC, f'mountpoint="{PATH}"', 'role="gateway"'),
    f"buffer replay --dry-run --to {NAME}": ("selected",),
    f"buffer replay --to {NAME}.org": (f"'{NAME}.org';", f" {NAME}."),
}
"""Commands, and what has to be on the screen as it is."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A box with a backlog for a destination of a long name."""
    buffer = Buffer(str(tmp_path / "data"), Limits(), [NAME])
    for tick in TICKS:
        buffer.append([tick])
    buffer.close()
    to = {"url": f"https://{NAME}/api/v1/write", "name": NAME}
    (tmp_path / "limpet.yaml").write_text(yaml.safe_dump({"data_dir": "data", "remote_write": [to]}))
    return tmp_path


@pytest.mark.parametrize("command", ON_A_TERMINAL)
def test_on_a_real_terminal(command: str, folder: Path) -> None:
    with terminal(*command.split(), "--config", str(folder / "limpet.yaml"), HOME=str(folder)) as shown:
        seen = shown.rest().replace("\r\n", "\n").replace("\n", " ")
    assert "Traceback" not in seen
    for text in ON_A_TERMINAL[command]:
        assert text in seen, seen
