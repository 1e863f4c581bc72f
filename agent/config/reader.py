"""From the document to the configuration, with everything that is wrong on the way.

The schema's annotations are walked beside the document. Nothing here knows a key by name but `collectors`,
where each collector's options stand beside the keys that all collectors have. Where a value is wrong the
walk goes on with its default, so that one mistake does not hide the next; a rule between keys is silent
about keys that are wrong already.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

import msgspec

from agent.collectors import plugins
from agent.collectors.options import Options
from agent.config.document import Entry, Node, join
from agent.config.problems import Problem
from agent.config.renamed import Renaming
from agent.config.schema import OPTIONS, Collector, Config, options_of
from agent.config.section import Complaint, Given, Section, Verdicts
from agent.config.values import Flag, Leaf, Number, Pattern, Whole, Words, Wrong

_BAD: Any = type("Bad", (), {"__repr__": lambda _: "<bad>"})()


class Located(NamedTuple):
    """A file or folder that the configuration names, and the key that names it."""

    key: str
    line: int
    path: str
    kind: Literal["file", "folder", "root"]


class Field(NamedTuple):
    """A key of a section: its annotated type, and how its default is made (None: there is none)."""

    type: Any
    default: Callable[[], Any] | None


class Reader:
    """Reads one document. `folder` is where relative paths start."""

    def __init__(self, where: str, folder: str) -> None:
        self._where, self._folder = where, folder
        self._lines: dict[str, int] = {}
        self.problems: list[Problem] = []
        self.warnings: list[str] = []
        self.located: list[Located] = []

    def config(self, root: Node) -> Config | None:
        """The configuration, or None where there is no usable one. What is wrong is in `problems`."""
        config = self._section(Config, root, "")
        return config if isinstance(config, Config) and not self.problems else None

    # What every reading method returns for a node that is wrong is _BAD, after it has said why.

    def _wrong(self, path: str, what: str, do: str, line: int | None) -> Any:
        self.problems.append(Problem(path, what, do, line))
        return _BAD

    def _value(self, kind: Any, node: Node, path: str) -> Any:
        self._lines[path] = node.line
        origin, arguments = get_origin(kind), get_args(kind)
        if origin is Annotated:
            return self._leaf(arguments[1], node, path)
        if origin in (Union, UnionType):
            kinds = [one for one in arguments if one is not NoneType]
            return self._value(kinds[0], node, path)
        if origin is Literal:
            return self._leaf(Leaf(_choice(arguments)), node, path)
        if origin is tuple:
            return self._list(arguments[0], node, path)
        if origin is dict:
            if arguments[1] is Collector:
                return self._collectors(node, path)
            return self._dict(arguments[0], arguments[1], node, path)
        return self._section(kind, node, path)

    def _leaf(self, leaf: Leaf, node: Node, path: str) -> Any:
        text = node.value
        try:
            if not isinstance(text, str):
                return self._wrong(
                    path, f"expected one value, got {_kind_of(node)}", "Write it on one line.", node.line
                )
            value = leaf.read(text)
        except Wrong as error:
            # What begins otherwise says already what is wrong with this very value.
            got = f", got {_short(text)}" if leaf.shown and error.what.startswith("expected") else ""
            return self._wrong(path, error.what + got, error.do, node.line)
        if leaf.kind == "value":
            return value
        place = os.path.join(self._folder, value)
        self.located.append(Located(path, node.line, place, leaf.kind))
        return place

    def _list(self, kind: Any, node: Node, path: str) -> Any:
        if not isinstance(node.value, list):
            what = f"expected a list, got {_kind_of(node)}"
            return self._wrong(
                path, what, "Write each element on a line of its own, with `- ` in front.", node.line
            )
        found = [self._value(kind, one, f"{path}[{index}]") for index, one in enumerate(node.value)]
        if get_origin(kind) is Annotated:
            return tuple(one for one in found if one is not _BAD)
        return tuple(None if one is _BAD else one for one in found)  # a section keeps its place in the list

    def _dict(self, key_kind: Any, value_kind: Any, node: Node, path: str) -> Any:
        entries = self._entries(node, path)
        if entries is _BAD:
            return _BAD
        found = {}
        for key, (line, value) in entries.items():
            place = join(path, key)
            name = self._leaf(get_args(key_kind)[1], Node(line, key), place)
            content = self._value(value_kind, value, place)
            if name is not _BAD and content is not _BAD:
                found[name] = content
        return found

    def _collectors(self, node: Node, path: str) -> Any:
        entries = self._entries(node, path)
        if entries is _BAD:
            return _BAD
        found = {}
        for key, (line, value) in entries.items():
            place = join(path, key)
            try:
                options = options_of(key)
            except plugins.PluginFailed as error:
                self._wrong(place, error.what, error.do, line)
                continue
            if options is None:
                self._unknown(place, key, (*OPTIONS, *plugins.names()), line)
                continue
            self._lines[place] = line
            settings = Node(line, {}) if value.value is None else value
            if (one := self._collector(options, settings, place)) is not None:
                found[key] = one
        return found

    def _collector(self, kind: type[Options], node: Node, path: str) -> Collector | None:
        common = fields(Collector)
        options = {key: Field(_leaf_of(one.type), one.default) for key, one in fields(kind).items()}
        del common["options"]
        got = self._keys(Collector, common | options, node, path, getattr(kind, "rules", None))
        if got is None:
            return None
        made = self._made(kind, options, got, path)
        return None if made is None else self._made(Collector, common, got, path, options=made)

    def _section(self, kind: type[Section], node: Node, path: str) -> Any:
        known = fields(kind)
        got = self._keys(kind, known, node, path)
        made = None if got is None else self._made(kind, known, got, path)
        return _BAD if made is None else made

    def _keys(
        self,
        kind: type[Section],
        known: Mapping[str, Field],
        node: Node,
        path: str,
        rules: Callable[[Given], Verdicts] | None = None,
    ) -> Given | None:
        """The values of a section after its rules, without the wrong ones."""
        entries = self._entries(node, path)
        if entries is _BAD:
            return None
        renaming = Renaming(entries, path)
        self.problems += renaming.problems
        self.warnings += [f"{self._where}:{line}: {told}" for line, told in renaming.warnings]
        values: dict[str, Any] = {}
        for key, (line, value) in renaming.entries.items():
            place = join(path, key)
            self._lines[place] = line
            if key in kind.ignored:
                self.warnings.append(f"{self._where}:{line}: {place} is ignored: {kind.ignored[key]}")
            elif key in kind.later:
                self._wrong(place, "not in this version of Limpet", "Remove it.", line)
            elif key in kind.elsewhere:
                self._wrong(place, "not a key here", kind.elsewhere[key], line)
            elif key not in known:
                self._unknown(place, key, known, line)
            elif value.value is None and key in kind.never_null:
                do = 'Write "" for the empty text, or remove the key to have its default.'
                self._wrong(place, "expected a text, got nothing", do, line)
            elif value.value is not None:
                values[key] = self._value(known[key].type, value, place)
        given = frozenset(values)
        for key, field in known.items():
            if key not in values and field.default is not None:
                values[key] = field.default()
            elif key not in values:
                self._wrong(join(path, key), "this key is missing", "It has no default.", node.line)
        got = Given({key: value for key, value in values.items() if value is not _BAD}, given)
        for verdict in (rules or kind.rules)(got):
            place = join(path, verdict.key) if verdict.key else path
            line = self._line(place, node)
            if isinstance(verdict, Complaint):
                self._wrong(place, verdict.what, verdict.do, line)
            else:
                self.warnings.append(f"{self._where}:{line}: {place}: {verdict.text}")
        return got

    def _line(self, place: str, node: Node) -> int:
        """The line of a key, or of what it is missing in."""
        while place not in self._lines and "." in place:
            place = place.rpartition(".")[0]
        return self._lines.get(place, node.line)

    def _made(self, kind: Any, known: Mapping[str, Field], got: Given, path: str, **more: Any) -> Any:
        """An instance of `kind` of what was read, with the default where it was wrong; None without one."""
        for key, field in known.items():
            if key in got.values:
                more[key] = got.values[key]
            elif field.default is not None:
                more[key] = field.default()
            else:
                return None
        try:
            return kind(**more)
        except Exception as error:  # what a collector's options check for themselves
            self._wrong(path, str(error), "See what its documentation says of this.", self._lines.get(path))
            return None

    def _entries(self, node: Node, path: str) -> Any:
        if isinstance(node.value, dict):
            return node.value
        if node.value is None and not path:
            return dict[str, Entry]()
        what = f"expected keys with their values, got {_kind_of(node)}"
        return self._wrong(path, what, "Write `key: value` lines below it, indented.", node.line)

    def _unknown(self, place: str, key: str, known: Iterable[str], line: int) -> None:
        import difflib  # rarely needed, and not by an agent that runs

        near = difflib.get_close_matches(key, list(known), 1)
        here = re.sub(r"\[[0-9]+\]", "[]", place).rpartition(".")[0]
        homes = [path for path in _all_keys() if path.endswith(f".{key}")]
        below = [path for path in homes if here and path.startswith(f"{here}.")]
        if near and not below:
            hint = f"Did you mean {near[0]}? "
        else:
            hint = f"It belongs at {(below or homes)[0]}. " if homes else ""
        self._wrong(place, "unknown key", f"{hint}Known here: {', '.join(known)}.", line)


def fields(kind: Any) -> dict[str, Field]:
    """The keys of a struct, in its order."""
    found: dict[str, Field] = {}
    for one in msgspec.structs.fields(kind):
        if one.default is not msgspec.NODEFAULT:
            found[one.name] = Field(one.type, _always(one.default))
        elif one.default_factory is not msgspec.NODEFAULT:
            found[one.name] = Field(one.type, one.default_factory)
        else:
            found[one.name] = Field(one.type, None)
    return found


def keys(kind: Any = Config, path: str = "") -> Iterator[str]:
    """The paths of all keys there are, with `[]` for the elements of a list and `*` for a name that is free."""
    for name, field in fields(kind).items():
        if kind is Collector and name == "options":
            continue
        place = join(path, name)
        yield place
        if field.type == dict[str, Collector]:
            for collector, options in OPTIONS.items():
                yield join(place, collector)
                yield from keys(Collector, join(place, collector))
                yield from keys(options, join(place, collector))
            continue
        for part in (field.type, *get_args(field.type)):
            if isinstance(part, type) and issubclass(part, Section):
                below = {tuple: f"{place}[]", dict: f"{place}.*"}.get(get_origin(field.type), place)
                yield from keys(part, below)


@cache
def _all_keys() -> tuple[str, ...]:
    return tuple(keys())


def _always(value: Any) -> Callable[[], Any]:
    return lambda: value


def _leaf_of(kind: Any) -> Any:
    """How a collector's option is read. Its lists of texts are lists of regular expressions, all of them."""
    plain = {str: Words, int: Whole, float: Number, bool: Flag}
    if get_origin(kind) in (Union, UnionType):  # `str | None`: null is what an absent key is
        kind = next(one for one in get_args(kind) if one is not NoneType)
    return tuple[Pattern, ...] if kind == tuple[str, ...] else plain.get(kind, kind)


def _choice(allowed: tuple[str, ...]) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in allowed:
            raise Wrong(
                f"expected {', '.join(allowed[:-1])} or {allowed[-1]}", "Remove the key to have its default."
            )
        return text

    return read


def _kind_of(node: Node) -> str:
    if node.value is None:
        return "nothing"
    return {str: "a text", list: "a list", dict: "keys with values"}[type(node.value)]


def _short(text: str | list[Any] | dict[str, Any] | None) -> str:
    shown = repr(text)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."
