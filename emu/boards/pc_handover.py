"""A PC's interrupt controllers and timer out of the kernel's form into the board's devices, and back.

The kernel's form is what KernelIrqchip.save() and a vCPU's `lapic` give (accel/kvm); the devices' is what
their save() gives.  Requests, services and trigger modes are kept; timers go on from where they are.

What the two do not share: the board's I/O APIC remembers an edge that came while its input was masked, the
kernel's does not.  A counter of the kernel's 8254 begins its count as it is loaded: to_kernel() says how long
to wait until counter 0 is where it was; another that counts over and over begins a new period.
"""

from __future__ import annotations

from typing import Any

from emu.devices.i8254 import HZ, SECOND, Counter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from emu.devices.apic import LocalApic
    from emu.devices.i8254 import I8254, PortB
    from emu.devices.i8259 import Pics

# What the kernel's local APIC counts, whatever the guest is told (Linux, arch/x86/kvm/lapic.c).
KERNEL_APIC_HZ = 1_000_000_000
# Values of a mode, or a state of the bytes of a count, that the kernel has besides.
UNUSED_MODE, SECOND_BYTE = 0xFF, 4
SPEAKER = 2

# The board's name, the kernel's, and the bit that the board has it in.
PIC = (
    *(("levels", "last_irr", 1), ("irr", "irr", 1), ("isr", "isr", 1), ("imr", "imr", 1)),
    *(("elcr", "elcr", 1), ("base", "irq_base", 1), ("wants_icw4", "init4", 1)),
    *(("auto_eoi", "auto_eoi", 2), ("nested", "special_fully_nested_mode", 0x10)),
    *(("special_mask", "special_mask", 0x20), ("read_isr", "read_reg_select", 1), ("poll", "poll", 4)),
    *(("rotation", "priority_add", 1), ("rotate_auto", "rotate_on_auto_eoi", 0x80)),
)
ELCR_MASKS = (0xF8, 0xDE)
LOCAL = {
    **{"id": "id", "priority": "tpr", "destination": "ldr", "format": "dfr", "spurious": "svr"},
    **{"errors_read": "esr", "initial": "timer_initial", "divide": "timer_divide"},
}
ENTRIES = ("lvt_timer", "lvt_thermal", "lvt_performance", "lvt_lint0", "lvt_lint1", "lvt_error")
BITS = {"service": "isr", "level": "tmr", "request": "irr"}
COMMAND = ("icr_low", "icr_high")
PERIODIC = 1 << 17


# -- the 8259s ----------------------------------------------------------------------


def pics_from_kernel(pics: Pics, saved: dict[str, Any]) -> None:
    """Gives the board's 8259s the state of the kernel's."""
    devices = {"pic0": pics.master, "pic1": pics.slave, "elcr": pics.elcr}
    own = {name: device.save() for name, device in devices.items()}
    pics_saved(own, saved)
    for name, device in devices.items():
        device.load(own[name])


def pics_saved(own: dict[str, Any], saved: dict[str, Any]) -> None:
    """Makes what the board's 8259s have saved, by their names, the state of the kernel's."""
    for number, name in enumerate(("pic0", "pic1")):
        kernel, state = saved[name], own[name]["state"]
        state |= {ours: kernel[theirs] * bit for ours, theirs, bit in PIC}
        step = kernel["init_state"]
        state["expected"] = step + 1 if step else 0
        own["elcr"]["registers"][f"ELCR{number + 1}"] = kernel["elcr"]


