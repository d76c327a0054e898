"""A guest that writes anything anywhere takes nothing down: every device of every board, random accesses."""

import random

import pytest

from emu import Machine

BOARDS = [("virt", "aarch64"), ("virt", "arm"), ("virt", "riscv64"), ("microvm", "x86_64")]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("board", "arch"), BOARDS)
def test_no_access_to_a_device_raises(board, arch, seed):
    rng = random.Random(seed)
    with Machine(board, arch=arch, accel="tcg") as machine:
        machine.start()
        machine.pause()
        places = [
            (bus.space, attachment.base, attachment.device.size)
            for bus in (machine.bus, machine.ports)
            if bus is not None
            for attachment in bus.attached.values()
        ]
        for _ in range(6000):
            space, base, size = rng.choice(places)
            reach = size if rng.random() < 0.2 else min(size, 0x50)
            width = rng.choice((1, 2, 4, 8))
            address = base + rng.randrange(reach)
            if rng.random() < 0.4:
                assert 0 <= space.read(address, width) < 1 << 8 * width
            else:
                value = rng.choice((0, (1 << 8 * width) - 1, rng.getrandbits(8 * width), rng.getrandbits(8)))
                space.write(address, width, value)
            if rng.random() < 0.02:
                machine.clock.restore(machine.clock.now() + rng.choice((1_000, 1_000_000, 10**9, 10**18)))
                machine.clock.due()
        # The machine's own work goes on: a turn of the loop, and a snapshot of every device.
        machine.loop.step(0)
        for device in machine.devices():
            device.load(device.save())
