"""Kernels, device trees, RAM disks and firmware that lie: one line, or a guest that has them; never a crash.

EMU_FUZZ_CASES in the environment sets how many are tried.
"""

from __future__ import annotations

import gzip
import lzma
import os
import random
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from accel.errors import BadImage, EmuError, GuestFault
from emu import Machine
from emu.loader.arm64_image import parse_arm64
from emu.loader.fdt import Node, flatten
from emu.samples.checksum import program
from emu.samples.elf import executable
from isa.arch import find
from tests.emu import pc_fuzz

LOOP = 0x14000000  # b .


def image(data: bytes = b"", room: int = 0x10000, offset: int = 0) -> bytes:
    """A Linux image for arm64, by its header alone, that loops."""
    head = struct.pack("<IIQQQ", LOOP, 0, offset, room, 10) + bytes(24) + b"ARM\x64" + bytes(4)
    return head + data


def zboot(payload: bytes, kind: bytes = b"gzip", at: int = 64, size: int | None = None) -> bytes:
    size = len(payload) if size is None else size
    return (
        b"MZ\0\0zimg" + struct.pack("<II", at, size) + bytes(8) + kind.ljust(32, b"\0") + bytes(8) + payload
    )


def tree() -> bytes:
    root = Node()
    root["#address-cells"] = 2
    root.node("chosen")["bootargs"] = "quiet"
    return flatten(root)


FILES = {
    "wants-everything": image(room=1 << 62),
    "wants-more-than-there-is": image(room=1 << 29),
    "odd-place": image(offset=1 << 40),
    "gzip-cut": gzip.compress(image(random.Random(1).randbytes(100000)))[:5000],
    "gzip-damaged": gzip.compress(image(bytes(1000)))[:20] + bytes(200),
    "zboot-empty": zboot(b""),
    "zboot-outside": zboot(gzip.compress(image()), at=1 << 30),
    "zboot-long": zboot(gzip.compress(image()), size=0xFFFFFFFF),
    "zboot-cut": zboot(gzip.compress(image()))[:40],
    "zboot-of-nobody": zboot(gzip.compress(image()), kind=b""),
    "zboot-lz4": zboot(b"1234", kind=b"lz4"),
    "zboot-xz-cut": zboot(lzma.compress(image(random.Random(1).randbytes(5000)))[:3000], kind=b"xz"),
    "zboot-xz-damaged": zboot(b"\xfd7zXZ\0" + bytes(300), kind=b"xz"),
    "other-cpu": executable(find("x86-64"), b"\xf4"),
    "elf-cut": program()[:100],
    "empty": b"",
}
TREES = {
    "text": b"/dts-v1/; / { };",
    "short": b"\xd0\x0d\xfe\xed",
    "cut": tree()[:-40],
    "old": tree()[:20] + struct.pack(">II", 2, 2) + tree()[28:],
    "long": tree()[:4] + struct.pack(">I", 0xFFFFFFFF) + tree()[8:],
    "nodes-outside": tree()[:8] + struct.pack(">I", 0x7FFFFFFF) + tree()[12:],
    "strings-outside": tree()[:12] + struct.pack(">I", len(tree()) - 1) + tree()[16:],
    "in-the-header": tree()[:8] + struct.pack(">I", 8) + tree()[12:],
    "huge": tree() + bytes(3 << 20),
    "empty": b"",
}


def told(folder, *words: str) -> str:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "emu",
            "boot",
            "--arch",
            "aarch64",
            "--accel",
            "tcg",
            "--timeout",
            "0.3",
            *words,
        ],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(Path.cwd())},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=120,
        check=False,
    )
    assert done.stderr.startswith("emu: "), done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.returncode in (2, 126), done.stderr
    return done.stderr


@pytest.mark.parametrize("name", FILES)
def test_a_broken_kernel_is_told_in_one_line(tmp_path, name):
    (tmp_path / "kernel").write_bytes(FILES[name])
    line = told(tmp_path, "--kernel", "kernel", "--memory", "256")
    assert "kernel" in line


@pytest.mark.parametrize("name", TREES)
def test_a_broken_device_tree_is_told_in_one_line(tmp_path, name):
    (tmp_path / "kernel").write_bytes(image())
    (tmp_path / "tree").write_bytes(TREES[name])
    assert "device tree tree" in told(tmp_path, "--kernel", "kernel", "--dtb", "tree", "--memory", "64")


@pytest.mark.parametrize("option", ["--kernel", "--initrd", "--firmware", "--dtb", "--firmware-vars"])
def test_a_file_larger_than_anything_is_told_in_one_line(tmp_path, option):
    (tmp_path / "kernel").write_bytes(image())
    with open(tmp_path / "huge", "wb") as file:
        file.truncate(1 << 40)
    others = [] if option in ("--kernel", "--firmware") else ["--kernel", "kernel"]
    assert "huge" in told(tmp_path, option, "huge", "--memory", "64", *others)


@pytest.mark.parametrize("packed", ["gzip", "zboot-gzip", "zboot-xz"])
def test_a_kernel_that_unpacks_without_end_is_refused(monkeypatch, packed):
    monkeypatch.setattr("emu.loader.arm64_image.LIMIT", 1 << 20)
    pack = lzma.compress if packed == "zboot-xz" else gzip.compress
    bomb = pack(bytes((1 << 20) + 1))
    with pytest.raises(BadImage, match="more than 1 GiB"):
        parse_arm64(bomb if packed == "gzip" else zboot(bomb, kind=packed.removeprefix("zboot-").encode()))
    parse_arm64(
        pack(bytes(1 << 20)) if packed == "gzip" else zboot(pack(bytes(1 << 20)), kind=packed[6:].encode())
    )


