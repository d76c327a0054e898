"""/dev/kvm: opening it, or saying precisely why not; capabilities."""

from __future__ import annotations

import errno
import os

from accel.errors import AccelError, Unavailable
from accel.native import lib

API_VERSION = 12

# KVM_CAP_* (include/uapi/linux/kvm.h)
CAP_IRQCHIP = 0
CAP_USER_MEMORY = 3
CAP_SET_TSS_ADDR = 4
CAP_EXT_CPUID = 7
CAP_NR_VCPUS = 9
CAP_NR_MEMSLOTS = 10
CAP_MP_STATE = 14
CAP_SET_GUEST_DEBUG = 23
CAP_PIT2 = 33
CAP_IOEVENTFD = 36
CAP_SET_IDENTITY_MAP_ADDR = 37
CAP_ADJUST_CLOCK = 39
CAP_VCPU_EVENTS = 41
CAP_DEBUGREGS = 50
CAP_XSAVE = 55
CAP_XCRS = 56
CAP_MAX_VCPUS = 66
CAP_SYNC_REGS = 74
CAP_SIGNAL_MSI = 77
CAP_READONLY_MEM = 81
CAP_SPLIT_IRQCHIP = 121
CAP_IOEVENTFD_ANY_LENGTH = 122
CAP_IMMEDIATE_EXIT = 136
CAP_SET_GUEST_DEBUG2 = 195
# KVM_GUESTDBG_USE_SW_BP
DEBUG_INT3 = 0x10000

REQUIRED = {
    CAP_USER_MEMORY: "KVM_CAP_USER_MEMORY",
    CAP_EXT_CPUID: "KVM_CAP_EXT_CPUID",
    CAP_MP_STATE: "KVM_CAP_MP_STATE",
    CAP_VCPU_EVENTS: "KVM_CAP_VCPU_EVENTS",
    CAP_DEBUGREGS: "KVM_CAP_DEBUGREGS",
    CAP_XSAVE: "KVM_CAP_XSAVE",
    CAP_XCRS: "KVM_CAP_XCRS",
    CAP_READONLY_MEM: "KVM_CAP_READONLY_MEM",
    CAP_IMMEDIATE_EXIT: "KVM_CAP_IMMEDIATE_EXIT",
}


def extension(fd: int, capability: int) -> int:
    """What KVM_CHECK_EXTENSION answers for a device or a VM: 0 where the capability is missing."""
    return max(0, int(lib.emu_kvm_control(fd, lib.EMU_KVM_CHECK_EXTENSION, capability)))


def open_device(path: str = "/dev/kvm") -> int:
    """A descriptor of a usable KVM device; the caller closes it.

    Raises Unavailable with the cause and the remedy: no node, no permission, a node without a driver, an
    API that is too old, or a capability that is missing.
    """
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise Unavailable(_open_failure(path, error)) from None
    try:
        check_device(fd, path)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _open_failure(path: str, error: OSError) -> str:
    if error.errno == errno.ENOENT:
        return (
            f"{path} is not there; load the module (modprobe kvm_intel or kvm_amd), switch virtualization on"
            " in the firmware, or pass the device into the container"
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return (
            f"{path} may not be opened by this user; join its group: usermod -aG kvm $USER, then log in again"
        )
    if error.errno in (errno.ENODEV, errno.ENXIO):
        return (
            f"{path} has no driver behind it; load kvm_intel or kvm_amd and see the kernel log for why it"
            " refuses this CPU"
        )
    return f"{path} cannot be opened ({os.strerror(error.errno or 0)}); check it with: ls -l {path}"


def check_device(fd: int, path: str) -> None:
    """Raises Unavailable unless the descriptor is a KVM device that can do what is needed."""
    version = int(lib.emu_kvm_control(fd, lib.EMU_KVM_GET_API_VERSION, 0))
    if version < 0:
        reason = errno.errorcode.get(-version, str(-version))
        raise Unavailable(
            f"{path} does not answer as KVM ({reason}): another device, or a sandbox without KVM, stands"
            " there; give the real device"
        )
    if version != API_VERSION:
        raise Unavailable(f"{path} speaks KVM API {version}, not {API_VERSION}; update the host's kernel")
    missing = [name for capability, name in REQUIRED.items() if not extension(fd, capability)]
    if missing:
        raise Unavailable(f"{path} lacks {', '.join(missing)}; update the host's kernel (4.12 or newer)")


def checked(result: int, doing: str, remedy: str) -> int:
    """The result of a KVM call; raises AccelError with the cause and the remedy where it is negative."""
    if result < 0:
        raise AccelError(f"KVM cannot {doing} ({errno_text(result)}); {remedy}")
    return int(result)


def errno_text(result: int) -> str:
    """What a negative result of a KVM call means."""
    return os.strerror(-result)


def tells_of_int3(vm: int) -> bool:
    """Whether a debugger can be told of INT3 (KVM_GUESTDBG_USE_SW_BP)."""
    known = extension(vm, CAP_SET_GUEST_DEBUG2)  # before Linux 5.13: 0, and x86 has it
    return known == 0 or bool(known & DEBUG_INT3)


def emulates_cpl0() -> bool:
    """Whether the loaded KVM emulates the guest's kernel mode instruction by instruction.

    So does kvm_pvm, which needs no hardware virtualization; kvm_intel and kvm_amd do not.
    """
    pvm, intel, amd = (os.path.isdir(f"/sys/module/{name}") for name in ("kvm_pvm", "kvm_intel", "kvm_amd"))
    return pvm and not (intel or amd)
