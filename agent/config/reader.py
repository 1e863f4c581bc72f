"""From the document to the configuration, with everything that is wrong on the way.

The walk follows the document and the schema's annotations together. It knows no key by name but `collectors`, where
each collector's options are next to the keys that all collectors have. A wrong value is replaced by its default, so
that one mistake does not hide the next; a rule between keys says nothing about a key that is wrong already.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from msgspec import UNSET
from msgspec.structs import FieldInfo

from agent.collectors import plugins
from agent.collectors.options import Options
from agent.config.document import Entry, Node, join
from agent.config.keys import default, fields, renamed, unknown
from agent.config.schema import OPTIONS, Collector, Config, options_of
from agent.config.section import Given, Problem, Problems, Section
from agent.config.values import Flag, Number, Pattern, Text, Whole, Words, choice
from agent.system.entry_points import PluginFailed

Look = Callable[[str, str], tuple[str, str] | None]
"""For a path and what it must be (`file`, `folder`, `root` or `written`), returns what is wrong and what to do, or None."""

S = TypeVar("S", bound=Section)

_PLAIN = {str: Words, int: Whole, float: Number, bool: Flag, tuple[str, ...]: tuple[Pattern, ...]}
"""How the options of collectors, whose types are plain, are read. Their lists of texts are lists of patterns."""


class Reader:
    """Reads one document. Relative paths start at `folder`; `look` checks what a path leads to.

    A method that reads a value adds what is wrong with it to `problems` and then returns UNSET.
    """

    def __init__(self, folder: str, look: Look | None = None) -> None:
        self._folder, self._look = folder, look
        self._lines: dict[str, int] = {}
        self.problems: list[Problem] = []
        self.warnings: list[Problem] = []

    def config(self, root: Node) -> Config | None:
        """Return the configuration, or None where there is no usable one."""
        return self.section(Config, root)

    def section(self, kind: type[S], root: Node) -> S | None:
        """Return the section that a whole document is, or None where there is no usable one."""
        found = self._section(kind, root, "")
        return found if isinstance(found, kind) and not self.problems else None

    def value(self, kind: Any, node: Node, path: str) -> Any:
        """Return what a node is, read as this annotation says."""
        self._lines[path] = node.line
        kind = _PLAIN.get(kind, kind)
        origin, arguments = get_origin(kind), get_args(kind)
        if origin is Annotated:
            return self._text(arguments[1], node, path)
        if origin in (Union, UnionType):
            return self.value(next(one for one in arguments if one is not NoneType), node, path)
        if origin is Literal:
            return self._text(choice(arguments), node, path)
        if origin is tuple:
            return self._list(arguments[0], node, path)
        if origin is dict:
            return self._dict(arguments[0], arguments[1], node, path)
        return self._section(kind, node, path)

    def _wrong(self, path: str, what: str, do: str, line: int | None) -> Any:
        self.problems.append(Problem(path, what, do, line))
        return UNSET

    def _text(self, kind: Text, node: Node, path: str) -> Any:
        text = node.value
        if not isinstance(text, str):
            what = f"expected one value, got {_kind_of(node)}"
            return self._wrong(path, what, "Write it on one line.", node.line)
        value = kind.value(text)
        if isinstance(value, Problem):
            # A phrase that does not begin so says already what is wrong with this very value.
            got = f", got {_short(text)}" if value.what.startswith("expected") and not kind.hidden else ""
            return self._wrong(path, value.what + got, value.do, node.line)
        if kind.kind == "value":
            return value
        place = os.path.join(self._folder, value)
        if self._look and (wrong := self._look(place, kind.kind)):
            self._wrong(path, *wrong, node.line)
        return place

    def _list(self, kind: Any, node: Node, path: str) -> Any:
        if not isinstance(node.value, list):
            what = f"expected a list, got {_kind_of(node)}"
            do = "Write each element on a line of its own, with `- ` in front."
            return self._wrong(path, what, do, node.line)
        found = [self.value(kind, one, f"{path}[{index}]") for index, one in enumerate(node.value)]
        if get_origin(kind) is Annotated:
            return tuple(one for one in found if one is not UNSET)
        return tuple(None if one is UNSET else one for one in found)  # a section keeps its place in the list

    def _dict(self, key_kind: Any, value_kind: Any, node: Node, path: str) -> Any:
        entries = self._entries(node, path)
        if entries is None:
            return UNSET
        found = {}
        for key, (line, value) in entries.items():
            place = join(path, key)
            name: Any = key
            if value_kind is Collector:
                content = self._named_collector(key, Entry(line, value), place)
            else:
                name = self._text(get_args(key_kind)[1], Node(line, key), place)
                content = self.value(value_kind, value, place)
            if name is not UNSET and content is not UNSET:
                found[name] = content
        return found

    def _named_collector(self, name: str, entry: Entry, path: str) -> Any:
        line, node = entry
        try:
            options = options_of(name)
        except PluginFailed as error:
            return self._wrong(path, error.what, error.do, line)
        if options is None:
            self.problems.append(unknown(path, name, (*OPTIONS, *plugins.names()), line))
            return UNSET
        self._lines[path] = line
        return self._collector(options, Node(line, {}) if node.value is None else node, path)

    def _collector(self, kind: type[Options], node: Node, path: str) -> Any:
        common, own = fields(Collector), fields(kind)
        del common["options"]
        got = self._keys(Collector, common | own, getattr(kind, "rules", Section.rules), node, path)
        return self._made(Collector, common, got, path, options=self._made(kind, own, got, path))

    def _section(self, kind: type[Section], node: Node, path: str) -> Any:
        known = fields(kind)
        return self._made(kind, known, self._keys(kind, known, kind.rules, node, path), path)

    def _keys(
        self,
        kind: type[Section],
        known: Mapping[str, FieldInfo],
        rules: Callable[[Given], Problems],
        node: Node,
        path: str,
    ) -> Given | None:
        """Return the values of a section after its rules, without the wrong ones."""
        entries = self._entries(node, path)
        if entries is None:
            return None
        entries, found = renamed(entries, path)
        self._add(found)
        values = {key: self._key(kind, known, key, entry, path) for key, entry in entries.items()}
        given = frozenset(key for key in values if key in known and entries[key].node.value is not None)
        for key, field in known.items():
            if key not in given and not field.required:
                values[key] = default(field)
            elif key not in given:
                self._wrong(join(path, key), "this key is missing", "It has no default.", node.line)
        below = {key: _given(entry.node) for key, entry in entries.items()}
        got = Given({key: value for key, value in values.items() if value is not UNSET}, given, below)
        for problem in rules(got):
            place = join(path, problem.path) if problem.path else path
            self._add([problem._replace(path=place, line=self._line(place, node))])
        return got

    def _add(self, problems: list[Problem]) -> None:
        self.problems += [problem for problem in problems if problem.do]
        self.warnings += [problem for problem in problems if not problem.do]

    def _key(
        self, kind: type[Section], known: Mapping[str, FieldInfo], key: str, entry: Entry, path: str
    ) -> Any:
        """Return the value of one key of a section."""
        line, node = entry
        place = join(path, key)
        self._lines[place] = line
        if key in kind.ignored:
            self.warnings.append(Problem("", f"{place} is ignored: {kind.ignored[key]}", line=line))
        elif key in kind.later:
            self._wrong(place, "not in this version of Limpet", "Remove it.", line)
        elif key in kind.elsewhere:
            self._wrong(place, "not a key here", kind.elsewhere[key], line)
        elif key not in known:
            self.problems.append(unknown(place, key, known, line))
        elif node.value is not None:
            return self.value(known[key].type, node, place)
        elif key in kind.never_null:
            do = 'Write "" for the empty text, or remove the key to have its default.'
            self._wrong(place, "expected a text, got nothing", do, line)
        return UNSET

    def _line(self, place: str, node: Node) -> int:
        """Return the line of a key, or of the section it is missing in."""
        while place not in self._lines and "." in place:
            place = place.rpartition(".")[0]
        return self._lines.get(place, node.line)

    def _made(
        self, kind: Any, known: Mapping[str, FieldInfo], got: Given | None, path: str, **more: Any
    ) -> Any:
        """Return an instance of `kind`, with the default where a value was wrong; UNSET where there can be none."""
        if got is None or UNSET in more.values():
            return UNSET
        for key, field in known.items():
            if key in got.values:
                more[field.name] = got.values[key]
            elif field.required:
                return UNSET
            else:
                more[field.name] = default(field)
        try:
            return kind(**more)
        except Exception as error:  # what a collector's options check for themselves
            do = "See what its documentation says about this."
            return self._wrong(path, str(error), do, self._lines.get(path))

    def _entries(self, node: Node, path: str) -> Mapping[str, Entry] | None:
        if isinstance(node.value, dict):
            return node.value
        if node.value is None and not path:
            return {}
        what = f"expected keys with their values, got {_kind_of(node)}"
        self._wrong(path, what, "Write `key: value` lines below it, indented.", node.line)
        return None


def _given(node: Node) -> frozenset[str]:
    """Return the keys of a section that are given and not null."""
    entries = node.value if isinstance(node.value, dict) else {}
    return frozenset(key for key, entry in entries.items() if entry.node.value is not None)


def _kind_of(node: Node) -> str:
    if node.value is None:
        return "nothing"
    return {str: "a text", list: "a list", dict: "keys with values"}[type(node.value)]


def _short(text: str) -> str:
    shown = repr(text)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."
