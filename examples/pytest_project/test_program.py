"""A Linux program for arm64, beside an oracle."""

import zlib
from pathlib import Path

import pytest

from emu.pytest_plugin import Programs
from emu.samples import checksum


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "checksum"
    path.write_bytes(checksum.program())
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("text", ["", "hello\n", "x" * 100_000])
def test_it_agrees_with_zlib(emu_process: Programs, program: Path, text: str) -> None:
    done = emu_process(program, input=text)
    assert (done.returncode, done.stdout) == (0, f"aarch64 {zlib.crc32(text.encode()):08x}\n")
