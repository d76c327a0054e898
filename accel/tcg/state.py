"""A vCPU's whole state as plain values, by isa names, for any engine to take up.

Flat, one integer to a register; segments and tables of x86-64 in parts (`cs_base`); besides:

    halted            the CPU waits for an interrupt
    priv              riscv64: 0 user, 1 supervisor, 3 machine
    count             arm, aarch64: the counter of the generic timers, which goes on from there
    sp_irq, ...       arm: the banked registers of every mode, `<register>_<mode>`

x86-64's form is accel.kvm.state's; accel.tcg.state_x86 has what is special about it.

The order of loading matters: control registers before what they give meaning to, the mode before the
registers it selects.
"""

from __future__ import annotations

from typing import Any

from accel.tcg import state_x86

TYPE_CHECKING = False
if TYPE_CHECKING:
    from accel.tcg.unicorn import UnicornVcpu

# Loaded first, in this order.
FIRST = {
    "aarch64": ("cpsr",),
    "arm": (),
    "riscv64": (),
    "x86_64": ("efer", "cr4", "cr3", "cr0", "fstat"),  # fstat says which physical register st0 is
}
# Loaded last: what others above change on their way.
LAST = {
    "aarch64": ("sp", "pc"),
    "arm": ("pc",),
    "riscv64": ("mstatus", "priv", "pc"),  # writing floating point marks it dirty
    "x86_64": ("eflags", "rip"),
}
# Fixed by the model, counted by the clock, or another view of a register that is there.
LEFT_OUT = {
    "aarch64": (
        *("NZCV", "DAIF", "SPSel", "CurrentEL", "CTR_EL0", "DCZID_EL0", "CNTPCT_EL0", "CNTVCT_EL0"),
        *("CNTP_TVAL_EL0", "CNTV_TVAL_EL0", "PMCCNTR_EL0", "ISR_EL1", "OSLAR_EL1", "OSLSR_EL1"),
        *("MIDR_EL1", "MPIDR_EL1", "REVIDR_EL1", "CLIDR_EL1", "CCSIDR_EL1"),
    ),
    "arm": (
        *("ISR", "CNTP_TVAL", "CNTV_TVAL", "MIDR", "CTR", "MPIDR", "CCSIDR", "CLIDR"),
        *("FPSID", "MVFR0", "MVFR1", "spsr"),
    ),
    "riscv64": (
        *("cycle", "time", "instret", "mcycle", "minstret", "mvendorid", "marchid", "mimpid", "mhartid"),
        *("fflags", "frm", "sstatus", "sie", "sip", "mip", "misa"),
    ),
    # The interrupt controllers' first two, and what makes up `events`.
    "x86_64": ("apic_base", "cr8", "event", "shadow", "nmi_blocked", "nmi_pending"),
}

# AArch32 modes (Arm ARM, B1.3.1) with banked r13, r14 and SPSR; FIQ has r8 to r12 too.
BANKS = {"usr": 0x1F, "fiq": 0x11, "irq": 0x12, "svc": 0x13, "abt": 0x17, "und": 0x1B}
MODE = 0x1F


def names(vcpu: UnicornVcpu) -> list[str]:
    """The registers of a state, in the order of loading."""
    arch = vcpu.accelerator.arch.name
    places = vcpu.accelerator.places()
    left_out = LEFT_OUT[arch]
    first = [name for name in FIRST[arch] if name in places and name not in left_out]
    last = [name for name in LAST[arch] if name in places]
    ends = {*first, *last}
    middle = [n for n in places if n not in ends and n not in left_out and not n.startswith("ID_")]
    return [*first, *middle, *last]


def save(vcpu: UnicornVcpu) -> dict[str, Any]:
    """The state of a vCPU that is not running."""
    arch = vcpu.accelerator.arch.name
    if arch == "x86_64":
        return state_x86.save(vcpu, names(vcpu))
    state: dict[str, Any] = {}
    for name in names(vcpu):
        try:
            (state[name],) = vcpu.get(name)
        except KeyError:
            continue
    if arch == "aarch64":
        # The bank in use is stale while its register is SP.
        level = state["cpsr"] >> 2 & 3 if state["cpsr"] & 1 else 0
        state[f"SP_EL{level}"] = state["sp"]
    elif arch == "arm":
        state.update(_banks(vcpu, state["cpsr"]))
    state["halted"] = vcpu.halted
    if vcpu.count is not None:
        state["count"] = vcpu.count
    return state


def load(vcpu: UnicornVcpu, state: dict[str, Any]) -> tuple[str, ...]:
    """Gives a vCPU a state; returns the names of what this engine does not take."""
    arch = vcpu.accelerator.arch
    vcpu.forget()
    if arch.name == "x86_64":
        return state_x86.load(vcpu, state, names(vcpu))
    given: dict[str, Any] = {}
    for name, value in state.items():
        try:
            given[arch.register(name).name] = value
        except LookupError:
            given[name] = value
    order = names(vcpu)
    count = given.pop("count", None)
    if count is not None:
        vcpu.count = count  # before the timers' registers, which compare with it
    if arch.name == "arm":
        _load_banks(vcpu, given)
    for name in order:
        if name in given:
            try:
                vcpu.set(**{name: given.pop(name)})
            except KeyError:
                given.setdefault(name, None)
    vcpu.halted = bool(given.pop("halted", False))
    known = {f"{name}_{mode}" for mode in BANKS for name in _banked(mode)} if arch.name == "arm" else set()
    return tuple(name for name in given if name not in known and name not in LEFT_OUT[arch.name])


def _banked(mode: str) -> tuple[str, ...]:
    if mode == "usr":
        return ("sp", "lr")
    return (*(f"r{n}" for n in range(8, 13)), "sp", "lr", "spsr") if mode == "fiq" else ("sp", "lr", "spsr")


def _banks(vcpu: UnicornVcpu, cpsr: int) -> dict[str, int]:
    found = {}
    for mode, bits in BANKS.items():
        vcpu.set(cpsr=cpsr & ~MODE | bits)
        for name in _banked(mode):
            (found[f"{name}_{mode}"],) = vcpu.get(name)
    vcpu.set(cpsr=cpsr)
    return found


def _load_banks(vcpu: UnicornVcpu, given: dict[str, Any]) -> None:
    cpsr = given.get("cpsr", vcpu.get("cpsr")[0])
    for mode, bits in BANKS.items():
        if f"sp_{mode}" in given:
            vcpu.set(cpsr=cpsr & ~MODE | bits)
            vcpu.set(**{name: given[f"{name}_{mode}"] for name in _banked(mode)})
    vcpu.set(cpsr=cpsr)
