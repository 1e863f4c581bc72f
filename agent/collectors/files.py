"""Reading the kernel's files, which are small, made anew for each reader, and may vanish at any time."""

from __future__ import annotations

import os
from typing import TypeVar

from agent.collectors.kind import Tell, Trouble

T = TypeVar("T")

LARGEST = 2**64 - 1
"""What the kernel counts with; a number beyond it is none of the kernel's."""


class Source:
    """A file that is read in every run. What is wrong with it is told, and costs the series made of it.

    A file that is `optional` may be missing without a word: not every kernel has it.
    """

    def __init__(self, path: str, tell: Tell, *, optional: bool = False) -> None:
        self.path, self._tell, self._optional = path, tell, optional

    def read(self) -> bytes:
        """The whole file. Raises OSError."""
        return read(self.path)

    def read_or_none(self) -> bytes | None:
        """The whole file, or None where it cannot be read."""
        try:
            return read(self.path)
        except FileNotFoundError as error:
            if not self._optional:
                self._tell(Trouble("file", self.path, reason(error)))
        except OSError as error:
            self._tell(Trouble("file", self.path, reason(error)))
        return None

    def checked(self, parsed: tuple[T, int]) -> T:
        """What a parser found; the number beside it is of lines that are not the kernel's."""
        found, wrong = parsed
        if wrong:
            lines = "a line that is" if wrong == 1 else f"{wrong} lines that are"
            self._tell(Trouble("file", self.path, f"it has {lines} not the kernel's"))
        return found


def read(path: str) -> bytes:
    """The whole file. Raises OSError."""
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
    """The whole file, or None where it cannot be read: its series are then left out."""
    try:
        return read(path)
    except OSError:
        return None


def reason(error: OSError) -> str:
    """Why a call failed, in the system's words, without the name of the file."""
    return (error.strerror or type(error).__name__).lower()


def label(raw: bytes) -> str:
    r"""A kernel's name as a label value. A byte that is not UTF-8, which receivers refuse, becomes `\xe9`."""
    return raw.decode("utf-8", "backslashreplace")


def number(field: bytes) -> int | None:
    """The number that a field of digits is, or None where it is none that the kernel writes."""
    if not field.isdigit() or len(field) > 20:  # int() refuses thousands of digits
        return None
    value = int(field)
    return value if value <= LARGEST else None


def numbers(fields: list[bytes]) -> list[int] | None:
    """The numbers in these fields, or None if one of them is not a number that the kernel writes."""
    try:
        found = list(map(int, fields))
    except ValueError:
        return None
    return None if found and (min(found) < 0 or max(found) > LARGEST) else found


def number_after(key: bytes, content: bytes) -> int | None:
    """The number in the line `key number`, which is not the first, or None where there is no such line."""
    _, found, rest = content.partition(b"\n" + key + b" ")
    return number(rest.partition(b"\n")[0]) if found else None
