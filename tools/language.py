"""Words that a reader stumbles over, and where they are: `python -m tools.language [FILE OR FOLDER...]`.

Looks at prose only: pages in Markdown without their code, comments of YAML and shell files, alert rules, and of Python
the docstrings, comments, string literals and names of tests. What is in `backticks` is code, and so are all other names.
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
CODE = ("agent", "buffer", "dashboards", "limpet", "tests", "tools")
OTHERS = ("config", "packaging", "Makefile")
SKIPPED = {"tools/language.py", "tests/unit/test_language.py"}  # they name the words

WORDS = {
    r"told": "reported, logged, shown",
    r"tells?|telling": "say, report, show; distinguish",
    r"beside": "next to; in addition to",
    r"mend(?:s|ed|ing)?": "fix, repair",
    r"stands?(?![-\w])": "is; represents",
    r"what is there": "what exists, the existing ...",
    r"goes on|go on|went on|going on": "continue",
    r"who has|whoever": "the person that, anyone",
    r"(?:is|are|was|were|be|been|being) asked": "is queried, is requested",
    r"anew": "again, from scratch",
    r"for ever": "forever, without limit",
    r"as ever": "as before",
    r"can be had|be had|is had": "is available",
    r"sa(?:id|ys) of": "said about",
    r"shuts? (?:\w+ )?in|shut (?:\w+ )?in": "confine, sandbox",
    r"the specification(?! of|'s section)": "the requirement itself, and its reason",
    r"behaviour|colour|favour|honour\w*|neighbour\w*|licence|grey|utilis\w*|organis\w*|recognis\w*"
    r"|labelled|cancelled|travell\w*|judgement|whilst|centre": "the American spelling",
}
BANNED = {
    re.compile(rf"(?<![-\w.])(?:{pattern})(?![-\w])", re.IGNORECASE): do for pattern, do in WORDS.items()
}
BANNED[re.compile(r"^ *Raises:$", re.MULTILINE)] = "one sentence: Raises X."
ANY = re.compile("|".join(pattern.pattern for pattern in BANNED), re.IGNORECASE | re.MULTILINE)
QUOTED = re.compile(r"`[^`\n]*`")


class Found(NamedTuple):
    """A banned word in a file of the project."""

    file: str
    line: int
    word: str
    do: str


def found(path: Path) -> list[Found]:
    """Return the banned words in the prose of a file, in order."""
    name = path.relative_to(ROOT).as_posix()
    return [Found(name, *place) for first, text in prose(path) for place in in_text(first, text)]


def in_text(first: int, text: str) -> Iterator[tuple[int, str, str]]:
    """Yield line, word and advice for each banned word of a text that begins in line `first`."""
    shown = QUOTED.sub(lambda match: "`" + " " * (len(match[0]) - 2) + "`", text)
    if not ANY.search(shown):
        return
    for pattern, do in BANNED.items():
        for match in pattern.finditer(shown):
            yield first + shown.count("\n", 0, match.start()), match[0].strip(), do


def prose(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the pieces of prose in a file, each with the number of its first line."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        yield from python_prose(text)
    elif path.suffix == ".md":
        yield from markdown_prose(text)
    else:
        shown = r"(.*)" if path.name.endswith(".rules.yml") else r"(?:^|\s)(#.*|<!--.*)"
        for number, line in enumerate(text.splitlines(), 1):
            if comment := re.search(shown, line):
                yield number, comment[1]


def markdown_prose(text: str) -> Iterator[tuple[int, str]]:
    """Yield a page's lines, without blocks of code."""
    fenced = False
    for number, line in enumerate(text.splitlines(), 1):
        if re.match(r" *```", line):
            fenced = not fenced
        elif not fenced and not line.startswith("    "):
            yield number, line


def python_prose(text: str) -> Iterator[tuple[int, str]]:
    """Yield docstrings, comments and other string literals of a module, and the names of its tests as words."""
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value
        elif isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            yield node.lineno, node.name.replace("_", " ")


def pages() -> list[Path]:
    """Return every page that must be free of banned words: all but the decision records, which are never rewritten."""
    parts = ("*.md", "docs/*.md", "docs/runbooks/*.md", "packaging/**/*.md")
    return sorted(path for part in parts for path in ROOT.glob(part))


def code() -> list[Path]:
    """Return the other files in which prose is checked."""
    files = [path for room in CODE for path in (ROOT / room).rglob("*.py")]
    for name in OTHERS:
        files += [ROOT / name] if (ROOT / name).is_file() else (ROOT / name).rglob("*")
    suffixes = {".py", ".yaml", ".yml", ".sh", ".service", ".conf", ""}
    kept = (path for path in files if path.is_file() and path.suffix in suffixes)
    return sorted(path for path in kept if path.relative_to(ROOT).as_posix() not in SKIPPED)


def main(names: Sequence[str]) -> int:
    """Print each banned word of the files and folders, or of the whole project. Return 1 if there is one."""
    chosen = [*pages(), *code()]
    if names:
        wanted = [Path(name).resolve() for name in names]
        chosen = [path for path in chosen if any(path.is_relative_to(each) for each in wanted)]
    places = [one for path in chosen for one in found(path)]
    for one in sorted(places):
        print(f"{one.file}:{one.line}: {one.word!r}: {one.do}")
    return 1 if places else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
