"""Programs for Linux user mode, built from guests/ for every ISA, and how they are run.

The oracle is the same source built for the host, or what the test says; qemu-user is asked nothing.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import usable

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
COMPILERS = {
    "aarch64": "aarch64-linux-gnu-gcc",
    "arm": "arm-linux-gnueabihf-gcc",
    "riscv64": "riscv64-linux-gnu-gcc",
    "x86_64": "x86_64-linux-gnu-gcc",
}
Build = Callable[..., str]


@pytest.fixture(params=list(COMPILERS))
def isa(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """build(name, isa, *flags): the path of guests/name.c as a static program; "native": for the host."""
    folder = tmp_path_factory.mktemp("programs")

    def build(name: str, isa: str, *flags: str) -> str:
        compiler = COMPILERS[platform.machine() if isa == "native" else isa]
        if isa in ("native", platform.machine()) and shutil.which(compiler) is None:
            compiler = "gcc"
        if shutil.which(compiler) is None:
            pytest.skip(f"no {compiler} to build the {isa} program with")
        out = folder / "-".join((name, isa, *flags)).replace("/", "_")
        if not out.exists():
            words = [compiler, "-O2", "-w", *(flags or ("-static",)), str(HERE / "guests" / f"{name}.c")]
            made = subprocess.run([*words, "-o", str(out)], capture_output=True, text=True, timeout=120)
            if "rcrt1.o" in made.stderr:
                pytest.skip(f"{compiler} has no rcrt1.o to link {' '.join(flags)} programs with")
            assert made.returncode == 0, made.stderr
        return str(out)

    return build


@pytest.fixture(scope="session")
def sanitized(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """sanitized(name, *sources): the path of tests/native/name.c, built with ASan and UBSan."""
    folder = tmp_path_factory.mktemp("native")
    compiler = shutil.which("gcc") or shutil.which("cc")
    folders = [ROOT / path for path in ("accel/native", "emu/native", "emu/linux/native", "tests/native")]
    flags = ["-std=c11", "-D_GNU_SOURCE", "-g", "-O1", "-fno-sanitize-recover=all"]

    def sanitized(name: str, *sources: str) -> str:
        if compiler is None:
            pytest.skip("no C compiler (gcc) to build the native tests with")
        out = str(folder / name)
        files = [str(ROOT / path) for path in (f"tests/native/{name}.c", *sources)]
        command = [compiler, *flags, "-fsanitize=address,undefined", *(f"-I{path}" for path in folders)]
        made = subprocess.run([*command, *files, "-o", out], capture_output=True, text=True)
        if "asan" in made.stderr:
            pytest.skip(f"the compiler cannot link the sanitizers: {made.stderr.splitlines()[-1]}")
        assert made.returncode == 0, made.stderr[-2000:]
        return out

    return sanitized


@pytest.fixture(params=[*COMPILERS, "x86_64 by kvm"])
def guest(request: pytest.FixtureRequest) -> tuple[str, str]:
    """An ISA and the accelerator for it: all by tcg, and the host's by kvm."""
    isa, _, accel = str(request.param).partition(" by ")
    if accel:
        usable(accel)
    return isa, accel or "tcg"


def emulate(*words: object, accel: str = "tcg", **options: object) -> subprocess.CompletedProcess[str]:
    """`emu --accel ACCEL WORDS`, with its output as text."""
    command = [sys.executable, "-m", "emu", "--accel", accel, *map(str, words)]
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    options = {"env": environ, "timeout": 120, "input": "", **options}
    return subprocess.run(command, capture_output=True, text=True, **options)  # type: ignore[call-overload,no-any-return]


def native(*words: object, **options: object) -> subprocess.CompletedProcess[str]:
    """The same by the host's own kernel."""
    options = {"timeout": 120, "input": "", **options}
    return subprocess.run([str(word) for word in words], capture_output=True, text=True, **options)  # type: ignore[call-overload,no-any-return]
