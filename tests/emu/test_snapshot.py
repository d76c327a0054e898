"""A machine is saved, and goes on elsewhere; what is damaged or another's is refused, and nothing changes."""

from __future__ import annotations

import random
import signal
import struct
import subprocess
import sys
import time
import zlib

import pytest

from accel.errors import DeviceError
from emu.devices.pl011 import Pl011
from emu.machine import Machine
from emu.snapshot import ram, stream
from emu.snapshot.errors import SnapshotError
from emu.snapshot.state import regions, take
from emu.snapshot.stream import CRC, HEAD, SECTION, sections
from emu.snapshot.values import pack, unpack
from tests.emu.linux_guest import Screen, image, initrd

# Counts in x1 and in memory, and the time in x2:
#   ldr x0, =0x40100000; 1: add x1, x1, #1; str x1, [x0]; mrs x2, cntvct_el0; str x2, [x0, #8]; b 1b
COUNTER = struct.pack("<6I", 0xD2A80200, 0x91000421, 0xF9000001, 0xD53BE042, 0xF9000402, 0x17FFFFFC)
CELLS = 0x4010_0000
ALIKE = {"arch": "aarch64", "accel": "tcg", "ram": 32 << 20, "kernel": COUNTER}


def cells(machine):
    return struct.unpack("<2Q", machine.memory.peek(CELLS, 16))


def run(machine):
    """Until the guest has counted on; it makes no events by which one would hear of it."""
    before = cells(machine)[0]
    for _ in range(1000):
        machine.run(timeout=0.02)
        if cells(machine)[0] > before + 1000:
            return
    raise AssertionError("the guest stands still")


@pytest.fixture
def saved(tmp_path):
    """A file, and what the guest had counted when it was written."""
    with Machine("virt", **ALIKE) as machine:
        while cells(machine)[0] < 1000:
            machine.run(timeout=0.02)
        machine.memory.load(0x4080_0000, bytes(range(256)) * 4096)
        machine.memory.load(0x4140_1000, random.Random(1).randbytes(5000))  # what does not compress
        machine.save(tmp_path / "one")
        yield tmp_path / "one", cells(machine)


def picture(machine):
    """All that a snapshot has, to compare."""
    state = take(machine)
    for cpu in state.cpus:
        cpu.pop("count", None)
    memory = [
        (region.name, chunk, zlib.crc32(region.buffer[chunk * ram.CHUNK : (chunk + 1) * ram.CHUNK]))
        for region in regions(machine)
        for chunk in ram.used_chunks(region)
        if bytes(region.buffer[chunk * ram.CHUNK : (chunk + 1) * ram.CHUNK]).strip(b"\0")
    ]
    return state.cpus, state.devices, state.clock, memory


def test_plain_values_come_back_and_others_are_refused():
    value = [None, True, False, 0, -1, 1 << 600, -(1 << 63), "ö", b"\0x", [], {}, {"a": [1, {2: b""}]}]
    assert unpack(pack(value)) == value
    with pytest.raises(TypeError):
        pack(object())
    draw = random.Random(5)
    good = pack(value)
    for _ in range(3000):
        bad = bytearray(good)
        for _ in range(draw.randrange(1, 4)):
            bad[draw.randrange(len(bad))] = draw.randrange(256)
        cut = bytes(bad[: draw.randrange(len(bad) + 1)])
        try:
            unpack(cut)
        except SnapshotError:
            pass


def test_a_list_that_nests_without_end_is_refused():
    with pytest.raises(SnapshotError, match="nested too deeply"):
        unpack(b"L\1\0\0\0" * 5000 + b"N")


def test_a_machine_goes_on_in_another_one_where_it_was_saved(saved):
    path, (count, time_then) = saved
    with Machine("virt", **ALIKE) as machine:
        machine.load(path)
        assert machine.state == "paused"
        assert cells(machine) == (count, time_then)
        assert machine.memory.peek(0x4080_0000, 1 << 20) == bytes(range(256)) * 4096
        assert machine.memory.peek(0x4140_1000, 5000) == random.Random(1).randbytes(5000)
        run(machine)
        then, now = cells(machine)
        assert then > count
        assert time_then < now < time_then + 60 * 62_500_000


def test_it_goes_on_in_a_process_whose_clock_is_another(saved):
    """The generic timers' counter is the guest's, wherever the host's clock is."""
    path, _ = saved
    with Machine("virt", **ALIKE) as machine:
        machine.load(path)
        machine.cpus[0].vcpu.count = 1 << 40
        run(machine)
        assert 1 << 40 < cells(machine)[1] < (1 << 40) + 60 * 62_500_000
        assert machine.cpus[0].vcpu.count > cells(machine)[1]


