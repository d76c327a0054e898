"""What a debugger costs: single steps a second and memory read a second, by the protocol alone.

    python benchmarks/bench_gdb.py

Programs are those of tests/linux/guests; machines count in a loop.  One client, no gdb: a
client's own work is not in the figures.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))
from tests.emu.gdb_client import Client  # noqa: E402

PC = {"aarch64": 32, "arm": 15, "riscv64": 32, "x86_64": 16}


def measure(client: Client, address: int, name: str) -> None:
    """Prints a line."""
    thread = client.ask(b"qC")[2:]
    count = 3000
    start = time.perf_counter()
    for _ in range(count):
        client.ask(b"vCont;s:" + thread)
    steps = count / (time.perf_counter() - start)
    size, total = 0x4000, 8 << 20
    start = time.perf_counter()
    for _ in range(total // size):
        client.read(address, size)
    rate = total / (1 << 20) / (time.perf_counter() - start)
    print(f"{name:24} {steps:8.0f} steps/s {rate:8.1f} MiB/s", flush=True)


def machine(isa: str, accel: str, path: str) -> None:
    """A bare machine that counts."""
    import threading

    from emu import Machine
    from tests.emu.test_gdb_machine import counting_board
    from tests.guest.bare import CODE

    built = Machine(counting_board(isa), accel=accel)
    built.gdb(f"unix:{path}")

    def work() -> None:
        client = Client(path)
        if isa == "x86_64":  # to 64-bit mode first
            client.ask(b"Z1,%x,1" % CODE[isa])
            client.ask(b"vCont;c")
            client.ask(b"z1,%x,1" % CODE[isa])
        measure(client, CODE[isa], f"machine {isa} {accel}")
        client.socket.sendall(b"$k#6b")

    thread = threading.Thread(target=work)
    thread.start()
    with built:
        built.run(paused=True)
    thread.join()


def program(isa: str, accel: str, path: str) -> None:
    """A program that spins."""
    from tests.linux.conftest import COMPILERS

    out = path + ".program"
    source = ROOT / "tests/linux/guests/debugged.c"
    compiler = "gcc" if isa == "x86_64" else COMPILERS[isa]
    subprocess.run([compiler, "-static", "-O1", "-w", "-pthread", str(source), "-o", out], check=True)
    words = [sys.executable, "-m", "emu", "--accel", accel, "--gdb", f"unix:{path}", out, "spin"]
    with subprocess.Popen(words, stderr=subprocess.PIPE, cwd=ROOT) as emu:
        assert emu.stderr is not None
        emu.stderr.readline()
        client = Client(path)
        pc = client.ask(b"p%x" % PC[isa])
        measure(
            client, int.from_bytes(bytes.fromhex(pc.decode()), "little") & ~0xFFF, f"program {isa} {accel}"
        )
        client.socket.sendall(b"$k#6b")


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    cases = [(machine, isa, "tcg") for isa in PC] + [(machine, "x86_64", "kvm")]
    cases += [(program, isa, "tcg") for isa in PC] + [(program, "x86_64", "kvm")]
    for number, (kind, isa, accel) in enumerate(cases):
        with tempfile.TemporaryDirectory() as folder:
            try:
                kind(isa, accel, f"{folder}/{number}")
            except Exception as error:
                print(f"{kind.__name__} {isa} {accel}: {error!r}")


if __name__ == "__main__":
    main()
