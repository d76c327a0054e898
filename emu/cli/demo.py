"""`emu demo`: the main job, on real input where there is a network, on sample guests where there is none.

What comes out is compared with what Python says it should be; the exit status is 0 only if it agrees.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path

from accel.errors import EmuError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

STATUSES = {"1": "something was not as it should be"}
# Seconds: a program of the demonstration that runs longer hangs.
_LONGEST = 120
_SCRIPT = "uname -m; seq 1 100000 | sha256sum"


def add_arguments(parser: ArgumentParser) -> None:
    """Adds demo's own options to an argparse parser."""
    parser.add_argument("--offline", action="store_true", help="fetch nothing; use the sample guests")


def main(args: Namespace) -> int:
    """Runs the demonstration; 0 if everything printed what it should."""
    print("1. A Linux program for arm64, translated for this host\n")
    right = program_of_the_samples() if args.offline else program_of_debian()
    print("\n2. Guests without an operating system, printing on one and the same UART device\n")
    right = guests() and right
    print("\nAll of it printed what it should." if right else "\nSomething above is not what it should be.")
    return 0 if right else 1


def program_of_debian() -> bool:
    """busybox of Debian's arm64, fetched through apt; the project's own program where that cannot be."""
    from emu.samples.debian import place, unpacked

    package = ("busybox-static", "arm64")
    if not place(*package).is_dir():
        print(f"   fetching Debian's {':'.join(package)} into {place(*package)}, once")
        sys.stdout.flush()
    try:
        program = unpacked(*package) / "bin" / "busybox"
    except EmuError as error:
        print(f"   {error}\n   so a program made from this project's own sources takes its place")
        return program_of_the_samples()
    numbers = "".join(f"{n}\n" for n in range(1, 100_001)).encode()
    wanted = f"aarch64\n{hashlib.sha256(numbers).hexdigest()}  -\n"
    return run([str(program), "sh", "-c", _SCRIPT], b"", wanted, "Python's hashlib")


def program_of_the_samples() -> bool:
    """The checksum program, fed with this file."""
    from emu.samples.checksum import program

    data = Path(__file__).read_bytes()
    with tempfile.TemporaryDirectory(prefix="emu-demo-") as folder:
        path = Path(folder) / "checksum-arm64"
        path.write_bytes(program())
        path.chmod(0o755)
        return run([str(path)], data, f"aarch64 {zlib.crc32(data):08x}\n", "Python's zlib.crc32")


def run(command: list[str], data: bytes, wanted: str, oracle: str) -> bool:
    """Runs a program with emu as a user would; whether it printed what was wanted."""
    shown = shlex.join([Path(command[0]).name, *command[1:]])
    print(f"   $ emu {shown}" + (f" < {Path(__file__).name}" if data else ""))
    sys.stdout.flush()
    start = time.perf_counter()
    try:
        done = subprocess.run(
            [sys.executable, "-m", "emu", "--no-config", *command],
            input=data,
            stdout=subprocess.PIPE,
            timeout=_LONGEST,
            check=False,
        )
    except subprocess.TimeoutExpired:
        print(f"   it did not end within {_LONGEST} s")
        return False
    took = time.perf_counter() - start
    said = done.stdout.decode(errors="replace")
    for line in said.splitlines():
        print(f"   {line}")
    if done.returncode == 0 and said == wanted:
        print(f"   as {oracle} has it, in {took:.2f} s on {os.uname().machine}")
        return True
    print(f"   exit status {done.returncode}; {oracle} has:")
    for line in wanted.splitlines():
        print(f"   {line}")
    return False


def guests() -> bool:
    """An x86-64 guest through /dev/kvm, or the reason why not, and the others by translation."""
    from accel.choice import choose
    from emu.samples.greeting import BOARDS, greeting

    right = True
    for arch in BOARDS:
        name, note = choose("kvm:tcg" if arch == "x86_64" else "tcg", arch, "machine")
        if note:
            print(f"   {note}")
        start = time.perf_counter()
        try:
            said = greeting(arch, name)
        except EmuError as error:
            print(f"   {name}  {arch:<8} {error}")
            right = False
            continue
        took = (time.perf_counter() - start) * 1000
        right = right and said == BOARDS[arch]().message().rstrip(b"\0").decode()
        print(f"   {name}  {arch:<8} {took:6.1f} ms   {said.rstrip()}")
    return right
