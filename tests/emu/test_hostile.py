"""A guest that writes anything anywhere takes nothing down: every device of every board, random accesses.

EMU_FUZZ_CASES in the environment sets how many accesses each device gets; the seed is in a failure's text.
Devices in C have tests of their own under sanitizers (tests/native/test_hostile_devices.py).
"""

from __future__ import annotations

import contextlib
import os
import random
import struct

import pytest

import emu.block
from accel.errors import MapError
from emu import Machine
from emu.board import open_board
from emu.devices.fw_cfg import FwCfgMmio
from emu.net.sockets import pair
from emu.virtio.balloon import VirtioBalloon
from emu.virtio.blk import VirtioBlk
from emu.virtio.net import VirtioNet
from emu.virtio.p9 import open_share
from emu.virtio.rng import VirtioRng

ARM64_OFF = "00018052 0080b072 020000d4 00000014"  # PSCI's SYSTEM_OFF by HVC
# Each board with firmware that ends the machine at once, and how it does.
BOARDS = {
    "virt": ("virt", "aarch64", ARM64_OFF, "guest-shutdown"),
    "virt with a GICv3": ("virt,gic-version=3", "aarch64", ARM64_OFF, "guest-shutdown"),
    "virt with PCI": ("virt,virtio=pci", "aarch64", ARM64_OFF, "guest-shutdown"),
    "arm": ("virt", "arm", "080000e3 000448e3 700040e1 feffffea", "guest-shutdown"),
    "riscv64": ("virt", "riscv64", "b7560000 93865655 37071000 2320d700 6f000000", "guest-shutdown"),
    "microvm": ("microvm", "x86_64", "baf90c b006 ee f4", "guest-reset"),
    "pc": ("pc", "x86_64", "baf90c b006 ee f4", "guest-reset"),
}
# Where the functions of the PCI bus are put: above the window's start, a MiB each.
PCI_ECAM, PCI_WINDOW = 0x3F00_0000, 0x1000_0000
CONFIG_ADDRESS, CONFIG_DATA = 0xCF8, 0xCFC


@pytest.fixture
def devices(tmp_path):
    """All kinds of virtio devices, and a check that the host's files are as they were."""
    (tmp_path / "share").mkdir()
    (tmp_path / "beside").write_text("as it was")
    emu.block.create(tmp_path / "disk", 1 << 20)
    with contextlib.ExitStack() as opened:
        ends = pair()
        opened.callback(ends[1].close)
        made = [
            VirtioBlk(emu.block.open(tmp_path / "disk")),
            VirtioNet(ends[0]),
            open_share(f"{tmp_path / 'share'}", 0),
            VirtioRng(),
            VirtioBalloon(),
        ]
        for device in made:
            opened.callback(device.close)
        yield made
    assert (tmp_path / "beside").read_text() == "as it was"


def firmware(path, board: str, code: str):
    """A file whose code runs at power-on; a PC's starts 16 bytes below the end of its ROM."""
    words = bytes.fromhex(code)
    path.write_bytes(words if board not in ("microvm", "pc") else words.ljust(16).rjust(65536, b"\xf4"))
    return str(path)


def put_bars(machine: Machine, rng: random.Random) -> list[tuple[int, int]]:
    """Gives every function's BARs addresses and turns them on; a list of where they are."""
    places = []
    for slot in range(8):
        if config(machine, slot, 0, 2) == 0xFFFF:
            continue
        for bar in range(6):
            base = PCI_WINDOW + (slot * 6 + bar) * 0x10_0000
            config(machine, slot, 0x10 + 4 * bar, 4, base if bar % 2 == 0 or rng.random() < 0.5 else 0)
            places.append((base, 0x4000))
        config(machine, slot, 4, 2, 6)
        if machine.ports is None:
            places.append((PCI_ECAM + (slot << 15), 0x100))
    return places


def config(machine: Machine, slot: int, at: int, width: int, value: int | None = None) -> int | None:
    """An access to configuration space, by ports or by memory; of a value it is a write."""
    space, place = machine.memory, PCI_ECAM + (slot << 15) + at
    if machine.ports is not None:
        space, place = machine.ports.space, CONFIG_DATA + at % 4
        space.write(CONFIG_ADDRESS, 4, 1 << 31 | slot << 11 | at & 0xFC)
    return space.read(place, width) if value is None else space.write(place, width, value)


