"""A file system of FUSE: `python -m tests.support.fuse MOUNTPOINT`. After HANG it hangs as a dead server does, until ANSWER.

It mounts itself (in the mount namespace that it runs in, with root there), prints a line, and answers how full it is.
A process that asks while it hangs waits in the kernel, and can be killed, because its request has not been read. A
server that is stopped at any moment could have read one: the kernel waits for its answer whatever comes
(fs/fuse/dev.c, request_wait_answer). It needs nothing but /dev/fuse. The protocol is include/uapi/linux/fuse.h of the kernel.
"""

from __future__ import annotations

import ctypes
import errno
import os
import select
import signal
import stat
import struct
import sys

HANG, ANSWER = signal.SIGUSR1, signal.SIGUSR2
FORGET, INTERRUPT, BATCH_FORGET = 2, 36, 42  # which want no answer
BLOCKS, FREE, SIZE = 1000, 400, 4096


def mount(fd: int, mountpoint: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    source = f"{os.path.basename(mountpoint)}.example:/acme"  # a server of its own
    data = f"fd={fd},rootmode={stat.S_IFDIR:o},user_id={os.getuid()},group_id={os.getgid()}".encode()
    if libc.mount(source.encode(), os.fsencode(mountpoint), b"fuse.tests", 0, data):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), mountpoint)


def answer(opcode: int) -> bytes | int:
    """The body of an answer, or an error number."""
    match opcode:
        case 26:  # INIT
            return struct.pack("=IIIIHHIIHHI7I", 7, 31, 65536, 0, 12, 9, 65536, 1, 0, 0, 0, *[0] * 7)
        case 3:  # GETATTR
            times = [0] * 6
            mode = stat.S_IFDIR | 0o755
            return struct.pack("=QII6Q3I7I", 60, 0, 0, 1, *times[:5], 0, 0, 0, mode, 2, 0, 0, 0, SIZE, 0)
        case 17:  # STATFS
            return struct.pack("=5Q4I6I", BLOCKS, FREE, FREE, 100, 50, SIZE, 255, SIZE, 0, *[0] * 6)
    return errno.ENOSYS


def reply(fd: int, unique: int, body: bytes | int) -> None:
    error, content = (0, body) if isinstance(body, bytes) else (-body, b"")
    try:
        os.write(fd, struct.pack("=IiQ", 16 + len(content), error, unique) + content)
    except OSError as gone:  # the process that asked was killed meanwhile
        if gone.errno != errno.ENOENT:
            raise


def serve(fd: int) -> None:
    """Answer until the file system is unmounted."""
    woken, wake = os.pipe()
    for end in (fd, woken, wake):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(wake)
    for number in (HANG, ANSWER):
        signal.signal(number, lambda *_: None)
    print("mounted", flush=True)
    ours = [fd, woken]
    while True:
        ready, _, _ = select.select(ours, [], [])
        if woken in ready:
            ours = [woken] if os.read(woken, 100)[-1] == HANG else [fd, woken]
            continue
        try:
            request = os.read(fd, 1 << 20)
        except BlockingIOError:
            continue
        except OSError as error:
            if error.errno == errno.ENODEV:
                return
            if error.errno == errno.ENOENT:  # the process that asked was killed meanwhile
                continue
            raise
        _, opcode, unique = struct.unpack_from("=IIQ", request)
        if opcode not in (FORGET, BATCH_FORGET, INTERRUPT):
            reply(fd, unique, answer(opcode))


def main(mountpoint: str) -> None:
    fd = os.open("/dev/fuse", os.O_RDWR)
    mount(fd, mountpoint)
    serve(fd)


if __name__ == "__main__":
    main(*sys.argv[1:])
