"""HMP: commands that do something."""

from __future__ import annotations

from typing import Any

from emu.monitor.dump import SIZES, Dump, character
from emu.monitor.hmp import Format, Hmp, HumanError, Rest, help_of, hmp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from accel.memory import AddressSpace


@hmp("help", "?")
def help(monitor: Hmp, command: Rest | None = None) -> str:
    """Tells what commands there are, or about one."""
    return help_of((command or "").strip())


@hmp("stop", "s")
def stop(monitor: Hmp) -> None:
    """Holds the machine."""
    monitor.run.stop()


@hmp("cont", "c")
def cont(monitor: Hmp) -> None:
    """Lets the machine run."""
    monitor.run.cont()


@hmp("system_reset")
def system_reset(monitor: Hmp) -> None:
    """Resets the machine."""
    monitor.run.reset()


@hmp("system_powerdown")
def system_powerdown(monitor: Hmp) -> None:
    """Presses the power button."""
    monitor.run.powerdown()


@hmp("switch")
def switch(monitor: Hmp, accel: str) -> str:
    """Moves the guest to another accelerator, kvm or tcg, where it goes on."""
    machine = monitor.run.machine
    machine.switch(accel)
    return f"the guest runs on {machine.accel_name}\n"


@hmp("gdbserver")
def gdbserver(monitor: Hmp, device: str = "tcp::1234") -> str:
    """Lets a debugger come in there (tcp::PORT, unix:PATH), and nowhere else any more; none: nowhere."""
    machine = monitor.run.machine
    was = machine.gdb_end()
    if device == "none":
        return "No debugger can come in any more\n" if was else "No debugger could come in\n"
    server = machine.gdb(device, monitor.client.control)
    lines = (f"A debugger may come to {server.place}", server.warning, server.lacks)
    return "".join(f"{line}\n" for line in lines if line)


@hmp("quit", "q")
def quit(monitor: Hmp) -> None:
    """Ends the machine and emu."""
    monitor.run.quit()


@hmp("cpu")
def cpu(monitor: Hmp, index: int) -> None:
    """Chooses the CPU whose registers the commands after it mean."""
    monitor.choose_cpu(index)


@hmp("print", "p")
def print_(monitor: Hmp, format: Format, value: int) -> str:
    """Shows the value of an expression, as 2*(3+$pc); fmt is one of x d u o c."""
    return f"{shown(value, format or 'x')}\n"


def shown(value: int, format: str) -> str:
    """A number of 64 bits in a format.  Raises HumanError."""
    signed = value - (1 << 64) if value >> 63 else value
    forms = {"x": f"{value:#x}", "d": f"{signed}", "u": f"{value}", "c": character(value & 0xFF)}
    forms["o"] = f"0{value:o}" if value else "0"
    if format not in forms:
        raise HumanError(f"/{format}: use one of x d u o c")
    return forms[format]


@hmp("device_add")
def device_add(monitor: Hmp, device: Rest) -> None:
    """Plugs in a device, as -device: device_add virtio-blk-pci,drive=disk,id=disk0,bus=port."""
    given = _options("device_add", device, "driver")
    monitor.client.execute("device_add", given)


@hmp("device_del")
def device_del(monitor: Hmp, id: str) -> None:
    """Asks the guest to let go of a device."""
    monitor.client.execute("device_del", {"id": id})


@hmp("netdev_add")
def netdev_add(monitor: Hmp, netdev: Rest) -> None:
    """Makes the host's end of a cable, as -netdev: netdev_add user,id=net0."""
    monitor.client.execute("netdev_add", _options("netdev_add", netdev, "type"))


@hmp("netdev_del")
def netdev_del(monitor: Hmp, id: str) -> None:
    """Removes the host's end of a cable."""
    monitor.client.execute("netdev_del", {"id": id})


@hmp("drive_add")
def drive_add(monitor: Hmp, pci_address: str, drive: Rest) -> str:
    """Opens an image for a disk to come, as -drive: drive_add 0 if=none,file=disk.qcow2,id=disk."""
    from contextlib import ExitStack

    from emu.system.blocks import Blocks
    from emu.system.process import Descriptors

    interface = _options("drive_add", drive, "").get("if", "none")
    if interface != "none":
        raise HumanError(f"drive_add: if={interface}: device_add plugs the disk in; use if=none")
    with ExitStack() as opened:
        blocks = Blocks(monitor.machine.inventory, Descriptors(), opened, snapshot=False)
        blocks.drive(drive.strip(), "-drive", interface="none")
        opened.pop_all()
    return "OK\n"


