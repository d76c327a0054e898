"""Files of many owners, made by a user who may not give files away.

A program that is attended believes that it is root.  What it gives to another user is remembered here, and
shown to every program that is attended, so that mke2fs in the end writes it into the guest's file system;
on the host all files stay the user's.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from pathlib import Path

from emu.linux.process import Process
from emu.linux.watch import Call

IDS = ("getuid", "geteuid", "getgid", "getegid")
CHANGES = (
    "setuid", "setgid", "setreuid", "setregid", "setresuid", "setresgid", "setfsuid", "setfsgid", "setgroups",
)  # fmt: skip
AT_FDCWD, AT_SYMLINK_NOFOLLOW = -100, 0x100
# openat2(2), which Python does not have; its number is the same for every ISA.
OPENAT2, RESOLVE_IN_ROOT = 437, 0x10
SAME = 0xFFFF_FFFF
# Where arm64's struct stat and every ISA's struct statx have what is looked at and what is changed.
STAT_FILE, STAT_OWNER = struct.Struct("<QQ"), 24
STATX_SIZE, STATX_OWNER, STATX_INODE, STATX_DEVICE = 144, 20, 32, 136
OWNER = struct.Struct("<II")


class Owners:
    """Owner and group by file, for those that are not root's; a context manager."""

    def __init__(self) -> None:
        # A descriptor of each file is held, so that no other file can get its number.
        self._known: dict[tuple[int, int], tuple[int, int, int]] = {}
        self._user = os.geteuid(), os.getegid()

    def __enter__(self) -> Owners:
        return self

    def __exit__(self, *error: object) -> None:
        for _, _, fd in self._known.values():
            os.close(fd)
        self._known.clear()

    def attend(self, process: Process, root: Path | None) -> None:
        """Before the start of a program, which sees `root` as its root."""
        for name in (*IDS, *CHANGES):
            process.on_syscall(name, _nothing)
        for name in ("getresuid", "getresgid"):
            process.on_syscall(name, _three_zeroes)
        process.on_syscall("newfstatat", after=lambda call: self._show_stat(call, call.args[2]))
        process.on_syscall("fstat", after=lambda call: self._show_stat(call, call.args[1]))
        process.on_syscall("statx", after=self._show_statx)
        process.on_syscall("fchown", lambda call: self._give(call, root, call.args[0], "", *call.args[1:3]))
        process.on_syscall("fchownat", lambda call: self._give_at(call, root))

    def _owner(self, device: int, inode: int, owner: tuple[int, ...]) -> tuple[int, int]:
        """What a program is shown of a file that has `owner` on the host."""
        if (device, inode) in self._known:
            user, group, _ = self._known[device, inode]
            return user, group
        user, group = owner
        return 0 if user == self._user[0] else user, 0 if group == self._user[1] else group

    def _show_stat(self, call: Call, address: int) -> None:
        if call.result != 0:
            return
        data = call.memory.read(address, STAT_OWNER + OWNER.size)
        device, inode = STAT_FILE.unpack_from(data)
        owner = self._owner(device, inode, OWNER.unpack_from(data, STAT_OWNER))
        call.memory.write(address + STAT_OWNER, OWNER.pack(*owner))

    def _show_statx(self, call: Call) -> None:
        if call.result != 0:
            return
        data = call.memory.read(call.args[4], STATX_SIZE)
        (inode,) = struct.unpack_from("<Q", data, STATX_INODE)
        device = os.makedev(*struct.unpack_from("<II", data, STATX_DEVICE))
        owner = self._owner(device, inode, OWNER.unpack_from(data, STATX_OWNER))
        call.memory.write(call.args[4] + STATX_OWNER, OWNER.pack(*owner))

    def _give_at(self, call: Call, root: Path | None) -> None:
        directory, path, user, group, flags = call.args
        self._give(call, root, directory, call.memory.string(path), user, group, flags)

    def _give(
        self, call: Call, root: Path | None, directory: int, path: str, user: int, group: int, flags: int = 0
    ) -> None:
        try:
            fd = _open(call.pid, root, directory, path, flags)
        except OSError as error:
            call.refuse(error.errno or errno.EIO)
            return
        found = os.fstat(fd)
        before = self._owner(found.st_dev, found.st_ino, (found.st_uid, found.st_gid))
        user, group = (
            was if new & SAME == SAME else new & SAME for new, was in zip((user, group), before, strict=True)
        )
        self._remember(fd, user, group)
        call.result = 0

    def give(self, path: Path, user: int, group: int) -> None:
        """What a program would do with a file of the host's."""
        self._remember(os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC), user, group)

    def _remember(self, fd: int, user: int, group: int) -> None:
        found = os.fstat(fd)
        known = self._known.pop((found.st_dev, found.st_ino), None)
        if known is not None:
            os.close(known[2])
        if (user, group) == (0, 0):
            os.close(fd)
        else:
            self._known[found.st_dev, found.st_ino] = user, group, fd


def _open(pid: int, root: Path | None, directory: int, path: str, flags: int) -> int:
    """A descriptor, for no access, of the file that a guest's process names."""
    place = f"/proc/{pid}/cwd" if directory == AT_FDCWD else f"/proc/{pid}/fd/{directory}"
    if not path:
        return os.open(place, os.O_PATH | os.O_CLOEXEC)
    top = "/" if root is None else os.path.realpath(root)
    if not path.startswith("/"):
        base = str(Path(place).readlink())
        path = f"{base.removeprefix(top)}/{path}" if root is not None else f"{base}/{path}"
    nofollow = os.O_NOFOLLOW if flags & AT_SYMLINK_NOFOLLOW else 0
    how = struct.pack("<QQQ", os.O_PATH | os.O_CLOEXEC | nofollow, 0, RESOLVE_IN_ROOT)
    at = os.open(top, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fd = _libc().syscall(
            ctypes.c_long(OPENAT2), ctypes.c_int(at), os.fsencode(path), how, ctypes.c_size_t(len(how))
        )
        if fd < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), path)
        return int(fd)
    finally:
        os.close(at)


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _nothing(call: Call) -> None:
    call.result = 0


def _three_zeroes(call: Call) -> None:
    for address in call.args:
        call.memory.write(address, bytes(4))
    call.result = 0
