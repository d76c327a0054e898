"""-sandbox: a filter of system calls around the whole process (seccomp), for the case that a guest gets out.

    -sandbox on[,obsolete=allow|deny][,elevateprivileges=allow|deny|children][,spawn=allow|deny]
                [,resourcecontrol=allow|deny]

What no emulator needs, and with obsolete=deny (which `on` means by itself) what no program needs any more,
ends the process (SIGSYS), and so do what takes other rights and what makes processes.  Scheduling is refused
with EPERM: libraries ask for it and live without.  The filter cannot be taken off again, and children have
it too.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import sys

from accel.errors import Unavailable
from emu.system.given import Given
from isa.arch import UnknownArch, canonical
from isa.syscalls import numbers

# linux/prctl.h, linux/seccomp.h, linux/audit.h, linux/sched.h
PR_SET_NO_NEW_PRIVS = 38
SET_MODE_FILTER, TSYNC = 1, 1
KILL_PROCESS, ERRNO, ALLOW = 0x8000_0000, 0x0005_0000, 0x7FFF_0000
AUDIT_ARCH = {"x86_64": 0xC000_003E, "aarch64": 0xC000_00B7, "riscv64": 0xC000_00F3}
X32 = 0x4000_0000
CLONE_THREAD = 0x1_0000
# linux/filter.h: load a word of struct seccomp_data, jumps, return
LOAD, EQUAL, AT_LEAST, ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
NUMBER_AT, ARCH_AT, ARGUMENT_AT = 0, 4, 16

# For those who administer a host, load code into its kernel, or look into other processes.
NEVER = """
    reboot swapon swapoff syslog mount umount2 move_mount open_tree fsopen fsconfig fsmount fspick
    mount_setattr pivot_root chroot kexec_load kexec_file_load init_module finit_module delete_module acct
    quotactl quotactl_fd nfsservctl settimeofday clock_settime adjtimex clock_adjtime iopl ioperm modify_ldt
    ptrace bpf perf_event_open userfaultfd add_key request_key keyctl open_by_handle_at setns unshare vhangup
    sethostname setdomainname lookup_dcookie process_vm_writev kcmp fanotify_init
