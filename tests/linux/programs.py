"""Guest programs of tests/guest/linux, built for every ISA, and run by emu and natively."""

from __future__ import annotations

import functools
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.conftest import usable

SOURCES = Path(__file__).parent.parent / "guest" / "linux"
ROOT = Path(__file__).parent.parent.parent
# how a program is built: compiler's prefix, flags
BUILDS: dict[str, tuple[str, tuple[str, ...]]] = {
    "aarch64": ("aarch64-linux-gnu-", ()),
    "arm": ("arm-linux-gnueabihf-", ()),
    "arm-wide": ("arm-linux-gnueabihf-", ("-D_FILE_OFFSET_BITS=64", "-D_TIME_BITS=64")),
    "riscv64": ("riscv64-linux-gnu-", ()),
    "x86_64": ("x86_64-linux-gnu-", ()),
}
# how it is run: build and accelerator
GUESTS = {
    **{name: (name, "tcg") for name in BUILDS},
    "x86_64 by kvm": ("x86_64", "kvm"),
}
FLAGS = ("-O1", "-static", "-w", "-D_GNU_SOURCE")


@functools.cache
def _directory() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="emu-programs-")


@functools.cache
def build(source: str, build: str) -> Path:
    """The program of tests/guest/linux/SOURCE.c for one of BUILDS; skips where there is no compiler."""
    prefix, flags = BUILDS[build]
    compiler = shutil.which(prefix + "gcc")
    if compiler is None and build == platform.machine():
        compiler = shutil.which("gcc")
    if compiler is None:
        pytest.skip(f"{prefix}gcc is not installed: no {build} program can be built")
    out = Path(_directory().name) / f"{source}.{build}"
    subprocess.run([compiler, *FLAGS, *flags, "-o", out, SOURCES / f"{source}.c"], check=True, timeout=120)
    return out


class Outcome:
    """What a run printed (both streams) and its status as subprocess has it."""

    def __init__(self, output: str, status: int) -> None:
        self.output = output
        self.status = status

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Outcome) and (self.output, self.status) == (other.output, other.status)

    def __repr__(self) -> str:
        return f"status {self.status}:\n{self.output}"


def run(words: list[str | Path], timeout: float = 60) -> Outcome:
    """Runs a command of the host."""
    done = subprocess.run(
        words,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=timeout,
        cwd=ROOT,
        env={**os.environ, "LC_ALL": "C"},
    )
    return Outcome(done.stdout.decode(errors="replace"), done.returncode)


def emulated(source: str, guest: str, *arguments: str) -> Outcome:
    """A program of tests/guest/linux under emu, as one of GUESTS."""
    name, accel = GUESTS[guest]
    usable(accel)
    return run([sys.executable, "-m", "emu", "--accel", accel, build(source, name), *arguments])


@functools.cache
def native(source: str, *arguments: str) -> Outcome:
    """The same source built for the host and run on it: the oracle."""
    if platform.machine() != "x86_64":
        pytest.skip(f"the oracle is a native x86-64 run, and this host is {platform.machine()}")
    return run([build(source, "x86_64"), *arguments])
