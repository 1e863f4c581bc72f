"""The tables of docs/commands.md, made from the commands' own help: `python -m tools.commands_page` writes them there.

The list of commands is between `<!-- commands -->` and `<!-- end -->`, the options of a command below its heading
between `<!-- options -->` and `<!-- end -->`. The rest of the page is written by hand.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from agent.cli import registry
from tools.completions import commands

PAGE = Path(__file__).resolve().parents[1] / "docs" / "commands.md"
WHICH = {"--data-dir", "--config"}
"""The options of every `limpet buffer` command, which its own section explains."""


def filled(page: str) -> str:
    """Return the page with its tables as the commands are now."""
    found = {one.prog: one for one in commands(registry.build())}
    rows = "".join(
        f"| [`{name}`](#{name.replace(' ', '-')}) | {summary(found, name)} |\n" for name in leaves(found)
    )
    page = _block(page, "commands", f"| command | what it does |\n|---|---|\n{rows}")
    parts = re.split(r"(?m)^(## .+\n)", page)
    for i in range(1, len(parts), 2):
        parts[i + 1] = _block(parts[i + 1], "options", options(found, parts[i].removeprefix("## ").strip()))
    return "".join(parts)


def leaves(found: dict[str, argparse.ArgumentParser]) -> list[str]:
    """Return the names of the commands that have none below them."""
    return [name for name in found if not any(other.startswith(f"{name} ") for other in found)]


def summary(found: dict[str, argparse.ArgumentParser], name: str) -> str:
    """Return the line that the help of the command above has for this one."""
    above, _, own = name.rpartition(" ")
    for action in found[above]._actions:  # noqa: SLF001  argparse has no public list of them
        for choice in getattr(action, "_choices_actions", ()):
            if choice.dest == own:
                return str(choice.help)
    raise KeyError(name)


def options(found: dict[str, argparse.ArgumentParser], name: str) -> str:
    """Return the table of a command's own options."""
    command = found[name]
    shared = WHICH if name.startswith("limpet buffer ") and name != "limpet buffer replay" else set()
    rows = []
    for action in command._actions:  # noqa: SLF001
        if action.help in (None, "print JSON") or isinstance(action, argparse._HelpAction):  # noqa: SLF001
            continue
        if shared & set(action.option_strings):
            continue
        said = command._get_formatter()._expand_help(action)  # noqa: SLF001
        needed = " (required)" if action.required and action.option_strings else ""
        rows.append(f"| {_names(action)} | {said}{needed} |\n")
    return f"| option | |\n|---|---|\n{''.join(rows)}" if rows else ""


def _names(action: argparse.Action) -> str:
    choices = " \\| ".join(map(str, action.choices)) if action.choices else ""
    value = "" if action.nargs == 0 else str(action.metavar or choices or action.dest.upper())
    if action.nargs in ("?", "*") and action.option_strings:
        value = f"[{value}]"
    return ", ".join(f"`{f'{name} {value}'.strip()}`" for name in action.option_strings or [""])


def _block(text: str, mark: str, table: str) -> str:
    return re.sub(
        rf"<!-- {mark} -->\n.*?<!-- end -->",
        lambda _: f"<!-- {mark} -->\n{table}<!-- end -->",
        text,
        flags=re.DOTALL,
    )


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text()))
