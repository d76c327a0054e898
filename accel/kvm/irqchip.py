"""The PC's interrupt controllers in the kernel: two 8259 PICs, an IOAPIC, a LAPIC per vCPU, and the 8254 PIT.

Their ports (20h, 21h, A0h, A1h, 4D0h, 4D1h, 40h-43h, 61h) and pages (FEC00000h, FEE00000h) never leave the
kernel.
Lines 0 to 15 reach the PICs and the IOAPIC, 16 to 23 the IOAPIC alone; the kernel drives line 0 from the PIT.
"""

from __future__ import annotations

from typing import Any

from accel.errors import AccelError
from accel.irq import IrqLine
from accel.kvm.device import checked
from accel.native import ffi, lib

LINES = 24
PIT_SPEAKER_DUMMY = 1  # port 61h is in the kernel too


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

    def line(self, number: int) -> IrqLine:
        """Input 0 to 23 (GSI); the same object each time.  Raises AccelError for any other number."""
        if not 0 <= number < LINES:
            raise AccelError(f"the PC's interrupt controllers have no line {number}; use 0 to {LINES - 1}")
        if number not in self._lines:
            line = IrqLine()
            line.connect_native(ffi.addressof(lib, "emu_kvm_gsi"), self._chip, number)
            self._lines[number] = line
        return self._lines[number]

    def send_msi(self, address: int, data: int) -> None:
        """A message-signalled interrupt (Intel SDM vol. 3, 11.11).  Raises AccelError if KVM refuses it.

        One for a LAPIC that is switched off is dropped, as on hardware.
        """
        checked(lib.emu_kvm_msi(self._chip, address, data), "send the interrupt message", "check its address")

    def attach(self, vcpu: Any) -> None:
        """Nothing: vCPUs are connected as they are created."""

    def close(self) -> None:
        """Lines go nowhere from now on."""
        self._chip.vm = -1
