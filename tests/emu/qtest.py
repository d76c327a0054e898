"""QEMU's devices as an oracle: accesses through its qtest protocol, with guest time that the test moves."""

import shutil
import subprocess

import pytest


class Qtest:
    """A machine of QEMU's that executes nothing; the same calls as the bench's."""

    def __init__(self, arch: str, *options: str) -> None:
        program = shutil.which(f"qemu-system-{arch}")
        if program is None:
            pytest.skip(f"qemu-system-{arch}, whose devices are compared with ours, is not installed")
        self.process = subprocess.Popen(
            [program, *options, "-qtest", "stdio", "-display", "none", "-nodefaults", "-S"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def ask(self, words: str) -> str:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(words + "\n")
        self.process.stdin.flush()
        while True:
            answer = self.process.stdout.readline()
            if not answer:
                raise EOFError(f"QEMU ended at {words!r}")
            if answer.startswith("OK"):
                return answer[2:].strip()
            assert answer.startswith("IRQ"), answer

    def inb(self, port: int) -> int:
        return int(self.ask(f"inb {port:#x}"), 16)

    def outb(self, port: int, value: int) -> None:
        self.ask(f"outb {port:#x} {value:#x}")

    def read(self, address: int, width: int = 4) -> int:
        return int(self.ask(f"read{ {1: 'b', 2: 'w', 4: 'l', 8: 'q'}[width] } {address:#x}"), 16)

    def write(self, address: int, value: int, width: int = 4) -> None:
        self.ask(f"write{ {1: 'b', 2: 'w', 4: 'l', 8: 'q'}[width] } {address:#x} {value:#x}")

    def step(self, ns: int) -> None:
        self.ask(f"clock_step {ns}")

    def close(self) -> None:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.close()
        self.process.terminate()
        self.process.wait(10)
        self.process.stdout.close()