def test_a_machine_that_runs_goes_on_after_it_was_saved_and_after_it_was_loaded(tmp_path):
    with Machine("virt", **ALIKE) as machine:
        machine.start()
        machine.save(tmp_path / "one")
        assert machine.state == "running"
        with Machine("virt", **ALIKE) as other:
            other.load(tmp_path / "one")
            run(other)
        machine.load(tmp_path / "one")
        assert machine.state == "running"


def test_what_is_saved_twice_is_the_same_and_loading_changes_nothing_else(saved, tmp_path):
    path, _ = saved
    with Machine("virt", **ALIKE) as machine:
        machine.load(path)
        before = picture(machine)
        run(machine)
        assert picture(machine) != before
        machine.load(path)
        assert picture(machine) == before
        machine.reset()
        machine.run(timeout=0.05)
        assert cells(machine)[0] > 0


def ends(data):
    """Where each section ends."""
    at = HEAD.size + CRC.size
    found = [at]
    while at < len(data):
        at += SECTION.size + CRC.size + SECTION.unpack_from(data, at)[2]
        found.append(at)
    assert at == len(data)
    return found


@pytest.fixture
def running(saved):
    """A machine that has something to lose, and what it must still be afterwards."""
    with Machine("virt", **ALIKE) as machine:
        machine.load(saved[0])
        run(machine)
        yield machine, picture(machine)


def refused(machine, path, data, match="."):
    path.write_bytes(data)
    with pytest.raises(SnapshotError, match=match):
        machine.load(path)


def test_a_file_that_is_cut_anywhere_is_refused_and_the_machine_is_as_it_was(saved, running, tmp_path):
    machine, before = running
    data = saved[0].read_bytes()
    places = {0, 1, len(data) - 1}
    for end in ends(data):
        places |= {end - 1, end, end + 1, end + SECTION.size}
    for place in sorted(place for place in places if place < len(data)):
        refused(machine, tmp_path / "cut", data[:place], "cut off|no snapshot")
    refused(machine, tmp_path / "cut", data + b"\0", "follows the end")
    assert picture(machine) == before
    run(machine)


def test_a_file_with_a_bit_that_fell_over_is_refused_and_the_machine_is_as_it_was(saved, running, tmp_path):
    machine, before = running
    data = bytearray(saved[0].read_bytes())
    draw = random.Random(2)
    heads = [place + draw.randrange(SECTION.size) for place in ends(data)[:-1]]
    for place in [*range(HEAD.size + CRC.size), *heads, *(draw.randrange(len(data)) for _ in range(60))]:
        bit = 1 << draw.randrange(8)
        data[place] ^= bit
        refused(machine, tmp_path / "bit", bytes(data))
        data[place] ^= bit
    assert picture(machine) == before


def rewritten(data, change):
    """The file with sections changed by change(name, value) -> value, and all checksums right."""
    out = bytearray()
    writer = stream.Writer(out.extend)
    taken = memoryview(data)
    position = 0

    def read(size):
        nonlocal position
        part = bytes(taken[position : position + size])
        position += len(part)
        return part

    for section in sections(read):
        value = section.data if section.name == "ram" else unpack(section.data)
        value = change(section.name, value)
        if value is not None:
            writer.section(section.name, section.version, value if section.name == "ram" else pack(value))
    writer.end()
    return bytes(out)


def test_what_another_machine_or_release_saved_is_refused_with_the_reason(saved, running, tmp_path):
    machine, before = running
    data, path = saved[0].read_bytes(), tmp_path / "other"

    def head(**changes):
        return rewritten(data, lambda name, value: value | changes if name == "machine" else value)

    refused(machine, path, head(board="microvm"), "its board: microvm, and here virt")
    refused(machine, path, head(arch="arm"), "architecture: arm, and here aarch64")
    refused(machine, path, head(ram=64 << 20), "bytes of RAM: 67108864")
    refused(machine, path, head(cpus=2), "number of CPUs: 2, and here 1")
    devices = take(machine).head["devices"]
    refused(machine, path, head(devices=devices | {"x": "Y"}), "x is Y, and here absent")
    older = bytearray(data)
    older[len(stream.MAGIC)] = 9
    older[HEAD.size : HEAD.size + 4] = CRC.pack(zlib.crc32(older[: HEAD.size]))
    refused(machine, path, bytes(older), "format 9, and this release of emu reads 1")
    refused(machine, path, b"QEVM" + data[4:], "no snapshot of emu")
    serial = take(machine).devices["serial0"] | {"version": Pl011.version + 1}

    def newer(name, value):
        return [value[0], serial] if name == "device" and value[0] == "serial0" else value

    refused(machine, path, rewritten(data, newer), "version 2 of Pl011, and this is version 1")
    assert picture(machine) == before
    run(machine)
    path.unlink()
    path.mkdir()
    with pytest.raises(SnapshotError):
        machine.load(path)
    with pytest.raises(SnapshotError, match="name a file that save wrote"):
        machine.load(tmp_path / "nothing")


