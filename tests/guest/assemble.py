"""Assembles guests without an operating system, with the host's own tools."""

from __future__ import annotations

import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def assemble(source: str, base: int, **defines: str) -> bytes:
    """The image of tests/guest/<source> to be loaded at `base`; skips where the host has no x86-64 tools."""
    return _link(source, base, "--oformat=binary", defines)


def output_on_host(source: str, base: int, **defines: str) -> bytes:
    """What tests/guest/<source>, assembled with HOST as a program for the host's Linux, writes: an oracle."""
    image = _link(source, base, "--build-id=none", {**defines, "HOST": "1"})
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "program"
        program.write_bytes(image)
        program.chmod(0o700)
        return subprocess.run([str(program)], check=True, timeout=60, capture_output=True).stdout


def _link(source: str, base: int, form: str, defines: dict[str, str]) -> bytes:
    if platform.machine() != "x86_64" or shutil.which("gcc") is None:
        pytest.skip("x86-64 guests are assembled with an x86-64 host's gcc")
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "image"
        command = ["gcc", "-nostdlib", "-static", "-no-pie", f"-Wl,-Ttext={base:#x},{form},-estart"]
        command += [f"-D{name}={value}" for name, value in defines.items()]
        subprocess.run(
            [*command, "-Wl,--build-id=none", "-o", str(out), str(HERE / source)], check=True, timeout=60
        )
        return out.read_bytes()
