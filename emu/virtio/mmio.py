"""VirtioMmio: the MMIO transport of virtio devices (virtio 1.2, section 4.2).

Its registers are C (native/virtio_mmio.c); a write of QueueNotify is a doorbell, which under KVM does not
even leave the kernel.
"""

from __future__ import annotations

from typing import Any

from emu.device import Context, Device, Irq
from emu.devices.native import cast, ffi, function, lib, opaque
from emu.virtio.device import VirtioDevice

QUEUE_NOTIFY = 0x50
SELECTORS = ("device_features_sel", "driver_features_sel", "queue_sel", "page_size")


class VirtioMmio(Device):
    """A slot with a virtio device in it.

    force_legacy: the registers and rings of version 1 (section 4.2.4), as QEMU's option of that name, for
    guests that know no other.
    """

    compatible = "virtio,mmio"
    node_name = "virtio_mmio"
    size = 0x200
    state = ("transport", "carried")
    irq = Irq()

    def __init__(self, device: VirtioDevice, *, force_legacy: bool = False) -> None:
        super().__init__()
        self.device = device
        self.force_legacy = force_legacy
        self._mmio: Any = None

    def realize(self, context: Context) -> None:
        self.device.realize(context)
        irq = cast("emu_irq *", self.irq.pointer)
        made = lib.emu_virtio_mmio_new(self.device.pointer, irq, self.force_legacy)
        if made == ffi.NULL:
            raise MemoryError(self.name)
        self._mmio = ffi.gc(made, lib.emu_virtio_mmio_free)
        assert self.region is not None
        self.region.native_ops(
            function("emu_virtio_mmio_read", "emu_read_fn"),
            function("emu_virtio_mmio_write", "emu_write_fn"),
            opaque(self._mmio),
        )
        self.region.doorbell(QUEUE_NOTIFY, lib.emu_virtio_bell(self.device.pointer), width=4)

    def reset(self) -> None:
        lib.emu_virtio_mmio_reset(self._mmio)

    def fdt(self, node: Any) -> None:
        node["dma-coherent"] = True

    def pause(self) -> None:
        self.device.pause()

    def resume(self) -> None:
        self.device.resume()

    def close(self) -> None:
        self.device.close()

    # -- snapshots ---------------------------------------------------------------

    @property
    def transport(self) -> list[int]:
        """The selectors, and a legacy queue's alignments."""
        saved = ffi.new("emu_virtio_mmio_saved *")
        lib.emu_virtio_mmio_save(self._mmio, saved)
        return [*(int(getattr(saved, field)) for field in SELECTORS), *map(int, saved.align)]

    @transport.setter
    def transport(self, values: list[int]) -> None:
        saved = ffi.new("emu_virtio_mmio_saved *")
        for field, value in zip(SELECTORS, values, strict=False):
            setattr(saved, field, value)
        saved.align = values[len(SELECTORS) :]
        lib.emu_virtio_mmio_load(self._mmio, saved)

    @property
    def carried(self) -> list[Any]:
        """The state of the device that is carried."""
        return self.device.save()

    @carried.setter
    def carried(self, state: list[Any]) -> None:
        self.device.load(state)
