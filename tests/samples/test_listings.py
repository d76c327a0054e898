"""The samples' listings against the GNU assembler, and their programs against oracles."""

import os
import shutil
import subprocess
import zlib
from pathlib import Path
from typing import Any

import pytest

from emu.samples import checksum, dialogue, from_bytes, from_words, greeting
from emu.samples.elf import executable
from isa.arch import find


def assembled(listing: str, tool: str, tmp_path: Path, prologue: str = "") -> bytes:
    """The bytes that the GNU assembler makes of a listing's right-hand side."""
    if shutil.which(f"{tool}-as") is None:
        pytest.skip(f"{tool}-as is not installed, so there is nobody to compare the listing with")
    lines = [line.strip() for line in listing.splitlines()]
    text = "\n".join(line if line.endswith(":") else line.partition(" ")[2] for line in lines)
    source, made, linked, raw = (tmp_path / f"sample.{suffix}" for suffix in ("s", "o", "elf", "bin"))
    source.write_text(prologue + text + "\n")
    subprocess.run([f"{tool}-as", "-o", made, source], check=True, timeout=60)
    subprocess.run([f"{tool}-ld", "-Ttext", "0", "-e", "0", "-o", linked, made], check=True, timeout=60)
    subprocess.run([f"{tool}-objcopy", "-O", "binary", "-j", ".text", linked, raw], check=True, timeout=60)
    return raw.read_bytes()


RISCV = ".option norvc\n.option norelax\n"
INTEL = ".code16\n.intel_syntax noprefix\n"


@pytest.mark.parametrize(
    ("code", "listing", "tool", "prologue"),
    [
        (from_words, checksum.LISTING, "aarch64-linux-gnu", ""),
        (from_words, dialogue.LISTING, "aarch64-linux-gnu", ""),
        (from_words, greeting.AARCH64, "aarch64-linux-gnu", ""),
        (from_words, greeting.ARM, "arm-linux-gnueabihf", ".arch armv7-a\n"),
        (from_words, greeting.RISCV64, "riscv64-linux-gnu", RISCV),
        (from_bytes, greeting.X86_64, "x86_64-linux-gnu", INTEL),
        (from_bytes, greeting.X86_64_RESET, "x86_64-linux-gnu", INTEL + ".skip 0xfff0\n"),
    ],
    ids=["checksum", "dialogue", "aarch64", "arm", "riscv64", "x86_64", "x86_64-reset"],
)
def test_a_listing_is_what_its_assembly_says(
    code: Any, listing: str, tool: str, prologue: str, tmp_path: Path
) -> None:
    assert code(listing) == assembled(listing, tool, tmp_path, prologue).lstrip(b"\0")


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 10_001])
def test_the_checksum_program_agrees_with_zlib_under_qemu(size: int, tmp_path: Path) -> None:
    if shutil.which("qemu-aarch64") is None:
        pytest.skip("qemu-user is not installed, which shows that the sample itself is right")
    path = tmp_path / "checksum"
    path.write_bytes(checksum.program())
    path.chmod(0o755)
    data = os.urandom(size)
    run = subprocess.run(["qemu-aarch64", path], input=data, capture_output=True, check=True, timeout=60)
    assert run.stdout.decode() == f"aarch64 {zlib.crc32(data):08x}\n"


@pytest.mark.parametrize("arch", ["aarch64", "arm", "riscv64", "x86_64"])
def test_readelf_finds_nothing_wrong_with_the_writer_s_headers(arch: str, tmp_path: Path) -> None:
    if shutil.which("readelf") is None:
        pytest.skip("binutils are not installed, whose readelf judges the headers")
    path = tmp_path / arch
    path.write_bytes(executable(find(arch), b"\0" * 16))
    run = subprocess.run(["readelf", "-hl", path], capture_output=True, text=True, check=True, timeout=60)
    assert run.stderr == ""
    assert "EXEC (Executable file)" in run.stdout


def test_a_listing_of_bytes_keeps_their_order() -> None:
    assert from_bytes("again:\nb84100  mov ax, 0x41\n  done:\nf4  hlt\n") == b"\xb8\x41\x00\xf4"
