r"""Regular expressions: the one policy of relabeling rules, include and exclude lists, and selectors.

1. A pattern means what it means in Prometheus: it is RE2's (github.com/google/re2/wiki/Syntax), it must match the
   whole text, and its dot matches any character, a line end too: `^(?s:pattern)$`.
2. Matching takes time linear in the text, whatever the pattern is.
3. A plain pattern costs no library, and little time: literals, dots, simple classes and groups of alternatives, with one
   repetition in each alternative and a `.*` or `.+` at its end, such as `lo`, `veth.*`, `sr[0-9]+|fd.*`, `(.+);(.+)` or
   `(.*)_(bytes|seconds)_total`. Python's `re` takes linear time for these and agrees with RE2, groups included (a test
   compares the two). For every other pattern google-re2 is imported.

Differences from Go's regexp remain at the edges: docs/decisions/0031-google-re2.md lists them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import cache, lru_cache
from itertools import takewhile
from typing import Any, TypeVar

from buffer.errors import LimpetError

T = TypeVar("T")
Match = Any
"""A match, for `Template.expand`."""

_ATOM = (
    r"(?:[^\\.+*?()\[\]{}|^$]|\.|\\[-./:+*?()\[\]{}^$\\]|\[\^?(?:[a-zA-Z0-9](?:-[a-zA-Z0-9])?|[_.:/ ])+\])"
)
# Without possessive repetitions, which Python before 3.11.5 (Debian 12 has 3.11.2) gets wrong in groups
# (github.com/python/cpython/issues/106052). An atom begins in one way only, so there is little to go back to.
_ONCE = rf"(?:{_ATOM}(?![+*?]))*"
_FIXED = rf"(?:{_ATOM}(?![+*?])|\({_ONCE}(?:\|{_ONCE})*\))*"
_REPEATED = rf"{_ATOM}[+*?](?![+*?])"
_REST = r"(?:\.[+*]|\(\.[+*]\))"  # takes all that is left of the text, so it is never tried in another length
_ALTERNATIVE = re.compile(
    rf"{_FIXED}(?:(?:{_REPEATED}|\({_ONCE}{_REPEATED}{_ONCE}\)){_FIXED})?(?:{_REST}(?=\||\Z))?"
)
_GROUP = re.compile(r"\(([^()]*)\)|(\|)")  # or the end of an alternative
_MOST_WAYS = 4
"""Ways through the groups of an alternative: each may be tried at each character of a text."""
_REMEMBERED, _SHORT = 128, 200
"""Texts of a pattern of google-re2 whose matches are kept, and the characters of such a text at most."""
_GROUP_NAME = re.compile(r"\(\?P?<(\w+)>")
_ESCAPE = re.compile(r"\\Q.*?(?:\\E|$)|\\(.)", re.DOTALL)
_LOOKAROUND = ("(?=", "(?!", "(?<=", "(?<!")


class RegexError(LimpetError):
    """The text is no pattern, or one that cannot be matched here. `where` is the pattern."""


class Regex:
    """A compiled pattern.

    Attributes:
        fullmatch: returns the match of a text, for a template of this pattern; None where it does not match.
        matches: returns whether a text matches, in less time.

    Raises RegexError.
    """

    __slots__ = ("_count", "_group", "_names", "fullmatch", "matches")

    fullmatch: Callable[[str], Match | None]
    matches: Callable[[str], bool]

    def __init__(self, source: str) -> None:
        self._names: Mapping[str, int] = {}
        if is_plain(source):
            compiled = re.compile(source, re.DOTALL)
            find = self.fullmatch = compiled.fullmatch
            self._count = compiled.groups
            self._group: Callable[[Match, int], str] = lambda match, index: match[index] or ""
            self.matches = lambda text: find(text) is not None
            return
        theirs, only_matching = _compiled(source), _compiled(source, groups=False)
        self._count = theirs.groups
        self._names = {name.decode(): index for name, index in theirs.groupindex.items()}
        # The library cuts a group out of the text only for a rule that uses it: that takes longer than the match.
        self._group = lambda match, index: (match[index] or b"").decode()
        self.fullmatch = _remembering(lambda text: theirs.fullmatch(text.encode("utf-8", "backslashreplace")))
        self.matches = _remembering(
            lambda text: bool(only_matching.fullmatch(text.encode("utf-8", "backslashreplace")))
        )

    def template(self, text: str) -> Template:
        """Return a text with references to the groups of this pattern."""
        return Template(text, self._names, self._count, self._group)


def _remembering(find: Callable[[str], T]) -> Callable[[str], T]:
    """Return the same function, which knows the answers for its last texts: many series have a text in common."""
    known = lru_cache(_REMEMBERED)(find)
    return lambda text: known(text) if len(text) <= _SHORT else find(text)


def any_of(sources: Iterable[str]) -> Callable[[str], bool]:
    """Return a function that returns whether a text matches at least one of the patterns. Raises RegexError."""
    all_of_them = list(sources)
    plain = list(filter(is_plain, all_of_them))
    patterns = [one for one in all_of_them if one not in plain]
    tests = [Regex(one).matches for one in (*patterns, *(["|".join(plain)] if plain else []))]
    return tests[0] if len(tests) == 1 else lambda text: any(test(text) for test in tests)


def is_plain(source: str) -> bool:
    """Return whether a pattern is matched by Python's `re`, because it means the same there in linear time."""
    at = 0
    while (found := _ALTERNATIVE.match(source, at)) and (at := found.end()) < len(source):
        if source[at] != "|":
            return False
        at += 1
    ways = 1
    for group, ends in _GROUP.findall(_ESCAPE.sub("", source)):
        ways = 1 if ends else ways * (group.count("|") + 1)
        if ways > _MOST_WAYS:
            return False
    try:
        re.compile(source)
        source.encode()
    except (re.error, UnicodeEncodeError):  # a range that is the wrong way round; half a surrogate pair
        return False
    return True


