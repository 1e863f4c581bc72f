"""Sensors that lie, collide, vanish, fail and hang, on trees with the links of a real /sys."""

from __future__ import annotations

import errno
import gc
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.collectors import HostPaths, Trouble, chips, kernel, raspberrypi, sensors
from agent.collectors.chips import Chips, millidegrees
from agent.collectors.kernel import hexadecimal
from agent.collectors.options import SensorsOptions
from agent.collectors.raspberrypi import RaspberryPi
from tests.support.hosts import Values, values
from tests.support.net import wait_for

TEMPERATURE = "sensor_temperature_celsius"


class Board:
    """A /sys in a folder of its own, and the collector on it."""

    def __init__(self, root: Path) -> None:
        self.sys = root / "sys"
        self.told: list[Trouble] = []
        self.paths = HostPaths(str(root / "proc"), str(self.sys), patience=0.5, report=self.told.append)
        for kind in ("hwmon", "thermal"):
            (self.sys / "class" / kind).mkdir(parents=True)

    def chip(self, number: int, name: str, device: str | None = None, **files: str) -> Path:
        """Add hwmon<number> of a device, a path below /sys/devices; files are named like temp1_input."""
        folder = self.sys / "class" / "hwmon" / f"hwmon{number}"
        folder.mkdir()
        (folder / "name").write_text(f"{name}\n")
        for file, text in files.items():
            (folder / file).write_text(f"{text}\n")
        if device is not None:
            place = self.sys / "devices" / device
            place.mkdir(parents=True, exist_ok=True)
            (folder / "device").symlink_to(place)
        return folder

    def zone(self, number: int, kind: str, temp: str) -> Path:
        folder = self.sys / "class" / "thermal" / f"thermal_zone{number}"
        folder.mkdir()
        (folder / "type").write_text(f"{kind}\n")
        (folder / "temp").write_text(f"{temp}\n")
        return folder

    def collector(self, **options: tuple[str, ...]) -> Callable[[], dict[str, float]]:
        collect = sensors.build(SensorsOptions(**options), self.paths)

        def run() -> dict[str, float]:
            self.told.clear()
            return temperatures(values(collect(0.0)))

        return run


def temperatures(found: Values) -> dict[str, float]:
    return {dict(labels)["sensor"]: value for (name, labels), value in found.items() if name == TEMPERATURE}


@pytest.fixture
def board(tmp_path: Path) -> Board:
    return Board(tmp_path)


def test_each_sensor_has_a_name_of_its_own_that_lasts(board: Board) -> None:
    board.zone(0, "acpitz", "27800")
    board.zone(1, "acpitz", "29800")
    board.zone(2, "x86_pkg_temp", "61000")
    board.chip(0, "acpitz", "virtual/thermal/thermal_zone0", temp1_input="27800")
    core = {
        "temp1_label": "Package id 0",
        "temp1_input": "61000",
        "temp2_label": "Core 0",
        "temp2_input": "60000",
    }
    board.chip(1, "coretemp", "platform/coretemp.0", **core)
    board.chip(2, "coretemp", "platform/coretemp.1", **core)
    nvme = {
        "temp1_label": "Composite",
        "temp1_input": "34850",
        "temp2_label": "Sensor 1",
        "temp2_input": "30850",
    }
    board.chip(3, "nvme", "pci0000:00/0000:01:00.0/nvme/nvme1", **nvme)
    board.chip(4, "nvme", "pci0000:00/0000:02:00.0/nvme/nvme0", **nvme)
    board.chip(5, "lm75", "platform/i2c-1/1-0048", temp1_input="25125")
    board.chip(6, "k10temp", "pci0000:00/0000:00:18.3", temp1_label="Tctl", temp1_input="50000", temp3_label="Tctl",
               temp3_input="51000")  # fmt: skip
    board.chip(7, "twice", "platform/it87.2608", temp1_input="40000")
    board.chip(8, "twice", "platform/it87.2608", temp1_input="41000")
    assert board.collector()() == {
        "acpitz/thermal_zone0": 27.8,
        "acpitz/thermal_zone1": 29.8,
        "x86_pkg_temp/thermal_zone2": 61.0,
        "coretemp/coretemp.0/Package id 0": 61.0,
        "coretemp/coretemp.1/Package id 0": 61.0,
        "nvme/0000:01:00.0/Composite": 34.9,
        "nvme/0000:02:00.0/Composite": 34.9,
        "lm75/1-0048/temp1": 25.1,
        "k10temp/0000:00:18.3/temp1": 50.0,
        "k10temp/0000:00:18.3/temp3": 51.0,
        "twice/it87.2608/temp1": 40.0,
        "twice/hwmon8/temp1": 41.0,
    }
    assert board.told == []
    assert board.collector(include_sensors=(".*/Core.*",))().keys() == {
        "coretemp/coretemp.0/Core 0",
        "coretemp/coretemp.1/Core 0",
    }


