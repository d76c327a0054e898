"""Linux is saved amid requests to its virtio devices, and they go on in another machine."""

from __future__ import annotations

import time

import pytest

import emu.block
from emu.machine import Machine
from emu.virtio.balloon import VirtioBalloon
from emu.virtio.blk import VirtioBlk
from emu.virtio.rng import VirtioRng
from tests.emu.linux_guest import Screen, image, initrd

MODULES = ("virtio_mmio", "virtio_pci", "virtio_blk", "virtio_rng", "virtio_balloon")
# Writes a sector, takes random bytes, and reads the sector back, again and again.
SCRIPT = """
n=0
while :; do
    n=$((n+1))
    echo $n | dd of=/dev/vda bs=512 seek=$n conv=sync,fsync 2>/dev/null
    r=$(dd if=/dev/hwrng bs=16 count=1 2>/dev/null | wc -c)
    echo n=$n=$(dd if=/dev/vda bs=512 skip=$n count=1 2>/dev/null | head -n 1)=$r=
done
"""


@pytest.mark.parametrize("board", ["virt", "virt,virtio=pci,gic-version=3"])
def test_requests_that_were_under_way_are_done_where_it_goes_on(board, tmp_path):
    disk = tmp_path / "disk"
    emu.block.create(disk, 64 << 20, format="raw")
    kernel, ram = image("arm64"), initrd(SCRIPT, MODULES, "arm64")

    def made(screen):
        devices = [VirtioBlk(emu.block.open(disk, format="raw")), VirtioRng(), VirtioBalloon()]
        return Machine(
            board,
            arch="aarch64",
            accel="tcg",
            ram=256 << 20,
            kernel=kernel,
            initrd=ram,
            append="console=ttyAMA0 quiet",
            serial=screen,
            virtio=devices,
        )

    first, second = Screen(), Screen()
    with made(first) as machine:
        assert machine.run(timeout=200, until=lambda: "n=5=" in first.text).reason == "until", first.text
        machine.start()
        time.sleep(0.05)
        machine.save(tmp_path / "saved")
        machine.pause()
    with made(second) as machine:
        machine.load(tmp_path / "saved")
        result = machine.run(timeout=200, until=lambda: second.text.count("\nn=") > 20)
        assert result.reason == "until", second.text
    lines = [line.split("=") for line in second.text.split("\n")[1:-1]]
    assert all(line[1] == line[2] and line[3] == "16" for line in lines), second.text
    numbers = [int(line[1]) for line in lines]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
