"""What a person does about an error of the system, by its number or by the state of a disk: errno(3). Pure."""

from __future__ import annotations

import errno

DISK = {"full": "the disk is full", "readonly": "the disk is read-only", "failing": "the disk fails"}
"""By state of a disk (`buffer.lock.STATES`), what is wrong with it."""
_DO = {
    "full": "Free space there: df -h {folder}",
    "readonly": "See why, then mount it for writing: dmesg; findmnt --target {folder}",
    "failing": "See why, and replace it: dmesg",
}
_DENIED = "Give it to the agent's user: ls -ld {folder}"
_LIMIT = "Raise the limit of open files: LimitNOFILE= of the service"
_STATES = {errno.ENOSPC: "full", errno.EDQUOT: "full", errno.EROFS: "readonly", errno.EIO: "failing"}
_OTHERS = {
    errno.EACCES: _DENIED,
    errno.EPERM: _DENIED,
    errno.EMFILE: _LIMIT,
    errno.ENFILE: _LIMIT,
    errno.ENOENT: "See who removed it. The agent makes it again: ls -ld {folder}",
    errno.ENOTDIR: "Put a folder there: ls -ld {folder}",
    errno.ENOMEM: "Free memory: systemctl status limpet; free -m",
}


def about_disk(state: str, folder: str) -> str:
    """Return what to do about the disk of `folder`, which is in a state of `DISK`."""
    return _DO[state].replace("{folder}", folder)


def about(error: BaseException, folder: str = "DATA_DIR") -> str | None:
    """Return what to do about an error that a file below `folder` gave; None where nobody could say."""
    number = (error.errno or 0) if isinstance(error, OSError) else 0
    words = _DO[_STATES[number]] if number in _STATES else _OTHERS.get(number)
    return words and words.replace("{folder}", folder)