def mutated(draw, value, chance):
    """The value with some of its parts replaced by others."""
    if draw.random() < chance:
        small = draw.choice([0, 1, -1, 1 << 31, (1 << 32) - 1, 1 << 63, (1 << 64) - 1, 1 << 64])
        if isinstance(value, int):
            return draw.choice([small, value ^ 1 << draw.randrange(64)])
        if isinstance(value, bytes) and value:
            changed = bytearray(value)
            for _ in range(draw.randrange(1, 9)):
                changed[draw.randrange(len(changed))] = draw.randrange(256)
            return draw.choice([bytes(changed), bytes(changed[:-1]), b"\xff" * len(value)])
        return draw.choice([None, "", "x", b"", [], {}, small])
    if isinstance(value, list):
        return [mutated(draw, item, chance) for item in value]
    if isinstance(value, dict):
        return {key: mutated(draw, item, chance) for key, item in value.items()}
    return value


@pytest.mark.parametrize("part", ["device", "cpu", "machine", "clock", "board", "ram"])
def test_values_that_lie_under_right_checksums_neither_crash_nor_hang(part, saved, running, tmp_path):
    """What loads may be nonsense for the guest; what does not is refused, and the machine is as it was."""
    machine, _ = running
    data, path = saved[0].read_bytes(), tmp_path / "lies"
    draw = random.Random(part)
    machine.load(saved[0])
    before = picture(machine)
    for _ in range(12):
        chance = draw.choice([0.003, 0.03, 0.3])
        path.write_bytes(
            rewritten(data, lambda name, value, c=chance: mutated(draw, value, c) if name == part else value)
        )
        try:
            machine.load(path)
        except SnapshotError:
            assert picture(machine) == before
        machine.load(saved[0])


def test_sections_that_are_missing_twice_or_exchanged_are_refused(saved, running, tmp_path):
    machine, before = running
    data, path = saved[0].read_bytes(), tmp_path / "order"
    for missing in ("machine", "clock", "cpu", "device"):
        if missing != "clock":
            refused(
                machine, path, rewritten(data, lambda name, value, m=missing: None if name == m else value)
            )
    places = ends(data)
    swapped = (
        data[: places[0]] + data[places[1] : places[2]] + data[places[0] : places[1]] + data[places[2] :]
    )
    refused(machine, path, swapped)
    doubled = data[: places[1]] + data[places[0] : places[1]] + data[places[1] :]
    refused(machine, path, doubled)
    assert picture(machine) == before


