"""The command line as a whole: help everywhere, documented, completed, cheap to ask, and its exit status."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from agent import __version__
from agent.cli import arguments, registry, version
from agent.cli import main as cli
from agent.cli.completion import SHELLS
from buffer.errors import LimpetError
from tools import commands_page, completions

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = {command.prog: command for command in completions.commands(registry.build())}
LEAVES = [name for name in COMMANDS if not any(other.startswith(f"{name} ") for other in COMMANDS)]


def sections() -> dict[str, str]:
    """The sections of docs/commands.md by their headings, what comes before the first one under ""."""
    parts = re.split(r"^## (.+)$", (ROOT / "docs/commands.md").read_text(), flags=re.MULTILINE)
    return dict(zip(["", *parts[1::2]], parts[::2], strict=True))


def test_the_commands_of_this_version() -> None:
    top = (
        "status, run, check-config, doctor, retry, collect, show, query, serve, {}, completion, help, version"
    )
    buffer = "status, segments, tail, verify, export, replay, trim, {}"
    items = ", ".join(f"buffer quarantine {one}" for one in ("list", "show", "replay", "drop"))
    below = ", ".join(f"buffer {one}" for one in buffer.removesuffix(", {}").split(", "))
    assert ", ".join(leaf.removeprefix("limpet ") for leaf in LEAVES) == top.format(f"{below}, {items}")


@pytest.mark.parametrize("name", COMMANDS)
def test_everything_has_help(name: str) -> None:
    command = COMMANDS[name]
    assert command.description
    assert command.format_help()  # a % in a help text would raise here
    for action in command._actions:
        assert action.help or action.metavar == "COMMAND", f"{name}: {action.dest} has no help"
        for choice in getattr(action, "_choices_actions", ()):
            assert choice.help, f"{name} {choice.dest} has no summary"


def test_the_page_has_each_commands_options_as_its_help_has_them() -> None:
    page = commands_page.PAGE.read_text()
    assert page == commands_page.filled(page), "stale: python -m tools.commands_page"
    parts = sections()
    assert [name for name in LEAVES if parts[name].count("<!-- options -->") != 1] == []


def test_the_page_has_nothing_else() -> None:
    found = [heading for heading in sections() if heading]
    assert sorted(found) == sorted([*LEAVES, "limpet buffer"])
    known = {word for command in COMMANDS.values() for a in command._actions for word in a.option_strings}
    assert set(re.findall(r"--[a-z][a-z-]+", (ROOT / "docs/commands.md").read_text())) <= known


@pytest.mark.parametrize("shell", SHELLS)
def test_completions_are_fresh(shell: str) -> None:
    stored = completions.path(shell).read_text(encoding="utf-8")
    assert stored == completions.render(shell), "stale: run python -m tools.completions"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["limpet", "buf"], {"buffer"}),
        (
            ["limpet", "buffer", ""],
            {"status", "segments", "tail", "verify", "export", "replay", "trim", "quarantine"},
        ),
        (["limpet", "collect", "--fo"], {"--format"}),
        (["limpet", "completion", ""], {"bash", "zsh", "tcsh"}),
        (["limpet", "buffer", "tail", "--config", "limp"], {"limpet.yaml"}),
    ],
    ids=lambda value: " ".join(sorted(value) if isinstance(value, set) else value),  # the same in each worker
)
def test_bash_completes(words: list[str], expected: set[str], tmp_path: Path) -> None:
    (tmp_path / "limpet.yaml").touch()
    function = r"complete -p limpet | sed 's/.*-F \([^ ]*\).*/\1/'"
    script = (
        f"source {completions.path('bash')}; COMP_WORDS=({' '.join(w or chr(39) * 2 for w in words)}); "
        f"COMP_CWORD={len(words) - 1}; $({function}) limpet '{words[-1]}' '{words[-2]}'; "
        'printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    # The subparsers of a command are offered with its options.
    assert {word for word in done.stdout.split() if not word.startswith("-")} | (
        {"--format"} & set(done.stdout.split())
    ) == expected


def imported(arguments: list[str], *flags: str) -> set[str]:
    """The modules that a command imports, with a Python started with these flags."""
    return modules("from agent.cli.main import main; main(sys.argv[1:])", *arguments, flags=flags)


def modules(code: str, *arguments: str, flags: Sequence[str] = ()) -> set[str]:
    """The modules that code imports."""
    counted = (
        f"import sys; before = set(sys.modules); {code}; print(*set(sys.modules) - before, file=sys.stderr)"
    )
    command = [sys.executable, *flags, "-c", counted, *arguments]
    return set(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stderr.split())


CHEAP = {
    "agent",
    "agent.cli",
    "agent.cli.main",
    "agent.cli.output",
    "agent.cli.registry",
    "buffer",
    "buffer.errors",
}
HEAVY = {"json", "asyncio", "subprocess", "dataclasses", "inspect", "logging", "typing_extensions"}
HEAVY |= {"importlib.metadata", "platform", "socket", "threading", "urllib", "pathlib", "tempfile"}
# From Python 3.14 on argparse imports `inspect` for the colors of its help: 12 ms, which are not ours to save.
HEAVY -= modules("import argparse; argparse.ArgumentParser('a').format_help()", flags=["-S"])


@pytest.mark.parametrize(
    "words", [["version"], ["--version"], ["--help"], ["help"], ["buffer", "--help"]], ids=" ".join
)
def test_asking_imports_next_to_nothing(words: list[str]) -> None:
    # -S: without site-packages, so that nothing but Python itself and this source tree can be imported.
    loaded = imported(words, "-S")
    ours = {name for name in loaded if name.split(".")[0] in ("agent", "buffer")}
    assert {"argparse", *CHEAP} <= loaded
    assert ours <= {*CHEAP, "agent.cli.version", "agent.cli.help"}
    assert loaded & HEAVY == set()


@pytest.mark.parametrize("name", LEAVES)
def test_the_help_of_a_command_needs_no_library_and_no_other_command(name: str) -> None:
    loaded = imported([*name.split()[1:], "--help"], "-S")
    others = {f"agent.cli.{one.module}" for one in registry.COMMANDS if f"limpet {one.name}" != name}
    assert loaded & (HEAVY - {"json", "tempfile", "threading", "urllib"} | others) == set()


def test_rich_is_imported_by_the_views_only() -> None:
    users = [
        path for path in (ROOT / "agent").rglob("*.py") if re.search(r"(import|from) rich", path.read_text())
    ]
    assert sorted(path.name for path in users) == ["progress.py", "screen.py"]
    code = "import sys, agent.cli.run, agent.config, agent.process; print('rich' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["version"]) == 0
    text = capsys.readouterr().out
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == text
    assert cli.main(["version", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["version"] == __version__
    assert text == f"limpet {__version__} (Python {found['python']}, {found['platform']})\n"


@pytest.mark.parametrize("words", [[], ["buffer"], ["buffer", "tail"]], ids=" ".join)
def test_help_of_a_command(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*words, "--help"]) == 0
    text = capsys.readouterr().out
    assert cli.main(["help", *words]) == 0
    assert capsys.readouterr().out == text


@pytest.mark.parametrize("shell", SHELLS)
def test_completion_prints_the_stored_script(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["completion", shell]) == 0
    assert capsys.readouterr().out == completions.path(shell).read_text(encoding="utf-8")


WRONG_USAGE = """

