"""GICv3: Arm's Generic Interrupt Controller with redistributors and system registers.

Two devices: Gicv3 is the distributor, Gicv3Redistributors what each CPU has of its own, 128 KiB a CPU.  The
CPU interface is in system registers, which the engine hands on.  Source: Arm Generic Interrupt Controller
Architecture Specification, version 3 and 4 (IHI 0069H), chapters 4 and 12.
"""

from __future__ import annotations

from typing import Any

from emu.device import Device
from emu.devices.gic import Gic
from emu.devices.native import ffi, function, opaque

TYPE_CHECKING = False
if TYPE_CHECKING:
    from emu.machine import Cpu

FRAME = 0x2_0000


class Gicv3(Gic):
    """The distributor, and all that is behind it."""

    size = 0x1_0000
    architecture = 3
    serves = "distributor"

    def __init__(self, spis: int = 256, cpus: int = 1) -> None:
        super().__init__(spis, cpus)
        self._interfaces: list[Any] = []

    def connect_cpu(self, cpu: Cpu) -> None:
        """Gives the next CPU its inputs, and its interface in system registers."""
        super().connect_cpu(cpu)
        number = len(self._interfaces)
        interface = ffi.new("emu_gic_interface *", {"gic": self.pointer, "cpu": number})
        self._interfaces.append(interface)
        vcpu: Any = cpu.vcpu  # of an engine that has such registers
        vcpu.system_registers(
            function("emu_gic_read_system", "emu_sysreg_read_fn"),
            function("emu_gic_write_system", "emu_sysreg_write_fn"),
            opaque(interface),
        )


class Gicv3Redistributors(Device):
    """The redistributors of `gic`; registers only, the state is the distributor's."""

    def __init__(self, gic: Gicv3, cpus: int = 1) -> None:
        super().__init__()
        self.size = FRAME * cpus  # type: ignore[misc]
        self.gic = gic

    def native(self) -> tuple[Any, Any, Any]:
        return (
            function("emu_gic_read_redistributors", "emu_read_fn"),
            function("emu_gic_write_redistributors", "emu_write_fn"),
            opaque(self.gic.pointer),
        )
