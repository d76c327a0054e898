"""Hooks addresses and changes registers and memory: of a machine, and of a program."""

import re
import tempfile
from pathlib import Path

from emu import Machine, Process
from emu.linux.process import PIPE
from emu.samples import checksum, dialogue, places


def machine() -> None:
    """The guest asks for a name on its console; a hook gives it another one before it greets."""
    with Machine("virt", arch="aarch64", accel="tcg", kernel=dialogue.kernel()) as machine:
        machine.console.expect("your name? ")
        greet = machine.board.ram_base + 0x8_0000 + places(dialogue.LISTING)["greet"]
        machine.on_address(greet, lambda hit: hit.memory.write(hit.registers["x20"] + 64, b"World\0"))
        machine.console.sendline("nobody")
        print("hello,", machine.console.expect(re.compile("hello, (.*)\n")).group(1))


def program() -> None:
    """The program computes a CRC in w19; a hook changes it before it is printed."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "checksum"
        path.write_bytes(checksum.program())
        path.chmod(0o755)
        with Process(path, stdin=PIPE, stdout=PIPE) as process:
            done = 0x400078 + places(checksum.LISTING)["done"]  # behind the headers of an ELF file
            process.on_address(done, lambda hit: hit.registers.__setitem__("x19", ~0x12345678 & 0xFFFFFFFF))
            process.run(b"hello", timeout=60)
            print(process.stdout)  # b'aarch64 12345678\n'


if __name__ == "__main__":
    machine()
    program()
