"""Machines are forked while they run: each copy goes its own way, and none sees what another one writes."""

from __future__ import annotations

import random
import shutil
import struct

import pytest

import emu.block
from accel.errors import DeviceError, MapError
from accel.memory import AddressSpace
from emu.machine import Machine
from emu.snapshot.errors import SnapshotError
from emu.virtio.balloon import VirtioBalloon
from emu.virtio.blk import VirtioBlk
from emu.virtio.rng import VirtioRng
from tests.conftest import usable
from tests.emu.linux_guest import Screen, image, initrd
from tests.emu.test_snapshot import ALIKE, cells, picture, run
from tests.emu.test_snapshot_linux import MODULES, SCRIPT
from tests.emu.test_switch import CONTROLLERS, INPUT, NAMES, WIRE, Wire, counts, guest, run_until_all_go_on

SIZE = 1 << 20


@pytest.fixture
def counting():
    """A machine that has counted to some number, and some of whose memory is in use."""
    with Machine("virt", **ALIKE) as machine:
        while cells(machine)[0] < 1000:
            machine.run(timeout=0.02)
        machine.memory.load(0x4080_0000, random.Random(1).randbytes(5000))
        yield machine


@pytest.mark.parametrize("accel", ["tcg", *CONTROLLERS])
@pytest.mark.parametrize("board", ["microvm", "pc"])
def test_a_guest_that_checks_itself_goes_on_in_every_copy(accel, board):
    """Forked at random points, from the first machine or from a copy, and both go on."""
    if accel != "tcg":
        usable("kvm")
    controllers = "kernel" if accel == "kernel" else "board"
    draw = random.Random(11)
    begun = {
        "accel": CONTROLLERS.get(accel, accel),
        "kernel": guest(controllers),
        "devices": [(Wire(), WIRE, INPUT)],
    }
    with Machine(board, **begun) as machine:
        run_until_all_go_on(machine, dict.fromkeys(NAMES, 0))
        for number in range(4):
            machine.run(timeout=draw.random() * 0.02)
            seen = counts(machine)
            with machine.fork(devices=[(Wire(), WIRE, INPUT)]) as copy:
                assert counts(copy) == seen
                run_until_all_go_on(copy, seen)
                assert counts(machine) == seen
                if number % 2:
                    then = counts(copy)
                    with copy.fork(devices=[(Wire(), WIRE, INPUT)]) as second:
                        run_until_all_go_on(second, then)
                        assert (counts(copy), counts(machine)) == (then, seen)
                run_until_all_go_on(machine, seen)


def test_a_copy_goes_on_under_another_accelerator():
    usable("kvm")
    begun = {"accel": CONTROLLERS["board"], "kernel": guest("board")}
    with Machine("microvm", devices=[(Wire(), WIRE, INPUT)], **begun) as machine:
        seen = run_until_all_go_on(machine, dict.fromkeys(NAMES, 0))
        with machine.fork(accel="tcg", devices=[(Wire(), WIRE, INPUT)]) as copy:
            assert copy.accel_name == "tcg"
            run_until_all_go_on(copy, seen)
        machine.switch("tcg")
        with machine.fork(devices=[(Wire(), WIRE, INPUT)]) as copy:
            assert copy.accel_name == "tcg"
            run_until_all_go_on(copy, counts(machine))


def test_a_copy_is_what_the_first_one_is(counting):
    before = picture(counting)
    with counting.fork() as copy:
        assert copy.state == "paused"
        assert picture(copy) == before
        run(copy)
        assert picture(copy) != before
        assert picture(counting) == before
        run(counting)


def test_copies_that_live_at_once_do_not_see_each_other(counting):
    then = cells(counting)
    copies = [counting.fork() for _ in range(5)]
    try:
        for number, copy in enumerate(copies):
            copy.memory.load(0x4100_0000, bytes([number + 1]) * SIZE)
            assert cells(copy) == then
            run(copy)
        for copy in copies:
            copy.start()
        for copy in copies:
            copy.pause()
        assert counting.memory.peek(0x4100_0000, SIZE) == bytes(SIZE)
        assert cells(counting) == then
        for number, copy in enumerate(copies):
            assert copy.memory.peek(0x4100_0000, SIZE) == bytes([number + 1]) * SIZE
            assert copy.memory.peek(0x4080_0000, 5000) == random.Random(1).randbytes(5000)
    finally:
        for copy in copies:
            copy.close()
    run(counting)


