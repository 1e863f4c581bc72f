"""The configuration: a YAML file becomes a frozen, typed `Config`, or a list of everything that is wrong.

`load` and `load_file` raise nothing but `ConfigErrors`. They create and change nothing; `load` opens nothing.
No secret is in a message or in the representation of what they return.
"""

from __future__ import annotations

import os
import stat
from typing import NamedTuple

from agent.config.document import parse
from agent.config.http_client import Authorization, BasicAuth, HttpHeader, OAuth2, TlsConfig
from agent.config.problems import ConfigErrors, Problem
from agent.config.reader import Located, Reader
from agent.config.relabeling import RelabelConfig
from agent.config.remote_write import MetadataConfig, QueueConfig, RemoteWrite
from agent.config.schema import Buffer, Collect, Collector, Config, Log, Planned
from agent.config.scrape import ScrapeOptions, Target, TextfileOptions
from agent.config.units import format_duration, format_size, parse_duration, parse_size
from agent.config.values import FreeSpace, Secret, public_url, split_url

__all__ = [
    "Authorization",
    "BasicAuth",
    "Buffer",
    "Collect",
    "Collector",
    "Config",
    "ConfigErrors",
    "FreeSpace",
    "HttpHeader",
    "Loaded",
    "Log",
    "MetadataConfig",
    "OAuth2",
    "Planned",
    "Problem",
    "QueueConfig",
    "RelabelConfig",
    "RemoteWrite",
    "ScrapeOptions",
    "Secret",
    "Target",
    "TextfileOptions",
    "TlsConfig",
    "format_duration",
    "format_size",
    "load",
    "load_file",
    "parse_duration",
    "parse_size",
    "public_url",
    "split_url",
]

LARGEST = 1 << 20  # bytes; a file that is larger is no configuration


class Loaded(NamedTuple):
    """A good configuration, and what the operator should know about it all the same."""

    config: Config
    warnings: tuple[str, ...]


def load(text: str, where: str) -> Loaded:
    """Read a configuration. `where` is its file: it is named in messages, and relative paths start beside it.

    Raises:
        ConfigErrors: with everything that is wrong but the files it names, which are not looked at.
    """
    return _load(text, where, look=False)


def load_file(path: str | os.PathLike[str], *, again: bool = False) -> Loaded:
    """Read a configuration file, and see that what it names can be read and `data_dir` is no file.

    `again`: by an agent that runs. What is no file then, such as a pipe that was read at the start, is not waited for.

    Raises:
        ConfigErrors: with everything that is wrong, an unreadable file included.
    """
    where = os.fspath(path)
    try:
        with open(where, "rb", opener=_at_once if again else None) as file:
            if again and not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                do = "Give the agent a file, or restart it."
                raise ConfigErrors(where, [Problem("", "not a file, so it cannot be read again", do)])
            content = file.read(LARGEST + 1)
    except (OSError, ValueError) as error:
        raise ConfigErrors(where, [_unreadable("", error, None)]) from None
    if len(content) > LARGEST:
        raise ConfigErrors(where, [Problem("", "larger than 1MiB", "Check that it is the right file.")])
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigErrors(where, [Problem("", "not UTF-8", "Save it as UTF-8.", line)]) from None
    if not text.strip():
        do = "Begin with a remote_write section; `config/limpet.yaml` of the distribution has every key."
        raise ConfigErrors(where, [Problem("", "the file is empty", do)])
    return _load(text, where, look=True)


def _at_once(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # a pipe without a writer would hold us up for ever


def _load(text: str, where: str, *, look: bool) -> Loaded:
    root, malformed = parse(text)
    if any(not problem.path for problem in malformed):  # it is not YAML as a whole: there is nothing to walk
        raise ConfigErrors(where, malformed)
    reader = Reader(where, os.path.dirname(os.path.abspath(where)))
    config = reader.config(root)
    problems = [*malformed, *reader.problems]
    if look:
        problems += [problem for one in reader.located if (problem := _look_at(one))]
    if config is None or problems:
        raise ConfigErrors(where, problems)
    return Loaded(config, tuple(reader.warnings))


def _look_at(one: Located) -> Problem | None:
    try:
        if one.kind == "folder":
            if os.path.exists(one.path) and not os.path.isdir(one.path):
                return Problem(
                    one.key, f"{one.path} is a file", "Name a folder; it is made if need be.", one.line
                )
            return None
        if one.kind == "root":
            os.close(os.open(one.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
            return None
        # Not blocking: a pipe without a writer would hold us up for ever.
        descriptor = os.open(one.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            if stat.S_ISDIR(os.fstat(descriptor).st_mode):
                return Problem(one.key, f"{one.path} is a folder", "Name a file in it.", one.line)
        finally:
            os.close(descriptor)
    except (OSError, ValueError) as error:
        return _unreadable(one.key, error, one)
    return None


def _unreadable(key: str, error: OSError | ValueError, one: Located | None) -> Problem:
    reason = (error.strerror or "I/O error").lower() if isinstance(error, OSError) else "not a valid path"
    what = f"{one.path} cannot be read: {reason}" if one else f"the file cannot be read: {reason}"
    return Problem(key, what, "Check its name and its permissions.", one.line if one else None)