def pics_to_kernel(pics: Pics) -> dict[str, Any]:
    """The state of the board's 8259s as the kernel's."""
    saved = {}
    for number, (chip, name) in enumerate(((pics.master, "pic0"), (pics.slave, "pic1"))):
        own = chip.save()["state"]
        saved[name] = {theirs: own[ours] // bit for ours, theirs, bit in PIC}
        saved[name] |= {"init_state": max(0, own["expected"] - 1), "elcr_mask": ELCR_MASKS[number]}
    return saved


# -- the APICs ------------------------------------------------------------------------


def io_apic_from_kernel(apic: LocalApic, saved: dict[str, Any], levels: int) -> None:
    """Gives the board's I/O APIC the state of the kernel's; levels: of the wires, a bit each."""
    state = apic.state_in_c()
    io_apic_saved(state, saved, levels)
    apic.load_from_c(state)


def io_apic_saved(state: Any, saved: dict[str, Any], levels: int) -> None:
    """The same in a state as C has it."""
    state.io.entry = saved["redirections"]
    state.io.select, state.io.id = saved["select"], saved["id"] << 24
    state.io.levels, state.io.edges = levels, 0


def io_apic_to_kernel(apic: LocalApic, base: int) -> dict[str, Any]:
    """The state of the board's I/O APIC, at `base`, as the kernel's."""
    state = apic.state_in_c()
    io = state.io
    return {
        "base": base,
        "select": io.select,
        "id": io.id >> 24,
        "irr": io.levels,
        "redirections": list(io.entry),
    }


def local_from_kernel(apic: LocalApic, registers: dict[str, int]) -> None:
    """Gives the board's local APIC the state of the kernel's."""
    state = apic.state_in_c()
    local_saved(state, 0, registers)
    apic.load_from_c(state)


def local_saved(state: Any, number: int, registers: dict[str, int]) -> None:
    """The same for CPU `number` in a state as C has it."""
    local = state.local[number]
    for ours, theirs in LOCAL.items():
        setattr(local, ours, registers[theirs])
    for n, name in enumerate(ENTRIES):
        local.entry[n] = registers[name]
    for n, name in enumerate(COMMAND):
        local.command[n] = registers[name]
    for ours, theirs in BITS.items():
        for n in range(8):
            getattr(local, ours)[n] = registers[f"{theirs}{n}"]
    local.errors = 0
    state.hz = KERNEL_APIC_HZ
    left = registers["timer_current"] * divider(registers["timer_divide"])
    # One that has just come to its end begins anew.
    local.left = left or bool(registers["timer_initial"] and registers["lvt_timer"] & PERIODIC)


def local_to_kernel(apic: LocalApic, registers: dict[str, int], number: int = 0) -> dict[str, int]:
    """The state of CPU `number`'s local APIC as the kernel's; registers: what the board does not have."""
    state = apic.state_in_c()
    local = state.local[number]
    out = dict(registers)
    out |= {theirs: getattr(local, ours) for ours, theirs in LOCAL.items()}
    out |= {name: local.entry[n] for n, name in enumerate(ENTRIES)}
    out |= {name: local.command[n] for n, name in enumerate(COMMAND)}
    for ours, theirs in BITS.items():
        out |= {f"{theirs}{n}": getattr(local, ours)[n] for n in range(8)}
    out["timer_current"] = -(-local.left // divider(local.divide))
    return out


def divider(code: int) -> int:
    """Of the timer's clock (Intel SDM vol. 3, figure 11-10)."""
    power = code & 3 | code >> 1 & 4
    return 1 if power == 7 else 2 << power


# -- the 8254 --------------------------------------------------------------------------


def timer_from_kernel(timer: I8254, port: PortB, saved: dict[str, Any]) -> None:
    """Gives the board's 8254 the state of the kernel's, now."""
    own, sound = timer.save(), port.save()
    timer_saved(own, sound, timer.ticks(), saved)
    timer.load(own)
    timer.go_on()
    port.load(sound)


def timer_saved(own: dict[str, Any], sound: dict[str, Any], now: int, saved: dict[str, Any]) -> None:
    """Makes what the board's 8254 and port 61h have saved the state of the kernel's, now."""
    fields: list[int] = []
    for channel in saved["channels"]:
        counter = Counter()
        counter.loaded = int(channel["mode"] != UNUSED_MODE)
        counter.mode = channel["mode"] if counter.loaded else 3
        counter.access = channel["rw_mode"] or 3
        counter.bcd, counter.gate = channel["bcd"], channel["gate"]
        counter.reload = channel["count"] or 0x10000
        counter.start = now - channel["elapsed"] * HZ // SECOND
        counter.write_low = channel["write_latch"] if channel["write_state"] == SECOND_BYTE else -1
        counter.read_high = int(channel["read_state"] == SECOND_BYTE)
        counter.latch = channel["latched_count"]
        counter.latch_left = 0 if not channel["count_latched"] else 1 + (channel["count_latched"] == 3)
        counter.status = channel["status"] if channel["status_latched"] else -1
        fields += [getattr(counter, field) for field in Counter.FIELDS]
    own["state"]["saved"] = fields
    sound["registers"]["NMI_SC"] = saved["channels"][2]["gate"] | (saved["flags"] & SPEAKER)


def timer_to_kernel(timer: I8254, port: PortB) -> tuple[dict[str, Any], int]:
    """The state of the board's 8254 as the kernel's, and for how many ns counter 0's period has run."""
    now, channels, gone = timer.ticks(), [], 0
    for number, counter in enumerate(timer.counters):
        since = max(0, now - counter.start)
        count, mode = counter.reload, counter.mode
        if not counter.loaded:
            mode = UNUSED_MODE if number == 0 else mode
        elif not counter.periodic():
            count = max(1, count - since)
            if since >= counter.reload and number == 0:
                mode = UNUSED_MODE  # the kernel's would interrupt again
        elif number == 0:
            gone = since % counter.reload * SECOND // HZ
        latched = 0
        if counter.latch_left:
            both = counter.access == 3
            latched = (3 if counter.latch_left == 2 else SECOND_BYTE) if both else counter.access
        channels.append(
            {
                "count": count,
                "latched_count": counter.latch,
                "count_latched": latched,
                "status_latched": int(counter.status >= 0),
                "status": max(0, counter.status),
                "read_state": SECOND_BYTE if counter.access == 3 and counter.read_high else counter.access,
                "write_state": SECOND_BYTE if counter.write_low >= 0 else counter.access,
                "write_latch": max(0, counter.write_low),
                "rw_mode": counter.access,
                "mode": mode,
                "bcd": counter.bcd,
                "gate": counter.gate,
                "elapsed": 0,
            }
        )
    return {"channels": channels, "flags": int(port.NMI_SC) & SPEAKER}, gone
