"""One base class for everything that is an operator's to know.

The command line prints the message without a traceback and exits with `exit_code`; the fields go
to the log. `do` is a complete sentence, and it is never "delete your data".
"""

from __future__ import annotations


class LimpetError(Exception):
    """An error that says where it happened, what is wrong, and what to do about it."""

    exit_code = 2

    def __init__(self, where: str, what: str, do: str) -> None:
        super().__init__(f"{where}: {what}. {do}")
        self.where, self.what, self.do = where, what, do

    @property
    def lines(self) -> list[str]:
        """The message as lines for a person; a name in it may have a line break of its own."""
        return [str(self)]


class BufferInUse(LimpetError):
    """Another process writes to this buffer."""


class NewerFormat(LimpetError):
    """The buffer was written by a newer version, in a format this one does not know."""


class BufferFull(LimpetError):
    """There is no room for this record; nothing was written."""
