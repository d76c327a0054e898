"""Whole machines' devices without an interpreter, built with sanitizers."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
DEVICES = [ROOT / "emu" / folder / "native" for folder in ("devices", "virtio", "block", "net")]
CORE = ROOT / "accel" / "native"
# core_link.c is how the extension module finds the core; here the core itself is linked.
SOURCES = [
    *(path for folder in DEVICES for path in sorted(folder.glob("*.c")) if path.name != "core_link.c"),
    *(CORE / name for name in ("map.c", "irq.c", "host.c")),
]
FLAGS = ["-std=c11", "-D_GNU_SOURCE", "-g", "-O1", "-Wall", "-Wextra", "-Wno-unused-parameter", "-Werror"]
# ThreadSanitizer takes no account of fences, and gcc says so; what ours order is the guest's memory.
FLAGS += ["-fno-sanitize-recover=all", "-Wno-error=tsan"]


@pytest.fixture(scope="session")
def sanitized(tmp_path_factory) -> Callable[[str], list[str]]:
    """sanitized(sanitizers) -> the compiler with them; skips where either is missing."""
    folder = tmp_path_factory.mktemp("sanitized")
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler (gcc) to build the native tests with")

    @cache
    def command(sanitize: str) -> list[str]:
        probe = subprocess.run(
            [compiler, f"-fsanitize={sanitize}", "-x", "c", "-", "-o", str(folder / "probe")],
            input="int main(void) { return 0; }",
            text=True,
            capture_output=True,
        )
        if probe.returncode != 0:
            pytest.skip(f"the compiler cannot link -fsanitize={sanitize}: {probe.stderr.splitlines()[-1]}")
        return [compiler, f"-fsanitize={sanitize}"]

    return command


@pytest.fixture(scope="session")
def devices(tmp_path_factory, sanitized) -> Callable[[str, str], Path]:
    """devices(program, sanitizers) -> path: a C file of this folder with all devices it does not include."""
    folder = tmp_path_factory.mktemp("devices")
    includes = [word for path in (*DEVICES, CORE, HERE) for word in ("-I", str(path))]

    def compile(source: Path, sanitize: str) -> Path:
        made = folder / f"{source.stem}-{sanitize}.o"
        if not made.exists():
            command = [*sanitized(sanitize), *FLAGS, *includes, "-c", str(source), "-o", str(made)]
            subprocess.run(command, check=True, timeout=300)
        return made

    def build(program: str, sanitize: str) -> Path:
        out = folder / f"{program}-{sanitize}"
        if out.exists():
            return out
        sanitized(sanitize)  # skips, if it must, before the threads
        own = HERE / f"{program}.c"
        text = own.read_text()
        sources = [own, *(path for path in SOURCES if f'#include "{path.name}"' not in text)]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            objects = list(pool.map(lambda source: compile(source, sanitize), sources))
        command = [*sanitized(sanitize), *map(str, objects), "-pthread", "-ldl", "-o", str(out)]
        subprocess.run(command, check=True, timeout=120)
        return out

    return build
