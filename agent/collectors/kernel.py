"""Reading the kernel's files, and arithmetic on their counters.

The files are small, made for each reader, and may vanish at any time. Differences are never negative, infinite or
made up. Every value is rounded to the digits that carry information, as a float `v` for which
`round(v * 10**digits) / 10**digits == v` holds up to 1e11: the buffer stores such values as small integers.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Container, Mapping, Sequence
from typing import TypeVar

from agent.collectors.base import Labels, Report, Trouble

T = TypeVar("T")

LARGEST = 2**64 - 1
"""The largest number of the kernel's counters."""
MOST_NAMES = 2048
"""The names change all the time on a host of containers: beyond this many, all are forgotten between two runs."""


class KernelFile:
    """A file that is read in every run. What is wrong with it is reported, and costs the series made of it.

    A file that is `optional` may be missing without a report: not every kernel has it.
    """

    def __init__(self, path: str, tell: Report, *, optional: bool = False) -> None:
        self.path, self._tell, self._optional = path, tell, optional

    def read(self) -> bytes:
        """Return the whole file. Raises OSError."""
        return read(self.path)

    def read_or_none(self) -> bytes | None:
        """Return the whole file, or None if it cannot be read."""
        try:
            return read(self.path)
        except FileNotFoundError as error:
            if not self._optional:
                self._tell(Trouble("file", self.path, reason(error)))
        except OSError as error:
            self._tell(Trouble("file", self.path, reason(error)))
        return None

    def checked(self, parsed: tuple[T, int]) -> T:
        """Return what a parser found, and report the number of malformed lines that it counted."""
        found, wrong = parsed
        if wrong:
            lines = "a line that is" if wrong == 1 else f"{wrong} lines that are"
            self._tell(Trouble("file", self.path, f"it has {lines} not the kernel's"))
        return found


def read(path: str) -> bytes:
    """Return the whole file. Raises OSError."""
    # Not a file object, which costs a fifth more per read of these files.
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        content = part = os.read(fd, 65536)
        while part:  # a read returns what fits into the kernel's page, so only an empty one is the end
            part = os.read(fd, 65536)
            content += part
        return content
    finally:
        os.close(fd)


def read_or_none(path: str) -> bytes | None:
    """Return the whole file, or None if it cannot be read: its series are then left out."""
    try:
        return read(path)
    except OSError:
        return None


def reason(error: OSError) -> str:
    """Return why a call failed, in the system's words, without the name of the file."""
    return (error.strerror or type(error).__name__).lower()


def label(raw: bytes) -> str:
    r"""Return a kernel's name as a label value. A byte that is not UTF-8, which receivers refuse, becomes `\xe9`."""
    return raw.decode("utf-8", "backslashreplace")


def number(field: bytes) -> int | None:
    """Return the number in a field, or None if the kernel would not write it so."""
    if not field.isdigit() or len(field) > 20:  # int() refuses thousands of digits
        return None
    value = int(field)
    return value if value <= LARGEST else None


def hexadecimal(field: bytes) -> int | None:
    """Return the number of at most 32 bits that the kernel wrote in hexadecimal digits, or None."""
    text = field.strip()
    return int(text, 16) if re.fullmatch(rb"(0x)?[0-9a-fA-F]{1,8}", text) else None


def numbers(fields: list[bytes]) -> list[int] | None:
    """Return the numbers in these fields, or None if the kernel would not write one of them so."""
    try:
        found = list(map(int, fields))
    except ValueError:
        return None
    return None if found and (min(found) < 0 or max(found) > LARGEST) else found


def number_after(key: bytes, content: bytes) -> int | None:
    """Return the number in the line `key number`, which is not the first, or None if there is no such line."""
    _, found, rest = content.partition(b"\n" + key + b" ")
    return number(rest.partition(b"\n")[0]) if found else None


class Names(dict[bytes, Labels | None]):
    """`names[raw]` is the one label `key` with the name, or None for a name that is left out.

    A name is left out if it is not `wanted`, or if `hidden(raw, names)` says so, which sees all names met.
    """

    def __init__(
        self,
        key: str,
        wanted: Callable[[str], bool],
        hidden: Callable[[bytes, Container[bytes]], bool] | None = None,
    ) -> None:
        self._key, self._wanted, self._hidden = key, wanted, hidden

    def begin(self) -> None:
        """Forget all names if they are too many; to be called before a run, because a run needs all it meets."""
        if len(self) > MOST_NAMES:
            self.clear()

    def __missing__(self, raw: bytes) -> Labels | None:
        name = label(raw)
        left_out = not self._wanted(name) or (self._hidden and self._hidden(raw, self))
        self[raw] = found = None if left_out else ((self._key, name),)
        return found


WRAP = 2**32
"""What a 32-bit kernel counts to, and every kernel for the milliseconds of disks."""


def deltas(before: Sequence[int], now: Sequence[int]) -> list[int] | None:
    """Return by how much each counter of a device grew. One that fell from the upper half of 32 bits to the lower has wrapped.

    None if any other fell, or the device counts something else now: it was plugged in again, and the others cannot be
    trusted either.
    """
    if len(before) != len(now):
        return None
    grown = [b - a for a, b in zip(before, now, strict=True)]
    if min(grown, default=0) >= 0:
        return grown
    if any(g < 0 and (a >= WRAP or g + WRAP >= WRAP // 2) for a, g in zip(before, grown, strict=True)):
        return None
    return [g + WRAP if g < 0 else g for g in grown]


def rate(grown: float, seconds: float, digits: int) -> float:
    """Return the growth per second over an interval of `seconds` > 0."""
    return round(grown / seconds, digits)


def mean(total: float, count: int) -> float:
    """Return the mean for each completed piece, 2 digits; 0 when none completed."""
    return round(total / count, 2) if count else 0.0


def percent(part: float, whole: float) -> float:
    """Return 100 x part / whole, 2 digits, for 0 <= part and 0 < whole; not above 100.

    Counters are read one after the other, so a part can seem to be larger than the whole by a tick or two.
    """
    return min(100.0, round(100.0 * part / whole, 2))


LATE = 1.5
"""How much more than an interval's length a run can measure in it: it may read that late."""


def share(part: float, whole: float) -> float | None:
    """Return the percentage of an interval's `whole` that was `part`; None if it is more than a late reading explains."""
    return None if part > LATE * whole else percent(part, whole)


class Growth:
    """The growth of each device's counters since the run before, which it remembers."""

    def __init__(self) -> None:
        self._before: Mapping[bytes, Sequence[int]] = {}
        self._whole: dict[bytes, Sequence[int]] = {}
        self._at = 0.0

    def step(
        self, now: float, counters: Mapping[bytes, Sequence[int]]
    ) -> tuple[float, dict[bytes, list[int]], Mapping[bytes, Sequence[int]]]:
        """Return the seconds since the run before, the growth by device, and the counters as if they had never wrapped.

        The growth leaves out a device that the run before did not have, or one of whose counters fell; it leaves out
        all if no time passed. So seconds > 0 wherever there is a growth.
        """
        before, seconds = self._before, now - self._at
        grown: dict[bytes, list[int]] = {}
        whole: dict[bytes, Sequence[int]] = {}
        for name, values in counters.items():
            delta = deltas(before[name], values) if name in before else None
            if delta is None:
                whole[name] = values
            else:
                grown[name] = delta
                whole[name] = [total + more for total, more in zip(self._whole[name], delta, strict=True)]
        self._before, self._whole, self._at = counters, whole, now
        return seconds, grown if seconds > 0 else {}, whole
