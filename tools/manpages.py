"""The manual pages: `python -m tools.manpages FOLDER` writes limpet.1, limpet-silent.7 and limpet.yaml.5 there.

Nothing in them is written twice: limpet(1) is the parser's own help, limpet-silent(7) is docs/silent.md, limpet.yaml(5) is
docs/configuration.md, with config/limpet.yaml as its example. They are made when the package is built, so they cannot be stale.

Source: man(7) and man-pages(7), on the macros and on how sections are called.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

import agent
from agent.cli import registry
from tools.completions import commands

ROOT = Path(__file__).resolve().parents[1]
CONFIGURATION = ROOT / "docs" / "configuration.md"
SILENT = ROOT / "docs" / "silent.md"
EXAMPLE = ROOT / "config" / "limpet.yaml"


def pages(epoch: int, version: str = agent.__version__) -> dict[str, str]:
    """Return the pages by the name of their file; `epoch` (Unix seconds) is the date in their last line."""
    date = datetime.fromtimestamp(epoch, UTC).date().isoformat()
    return {
        "limpet.1": _head("limpet", 1, date, version, "Limpet's manual") + command_page(),
        "limpet-silent.7": _head("limpet-silent", 7, date, version, "Limpet's manual") + silent_page(),
        "limpet.yaml.5": _head("limpet.yaml", 5, date, version, "Limpet's manual") + configuration_page(),
    }


def command_page() -> str:
    """Return the body of limpet(1)."""
    top, *below = commands(registry.build())
    name = (top.description or "").rstrip(".")
    lines = [".SH NAME", f"limpet \\- {text(name[:1].lower() + name[1:])}"]
    lines += [".SH SYNOPSIS", r"\fBlimpet\fR \fICOMMAND\fR [\fIOPTION\fR ...]", ".SH COMMANDS"]
    for one in below:
        if any(isinstance(action, argparse._SubParsersAction) for action in one._actions):  # noqa: SLF001
            continue  # a group, such as `limpet buffer`: its commands follow
        lines += [
            f'.SS "{text(one.prog)}"',
            text(" ".join(one.format_usage().split()).removeprefix("usage: ")),
        ]
        lines += [".PP", text(one.description or "")]
        for action in one._actions:  # noqa: SLF001  argparse has no public list of them
            lines += _option(one, action)
    lines += [".SH EXIT STATUS", text(registry.STATUS.removeprefix("Exit status: "))]
    lines += [".SH FILES", ".TP", r".I /etc/limpet/limpet.yaml", "The configuration of the service."]
    lines += [".TP", r".I /var/lib/limpet", "The buffer, unless the configuration says otherwise."]
    lines += [
        ".SH SEE ALSO",
        r"\fBlimpet-silent\fR(7), \fBlimpet.yaml\fR(5), and the files in \fI/usr/share/doc/limpet\fR",
    ]
    return "".join(f"{line}\n" for line in lines)


def silent_page() -> str:
    """Return the body of limpet-silent(7)."""
    lines = [".SH NAME", r"limpet\-silent \- what to do about a box that sends nothing", ".SH DESCRIPTION"]
    lines += [*markdown(SILENT.read_text(encoding="utf-8")), ".SH SEE ALSO", r"\fBlimpet\fR(1)"]
    return "".join(f"{line}\n" for line in lines)


def configuration_page() -> str:
    """Return the body of limpet.yaml(5)."""
    source = CONFIGURATION.read_text(encoding="utf-8")
    lines = [".SH NAME", r"limpet.yaml \- the configuration of Limpet", ".SH DESCRIPTION", *markdown(source)]
    lines += [".SH EXAMPLES", "Every key with its default:", *_block(EXAMPLE.read_text(encoding="utf-8"))]
    lines += [".SH SEE ALSO", r"\fBlimpet\fR(1)"]
    return "".join(f"{line}\n" for line in lines)


def text(words: str) -> str:
    """Return words as roff takes them: nothing in them is a command, and hyphens stay what they are."""
    escaped = words.replace("\\", r"\e").replace("-", r"\-").replace('"', r"\(dq").replace("~", r"\(ti")
    escaped = escaped.replace("^", r"\(ha").replace("`", r"\(ga").replace("'", r"\(aq")
    return rf"\&{escaped}" if escaped.startswith(".") else escaped


def markdown(source: str) -> Iterator[str]:
    """Yield the lines of man(7) for a page in Markdown, without its first heading."""
    tokens = MarkdownIt("commonmark").enable("table").parse(source)
    tokens = tokens[3:] if tokens and tokens[0].tag == "h1" else tokens
    row: list[str] = []
    in_list = opened = False
    for i, token in enumerate(tokens):
        match token.type:
            case "heading_open":
                yield f'.{"SH" if token.tag == "h2" else "SS"} "{_inline(tokens[i + 1])}"'
            case "paragraph_open" if not in_list:
                yield ".PP"
            case "list_item_open":
                in_list = opened = True
                yield f".IP {token.info}. 4" if token.info else r".IP \(bu 2"
            case "list_item_close":
                in_list = False
            case "thead_open":
                opened = False
            case "tbody_open":
                opened = True
            case "tr_open":
                row = []
            case "tr_close" if opened:
                yield from _row(row)
            case "inline":
                before = tokens[i - 1].type
                if before in ("td_open", "th_open"):
                    row.append(_inline(token))
                elif before != "heading_open":
                    yield _inline(token)
            case "code_block" | "fence":
                yield from _block(token.content)


def _head(name: str, section: int, date: str, version: str, what: str) -> str:
    return f'.TH "{name.upper()}" "{section}" "{date}" "limpet {text(version)}" "{text(what)}"\n.nh\n.ad l\n'


def _option(of: argparse.ArgumentParser, action: argparse.Action) -> list[str]:
    if action.help == argparse.SUPPRESS or isinstance(action, argparse._HelpAction):  # noqa: SLF001
        return []
    names = ", ".join(rf"\fB{text(option)}\fR" for option in action.option_strings)
    if action.nargs == 0:
        value = ""
    else:
        choices = "|".join(map(str, action.choices)) if action.choices else ""
        value = rf"\fI{text(str(action.metavar or choices or action.dest))}\fR"
        value = f"[{value}]" if action.nargs == "?" else value
    said = of._get_formatter()._expand_help(action) if action.help else ""  # noqa: SLF001
    return [".TP", f"{names} {value}".strip(), text(said)]


def _row(cells: Sequence[str]) -> Iterator[str]:
    """Yield a row of a table: the first cell as a tag, the others below it."""
    first, *others = cells
    yield ".TP"
    yield rf"\&{first}"
    default, meaning = others if len(others) == 2 else ("", " ".join(others))
    yield f"{meaning} (default: {default})" if default else meaning or r"\&"


def _inline(token: Token) -> str:
    parts: list[str] = []
    for child in token.children or ():
        match child.type:
            case "text":
                parts.append(text(child.content))
            case "code_inline":
                parts.append(rf"\fB{text(child.content)}\fR")
            case "softbreak":
                parts.append("\n")
            case "strong_open":
                parts.append(r"\fB")
            case "strong_close":
                parts.append(r"\fR")
    lines = "".join(parts).split("\n")
    return "\n".join(rf"\&{line}" if line.startswith((".", "'")) else line for line in lines)


def _block(code: str) -> Iterator[str]:
    yield ".PP"
    yield ".RS 4"
    yield ".nf"
    yield from (text(line) for line in code.rstrip("\n").splitlines())
    yield ".fi"
    yield ".RE"


def main(folder: Path) -> None:
    """Write the pages, as of today."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, page in pages(int(datetime.now(UTC).timestamp())).items():
        (folder / name).write_text(page, encoding="utf-8")


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(
        prog="python -m tools.manpages", description="Write the manual pages."
    )
    arguments.add_argument("folder", type=Path, help="where the pages are written")
    main(arguments.parse_args().folder)
