"""The configuration: a YAML file becomes a frozen, typed `Config`, or a list of everything that is wrong.

`load` and `load_file` raise nothing but `ConfigErrors`. They create and change nothing; `load` opens nothing.
No secret is in a message or in the representation of what they return.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from typing import NamedTuple, TypeVar

from agent.config import host_files
from agent.config.custom import Custom
from agent.config.destination import DataBudget, DestinationConfig, HttpDestination, QueueConfig, selected
from agent.config.document import parse
from agent.config.file import File
from agent.config.http_client import Authorization, BasicAuth, HttpHeader, OAuth2, TlsConfig
from agent.config.influxdb import InfluxDB
from agent.config.otlp import OTLP
from agent.config.reader import Look, Reader
from agent.config.relabeling import RelabelConfig
from agent.config.remote_write import MetadataConfig, RemoteWrite
from agent.config.schema import BufferSection, Collector, CollectSection, Config, LogSection, PlanSpec
from agent.config.scrape import ScrapeOptions, Target, TextfileOptions
from agent.config.section import ConfigErrors, Problem, Section
from agent.config.values import FreeSpace, Secret
from buffer.owner import name

__all__ = [
    "LARGEST",
    "OTLP",
    "Authorization",
    "BasicAuth",
    "BufferSection",
    "CollectSection",
    "Collector",
    "Config",
    "ConfigErrors",
    "Custom",
    "DataBudget",
    "DestinationConfig",
    "File",
    "FreeSpace",
    "HttpDestination",
    "HttpHeader",
    "InfluxDB",
    "Loaded",
    "LogSection",
    "MetadataConfig",
    "OAuth2",
    "PlanSpec",
    "Problem",
    "QueueConfig",
    "RelabelConfig",
    "RemoteWrite",
    "ScrapeOptions",
    "Secret",
    "Target",
    "TextfileOptions",
    "TlsConfig",
    "at_once",
    "data_dir_of",
    "digest",
    "load",
    "load_file",
    "load_section",
    "selected",
]

S = TypeVar("S", bound=Section)
LARGEST = 1 << 20  # bytes; a file that is larger is no configuration


class Loaded(NamedTuple):
    """A good configuration, and what the operator should know about it all the same."""

    config: Config
    warnings: tuple[str, ...]
    digest: str = ""
    """Of the content (`digest`) of the file, and of those for the host's name and labels; empty where it is no file."""


def load(text: str, where: str) -> Loaded:
    """Read a configuration. `where` is its file: messages name it, and relative paths start in its folder.

    The files that it names are not looked at. Raises ConfigErrors with everything else that is wrong.
    """
    return _load(text, where, None)


def load_file(path: str | os.PathLike[str], *, again: bool = False) -> Loaded:
    """Read a configuration file, and check that the files it names can be read and `data_dir` is no file.

    `again`: for an agent that runs. Something that is not a file by then, such as a pipe that was read at the start, is
    not waited for. Raises ConfigErrors with everything that is wrong, an unreadable file included.
    """
    where = os.fspath(path)
    content = _content(where, again=again)
    text = _text(content, where)
    if not text.strip():
        do = "Begin with a remote_write section; `config/limpet.yaml` of the distribution has every key."
        raise ConfigErrors(where, [Problem("", "the file is empty", do)])
    loaded = _load(text, where, _look)
    config, more, problems = host_files.read(loaded.config, at_once)
    if problems:
        raise ConfigErrors(where, problems)
    return loaded._replace(config=config, digest=digest(content + more))


def data_dir_of(path: str | None) -> str:
    """Return the data_dir of a configuration, of one with errors too, as far as it can be made out; else the default.

    Nothing but the file is read, so it can be called before anything is done in the folder.
    """
    with suppress(OSError, ValueError):
        if path is not None:
            with open(path, "rb", opener=at_once) as file:
                top = parse(file.read(LARGEST).decode().lstrip("\ufeff"))[0].value
            if (
                isinstance(top, dict)
                and "data_dir" in top
                and isinstance(found := top["data_dir"].node.value, str)
                and found.isprintable()
                and found
            ):
                return os.path.join(os.path.dirname(os.path.abspath(path)), found)
    return Config().data_dir


def _content(where: str, *, again: bool) -> bytes:
    """Return the bytes of a file. Raises ConfigErrors."""
    try:
        with open(where, "rb", opener=at_once if again else None) as file:
            if again and not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                do = "Give the agent a file, or restart it."
                raise ConfigErrors(where, [Problem("", "not a file, so it cannot be read again", do)])
            content = file.read(LARGEST + 1)
    except (OSError, ValueError) as error:
        raise ConfigErrors(where, [Problem("", *_unreadable("the file", error))]) from None
    if len(content) > LARGEST:
        raise ConfigErrors(where, [Problem("", "larger than 1MiB", "Check that it is the right file.")])
    return content


def _text(content: bytes, where: str) -> str:
    """Return the text of a file. Raises ConfigErrors."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigErrors(where, [Problem("", "not UTF-8", "Save it as UTF-8.", line)]) from None


def at_once(path: str, flags: int) -> int:
    """Open a file, as `open` wants it of an opener: a pipe without a writer is not waited for."""
    return os.open(path, flags | os.O_NONBLOCK)


def _load(text: str, where: str, look: Look | None) -> Loaded:
    return Loaded(*_section(Config, text, where, look))


def load_section(kind: type[S], path: str) -> S:
    """Read a file that has the keys of a section, and check that the files it names can be read.

    Raises ConfigErrors with everything that is wrong, an unreadable file included.
    """
    return _section(kind, _text(_content(path, again=True), path), path, _look)[0]


def _section(kind: type[S], text: str, where: str, look: Look | None) -> tuple[S, tuple[str, ...]]:
    """Return a section, and the warnings."""
    root, malformed = parse(text)
    if any(not problem.path for problem in malformed):  # it is not YAML as a whole: there is nothing to walk
        raise ConfigErrors(where, malformed)
    reader = Reader(os.path.dirname(os.path.abspath(where)), look)
    found = reader.section(kind, root)
    if found is None or malformed:
        raise ConfigErrors(where, [*malformed, *reader.problems])
    return found, tuple(warning.text(where) for warning in reader.warnings)


def digest(content: bytes) -> str:
    """Return what shows whether a configuration has changed: 64 hex digits."""
    import hashlib

    return hashlib.sha256(content).hexdigest()


def _look(path: str, kind: str) -> tuple[str, str] | None:
    """Return what is wrong with a path that the configuration names, and what to do."""
    try:
        if kind == "folder":
            if os.path.exists(path) and not os.path.isdir(path):
                return f"{path} is a file", "Name a folder; it is made if need be."
        elif kind == "written":
            if os.path.isdir(path):
                return f"{path} is a folder", "Name a file in it."
        elif kind == "root":
            os.close(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        else:
            descriptor = at_once(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                if stat.S_ISDIR(os.fstat(descriptor).st_mode):
                    return f"{path} is a folder", "Name a file in it."
            finally:
                os.close(descriptor)
    except (OSError, ValueError) as error:
        return _unreadable(path, error)
    return None


def _unreadable(path: str, error: OSError | ValueError) -> tuple[str, str]:
    if isinstance(error, PermissionError):
        do = "The user of the agent has to be able to read it, and to enter the folders above it: chown, chmod."
        return f"{path} cannot be read by user {name(os.geteuid())}: permission denied", do
    reason = (error.strerror or "I/O error").lower() if isinstance(error, OSError) else "not a valid path"
    return f"{path} cannot be read: {reason}", "Check its name and its permissions."
