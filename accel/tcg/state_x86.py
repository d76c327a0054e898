"""An x86-64 vCPU's whole state under tcg, in the form of accel.kvm.state.

What Unicorn has no place for (most MSRs) or does not hold as it was given (reserved bits) is kept beside it,
with what Unicorn made of it: while that is so still, save() gives what was given.  So nothing is lost on the
way through tcg and back.  Wide vectors are kept, too; a guest that was told of them goes on using them
(accel.tcg.promise).

Not kept: `mp_state`, which says no more than `halted` of a single CPU.
"""

from __future__ import annotations

from typing import Any

TYPE_CHECKING = False
if TYPE_CHECKING:
    from accel.tcg.unicorn import UnicornVcpu

# Of the first CPU, enabled, where every board has it (Intel SDM vol. 3, 11.4.4).
APIC_BASE = 0xFEE0_0900
WIDE = ("ymm", "zmm")
LOW = (1 << 128) - 1

# The event that the CPU takes first (uc.h, emu_uc_event), its parts by bit.
EXCEPTION, INTERRUPT = 1, 2
VECTOR, HAS_CODE, PENDING, NMI, CODE = 8, 16, 17, 18, 32
NMI_VECTOR = 2
SHADOW_STI = 2  # KVM_X86_SHADOW_INT_STI
# INT3 and INTO: the pc is still at the instruction, which does it again.
SOFTWARE = (3, 4)


class Aside:
    """What a vCPU keeps beside Unicorn's registers."""

    def __init__(self) -> None:
        self.given: dict[str, tuple[Any, int | None]] = {}  # and what Unicorn held then, None for no place
        self.upper: dict[int, tuple[str, int]] = {}  # of a vector: its kind, and its bits from 128 on
        self.shadow = SHADOW_STI  # which of KVM's two that Unicorn's stands for


def save(vcpu: UnicornVcpu, names: list[str]) -> dict[str, Any]:
    """The state of a vCPU that is not running."""
    state: dict[str, Any] = {"apic_base": APIC_BASE}
    for name in names:
        try:
            (state[name],) = vcpu.get(name)
        except KeyError:
            continue
    for number, (kind, upper) in vcpu.aside.upper.items():
        state[f"{kind}{number}"] = upper << 128 | state.pop(f"xmm{number}")
    for name, (given, held) in vcpu.aside.given.items():
        if held is None or state.get(name) == held:
            state[name] = given
    if vcpu.promise is not None:
        vcpu.promise.save(state)
    state["halted"] = vcpu.halted
    state["events"] = _events(vcpu)
    return state


def load(vcpu: UnicornVcpu, state: dict[str, Any], names: list[str]) -> tuple[str, ...]:
    """Takes up a state; everything is kept, so that nothing is passed over."""
    aside = vcpu.aside = Aside()
    given = {"eflags" if name == "rflags" else name: value for name, value in state.items()}
    given.pop("mp_state", None)
    halted = bool(given.pop("halted", False))
    events = given.pop("events", None)
    vcpu.keep_promise(given.get("cpuid"))
    if vcpu.promise is not None:
        vcpu.promise.load(given)
    for number in range(16):
        for kind in WIDE:
            value = given.pop(f"{kind}{number}", None)
            if value is not None:
                given[f"xmm{number}"] = value & LOW
                aside.upper[number] = (kind, value >> 128)
    if "cr0" in given:
        # Long mode begins where paging does.
        vcpu.set(cr0=0x10)
    loaded = {name: given.pop(name) for name in names if name in given}
    for name, value in loaded.items():
        try:
            vcpu.set(**{name: value})
        except KeyError:
            given[name] = value
    # Only now: control registers change each other.
    for name, value in loaded.items():
        if name not in given and name != "tsc" and vcpu.get(name) != (value,):
            aside.given[name] = (value, vcpu.get(name)[0])
    aside.given.update((name, (value, None)) for name, value in given.items())
    if events is not None:
        _load_events(vcpu, events)
    vcpu.halted = halted
    return ()


def _events(vcpu: UnicornVcpu) -> dict[str, int]:
    event, shadow, blocked, pending = vcpu.get("event", "shadow", "nmi_blocked", "nmi_pending")
    kind, vector = event & 0xFF, event >> VECTOR & 0xFF
    exception, nmi = kind == EXCEPTION, event >> NMI & 1
    interrupt = kind == INTERRUPT and not nmi
    return {
        "exception_injected": int(exception and not event >> PENDING & 1),
        "exception_nr": vector if exception else 0,
        "exception_has_error_code": event >> HAS_CODE & 1,
        "exception_pending": event >> PENDING & 1,
        "exception_error_code": event >> CODE,
        "exception_has_payload": 0,
        "exception_payload": 0,
        "interrupt_injected": int(interrupt),
        "interrupt_nr": vector if interrupt else 0,
        "interrupt_soft": 0,
        "interrupt_shadow": vcpu.aside.shadow if shadow else 0,
        "nmi_injected": int(nmi),
        "nmi_pending": int(pending),
        "nmi_masked": int(blocked),
        "sipi_vector": 0,
    }


def _load_events(vcpu: UnicornVcpu, events: dict[str, int]) -> None:
    vector, event = events.get("exception_nr", 0), 0
    if events.get("exception_injected") or events.get("exception_pending"):
        if events.get("exception_has_payload"):
            # What the exception would set as it is delivered (Linux, kvm/api.rst, KVM_CAP_EXCEPTION_PAYLOAD).
            if vector == 14:
                vcpu.set(cr2=events["exception_payload"])
            elif vector == 1:
                vcpu.set(dr6=vcpu.get("dr6")[0] | events["exception_payload"])
        if vector not in SOFTWARE:
            event = EXCEPTION | vector << VECTOR | bool(events.get("exception_pending")) << PENDING
            if events.get("exception_has_error_code"):
                event |= 1 << HAS_CODE | events.get("exception_error_code", 0) << CODE
    elif events.get("interrupt_injected"):
        # INT n is done again, as INT3 is.
        event = 0 if events.get("interrupt_soft") else INTERRUPT | events["interrupt_nr"] << VECTOR
    elif events.get("nmi_injected"):
        event = INTERRUPT | NMI_VECTOR << VECTOR | 1 << NMI
    shadow = events.get("interrupt_shadow", 0)
    vcpu.set(event=event, shadow=shadow, nmi_blocked=events.get("nmi_masked", 0))
    vcpu.set(nmi_pending=events.get("nmi_pending", 0))
    vcpu.aside.shadow = shadow or SHADOW_STI
