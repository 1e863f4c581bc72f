"""Masks: names of mount points, devices or interfaces that leave the host as a keyed hash only.

The hash of a name is the same on a host as long as its key is, so series continue and can be compared. Nobody can
try names without the key. The key is in `data_dir`, readable by its owner only. With a new key all masked names change.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence

from agent.collect.series import Collected
from agent.collectors.base import Labels, Sample
from buffer.errors import LimpetError
from buffer.fs import RealFs, read_all, write_atomic
from buffer.model import Series

KEY_FILE = "mask.key"
KEY_BYTES = 32
HASH_BYTES = 6
MOST_REMEMBERED = 4096  # label tuples that are remembered; beyond it all are forgotten and made again


class Mask:
    """Replaces the values of these labels; of no labels it changes nothing."""

    def __init__(self, labels: Iterable[str] = (), key: bytes = b"") -> None:
        self._masked, self._key = frozenset(labels), key
        self._made: dict[Labels, Labels] = {}

    def __bool__(self) -> bool:
        return bool(self._masked)

    def value(self, label: str, text: str) -> str:
        """Return the value of a label as it may be shown: itself, or twelve hex digits."""
        if label not in self._masked:
            return text
        named = f"{label}\0{text}".encode("utf-8", "surrogatepass")
        return hashlib.blake2b(named, key=self._key, digest_size=HASH_BYTES).hexdigest()

    def samples(self, samples: list[Sample]) -> list[Sample]:
        """Return the samples with their labels masked; equal labels are the same object every time."""
        if not self._masked:
            return samples
        if len(self._made) > MOST_REMEMBERED:
            self._made.clear()
        return [sample._replace(labels=self.labels(sample.labels)) for sample in samples]

    def error(self, error: BaseException) -> Exception:
        """Return an error that says no more than its kind, because its words may hold a name."""
        if isinstance(error, OSError) and error.errno is not None:
            return OSError(error.errno, os.strerror(error.errno))
        return RuntimeError(type(error).__name__)

    def words(self, error: Exception) -> str:
        """Return what may be shown of an error that repeats, after a colon, what it did not understand."""
        return str(error).partition(": ")[0] if self._masked else str(error)

    def labels(self, labels: Labels) -> Labels:
        """Return the labels with their values masked."""
        made = self._made.get(labels)
        if made is None:
            made = tuple((key, self.value(key, text)) for key, text in labels)
            self._made[labels] = made
        return made


class MaskedColumns:
    """Masks finished series, those of scrapes and text files; they stay the same objects, too."""

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
    """Return the mask of an agent that owns `data_dir`, which exists; make its key if there is none. Raises LimpetError."""
    if not labels:
        return Mask()
    try:
        key = _read(data_dir)
        if key is None:
            key = os.urandom(KEY_BYTES)
            fs = RealFs(data_dir)
            write_atomic(fs, os.path.join(data_dir, KEY_FILE), key.hex().encode() + b"\n")
            fs.sync_folder(data_dir)
    except OSError as error:
        raise _unusable(data_dir, (error.strerror or "I/O error").lower()) from None
    return Mask(labels, key)


def look(data_dir: str, labels: Sequence[str]) -> tuple[Mask, str | None]:
    """Return the mask for a command, which creates nothing, and a note if it has a temporary key and not the agent's."""
    if not labels:
        return Mask(), None
    why = "there is no key yet"
    try:
        if (key := _read(data_dir)) is not None:
            return Mask(labels, key), None
    except OSError as error:
        why = f"the key cannot be read: {(error.strerror or 'I/O error').lower()}"
    note = f"{why}; masked names are hashed with a temporary key and differ from the agent's"
    return Mask(labels, os.urandom(KEY_BYTES)), note


def _read(data_dir: str) -> bytes | None:
    """Return the key, or None if there is none. Raises OSError if it cannot be read, LimpetError if it is no key."""
    try:
        text = read_all(RealFs(data_dir), os.path.join(data_dir, KEY_FILE), 4 * KEY_BYTES)
    except (FileNotFoundError, NotADirectoryError):
        return None
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
        "Restore it, or correct its permissions. If it is lost, move it away: a new key is made, and all masked names change.",
    )
