"""GICv3's Interrupt Translation Service: messages of devices (MSI) as LPIs of a CPU.

What it does is in C (native/gic_its.c, native/gic_lpi.c); its tables are the guest's.  Source: Arm Generic
Interrupt Controller Architecture Specification, version 3 and 4 (IHI 0069H), chapters 5 and 12.
"""

from __future__ import annotations

from typing import Any

from accel.errors import DeviceError
from emu.device import Context, Device
from emu.devices.gicv3 import Gicv3
from emu.devices.native import cast, ffi, function, lib, opaque


class GicIts(Device):
    """A service for `gic`, which has LPIs from now on; base: the address that messages name.

    The redistributors' LPIs are saved with it.
    """

    # Its node is the controller's child: the board describes it.
    compatible = ""
    size = 0x2_0000
    state = ("contents", "lpis")

    def __init__(self, gic: Gicv3, base: int) -> None:
        super().__init__()
        self.gic = gic
        self.base = base
        self._its: Any = ffi.NULL

    def realize(self, context: Context) -> None:
        space = cast("emu_space *", context.memory.pointer)
        if not lib.emu_gic_lpis(self.gic.pointer, space):
            raise DeviceError(
                f"{self.name}: this GIC has an ITS already, or no memory is left; attach one ITS"
            )
        made = lib.emu_gic_its_new(self.gic.pointer, space, self.base)
        if made == ffi.NULL:
            raise MemoryError(self.name)
        self._its = ffi.gc(made, lib.emu_gic_its_free)
        assert self.region is not None
        self.region.native_ops(
            function("emu_gic_its_read", "emu_read_fn"),
            function("emu_gic_its_write", "emu_write_fn"),
            opaque(self._its),
        )

    @property
    def msi(self) -> tuple[str, Any]:
        """What PciBus.wire takes."""
        return "emu_gic_its_message", self._its

    def reset(self) -> None:
        lib.emu_gic_its_reset(self._its)

    # -- snapshots ---------------------------------------------------------------

    @property
    def contents(self) -> bytes:
        """The registers, an emu_gic_its_state of native/gic_its.h."""
        state = ffi.new("emu_gic_its_state *")
        lib.emu_gic_its_save(self._its, state)
        return bytes(ffi.buffer(state))

    @contents.setter
    def contents(self, value: bytes) -> None:
        lib.emu_gic_its_load(self._its, self._given("emu_gic_its_state", value))

    @property
    def lpis(self) -> list[bytes]:
        """Each redistributor's, an emu_gic_lpi_state of native/gic_lpi.h."""
        saved = []
        for cpu in range(self.gic.cpus):
            state = ffi.new("emu_gic_lpi_state *")
            lib.emu_gic_lpi_save(self.gic.pointer, cpu, state)
            saved.append(bytes(ffi.buffer(state)))
        return saved

    @lpis.setter
    def lpis(self, value: list[bytes]) -> None:
        for cpu, saved in enumerate(value[: self.gic.cpus]):
            lib.emu_gic_lpi_load(self.gic.pointer, cpu, self._given("emu_gic_lpi_state", saved))

    def _given(self, kind: str, saved: bytes) -> Any:
        if len(saved) != ffi.sizeof(kind):
            raise DeviceError(f"{self.name}: the saved state has {len(saved)} bytes; it is another release's")
        state = ffi.new(f"{kind} *")
        ffi.buffer(state)[:] = saved
        return state