def _options(name: str, words: str, first: str) -> dict[str, str]:
    """An option's words as a command's arguments.  Raises DeviceError."""
    from emu.system.given import Given

    given = Given(name, words.strip(), first=first)
    return {key: values[-1] for key, values in given.values.items()}


@hmp("balloon")
def balloon(monitor: Hmp, value: int) -> None:
    """Asks the guest to leave so many MiB in use."""
    monitor.client.execute("balloon", {"value": value << 20 if value < 1 << 40 else value})


@hmp("nmi")
def nmi(monitor: Hmp) -> None:
    """Interrupts every CPU, whatever it has masked."""
    monitor.client.execute("inject-nmi", {})


@hmp("set_link")
def set_link(monitor: Hmp, name: str, state: str) -> None:
    """Plugs in (on) or pulls (off) a network card's cable."""
    monitor.client.execute("set_link", {"name": name, "up": on_or_off(state)})


@hmp("block_resize")
def block_resize(monitor: Hmp, device: str, size: int) -> None:
    """Gives a disk another size, in MiB."""
    arguments = {"device": device, "size": min(size << 20, (1 << 63) - 1)}
    monitor.client.execute("block_resize", arguments)


@hmp("snapshot_blkdev")
def snapshot_blkdev(monitor: Hmp, device: str, snapshot_file: str) -> None:
    """Keeps a disk as it is; its guest's writes go into a new image from now on."""
    arguments = {"device": device, "snapshot-file": snapshot_file}
    monitor.client.execute("blockdev-snapshot-sync", arguments)


@hmp("eject")
def eject(monitor: Hmp, device: str) -> None:
    """Takes the medium out of a drive."""
    monitor.client.execute("eject", {"device": device})


@hmp("pmemsave")
def pmemsave(monitor: Hmp, address: int, size: int, file: str) -> Any:
    """Writes memory at a physical address into a file."""
    return monitor.client.execute("pmemsave", {"val": address, "size": size, "filename": file})


@hmp("memsave")
def memsave(monitor: Hmp, address: int, size: int, file: str) -> Any:
    """Writes memory at a virtual address into a file."""
    arguments = {"val": address, "size": size, "filename": file, "cpu-index": monitor.cpu}
    return monitor.client.execute("memsave", arguments)


@hmp("x")
def x(monitor: Hmp, format: Format, address: int) -> str:
    """Shows memory at a virtual address; fmt is a count, one of x d u o c i, and a size b h w g."""
    dump = Dump(monitor, format, physical=False)
    return dump.text(address)


@hmp("xp")
def xp(monitor: Hmp, format: Format, address: int) -> str:
    """Shows memory at a physical address; fmt is as for x."""
    dump = Dump(monitor, format, physical=True)
    return dump.text(address)


def port_width(format: str) -> int:
    """The width that the format of `i` and `o` asks for.  Raises HumanError."""
    if format not in ("", *SIZES):
        raise HumanError(f"/{format}: a port has a size: b, h or w")
    width = SIZES[format or "b"]
    if width > 4:
        raise HumanError("a port has at most 4 bytes; use b, h or w")
    return width


def port_space(monitor: Hmp) -> AddressSpace:
    """The ports of the machine.  Raises HumanError."""
    ports = monitor.machine.ports
    if ports is None:
        raise HumanError("this machine has no I/O ports; its devices are in memory (info mtree)")
    return ports.space


@hmp("i")
def i(monitor: Hmp, format: Format, port: int) -> str:
    """Reads an I/O port; fmt is a size, b, h or w.  The device sees it."""
    width, port = port_width(format), port & 0xFFFF
    value = port_space(monitor).read(port, width)
    letter = {1: "b", 2: "w", 4: "l"}[width]
    return f"port{letter}[{port:#06x}] = {value:#0{2 * width + 2}x}\n"


@hmp("o")
def o(monitor: Hmp, format: Format, port: int, value: int) -> None:
    """Writes an I/O port; fmt is a size, b, h or w."""
    width = port_width(format)
    port_space(monitor).write(port & 0xFFFF, width, value & (1 << 8 * width) - 1)


@hmp("log")
def log(monitor: Hmp, items: Rest) -> str | None:
    """Chooses what is logged: there is nothing to choose but none."""
    if items.strip() == "none":
        return None
    return "Log items (comma separated):\nnone\n"


def on_or_off(word: str) -> bool:
    """Raises HumanError."""
    if word not in ("on", "off"):
        raise HumanError(f"{word}: use on or off")
    return word == "on"
