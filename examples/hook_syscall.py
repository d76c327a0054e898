"""Hooks a system call of a program for arm64: it is told another machine's name."""

import tempfile
from pathlib import Path

from emu import Process
from emu.linux.process import PIPE
from emu.linux.watch import Call
from emu.samples import checksum

MACHINE = 4 * 65  # where struct utsname has it


def rename(call: Call) -> None:
    call.memory.write(call.args[0] + MACHINE, b"pdp11\0")


with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "checksum"
    path.write_bytes(checksum.program())
    path.chmod(0o755)
    with Process(path, stdin=PIPE, stdout=PIPE) as process:
        process.on_syscall("uname", after=rename)
        process.on_syscall("read", lambda call: print("reads at most", call.args[2], "bytes"))
        process.run(b"hello", timeout=60)
        print(process.stdout)  # b'pdp11 3610a686\n'
