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
    if platform.machine() != "x86_64" or shutil.which("gcc") is None:
        pytest.skip("x86-64 guests are assembled with an x86-64 host's gcc")
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "image"
        command = ["gcc", "-nostdlib", "-static", "-no-pie", f"-Wl,-Ttext={base:#x},--oformat=binary,-estart"]
        command += [f"-D{name}={value}" for name, value in defines.items()]
        subprocess.run(
            [*command, "-Wl,--build-id=none", "-o", str(out), str(HERE / source)], check=True, timeout=60
        )
        return out.read_bytes()
