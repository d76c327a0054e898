"""The PC's interrupt controllers in the kernel: two 8259 PICs, an IOAPIC, a LAPIC per vCPU, and the 8254 PIT.

Or the LAPICs alone ("split"), which the board's own IOAPIC and PICs then use: KernelLapics.

All:
Their ports (20h, 21h, A0h, A1h, 4D0h, 4D1h, 40h-43h, 61h) and pages (FEC00000h, FEE00000h) never leave the
kernel.
Lines 0 to 15 reach the PICs and the IOAPIC, 16 to 23 the IOAPIC alone; the kernel drives line 0 from the PIT.
"""

from __future__ import annotations

import struct

from accel.errors import AccelError
from accel.irq import IrqLine
from accel.kvm.device import CAP_SPLIT_IRQCHIP, checked
from accel.native import ffi, lib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

LINES = 24
PIT_SPEAKER_DUMMY = 1  # port 61h is in the kernel too

# kvm_irqchip: number, padding, the chip's state.
CHIP_SIZE = 520
PIC = struct.Struct("<16B")
PIC_FIELDS = (
    *("last_irr", "irr", "imr", "isr", "priority_add", "irq_base", "read_reg_select", "poll"),
    *("special_mask", "init_state", "auto_eoi", "rotate_on_auto_eoi", "special_fully_nested_mode"),
    *("init4", "elcr", "elcr_mask"),
)
IOAPIC_CHIP = 2
IOAPIC = struct.Struct("<Q4I24Q")
# kvm_pit_state2: three channels, flags, 9 unused words.  A channel ends with the host's monotonic time of its
# last load, which the kernel sets itself: save() says how long ago that was.
PIT_SIZE = 112
PIT_CHANNEL = struct.Struct("<IH10Bq")
PIT_FIELDS = (
    *("count", "latched_count", "count_latched", "status_latched", "status", "read_state", "write_state"),
    *("write_latch", "rw_mode", "mode", "bcd", "gate", "elapsed"),
)
CLOCK_SIZE = 48  # kvm_clock_data


class KernelLapics:
    """The local APICs in the kernel, for controllers outside of it; by KvmAccelerator.irqchip("lapic")."""

    kind = "lapic"

    def __init__(self, vm: int) -> None:
        capability = bytearray(104)  # kvm_enable_cap
        struct.pack_into("<I4xQ", capability, 0, CAP_SPLIT_IRQCHIP, LINES)
        checked(
            lib.emu_kvm_ioctl(vm, lib.EMU_KVM_ENABLE_CAP, ffi.from_buffer(capability)),
            "create the local APICs alone",
            "use kernel-irqchip=on or off",
        )
        self._chip = ffi.new("emu_kvm_chip *")
        self._chip.vm = vm

    def outputs(self) -> tuple[Any, Any, Any]:
        """emu_kvm_send, emu_kvm_route and their opaque, for an I/O APIC in C."""
        return ffi.addressof(lib, "emu_kvm_send"), ffi.addressof(lib, "emu_kvm_route"), self._chip

    def send_msi(self, address: int, data: int) -> None:
        """A message-signalled interrupt.  Raises AccelError if KVM refuses it."""
        checked(lib.emu_kvm_msi(self._chip, address, data), "send the interrupt message", "check its address")

    def close(self) -> None:
        """Messages go nowhere from now on."""
        self._chip.vm = -1


