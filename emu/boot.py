"""`emu boot`: a machine from the command line, its serial line on the terminal."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack, suppress
from typing import Any

from accel.errors import DeviceError
from emu.signals import Signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from emu.backends.chardev import Chardev
    from emu.board import Board
    from emu.machine import Machine
    from emu.virtio.device import VirtioDevice

# What an image has of its own: of these options it has precedence over the configuration file's.
OF_IMAGE = ("machine", "arch", "kernel", "initrd", "firmware", "firmware_vars", "dtb")
STATUSES = {
    "N": "what the guest has told as its own: of PCs by port F4h, of others by what ends a machine",
    "1": "the guest did what it cannot go on from; its registers are told",
    "124": "--timeout is over",
    "126": "a kernel that cannot be loaded",
}
UNITS = {"": 1 << 20, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options of `emu boot`."""
    add = parser.add_argument
    add(
        "image", nargs="?", metavar="IMAGE",
        help="a ready guest by its name, fetched if it is not here (emu images); options come on top",
    )  # fmt: skip
    add(
        "-M",
        "--machine",
        default=None,
        metavar="BOARD",
        help="virt, microvm or pc (default: what fits --arch)",
    )
    add("--arch", metavar="ARCH", help="aarch64, arm, riscv64 or x86_64 (default: the board's first)")
    add(
        "--accel",
        default="auto",
        metavar="SPEC[,kernel-irqchip=on|split|off]",
        help="auto, kvm, tcg or kvm:tcg (default: auto); which interrupt controllers are the host kernel's",
    )
    add(
        "--cpu",
        default="",
        metavar="NAME[,+FEATURE][,-FEATURE][,enforce]",
        help="under kvm host (the default), x86-64-v1 to v4, qemu64, Haswell and so on; under tcg a model of"
        " its own; enforce: an error where the host lacks a feature",
    )
    add("--cpus", type=int, default=1, metavar="N", help="how many CPUs (default: 1)")
    add("-m", "--memory", metavar="SIZE", help="RAM, in MiB or with a suffix k, M, G (default: the board's)")
    add("--firmware", metavar="FILE", help="what the CPU starts with, in ROM")
    add("--firmware-vars", metavar="FILE", help="keeps the firmware's variables; made if it is not there")
    add(
        "--kernel",
        metavar="FILE",
        help="a Linux kernel, an ELF file or a raw image; started by the firmware, or else at once",
    )
    add("--initrd", metavar="FILE", help="the kernel's initial RAM disk")
    add("--append", metavar="WORDS", default="", help="the kernel's command line")
    add(
        "--drive",
        action="append",
        default=[],
        metavar="FILE[,format=raw|qcow2][,readonly=on][,cache=MODE][,discard=unmap][,serial=TEXT][,backing=any]",
        help="a disk, by virtio; again for the next one; backing=any: on top of a file in any folder",
    )
    add(
        "--snapshot",
        action="store_true",
        help="forget what the guest writes to the disk of IMAGE; by default that is kept for the next time",
    )
    add(
        "--share",
        action="append",
        default=[],
        metavar="DIR[,tag=NAME][,readonly=on]",
        help="a folder that the guest mounts by its tag (default: share) as 9p; again for the next one",
    )
    add(
        "--net",
        action="append",
        default=[],
        metavar="user[,hostfwd=tcp:127.0.0.1:2222-:22]|tap,ifname=NAME|socket,...",
        help="a network card and where its cable ends; again for the next one",
    )
    add("--dtb", metavar="FILE", help="a device tree instead of the board's own")
    add("--dumpdtb", metavar="FILE", help="write the device tree that the guest would get, and end")
    add(
        "--serial",
        action="append",
        metavar="END",
        help="where a serial line ends: stdio, null, pty, file:PATH, unix:PATH[,server] or"
        " tcp:127.0.0.1:PORT[,server]; again for the next line (default: stdio, if no --console is)",
    )
    add(
        "--console",
        action="append",
        default=[],
        metavar="END",
        help="a console by virtio, Linux' hvc0, ends as a serial line does; again for the next one",
    )
    add(
        "--channel",
        action="append",
        default=[],
        metavar="NAME=END",
        help="a port that Linux has at /dev/virtio-ports/NAME ends as a serial line does; again for the next",
    )
    add(
        "--debugcon",
        metavar="END",
        help="where what PC firmware writes to its debug ports, E9h and 402h, ends; as a serial line does",
    )
    add(
        "--qmp",
        action="append",
        default=[],
        metavar="END",
        help="steer the machine by QMP: unix:PATH,server=on[,wait=off], the same with tcp:127.0.0.1:PORT,"
        " or fd:N; again for the next one",
    )
    add(
        "--monitor",
        action="append",
        default=[],
        metavar="END",
        help="the monitor for people: stdio, telnet:127.0.0.1:PORT, or as --qmp; Ctrl-A C has it always",
    )
    add("--restore", metavar="FILE", help="go on from a snapshot of a machine with the same options")
    add("--paused", action="store_true", help="hold the machine until a monitor or a debugger lets it go")
    add(
        "--gdb",
        metavar="END",
        help="let a debugger come in: tcp::1234, unix:PATH or a port; gdb's word is target remote :1234",
    )
    add("--name", default="", metavar="TEXT", help="what monitors call the machine")
    add("-q", "--quiet", action="store_true", help="tell nothing by the way on stderr, errors excepted")
    add("-v", "--verbose", action="store_true", help="tell which board and accelerator the machine has")
    add("--no-top", action="store_true", help="make no socket by which emu top finds the machine")
    add("--no-shutdown", action="store_true", help="stay, for monitors, when the guest has ended")
    add("--no-reboot", action="store_true", help="end when the guest resets the machine")
    add(
        "--stats",
        action="store_true",
        help="tell at the end, on stderr, which engines ran the CPUs, their time and exits, what KVM refused",
    )
    add("--timeout", type=seconds, metavar="SECONDS", help="end after that time, with status 124")


