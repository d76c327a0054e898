"""Debian's U-Boot for four instruction sets comes to its prompt over bare serial ports and empty devices.

Real firmware as the input: relocation, caches and translation tables, exception vectors, firmware calls.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from pathlib import Path

import pytest

from accel.api import Exit, ExitKind, open_accelerator
from accel.memory import AddressSpace
from isa.arch import find

FOLDER = Path("/usr/lib/u-boot")
RAM = 64 << 20
# by ISA: where RAM and the serial port are
TREE = {"arm": (0x4000_0000, 0x0900_0000), "riscv64": (0x8000_0000, 0x1000_0000)}


class Serial:
    """What both kinds of port share: text typed ahead, output, a kick when the awaited came."""

    def __init__(self, typed: bytes, until: bytes) -> None:
        self.typed = deque(typed)
        self.output = bytearray()
        self.until = until
        self.vcpu = None

    def get(self) -> int:
        return self.typed.popleft() if self.typed else 0

    def put(self, value: int) -> None:
        self.output.append(value & 0xFF)
        if self.output.endswith(self.until) and self.vcpu is not None:
            self.vcpu.kick()


def pl011(region, serial: Serial) -> None:
    """Data at 0; flags at 0x18: bit 4, nothing received."""

    def read(offset: int, width: int) -> int:
        if offset == 0:
            return serial.get()
        return (0x80 if serial.typed else 0x90) if offset == 0x18 else 0

    region.ops(read, lambda offset, width, value: serial.put(value) if offset == 0 else None)


def uart16550(region, serial: Serial) -> None:
    """Data at 0; line status at 5: bit 0 received, bits 5 and 6 sent."""

    def read(offset: int, width: int) -> int:
        if offset == 0:
            return serial.get()
        return 0x60 | bool(serial.typed) if offset == 5 else 0

    region.ops(read, lambda offset, width, value: serial.put(value) if offset == 0 else None)


def tree(isa: str) -> bytes:
    """A flattened device tree (Devicetree specification, chapter 5) of RAM, serial port, PSCI or CPU."""
    ram, serial = TREE["riscv64" if isa == "riscv64" else "arm"]
    strings = bytearray()
    structure = bytearray()

    def word(*values: int) -> bytes:
        return b"".join(value.to_bytes(4, "big") for value in values)

    def begin(name: str) -> None:
        structure.extend(word(1) + name.encode() + bytes(4 - len(name) % 4))

    def prop(name: str, data: bytes) -> None:
        offset = strings.find(name.encode() + b"\0")
        if offset < 0:
            offset = len(strings)
            strings.extend(name.encode() + b"\0")
        structure.extend(word(3, len(data), offset) + data + bytes(-len(data) % 4))

    def end() -> None:
        structure.extend(word(2))

    def cells(*values: int) -> bytes:
        return b"".join(value.to_bytes(8, "big") for value in values)

    begin("")
    prop("#address-cells", word(2))
    prop("#size-cells", word(2))
    prop("compatible", b"linux,dummy-virt\0")
    begin("chosen")
    prop("stdout-path", f"/serial@{serial:x}\0".encode())
    end()
    begin(f"memory@{ram:x}")
    prop("device_type", b"memory\0")
    prop("reg", cells(ram, RAM))
    end()
    if isa == "riscv64":
        begin("cpus")
        prop("#address-cells", word(1))
        prop("#size-cells", word(0))
        prop("timebase-frequency", word(10_000_000))
        begin("cpu@0")
        prop("device_type", b"cpu\0")
        prop("compatible", b"riscv\0")
        prop("reg", word(0))
        prop("riscv,isa", b"rv64imafdc\0")
        prop("mmu-type", b"riscv,sv39\0")
        begin("interrupt-controller")
        prop("#interrupt-cells", word(1))
        prop("interrupt-controller", b"")
        prop("compatible", b"riscv,cpu-intc\0")
        prop("phandle", word(1))
        end()
        end()
        end()
        begin("soc")
        prop("#address-cells", word(2))
        prop("#size-cells", word(2))
        prop("compatible", b"simple-bus\0")
        prop("ranges", b"")
        begin("clint@2000000")
        prop("compatible", b"sifive,clint0\0riscv,clint0\0")
        prop("reg", cells(0x200_0000, 0x1_0000))
        prop("interrupts-extended", word(1, 3, 1, 7))
        end()
        end()
        begin(f"serial@{serial:x}")
        prop("compatible", b"ns16550a\0")
        prop("reg", cells(serial, 0x100))
        prop("clock-frequency", word(3_686_400))
        end()
    else:
        begin("psci")
        prop("compatible", b"arm,psci-1.0\0arm,psci-0.2\0")
        prop("method", b"hvc\0")
        end()
        begin("apb-pclk")
        prop("compatible", b"fixed-clock\0")
        prop("#clock-cells", word(0))
        prop("clock-frequency", word(24_000_000))
        prop("phandle", word(1))
        end()
        begin(f"serial@{serial:x}")
        prop("compatible", b"arm,pl011\0arm,primecell\0")
        prop("reg", cells(serial, 0x1000))
        prop("clocks", word(1, 1))
        prop("clock-names", b"uartclk\0apb_pclk\0")
        end()
    end()
    structure.extend(word(9))
    reserved = bytes(16)
    at = 40 + len(reserved)
    total = at + len(structure) + len(strings)
    header = word(0xD00D_FEED, total, at, at + len(structure), 40, 17, 16, 0, len(strings), len(structure))
    return header + reserved + bytes(structure) + bytes(strings)


def firmware(name: str, file: str = "u-boot.bin") -> bytes:
    path = FOLDER / name / file
    if not path.exists():
        pytest.skip(f"{path} is not installed (apt install u-boot-qemu)")
    return path.read_bytes()


def drive(isa: str, memory: AddressSpace, serial: Serial, ports=None, registers=None, **options) -> Exit:
    """Runs until the text came or the machine ended, for 60 seconds at most."""
    accelerator = open_accelerator("tcg", find(isa), memory, ports, **options)
    try:
        serial.vcpu = vcpu = accelerator.vcpu(0)
        vcpu.set(**(registers or {}))
        watchdog = threading.Timer(60, vcpu.kick)
        watchdog.start()
        exit_ = vcpu.run()
        watchdog.cancel()
        return exit_
    finally:
        accelerator.close()
        memory.close()


@pytest.mark.parametrize(
    ("isa", "options"),
    [("aarch64", {}), ("aarch64", {"path": "public"}), ("aarch64", {"level": 2}), ("arm", {})],
    ids=["aarch64", "aarch64-public", "aarch64-EL2", "arm"],
)
def test_u_boot_for_arm_answers_and_powers_off(isa, options):
    image = firmware("qemu_arm64" if isa == "aarch64" else "qemu_arm")
    memory = AddressSpace()
    memory.add_ram("flash", 0, 64 << 20, readonly=True).buffer[0 : len(image)] = image
    memory.add_io("flash1", 64 << 20, 64 << 20)
    memory.add_ram("ram", 0x4000_0000, RAM)
    memory.load(0x4000_0000, tree(isa))
    ends = "level" not in options  # HVC is not the firmware's at EL2
    serial = Serial(b"\nversion\npoweroff\n" if ends else b"\nversion\n", b"\0" if ends else b"GNU ld ")
    pl011(memory.add_io("uart", 0x0900_0000, 0x1000), serial)
    exit_ = drive(isa, memory, serial, **options)
    assert exit_.kind == (ExitKind.SHUTDOWN if ends else ExitKind.KICKED), exit_
    assert b"=> version" in serial.output
    assert serial.output.count(b"U-Boot 20") == 2


def test_u_boot_for_riscv_answers():
    image = firmware("qemu-riscv64")
    memory = AddressSpace()
    memory.add_ram("ram", 0x8000_0000, RAM)
    memory.load(0x8000_0000, image)
    blob = 0x8000_0000 + RAM - (1 << 20)
    memory.load(blob, tree("riscv64"))
    serial = Serial(b"\nversion\n", b"GNU ld ")
    uart16550(memory.add_io("uart", 0x1000_0000, 0x100), serial)
    clint = memory.add_io("clint", 0x200_0000, 0x1_0000)
    clint.ops(lambda offset, width: time.monotonic_ns() // 100 if offset == 0xBFF8 else 0, None)
    registers = {"pc": 0x8000_0000, "a0": 0, "a1": blob}
    assert drive("riscv64", memory, serial, registers=registers).kind == ExitKind.KICKED
    assert serial.output.count(b"U-Boot 20") == 2


@pytest.mark.parametrize("name", ["qemu-x86", "qemu-x86_64"])
def test_u_boot_for_x86_comes_from_the_reset_vector_to_its_prompt(name):
    image = firmware(name, "u-boot.rom")
    memory, ports = AddressSpace(), AddressSpace("ports", 1 << 16)
    memory.add_ram("ram", 0, RAM)
    memory.add_ram("rom", (1 << 32) - len(image), len(image), readonly=True).buffer[:] = image
    low = memory.add_ram("shadow", 0xE_0000, 0x2_0000, priority=1)
    low.buffer[:] = image[-0x2_0000:]
    serial = Serial(b"\nversion\n", b"GNU ld ")
    uart16550(ports.add_io("uart", 0x3F8, 8), serial)
    chosen = [0]
    clock = ports.add_io("cmos", 0x70, 2)
    values = {0x35: 0x03, 0x0A: 0x26, 0x0B: 2, 0x0D: 0x80}  # 16 MiB and 3 << 24 bytes of RAM; time is valid
    clock.ops(
        lambda offset, width: values.get(chosen[0] & 0x7F, 0) if offset else 0,
        lambda offset, width, value: chosen.__setitem__(0, value) if offset == 0 else None,
    )
    turn = [0]

    def counter(offset: int, width: int) -> int:
        """The PIT's counter 2, low byte then high, at 1.193182 MHz."""
        turn[0] ^= 1
        left = 0xFFFF - time.monotonic_ns() * 1193182 // 10**9 % 0x1_0000
        return left & 0xFF if turn[0] else left >> 8

    ports.add_io("pit", 0x40, 4).ops(counter, None)
    gate = [0]

    def status(offset: int, width: int) -> int:
        gate[0] ^= 0x10
        return gate[0] | 0x20

    ports.add_io("port61", 0x61, 1).ops(status, None)
    exit_ = drive("x86_64", memory, serial, ports)
    ports.close()
    assert exit_.kind == ExitKind.KICKED, exit_
    assert serial.output.count(b"U-Boot 20") == 2
