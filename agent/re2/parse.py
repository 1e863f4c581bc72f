r"""RE2's syntax, read as Go's regexp/syntax package reads it (parse.go, with the flags `Perl`), into a tree.

What Go refuses is refused, with what it would take lookahead, lookbehind or backreferences for named as such.
Beyond that there are refused: scripts (`\p{Greek}`), which Python has no tables of, and groups in groups
deeper than DEEPEST. Flags end with the tree: each character has its cases, each repetition its greed.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from agent.re2 import chars
from agent.re2.tree import Char, Choice, Edge, Group, Node, Refused, Repeat, Sequence

DEEPEST = 100
MOST_REPEATS = 1000  # of all counted repetitions in each other, as in Go

_COUNT = re.compile(r"\{(0|[1-9][0-9]*)(,(0|[1-9][0-9]*)?)?\}")
_NAME = re.compile(r"\(\?P?<(?![=!])([^>]*)>")
_FLAGS = re.compile(r"\(\?([imsU]*)(?:-([imsU]+))?([:)])")
_CATEGORY = re.compile(r"\\[pP](?:([^{])|\{(\^?)([^}]*)\})", re.DOTALL)
_POSIX = re.compile(r"\[:(\^?)(.*?):\]", re.DOTALL)
_HEX = re.compile(r"x(?:([0-9A-Fa-f]{2})|\{([0-9A-Fa-f]+)\})")
_OCTAL = re.compile(r"0[0-7]{0,2}|[1-7][0-7]{1,2}")
_CONTROLS = {"a": 7, "f": 12, "n": 10, "r": 13, "t": 9, "v": 11}
_NEITHER = {
    "(?=": "lookahead",
    "(?!": "lookahead",
    "(?<=": "lookbehind",
    "(?<!": "lookbehind",
    "(?P=": "backreference",
    "(?>": "atomic group",
}
_EDGES = {
    "A": Edge("text start"),
    "z": Edge("text end"),
    "b": Edge("word"),
    "B": Edge("no word"),
}


class Flags(NamedTuple):
    """What `(?imsU)` says: any case, `^` and `$` at lines, `.` at a newline, as few as can be."""

    i: bool = False
    m: bool = False
    s: bool = False
    U: bool = False


class Parsed(NamedTuple):
    """A pattern's tree, and the names of its groups by their index (`""`: none); 0 is the whole match."""

    tree: Node
    names: tuple[str, ...]


def parse(pattern: str, *, dot_all: bool) -> Parsed:
    """Read a pattern. `dot_all`: `.` takes a newline, too, as after `(?s)`.

    Raises:
        Refused: it is no pattern, or cannot be had here.
    """
    parser = _Parser(pattern)
    tree = parser.choice(Flags(s=dot_all), 0)
    if parser.at < len(pattern):
        raise Refused("there is a ) without its (", r"Write \) for the character.")
    return Parsed(tree, tuple(parser.names))


