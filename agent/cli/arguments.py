"""Options that several commands have, the types of their values, and the configuration and buffer that they name."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from buffer.errors import LimpetError

if TYPE_CHECKING:
    from agent.config import Config, Loaded

GIVE_UP_SECONDS = 300.0
WATCH_SECONDS = 2.0
DEFAULT_CONFIG = "/etc/limpet/limpet.yaml"
"""What `--config` is where it is not given, and this file is there."""
TIMES = "a time such as 2026-05-01T12:30 or 2026-05-01 (local, unless it ends in Z or +02:00), 6h or 7d (ago), now"


# Options. FILE and FOLDER as a metavar complete paths.


def option(parser: Any, names: str, text: str, **more: Any) -> None:
    """Add an option with its help: "-f --follow" is a flag, "-n --number N" takes a value; `more` is argparse's."""
    *flags, last = names.split()
    if last.startswith("-"):
        parser.add_argument(*flags, last, action="store_true", help=text)
    else:
        parser.add_argument(*flags, metavar=last, help=text, **more)


def config(parser: Any, more: str = "") -> None:
    """Add `--config`; `config_file` says which file is meant."""
    option(parser, "--config FILE", f"the configuration file (YAML){more}; default: {DEFAULT_CONFIG}")


def json(parser: Any, text: str = "print JSON") -> None:
    """Add `--json`."""
    option(parser, "--json", text)


def watch(parser: Any) -> None:
    """Add `--watch`, which `output.watch` does."""
    parser.add_argument(
        "--watch",
        metavar="SECONDS",
        nargs="?",
        const=WATCH_SECONDS,
        type=seconds,
        help=f"show it again every so many seconds (default {WATCH_SECONDS:g}), until Ctrl-C",
    )


def buffer(parser: argparse.ArgumentParser) -> None:
    """Add the two options that name a buffer, of which `place` takes one."""
    which = parser.add_mutually_exclusive_group()
    option(which, "--data-dir FOLDER", "the folder that holds the buffer")
    config(which, ", which names it and its limits")


def selection(parser: argparse.ArgumentParser) -> None:
    """Add the options that pick samples; see `span`."""
    option(parser, "--since TIME", "only samples of this time and later: a date, or 6h (ago)")
    option(parser, "--until TIME", "only samples of this time and earlier")
    option(parser, "--selector SELECTOR", "only series such as 'name{label=~\"pattern\"}'")


def items(parser: argparse.ArgumentParser) -> None:
    """Add the names of items in the quarantine, or `--all`."""
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("id", metavar="ID", nargs="*", default=[], help="items, as `list` shows them")
    option(which, "--all", "every item")


def give_up_after(parser: argparse.ArgumentParser) -> None:
    """Add `--give-up-after`, in seconds."""
    option(
        parser,
        "--give-up-after DURATION",
        "end when nothing got through for so long (default 5m)",
        type=duration,
        default=GIVE_UP_SECONDS,
    )


# Types of values.


def count(text: str) -> int:
    """Return a whole number, 0 or more."""
    if not (text.isascii() and text.isdigit()) or len(text) > 9:
        raise argparse.ArgumentTypeError(f"expected a whole number from 0 to 999999999, not {text!r}")
    return int(text)


def size(text: str) -> int:
    """Return a size in bytes; sizes are written as in the configuration."""
    from agent.config.units import parse_size

    try:
        return parse_size(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"expected a size such as 64MiB, not {text!r}: {error}") from None


def seconds(text: str) -> float:
    """Return the seconds between two views."""
    return _least(text, float, "expected seconds, 0.1 or more")


def duration(text: str) -> float:
    """Return a length of time in seconds; durations are written as in the configuration."""
    from agent.config.units import parse_duration

    return _least(text, parse_duration, "expected a duration of 100ms or more, such as 500ms or 5s")


def _least(text: str, read: Callable[[str], float], wrong: str) -> float:
    try:
        value = read(text)
    except ValueError:
        value = 0.0
    if not 0.1 <= value <= 86400:
        raise argparse.ArgumentTypeError(f"{wrong}, at most a day, not {text!r}")
    return value


