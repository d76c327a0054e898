"""Which ready guests there are: `emu images`, `emu boot NAME`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from accel.errors import DeviceError, nearest
from emu.images.progress import Progress


@dataclass(frozen=True, slots=True)
class Image:
    """A guest that emu makes of a distribution's packages.

    recipe: the module, and behind a colon the function (default: make) that, called with a folder and the
    progress to tell, puts `kernel` and `initrd` there and, with disk, `disk.qcow2`.
    edition: what the recipe makes, counted up when that changes, so that what an older emu made is made anew.
    """

    name: str
    about: str
    architecture: str
    recipe: str
    board: str
    memory: str
    append: str
    disk: bool
    edition: int = 1

    @property
    def make(self) -> Callable[[Path, Progress], None]:
        """Raises an EmuError where the guest cannot be made."""
        module, _, function = self.recipe.partition(":")
        made: Callable[[Path, Progress], None] = getattr(import_module(module), function or "make")
        return made


CATALOG = (
    Image(
        name="busybox-arm64",
        about="Debian's kernel and busybox in memory, without a disk",
        architecture="aarch64",
        recipe="emu.images.busybox",
        board="virt",
        memory="256M",
        append="console=ttyAMA0 quiet",
        disk=False,
        edition=2,  # the power button is heard
    ),
    Image(
        name="busybox-amd64",
        about="the same for x86-64",
        architecture="x86_64",
        recipe="emu.images.busybox:make_amd64",
        board="microvm",
        memory="256M",
        append="console=ttyS0 quiet",
        disk=False,
    ),
    Image(
        name="debian-arm64",
        about="Debian 12 on a disk: apt, ssh, root's shell on the serial line",
        architecture="aarch64",
        recipe="emu.images.debian",
        board="virt",
        memory="512M",
        append="console=ttyAMA0 root=LABEL=emu-debian quiet",
        disk=True,
        edition=2,  # the power button is heard
    ),
)


def find(name: str) -> Image:
    """The image of that name.  Raises DeviceError."""
    for image in CATALOG:
        if image.name == name:
            return image
    known = [image.name for image in CATALOG]
    raise DeviceError(f"no image is called {name!r}{nearest(name, known)}; there are {', '.join(known)}")
