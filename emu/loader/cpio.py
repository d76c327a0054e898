"""cpio archives of the "newc" kind, which Linux unpacks into its first root (initrd, initramfs).

Source: Linux' Documentation/driver-api/early-userspace/buffer-format.rst.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable
from pathlib import Path

TRAILER = "TRAILER!!!"


class Archive:
    """An archive that grows: files, folders, links, in the order they are added; folders above are made.

    archive = Archive()
    archive.file("init", b"#!/bin/sh\\n", 0o755)
    initrd = archive.data()
    """

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._number = 0
        self._made: set[str] = set()

    def __contains__(self, name: str) -> bool:
        return name.strip("/") in self._made

    def _entry(self, name: str, mode: int, data: bytes = b"", device: tuple[int, int] = (0, 0)) -> None:
        name = name.strip("/")
        if name in self._made:
            return
        parent = name.rpartition("/")[0]
        if parent and parent not in self._made:
            self.folder(parent)
        self._made.add(name)
        self._number += 1
        self._append(name, self._number, mode, data, device)

    def _append(self, name: str, number: int, mode: int, data: bytes, device: tuple[int, int]) -> None:
        words = name.encode() + b"\0"
        fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(words), 0)
        head = b"070701" + b"".join(b"%08X" % field for field in fields) + words
        self._parts += [head, bytes(-len(head) % 4), data, bytes(-len(data) % 4)]

    def file(self, name: str, data: bytes, mode: int = 0o644) -> None:
        """A regular file.  A name that is there already stays as it is, for all kinds."""
        self._entry(name, stat.S_IFREG | mode, data)

    def folder(self, name: str, mode: int = 0o755) -> None:
        """A folder."""
        self._entry(name, stat.S_IFDIR | mode)

    def link(self, name: str, target: str) -> None:
        """A symbolic link."""
        self._entry(name, stat.S_IFLNK | 0o777, target.encode())

    def device(self, name: str, kind: str, major: int, minor: int, mode: int = 0o600) -> None:
        """A device node; kind: "c" or "b"."""
        bits = stat.S_IFCHR if kind == "c" else stat.S_IFBLK
        self._entry(name, bits | mode, device=(major, minor))

    def tree(self, folder: Path, at: str = "", names: Iterable[str] | None = None) -> None:
        """Copies a folder of the host's to `at`: regular files, folders, links; names: only these of it."""
        for name in sorted(names if names is not None else (path.name for path in folder.iterdir())):
            path, inside = folder / name, f"{at}/{name}".strip("/")
            if path.is_symlink():
                self.link(inside, str(path.readlink()))
            elif path.is_dir():
                self.folder(inside, stat.S_IMODE(path.stat().st_mode))
                self.tree(path, inside)
            elif path.is_file():
                self.file(inside, path.read_bytes(), stat.S_IMODE(path.stat().st_mode))

    def data(self) -> bytes:
        """The archive, ended; more may be added afterwards, for a next one."""
        ended = Archive()
        ended._append(TRAILER, 0, 0, b"", (0, 0))
        return b"".join(self._parts + ended._parts)
