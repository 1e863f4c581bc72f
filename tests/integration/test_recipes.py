"""The scripts of packaging/recipes, with what the programs print: each in /bin/sh, its file read as the agent reads it."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.scrape.textfile import Textfile
from tests.support.collecting import Log

ROOT = Path(__file__).parents[2]
RECIPES, SAMPLES = ROOT / "packaging" / "recipes", ROOT / "tests" / "fixtures" / "recipes"
PAGE = ROOT / "docs" / "scraping.md"

# What each program prints, by a pattern of its arguments.
PROGRAMS = {
    "mmcli": [(".*-L", "mmcli-list"), (".*--signal-get", "mmcli-signal"), (".*-m .*", "mmcli-modem")],
    "smartctl": [
        ("--scan", "smartctl-scan"), (".*/dev/sda", "smartctl-sda"), (".*/dev/nvme0", "smartctl-nvme0"),
        (".*/dev/sdb", "smartctl-sdb"),
    ],
    "upsc": [("-l", "upsc-list"), ("rack", "upsc-rack")],
    "systemctl": [("list-units .*", "systemctl-failed"), ("show .*", "systemctl-show")],
}  # fmt: skip

Run = Callable[..., dict[str, float]]


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A folder with the programs. What they are not asked for in the samples fails, as a device that is not there does."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, answers in PROGRAMS.items():
        lines = ["#!/bin/bash", "shopt -s extglob"]
        for pattern, sample in answers:
            lines.append(
                f'[[ "$*" =~ ^{pattern.replace(" ", chr(92) + " ")}$ ]] && exec cat {SAMPLES / sample}.txt'
            )
        (folder / name).write_text("\n".join([*lines, "exit 1", ""]))
        (folder / name).chmod(0o755)
    return folder


@pytest.fixture
def run(tmp_path: Path, programs: Path) -> Run:
    """Runs a recipe, and returns the series of its file."""
    out = tmp_path / "out"
    out.mkdir()

    def ran(recipe: str, *more: str, status: int = 0) -> dict[str, float]:
        environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "SYS": str(tmp_path / "sys")}
        command = ["sh", str(RECIPES / f"{recipe}.sh"), str(out), *more]
        done = subprocess.run(
            command,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        assert done.returncode == status, done.stderr
        assert [path.name for path in out.iterdir()] == [f"{recipe}.prom"] * (out / f"{recipe}.prom").exists()
        collect = Textfile(str(out), {}, Log(), str)
        series, values = collect(0.0)
        assert collect.error is None
        return {
            one.name + "".join(f" {key}={text}" for key, text in one.labels): value
            for one, value in zip(series, values, strict=True)
            if not one.name.startswith(("node_textfile", "limpet_"))
        }

    return ran


def test_lte(run: Run) -> None:
    assert run("lte") == {
        "lte_modems": 1,
        "lte_connected modem=cdc-wdm0": 1,
        "lte_registered modem=cdc-wdm0": 1,
        "lte_roaming modem=cdc-wdm0": 1,
        "lte_signal_quality_percent modem=cdc-wdm0": 67,
        "lte_rssi_dbm modem=cdc-wdm0 technology=lte": -65,
        "lte_rsrp_dbm modem=cdc-wdm0 technology=lte": -98,
        "lte_rsrq_db modem=cdc-wdm0 technology=lte": -12,
        "lte_snr_db modem=cdc-wdm0 technology=lte": 7.4,
    }


def test_smart_and_emmc(run: Run, tmp_path: Path) -> None:
    card = tmp_path / "sys" / "block" / "mmcblk1" / "device"
    card.mkdir(parents=True)
    (card / "life_time").write_text("0x02 0x0b\n")
    (card / "pre_eol_info").write_text("0x03\n")
    (tmp_path / "sys" / "block" / "mmcblk0" / "device").mkdir(parents=True)  # an SD card
    assert run("smart") == {
        "smart_healthy device=sda": 0,
        "smart_reallocated_sectors device=sda": 48,
        "smart_power_on_hours device=sda": 21344,
        "smart_wear_percent device=sda": 38,
        "smart_pending_sectors device=sda": 3,
        "smart_uncorrectable_sectors device=sda": 1,
        "smart_healthy device=nvme0": 1,
        "smart_spare_percent device=nvme0": 98,
        "smart_wear_percent device=nvme0": 16,
        "smart_power_on_hours device=nvme0": 17196,
        "smart_unsafe_shutdowns device=nvme0": 110,
        "smart_media_errors device=nvme0": 0,
        "smart_wear_percent cells=a device=mmcblk1": 20,
        "smart_wear_percent cells=b device=mmcblk1": 110,
        "smart_healthy device=mmcblk1": 0,
    }  # and nothing of sdb, which sleeps


def test_ups(run: Run) -> None:
    assert run("ups") == {
        "ups_answers ups=rack": 1,
        "ups_answers ups=old": 0,
        "ups_on_battery ups=rack": 1,
        "ups_low_battery ups=rack": 0,
        "ups_replace_battery ups=rack": 1,
        "ups_battery_charge_percent ups=rack": 87,
        "ups_battery_runtime_seconds ups=rack": 2310,
        "ups_load_percent ups=rack": 18,
        "ups_input_volts ups=rack": 0,
    }


def test_units(run: Run) -> None:
    failed = {
        "systemd_units_failed": 2,
        "systemd_unit_failed unit=nginx.service": 1,
        "systemd_unit_failed unit=mnt-data\\x2dold.mount": 1,
    }
    assert run("units") == failed
    assert run("units", "ssh.service") == failed | {
        "systemd_unit_active unit=ssh.service": 1,
        "systemd_unit_restarts_total unit=ssh.service": 4,
    }


@pytest.mark.parametrize(("recipe", "program"), [("lte", "mmcli"), ("ups", "upsc"), ("units", "systemctl")])
def test_a_program_that_fails_leaves_the_file_as_it_was(
    run: Run, programs: Path, recipe: str, program: str
) -> None:
    """So its age shows it (node_textfile_mtime_seconds)."""
    before = run(recipe)
    (programs / program).write_text("#!/bin/sh\nexit 1\n")
    assert run(recipe, status=1) == before


def test_a_host_without_a_modem_and_without_a_disk(run: Run, programs: Path) -> None:
    (programs / "mmcli").write_text("#!/bin/sh\necho 'modem-list.length : 0'\n")
    assert run("lte") == {"lte_modems": 0}


def test_without_a_folder_they_say_how_they_are_called() -> None:
    for recipe in RECIPES.glob("*.sh"):
        done = subprocess.run(["sh", str(recipe)], capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode != 0
        assert f"usage: {recipe.name} FOLDER" in done.stderr


def test_the_page_names_each_series() -> None:
    for recipe in RECIPES.glob("*.sh"):
        (row,) = re.findall(rf"(?m)^\| `{recipe.name}` .*", PAGE.read_text())
        (cell,) = re.findall(r"\| ([^|]*) \|$", row)
        start = {"lte": "lte_", "smart": "smart_", "ups": "ups_", "units": "systemd_"}[recipe.stem]
        written = set(re.findall(rf"\b{start}[a-z_]+", recipe.read_text()))
        assert set(re.findall("`([a-z_]+)`", cell)) == written
