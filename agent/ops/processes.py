"""The agents among the processes of this host, by their command lines: for when no lock names one.

An agent whose data_dir was removed holds no lock that anybody can find. It still runs, and keeps samples in memory.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import NamedTuple

LONGEST = 64 << 10
"""Bytes of a command line that are read."""


class Running(NamedTuple):
    """A process that is `limpet run`, and its configuration as an absolute path."""

    pid: int
    config: str


def agents(default: str, proc: str = "/proc") -> Iterator[Running]:
    """Yield every agent that this user may see. `default` is the configuration of one that names none.

    One in a container, or another root, is none: its paths are others.
    """
    with suppress(OSError):
        root = os.stat("/")
        for name in os.listdir(proc):
            if name.isascii() and name.isdigit():
                with suppress(OSError):
                    named = _config(_words(f"{proc}/{name}/cmdline"), default)
                    if named is not None and os.path.samestat(root, os.stat(f"{proc}/{name}/root")):
                        yield Running(int(name), os.path.join(os.readlink(f"{proc}/{name}/cwd"), named))


def is_agent(pid: int, proc: str = "/proc") -> bool:
    """Return whether a process is `limpet run`, and has this name here; another container has names of its own."""
    with suppress(OSError):
        is_named = _config(_words(f"{proc}/{pid}/cmdline"), "") is not None
        return is_named and os.path.samestat(os.stat("/"), os.stat(f"{proc}/{pid}/root"))
    return False


def has_begun(pid: int, proc: str = "/proc") -> bool:
    """Return whether an agent is at work, by its threads, of which it has several then.

    One that has just been started has one yet, and so has a program that starts it: a shell, sudo.
    """
    with suppress(OSError):
        return len(os.listdir(f"{proc}/{pid}/task")) > 1
    return False


def _words(path: str) -> list[str]:
    with open(path, "rb") as file:
        return [os.fsdecode(word) for word in file.read(LONGEST).split(b"\0")]


def _config(words: Sequence[str], default: str) -> str | None:
    """Return the configuration in a command line; None where that is no agent's."""
    for at, word in enumerate(words[:-1]):
        is_limpet = os.path.basename(word) == "limpet" or (word == "agent" and words[at - 1] == "-m")
        if is_limpet and words[at + 1] == "run":
            for before, after in zip(words[at:], words[at + 1 :], strict=False):
                if before == "--config":
                    return after
                if after.startswith("--config="):
                    return after.partition("=")[2]
            return default
    return None
