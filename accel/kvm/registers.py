"""A vCPU's registers by name, over KVM's groups of them.

General registers come with the exit (KVM_CAP_SYNC_REGS); segments and control registers, XSAVE, debug
registers and MSRs each cost a call, made only when one of the group is named.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence

from accel.errors import AccelError
from accel.kvm.device import checked
from accel.kvm.xsave import SIZE, Xsave
from accel.native import ffi, lib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from accel.kvm.vcpu import KvmVcpu

GENERAL = (
    *("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rsp", "rbp"),
    *("r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"),
    *("rip", "rflags"),
)
ALIASES = {"pc": "rip", "eflags": "rflags", "sp": "rsp"}
CONTROL = ("cr0", "cr2", "cr3", "cr4", "cr8", "efer", "apic_base")
SEGMENTS = {**{name: name for name in ("cs", "ds", "es", "fs", "gs", "ss", "tr")}, "ldtr": "ldt"}
TABLES = {"gdtr": "gdt", "idtr": "idt"}
DEBUG = {"dr0": 0, "dr1": 1, "dr2": 2, "dr3": 3, "dr6": 6, "dr7": 7}

_MASK64 = (1 << 64) - 1
# kvm_msrs: count, padding; entries of index, reserved, data.
_MSRS = struct.Struct("<II")
_MSR = struct.Struct("<IIQ")
# kvm_xcrs: count, flags; entries of number, reserved, value.
_XCRS_SIZE = 392


def segment_attributes(segment: Any) -> int:
    """A segment's access rights in the format of Intel SDM vol. 3, table 25-2."""
    return int(
        segment.type
        | segment.s << 4
        | segment.dpl << 5
        | segment.present << 7
        | segment.avl << 12
        | segment.l << 13
        | segment.db << 14
        | segment.g << 15
        | segment.unusable << 16
    )


def set_segment_attributes(segment: Any, value: int) -> None:
    """Sets a segment's access rights from that format."""
    segment.type = value & 15
    segment.s = value >> 4 & 1
    segment.dpl = value >> 5 & 3
    segment.present = value >> 7 & 1
    segment.avl = value >> 12 & 1
    segment.l = value >> 13 & 1
    segment.db = value >> 14 & 1
    segment.g = value >> 15 & 1
    segment.unusable = value >> 16 & 1


