"""Console (virtio 1.2, section 5.3): a guest's hvc0, and ports that it finds by name.

    VirtioConsole([Port(open_chardev("pty"), console=True)])
    VirtioConsole([Port(open_chardev("unix:/tmp/agent,server"), name="org.qemu.guest_agent.0")])

Linux has a port's device at /dev/virtio-ports/NAME.  Bytes are moved by native/virtio_console.c.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any

from accel.errors import DeviceError
from accel.native import called_from_c
from emu.backends.chardev import Chardev, open_chardev
from emu.devices.native import ffi, lib
from emu.virtio.device import VirtioDevice

TYPE_CHECKING = False
if TYPE_CHECKING:
    from emu.device import Context

FIELDS = ("ready", "open", "owed", "sent")


class Port:
    """A port that ends at `chardev`; QEMU calls one that is a console virtconsole, others virtserialport.

    name: what the guest finds it by; opening: called when the guest has opened it (True) or closed it, in the
    device's thread.
    """

    def __init__(self, chardev: Chardev, *, name: str = "", console: bool = False) -> None:
        given = name.encode()
        if len(given) > lib.EMU_VIRTIO_CONSOLE_NAME or b"\0" in given or b"/" in given:
            most = lib.EMU_VIRTIO_CONSOLE_NAME
            raise DeviceError(f"port {name!r}: a name has at most {most} bytes and no /; choose another")
        self.chardev = chardev
        self.name = name
        self.console = console
        self.number = -1
        self.lock = threading.RLock()
        self.opening: Callable[[bool], None] = lambda opened: None
        self._device: VirtioConsole | None = None

    def __str__(self) -> str:
        return f"console {self.number}" if self.console else f"channel {self.name}"

    def join(self, device: VirtioConsole, number: int) -> None:
        """Makes it port `number` of a device; once."""
        if self._device is not None:
            raise DeviceError(f"port {self.name!r} has a device already; make another")
        self._device = device
        self.number = number
        lib.emu_virtio_console_add(device.pointer, number, self.console, self.name.encode())
        self.chardev.connect(self)
        self.chardev.changed = self.changed
        self.changed()

    def _native(self) -> Any:
        """The C device, or None after its end."""
        return None if self._device is None else self._device.pointer

    @property
    def opened(self) -> bool:
        """Whether the guest has it open."""
        return self._device is not None and bool(self.state().open)

    def state(self) -> Any:
        """The emu_virtio_console_port of virtio_python.h."""
        state = ffi.new("emu_virtio_console_port *")
        lib.emu_virtio_console_get(self._native(), self.number, state)
        return state

    # -- the host's end --------------------------------------------------------

    def room(self) -> int:
        device = self._native()
        return 0 if device is None else int(lib.emu_virtio_console_room(device, self.number))

    def receive(self, data: bytes) -> None:
        device = self._native()
        if device is not None:
            lib.emu_virtio_console_give(device, self.number, data, len(data))

    def drained(self) -> None:
        device = self._native()
        if device is not None:
            lib.emu_virtio_console_drained(device, self.number)

    def changed(self) -> None:
        """The host's end has lost or got somebody, or shows the console in a window of another size."""
        device = self._native()
        if device is None:
            return
        lib.emu_virtio_console_plug(device, self.number, self.chardev.connected)
        if self.chardev.window is not None:
            lib.emu_virtio_console_resize(device, self.number, *self.chardev.window)


class VirtioConsole(VirtioDevice):
    """A device of up to 31 ports.

    The first console is port 0; what is no console begins at 1, since old drivers take 0 for theirs.
    """

    kind = "virtio-console"

    def __init__(self, ports: Iterable[Port]) -> None:
        given = list(ports)
        consoles = [port for port in given if port.console]
        numbered = dict(enumerate((port for port in given if port not in consoles[:1]), 1))
        if consoles:
            numbered[0] = consoles[0]
        names = [port.name for port in given if port.name]
        if not given or max(numbered) >= lib.EMU_VIRTIO_CONSOLE_PORTS:
            most = lib.EMU_VIRTIO_CONSOLE_PORTS
            raise DeviceError(f"{self.kind}: {len(given)} ports; it has 1 to {most}, the first for a console")
        if len(set(names)) < len(names):
            raise DeviceError(f"{self.kind}: two ports have the same name; rename one")
        self._handle = ffi.new_handle(self)
        super().__init__(lib.emu_virtio_console_new(max(numbered) + 1, lib.emu_py_console, self._handle))
        self.ports = numbered
        for number, port in numbered.items():
            port.join(self, number)

    def realize(self, context: Context) -> None:
        super().realize(context)
        for port in self.ports.values():
            context.serve(port.chardev)

    def close(self) -> None:
        super().close()
        for port in self.ports.values():
            port.chardev.close()

    def failed(self, error: BaseException) -> None:
        """What a host's end raised: the machine stops."""
        if self.context is not None:
            self.context.fail(error)

    def save_own(self) -> dict[int, list[Any]]:
        saved = {}
        for number, port in self.ports.items():
            state = port.state()
            fields = [int(getattr(state, field)) for field in FIELDS]
            saved[number] = [*fields, bytes(ffi.buffer(state.ring, state.count))]
        return saved

    def load_own(self, own: dict[int, list[Any]]) -> None:
        for number, (*fields, ring) in own.items():
            state = ffi.new("emu_virtio_console_port *")
            for field, value in zip(FIELDS, fields, strict=True):
                setattr(state, field, value)
            state.count = len(ring)
            ffi.buffer(state.ring)[: len(ring)] = ring
            lib.emu_virtio_console_set(self.pointer, number, state)


def open_ports(consoles: Iterable[Chardev | str], channels: Iterable[str]) -> VirtioConsole:
    """The device for `--console END` and `--channel NAME=END`.

    Raises DeviceError, or ChardevError for an end that cannot be had.
    """
    ports: list[Port] = []
    try:
        for end in consoles:
            ports.append(Port(open_chardev(end) if isinstance(end, str) else end, console=True))
        for words in channels:
            name, equals, end = words.partition("=")
            if not name or not equals:
                raise DeviceError(f"--channel {words}: give NAME=END, as org.qemu.guest_agent.0=pty")
            ports.append(Port(open_chardev(end), name=name))
        return VirtioConsole(ports)
    except BaseException:
        for port in ports:
            port.chardev.close()
        raise


def _keep(device: VirtioConsole, error: BaseException) -> None:
    device.failed(error)


@called_from_c(_keep, -1, ffi)
def emu_py_console(handle: Any, event: int, number: int, data: Any, size: int) -> int:
    device: VirtioConsole = ffi.from_handle(handle)
    chardev = device.ports[number].chardev
    if event == lib.EMU_VIRTIO_CONSOLE_ROOM:
        chardev.accept()
        return 0
    if event in (lib.EMU_VIRTIO_CONSOLE_OPENED, lib.EMU_VIRTIO_CONSOLE_CLOSED):
        device.ports[number].opening(event == lib.EMU_VIRTIO_CONSOLE_OPENED)
        return 0
    chardev.write(bytes(ffi.buffer(data, size)))
    return int(chardev.full)