@pytest.mark.parametrize("kind", BOARDS)
def test_no_access_to_a_device_raises(kind, devices, tmp_path):
    name, arch, code, ending = BOARDS[kind]
    cases = int(os.environ.get("EMU_FUZZ_CASES", "4000"))
    seed = random.randrange(1 << 32)
    rng = random.Random(seed)
    board = open_board(name, arch)
    with Machine(
        board,
        arch=arch,
        accel="tcg",
        virtio=devices if board.virtio is not None or board.virtio_by_pci else [],
        firmware=firmware(tmp_path / "firmware", name, code),
    ) as machine:
        machine.start()
        machine.pause()
        places = [
            (bus.space, attachment.base, attachment.device.size)
            for bus in (machine.bus, machine.ports)
            if bus is not None
            for attachment in bus.attached.values()
        ]
        if board.virtio_by_pci:
            places += [(machine.memory, *place) for place in put_bars(machine, rng)]
        try:
            for space, base, size in places:
                hammer(machine, space, base, size, rng, cases)
            # The machine's own work goes on: a turn of the loop, and a snapshot of every device.
            machine.loop.step(0)
            for device in machine.devices():
                device.load(device.save())
            machine.reset()
            result = machine.run(timeout=60)
        except Exception as error:
            raise AssertionError(f"seed {seed}") from error
        assert result.reason == ending, f"seed {seed}: {result}"


def hammer(machine, space, base, size, rng, cases):
    for _ in range(cases):
        reach = size if rng.random() < 0.2 else min(size, 0x50)
        width = rng.choice((1, 2, 4, 8))
        address = base + rng.randrange(reach)
        if rng.random() < 0.4:
            assert 0 <= space.read(address, width) < 1 << 8 * width
        else:
            value = rng.choice((0, (1 << 8 * width) - 1, rng.getrandbits(8 * width), rng.getrandbits(8)))
            space.write(address, width, value)
        if rng.random() < 0.002:
            later = machine.clock.now() + rng.choice((1_000, 1_000_000, 10**9, 10**18))
            machine.clock.restore(min(later, 1 << 62))
            machine.clock.due()
            machine.loop.step(0)


def test_fw_cfg_dma_reaches_ram_alone(bench):
    seed, cases = random.randrange(1 << 32), int(os.environ.get("EMU_FUZZ_CASES", "20000"))
    rng = random.Random(seed)
    ram, rom, top = 0x10_0000, 0x12_0000, 0xFFFF_F000
    bench.space.add_ram("ram", ram, 0x2_0000)
    bench.space.add_ram("rom", rom, 0x1000, readonly=True)
    bench.space.add_ram("top", top, 0x1000)
    bench.space.load(rom, b"r" * 0x1000)
    device = bench.attach(FwCfgMmio(), irq=False)
    device.add_file("etc/file", b"f" * 5000)

    def address() -> int:
        base = rng.choice((ram, ram + 0x1_FFF0, rom - 0x10, rom, top, top + 0xFF0, 0, rng.getrandbits(64)))
        return (base + rng.randrange(0x40)) % (1 << 64)

    for _ in range(cases):
        control = (
            rng.choice((2, 8 | 2, 8, 4, 8 | 4, 0x10, rng.getrandbits(32))) | rng.choice((0, 0x19, 0x20)) << 16
        )
        length = rng.choice((0, 1, 16, 4096, 0x2_0000, 0xFFFF_FFFF, rng.getrandbits(32)))
        at = address()
        try:
            bench.space.store(at, struct.pack(">IIQ", control, length, address()))
        except MapError:
            pass
        whole = int.from_bytes(at.to_bytes(8, "big"), "little")
        if rng.random() < 0.5:
            bench.write(16, whole, 8)
        else:
            bench.write(16, whole & 0xFFFF_FFFF, 4)
            bench.write(20, whole >> 32, 4)
        assert bench.space.peek(rom, 0x1000) == b"r" * 0x1000, seed
