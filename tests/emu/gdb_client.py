"""gdb-multiarch at work on a stub: one run of it, by a list of its commands; and the protocol alone."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import tempfile
import threading
from collections.abc import Sequence

import pytest

from emu import Machine
from emu.machine import Result

PATIENCE = 120


def command(where: str, commands: Sequence[str], program: str = "", arch: str = "") -> list[str]:
    """The words of one run: connects, does the commands, and ends."""
    gdb = shutil.which("gdb-multiarch")
    if gdb is None:
        pytest.skip("gdb-multiarch is not installed (apt-get install gdb-multiarch)")
    lines = ["set pagination off", "set confirm off", "set debuginfod enabled off", "set remotetimeout 60"]
    if arch:
        lines.append(f"set architecture {arch}")
    if program:
        lines.append(f"file {program}")
    with tempfile.NamedTemporaryFile("w", suffix=".gdb", delete=False) as script:
        script.write("\n".join((*lines, f"target remote {where}", *commands, "")))
    return [gdb, "-batch", "-nx", "-x", script.name]


def run(words: list[str], **options) -> str:
    """What it prints."""
    done = subprocess.run(
        words,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE,
        check=False,
        **options,
    )
    return done.stdout


def debug(machine: Machine, commands: Sequence[str], path, arch: str = "", **options) -> tuple[str, Result]:
    """Has gdb do its commands with a machine that has not run yet; what it printed, and how that ended."""
    machine.gdb(f"unix:{path}")
    words = command(str(path), commands, arch=arch)
    said: list[str] = []
    failed: list[BaseException] = []

    def client() -> None:
        try:
            said.append(run(words, **options))
        except BaseException as error:
            failed.append(error)
            machine.fail(error)

    thread = threading.Thread(target=client)
    thread.start()
    try:
        result = machine.run(timeout=PATIENCE, paused=True)
    finally:
        machine.close()
        thread.join()
    assert not failed
    return said[0], result


class Client:
    """The protocol without gdb and without acknowledgements: a packet, and its answer."""

    def __init__(self, path: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(30)
        self.socket.connect(path)
        self.file = self.socket.makefile("rb")
        self.ask(b"QStartNoAckMode")
        self.socket.sendall(b"+")
        self.ask(b"qSupported:swbreak+;vContSupported+")

    def ask(self, payload: bytes) -> bytes:
        self.socket.sendall(b"$%b#%02x" % (payload, sum(payload) & 0xFF))
        while self.file.read(1) != b"$":
            pass
        answer = bytearray()
        while (byte := self.file.read(1)) != b"#":
            if not byte:
                raise EOFError
            answer += byte
        self.file.read(2)
        return bytes(answer)

    def close(self) -> None:
        self.file.close()
        self.socket.close()

    def read(self, address: int, size: int) -> None:
        """Without looking at the bytes one by one, which would be this client's cost."""
        payload = b"m%x,%x" % (address, size)
        self.socket.sendall(b"$%b#%02x" % (payload, sum(payload) & 0xFF))
        data = b""
        while not data.endswith(b"#", 0, len(data) - 2):
            data += self.socket.recv(1 << 20)


def values(text: str, name: str) -> list[int]:
    """What `printf "NAME=%#lx\\n"` has printed."""
    return [int(found, 0) for found in re.findall(rf"^{name}=(\S+)$", text, re.MULTILINE)]
