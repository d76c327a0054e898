"""One bare-metal guest from one C file, by `emu boot --kernel`, on every board under every accelerator."""

from __future__ import annotations

import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import usable

SOURCE = Path(__file__).parents[1] / "guest/board.c"
PATIENCE = 300
# Compiler, where it is linked, and what the ISA needs to run without an operating system.
MADE = {
    "x86_64": ("x86_64-linux-gnu-gcc", 0x20_0000, "-mno-red-zone -mcmodel=small"),
    "aarch64": ("aarch64-linux-gnu-gcc", 0x4020_0000, "-mstrict-align"),
    "arm": ("arm-linux-gnueabihf-gcc", 0x4020_0000, "-marm -mno-unaligned-access"),
    "riscv64": ("riscv64-linux-gnu-gcc", 0x8020_0000, "-mcmodel=medany -Wl,--no-relax"),
}
CASES = [("kvm", "x86_64", "microvm"), ("kvm", "x86_64", "pc"), ("tcg", "x86_64", "pc")]
CASES += [("tcg", arch, "microvm" if arch == "x86_64" else "virt") for arch in MADE]
FLAGS = "-O2 -w -ffreestanding -nostdlib -static -fno-pic -no-pie -fno-stack-protector -ffp-contract=off"
# Optimized as it is everywhere but for the vectors, of which handlers of interrupts know nothing.
FLAGS += " -fno-tree-vectorize -fcf-protection=none"


@pytest.fixture(scope="module")
def build(tmp_path_factory):
    folder = tmp_path_factory.mktemp("boards")

    def build(arch: str) -> Path:
        compiler, base, flags = MADE[arch]
        if shutil.which(compiler) is None:
            pytest.skip(f"no {compiler} to build the guest with")
        out = folder / arch
        general = FLAGS if arch == "x86_64" else FLAGS.replace("-fcf-protection=none", "")
        words = [compiler, *general.split(), *flags.split(), f"-Wl,-Ttext-segment={base:#x}"]
        words += ["-Wl,--build-id=none,-n,-e,_start", str(SOURCE), "-o", str(out)]
        made = subprocess.run(words, capture_output=True, text=True, timeout=120)
        assert made.returncode == 0, made.stderr
        return out

    return build


def expected() -> str:
    """What the guest computes, by Python."""
    mask = (1 << 64) - 1
    state, total = 20, 0
    for i in range(20000):
        state = (state * 6364136223846793005 + 1442695040888963407) & mask
        total = (total + ((state >> (i & 63)) ^ (state << (i & 7) & mask))) & mask
    x, y, z = 1.0, 1.0 / 3, 0.0
    for i in range(1, 20001):
        x = x * 0.999 + y / i
        y = y + x * 0.001
        z = z - x * y
    (bits,) = struct.unpack("<Q", struct.pack("<d", x + y + z))
    return f"integers {total:016x}\ndoubles {bits:016x}\nwrong {0:016x}\nticks {20:016x}\n"


@pytest.mark.parametrize(("accel", "arch", "board"), CASES)
def test_the_guest_checks_itself(accel, arch, board, build):
    usable(accel)
    words = [sys.executable, "-m", "emu", "boot", "-M", board, "--accel", accel, "--kernel", str(build(arch))]
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE)
    assert (done.returncode, done.stdout) == (0, expected()), done.stderr
