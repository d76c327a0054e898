"""What it costs a machine's guest to read a device's register once."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path

from emu.bench import guest_access
from emu.bench.peers import emu, no_kvm, qemu_kvm, qemu_system
from emu.bench.process import PATIENCE, machine
from emu.bench.work import Job, Ran, Way, Work

ABOUT = "what it costs a machine's guest to read a device's register once"
PORT, MMIO, HOOK = "port, a 16550's LSR", "MMIO, a PL011's FR", "a method in Python"
# By engine and work: some 50 ms.
FAST, SLOW, HOOKED = 400_000, 20_000, 20_000
QEMU = "-nodefaults -display none -serial stdio -no-reboot"


def jobs(folder: Path, quick: bool, suites: Collection[str] = ()) -> list[Job]:
    """A job for each kind of register."""
    return [_port(folder, quick), _mmio(folder, quick), _hook(folder, quick)]


def _port(folder: Path, quick: bool) -> Job:
    isa, guest = "x86_64", partial(guest_access.x86_64, None)
    job = Job([Work("mmio", PORT, "access")])
    board = [*emu(), "boot", "--no-config", "--machine", "microvm", "--firmware", "{firmware}", "--accel"]
    qemu, missing = qemu_system(isa)
    theirs = [qemu, "-M", "microvm", *QEMU.split(), "-bios", "{firmware}", "-accel"]
    table = (
        ("kvm", [*board, "kvm"], no_kvm(isa, "machine"), SLOW),
        ("unicorn", [*board, "tcg"], "", FAST),
        ("qemu-kvm", [*theirs, "kvm"], missing or no_kvm(isa, "machine"), SLOW),
        ("qemu-tcg", [*theirs, "tcg"], missing, FAST),
    )
    for engine, command, reason, count in table:
        few = count // 10 if quick else count
        runs = _runs(folder, PORT, f"port-{engine}", guest(few), few)
        if engine == "qemu-kvm":
            job.ways.append(Way(engine, isa, qemu_kvm(command, runs), reason))
        else:
            job.ways.append(Way(engine, isa, partial(runs, command), reason))
    return job


def _mmio(folder: Path, quick: bool) -> Job:
    isa, count = "aarch64", FAST // 10 if quick else FAST
    runs = _runs(folder, MMIO, "mmio", guest_access.aarch64(guest_access.PL011_FR, count), count)
    ours = [*emu(), "boot", "--no-config", "--machine", "virt", "--firmware", "{firmware}", "--accel", "tcg"]
    qemu, missing = qemu_system(isa)
    words = f"-M virt -cpu cortex-a53 -accel tcg {QEMU} -bios"
    theirs = [qemu, *words.split(), "{firmware}"]
    ways = [Way("unicorn", isa, partial(runs, ours)), Way("qemu-tcg", isa, partial(runs, theirs), missing)]
    return Job([Work("mmio", MMIO, "access")], ways)


def _hook(folder: Path, quick: bool) -> Job:
    job = Job([Work("mmio", HOOK, "access")])
    count = HOOKED // 10 if quick else HOOKED
    guests = {"x86_64": guest_access.x86_64, "aarch64": guest_access.aarch64}
    for engine, isa, accel in (("kvm", "x86_64", "kvm"), ("unicorn", "aarch64", "tcg")):
        runs = _runs(folder, HOOK, f"hook-{isa}", guests[isa](guest_access.DEVICE, count), count)
        command = [sys.executable, "-m", "emu.bench.hooked", isa, accel, "{firmware}"]
        reason = no_kvm(isa, "machine") if engine == "kvm" else ""
        job.ways.append(Way(engine, isa, partial(runs, command), reason))
    return job


def _runs(folder: Path, work: str, name: str, firmware: bytes, count: int) -> Callable[..., Ran]:
    """Runs a command with this firmware, which stands for {firmware}."""
    path = folder / f"{name}.rom"
    path.write_bytes(firmware)

    def run(command: list[str], patience: float = PATIENCE) -> Ran:
        words = [word.replace("{firmware}", str(path)) for word in command]
        marks = machine(words, ["begin", "end"], waits="begin", patience=patience)
        return Ran({work: marks["end"].each(count)})

    return run
