"""Compares engines in lockstep: a program on two, and a machine beside one in which a register is changed."""

import tempfile
from pathlib import Path

from emu import Machine
from emu.diff import compare, lockstep
from emu.samples import checksum, dialogue, places

with tempfile.TemporaryDirectory() as folder:
    path, data = Path(folder) / "checksum", Path(folder) / "input"
    path.write_bytes(checksum.program())
    path.chmod(0o755)
    data.write_bytes(b"hello")
    with data.open("rb") as given:
        print(compare([str(path)], ("translator", "unicorn"), stdin=given))

kernel = dialogue.kernel()
with (
    Machine("virt", arch="aarch64", accel="tcg", kernel=kernel) as one,
    Machine("virt", arch="aarch64", accel="tcg", kernel=kernel) as two,
):
    ready = two.board.ram_base + 0x8_0000 + places(dialogue.LISTING)["ready"]
    two.on_address(ready, lambda hit: hit.registers.__setitem__("x1", ord("?")))
    print(lockstep(one, two, count=10_000))
