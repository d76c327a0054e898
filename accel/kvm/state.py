"""A vCPU's whole state as plain values, by isa names, for any engine to take up.

Flat: registers by name (segments and tables in parts), MSRs without a name as msr_<hex>, and besides

    halted   the CPU waits for an interrupt
    mp_state one of MP_STATES, where the kernel holds the local APIC; else only of a CPU that was not started
    events   exceptions, interrupts and NMIs under way, the shadow of STI and MOV SS
    lapic    registers of the local APIC by name, where the kernel holds it
    cpuid    what the guest was told of its CPU, rows of (leaf, subleaf, flags, eax, ebx, ecx, edx), for an
             engine that has less; a vCPU of KVM's has its own and loads none

Sources: Intel SDM vol. 3, 11.4.1 (LAPIC); Linux, Documentation/virt/kvm/api.rst.
"""

from __future__ import annotations

from typing import Any

from accel.kvm import xsave
from accel.kvm.device import checked
from accel.kvm.registers import (
    CONTROL,
    DEBUG,
    GENERAL,
    SEGMENTS,
    TABLES,
    Registers,
    read_msr,
    read_msrs,
    write_msr,
)
from accel.native import ffi, lib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from accel.kvm.vcpu import KvmVcpu

MP_STATES = ("runnable", "uninitialized", "init-received", "halted", "sipi-received")

EVENTS = (
    *("exception_injected", "exception_nr", "exception_has_error_code", "exception_pending"),
    *("exception_error_code", "exception_has_payload", "exception_payload"),
    *("interrupt_injected", "interrupt_nr", "interrupt_soft", "interrupt_shadow"),
    *("nmi_injected", "nmi_pending", "nmi_masked", "sipi_vector"),
)
# KVM_VCPUEVENT_VALID_*: which optional fields a store means.
VALID_NMI_PENDING, VALID_SIPI_VECTOR, VALID_SHADOW, VALID_PAYLOAD = 1, 2, 4, 16

LAPIC_SIZE = 1024
LAPIC = {
    **{
        "id": 0x20,
        "version": 0x30,
        "tpr": 0x80,
        "apr": 0x90,
        "ppr": 0xA0,
        "ldr": 0xD0,
        "dfr": 0xE0,
        "svr": 0xF0,
    },
    **{f"isr{n}": 0x100 + 16 * n for n in range(8)},
    **{f"tmr{n}": 0x180 + 16 * n for n in range(8)},
    **{f"irr{n}": 0x200 + 16 * n for n in range(8)},
    **{"esr": 0x280, "lvt_cmci": 0x2F0, "icr_low": 0x300, "icr_high": 0x310, "lvt_timer": 0x320},
    **{
        "lvt_thermal": 0x330,
        "lvt_performance": 0x340,
        "lvt_lint0": 0x350,
        "lvt_lint1": 0x360,
        "lvt_error": 0x370,
    },
    **{"timer_initial": 0x380, "timer_current": 0x390, "timer_divide": 0x3E0},
}

# In the segments' and control registers' group already.
MSRS_ELSEWHERE = {0x1B, 0xC000_0080, 0xC000_0100, 0xC000_0101}
MSR_TSC, MSR_TSC_DEADLINE = 0x10, 0x6E0

SYSTEM = (
    *CONTROL,
    *(f"{name}{part}" for name in SEGMENTS for part in ("", "_base", "_limit", "_attr")),
    *(f"{name}_{part}" for name in TABLES for part in ("base", "limit")),
)


def save(vcpu: KvmVcpu) -> dict[str, Any]:
    """The state of a vCPU that is not running; an access under way is completed first."""
    vcpu.settle()
    registers = Registers(vcpu)
    state: dict[str, Any] = {}
    for name in (*GENERAL, *SYSTEM, *DEBUG, "xcr0"):
        state["eflags" if name == "rflags" else name] = registers.get(name)
    state.update(registers.vectors())
    names = {index: name for name, index in vcpu.msr_names().items()}
    for index, value in read_msrs(vcpu.fd, vcpu.accelerator.msr_list()).items():
        if index not in MSRS_ELSEWHERE:
            state[names.get(index, f"msr_{index:x}")] = value
    state["halted"] = bool(lib.emu_kvm_vcpu_halted(vcpu.pointer))
    state["events"] = _events(vcpu)
    state["cpuid"] = [[*leaf, *values] for leaf, values in vcpu.leaves.items()]
    if lib.emu_kvm_vcpu_parked(vcpu.pointer):
        state["mp_state"] = "init-received"
    if vcpu.irqchip:
        mp_state = ffi.new("uint32_t *")
        vcpu.call(lib.EMU_KVM_GET_MP_STATE, mp_state, "read the processor's state")
        state["mp_state"] = MP_STATES[mp_state[0]]
        state["halted"] = state["mp_state"] == "halted"
        page = bytearray(LAPIC_SIZE)
        vcpu.call(lib.EMU_KVM_GET_LAPIC, ffi.from_buffer(page), "read the local APIC")
        state["lapic"] = {
            name: int.from_bytes(page[place : place + 4], "little") for name, place in LAPIC.items()
        }
    return state


