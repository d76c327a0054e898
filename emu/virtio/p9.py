"""A folder of the host's in the guest: 9P2000.L over virtio.

    mount -t 9p -o trans=virtio,version=9p2000.L TAG /mnt        in a Linux guest

The server is native/p9.c; it follows no link out of the folder, opens regular files and folders alone, and
drops set-user-ID bits.  Files belong to the user that emu runs as, unless that is root.
"""

from __future__ import annotations

import os
import resource

from accel.errors import DeviceError
from emu.devices.native import lib
from emu.keyval import Options
from emu.virtio.device import VirtioDevice

# What the tag may have (native/virtio_9p.c).
TAG_BYTES = 128
KNOWN = ("path", "tag", "mount_tag")


class VirtioP9(VirtioDevice):
    """The folder at `path`, mounted by `tag`; read_only refuses all changes.

    Raises DeviceError for what is no folder or cannot be read.
    """

    kind = "virtio-9p"

    def __init__(self, path: str | os.PathLike[str], *, tag: str = "share", read_only: bool = False) -> None:
        name = tag.encode()
        if not 0 < len(name) <= TAG_BYTES or b"\0" in name:
            raise DeviceError(f"{self.kind}: the tag {tag!r} has not 1 to {TAG_BYTES} bytes; choose another")
        try:
            folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise DeviceError(f"--share {path}: {error.strerror}; give a folder that can be read") from None
        # A guest holds a descriptor for each file that it remembers.
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft != hard:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        self.path = os.fspath(path)
        self.tag = tag
        super().__init__(lib.emu_virtio_9p_new(folder, read_only, name))


def open_share(words: str, number: int = 0) -> VirtioP9:
    """`--share DIR[,tag=NAME][,readonly=on]`; the tag is share, share1 ... by number.  Raises DeviceError."""
    options = Options(words, "--share", KNOWN, first="path", switches=("readonly",))
    tag = options.word("tag") or options.word("mount_tag") or f"share{number or ''}"
    return VirtioP9(options.word("path"), tag=tag, read_only=options.switch("readonly"))
