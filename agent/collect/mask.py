"""Masks: names of mount points, devices or interfaces that leave the host as a keyed hash only.

The hash of a name is the same on a host as long as its key is, so series go on and can be compared; without the
key no name can be tried. The key is in `data_dir`, for its owner only. Where a new one is made, all masked names
change.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence

from agent.collect.series import Collected
from agent.collectors.base import Labels, Sample
from buffer.errors import LimpetError
from buffer.fs import RealFs, write_atomic
from buffer.model import Series

KEY_FILE = "mask.key"
KEY_BYTES = 32
HASH_BYTES = 6
MOST = 4096  # label tuples that are remembered; beyond it all are forgotten and made again


class Mask:
    """Replaces the values of these labels; of no labels it changes nothing."""

    def __init__(self, labels: Iterable[str] = (), key: bytes = b"") -> None:
        self._masked, self._key = frozenset(labels), key
        self._made: dict[Labels, Labels] = {}

    def __bool__(self) -> bool:
        return bool(self._masked)

    def value(self, label: str, text: str) -> str:
        """What stands for the value of a label: itself, or twelve hex digits."""
        if label not in self._masked:
            return text
        named = f"{label}\0{text}".encode("utf-8", "surrogatepass")
        return hashlib.blake2b(named, key=self._key, digest_size=HASH_BYTES).hexdigest()

    def samples(self, samples: list[Sample]) -> list[Sample]:
        """The samples with their labels masked; the same labels are the same object again and again."""
        if not self._masked:
            return samples
        if len(self._made) > MOST:
            self._made.clear()
        return [sample._replace(labels=self.labels(sample.labels)) for sample in samples]

    def error(self, error: BaseException) -> Exception:
        """An error that says no more than its kind, because its words may hold a name."""
        if isinstance(error, OSError) and error.errno is not None:
            return OSError(error.errno, os.strerror(error.errno))
        return RuntimeError(type(error).__name__)

    def words(self, error: Exception) -> str:
        """What may be told of an error that repeats what it did not understand behind a colon."""
        return str(error).partition(": ")[0] if self._masked else str(error)

    def labels(self, labels: Labels) -> Labels:
        """The labels with their values masked."""
        made = self._made.get(labels)
        if made is None:
            made = tuple((key, self.value(key, text)) for key, text in labels)
            self._made[labels] = made
        return made


class MaskedColumns:
    """Masks series that are made already, those of scrapes and text files; they stay the same objects, too."""

    def __init__(self, mask: Mask) -> None:
        self._mask = mask
        self._seen: tuple[Series, ...] = ()
        self._made: tuple[Series, ...] = ()

    def __call__(self, collected: Collected) -> Collected:
        """Return the series masked, and their values."""
        if not self._mask:
            return collected
        series, values = collected
        if series is not self._seen:
            self._seen = series
            self._made = tuple(one._replace(labels=self._mask.labels(one.labels)) for one in series)
        return self._made, values


def load(data_dir: str, labels: Sequence[str]) -> Mask:
    """The mask of an agent that owns `data_dir`, which exists; its key is made if need be. Raises LimpetError."""
    if not labels:
        return Mask()
    try:
        key = _read(data_dir)
        if key is None:
            key = os.urandom(KEY_BYTES)
            fs = RealFs()
            write_atomic(fs, os.path.join(data_dir, KEY_FILE), key.hex().encode() + b"\n")
            fs.sync_folder(data_dir)
    except OSError as error:
        raise _unusable(data_dir, (error.strerror or "I/O error").lower()) from None
    return Mask(labels, key)


def look(data_dir: str, labels: Sequence[str]) -> tuple[Mask, str | None]:
    """The mask for showing, which creates nothing; without the agent's key it has one of its own, and says so."""
    if not labels:
        return Mask(), None
    why = "there is no key yet"
    try:
        if (key := _read(data_dir)) is not None:
            return Mask(labels, key), None
    except OSError as error:
        why = f"the key cannot be read: {(error.strerror or 'I/O error').lower()}"
    note = f"{why}; what is masked is masked otherwise than by the agent"
    return Mask(labels, os.urandom(KEY_BYTES)), note


def _read(data_dir: str) -> bytes | None:
    """The key, or None where there is none. Raises OSError where it cannot be read, LimpetError where it is none."""
    try:
        fd = os.open(os.path.join(data_dir, KEY_FILE), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        text = os.read(fd, 4 * KEY_BYTES)
    finally:
        os.close(fd)
    try:
        key = bytes.fromhex(text.decode("ascii"))
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise _unusable(data_dir, f"it does not hold {2 * KEY_BYTES} hex digits")
    return key


def _unusable(data_dir: str, why: str) -> LimpetError:
    return LimpetError(
        "mask",
        f"{os.path.join(data_dir, KEY_FILE)} cannot be used: {why}",
        "Restore it, or mend its permissions; if it is lost, move it away, and names are masked anew.",
    )
