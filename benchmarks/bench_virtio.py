"""What virtio devices carry, beside QEMU's: one kernel, driver programs and files, by translation, in turn.

    python benchmarks/bench_virtio.py [--board virt|microvm] [--rounds N] [--only ROW ...]
                                      [--transport mmio|pci] [--format raw|qcow2] [--json FILE]

The boards are bench_boot.py's; on microvm QEMU has its devices on PCI, and the kernel no 9p.

Rows: a disk read and written from one end to the other (1 GiB, 1 MiB a request, without the guest's cache)
and at random (4 KiB a request, one at a time); a TCP stream to and from the host through user networking and
single bytes sent to and fro; a shared folder's file.  Figures are the guest's MiB or operations a second,
medians with the smallest and largest, and emu divided by QEMU; then CPU seconds of the host for each.  The
disk's file is in the host's page cache.  Asserts nothing.  Ctrl-C keeps what is done.  Needs a C compiler for
the guest.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from bench_boot import BOARDS, MARK, cpu_seconds  # noqa: E402

from emu.images import busybox  # noqa: E402
from tests.emu.linux_guest import image  # noqa: E402

MIB = 1 << 20
DISK, STREAM, SHARED = 1024, 256, 256  # MiB
# name: (what the guest runs, the unit); HOST and PORT are filled in.
ROWS = {
    "disk read": (f"transfer read /dev/vda {DISK * MIB} {MIB}", "MiB/s"),
    "disk read again": (f"transfer read /dev/vda {DISK * MIB} {MIB}", "MiB/s"),
    "disk random 4 KiB": ("transfer random /dev/vda 20000", "1/s"),
    "disk written": (f"transfer write /dev/vda {DISK // 2 * MIB} {MIB}", "MiB/s"),
    "net received": (f"transfer receive 10.0.2.2 PORT {STREAM * MIB}", "MiB/s"),
    "net sent": (f"transfer send 10.0.2.2 PORT {STREAM * MIB}", "MiB/s"),
    "net echo": ("transfer echo 10.0.2.2 PORT 3000", "1/s"),
    "share read": (f"transfer read /mnt/file {SHARED * MIB} {MIB}", "MiB/s"),
}
MEMORY = 256


def serve(listener: socket.socket) -> None:
    """The host's side: sends without end, takes and counts, or answers; told by the port's place."""
    while True:
        try:
            client, _ = listener.accept()
        except OSError:
            return
        with client, contextlib.suppress(OSError):
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            talk(client, listener.getsockname()[1] % 3)


def talk(client: socket.socket, kind: int) -> None:
    data = bytes(MIB)
    if kind == 0:
        while True:
            client.sendall(data)
    elif kind == 1:
        while client.recv(MIB):
            pass
        client.sendall(b"!")
    else:
        while got := client.recv(4096):
            client.sendall(got)


@contextlib.contextmanager
def services() -> Iterator[dict[str, int]]:
    """Ports on loopback by the row that uses them; stopped at the end."""
    listeners: dict[int, socket.socket] = {}
    while len(listeners) < 3:
        listener = socket.create_server(("127.0.0.1", 0))
        kind = listener.getsockname()[1] % 3
        if kind in listeners:
            listener.close()
            continue
        listeners[kind] = listener
        threading.Thread(target=serve, args=(listener,), daemon=True).start()
    ports = {name: listeners[kind].getsockname()[1] for kind, name in enumerate(("received", "sent", "echo"))}
    try:
        yield ports
    finally:
        for listener in listeners.values():
            listener.close()


def program(folder: Path, architecture: str) -> bytes:
    """guest/transfer.c for the guest."""
    name = {"arm64": "aarch64", "amd64": "x86_64"}[architecture] + "-linux-gnu-gcc"
    compiler = shutil.which(name)
    if compiler is None:
        sys.exit(
            f"{name} is not installed: apt-get install gcc-{name.removesuffix('-gcc').replace('_', '-')}"
        )
    out = folder / "transfer"
    subprocess.run([compiler, "-O2", "-static", "-o", out, HERE / "guest" / "transfer.c"], check=True)
    return out.read_bytes()


def script(rows: list[str], ports: dict[str, int]) -> str:
    lines = [f"echo {MARK} start"]
    for name in rows:
        command, _ = ROWS[name]
        lines.append(
            f"n=$({command.replace('PORT', str(ports.get(name.split()[-1], 0)))}); echo {MARK} {name} = $n"
        )
    return "\n".join(lines) + "\n"


def run(command: list[str]) -> dict[str, tuple[float, float]]:
    """{row: (rate, host's CPU seconds)}."""
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    found: dict[str, tuple[float, float]] = {}
    spent = 0.0
    try:
        for line in process.stdout:
            _, marked, words = line.partition(MARK)
            if not marked:
                continue
            cpu = cpu_seconds(process.pid)
            name, _, value = words.partition(" = ")
            if value.strip():
                found[name.strip()] = (float(value), cpu - spent)
            spent = cpu
    finally:
        process.kill()
        process.wait()
    return found


def commands(options: argparse.Namespace, folder: Path, ports: dict[str, int]) -> dict[str, list[str]]:
    """emu and QEMU with the same guest and devices."""
    board = BOARDS[options.board]
    kernel, disk, share = folder / "Image", folder / "initrd", folder / "share"
    kernel.write_bytes(image(board.architecture))
    files = {"bin/transfer": program(folder, board.architecture)}
    rows = options.only or [
        row for row in ROWS if board.architecture == "arm64" or not row.startswith("share")
    ]
    made = busybox.initrd(script(rows, ports), files=files, architecture=board.architecture)
    disk.write_bytes(made)
    share.mkdir()
    (share / "file").write_bytes(os.urandom(MIB) * SHARED)
    drive = folder / f"disk.{options.format}"
    if options.format == "raw":
        with drive.open("wb") as file:
            for _ in range(DISK):
                file.write(os.urandom(MIB))
    else:
        raw = folder / "disk.raw"
        with raw.open("wb") as file:
            for _ in range(DISK):
                file.write(os.urandom(MIB))
        subprocess.run(["qemu-img", "convert", "-O", "qcow2", raw, drive], check=True)
        raw.unlink()
    append = f"console={board.console} quiet"
    machine = board.emu.replace("GIC", "2") + (",virtio=pci" if options.transport == "pci" else "")
    emu = [
        str(Path(sys.executable).with_name("emu")), "boot", "--accel", "tcg", "--machine", machine,
        "-m", str(MEMORY), "--kernel", str(kernel), "--initrd", str(disk), "--append", append, "--no-reboot",
        "--drive", f"{drive},format={options.format}", "--net", "user",
    ]  # fmt: skip
    found = {"emu": emu}
    qemu = shutil.which(board.program)
    kind = "pci" if options.transport == "pci" or board.architecture == "amd64" else "device"
    rom = ",romfile=" if kind == "pci" else ""
    theirs = [
        *board.qemu.replace("GIC", "2").split(), "-accel", "tcg", "-m", str(MEMORY), "-nodefaults",
        "-nographic", "-serial", "stdio", "-kernel", str(kernel), "-initrd", str(disk), "-append", append,
        "-no-reboot", "-global", "virtio-mmio.force-legacy=false",
        "-drive", f"if=none,id=d,file={drive},format={options.format}",
        "-device", f"virtio-blk-{kind},drive=d",
        "-netdev", "user,id=n", "-device", f"virtio-net-{kind},netdev=n{rom}",
    ]  # fmt: skip
    if board.architecture == "arm64":
        emu += ["--share", str(share)]
        theirs += ["-fsdev", f"local,id=f,path={share},security_model=none"]
        theirs += ["-device", f"virtio-9p-{kind},fsdev=f,mount_tag=share"]
        theirs += ["-device", f"virtio-rng-{kind}", "-device", f"virtio-balloon-{kind}"]
    if qemu is None:
        print(f"{board.program} is not installed: emu alone", file=sys.stderr)
    else:
        found["qemu"] = [qemu, *theirs]
    return found


def main() -> None:
    """The command line in this module's first lines."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--board", default="virt", choices=list(BOARDS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", action="append", choices=list(ROWS))
    parser.add_argument("--transport", default="mmio", choices=["mmio", "pci"])
    parser.add_argument("--format", default="raw", choices=["raw", "qcow2"])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    runs: dict[str, list[dict[str, tuple[float, float]]]] = {}
    with tempfile.TemporaryDirectory() as folder, services() as ports:
        ways = commands(options, Path(folder), ports)
        try:
            for number in range(options.rounds):
                for name, command in ways.items():
                    runs.setdefault(name, []).append(run(command))
                print(f"round {number + 1} of {options.rounds}", file=sys.stderr)
        except KeyboardInterrupt:
            print("stopped; what is done follows", file=sys.stderr)
    table(runs)
    if options.json:
        options.json.write_text(json.dumps(runs, indent=1))


def table(runs: dict[str, list[dict[str, Any]]]) -> None:
    """Prints the medians."""
    print(f"{'row':20} {'emu':>26} {'qemu':>26} {'unit':6} {'emu/qemu':>9}   CPU seconds: emu, qemu")
    for row, (_, unit) in ROWS.items():
        cells, rates, costs = [], [], []
        for name in ("emu", "qemu"):
            values = [found[row][0] for found in runs.get(name, []) if row in found]
            if values:
                rates.append(statistics.median(values))
                costs.append(statistics.median(found[row][1] for found in runs[name] if row in found))
                cells.append(f"{rates[-1]:8.0f} ({min(values):.0f}-{max(values):.0f})")
            else:
                cells.append("")
        if not rates:
            continue
        ratio = f"{rates[0] / rates[1]:9.2f}" if len(rates) == 2 and rates[1] else f"{'':9}"
        print(
            f"{row:20} "
            + " ".join(f"{cell:>26}" for cell in cells)
            + f" {unit:6} {ratio}   "
            + ", ".join(f"{cost:.2f}" for cost in costs)
        )


if __name__ == "__main__":
    main()
