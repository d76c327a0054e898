"""A process that is killed while it writes leaves a sound qcow2 image with all that was flushed."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys

import pytest

import emu.block

SIZE = 8 << 20

# Writes sectors full of their request's number; says after a flush which request was the last before it.
WRITER = """
import random, sys
import emu.block
path, seed, size = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
rng = random.Random(seed)
with emu.block.open(path, discard=True) as image:
    for number in range(1, 1 << 32):
        first = rng.randrange(size // 512 - 300)
        count = rng.randrange(1, 300)
        image.write(first * 512, number.to_bytes(8, "little") * 64 * count)
        if rng.random() < 0.2:
            image.flush()
            print(number, flush=True)
"""


@pytest.mark.parametrize("seed", range(4))
def test_a_killed_writer_loses_nothing_that_was_flushed(tmp_path, seed):
    if shutil.which("qemu-img") is None:
        pytest.skip("no qemu-img (qemu-utils)")
    path = tmp_path / "disk.qcow2"
    emu.block.create(path, SIZE, cluster_size=4096)
    rng = random.Random(seed)
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, path, str(seed), str(SIZE)], stdout=subprocess.PIPE, text=True
    ) as writer:
        for _ in range(rng.randrange(1, 60)):
            flushed = int(writer.stdout.readline())
        writer.kill()
        flushed = [flushed, *map(int, writer.stdout)][-1]
    assert writer.returncode == -signal.SIGKILL
    checked = subprocess.run(
        ["qemu-img", "check", path], capture_output=True, text=True, timeout=60, check=False
    )
    assert checked.returncode in (0, 3), checked.stdout + checked.stderr
    expected, later = [0] * (SIZE // 512), [set() for _ in range(SIZE // 512)]
    rng = random.Random(seed)
    for number in range(1, flushed + 1000):
        first = rng.randrange(SIZE // 512 - 300)
        for sector in range(first, first + rng.randrange(1, 300)):
            if number <= flushed:
                expected[sector] = number
            else:
                later[sector].add(number)
        rng.random()
    with emu.block.open(path) as image:
        data = image.read(0, SIZE)
    for sector, number in enumerate(expected):
        found = data[sector * 512 : sector * 512 + 512]
        assert found == found[:8] * 64
        assert int.from_bytes(found[:8], "little") in (number, *later[sector])