def main(args: argparse.Namespace) -> int:
    """Runs `emu boot` and returns its exit status: the guest's exit code, 124 after a timeout, 128+n for a
    signal.  Raises an EmuError for what cannot be had as asked, GuestFault for a guest that cannot go on."""
    with Signals() as signals, ExitStack() as opened:
        if args.image is not None:
            from emu.images.start import prepare

            for name in getattr(args, "configured", ()):
                if name in OF_IMAGE:
                    setattr(args, name, None)
            prepare(args, opened)
        elif args.snapshot:
            raise DeviceError("--snapshot is for the disk of an image; name one, as emu boot debian-arm64")
        return run_boot(args, signals)


def run_boot(options: Any, signals: Signals) -> int:
    """Builds the machine that the options of add_arguments() ask for and runs it to its end."""
    from emu.board import open_board
    from emu.console import Console
    from emu.machine import Machine
    from emu.steering import Monitor, Orders, steer

    arch = options.arch or _arch_of(options.kernel)
    name = options.machine or ("microvm" if arch in ("x86_64", "amd64", "x86-64", "x64") else "virt")
    board = open_board(name, arch)
    booted = options.firmware or options.kernel or options.dumpdtb or options.restore
    if not (booted or board.default_firmware):
        raise DeviceError("nothing to boot; give --firmware FILE, --kernel FILE or an image (emu images)")
    taken = "stdio" in (*options.console, *options.monitor, options.debugcon)
    words = options.serial or ["null" if taken else "stdio"]
    if [*words, *options.console, *options.monitor, options.debugcon].count("stdio") > 1:
        raise DeviceError("two lines cannot both be stdio; use pty or unix:PATH,server for the second")
    console = Console() if "stdio" in (*words, *options.console) else None
    lines, consoles = (
        [console if word == "stdio" and console is not None else word for word in given]
        for given in (words, options.console)
    )
    with (
        ExitStack() as opened,
        Machine(
            board,
            accel=options.accel,
            cpu=options.cpu,
            cpus=options.cpus,
            ram=None if options.memory is None else size(options.memory),
            firmware=options.firmware,
            firmware_vars=options.firmware_vars,
            kernel=options.kernel,
            initrd=options.initrd,
            append=options.append,
            dtb=options.dtb,
            serial=lines,
            debugcon=options.debugcon,
            virtio=_virtio(options, board, consoles, opened),
        ) as machine,
    ):
        if options.dumpdtb:
            dump_tree(machine, options.dumpdtb)
            return 0
        built = getattr(options, "built", None)
        if built is not None:  # emu trace
            built(machine)
        if options.verbose:
            print(f"emu: {about(machine)}", file=sys.stderr)
        if not options.quiet:
            for note in machine.notes:
                print(f"emu: {note}", file=sys.stderr)
            machine.noted = lambda text: print(f"emu: {text}", file=sys.stderr)
        for number, path in machine.serial_paths():
            print(f"emu: serial line {number} is {path}", file=sys.stderr)
        monitors = [Monitor("qmp", words) for words in options.qmp]
        for words in options.monitor:
            if words == "stdio":
                console = Console()
                opened.callback(console.close)
            monitors.append(Monitor("hmp", console if words == "stdio" and console is not None else words))
        orders = Orders(
            monitors,
            gdb=options.gdb,
            name=options.name or options.image or "",
            seen=not options.no_top,
            paused=options.paused,
            restore=options.restore,
            no_shutdown=options.no_shutdown,
            no_reboot=options.no_reboot,
            timeout=options.timeout,
            told=lambda text: print(f"emu: {text}", file=sys.stderr),
        )
        try:
            result = steer(machine, orders, signals, console)
        finally:
            if options.stats:
                print(*(f"emu: {line}" for line in machine.done()), sep="\n", file=sys.stderr)
        if signals.pending():
            signals.stop()
        return 124 if result.reason == "timeout" else result.code & 0xFF