buffer
status --data-dir a --config b
status --data-dir a --watch 0
buffer status --data-dir a --config b
buffer status --data-dir a --watch 0
buffer status --data-dir a --watch nan
buffer tail --data-dir a -n -1
buffer tail --data-dir a -n 1e3
buffer tail --data-dir a --json --values
buffer replay --data-dir a
buffer replay --data-dir a --from b --to c
buffer replay --data-dir a --to c --give-up-after 0
buffer quarantine --data-dir a
buffer quarantine show --data-dir a
buffer quarantine drop --data-dir a
buffer quarantine drop --data-dir a --all b
collect --interval 2
collect --interval 1ms
collect --format xml
collect --json --format table
collect --wat
check-config a --config a
completion fish
doctor --config a --timeout 0
help nothing
nothing
--wat version"""


@pytest.mark.parametrize("words", WRONG_USAGE.splitlines()[1:])
def test_wrong_usage(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(words.split()) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "usage: limpet" in said.err


NEEDS_CONFIG = ("run", "check-config", "doctor", "buffer status", "buffer quarantine drop --all")


@pytest.mark.parametrize("words", NEEDS_CONFIG)
def test_without_a_configuration(
    words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(arguments, "DEFAULT_CONFIG", str(tmp_path / "limpet" / "limpet.yaml"))
    assert cli.main(words.split()) == 2
    said = f"no configuration is named, and there is no {tmp_path}/limpet/limpet.yaml. Give --config FILE."
    assert capsys.readouterr() == ("", f"--config: {said}\n")


def test_the_default_configuration_is_used_where_it_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file, other = tmp_path / "limpet.yaml", tmp_path / "other.yaml"
    monkeypatch.setattr(arguments, "DEFAULT_CONFIG", str(file))
    (tmp_path / "data").mkdir()
    file.write_text("data_dir: data\n")
    other.write_text("data_dir: elsewhere\n")
    assert cli.main(["check-config"]) == 0
    assert capsys.readouterr().out.startswith(f"{file}: fine\n")
    for words in (["check-config", str(other)], ["check-config", "--config", str(other)]):
        assert cli.main(words) == 0
        assert capsys.readouterr().out.startswith(f"{other}: fine\n")
    assert cli.main(["buffer", "status", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["data_dir"] == str(tmp_path / "data")
    assert cli.main(["buffer", "status", "--json", "--data-dir", str(tmp_path)]) == 0
    assert json.loads(capsys.readouterr().out)["data_dir"] == str(tmp_path)
    file.write_text("data_dir: [\n")
    assert cli.main(["run"]) == 2
    assert capsys.readouterr().err.startswith(f"{file}:")


def raiser(error: BaseException) -> Callable[[object], int]:
    def call(_: object) -> int:
        raise error

    return call


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (LimpetError("here", "this is wrong", "Do that."), 2, "here: this is wrong. Do that.\n"),
        (KeyboardInterrupt(), 130, ""),
        (BrokenPipeError(), 141, ""),
        (SystemExit(143), 143, ""),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_how_a_command_ends(
    error: BaseException,
    status: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(version, "run", raiser(error))
    assert cli.main(["version"]) == status
    assert capsys.readouterr() == ("", said)


def test_a_defect_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(version, "run", raiser(ZeroDivisionError()))
    with pytest.raises(ZeroDivisionError):
        cli.main(["version"])


def test_check_config_fine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "limpet.yaml"
    file.write_text("data_dir: not-made\nhostname: web-01\n")
    assert cli.main(["check-config", str(file)]) == 0
    fine, warning = capsys.readouterr().out.splitlines()
    assert fine == f"{file}: fine"
    assert "there is no destination" in warning
    assert cli.main(["check-config", str(file), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found == {"file": str(file), "ok": True, "problems": [], "warnings": [warning]}
    assert [path.name for path in tmp_path.iterdir()] == ["limpet.yaml"]


def test_check_config_reports_everything(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "limpet.yaml"
    file.write_text("colect: {}\nbuffer: {max_size: 2}\n")
    assert cli.main(["check-config", str(file)]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert [line.partition(": ")[0] for line in said.err.splitlines()] == [f"{file}:1", f"{file}:2"]
    assert cli.main(["check-config", str(file), "--json"]) == 2
    found = json.loads(capsys.readouterr().out)
    assert not found["ok"]
    assert [problem["path"] for problem in found["problems"]] == ["colect", "buffer.max_size"]
    assert "Did you mean collect?" in found["problems"][0]["do"]
    assert cli.main(["run", "--config", str(file)]) == 2
    assert capsys.readouterr().err == said.err


def test_a_command_that_prints_nothing_ends_well_without_a_standard_output() -> None:
    code = "import sys; from agent.cli import main as m, version; version.run = lambda args: 0; sys.exit(m.main(['version']))"
    shell = 'exec "$0" -c "$1" >&-'
    done = subprocess.run(["sh", "-c", shell, sys.executable, code], stderr=subprocess.PIPE, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_command_that_prints_says_that_standard_output_is_closed() -> None:
    shell = 'exec "$0" -m agent version >&-'
    done = subprocess.run(["sh", "-c", shell, sys.executable], stderr=subprocess.PIPE, check=False, cwd=ROOT)
    assert (done.returncode, done.stderr) == (2, b"standard output: it is closed. Send it somewhere.\n")