def test_memory_that_unpacks_to_more_than_it_says_is_refused(saved, running, tmp_path):
    machine, before = running
    pages = (1).to_bytes(ram.PAGES // 8, "little")
    bomb = ram.HEAD.pack(0, 0, ram.ZLIB, pages) + zlib.compress(bytes(1 << 24))
    beyond = ram.HEAD.pack(99, 0, ram.PLAIN, pages) + bytes(4096)
    outside = ram.HEAD.pack(1, 1 << 43, ram.PLAIN, pages) + bytes(4096)
    for chunk in (bomb, beyond, outside, b"", ram.HEAD.pack(0, 0, ram.PLAIN, pages) + bytes(4095)):
        data = rewritten(saved[0].read_bytes(), lambda name, value, c=chunk: c if name == "ram" else value)
        refused(machine, tmp_path / "ram", data, "memory")
    assert picture(machine) == before


KILLED = """
import sys
from emu.machine import Machine
from tests.emu.test_snapshot import ALIKE
from emu.snapshot import save
with Machine("virt", **ALIKE) as machine:
    machine.run(timeout=0.1)
    machine.save(sys.argv[1])
    print("first", flush=True)
    real = save._write_all
    def slowly(fd, data):
        real(fd, data)
        print("piece", flush=True)
        sys.stdin.readline()
    save._write_all = slowly
    machine.save(sys.argv[1])
"""


@pytest.mark.parametrize("pieces", [1, 5, 25])
def test_one_who_is_killed_while_it_saves_leaves_the_snapshot_before_whole(pieces, tmp_path):
    path = tmp_path / "one"
    child = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout.readline() == "first\n"
    before = path.read_bytes()
    for _ in range(pieces):
        assert child.stdout.readline() == "piece\n"
        child.stdin.write("\n")
        child.stdin.flush()
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert path.read_bytes() == before
    with Machine("virt", **ALIKE) as machine:
        machine.load(path)
        run(machine)


def test_a_file_that_cannot_be_written_leaves_nothing_behind(tmp_path):
    with Machine("virt", **ALIKE) as machine:
        with pytest.raises(SnapshotError, match="name a file that can be written"):
            machine.save(tmp_path / "no" / "such")
        with pytest.raises(SnapshotError, match="File name too long"):
            machine.save(tmp_path / ("x" * 254))
        (tmp_path / "folder").mkdir()
        with pytest.raises(SnapshotError, match="Is a directory"):
            machine.save(tmp_path / "folder")
        assert [path.name for path in tmp_path.iterdir()] == ["folder"]
        machine.save(tmp_path / "one")
        assert (tmp_path / "one").stat().st_mode & 0o777 == 0o600


def test_linux_counts_on_where_it_was_saved(tmp_path):
    """Its clock, its timer's interrupts and its serial line among them."""
    script = "exec 3<&0; (while read line <&3; do echo heard $line; done) & "
    script += "n=0; while :; do n=$((n+1)); echo n=$n=; sleep 0.02; done"
    alike = {
        "arch": "aarch64",
        "accel": "tcg",
        "ram": 256 << 20,
        "kernel": image("arm64"),
        "initrd": initrd(script, (), "arm64"),
        "append": "console=ttyAMA0 quiet",
    }
    screen = Screen()
    with Machine("virt", serial=screen, **alike) as machine:
        result = machine.run(timeout=200, until=lambda: "n=20=" in screen.text)
        assert result.reason == "until", screen.text
        size = machine.save(tmp_path / "one")
        assert size < 40 << 20
    last = int(screen.text.split("n=")[-1].split("=")[0]) if screen.text.endswith("\n") else 20
    again = Screen()
    with Machine("virt", serial=again, **alike) as machine:
        started = time.monotonic()
        machine.load(tmp_path / "one")
        assert machine.run(timeout=100, until=lambda: "n=40=" in again.text).reason == "until", again.text
        again.type(b"hello\r")
        assert machine.run(timeout=100, until=lambda: "heard hello" in again.text).reason == "until", (
            again.text
        )
        assert time.monotonic() - started < 100
    numbers = [int(word[2:-1]) for word in again.text.split() if word.startswith("n=") and word.endswith("=")]
    assert numbers[0] in (last, last + 1)
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


def test_changes_since_a_snapshot_are_small_and_give_the_same_machine(tmp_path):
    with Machine("virt", **ALIKE) as machine:
        machine.run(timeout=0.05)
        machine.memory.load(0x4100_0000, random.Random(3).randbytes(4 << 20))
        whole = machine.save(tmp_path / "whole", track=True)
        run(machine)
        first = machine.save(tmp_path / "first", changes=True)
        machine.memory.load(0x4100_2000, b"changed by a device")
        run(machine)
        machine.save(tmp_path / "second", changes=True)
        before = picture(machine)
    assert whole > 4 << 20
    assert first < 100_000
    for start in (False, True):
        with Machine("virt", **ALIKE) as machine:
            if start:
                machine.run(timeout=0.05)
            machine.load(tmp_path / "second", track=True)
            assert picture(machine) == before
            run(machine)
            machine.save(tmp_path / "third", changes=True)
            after = picture(machine)
            machine.load(tmp_path / "first")
            machine.load(tmp_path / "third")
            assert picture(machine) == after


def test_changes_without_the_snapshot_that_they_are_of_are_refused(tmp_path):
    with Machine("virt", **ALIKE) as machine:
        with pytest.raises(DeviceError, match="track=True"):
            machine.save(tmp_path / "none", changes=True)
        machine.save(tmp_path / "whole", track=True)
        with pytest.raises(SnapshotError, match="name another file"):
            machine.save(tmp_path / "whole", changes=True)
        (tmp_path / "elsewhere").mkdir()
        with pytest.raises(SnapshotError, match="beside it"):
            machine.save(tmp_path / "elsewhere" / "changes", changes=True)
        run(machine)
        machine.save(tmp_path / "changes", changes=True)
        run(machine)
        before = picture(machine)
        good = (tmp_path / "whole").read_bytes()
        (tmp_path / "whole").unlink()
        with pytest.raises(SnapshotError, match="whole: No such file"):
            machine.load(tmp_path / "changes")
        machine.save(tmp_path / "whole")
        with pytest.raises(SnapshotError, match="whole is not the snapshot"):
            machine.load(tmp_path / "changes")
        (tmp_path / "whole").write_bytes(good[:-1])
        with pytest.raises(SnapshotError, match="whole: the snapshot is cut off"):
            machine.load(tmp_path / "changes")
        (tmp_path / "whole").unlink()
        (tmp_path / "whole").symlink_to(tmp_path / "changes")
        with pytest.raises(SnapshotError, match="stand on one another"):
            machine.load(tmp_path / "changes")
        assert picture(machine) == before
    with Machine("virt", **ALIKE) as machine:  # one that has nothing to lose starts as ever
        (tmp_path / "bad").write_bytes(good[:-10])
        with pytest.raises(SnapshotError):
            machine.load(tmp_path / "bad")
        run(machine)
