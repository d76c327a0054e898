"""A kernel's modules, as its package has them: which others each needs, and in what order they are loaded.

Debian's package has no modules.dep, which depmod makes where it is installed; what depmod reads is in the
modules themselves, in the section .modinfo (Linux' include/linux/moduleparam.h).
"""

from __future__ import annotations

import lzma
import struct
from collections.abc import Iterable
from pathlib import Path

from accel.errors import BadImage


class Modules:
    """The modules of the kernel whose package is unpacked in `package`.

    modules = Modules(package)
    for name, data in modules.closure(["virtio_net"]): ...       failover, net_failover, virtio_net
    """

    def __init__(self, package: Path) -> None:
        self.folder = next(package.glob("lib/modules/*"), package)
        self.release = self.folder.name
        self.files = {}
        for path in self.folder.rglob("*.ko*"):
            stem, _, end = path.name.partition(".")
            if end in ("ko", "ko.xz"):
                self.files[_name(stem)] = path
        builtin = self.folder / "modules.builtin"
        lines = builtin.read_text().split() if builtin.exists() else []
        self.builtin = {_name(Path(line).stem) for line in lines}

    def closure(self, names: Iterable[str]) -> list[tuple[str, bytes]]:
        """Each of `names` behind what it needs, as name and file; without what the kernel has built in.

        Raises BadImage for a module that the package does not have.
        """
        found: dict[str, bytes] = {}
        for name in names:
            self._add(_name(name), found, ())
        return list(found.items())

    def _add(self, name: str, found: dict[str, bytes], above: tuple[str, ...]) -> None:
        if name in found or name in above or name in self.builtin:
            return
        path = self.files.get(name)
        if path is None:
            raise BadImage(f"kernel {self.release} has no module {name}; fetch its package again")
        data = path.read_bytes()
        if path.suffix == ".xz":
            data = lzma.decompress(data)
        for other in needs(data):
            self._add(_name(other), found, (*above, name))
        found[name] = data


def needs(module: bytes) -> list[str]:
    """The names of the modules that must be loaded before."""
    found = []
    for word in _information(module):
        key, _, value = word.partition(b"=")
        if key == b"depends":
            found += [name for name in value.decode().split(",") if name]
    return found


def _name(stem: str) -> str:
    """A file's name has either dash where the module's has the lower one."""
    return stem.replace("-", "_")


def _information(module: bytes) -> list[bytes]:
    """The words of .modinfo, key=value; sections as in the ELF specification, "Section Header"."""
    try:
        (sections,) = struct.unpack_from("<Q", module, 0x28)
        size, count, names = struct.unpack_from("<HHH", module, 0x3A)
        (texts,) = struct.unpack_from("<Q", module, sections + names * size + 0x18)
        for index in range(count):
            at = sections + index * size
            (name,) = struct.unpack_from("<I", module, at)
            if module.startswith(b".modinfo\0", texts + name):
                offset, length = struct.unpack_from("<QQ", module, at + 0x18)
                return module[offset : offset + length].split(b"\0")
    except struct.error:
        pass
    raise BadImage("a kernel module has no .modinfo; it is damaged")