@cache
def _library() -> tuple[Any, dict[bool, Any]]:
    """Return the module of google-re2 and the options of patterns with and without groups. Raises ImportError."""
    import re2  # 3 MB: only for those who need it

    options = {True: re2.Options(), False: re2.Options()}
    for groups, one in options.items():
        one.dot_nl, one.log_errors, one.never_capture = True, False, not groups
    return re2, options


def _compiled(source: str, *, groups: bool = True) -> Any:
    try:
        re2, options = _library()
    except ImportError as error:
        what = f"this regular expression needs google-re2, which cannot be imported ({error})"
        do = "Install it (pip install google-re2), or use one repetition, such as .*, in each alternative."
        raise RegexError(source, what, do) from None
    if any(found[1] == "C" for found in _ESCAPE.finditer(source)):
        raise _error(source, r"\C would match a part of a character")
    names = _GROUP_NAME.findall(source)
    if len(set(names)) < len(names):
        raise _error(source, "two groups have one name")
    try:
        return re2.compile(source.encode(), options[groups])
    except UnicodeEncodeError:
        raise _error(source, "it is not valid Unicode") from None
    except re2.error as error:
        reason = error.args[0].decode(errors="replace")
        if reason.endswith(_LOOKAROUND):
            do = "Prometheus has no lookaround either. Match the wanted part instead."
            raise RegexError(source, "expected a regular expression (there is no lookaround)", do) from None
        raise _error(source, reason) from None


def _error(source: str, reason: str) -> RegexError:
    do = "It must match the whole text; put it in quotes."
    return RegexError(source, f"expected a regular expression ({reason})", do)


class Template:
    """A text with references to groups: `$1`, `${1}`, `$name`, `${name}`, and `$$` for a dollar sign.

    It is expanded as Go's Regexp.Expand does it. A name is the longest row of letters, digits and `_`, so `$1x` is
    the group `1x`; write `${1}x` for group 1. A reference to no group, or to one that took no part, becomes empty.
    A `$` that begins no reference stays.

    `unknown` are the references to groups that the pattern does not have, as they were written.
    """

    __slots__ = ("_get", "_parts", "unknown")

    def __init__(
        self, text: str, names: Mapping[str, int], count: int, get: Callable[[Match, int], str]
    ) -> None:
        self._get = get
        self._parts: list[str | int] = []
        self.unknown: list[str] = []
        at = 0
        while (dollar := text.find("$", at)) >= 0:
            self._parts.append(text[at:dollar])
            at = dollar + 1
            if text.startswith("$", at):
                self._parts.append("$")
                at += 1
            elif written := _reference(text, at):
                at += len(written)
                name = written.strip("{}")
                group = int(name) if re.fullmatch("0|[1-9][0-9]{0,8}", name) else names.get(name, count + 1)
                if group <= count:
                    self._parts.append(group)
                else:
                    self.unknown.append(f"${written}")
            else:
                self._parts.append("$")
        self._parts = [part for part in (*self._parts, text[at:]) if part != ""] or [""]

    def expand(self, match: Match) -> str:
        """Return the text for this match."""
        get, parts = self._get, self._parts
        if len(parts) == 1:  # as most are
            return part if isinstance(part := parts[0], str) else get(match, part)
        return "".join([part if isinstance(part, str) else get(match, part) for part in parts])


def _reference(text: str, at: int) -> str:
    """Return the reference behind a dollar sign, with its braces; empty where there is none."""
    braced = text.startswith("{", at)
    name = "".join(
        takewhile(lambda char: char.isalpha() or char.isdecimal() or char == "_", text[at + braced :])
    )
    if not braced or not name:
        return name
    return f"{{{name}}}" if text.startswith("}", at + braced + len(name)) else ""