def mutated(rng: random.Random, data: bytes) -> bytes:
    """Bytes changed, fields set to what nobody expects, an end cut off."""
    changed = bytearray(data)
    for _ in range(rng.randrange(1, 6)):
        at = rng.randrange(min(len(changed), rng.choice((40, 64, 128, 4000))))
        width = rng.choice((1, 2, 4, 8))
        value = rng.choice(
            (0, 1, (1 << 8 * width) - 1, rng.getrandbits(8 * width), len(data), 1 << 8 * width - 1)
        )
        order = rng.choice(("little", "big"))
        changed[at : at + width] = (value & (1 << 8 * width) - 1).to_bytes(width, order)
    if rng.random() < 0.2:
        del changed[rng.randrange(1, len(changed)) :]
    return bytes(changed)


def test_no_header_of_an_image_crashes_its_reader():
    seed, cases = random.randrange(1 << 32), int(os.environ.get("EMU_FUZZ_CASES", "5000"))
    rng = random.Random(seed)
    body = random.Random(2).randbytes(600) * 3
    goods = [
        image(body),
        gzip.compress(image(body)),
        zboot(gzip.compress(image(body))),
        zboot(lzma.compress(image(body)), kind=b"xz"),
        zboot(gzip.compress(gzip.compress(image(body)))),
    ]
    for case in range(cases):
        lines, data = 0, mutated(rng, rng.choice(goods))
        try:
            parse_arm64(data)
        except EmuError as error:
            lines = str(error).count("\n")
        except Exception as error:
            raise AssertionError(f"seed {seed}, case {case}") from error
        assert lines == 0, f"seed {seed}, case {case}"


def test_a_machine_with_damaged_files_starts_or_says_why():
    seed, cases = random.randrange(1 << 32), int(os.environ.get("EMU_FUZZ_CASES", "5000")) // 50
    rng = random.Random(seed)
    kernels = {
        "aarch64": [image(bytes(5000)), gzip.compress(image(bytes(5000)))],
        "arm": [bytes.fromhex("feffffea") * 10],
        "riscv64": [bytes.fromhex("6f000000") * 10],
    }
    for arch, made in kernels.items():
        made.append(executable(find(arch), made[0][:16], 0x8000_0000 if arch == "riscv64" else 0x4040_0000))
    for case in range(cases):
        arch = rng.choice(tuple(kernels))
        lines, kernel = 0, rng.choice(kernels[arch])
        options = {
            "kernel": mutated(rng, kernel) if rng.random() < 0.6 else kernel,
            "dtb": rng.choice((None, mutated(rng, tree()))),
            "initrd": rng.choice((None, rng.randbytes(rng.randrange(1, 9000)))),
            "firmware": rng.choice((None, None, rng.randbytes(rng.randrange(1, 9000)))),
            "ram": rng.choice((1, 2, 4, 64)) << 20,
        }
        try:
            with Machine("virt", arch=arch, accel="tcg", **options) as started:
                started.run(timeout=0.002)
                started.reset()
        except EmuError as error:
            lines = str(error).count("\n")
        except Exception as error:
            raise AssertionError(f"seed {seed}, case {case}: {arch}") from error
        assert lines == 0, f"seed {seed}, case {case}"


def test_no_kernel_for_a_pc_gets_past_the_loader_unseen():
    """Loaded again and again into one machine, as at a reset: its memory stays as large as it was."""
    seed, cases = random.randrange(1 << 32), int(os.environ.get("EMU_FUZZ_CASES", "3000"))
    rng = random.Random(seed)
    with Machine("microvm", accel="tcg", ram=pc_fuzz.RAM, kernel=pc_fuzz.bzimage()) as machine:
        machine.start()
        machine.reset()
        refused = 0
        for case, image in enumerate(pc_fuzz.damaged(seed, cases)):
            machine.kernel = image
            machine.initrd = rng.choice((None, None, None, bytes(5000), bytes(pc_fuzz.RAM - (1 << 20))))
            machine.append = rng.choice(("", "", "quiet acpi=off", "x" * 3000))
            said = ""
            try:
                machine.board.load(machine)
            except EmuError as error:
                said = str(error)
            except Exception as error:
                raise AssertionError(f"seed {seed}, case {case}") from error
            refused += said != ""
            known = not said or said.startswith(("kernel: ", "initrd "))
            assert (known, "\n" in said) == (True, False), f"seed {seed}, case {case}: {said}"
        assert 0 < refused < case


def test_a_pc_with_a_damaged_kernel_runs_it_or_says_why():
    seed, cases = random.randrange(1 << 32), int(os.environ.get("EMU_FUZZ_CASES", "3000")) // 60
    for case, image in enumerate(pc_fuzz.damaged(seed, cases)):
        try:
            with Machine("microvm", accel="tcg", ram=pc_fuzz.RAM, kernel=image) as machine:
                machine.run(timeout=0.002)
                machine.reset()
        except (BadImage, GuestFault):
            pass
        except Exception as error:
            raise AssertionError(f"seed {seed}, case {case}") from error