class Registers:
    """One look at, or change of, the registers; groups are fetched when named and stored by flush()."""

    def __init__(self, vcpu: KvmVcpu) -> None:
        self._vcpu = vcpu
        self._groups: dict[str, Any] = {}
        self._dirty: set[str] = set()
        self._msrs: dict[int, int] = {}

    # -- by name -------------------------------------------------------------------

    def get(self, name: str) -> int:
        """A register's value; raises KeyError for a name nobody knows."""
        name = ALIASES.get(name, name)
        if name in GENERAL:
            return int(getattr(self._group("regs"), name))
        if name in CONTROL:
            return int(getattr(self._group("sregs"), name))
        base, _, part = name.partition("_")
        if base in SEGMENTS and part in ("", "base", "limit", "attr"):
            segment = getattr(self._group("sregs"), SEGMENTS[base])
            if part == "attr":
                return segment_attributes(segment)
            return int(getattr(segment, part or "selector"))
        if base in TABLES and part in ("base", "limit"):
            return int(getattr(getattr(self._group("sregs"), TABLES[base]), part))
        if name in DEBUG:
            debug = self._group("debug")
            number = DEBUG[name]
            return int(debug.db[number] if number < 4 else debug.dr6 if number == 6 else debug.dr7)
        if name == "xcr0":
            return int(self._group("xcr0"))
        index = self._vcpu.msr_index(name)
        if index is not None:
            return self._vcpu.read_msr(index)
        xsave: Xsave = self._group("xsave")
        return xsave.get(name)

    def set(self, name: str, value: int) -> None:
        """Changes a register here; flush() gives it to the vCPU.  Raises KeyError as get() does."""
        name = ALIASES.get(name, name)
        if name in GENERAL:
            setattr(self._change("regs"), name, value & _MASK64)
            return
        if name in CONTROL:
            setattr(self._change("sregs"), name, value & _MASK64)
            return
        base, _, part = name.partition("_")
        if base in SEGMENTS and part in ("", "base", "limit", "attr"):
            segment = getattr(self._change("sregs"), SEGMENTS[base])
            if part == "attr":
                set_segment_attributes(segment, value)
            else:
                setattr(segment, part or "selector", value)
        elif base in TABLES and part in ("base", "limit"):
            setattr(getattr(self._change("sregs"), TABLES[base]), part, value)
        elif name in DEBUG:
            debug = self._change("debug")
            number = DEBUG[name]
            if number < 4:
                debug.db[number] = value
            else:
                setattr(debug, name, value)
        elif name == "xcr0":
            self._groups["xcr0"] = value
            self._dirty.add("xcr0")
        else:
            index = self._vcpu.msr_index(name)
            if index is not None:
                self._msrs[index] = value & _MASK64
            else:
                self._change("xsave").set(name, value)

    def flush(self) -> None:
        """Gives every change to the vCPU.  Raises AccelError when KVM refuses one."""
        for group in ("sregs", "xcr0", "xsave", "debug", "regs"):
            if group in self._dirty:
                getattr(self, f"_put_{group}")(self._groups[group])
        self._dirty.clear()
        for index, value in self._msrs.items():
            if not self._vcpu.write_msr(index, value):
                raise AccelError(f"KVM refuses {value:#x} for MSR {index:#x}; give a value this CPU allows")
        self._msrs.clear()

    # -- by group ------------------------------------------------------------------

    def _group(self, name: str) -> Any:
        if name not in self._groups:
            fetch: Callable[[], Any] = getattr(self, f"_get_{name}")
            self._groups[name] = fetch()
        return self._groups[name]

    def _change(self, name: str) -> Any:
        self._dirty.add(name)
        return self._group(name)

    def _get_regs(self) -> Any:
        out = ffi.new("emu_kvm_regs *")
        checked(lib.emu_kvm_vcpu_regs(self._vcpu.pointer, out), "read registers", "close the machine")
        return out

    def _put_regs(self, regs: Any) -> None:
        checked(lib.emu_kvm_vcpu_set_regs(self._vcpu.pointer, regs), "set registers", "close the machine")

    def _get_sregs(self) -> Any:
        out = ffi.new("emu_kvm_sregs *")
        checked(lib.emu_kvm_vcpu_sregs(self._vcpu.pointer, out), "read segments", "close the machine")
        return out

    def _put_sregs(self, sregs: Any) -> None:
        checked(
            lib.emu_kvm_vcpu_set_sregs(self._vcpu.pointer, sregs),
            "set segments and control registers",
            "give values this host's KVM allows (CR4 bits, EFER, APIC base)",
        )

    def _get_debug(self) -> Any:
        out = ffi.new("emu_kvm_debugregs *")
        self._vcpu.call(lib.EMU_KVM_GET_DEBUGREGS, out, "read debug registers")
        return out

    def _put_debug(self, debug: Any) -> None:
        self._vcpu.call(lib.EMU_KVM_SET_DEBUGREGS, debug, "set debug registers")

    def _get_xsave(self) -> Xsave:
        buffer = bytearray(SIZE)
        self._vcpu.call(lib.EMU_KVM_GET_XSAVE, ffi.from_buffer(buffer), "read vector registers")
        return Xsave(self._vcpu.xsave_layout(), bytes(buffer))

    def _put_xsave(self, area: Xsave) -> None:
        self._vcpu.call(lib.EMU_KVM_SET_XSAVE, ffi.from_buffer(area.data), "set vector registers")

    def _get_xcr0(self) -> int:
        buffer = bytearray(_XCRS_SIZE)
        self._vcpu.call(lib.EMU_KVM_GET_XCRS, ffi.from_buffer(buffer), "read XCR0")
        for n in range(_MSRS.unpack_from(buffer)[0]):
            number, _, value = _MSR.unpack_from(buffer, _MSRS.size + n * _MSR.size)
            if number == 0:
                return int(value)
        return 1

    def _put_xcr0(self, value: int) -> None:
        buffer = bytearray(_XCRS_SIZE)
        _MSRS.pack_into(buffer, 0, 1, 0)
        _MSR.pack_into(buffer, _MSRS.size, 0, 0, value)
        self._vcpu.call(lib.EMU_KVM_SET_XCRS, ffi.from_buffer(buffer), "set XCR0")

    # -- vector registers as a whole -----------------------------------------------

    def vectors(self) -> dict[str, int]:
        """The x87 and vector state: each register once, in its widest form in use."""
        area: Xsave = self._group("xsave")
        return {name: area.get(name) for name in area.names()}

    def start_vectors(self) -> None:
        """Begins with the x87 and vector registers of a reset."""
        self._groups["xsave"] = Xsave(self._vcpu.xsave_layout())
        self._dirty.add("xsave")


def read_msr(fd: int, index: int) -> int | None:
    """An MSR's value, or None where KVM does not know it."""
    buffer = bytearray(_MSRS.pack(1, 0) + _MSR.pack(index, 0, 0))
    if lib.emu_kvm_ioctl(fd, lib.EMU_KVM_GET_MSRS, ffi.from_buffer(buffer)) != 1:
        return None
    return int(_MSR.unpack_from(buffer, _MSRS.size)[2])


def write_msr(fd: int, index: int, value: int) -> bool:
    """Sets an MSR; False where KVM does not take it."""
    buffer = bytearray(_MSRS.pack(1, 0) + _MSR.pack(index, 0, value))
    return bool(lib.emu_kvm_ioctl(fd, lib.EMU_KVM_SET_MSRS, ffi.from_buffer(buffer)) == 1)


def read_msrs(fd: int, indices: Sequence[int]) -> dict[int, int]:
    """The MSRs of `indices` that KVM can read; it stops at one it cannot, which is passed over."""
    values: dict[int, int] = {}
    rest = list(indices)
    while rest:
        buffer = bytearray(_MSRS.pack(len(rest), 0))
        for index in rest:
            buffer += _MSR.pack(index, 0, 0)
        done = max(0, lib.emu_kvm_ioctl(fd, lib.EMU_KVM_GET_MSRS, ffi.from_buffer(buffer)))
        for n in range(done):
            index, _, value = _MSR.unpack_from(buffer, _MSRS.size + n * _MSR.size)
            values[index] = value
        rest = rest[done + 1 :]
    return values


def msr_list(device: int) -> tuple[int, ...]:
    """The MSRs that belong to a guest's state on this host."""
    room = 1024
    buffer = bytearray(4 + 4 * room)
    buffer[:4] = room.to_bytes(4, "little")
    checked(
        lib.emu_kvm_ioctl(device, lib.EMU_KVM_GET_MSR_INDEX_LIST, ffi.from_buffer(buffer)),
        "list its MSRs",
        "update the host's kernel",
    )
    count = int.from_bytes(buffer[:4], "little")
    return struct.unpack_from(f"<{count}I", buffer, 4)
