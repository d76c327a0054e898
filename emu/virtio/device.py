"""VirtioDevice: what a transport carries, whatever its kind.

A kind is a subclass that makes its C device and names its options; the transport (emu/virtio/mmio.py)
attaches it to a bus.  The C device has a thread that pause() holds and close() ends.
"""

from __future__ import annotations

from typing import Any, ClassVar

from accel.errors import DeviceError
from emu.devices.native import cast, ffi, lib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from emu.device import Context

QUEUE_FIELDS = ("desc", "avail", "used", "size", "ready", "next_avail", "next_used", "signalled")
COMMON_FIELDS = ("features", "accepted", "status", "generation", "causes")


class VirtioDevice:
    """Base of all kinds.

    pointer: the C device (emu_virtio *); kind: the device's name in messages.
    """

    kind: ClassVar[str] = "virtio"

    def __init__(self, pointer: Any) -> None:
        if pointer == ffi.NULL:
            raise DeviceError(f"{self.kind}: no memory or no descriptors left for the device; see ulimit -n")
        self.pointer = ffi.gc(pointer, lib.emu_virtio_free)
        self.context: Context | None = None

    def realize(self, context: Context) -> None:
        """Takes what the machine lends; the transport calls it once."""
        self.context = context
        lib.emu_virtio_memory(self.pointer, cast("emu_space *", context.memory.pointer))

    def pause(self) -> None:
        """Holds the device's thread; returns when it is at rest."""
        if self.pointer is not None:
            lib.emu_virtio_pause(self.pointer)

    def resume(self) -> None:
        """Lets the device's thread go on."""
        if self.pointer is not None:
            lib.emu_virtio_resume(self.pointer)

    def close(self) -> None:
        """Ends the thread and frees the device; again does nothing."""
        pointer, self.pointer = self.pointer, None
        if pointer is not None:
            ffi.release(pointer)

    # -- what people and snapshots look at -------------------------------------

    @property
    def fault(self) -> str:
        """Why the device needs a reset; "" if it does not."""
        return str(ffi.string(lib.emu_virtio_fault(self.pointer)).decode())

    @property
    def features(self) -> int:
        """The features that driver and device agreed on."""
        return int(lib.emu_virtio_features(self.pointer))

    @property
    def status(self) -> int:
        """The status register."""
        return int(lib.emu_virtio_status(self.pointer))

    def save(self) -> list[Any]:
        """The state as plain values: what is common, the configuration, each queue, and the kind's own."""
        saved = ffi.new("emu_virtio_saved *")
        lib.emu_virtio_save(self.pointer, saved)
        queues = [
            [int(getattr(saved.queue[i], field)) for field in QUEUE_FIELDS] for i in range(saved.queues)
        ]
        common = [int(getattr(saved, field)) for field in COMMON_FIELDS]
        return [common, bytes(ffi.buffer(saved.config)), queues, self.save_own()]

    def load(self, state: list[Any]) -> None:
        """Takes what save() gave; a driver that was ready goes on."""
        common, config, queues, own = state
        saved = ffi.new("emu_virtio_saved *")
        for field, value in zip(COMMON_FIELDS, common, strict=True):
            setattr(saved, field, value)
        ffi.buffer(saved.config)[:] = config
        saved.queues = len(queues)
        for i, queue in enumerate(queues):
            for field, value in zip(QUEUE_FIELDS, queue, strict=True):
                setattr(saved.queue[i], field, value)
        self.load_own(own)
        lib.emu_virtio_load(self.pointer, saved)

    def save_own(self) -> Any:
        """What the kind remembers besides; None for nothing."""
        return None

    def load_own(self, own: Any) -> None:
        """Takes what save_own() gave, before the driver goes on."""
