"""Console (virtio 1.2, section 5.3): a guest's hvc0, and ports that it finds by name.

    VirtioConsole([Port(open_chardev("pty"), console=True)])
    VirtioConsole([Port(open_chardev("unix:/tmp/agent,server"), name="org.qemu.guest_agent.0")])

Linux has a port's device at /dev/virtio-ports/NAME.  Ports come and go (add, remove) while the guest runs.
Bytes are moved by native/virtio_console.c.
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

    name: what the guest finds it by; number: the one that it is to have, -1 for any; opening: called when the
    guest has opened it (True) or closed it, in the device's thread.
    """

    def __init__(self, chardev: Chardev, *, name: str = "", console: bool = False, number: int = -1) -> None:
        given = name.encode()
        if len(given) > lib.EMU_VIRTIO_CONSOLE_NAME or b"\0" in given or b"/" in given:
            most = lib.EMU_VIRTIO_CONSOLE_NAME
            raise DeviceError(f"port {name!r}: a name has at most {most} bytes and no /; choose another")
        self.chardev = chardev
        self.name = name
        self.console = console
        self.number = number
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
        self.chardev.accept()  # so that it is told when the guest has opened the port

    def leave(self) -> None:
        """Ends what join() began; the host's end stays open, for another device."""
        device, self._device = self._device, None
        if device is not None and device.pointer is not None:
            lib.emu_virtio_console_remove(device.pointer, self.number)
        self.chardev.front = None
        self.chardev.changed = lambda: None

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

    The first console is port 0; what is no console begins at 1, since old drivers take 0 for theirs.  most:
    how many there may be in time, 0 for those that are given.
    """

    kind = "virtio-console"

    def __init__(self, ports: Iterable[Port] = (), *, most: int = 0) -> None:
        given = list(ports)
        self.ports: dict[int, Port] = {}
        self.most = most or lib.EMU_VIRTIO_CONSOLE_PORTS
        if not given and not most:
            raise DeviceError(f"{self.kind}: it has no ports; give some, or how many there may be (most)")
        if not 0 < self.most <= lib.EMU_VIRTIO_CONSOLE_PORTS:
            limit = lib.EMU_VIRTIO_CONSOLE_PORTS
            raise DeviceError(f"{self.kind}: {most} ports; it has 1 to {limit}")
        # Those that want a number get it.
        for port in sorted(given, key=lambda one: one.number < 0):
            self._number(port)
        if not most:
            self.most = max(self.ports) + 1
        self._handle = ffi.new_handle(self)
        super().__init__(lib.emu_virtio_console_new(self.most, lib.emu_py_console, self._handle))
        for number, port in self.ports.items():
            port.join(self, number)

    def _number(self, port: Port) -> int:
        """Enters a port, by the number that it wants or the first that is free.  Raises DeviceError."""
        number = port.number
        if port.name and any(port.name == other.name for other in self.ports.values()):
            raise DeviceError(f"{self.kind}: two ports have the same name {port.name!r}; rename one")
        if number < 0:
            first = 0 if port.console and 0 not in self.ports else 1
            number = next(n for n in range(first, self.most + 1) if n not in self.ports)
        if number in self.ports:
            raise DeviceError(f"{self.kind}: port {number} is there already; choose another number")
        if number >= self.most:
            raise DeviceError(
                f"{self.kind}: port {number}: it has {self.most}, from 0 on, the first for a console"
            )
        if number == 0 and not port.console:
            raise DeviceError(f"{self.kind}: port 0 is for a console; choose another number")
        self.ports[number] = port
        return number

    def add(self, port: Port) -> None:
        """Adds a port while the guest runs, or before; its number is port.number then.  Raises DeviceError.

        In the loop's thread, or while nobody serves the machine.
        """
        number = self._number(port)
        try:
            port.join(self, number)
        except BaseException:
            del self.ports[number]
            raise
        if self.context is not None:
            self.context.serve(port.chardev)

    def remove(self, port: Port) -> None:
        """Takes a port away, as add() adds one; its chardev is the caller's again.  Raises DeviceError."""
        if self.ports.get(port.number) is not port:
            raise DeviceError(f"{self.kind}: {port} is none of its ports")
        port.leave()
        del self.ports[port.number]

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

    def save_own(self) -> list[Any]:
        saved = []
        for number in range(self.most):
            state = self._state(number)
            if number in self.ports or state.owed:
                fields = [int(getattr(state, field)) for field in FIELDS]
                saved.append([number, *fields, bytes(ffi.buffer(state.ring, state.count))])
        return [lib.emu_virtio_console_heard(self.pointer, -1), sorted(self.ports), saved]

    def load_own(self, own: list[Any]) -> None:
        heard, ports, saved = own
        if ports != sorted(self.ports):
            theirs, ours = (", ".join(map(str, numbers)) or "none" for numbers in (ports, sorted(self.ports)))
            raise DeviceError(
                f"{self.kind}: the saved device had the ports {theirs}, and this one has {ours}; add, or"
                " remove, the same first"
            )
        lib.emu_virtio_console_heard(self.pointer, bool(heard))
        for number, *fields, ring in saved:
            if not 0 <= number < self.most:
                raise DeviceError(f"{self.kind}: there is no port {number!r}; the saved state is damaged")
            state = ffi.new("emu_virtio_console_port *")
            for field, value in zip(FIELDS, fields, strict=True):
                setattr(state, field, value)
            state.count = len(ring)
            ffi.buffer(state.ring)[: len(ring)] = ring
            lib.emu_virtio_console_set(self.pointer, number, state)

    def _state(self, number: int) -> Any:
        state = ffi.new("emu_virtio_console_port *")
        lib.emu_virtio_console_get(self.pointer, number, state)
        return state


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
    port = device.ports[number]
    chardev = port.chardev
    if event == lib.EMU_VIRTIO_CONSOLE_ROOM:
        chardev.accept()
        return 0
    if event in (lib.EMU_VIRTIO_CONSOLE_OPENED, lib.EMU_VIRTIO_CONSOLE_CLOSED):
        port.opening(event == lib.EMU_VIRTIO_CONSOLE_OPENED)
        return 0
    chardev.write(bytes(ffi.buffer(data, size)))
    return int(chardev.full)
