"""A small automounter: `python -m tests.support.automount FOLDER SECONDS` mounts a tmpfs at FOLDER/NAME when one walks there.

It unmounts what nobody has used for so many seconds, as automount(8) and systemd do: when the kernel's autofs says so
(Documentation/filesystems/autofs.rst). It prints `ready`, then `mounted NAME` and `unmounted NAME`.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import select
import struct
import sys
from contextlib import suppress
from pathlib import Path

READY, SET_TIMEOUT, EXPIRE = 0x9360, 0xC0089364, 0x810C9365
MISSING_INDIRECT = 3
PACKET = struct.Struct("=iiI I Q IIII I 256s")  # struct autofs_v5_packet of linux/auto_fs.h; token at 8
LOOK_EVERY = 0.2
libc = ctypes.CDLL(None, use_errno=True)


def mount(source: str, path: Path, fstype: str, options: str) -> None:
    if libc.mount(source.encode(), bytes(path), fstype.encode(), 0, options.encode()):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(path))


def main(folder: Path, seconds: int) -> None:
    os.setpgrp()  # what this process group does there triggers nothing
    asked, asks = os.pipe()
    mount("test", folder, "autofs", f"fd={asks},pgrp={os.getpgrp()},minproto=5,maxproto=5,indirect")
    control = os.open(folder, os.O_RDONLY)
    fcntl.ioctl(control, SET_TIMEOUT, struct.pack("Q", seconds))
    print("ready", flush=True)
    while True:
        if select.select([asked], [], [], LOOK_EVERY)[0]:
            packet = os.read(asked, 4096)
            _, kind, token = struct.unpack_from("=iiI", packet)
            name = packet[44 : packet.index(b"\0", 44)].decode()
            assert kind == MISSING_INDIRECT, kind
            (folder / name).mkdir(exist_ok=True)
            mount(name, folder / name, "tmpfs", "size=1m")
            fcntl.ioctl(control, READY, token)
            print(f"mounted {name}", flush=True)
        with suppress(BlockingIOError):  # nothing is due
            found = bytearray(268)
            fcntl.ioctl(control, EXPIRE, found)
            length = struct.unpack_from("=i", found, 8)[0]
            name = bytes(found[12 : 12 + length]).decode()
            libc.umount2(bytes(folder / name), 0)
            print(f"unmounted {name}", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
