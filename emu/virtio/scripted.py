"""Scripted: a virtio device whose work is done in Python.

    class Upper(Scripted):
        kind, device_id, queues = "upper", 63, 1

        def handle(self, queue):
            for chain in self.chains(queue):
                chain.give(chain.write(chain.read().upper()))

`handle` runs in the device's thread.  Whoever calls from another one (an event loop, say) uses the queues
within `with self.held():`.  What a method raises breaks the device and is raised from Machine.run().
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from accel.native import called_from_c
from emu.devices.native import ffi, lib
from emu.virtio.device import VirtioDevice


class Chain:
    """A chain of buffers: `readable` bytes from the driver, room for `writable` bytes to it.

    One at a time: it is given back before the next one is taken.
    """

    __slots__ = ("_device", "_queue", "readable", "writable")

    def __init__(self, device: Scripted, queue: int, readable: int, writable: int) -> None:
        self._device = device
        self._queue = queue
        self.readable = readable
        self.writable = writable

    def read(self, size: int | None = None, offset: int = 0) -> bytes:
        """What the driver wrote: `size` bytes, or as many as there are."""
        wanted = max(0, self.readable - offset)
        if size is not None:
            wanted = min(wanted, size)
        out = ffi.new("uint8_t[]", wanted + 1)
        done = lib.emu_virtio_chain_read(self._device.pointer, offset, out, wanted)
        return bytes(ffi.buffer(out, done))

    def write(self, data: bytes | memoryview, offset: int = 0) -> int:
        """Writes to the driver as much as there is room for; returns how many bytes that was."""
        source = ffi.from_buffer(data)
        return int(lib.emu_virtio_chain_write(self._device.pointer, offset, source, len(source)))

    def give(self, written: int = 0) -> None:
        """Gives the chain back with that many bytes written."""
        lib.emu_virtio_give(self._device.pointer, self._queue, written)

    def put_back(self) -> None:
        """As if it had not been taken."""
        lib.emu_virtio_untake(self._device.pointer, self._queue)


class Scripted(VirtioDevice):
    """Base of devices in Python.

    device_id: as chapter 5 of the standard numbers kinds; queues: how many; queue_size: entries of each;
    config: the configuration space as it is at first; device_features: bits besides those all devices have.
    """

    device_id: ClassVar[int]
    queues: ClassVar[int] = 1
    queue_size: ClassVar[int] = 256
    device_features: ClassVar[int] = 0

    def __init__(
        self, config: bytes = b"", *, queues: int | None = None, features: int | None = None
    ) -> None:
        self._handle = ffi.new_handle(self)
        super().__init__(
            lib.emu_virtio_callback_new(
                self.device_id,
                self.device_features if features is None else features,
                self.queues if queues is None else queues,
                self.queue_size,
                len(config),
                lib.emu_py_virtio,
                self._handle,
            )
        )
        lib.emu_virtio_set_config(self.pointer, 0, config, len(config))

    # -- what a device writes ------------------------------------------------------

    def start(self) -> None:
        """The driver is ready."""

    def handle(self, queue: int) -> None:
        """Chains wait in a queue."""

    def reset(self) -> None:
        """Back to the state after power-on."""

    def config_written(self, offset: int, size: int) -> None:
        """The driver wrote to the configuration space."""

    # -- what a device calls ----------------------------------------------------------

    def take(self, queue: int) -> Chain | None:
        """The next chain of a queue, or None."""
        sizes = ffi.new("uint64_t[2]")
        if not lib.emu_virtio_take(self.pointer, queue, sizes, sizes + 1):
            return None
        return Chain(self, queue, sizes[0], sizes[1])

    def chains(self, queue: int) -> Iterator[Chain]:
        """The chains of a queue, until there are no more; give each back before the next."""
        while (chain := self.take(queue)) is not None:
            yield chain

    def set_config(self, data: bytes, offset: int = 0) -> None:
        """Changes the configuration space and tells the driver."""
        lib.emu_virtio_set_config(self.pointer, offset, data, len(data))

    @contextmanager
    def held(self) -> Iterator[None]:
        """Holds the device's own thread off."""
        lib.emu_virtio_hold(self.pointer)
        try:
            yield
        finally:
            lib.emu_virtio_release(self.pointer)

    def failed(self, error: BaseException) -> None:
        """What a method raised: the machine stops."""
        if self.context is not None:
            self.context.fail(error)


def _keep(device: Scripted, error: BaseException) -> None:
    device.failed(error)


@called_from_c(_keep, 1, ffi)
def emu_py_virtio(handle: Any, event: int, a: int, b: int) -> int:
    device: Scripted = ffi.from_handle(handle)
    if event == lib.EMU_VIRTIO_EVENT_QUEUE:
        device.handle(a)
    elif event == lib.EMU_VIRTIO_EVENT_START:
        device.start()
    elif event == lib.EMU_VIRTIO_EVENT_RESET:
        device.reset()
    else:
        device.config_written(a, b)
    return 0
