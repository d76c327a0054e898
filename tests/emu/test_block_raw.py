"""Raw images: beside QEMU's tools, and with its locks."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import threading

import pytest

import emu.block
from emu.block import BlockError

MIB = 1 << 20


@pytest.fixture
def raw(tmp_path):
    path = tmp_path / "disk.raw"
    path.write_bytes(random.Random(1).randbytes(2 * MIB))
    return path


@pytest.fixture
def qemu_io():
    """qemu_io(path, command ...) -> (status, output)."""
    program = shutil.which("qemu-io")
    if program is None:
        pytest.skip("no qemu-io (qemu-utils)")

    def run(path, *commands, read_only=False):
        words = [program, "-f", "raw", *(["-r"] if read_only else []), str(path)]
        for command in commands:
            words += ["-c", command]
        done = subprocess.run(words, capture_output=True, text=True, timeout=60)
        return done.returncode, done.stdout + done.stderr

    return run


@pytest.mark.parametrize("cache", emu.block.CACHES)
@pytest.mark.parametrize("size", [MIB, MIB + 512, MIB + 1000, 700, 0])
def test_random_requests_leave_what_a_bytearray_has(tmp_path, cache, size):
    path = tmp_path / "disk.raw"
    rng = random.Random(size)
    model = bytearray(rng.randbytes(size))
    path.write_bytes(model)
    model += bytes(-size % 512)
    with emu.block.open(path, format="raw", cache=cache, discard=True) as image:
        assert image.size == len(model)
        for _ in range(300):
            offset = rng.randrange(len(model) + 1)
            length = min(rng.choice((1, 100, 512, 4096, 70000)), len(model) - offset)
            if rng.random() < 0.5:
                unit = rng.choice((512, 4096))
                offset, length = offset // unit * unit, length // unit * unit
            what = rng.randrange(4)
            if what == 0:
                model[offset : offset + length] = data = rng.randbytes(length)
                image.write(offset, data)
            elif what == 1:
                model[offset : offset + length] = bytes(length)
                image.write_zeroes(offset, length, may_unmap=bool(rng.randrange(2)))
            elif what == 2:
                image.discard(offset, length)
                model[offset : offset + length] = image.read(offset, length)
            else:
                assert image.read(offset, length) == model[offset : offset + length]
        image.flush()
        assert image.read(0, image.size) == model
    assert path.read_bytes() == model[: path.stat().st_size]
    assert not any(model[path.stat().st_size :])


def test_parts_of_blocks_written_by_threads_are_all_there(raw):
    with emu.block.open(raw, format="raw", cache="none") as image:

        def write(which):
            for at in range(which * 100, MIB, 800):
                image.write(at, bytes([which]) * 100)

        threads = [threading.Thread(target=write, args=(which,)) for which in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    expected = b"".join(bytes([which]) * 100 for which in range(8)) * (MIB // 800 + 1)
    assert raw.read_bytes()[: MIB // 800 * 800] == expected[: MIB // 800 * 800]


def test_what_is_discarded_takes_no_space(raw):
    with emu.block.open(raw, format="raw", discard=True) as image:
        before = image.info().allocated
        image.discard(0, MIB)
        assert image.info().allocated <= before - MIB
        assert image.read(0, MIB) == bytes(MIB)


def test_without_the_option_a_discard_does_nothing(raw):
    before = raw.read_bytes()
    with emu.block.open(raw, format="raw") as image:
        image.discard(0, MIB)
        assert not image.info().can_discard
    assert raw.read_bytes() == before


def test_a_resized_image_ends_in_zeroes(raw):
    before = raw.read_bytes()
    with emu.block.open(raw, format="raw") as image:
        image.resize(3 * MIB)
        assert image.read(2 * MIB, MIB) == bytes(MIB)
        image.resize(MIB)
    assert raw.read_bytes() == before[:MIB]


def test_a_read_only_image_cannot_be_written(raw):
    with emu.block.open(raw, format="raw", read_only=True) as image:
        with pytest.raises(BlockError, match=r"for writing"):
            image.write(0, b"x")
        with pytest.raises(BlockError):
            image.resize(0)


def test_a_request_outside_the_image_is_refused(raw):
    with emu.block.open(raw, format="raw") as image:
        for offset, length in ((2 * MIB, 1), (2 * MIB - 1, 2), (1 << 62, 1 << 62), (-1, 1)):
            with pytest.raises(BlockError, match="not in the image"):
                image.read(offset, length)
        assert image.read(2 * MIB, 0) == b""


def test_a_guest_cannot_make_a_found_raw_image_something_else(raw):
    with emu.block.open(raw) as image:
        with pytest.raises(BlockError, match="format=raw"):
            image.write(0, b"QFI\xfb" + bytes(508))
        image.write(0, b"QF")
        with pytest.raises(BlockError, match="format=raw"):
            image.write(2, b"I\xfb" + bytes(4094))
        image.write(0, b"boot" + bytes(4092))
    with emu.block.open(raw, format="raw") as image:
        image.write(0, b"QFI\xfb" + bytes(508))


def test_one_writes_or_many_read_with_qemu_too(raw, qemu_io):
    with emu.block.open(raw, format="raw"):
        for read_only in (False, True):
            with pytest.raises(BlockError, match="another process"):
                emu.block.open(raw, format="raw", read_only=read_only)
        status, output = qemu_io(raw, "write 0 512")
        assert status != 0, output
        assert "lock" in output
    with emu.block.open(raw, format="raw", read_only=True), emu.block.open(raw, read_only=True):
        assert qemu_io(raw, "read 0 512", read_only=True)[0] == 0
        status, output = qemu_io(raw, "write 0 512")
        assert status != 0, output
    assert qemu_io(raw, "write 0 512")[0] == 0


def test_an_image_that_qemu_writes_is_refused(raw):
    program = shutil.which("qemu-io")
    if program is None:
        pytest.skip("no qemu-io (qemu-utils)")
    with subprocess.Popen(
        [program, "-f", "raw", str(raw)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        other.stdin.write("read 0 512\n")
        other.stdin.flush()
        while "ops" not in other.stdout.readline():
            pass
        for read_only in (False, True):
            with pytest.raises(BlockError, match="another process"):
                emu.block.open(raw, format="raw", read_only=read_only)
        with emu.block.open(raw, format="raw", read_only=True, lock=False) as image:
            assert image.size == 2 * MIB
        other.stdin.write("quit\n")
        other.stdin.flush()
    emu.block.open(raw, format="raw").close()


@pytest.mark.parametrize("kind", ["missing", "folder", "fifo", "device"])
def test_what_is_no_image_is_refused_in_one_line(tmp_path, kind):
    path = tmp_path / "it"
    if kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "device":
        path = "/dev/null"
    with pytest.raises(BlockError) as raised:
        emu.block.open(path)
    assert str(raised.value).startswith(f"{path}: ")
    assert "\n" not in str(raised.value)


def test_a_block_device_is_an_image(raw):
    """Through a loop device, where the host lets us make one."""
    made = subprocess.run(["losetup", "--find", "--show", raw], capture_output=True, text=True, check=False)
    if made.returncode:
        pytest.skip(f"no loop device: {made.stderr.strip()}")
    device = made.stdout.strip()
    try:
        for cache in ("writeback", "none"):
            with emu.block.open(device, format="raw", cache=cache, discard=True) as image:
                assert image.size == 2 * MIB
                image.write(1000, cache.encode())
                image.write_zeroes(MIB + 100, 100000)
                image.discard(MIB, 4096)
                image.flush()
                assert image.read(1000, len(cache)) == cache.encode()
                assert image.read(MIB + 100, 100000) == bytes(100000)
                with pytest.raises(BlockError):
                    image.resize(4 * MIB)
    finally:
        subprocess.run(["losetup", "--detach", device], check=True)
    assert raw.read_bytes()[1000:1004] == b"none"