class KernelIrqchip:
    """An InterruptController (accel/irq.py) of kind "pc"; made by KvmAccelerator.irqchip().

    attach() has nothing to do: the kernel gives every vCPU that is created later its LAPIC.
    """

    kind = "pc"

    def __init__(self, vm: int) -> None:
        self._vm = vm
        checked(
            lib.emu_kvm_control(vm, lib.EMU_KVM_CREATE_IRQCHIP, 0),
            "create the interrupt controllers",
            "create them before the vCPUs",
        )
        config = bytearray(64)
        config[0] = PIT_SPEAKER_DUMMY
        checked(
            lib.emu_kvm_ioctl(vm, lib.EMU_KVM_CREATE_PIT2, ffi.from_buffer(config)),
            "create the timer (8254)",
            "update the host's kernel",
        )
        self._chip = ffi.new("emu_kvm_chip *")
        self._chip.vm = vm
        self._lines: dict[int, IrqLine] = {}
        self._initial = self.save()
        del self._initial["clock"]

    def line(self, number: int) -> IrqLine:
        """Input 0 to 23 (GSI); the same object each time.  Raises AccelError for any other number."""
        if not 0 <= number < LINES:
            raise AccelError(f"the PC's interrupt controllers have no line {number}; use 0 to {LINES - 1}")
        if number not in self._lines:
            self._lines[number] = IrqLine()
            self.wire(number, self._lines[number])
        return self._lines[number]

    def wire(self, number: int, line: IrqLine) -> None:
        """Ends a line at input 0 to 23."""
        line.connect_native(ffi.addressof(lib, "emu_kvm_gsi"), self._chip, number)

    def lower(self, number: int) -> None:
        """Sets input 0 to 23 low, whatever the line says that ends there."""
        lib.emu_kvm_gsi(self._chip, number, 0)

    def send_msi(self, address: int, data: int) -> None:
        """A message-signalled interrupt (Intel SDM vol. 3, 11.11).  Raises AccelError if KVM refuses it.

        One for a LAPIC that is switched off is dropped, as on hardware.
        """
        checked(lib.emu_kvm_msi(self._chip, address, data), "send the interrupt message", "check its address")

    def messages(self) -> tuple[Any, Any]:
        """emu_kvm_send and its opaque: what takes messages in C."""
        return ffi.addressof(lib, "emu_kvm_send"), self._chip

    def attach(self, vcpu: Any) -> None:
        """Nothing: vCPUs are connected as they are created."""

    # -- state ---------------------------------------------------------------------

    def save(self) -> dict[str, Any]:
        """The controllers', the timer's and the paravirtual clock's state as plain values by name."""
        state: dict[str, Any] = {}
        for number, name in enumerate(("pic0", "pic1")):
            state[name] = dict(zip(PIC_FIELDS, PIC.unpack_from(self._chip_state(number), 8), strict=True))
        base, select, ident, irr, _, *table = IOAPIC.unpack_from(self._chip_state(IOAPIC_CHIP), 8)
        state["ioapic"] = {"base": base, "select": select, "id": ident, "irr": irr, "redirections": table}
        pit = bytearray(PIT_SIZE)
        self._call(lib.EMU_KVM_GET_PIT2, pit, "read the timer")
        channels = [
            dict(zip(PIT_FIELDS, PIT_CHANNEL.unpack_from(pit, n * PIT_CHANNEL.size), strict=True))
            for n in range(3)
        ]
        now = int(lib.emu_now())
        for channel in channels:
            channel["elapsed"] = max(0, now - channel["elapsed"])
        state["pit"] = {
            "channels": channels,
            "flags": int.from_bytes(pit[72:76], "little"),
        }
        clock = bytearray(CLOCK_SIZE)
        self._call(lib.EMU_KVM_GET_CLOCK, clock, "read the clock")
        state["clock"] = int.from_bytes(clock[:8], "little")
        return state

    def load(self, state: dict[str, Any]) -> None:
        """Takes a state that save() gave; without "clock" that goes on as it does.

        Counters of the timer begin their count anew.
        """
        for number, name in enumerate(("pic0", "pic1")):
            self._set_chip(number, PIC.pack(*(state[name][field] for field in PIC_FIELDS)))
        ioapic = state["ioapic"]
        fields = (ioapic["base"], ioapic["select"], ioapic["id"], ioapic["irr"], 0, *ioapic["redirections"])
        self._set_chip(IOAPIC_CHIP, IOAPIC.pack(*fields))
        pit = bytearray(PIT_SIZE)
        for n, channel in enumerate(state["pit"]["channels"]):
            PIT_CHANNEL.pack_into(pit, n * PIT_CHANNEL.size, *(channel[field] for field in PIT_FIELDS))
        pit[72:76] = state["pit"]["flags"].to_bytes(4, "little")
        self._call(lib.EMU_KVM_SET_PIT2, pit, "set the timer")
        if "clock" in state:
            clock = bytearray(CLOCK_SIZE)
            clock[:8] = state["clock"].to_bytes(8, "little")
            self._call(lib.EMU_KVM_SET_CLOCK, clock, "set the clock")

    def reset(self) -> None:
        """As they were made: nothing is requested, the timer stands still.  The clock goes on."""
        self.load(self._initial)

    def _chip_state(self, number: int) -> bytearray:
        buffer = bytearray(CHIP_SIZE)
        buffer[:4] = number.to_bytes(4, "little")
        self._call(lib.EMU_KVM_GET_IRQCHIP, buffer, "read the interrupt controllers")
        return buffer

    def _set_chip(self, number: int, state: bytes) -> None:
        buffer = bytearray(CHIP_SIZE)
        buffer[:4] = number.to_bytes(4, "little")
        buffer[8 : 8 + len(state)] = state
        self._call(lib.EMU_KVM_SET_IRQCHIP, buffer, "set the interrupt controllers")

    def _call(self, request: int, buffer: bytearray, doing: str) -> None:
        checked(
            lib.emu_kvm_ioctl(self._vm, request, ffi.from_buffer(buffer)), doing, "check the values' ranges"
        )

    def close(self) -> None:
        """Lines go nowhere from now on."""
        self._chip.vm = -1
