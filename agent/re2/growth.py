r"""Whether a pattern can take exponential time, which RE2 never does and Python's `re` may.

`re` tries one way to match after the other. Where a part of a text can be matched in two ways by what is
repeated, and that again and again, each further repetition doubles the ways: `(a+)+`, `(?:a|aa)*`, `(.*,)*`.
Thirty characters that nearly match then take minutes.

This is decided, not guessed: each repetition is made an automaton of its characters (after Glushkov), and two
walkers who start at one place and read the same text are sent through it. If they can part and meet again,
there are two ways for that text, and exponentially many for its repetitions. It errs on the safe side where
counts are large (`{9,}` and more are taken for any number) and at edges such as `\b`, which are not looked
at. What it does not see is what is merely slow: n repetitions in a row that can take the same text
(`.*-.*-.*`) take time up to the length of the text to the power of n.
"""

from __future__ import annotations

from collections import defaultdict

from agent.re2.chars import Ranges, overlap
from agent.re2.tree import Char, Choice, Edge, Group, Node, Refused, Repeat, Sequence

UNROLLED = 8  # repetitions up to this count are written out, and no loops
_LARGEST = 2000  # characters in a loop
_MOST_STEPS = 200_000  # of the walkers: a tenth of a second


def _ambiguous() -> Refused:
    what = "it can take exponential time: a repetition in it can match the same text in several ways"
    return Refused(what, "Say what separates its parts: ([^,]+,)* instead of (.+,)*.")


def _large() -> Refused:
    return Refused("a repetition in it is too large to be judged", "Write fewer alternatives in it.")


def check(node: Node) -> None:
    """Raise Refused for a pattern that can take exponential time."""
    match node:
        case Group(_, body):
            check(body)
        case Sequence(parts) | Choice(parts):
            for part in parts:
                check(part)
        case Repeat(body, _, most):
            if most is None or most > UNROLLED:
                if not isinstance(body, Char):
                    _Automaton(node).walk()
            elif most:
                check(body)


class _Part:
    """Where a part of the pattern can start and end, each with the number of ways, of which two are many."""

    __slots__ = ("empty", "first", "last")

    def __init__(self, empty: int, first: dict[int, int], last: dict[int, int]) -> None:
        self.empty, self.first, self.last = empty, first, last


class _Automaton:
    def __init__(self, loop: Repeat) -> None:
        self._chars: list[Ranges] = []
        self._next: defaultdict[int, dict[int, int]] = defaultdict(dict)
        self._edges = 0
        self._part(loop)

    def walk(self) -> None:
        """Send two walkers from each place."""
        if any(ways > 1 for after in self._next.values() for ways in after.values()):
            raise _ambiguous()
        steps = 0
        # Where one goes on as from another place it is enough to start at one of them.
        starts = {frozenset(after): place for place, after in self._next.items()}
        waiting = [(place, place) for place in starts.values()]
        seen = set(waiting)
        while waiting:
            one, other = waiting.pop()
            for step in self._next[one]:
                for other_step in self._next[other]:
                    steps += 1
                    if steps > _MOST_STEPS:
                        raise _large()
                    if one == other:
                        if step >= other_step:  # the other order, or no parting
                            continue
                    elif step == other_step:
                        if overlap(self._chars[step], self._chars[other_step]):
                            raise _ambiguous()
                        continue
                    pair = (min(step, other_step), max(step, other_step))
                    if pair not in seen and overlap(self._chars[step], self._chars[other_step]):
                        seen.add(pair)
                        waiting.append(pair)

    def _part(self, node: Node) -> _Part:
        match node:
            case Char(ranges):
                return self._char(ranges)
            case Edge():
                return _Part(1, {}, {})
            case Group(_, body):
                return self._part(body)
            case Sequence(parts):
                found = _Part(1, {}, {})
                for part in parts:
                    found = self._joined(found, self._part(part))
                return found
            case Choice(branches):
                found = _Part(0, {}, {})
                for branch in branches:
                    one = self._part(branch)
                    found = _Part(
                        min(2, found.empty + one.empty),
                        _sum(found.first, one.first),
                        _sum(found.last, one.last),
                    )
                return found
            case Repeat(body, least, most):
                return self._repeated(body, least, most)

    def _char(self, ranges: Ranges) -> _Part:
        if not ranges:
            return _Part(0, {}, {})
        place = len(self._chars)
        if place >= _LARGEST:
            raise _large()
        self._chars.append(ranges)
        return _Part(0, {place: 1}, {place: 1})

    def _joined(self, one: _Part, other: _Part) -> _Part:
        self._connect(one.last, other.first, 1)
        return _Part(
            min(2, one.empty * other.empty),
            _sum(one.first, other.first, one.empty),
            _sum(other.last, one.last, other.empty),
        )

    def _connect(self, last: dict[int, int], first: dict[int, int], times: int) -> None:
        self._edges += len(last) * len(first)
        if self._edges > _MOST_STEPS:
            raise _large()
        for end, ways in last.items():
            after = self._next[end]
            for start, more in first.items():
                after[start] = min(2, after.get(start, 0) + ways * more * times)

    def _repeated(self, body: Node, least: int, most: int | None) -> _Part:
        if most is not None and (most <= UNROLLED or (least == most and isinstance(body, Char))):
            found = _Part(1, {}, {})
            for _ in range(most - least):  # from the innermost of x(x(x)?)?
                found = self._joined(self._part(body), found)
                found.empty = min(2, found.empty + 1)
            for _ in range(least):
                found = self._joined(self._part(body), found)
            return found
        found = self._part(body)
        # Of an uncounted loop the empty rounds end it; a counted one goes through all of them.
        self._connect(found.last, found.first, 2 if most is not None and found.empty else 1)
        found.empty = min(2, found.empty + (least == 0))
        return found


def _sum(one: dict[int, int], other: dict[int, int], times: int = 1) -> dict[int, int]:
    if not times:
        return one
    found = dict(one)
    for place, ways in other.items():
        found[place] = min(2, found.get(place, 0) + ways * times)
    return found
