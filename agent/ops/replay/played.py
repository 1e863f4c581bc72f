"""Which files were played to a destination, and how far: so that a file that is played twice is delivered once.

    $XDG_STATE_HOME/limpet/played-<key>        ~/.local/state where that is not set

A line is added for each step: the SHA-256 of a file's content, a blank, and the samples of it that are settled, or `all`. So it
does not matter how a file is called, or where the stick is mounted. The key is made of the destination and the selection as they
were typed. A line that is cut short by a power cut is left out.
"""

from __future__ import annotations

import os
import re

from agent.ops.replay.unfinished import place

ALL = -1
_LINE = re.compile(r"([0-9a-f]{64}) ([0-9]{1,15}|all)")


class Played:
    """What was played of files, by their SHA-256, as hex digits. `key` is what another play has to have in common with it."""

    def __init__(self, *key: str | None) -> None:
        self._path = place("played", *key)
        self._known: dict[str, int] = {}
        try:
            with open(self._path, encoding="ascii", errors="replace") as file:
                for line in file:
                    if found := _LINE.fullmatch(line.removesuffix("\n")) if line.endswith("\n") else None:
                        self._known[found[1]] = ALL if found[2] == "all" else int(found[2])
        except OSError:
            pass

    def of(self, sha256: str) -> int:
        """Return how many samples of a file are settled; ALL: it was played to its end."""
        return self._known.get(sha256, 0)

    def note(self, settled: dict[str, int]) -> None:
        """Keep how far files were played, durably. Raises OSError."""
        new = {
            sha256: samples for sha256, samples in settled.items() if self._known.get(sha256, 0) != samples
        }
        if not new:
            return
        os.makedirs(os.path.dirname(self._path), mode=0o700, exist_ok=True)
        lines = "".join(f"{sha256} {'all' if at == ALL else at}\n" for sha256, at in new.items())
        fd = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            end = os.fstat(fd).st_size
            if end and os.pread(fd, 1, end - 1) != b"\n":  # a power cut has cut the last line short
                lines = f"\n{lines}"
            os.write(fd, lines.encode())
            os.fdatasync(fd)
        finally:
            os.close(fd)
        self._known |= new
