"""What KVM refuses to emulate, and who did it in its place (accel/native/cross.c)."""

from __future__ import annotations

import os

from accel.errors import Unavailable
from accel.kvm import cpuid
from accel.kvm.device import checked
from accel.native import ffi, lib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from accel.kvm.vcpu import KvmVcpu


def prepare(vcpu: KvmVcpu, slot: int) -> None:
    """Has a vCPU go on where KVM refuses an instruction; what is needed for that is made when it happens.

    slot: of the VM's memory slots one that stays free; it serves to make KVM forget what it derived from the
    guest's page tables.
    """
    from accel.tcg.library import place

    try:
        lib.emu_uc_library_later(os.fsencode(place()))
    except Unavailable:
        pass  # then what only tcg could do ends the run, and says so
    checked(
        lib.emu_kvm_vcpu_cross(vcpu.pointer, vcpu.accelerator.fd, slot),
        "prepare for what it refuses",
        "free memory on the host",
    )
    table = cpuid.packed(cpuid.for_tcg(vcpu.leaves))
    checked(
        lib.emu_kvm_vcpu_cross_cpuid(vcpu.pointer, ffi.from_buffer(table), len(table)),
        "pass on what its CPU is",
        "hide other features",
    )


class Crossings:
    """How often KVM refused an instruction of a vCPU: in `host` cases the host's CPU did it, in `companion` a
    companion under tcg, which executed `instructions` altogether.  kinds: count by instruction.  stays: how
    often the companion kept the vCPU, and did what came then, in `seconds` of the host's CPU: nobody counts
    its instructions.
    """

    def __init__(self, vcpu: KvmVcpu) -> None:
        out = ffi.new("emu_cross_counts *")
        lib.emu_kvm_vcpu_crossings(vcpu.pointer, out)
        self.host, self.companion, self.instructions = out.host, out.companion, out.retired
        self.stays, self.seconds = out.stays, out.ns / 1e9
        self.kinds: dict[str, int] = {}
        for kind in out.kinds:
            if kind.count:
                name = _name(bytes(kind.bytes[0 : kind.nbytes]))
                self.kinds[name] = self.kinds.get(name, 0) + kind.count

    def __bool__(self) -> bool:
        return bool(self.host or self.companion or self.stays)

    def lines(self) -> list[str]:
        """For people; none where nothing was refused."""
        if not self:
            return []
        names = sorted(self.kinds.items(), key=lambda kind: (-kind[1], kind[0]))
        total = self.host + self.companion
        return [
            f"{total} instructions were not KVM's: {self.host} the host's CPU did, {self.companion} tcg",
            *([f"it went on under tcg {self.stays} times, for {self.seconds:.2f} s"] if self.stays else []),
            *(f"{count:12} {name}" for name, count in names),
        ]


def _name(code: bytes) -> str:
    import capstone

    engine = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
    for instruction in engine.disasm(code, 0, 1):
        return str(instruction.mnemonic)
    return code.hex(" ")