class _Parser:
    def __init__(self, pattern: str) -> None:
        self.text, self.at = pattern, 0
        self.names = [""]

    def _is(self, start: str) -> bool:
        return self.text.startswith(start, self.at)

    def _take(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        match = pattern.match(self.text, self.at)
        if match:
            self.at = match.end()
        return match

    def choice(self, flags: Flags, depth: int) -> Node:
        """What is up to the end or a `)`, which is left."""
        if depth > DEEPEST:
            raise Refused("groups in groups, too deep", f"There may be {DEEPEST} in each other.")
        branches: list[Node] = []
        parts: list[Node] = []
        repeated = False  # the last thing read was a repetition
        while self.at < len(self.text) and not self._is(")"):
            if self._is("|"):
                self.at += 1
                branches.append(_sequence(parts))
                parts, repeated = [], False
            elif repetition := self._repetition():
                if repeated:
                    what = "a repetition of a repetition, such as a** or a++"
                    raise Refused(what, "Put the inner one in a group: (?:a{2})+.")
                if not parts:
                    raise Refused("a repetition of nothing", r"Write \* for the character.")
                least, most, lazy = repetition
                parts[-1] = _repeat(parts[-1], least, most, lazy != flags.U)
                repeated = True
            else:
                repeated = False
                if self._is("(") and (changed := self._flags(flags)):
                    flags = changed
                elif self._is("("):
                    parts.append(self._group(flags, depth))
                else:
                    parts += self._atoms(flags)
        branches.append(_sequence(parts))
        return _choice(branches)

    def _repetition(self) -> tuple[int, int | None, bool] | None:
        """How often, and whether a ? is behind it."""
        counts: tuple[int, int | None]
        simple = {"*": (0, None), "+": (1, None), "?": (0, 1)}
        if self.text[self.at] in simple:
            counts = simple[self.text[self.at]]
            self.at += 1
        elif match := self._take(_COUNT):
            least = int(match[1][:5])  # longer ones are too large anyhow
            most = least if match[2] is None else None if match[3] is None else int(match[3][:5])
            if max(least, most or 0) > MOST_REPEATS or (most is not None and most < least):
                raise Refused(f"{match[0]} is no count", f"It takes 0 to {MOST_REPEATS}, the lower first.")
            counts = least, most
        else:
            return None
        lazy = self._is("?")
        self.at += lazy
        return *counts, lazy

    def _flags(self, flags: Flags) -> Flags | None:
        """What `(?i)` and the like, which open no group, make of the flags."""
        match = _FLAGS.match(self.text, self.at)
        if not match or match[3] == ":":
            return None
        self.at = match.end()
        return _set(flags, match)

    def _group(self, flags: Flags, depth: int) -> Node:
        start, index = self.at, None
        if not self._is("(?"):
            self.at += 1
            index = self._new("")
        elif match := self._take(_NAME):
            if not re.fullmatch("[A-Za-z0-9_]+", match[1]):
                raise Refused("a group's name is not of letters, digits and _", "Choose another name.")
            index = self._new(match[1])
        elif match := self._take(_FLAGS):
            flags = _set(flags, match)
        else:
            raise self._unknown_group()
        body = self.choice(flags, depth + 1)
        if not self._is(")"):
            raise Refused(f"the ( at character {start + 1} has no )", r"Write \( for the character.")
        self.at += 1
        return body if index is None else Group(index, body)

    def _new(self, name: str) -> int:
        self.names.append(name)
        return len(self.names) - 1

    def _unknown_group(self) -> Refused:
        for start, name in _NEITHER.items():
            if self._is(start):
                return Refused(f"there is no {name}", "Neither has Prometheus. Match what is wanted instead.")
        return Refused(f"{self.text[self.at : self.at + 4]} opens no group", r"Write \( for the character.")

    def _atoms(self, flags: Flags) -> list[Node]:
        r"""One thing that can be repeated, but for `\Q..\E`, of which that is true of the last one."""
        char = self.text[self.at]
        if char == "\\":
            return self._escaped(flags)
        if char == "[":
            return [Char(self._class(flags))]
        self.at += 1
        if char == "^":
            return [Edge("line start" if flags.m else "text start")]
        if char == "$":
            return [Edge("line end" if flags.m else "text end")]
        if char == ".":
            return [Char(chars.ANY if flags.s else chars.NO_NEWLINE)]
        return [_literal(ord(char), flags)]

    def _escaped(self, flags: Flags) -> list[Node]:
        after = self.text[self.at + 1 : self.at + 2]
        if after in _EDGES:
            self.at += 2
            return [_EDGES[after]]
        if after == "Q":
            quoted, end, _ = self.text[self.at + 2 :].partition("\\E")
            if not end:
                raise Refused(r"there is a \Q without its \E", r"Write \E behind what is quoted.")
            self.at += 4 + len(quoted)
            return [_literal(ord(char), flags) for char in quoted]
        named = self._named(flags)
        return [_literal(self._code(), flags) if named is None else Char(named)]

    def _named(self, flags: Flags) -> chars.Ranges | None:
        r"""`\d`, `\pL`, `\p{Lu}` and their like, if one is next."""
        if not self._is("\\"):
            return None
        after = self.text[self.at + 1 : self.at + 2]
        if after and after in "dswDSW":
            self.at += 2
            return _class(chars.perl(after) or (), flags, not_in=after.isupper())
        if not after or after not in "pP":
            return None
        match = _CATEGORY.match(self.text, self.at)
        name = (match[1] or match[3]) if match else ""
        found = chars.category(name) if name else None
        if match is None or found is None:
            what = rf"\{after} with a class that is not known here: {name!r}"
            raise Refused(what, r"Categories such as \pN and \p{Lu} are; of a script write the characters.")
        self.at = match.end()
        return _class(found, flags, not_in=(after == "P") != bool(match[2]))

    def _code(self) -> int:
        """The code point of an escape that stands for one character."""
        self.at += 1
        start = self.at
        char = self.text[start : start + 1]
        if not char:
            raise Refused("a \\ at the end", r"Write \\ for the character.")
        if match := self._take(_HEX):
            code = int(match[1] or match[2], 16)
            if code <= chars.ANY[0][1]:
                return code
        elif match := self._take(_OCTAL):
            return int(match[0], 8)
        elif char in _CONTROLS:
            self.at += 1
            return _CONTROLS[char]
        elif char.isascii() and not char.isalnum():
            self.at += 1
            return ord(char)
        if char in "123456789" or (char == "k" and self._is("k<")):
            raise Refused("there are no backreferences", "Neither has Prometheus. Write what is to match.")
        raise Refused(f"\\{char} means nothing", "Write the character alone, if it is meant.")

    def _class(self, flags: Flags) -> chars.Ranges:
        """A class in brackets."""
        start = self.at
        self.at += 1
        not_in = self._is("^")
        self.at += not_in
        found: list[tuple[int, int]] = []
        first = True
        while first or not self._is("]"):
            first = False
            if (posix := self._posix(flags)) is not None or (posix := self._named(flags)) is not None:
                found += posix
                continue
            low = high = self._class_char(start)
            if self._is("-") and not self._is("-]") and self.at + 1 < len(self.text):
                self.at += 1
                high = self._class_char(start)
                if high < low:
                    what = f"the range {chr(low)}-{chr(high)} is the wrong way round"
                    raise Refused(what, r"Write \- for the character.")
            found += chars.folded(((low, high),)) if flags.i else ((low, high),)
        self.at += 1
        return chars.negated(chars.union(found)) if not_in else chars.union(found)

    def _class_char(self, start: int) -> int:
        if self.at >= len(self.text):
            raise Refused(f"the [ at character {start + 1} has no ]", r"Write \[ for the character.")
        if self._is("\\"):
            return self._code()
        self.at += 1
        return ord(self.text[self.at - 1])

    def _posix(self, flags: Flags) -> chars.Ranges | None:
        match = _POSIX.match(self.text, self.at)
        if not match:
            return None
        found = chars.posix(match[2])
        if found is None:
            raise Refused(f"{match[0]} is no class", "There are [:alpha:], [:digit:] and so on.")
        self.at = match.end()
        return _class(found, flags, not_in=bool(match[1]))


def _set(flags: Flags, match: re.Match[str]) -> Flags:
    on, off = match[1], match[2] or ""
    return Flags(*[(old or name in on) and name not in off for name, old in flags._asdict().items()])


def _class(found: chars.Ranges, flags: Flags, *, not_in: bool) -> chars.Ranges:
    if flags.i:
        found = chars.folded(found)
    return chars.negated(found) if not_in else found


def _literal(code: int, flags: Flags) -> Char:
    one = ((code, code),)
    return Char(chars.folded(one) if flags.i else one)


def _sequence(parts: list[Node]) -> Node:
    return parts[0] if len(parts) == 1 else Sequence(tuple(parts))


def _choice(branches: list[Node]) -> Node:
    """Neighbors of one character each become a class: there is one way to match it instead of several."""
    found: list[Node] = []
    for branch in branches:
        if found and isinstance(branch, Char) and isinstance(found[-1], Char):
            found[-1] = Char(chars.union((*found[-1].ranges, *branch.ranges)))
        else:
            found.append(branch)
    return found[0] if len(found) == 1 else Choice(tuple(found))


def _repeat(body: Node, least: int, most: int | None, lazy: bool) -> Repeat:
    made = Repeat(body, least, most, lazy)
    if max(least, most or 0) > 1 and not _countable(made, MOST_REPEATS):
        what = "counted repetitions in each other make too much"
        raise Refused(what, f"Their product may be {MOST_REPEATS} at most.")
    if not _has_characters(body):  # nothing changes after the first time
        return Repeat(body, min(least, 1), 1 if most is None else min(most, 1), lazy)
    return made


def _countable(node: Node, left: int) -> bool:
    match node:
        case Repeat(body, least, most):
            if most == 0:
                return True
            times = least if most is None else most
            return times <= left and _countable(body, left // max(times, 1))
        case Sequence(parts) | Choice(parts):
            return all(_countable(part, left) for part in parts)
        case Group(_, body):
            return _countable(body, left)
    return True


def _has_characters(node: Node) -> bool:
    match node:
        case Char():
            return True
        case Sequence(parts) | Choice(parts):
            return any(_has_characters(part) for part in parts)
        case Group(_, body) | Repeat(body):
            return _has_characters(body)
    return False
