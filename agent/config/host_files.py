"""`hostname_file` and `labels_file`: what one host has of its own, so that one configuration serves a hundred boxes.

A `hostname_file` holds one line, the name; a zero byte behind it does not count, as in files of the device tree. A `labels_file` holds labels as below `labels`, which it adds to and, where a name is in
both, wins over. Both are read when the configuration is, at the start and at each reload. Errors name the file and repeat
nothing of a name or a value.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from agent.config.document import Node, parse
from agent.config.reader import Reader
from agent.config.schema import Config, Labels
from agent.config.section import Problem

Opener = Callable[[str, int], int]
"""How a file is opened, as `open` wants it."""

LONGEST_NAME, LARGEST = 1024, 64 << 10  # bytes


def read(config: Config, opener: Opener) -> tuple[Config, bytes, list[Problem]]:
    """Return the configuration with what the files hold, all their bytes, and everything that is wrong with them."""
    content, problems = b"", list[Problem]()
    if config.hostname_file is not None:
        raw, found = _read(config.hostname_file, opener, "hostname_file", LONGEST_NAME)
        name = _name(raw, config.hostname_file) if not found else ""
        if isinstance(name, Problem):
            found, name = [name], ""
        config = msgspec.structs.replace(config, hostname=name or None)
        content, problems = content + raw, problems + found
    if config.labels_file is not None:
        raw, found = _read(config.labels_file, opener, "labels_file", LARGEST)
        labels, wrong = _labels(raw, config.labels_file) if not found else ({}, [])
        config = msgspec.structs.replace(config, labels={**config.labels, **labels})
        content, problems = content + b"\0" + raw, [*problems, *found, *wrong]
    return config, content, problems


def _read(path: str, opener: Opener, key: str, most: int) -> tuple[bytes, list[Problem]]:
    try:
        with open(path, "rb", opener=opener) as file:
            content = file.read(most + 1) or b""
    except OSError as error:
        reason = (error.strerror or "I/O error").lower()
        return b"", [Problem(key, f"{path} cannot be read: {reason}", "Check its name and its permissions.")]
    if len(content) > most:
        return b"", [Problem(key, f"{path} is larger than {most} bytes", "Check that it is the right file.")]
    try:
        content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return b"", [Problem(key, f"{path} is not UTF-8", "Save it as UTF-8.")]
    return content, []


def _name(content: bytes, path: str) -> str | Problem:
    lines = content.decode("utf-8-sig").strip(" \t\r\n\0").splitlines()
    do = "Write the host's name into it, and nothing else."
    if len(lines) != 1:
        what = "has several lines" if lines else "is empty"
        return Problem("hostname_file", f"{path} {what}", do)
    if not lines[0].isprintable():
        return Problem("hostname_file", f"{path} holds a control character", do)
    return lines[0]


def _labels(content: bytes, path: str) -> tuple[dict[str, str], list[Problem]]:
    root, malformed = parse(content.decode("utf-8-sig"))
    problems, labels = list(malformed), dict[str, str]()
    if not problems:
        reader = Reader("")
        node = Node(root.line, {}) if root.value is None else root
        found = reader.value(Labels, node, "")
        problems, labels = reader.problems, found if isinstance(found, dict) else {}
    return labels, [
        Problem(
            "labels_file", f"{path}, line {one.line}: {': '.join(filter(None, (one.path, one.what)))}", one.do
        )
        for one in problems
    ]