def test_a_later_copy_has_what_was_written_since_while_an_earlier_one_keeps_what_it_had(counting):
    place, old, new = 0x4080_0000, counting.memory.peek(0x4080_0000, SIZE), bytes([7]) * SIZE
    with counting.fork() as first:
        counting.memory.load(place, new)
        run(counting)
        before = picture(counting)
        with counting.fork() as second:
            assert picture(second) == before
            assert second.memory.peek(place, SIZE) == new
            second.memory.load(place, bytes(SIZE))
            assert first.memory.peek(place, SIZE) == old
            with second.fork() as third:
                assert third.memory.peek(place, SIZE) == bytes(SIZE)
        assert counting.memory.peek(place, SIZE) == new
    with counting.fork() as last:  # alone again: what it wrote becomes common
        assert picture(last) == before == picture(counting)
        counting.memory.load(place, old)
        assert last.memory.peek(place, SIZE) == new


def test_a_copy_outlives_the_first_one():
    with Machine("virt", **ALIKE) as machine:
        while cells(machine)[0] < 1000:
            machine.run(timeout=0.02)
        copy = machine.fork()
        then = cells(machine)
    with copy:
        assert cells(copy) == then
        run(copy)
        with copy.fork() as next_one:
            run(next_one)


def test_one_that_runs_goes_on_and_so_does_one_that_has_not_started(counting):
    counting.start()
    with counting.fork() as copy:
        assert (counting.state, copy.state) == ("running", "paused")
        run(copy)
    counting.pause()
    with Machine("virt", **ALIKE) as machine, machine.fork() as copy:
        run(copy)
        assert cells(machine) == (0, 0)
        run(machine)


def test_a_copy_is_saved_and_loaded_like_any_machine(counting, tmp_path):
    with counting.fork() as copy:
        copy.save(tmp_path / "copy")
        saved = picture(copy)
        run(copy)
        copy.load(tmp_path / "copy")
        assert picture(copy) == saved
        run(copy)
        copy.reset()
        run(copy)
    counting.load(tmp_path / "copy")
    assert picture(counting) == saved


def test_what_it_cannot_have_is_said_and_the_first_one_is_as_it_was(counting):
    before = picture(counting)
    with pytest.raises(SnapshotError, match="devices: virtio0 is absent, and here VirtioMmio"):
        counting.fork(virtio=[VirtioRng()])
    assert picture(counting) == before
    run(counting)
    counting.close()
    with pytest.raises(DeviceError, match="closed and cannot fork"):
        counting.fork()


def test_memory_of_another_size_is_no_copy():
    with AddressSpace() as space, AddressSpace() as other:
        one, two = space.add_ram("one", 0, 4096), other.add_ram("two", 0, 8192)
        with pytest.raises(MapError, match="only memory of the same size"):
            one.become(two)
        registers = other.add_io("registers", 1 << 20, 4096)
        with pytest.raises(MapError, match="only memory"):
            one.become(registers)


def test_the_last_page_of_memory_that_is_no_multiple_of_pages_is_copied():
    with AddressSpace() as space, AddressSpace() as other, AddressSpace() as third:
        spaces = (space, other, third)
        one, two, three = (each.add_ram("odd", 0, 3 * 4096 + 100) for each in spaces)
        two.become(one)
        space.load(3 * 4096, b"x" * 100)
        three.become(one)
        assert (third.peek(3 * 4096, 100), other.peek(3 * 4096, 100)) == (b"x" * 100, bytes(100))


@pytest.mark.parametrize("board", ["virt", "virt,virtio=pci,gic-version=3"])
def test_linux_goes_on_with_a_copy_of_its_disk_in_both(board, tmp_path):
    """Amid requests to its devices: each copy reads back what it wrote, and only that."""

    def devices(disk):
        return [VirtioBlk(emu.block.open(disk, format="raw")), VirtioRng(), VirtioBalloon()]

    def goes_on(machine, screen):
        result = machine.run(timeout=200, until=lambda: screen.text.count("\nn=") > 8)
        assert result.reason == "until", screen.text
        lines = [line.split("=") for line in screen.text.split("\n")[1:-1]]
        assert all(line[1] == line[2] and line[3] == "16" for line in lines), screen.text
        numbers = [int(line[1]) for line in lines]
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
        return numbers[-1]

    emu.block.create(tmp_path / "disk", 64 << 20, format="raw")
    screens = Screen(), Screen()
    with Machine(
        board,
        arch="aarch64",
        accel="tcg",
        ram=256 << 20,
        kernel=image("arm64"),
        initrd=initrd(SCRIPT, MODULES, "arm64"),
        append="console=ttyAMA0 quiet",
        serial=screens[0],
        virtio=devices(tmp_path / "disk"),
    ) as machine:
        assert machine.run(timeout=200, until=lambda: "n=3=" in screens[0].text).reason == "until"
        shutil.copy(tmp_path / "disk", tmp_path / "copy")
        with machine.fork(serial=screens[1], virtio=devices(tmp_path / "copy")) as copy:
            last = goes_on(copy, screens[1])
            goes_on(machine, screens[0])
        with open(tmp_path / "copy", "rb") as file:
            file.seek(512 * last)
            assert struct.unpack("4s", file.read(4))[0].startswith(str(last).encode())
