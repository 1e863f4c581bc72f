"""YAML as a tree of texts with line numbers: the part of YAML that a configuration needs, and no more.

A scalar stays the text that was written (`010`, `1:30`, `on` and `2024-01-01` included); its key decides what
it means. Unquoted `null`, `~` and nothing at all are None. Refused, each with its line: the same key twice, merge keys
(`<<`), tags, keys that are not texts, more than one document, and nesting that no configuration has. An anchor can be
used again below it, a hundred times in all.

`parse` reads the event stream of PyYAML (of libyaml where it is installed), which needs no recursion in the
library: its own tree builder ends the process by a stack overflow on a long row of brackets. Messages repeat nothing
that was written but keys, because a value, tag or alias may be a password.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import yaml

from agent.config.section import Problem

_LOADER: type[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_NULL = frozenset(("", "~", "null", "Null", "NULL"))
_DEEPEST = 16
_MOST_ALIASES = 100


class Entry(NamedTuple):
    """A key's value in a mapping, and the line the key is on."""

    line: int
    node: Node


class Node(NamedTuple):
    """A piece of the document: a text, a list, a mapping, or None for null."""

    line: int
    value: str | list[Node] | dict[str, Entry] | None


class _Unreadable(Exception):
    def __init__(self, line: int, what: str, do: str) -> None:
        super().__init__(what)
        self.problem = Problem("", what, do, line)


def join(path: str, key: str) -> str:
    """Return the path of `key` in the mapping at `path`, on one line whatever the key is."""
    if not key.isprintable() or len(key) > 60:
        key = repr(key[:60])
    return f"{path}.{key}" if path else key


def parse(text: str) -> tuple[Node, tuple[Problem, ...]]:
    """Return the document, and what is wrong with it as a document. Never raises; empty text is a null node."""
    loader = None
    try:
        text.encode()  # the library encodes it again, and would not say what it did not like
        loader = _LOADER(text)
        builder = _Builder(loader)
        return builder.document(), tuple(builder.problems)
    except _Unreadable as error:
        return Node(1, None), (error.problem,)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        reason = getattr(error, "problem", None) or getattr(error, "reason", None) or "it cannot be read"
        what, do = "not valid YAML: " + _without_quotes(str(reason)), "Correct this line, or the one before."
        return Node(1, None), (Problem("", what, do, mark and mark.line + 1),)
    except (ValueError, OverflowError):  # characters that do not exist
        what = "not valid text: it holds characters that cannot be written as UTF-8"
        return Node(1, None), (Problem("", what, "Save it as UTF-8."),)
    finally:
        if loader is not None:
            loader.dispose()


def _without_quotes(reason: str) -> str:
    """Return the parser's words up to the first quoted text, which may be a secret; a quoted sign is not."""
    return re.sub(r"\s*['\"].*", "", re.sub(r"'([][{},:?-])'", r"`\1`", reason))


class _Builder:
    def __init__(self, loader: Any) -> None:
        self._next = loader.get_event
        self._anchors: dict[str, Node] = {}
        self._aliases = 0
        self.problems: list[Problem] = []

    def document(self) -> Node:
        self._next()  # the stream's start
        event = self._next()
        if isinstance(event, yaml.StreamEndEvent):
            return Node(1, None)
        node = self._node(self._next(), "", 0)
        self._next()  # the document's end
        if not isinstance(event := self._next(), yaml.StreamEndEvent):
            line, do = event.start_mark.line + 1, "Keep one document; remove the line `---`."
            raise _Unreadable(line, "a second document starts here", do)
        return node

    def _node(self, event: Any, path: str, depth: int) -> Node:
        line: int = event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent):
            return self._alias(line, event.anchor)
        if depth > _DEEPEST:
            do = "Check the brackets and indentation."
            raise _Unreadable(line, "nested deeper than any configuration is", do)
        if event.tag not in (None, "!", "tag:yaml.org,2002:str"):
            raise _Unreadable(line, "tags (!name) are not supported", "Put a value with a ! in quotes.")
        if isinstance(event, yaml.ScalarEvent):
            null = event.implicit[0] and event.value in _NULL
            node = Node(line, None if null else event.value)
        elif isinstance(event, yaml.SequenceStartEvent):
            node = Node(line, self._list(path, depth))
        else:
            node = Node(line, self._mapping(path, depth))
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        return node

    def _alias(self, line: int, anchor: str | None) -> Node:
        if anchor is None or anchor not in self._anchors:
            what = "an alias (*name) without its anchor (&name) above"
            raise _Unreadable(line, what, "Put a value with a * in quotes.")
        self._aliases += 1
        if self._aliases > _MOST_ALIASES:  # each may be as large as most of the file
            raise _Unreadable(line, f"more than {_MOST_ALIASES} aliases (*name)", "Write the values out.")
        return self._anchors[anchor]

    def _list(self, path: str, depth: int) -> list[Node]:
        nodes: list[Node] = []
        while not isinstance(event := self._next(), yaml.SequenceEndEvent):
            nodes.append(self._node(event, f"{path}[{len(nodes)}]", depth + 1))
        return nodes

    def _mapping(self, path: str, depth: int) -> dict[str, Entry]:
        entries: dict[str, Entry] = {}
        while not isinstance(event := self._next(), yaml.MappingEndEvent):
            merge = isinstance(event, yaml.ScalarEvent) and event.implicit[0] and event.value == "<<"
            key_line, key = self._node(event, path, depth + 1)
            if merge:
                raise _Unreadable(key_line, "merge keys (<<) are not supported", "Write the keys out.")
            if not isinstance(key, str):
                raise _Unreadable(key_line, "a key that is not a text", "Check the brackets and indentation.")
            entry = Entry(key_line, self._node(self._next(), join(path, key), depth + 1))
            if key in entries:
                what = f"this key is there twice, first on line {entries[key].line}"
                self.problems.append(Problem(join(path, key), what, "Keep one of the two.", key_line))
            else:
                entries[key] = entry
        return entries