def about(machine: Machine) -> str:
    """What was chosen, for --verbose."""
    board, cpus = machine.board, len(machine.cpus)
    memory = f"{machine.ram >> 20} MiB of RAM"
    return f"{board.name} ({board.arch}) under {machine.accel_name}, {cpus} CPU{'s' * (cpus > 1)}, {memory}"


def dump_tree(machine: Machine, name: str, option: str = "--dumpdtb ") -> None:
    """Writes the device tree, as it is with this kernel and these devices; aside, then renamed."""
    machine.board.load(machine)
    tree = machine.board.tree(machine)
    if tree is None:
        raise DeviceError(
            f"board {type(machine.board).__name__.lower()} has no device tree; leave {option.strip()} out"
        )
    folder, base = os.path.split(name)
    aside = os.path.join(folder, f".{base}.{os.getpid()}")
    try:
        with open(aside, "xb") as file:
            file.write(tree)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, name)
    except OSError as error:
        with suppress(FileNotFoundError):
            os.unlink(aside)
        raise DeviceError(f"{option}{name}: {error.strerror}; name a file that can be written") from None


def _virtio(
    options: Any, board: Board, consoles: list[Chardev | str], opened: ExitStack
) -> list[VirtioDevice]:
    """The virtio devices that were asked for, and entropy and a balloon where the board has slots.

    In the order of their kinds; closed with `opened`.
    """
    devices: list[VirtioDevice] = []

    def add(device: VirtioDevice) -> None:
        devices.append(device)
        opened.callback(device.close)

    for words in options.drive:
        from emu.drive import open_drive

        add(open_drive(words))
    for number, words in enumerate(options.net):
        from emu.net import open_net

        end = open_net(words, number)
        if end is not None:
            from emu.virtio.net import VirtioNet

            opened.callback(end[0].close)
            add(VirtioNet(*end))
    for number, words in enumerate(options.share):
        from emu.virtio.p9 import open_share

        add(open_share(words, number))
    if consoles or options.channel:
        from emu.virtio.console import open_ports

        ports = open_ports(consoles, options.channel)
        add(ports)
        for port in ports.ports.values():
            if port.chardev.path:
                print(f"emu: {port} is {port.chardev.path}", file=sys.stderr)
    if board.virtio is not None or board.virtio_by_pci:
        from emu.virtio.balloon import VirtioBalloon
        from emu.virtio.rng import VirtioRng

        add(VirtioRng())
        add(VirtioBalloon())
    return devices


def _arch_of(kernel: str | None) -> str | None:
    """The architecture that a kernel's file is for; None where it does not say: the loader will judge it."""
    from isa.arch import UnknownArch, by_elf

    if kernel is None or not os.path.isfile(kernel):
        return None
    try:
        with open(kernel, "rb") as file:
            header = file.read(0x206)
    except OSError:
        return None
    if header[0x202:] == b"HdrS":  # a bzImage
        return "x86_64"
    if len(header) < 20 or header[:4] != b"\x7fELF":
        return None
    machine, bits, order = int.from_bytes(header[18:20], "little"), header[4], header[5]
    if machine == 3:  # i386, by PVH
        return "x86_64"
    try:
        return by_elf(machine, bits, order).name
    except UnknownArch:
        return None


def size(words: str) -> int:
    """A size in bytes: a number of MiB, or with a suffix k, M, G or T.  Raises DeviceError."""
    digits = words.rstrip("kKmMgGtTiIbB")
    unit = words[len(digits) :].lower().removesuffix("ib").removesuffix("b")
    if not digits.isascii() or not digits.isdigit() or len(digits) > 20 or unit not in UNITS:
        raise DeviceError(f"{words!r} is no size of memory; use 256, 256M or 1G")
    return int(digits) * UNITS[unit]


def seconds(words: str) -> float:
    """A time to wait, not negative.  Raises ValueError, which argparse tells."""
    time = float(words)
    if not time >= 0:  # neither is what is not a number
        raise ValueError(words)
    return time
