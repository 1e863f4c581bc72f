"""Sets of characters as sorted ranges of code points, and the classes that RE2 has names for.

Two letters are the same but for their case where Unicode's simple case folding says so, as in Go
(unicode.SimpleFold): k, K and the Kelvin sign, but not the dotless i. Python's `re.IGNORECASE` draws other
lines, so it is not used. Categories and letters are those of this Python's Unicode tables.
"""

from __future__ import annotations

import string
import sys
import unicodedata
from collections.abc import Iterable
from functools import cache

Ranges = tuple[tuple[int, int], ...]  # in order, with a gap between any two

ANY: Ranges = ((0, sys.maxunicode),)
NO_NEWLINE: Ranges = ((0, 9), (11, sys.maxunicode))
_LAST_FOLDED = 0x1E943  # no letter behind it has another case


def union(ranges: Iterable[tuple[int, int]]) -> Ranges:
    """What is in any of the ranges."""
    found: list[tuple[int, int]] = []
    for low, high in sorted(ranges):
        if found and low <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(found[-1][1], high))
        else:
            found.append((low, high))
    return tuple(found)


def negated(ranges: Ranges) -> Ranges:
    """What is in none of them."""
    found, start = [], 0
    for low, high in ranges:
        if start < low:
            found.append((start, low - 1))
        start = high + 1
    return (*found, (start, sys.maxunicode)) if start <= sys.maxunicode else tuple(found)


def overlap(one: Ranges, other: Ranges) -> bool:
    """Whether a character is in both."""
    i = j = 0
    while i < len(one) and j < len(other):
        if one[i][1] < other[j][0]:
            i += 1
        elif other[j][1] < one[i][0]:
            j += 1
        else:
            return True
    return False


def folded(ranges: Ranges) -> Ranges:
    """The same with all cases of its letters."""
    cases = _ASCII_CASES if not ranges or ranges[-1][1] < 128 else _cases()
    added: list[tuple[int, int]] = []
    for low, high in ranges:
        for code in range(low, min(high, _LAST_FOLDED) + 1):
            added += [(other, other) for other in cases.get(code, ())]
    return union((*ranges, *added))


_ASCII_CASES = {  # of all the others a table takes a tenth of a second
    ord(letter): tuple(map(ord, {letter.lower(), letter.upper(), *more}))
    for letter in string.ascii_letters
    for more in [{"k": "\u212a", "s": "\u017f"}.get(letter.lower(), "")]
}


@cache
def _cases() -> dict[int, tuple[int, ...]]:
    """For each letter that has cases all of them."""
    by_fold: dict[str, list[int]] = {}
    for code in range(_LAST_FOLDED + 1):
        letter = chr(code)
        if (fold := _fold(letter)) != letter:
            by_fold.setdefault(fold, [ord(fold)]).append(code)
    return {code: tuple(codes) for codes in by_fold.values() for code in codes}


def _fold(letter: str) -> str:
    full = letter.casefold()  # of one letter where the simple folding is the same
    if len(full) > 1:
        full = letter.lower()
    return full if len(full) == 1 else letter


def _of(text: str) -> Ranges:
    return union((ord(low), ord(high)) for low, high in zip(text[::2], text[1::2], strict=True))


# Both ends of each range. ASCII alone is in them, as RE2 has it.
_PERL = {"d": _of("09"), "s": _of("\t\n\f\r  "), "w": _of("09AZ__az")}
_POSIX = {
    "alnum": _of("09AZaz"),
    "alpha": _of("AZaz"),
    "ascii": _of("\0\x7f"),
    "blank": _of("\t\t  "),
    "cntrl": _of("\0\x1f\x7f\x7f"),
    "digit": _of("09"),
    "graph": _of("!~"),
    "lower": _of("az"),
    "print": _of(" ~"),
    "punct": _of("!/:@[`{~"),
    "space": _of("\t\r  "),
    "upper": _of("AZ"),
    "word": _of("09AZ__az"),
    "xdigit": _of("09AFaf"),
}


def perl(letter: str) -> Ranges | None:
    r"""The class of `\d`, `\s` or `\w`; of a capital it is the negation of, the same. None: there is none."""
    return _PERL.get(letter.lower())


def posix(name: str) -> Ranges | None:
    """The class of `[:name:]`, or None."""
    return _POSIX.get(name)


def category(name: str) -> Ranges | None:
    r"""The class of `\p{name}`: a category such as L or Lu, `Any`, `Assigned` or `ASCII`; None: not known.

    As in Go 1.25, case, spaces, `-` and `_` do not matter, and C has all that is not assigned.
    """
    plain = "".join(char for char in name if char not in "_- ").capitalize()
    if plain == "Any":
        return ANY
    if plain == "Assigned":
        return negated(_categories()["Cn"])
    if plain == "Ascii":
        return _POSIX["ascii"]
    return _categories().get(plain)


@cache
def _categories() -> dict[str, Ranges]:
    found: dict[str, list[tuple[int, int]]] = {}
    start, current = 0, unicodedata.category("\0")
    for code in range(1, sys.maxunicode + 2):
        one = unicodedata.category(chr(code)) if code <= sys.maxunicode else ""
        if one != current:
            for name in (current, current[0], *(["Lc"] if current in ("Lu", "Ll", "Lt") else [])):
                found.setdefault(name, []).append((start, code - 1))
            start, current = code, one
    return {name: union(ranges) for name, ranges in found.items()}