@pytest.mark.parametrize(
    ("text", "degrees"),
    [
        ("48312", 48.3), ("-20500", -20.5), ("-40", 0.0), ("105000", 105.0), ("125999", 126.0),
        ("127000", None), ("127875", None), ("128000", None), ("255000", None), ("-127000", None), ("-128000", None),
        ("-273150", None), ("-61000", None), ("2147483647", None), ("", None), ("n/a", None), ("4 8", None),
        ("48.3", None), ("0x10", None), ("+5", None), ("9" * 5000, None), ("\x00", None),
    ],
)  # fmt: skip
def test_what_is_a_temperature(text: str, degrees: float | None) -> None:
    found = millidegrees(text.encode() + b"\n")
    assert found == degrees
    assert str(found) != "-0.0"


def test_zero_is_believed_of_what_has_shown_something_else(board: Board) -> None:
    cellar = board.chip(0, "lm75", "platform/1-0048", temp1_input="0")
    board.chip(1, "w83627", "platform/w83627", temp1_input="0", temp2_input="30000", temp2_fault="1")
    run = board.collector()
    assert run() == {}
    (cellar / "temp1_input").write_text("-125\n")
    assert run() == {"lm75/1-0048/temp1": -0.1}
    (cellar / "temp1_input").write_text("0\n")
    assert run() == {"lm75/1-0048/temp1": 0.0}
    assert board.told == []


def refused(monkeypatch: pytest.MonkeyPatch, path: Path, error: int) -> None:
    real = kernel.read

    def read(name: str) -> bytes:
        if name == str(path):
            raise OSError(error, os.strerror(error), name)
        return real(name)

    monkeypatch.setattr("agent.collectors.chips.read", read)


