"""Has vCPUs go on where KVM refuses an instruction (accel/native/cross.c)."""

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
