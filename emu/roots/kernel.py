"""Linux' system calls for namespaces and mounts, which Python does not have."""

from __future__ import annotations

import ctypes
import errno
import os
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

CLONE_NEWNS, CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x20000, 0x1000_0000, 0x2000_0000, 0x4000_0000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_BIND, MS_REC, MS_SLAVE = 1, 2, 4, 8, 0x1000, 0x4000, 0x80000
MNT_DETACH = 2
AT_FDCWD, AT_EMPTY_PATH, AT_RECURSIVE = -100, 0x1000, 0x8000
MOUNT_ATTR_RDONLY = 1
RESOLVE_IN_ROOT = 0x10
PR_SET_PDEATHSIG, PR_CAPBSET_DROP = 1, 24
SFD_CLOEXEC, SIGINFO, SIGINFO_HEAD = 0o2000000, 128, struct.Struct("=Iii")
TIOCSTI, TIOCLINUX = 0x5412, 0x541C
SECCOMP_SET_MODE_FILTER, SECCOMP_SPEC_ALLOW = 1, 4
SECCOMP_ERRNO, SECCOMP_ALLOW = 0x0005_0000, 0x7FFF_0000
# These numbers are the same for every ISA.
OPENAT2, MOUNT_SETATTR = 437, 442
CAPABILITIES = struct.Struct("=Ii"), struct.Struct("=6I")
CAPABILITY_VERSION = 0x2008_0522

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def _done(result: int, path: str | bytes | os.PathLike[str] | None = None) -> int:
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error), path)
    return result


def unshare(flags: int) -> None:
    """Moves the calling thread, and where flags say so its children to come, into namespaces of its own."""
    _done(_libc.unshare(ctypes.c_int(flags)))


def mount(source: str, target: str, kind: str = "", flags: int = 0, data: str = "") -> None:
    """mount(2)."""
    words = (source, target, kind, data)
    source_, target_, kind_, data_ = (os.fsencode(word) or None for word in words)
    _done(_libc.mount(source_, target_, kind_, ctypes.c_ulong(flags), data_), target)


def unmount(target: str) -> None:
    """Takes what is mounted there, and all on it, out of sight."""
    _done(_libc.umount2(os.fsencode(target), MNT_DETACH), target)


def read_only(target: str, *, recursive: bool = False) -> None:
    """Nothing can be written through this mount any more, and where recursive through those on it."""
    attributes = struct.pack("=4Q", MOUNT_ATTR_RDONLY, 0, 0, 0)
    flags = AT_RECURSIVE if recursive else 0
    _done(
        _libc.syscall(
            ctypes.c_long(MOUNT_SETATTR), ctypes.c_int(AT_FDCWD), os.fsencode(target),
            ctypes.c_uint(flags), attributes, ctypes.c_size_t(len(attributes)),
        ),
        target,
    )  # fmt: skip


def become_root_directory(path: str) -> None:
    """Makes a mount the root of this mount namespace; what was there before is out of reach."""
    os.chdir(path)
    # pivot_root(".", "."): the old root then lies on the new one, and goes.
    number = {"x86_64": 155}.get(os.uname().machine, 41)
    _done(_libc.syscall(ctypes.c_long(number), b".", b"."), path)
    unmount(".")
    os.chdir("/")


def open_in(root: int, path: str, flags: int, mode: int = 0) -> int:
    """Opens a path as it would be named if the directory `root` were "/": no link leads out of it."""
    how = struct.pack("=3Q", flags | os.O_CLOEXEC, mode, RESOLVE_IN_ROOT)
    return _done(
        _libc.syscall(
            ctypes.c_long(OPENAT2), ctypes.c_int(root), os.fsencode(path), how, ctypes.c_size_t(len(how))
        ),
        path,
    )


def die_with_parent(number: int) -> None:
    """The kernel sends this process a signal when its parent has ended."""
    _done(_libc.prctl(PR_SET_PDEATHSIG, ctypes.c_ulong(number), 0, 0, 0))


def keep_capabilities(kept: Iterable[int]) -> None:
    """Gives up all capabilities but these, for good."""
    mask = 0
    for number in kept:
        mask |= 1 << number
    for number in range(64):
        if not mask >> number & 1:
            _libc.prctl(PR_CAPBSET_DROP, ctypes.c_ulong(number), 0, 0, 0)  # fails for those that are none
    header, sets = CAPABILITIES
    head = ctypes.create_string_buffer(header.pack(CAPABILITY_VERSION, 0))
    data = ctypes.create_string_buffer(sets.size)
    _done(_libc.capget(head, data))
    had = sets.unpack(data.raw[: sets.size])
    low, high = mask & 0xFFFF_FFFF, mask >> 32
    left = [word & (low if at < 3 else high) for at, word in enumerate(had)]
    _done(_libc.capset(head, sets.pack(*left)))


def refuse_typing() -> None:
    """From now on nobody here can type into a terminal that others share (ioctl TIOCSTI, TIOCLINUX)."""
    from accel.choice import host
    from isa.syscalls import numbers

    load, both, equal, answer = 0x20, 0x54, 0x15, 0x06  # linux/bpf_common.h
    ioctl = {name: number for number, name in numbers(host()).items()}["ioctl"]
    # The number comes first: for all others the kernel finds out once that they pass (Linux 5.11).
    program = (
        (load, 0, 0, 0),
        (both, 0, 0, 0x3FFF_FFFF),  # without x32's mark
        (equal, 1, 0, ioctl),
        (equal, 0, 4, 54),  # ioctl's for 32-bit programs
        (load, 0, 0, 24),  # the second argument
        (equal, 1, 0, TIOCSTI),
        (equal, 0, 1, TIOCLINUX),
        (answer, 0, 0, SECCOMP_ERRNO | errno.EPERM),
        (answer, 0, 0, SECCOMP_ALLOW),
    )
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *each) for each in program))
    filter_ = struct.pack("@HP", len(program), ctypes.addressof(code))
    number = {name: number for number, name in numbers(host()).items()}["seccomp"]
    _done(_libc.syscall(ctypes.c_long(number), SECCOMP_SET_MODE_FILTER, SECCOMP_SPEC_ALLOW, filter_))


class Signals:
    """A descriptor that blocked signals are read from."""

    def __init__(self, numbers: Iterable[int]) -> None:
        mask = 0
        for number in numbers:
            mask |= 1 << (number - 1)
        self.fd = _done(_libc.signalfd(-1, ctypes.byref(_sigset(mask)), SFD_CLOEXEC))

    def read(self) -> tuple[int, bool]:
        """The next signal, and whether a process sent it (else the kernel, as for a key of the terminal)."""
        number, _, code = SIGINFO_HEAD.unpack_from(os.read(self.fd, SIGINFO))
        return number, code <= 0


def _sigset(mask: int) -> ctypes.Array[ctypes.c_uint64]:
    return (ctypes.c_uint64 * 16)(mask)  # glibc's sigset_t has room for more than the kernel knows
