"""`--drive FILE,format=qcow2,...`: a disk from the command line, in QEMU's words."""

from __future__ import annotations

from accel.errors import DeviceError
from emu.keyval import Options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from emu.virtio.blk import VirtioBlk

KNOWN = ("file", "format", "if", "cache", "discard", "serial", "id", "media", "backing")


def open_drive(words: str) -> VirtioBlk:
    """The disk that `words` describe.  Raises DeviceError, or what opening the image raises."""
    import emu.block
    from emu.virtio.blk import VirtioBlk

    options = Options(words, "--drive", KNOWN, first="file", switches=("readonly",))
    path = options.word("file")
    if not path:
        raise DeviceError(f"--drive {words}: no file; give --drive FILE[,format=raw|qcow2]")
    options.word("if", "virtio", among=("virtio", "none"))
    media = options.word("media", "disk", among=("disk", "cdrom"))
    image = emu.block.open(
        path,
        format=options.word("format") or None,
        cache=options.word("cache", "writeback", among=emu.block.CACHES),
        read_only=options.switch("readonly", media == "cdrom"),
        backing=options.word("backing", "beside", among=emu.block.BACKINGS),
        discard=options.word("discard", "ignore", among=("ignore", "unmap", "off", "on")) in ("unmap", "on"),
    )
    try:
        return VirtioBlk(image, serial=options.word("serial"))
    except BaseException:
        image.close()
        raise
