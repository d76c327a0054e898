"""What `x` and `xp` show: memory as numbers, characters or instructions, in lines as QEMU's."""

from __future__ import annotations

import re

from emu.monitor.guest_memory import physical, virtual
from emu.monitor.hmp import Hmp, HumanError

SIZES = {"b": 1, "h": 2, "w": 4, "g": 8}
FORMATS = "xduoci"
MOST = 1 << 16
# What a format of x86's longest instructions is read with.
LONGEST = 15


class Dump:
    """A count, a format and a size; what is not given is 1, x and w."""

    def __init__(self, monitor: Hmp, format: str, *, physical: bool) -> None:
        matched = re.fullmatch(r"([0-9]*)([a-z]*)", format)
        letters = matched[2] if matched else ""
        formats = [each for each in letters if each in FORMATS]
        sizes = [each for each in letters if each in SIZES]
        if matched is None or len(formats) > 1 or len(sizes) > 1 or len(formats) + len(sizes) != len(letters):
            raise HumanError(f"/{format}: use a count, one of x d u o c i, and a size b h w g, as /4xw")
        self.count = int(matched[1] or 1) if len(matched[1]) < 9 else MOST + 1
        if self.count > MOST:
            raise HumanError(f"/{format}: at most {MOST} are shown at a time")
        self.format = formats[0] if formats else "x"
        self.size = 1 if self.format == "c" else SIZES[sizes[0] if sizes else "w"]
        self.monitor = monitor
        self.physical = physical

    def text(self, address: int) -> str:
        """The lines."""
        with self.monitor.run.held():
            if self.format == "i":
                return self._instructions(address)
            data = self._read(address, self.count * self.size)
        across = (8 if self.size == 1 else 16) // self.size
        lines = []
        for start in range(0, self.count, across):
            cells = [
                self._cell(int.from_bytes(data[at * self.size : (at + 1) * self.size], "little"))
                for at in range(start, min(start + across, self.count))
            ]
            lines.append(f"{self._address(address + start * self.size)}:{''.join(cells)}\n")
        return "".join(lines)

    def _address(self, address: int) -> str:
        digits = 16 if self.physical else self.monitor.machine.accel.arch.bits // 4
        return f"{address & (1 << 4 * digits) - 1:0{digits}x}"

    def _cell(self, value: int) -> str:
        bits = 8 * self.size
        if self.format == "x":
            return f" 0x{value:0{bits // 4}x}"
        if self.format == "o":
            return f" {f'0{value:o}' if value else '0':>{-(-bits // 3)}}"
        if self.format == "c":
            return f" {character(value)}"
        if self.format == "d" and value >> 63:  # as QEMU, which gives only the widest a sign
            value -= 1 << 64
        return f" {value:{-(-bits * 10 // 33)}d}"

    def _read(self, address: int, size: int) -> bytes:
        monitor = self.monitor
        if self.physical:
            return physical(monitor.machine, address, size)
        return virtual(monitor.machine, monitor.machine.cpus[monitor.cpu].vcpu, address, size)

    def _instructions(self, address: int) -> str:
        from emu.report import CpuView

        machine = self.monitor.machine
        view = CpuView(machine.cpus[self.monitor.cpu].vcpu, machine.accel.arch, machine.memory)
        decoder, step = view.decoder()
        length = self.count * (LONGEST if step == 1 else 4)
        data = machine.memory.peek(address, length) if self.physical else view.peek(address, length)
        if not data:
            raise HumanError(f"there is no memory at {address:#x}")
        listing = view.listing(decoder, data, address, self.count, "")
        return "".join(f"{line.lstrip()}\n" for line in listing)


def character(value: int) -> str:
    """A byte as C writes it."""
    plain = {10: "\\n", 13: "\\r", 39: "\\'", 92: "\\\\"}
    if value in plain:
        return f"'{plain[value]}'"
    return f"'{chr(value)}'" if 32 <= value < 127 else f"'\\x{value:02x}'"