"""
OBSOLETE = "_sysctl bdflush create_module get_kernel_syms query_module sysfs uselib ustat"
OBSOLETE += " afs_syscall getpmsg putpmsg security tuxcall vserver epoll_ctl_old epoll_wait_old"
PRIVILEGES = "setuid setgid setreuid setregid setresuid setresgid setfsuid setfsgid setgroups setpgid setsid"
SPAWNING = "fork vfork execve execveat"
CONTROL = "setpriority sched_setparam sched_setscheduler sched_setattr sched_setaffinity ioprio_set"
# The words of -sandbox, behind the first.
PARAMETERS = {
    "obsolete": "allow: calls that no program needs any more are made",
    "elevateprivileges": "deny: no other user or group; children: not for other programs either",
    "spawn": "deny: no other processes",
    "resourcecontrol": "deny: no other priority, and no choice of CPUs",
}


class Sandbox:
    """What is allowed.  no_privileges: neither the process nor its children get other rights by a file's."""

    installed: Sandbox | None = None

    def __init__(
        self, *, obsolete: bool = False, elevate: bool = True, spawn: bool = True, control: bool = True
    ) -> None:
        self.obsolete = obsolete
        self.elevate = elevate
        self.spawn = spawn
        self.control = control

    @classmethod
    def parse(cls, words: str) -> Sandbox | None:
        """-sandbox's words; None for off.  Raises DeviceError."""
        given = Given("-sandbox", words, first="enable")
        on = given.switch("enable")
        allowed = {
            name: given.word(name, default, among=("allow", "deny", *more))
            for name, default, *more in (
                ("obsolete", "deny"),
                ("elevateprivileges", "allow", "children"),
                ("spawn", "allow"),
                ("resourcecontrol", "allow"),
            )
        }
        given.finish()
        if not on:
            return None
        return cls(
            obsolete=allowed["obsolete"] == "allow",
            elevate=allowed["elevateprivileges"] != "deny",
            spawn=allowed["spawn"] == "allow",
            control=allowed["resourcecontrol"] == "allow",
        )

    def install(self) -> None:
        """Confines every thread of this process, for good.  Raises Unavailable."""
        program = b"".join(struct.pack("<HBBI", *each) for each in self.program())
        held = ctypes.create_string_buffer(program, len(program))
        # struct sock_fprog: how many, and where
        described = struct.pack("@HP", len(program) // 8, ctypes.addressof(held))
        libc = ctypes.CDLL(None, use_errno=True)
        # Also what elevateprivileges=children asks for: a filter wants it in any case.
        failed = libc.prctl(PR_SET_NO_NEW_PRIVS, *(ctypes.c_ulong(each) for each in (1, 0, 0, 0)))
        if not failed:
            number = {name: number for number, name in numbers(_host()).items()}["seccomp"]
            failed = libc.syscall(
                ctypes.c_long(number), ctypes.c_ulong(SET_MODE_FILTER), ctypes.c_ulong(TSYNC), described
            )
        if failed:
            why = os.strerror(ctypes.get_errno()) if failed < 0 else f"thread {failed} has one of its own"
            raise Unavailable(f"-sandbox on: the host's kernel takes no filter ({why}); say off")
        Sandbox.installed = self

    def program(self) -> list[tuple[int, int, int, int]]:
        """The filter: instructions of four numbers, code, two jumps and a constant."""
        number_of = {name: number for number, name in numbers(_host()).items()}
        denied = dict.fromkeys(NEVER.split(), KILL_PROCESS)
        if not self.obsolete:
            denied |= dict.fromkeys(OBSOLETE.split(), KILL_PROCESS)
        if not self.elevate:
            denied |= dict.fromkeys(PRIVILEGES.split(), KILL_PROCESS)
        if not self.control:
            denied |= dict.fromkeys(CONTROL.split(), ERRNO | errno.EPERM)
        if not self.spawn:
            denied |= dict.fromkeys(SPAWNING.split(), KILL_PROCESS)
            # Its flags are in memory, where no filter looks: the C library makes threads by clone() then.
            denied["clone3"] = ERRNO | errno.ENOSYS
        made = [
            (LOAD, 0, 0, ARCH_AT),
            (EQUAL, 1, 0, AUDIT_ARCH[_host()]),
            (RETURN, 0, 0, KILL_PROCESS),
            (LOAD, 0, 0, NUMBER_AT),
        ]
        if _host() == "x86_64":
            made += [(AT_LEAST, 0, 1, X32), (RETURN, 0, 0, KILL_PROCESS)]
        for name, action in denied.items():
            if name in number_of:
                made += [(EQUAL, 0, 1, number_of[name]), (RETURN, 0, 0, action)]
        if not self.spawn:
            # Threads may be made, processes not.  The flags are the first argument's low half.
            made += [
                (EQUAL, 0, 3, number_of["clone"]),
                (LOAD, 0, 0, ARGUMENT_AT),
                (ANY_BIT, 1, 0, CLONE_THREAD),
                (RETURN, 0, 0, KILL_PROCESS),
            ]
        return [*made, (RETURN, 0, 0, ALLOW)]


def _host() -> str:
    """This host's ISA, if filters for it are known.  Raises Unavailable."""
    try:
        name = canonical(platform.machine())
    except UnknownArch:
        name = ""
    if name not in AUDIT_ARCH or sys.byteorder != "little" or struct.calcsize("P") != 8:
        raise Unavailable(f"-sandbox on is not known for this host ({platform.machine()}); say off")
    return name


def may_spawn() -> bool:
    """Whether this process may make others: one that tries although it may not is ended by the kernel."""
    return Sandbox.installed is None or Sandbox.installed.spawn


def confined(asked: list[str]) -> Sandbox | None:
    """What -sandbox asks for; given several times, the last counts.  Raises DeviceError, Unavailable."""
    made = None
    for words in asked:
        made = Sandbox.parse(words)
    if made is not None:
        made.program()
    return made