@pytest.mark.parametrize("error", [errno.EIO, errno.ETIMEDOUT, errno.EREMOTEIO, errno.EACCES])
def test_an_error_is_reported_of_a_sensor_that_has_worked(
    board: Board, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    one = board.chip(0, "lm75", "platform/1-0048", temp1_input="25000")
    board.chip(1, "lm75", "platform/1-0049", temp1_input="26000")
    with monkeypatch.context() as patch:
        refused(patch, one / "temp1_input", error)
        assert board.collector()() == {"lm75/1-0049/temp1": 26.0}
        assert board.told == []
    run = board.collector()
    run()
    with monkeypatch.context() as patch:
        refused(patch, one / "temp1_input", error)
        assert run() == {"lm75/1-0049/temp1": 26.0}
        why = os.strerror(error).lower()
        assert board.told == [Trouble("sensor", "lm75/1-0048/temp1", why)]
    assert len(run()) == 2
    assert board.told == []


@pytest.mark.parametrize("error", sorted(chips.NO_READING))
def test_a_sensor_that_has_nothing_to_say_is_no_error(
    board: Board, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    wifi = board.chip(0, "iwlwifi_1", "platform/phy0", temp1_input="45000")
    run = board.collector()
    assert run()
    refused(monkeypatch, wifi / "temp1_input", error)
    assert run() == {}
    assert board.told == []


def test_sensors_come_and_go(board: Board) -> None:
    run = board.collector()
    assert run() == {}
    stick = board.chip(3, "lm75", "platform/1-0048", temp1_input="25000")
    assert run() == {"lm75/1-0048/temp1": 25.0}
    for file in stick.iterdir():
        file.unlink()
    stick.rmdir()
    assert run() == {}
    board.zone(
        0, "keeps-the-number-of-the-folder", "1000"
    )  # else the file system could give it to the next one
    board.chip(3, "nvme", "platform/0000:03:00.0/nvme/nvme0", temp1_input="35000")
    assert run()["nvme/0000:03:00.0/temp1"] == 35.0
    assert board.told == []


def test_labels_are_text_that_every_receiver_takes(board: Board) -> None:
    board.chip(0, "a\x01b", "platform/x", temp1_input="1000", temp1_label="Tür\n\x7f" + "x" * 500)
    board.chip(1, "", None, temp1_input="2000")
    (name, other) = board.collector()()
    assert (name.startswith("ab/x/Tür"), len(name) < 100, other) == (True, True, "unknown/hwmon1/temp1")


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    opened = threading.Event()
    yield opened
    opened.set()


def test_a_chip_that_hangs_costs_its_own_series_and_one_thread(
    board: Board, monkeypatch: pytest.MonkeyPatch, gate: threading.Event
) -> None:
    bus = board.chip(0, "lm75", "platform/1-0048", temp1_input="25000")
    board.chip(1, "lm75", "platform/1-0049", temp1_input="26000")
    board.zone(0, "cpu-thermal", "48000")
    run, real = board.collector(), kernel.read
    whole = run()

    def read(name: str) -> bytes:
        if name == str(bus / "temp1_input"):
            gate.wait(60)
        return real(name)

    with monkeypatch.context() as patch:
        patch.setattr("agent.collectors.chips.read", read)
        for _ in range(3):
            left = run()
            assert whole.keys() - left.keys() == {"lm75/1-0048/temp1"}
            assert board.told == [Trouble("sensor", "lm75/1-0048", "it does not answer", stuck=True)]
            # The threads of the runs end, but for the one that hangs; they may take their time.
            wait_for(
                lambda: [one.name for one in threading.enumerate()].count("sensors") == 1, 60, "one thread"
            )
        gate.set()
    for _ in range(600):
        if run() == whole:
            break
        assert gate.wait(1)
        threading.Event().wait(0.05)
    assert run() == whole
    assert board.told == []


# --- Raspberry Pi ----------------------------------------------------------------------------------------------------


class Alarm:
    """The alarm of rpi_volt; `changed` is what the kernel would say of the open file."""

    def __init__(self, board: Board) -> None:
        self.file = (
            board.chip(0, "rpi_volt", "platform/raspberrypi-hwmon", in0_lcrit_alarm="0") / "in0_lcrit_alarm"
        )
        self.is_changed = False
        self.pi = RaspberryPi(str(board.sys), lambda _: self.is_changed)

    def read(self) -> dict[str, float]:
        assert self.pi.is_there()
        samples, troubles = self.pi.read()
        assert troubles == []
        return {sample.name: sample.value for sample in samples}


def test_a_dip_between_two_runs_is_seen(board: Board) -> None:
    alarm = Alarm(board)
    assert alarm.read() == {"sensor_undervoltage": 0.0}
    alarm.is_changed = True
    assert alarm.read() == {"sensor_undervoltage": 1.0}
    alarm.is_changed = False
    alarm.file.write_text("1\n")
    assert alarm.read() == {"sensor_undervoltage": 1.0}
    alarm.file.write_text("garbage\n")
    assert alarm.read() == {}


def test_a_change_of_an_open_file_is_what_the_kernel_says(tmp_path: Path) -> None:
    """The kernel says it of /proc/self/mounts in the same way (POLLPRI); a file of a disk never changes so."""
    plain = tmp_path / "plain"
    plain.write_text("0\n")
    with plain.open() as file:
        plain.write_text("1\n")
        assert not raspberrypi.has_changed(file.fileno())


def test_throttling_and_a_supply_without_an_alarm(board: Board) -> None:
    file = board.sys / "devices" / "platform" / "soc@107c000000" / "soc@107c000000:firmware" / "get_throttled"
    file.parent.mkdir(parents=True)
    for text, low, throttled in (
        ("0", 0, 0),
        ("50005", 1, 1),
        ("50000", 0, 0),
        ("1", 1, 0),
        ("8", 0, 1),
        ("e", 0, 1),
    ):
        file.write_text(f"{text}\n")
        samples, _ = RaspberryPi(str(board.sys)).read()
        assert {sample.name: sample.value for sample in samples} == {
            "sensor_undervoltage": low,
            "sensor_throttled": throttled,
        }
    file.write_text("garbage\n")
    assert RaspberryPi(str(board.sys)).read() == ([], [])


def test_a_driver_that_is_taken_away_and_comes_back(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    alarm = Alarm(board)
    alarm.read()

    def gone(file: int, size: int, at: int) -> bytes:
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))

    with monkeypatch.context() as patch:
        patch.setattr("agent.collectors.raspberrypi.os.pread", gone)
        assert alarm.read() == {}
    assert alarm.read() == {"sensor_undervoltage": 0.0}


def test_no_file_stays_open_behind_a_collector(board: Board) -> None:
    def opened() -> bool:
        links = Path("/proc/self/fd").iterdir()
        return any(os.path.realpath(link).endswith("in0_lcrit_alarm") for link in links)

    alarm = Alarm(board)
    alarm.read()
    assert opened()
    del alarm
    gc.collect()
    assert not opened()


@pytest.mark.parametrize(("text", "number"), [(b"0\n", 0), (b"50005", 0x50005), (b"0x8\n", 8), (b"", None),
                                              (b"-1", None), (b"1_0", None), (b"f" * 9, None)])  # fmt: skip
def test_hexadecimal(text: bytes, number: int | None) -> None:
    assert hexadecimal(text) == number


def test_a_host_without_any_of_it(tmp_path: Path) -> None:
    told: list[Trouble] = []
    paths = HostPaths(str(tmp_path / "proc"), str(tmp_path / "sys"), report=told.append)
    assert sensors.build(SensorsOptions(), paths)(0.0) == []
    assert Chips(paths.sys, lambda _: True).latest() == []
    assert told == []