def load(vcpu: KvmVcpu, state: dict[str, Any]) -> tuple[str, ...]:
    """Gives a vCPU a state; returns the names of registers that this host's KVM does not take.

    What the state does not name keeps its value, but for vector registers, whose unnamed parts become 0.
    Raises AccelError when KVM refuses control registers or segments.
    """
    vcpu.settle()
    passed: list[str] = []
    registers = Registers(vcpu)
    registers.start_vectors()
    for name in (*GENERAL, "eflags", *SYSTEM, *DEBUG, "xcr0"):
        if name in state:
            registers.set(name, state[name])
    names = vcpu.msr_names()
    msrs: dict[int, int] = {}
    for name, value in state.items():
        if xsave.is_name(name):
            try:
                registers.set(name, value)
            except KeyError:
                passed.append(name)
        elif name in names or name.startswith("msr_"):
            index = names[name] if name in names else int(name[4:], 16)
            if index not in MSRS_ELSEWHERE:
                msrs[index] = value
    registers.flush()
    if vcpu.irqchip and "lapic" in state:
        _load_lapic(vcpu, state["lapic"])
    # The deadline counts from the TSC and means nothing to a LAPIC timer in another mode: last.
    for index in sorted(msrs, key=lambda index: (index == MSR_TSC_DEADLINE, index != MSR_TSC)):
        # KVM lists some that it refuses to set where their feature is hidden; those are what they were.
        if not write_msr(vcpu.fd, index, msrs[index]) and read_msr(vcpu.fd, index) != msrs[index]:
            passed.append(f"msr_{index:x}")
    checked(lib.emu_kvm_vcpu_flush(vcpu.pointer), "set registers", "close the machine")
    _load_run_state(vcpu, state)
    if "events" in state:
        _load_events(vcpu, state["events"])
    return tuple(passed)


def _load_run_state(vcpu: KvmVcpu, state: dict[str, Any]) -> None:
    halted = bool(state.get("halted", False))
    if not vcpu.irqchip:
        lib.emu_kvm_vcpu_set_halted(vcpu.pointer, halted)
        parked = state.get("mp_state") in ("uninitialized", "init-received")
        lib.emu_kvm_vcpu_set_parked(vcpu.pointer, parked)
        return
    word = state.get("mp_state", "halted" if halted else "runnable")
    mp_state = ffi.new("uint32_t *", MP_STATES.index(word))
    vcpu.call(lib.EMU_KVM_SET_MP_STATE, mp_state, f"make the processor {word}")


def _events(vcpu: KvmVcpu) -> dict[str, int]:
    events = ffi.new("emu_kvm_events *")
    vcpu.call(lib.EMU_KVM_GET_VCPU_EVENTS, events, "read events under way")
    return {name: int(getattr(events, name)) for name in EVENTS}


def _load_events(vcpu: KvmVcpu, state: dict[str, int]) -> None:
    events = ffi.new("emu_kvm_events *")
    vcpu.call(lib.EMU_KVM_GET_VCPU_EVENTS, events, "read events under way")
    offered = events.flags
    for name in EVENTS:
        setattr(events, name, state.get(name, 0))
    events.flags = offered & VALID_PAYLOAD | VALID_NMI_PENDING | VALID_SHADOW
    if vcpu.irqchip:
        events.flags |= VALID_SIPI_VECTOR
    if not offered & VALID_PAYLOAD:
        # Without payloads the kernel knows injected exceptions alone.
        events.exception_injected |= events.exception_pending
        events.exception_pending = events.exception_has_payload = events.exception_payload = 0
    vcpu.call(lib.EMU_KVM_SET_VCPU_EVENTS, events, "set events under way")


def _load_lapic(vcpu: KvmVcpu, state: dict[str, int]) -> None:
    page = bytearray(LAPIC_SIZE)
    vcpu.call(lib.EMU_KVM_GET_LAPIC, ffi.from_buffer(page), "read the local APIC")
    for name, value in state.items():
        place = LAPIC[name]
        page[place : place + 4] = value.to_bytes(4, "little")
    vcpu.call(lib.EMU_KVM_SET_LAPIC, ffi.from_buffer(page), "set the local APIC")