def parse_time(option: str, text: str, now: float) -> int:
    """Return the UTC milliseconds of a time, at Unix time `now` in seconds. Raises LimpetError that names the option.

    A duration is that long ago; nine digits and more are Unix seconds, with decimals or without.
    """
    from datetime import datetime

    from agent.config.units import parse_duration

    if text == "now":
        return round(now * 1000)
    try:
        if re.fullmatch(r"[0-9]{9,11}(\.[0-9]{1,9})?", text):
            return round(float(text) * 1000)
        if re.fullmatch(r"([0-9]++[a-z]++)+", text):
            return round((now - parse_duration(text)) * 1000)
        return round(datetime.fromisoformat(text).astimezone().timestamp() * 1000)
    except (ValueError, OverflowError, OSError):
        raise LimpetError(option, f"{text!r} is not a time", f"Give {TIMES}.") from None


def span(args: argparse.Namespace, now: float) -> tuple[int, int]:
    """Return the first and the last UTC millisecond of `--since` and `--until`. Raises LimpetError."""
    from agent.ops.replay.selection import FIRST_MS, LAST_MS

    since_ms = FIRST_MS if args.since is None else parse_time("--since", args.since, now)
    until_ms = LAST_MS if args.until is None else parse_time("--until", args.until, now)
    return since_ms, until_ms


# The files that they name.


def default_config() -> str | None:
    """Return `DEFAULT_CONFIG`, or None where there is no such file. One that this user may not see is there."""
    try:
        os.stat(DEFAULT_CONFIG)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError:
        pass
    return DEFAULT_CONFIG


def config_file(args: argparse.Namespace) -> str:
    """Return the configuration file that is meant. Raises LimpetError where none is named, and the default is not there."""
    found: str | None = args.config or default_config()
    if found is None:
        what = f"no configuration is named, and there is no {DEFAULT_CONFIG}"
        raise LimpetError("--config", what, "Give --config FILE.")
    return found


def load(file: str) -> Loaded:
    """Read a configuration. Raises ConfigErrors, and LimpetError where its data_dir does not answer."""
    from agent.config import data_dir_of, load_file
    from agent.system import answering

    answering.require(data_dir_of(file))  # load_file looks at it
    return load_file(file)


def as_the_agent(file: str) -> Loaded:
    """Read a configuration as the agent reads it: root takes the rights of the agent's user, for good.

    Raises ConfigErrors, and LimpetError where data_dir does not answer.
    """
    from agent.config import load_file
    from agent.ops import service
    from buffer.owner import become_user

    loaded = load(file)
    user = service.user(loaded.config.data_dir, file, service.unit())
    if user is None:
        return loaded
    become_user(user, loaded.config.data_dir)
    return load_file(file)


class Place(NamedTuple):
    """A buffer's folder, and its configuration where the options name one."""

    data_dir: str
    config: Config | None

    @property
    def max_bytes(self) -> int | None:
        """The cap in bytes, None where no configuration gives it."""
        return self.config.buffer.max_size if self.config else None

    @property
    def history_max_bytes(self) -> int | None:
        """The cap of history in bytes, None where no configuration gives it."""
        return self.config.history.max_size if self.config else None

    @property
    def min_free(self) -> Callable[[int], int] | None:
        """What returns the floor of free space, in bytes, for a volume's size."""
        return self.config.buffer.min_free_space.on if self.config else None


def place(args: argparse.Namespace) -> Place:
    """Return the buffer that `--data-dir` or `--config` names, or the default configuration.

    Raises ConfigErrors, and LimpetError where the buffer does not exist or is of a later version of Limpet.
    """
    if args.data_dir is not None:
        return check(Place(args.data_dir, None))
    settings = load(config_file(args)).config
    return check(Place(settings.data_dir, settings))


def check(found: Place) -> Place:
    """Return the place. Raises LimpetError where no buffer is there, none that answers, or one of a later version of Limpet."""
    from agent.system import answering
    from buffer.fs import RealFs
    from buffer.versions import refuse_newer

    answering.require(found.data_dir)
    with readable(found.data_dir):
        RealFs(found.data_dir).list(found.data_dir)
        refuse_newer(RealFs(found.data_dir), found.data_dir)
    return found


@contextmanager
def readable(data_dir: str) -> Iterator[None]:
    """Turn an OSError of reading a buffer into a LimpetError; nothing is printed inside."""
    try:
        yield
    except FileNotFoundError:
        do = "Check the path; the agent makes it when it starts."
        raise LimpetError(data_dir, "there is no such folder", do) from None
    except OSError as error:
        from agent.text import human

        where = error.filename if isinstance(error.filename, str) else data_dir
        do = "Check that it is the data_dir of the configuration, and that this user may read it."
        raise LimpetError(where, f"the buffer cannot be read: {human.reason(error)}", do) from None
