"""Runs a program for arm64 and reads what it says."""

import tempfile
from pathlib import Path

import emu
from emu.samples import checksum

with tempfile.TemporaryDirectory() as folder:
    program = Path(folder) / "checksum"
    program.write_bytes(checksum.program())
    program.chmod(0o755)
    done = emu.run([program], input="hello", capture_output=True, text=True, timeout=60, check=True)
    print(done.stdout, end="")  # aarch64 3610a686
