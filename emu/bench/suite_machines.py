"""Whole machines with Linux: what it takes to boot, and what their disk and network carry.

Both suites share each machine's life; its guest tells by marks where it is.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path
from typing import NamedTuple

from accel.errors import EmuError
from emu.bench.peers import ISAS, emu, no_kvm, qemu_kvm, qemu_system
from emu.bench.process import MARK, PATIENCE, machine
from emu.bench.work import Job, Ran, Way, Work
from emu.images import busybox
from emu.images.modules import Modules

BOOT = "a machine from exec to Linux' first process, and what that does; Debian's kernels"
VIRTIO = "what a machine's disk and network carry, in the guest's Linux; files in the host's page cache"
MEMORY = 256
MIB = 1 << 20


class Step(NamedTuple):
    """What the guest does to one mark: its suite, name, what its time is for and of how many, and words."""

    suite: str
    name: str
    per: str
    units: int
    words: str


def steps(by: int) -> list[Step]:
    """In the guest's order; by: a share of the work."""
    starts, size, reads, small, stream = 16 // by, 2 // min(by, 2), 64 // by, 1000 // by, max(1, 4 // by)
    spawn = f"i=0; while [ $i -lt {starts} ]; do /bin/busybox true; i=$((i+1)); done"
    direct = "dd if=/dev/vda of=/dev/null iflag=direct"
    return [
        Step("boot", "exec to init", "run", 1, ""),
        Step("boot", "fork, exec and wait", "start", starts, spawn),
        Step("boot", "sha256sum", "run", 1, f"head -c {size * MIB} /dev/zero | sha256sum"),
        Step("virtio", "disk, reads of 1 MiB", "MiB", reads, f"{direct} bs=1M count={reads}"),
        Step("virtio", "disk, reads of 4 KiB", "read", small, f"{direct} bs=4k count={small}"),
        Step("virtio", "disk, writes of 1 MiB", "MiB", reads // 2,
             f"dd if=/dev/zero of=/dev/vda oflag=direct bs=1M count={reads // 2}"),
        Step("virtio", "network, received", "MiB", stream, "nc 10.0.2.2 $port < /dev/null > /dev/null"),
    ]  # fmt: skip


class Board(NamedTuple):
    """A board of emu's and QEMU's of the same name, and the devices of QEMU's that emu's has."""

    isa: str
    architecture: str
    name: str
    console: str
    modules: tuple[str, ...]
    devices: str
    cpu: str


BOARDS = (
    Board("aarch64", "arm64", "virt", "ttyAMA0", ("virtio_mmio", "virtio_blk"),
          "-global virtio-mmio.force-legacy=false -device virtio-blk-device,drive=d"
          " -device virtio-net-device,netdev=n", "cortex-a53"),
    Board("x86_64", "amd64", "pc", "ttyS0", ("virtio_pci", "virtio_blk"),
          "-device virtio-blk-pci,drive=d -device virtio-net-pci,netdev=n,romfile=", "Nehalem"),
)  # fmt: skip
# Inserted when the guest has booted: with a network card /init would ask for an address.
LATE = ("virtio_net",)


def jobs(folder: Path, quick: bool, suites: Collection[str]) -> list[Job]:
    """A job for each board, for one of the suites or both."""
    chosen = [step for step in steps(8 if quick else 1) if step.suite in suites]
    port = serve(next((step.units for step in chosen if "network" in step.name), 0) * MIB)
    disk = folder / "disk"
    disk.write_bytes(os.urandom(MIB) * max(step.units for step in steps(1) if step.suite == "virtio"))
    return [_job(board, folder, disk, chosen, port) for board in BOARDS]


def _job(board: Board, folder: Path, disk: Path, chosen: list[Step], port: int) -> Job:
    names = {step.name: f"{step.name}, {ISAS[board.isa]}" for step in chosen}
    job = Job([Work(step.suite, names[step.name], step.per) for step in chosen], every=2)
    made = ""
    kernel, initrd = folder / f"kernel-{board.architecture}", folder / f"initrd-{board.architecture}"
    try:
        make_guest(board, kernel, initrd, script(chosen, port))
    except EmuError as error:
        made = str(error)
    append = f"console={board.console} quiet"
    ours = [
        *emu(), "boot", "--no-config", "--machine", board.name, "--memory", str(MEMORY), "--no-reboot",
        "--no-top", "--kernel", str(kernel), "--initrd", str(initrd), "--append", append,
        "--drive", f"{disk},format=raw", "--net", "user", "--accel",
    ]  # fmt: skip
    qemu, missing = qemu_system(board.isa)
    theirs = [
        qemu, "-M", board.name, "-m", str(MEMORY), "-no-reboot", "-nodefaults", "-display", "none",
        "-serial", "stdio", "-kernel", str(kernel), "-initrd", str(initrd), "-append", append,
        "-drive", f"if=none,id=d,file={disk},format=raw", "-netdev", "user,id=n", *board.devices.split(),
    ]  # fmt: skip
    marks = {step.name: (names[step.name], step.units) for step in chosen}

    def run(command: list[str], patience: float = PATIENCE) -> Ran:
        found = machine(command, [*marks], patience=patience)
        return Ran({name: found[mark].each(count) for mark, (name, count) in marks.items()})

    no = no_kvm(board.isa, "machine")
    ways: dict[str, tuple[Callable[[], Ran], str]] = {
        "kvm": (partial(run, [*ours, "kvm"]), no),
        "unicorn": (partial(run, [*ours, "tcg"]), ""),
        "qemu-kvm": (qemu_kvm([*theirs, "-accel", "kvm"], run), missing or no),
        "qemu-tcg": (partial(run, [*theirs, "-accel", "tcg", "-cpu", board.cpu]), missing),
    }
    for engine, (way, reason) in ways.items():
        if not engine.endswith("kvm") or board.isa == "x86_64":
            job.ways.append(Way(engine, board.isa, way, made or reason))
    return job


def make_guest(board: Board, kernel: Path, initrd: Path, text: str) -> None:
    """Debian's kernel, and a RAM disk that runs a script.  Raises Unavailable."""
    package = busybox.kernel_package(board.architecture)
    kernel.write_bytes(busybox.kernel(package).read_bytes())
    late = Modules(package).closure((*board.modules, *LATE))
    first = {name for name, _ in Modules(package).closure(board.modules)}
    files = {f"late/{number:02}.ko": data for number, (name, data) in enumerate(late) if name not in first}
    initrd.write_bytes(
        busybox.initrd(
            text, modules=board.modules, files=files, package=package, architecture=board.architecture
        )
    )


def script(chosen: list[Step], port: int) -> str:
    """What the guest does, with a mark behind each step; the marks of what is between are not listened to."""
    lines = [f"port={port}"]
    for number, step in enumerate(chosen):
        if step.suite == "virtio" and (number == 0 or chosen[number - 1].suite != "virtio"):
            lines += [
                "for module in $(ls /late/*.ko | sort); do insmod $module; done",
                "ip address add 10.0.2.15/24 dev eth0; ip link set eth0 up",
                f"echo {MARK} ready",
            ]
        lines += [f"{{ {step.words}; }} > /dev/null 2>&1" if step.words else "", f"echo {MARK} {step.name}"]
    return "\n".join(lines)


def serve(size: int) -> int:
    """Sends so many bytes to everybody who connects, while this process lives; the port on loopback."""
    listener = socket.create_server(("127.0.0.1", 0))

    def send(client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            for _ in range(size // MIB):
                client.sendall(bytes(MIB))

    def accept() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=send, args=(client,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    port: int = listener.getsockname()[1]
    return port
