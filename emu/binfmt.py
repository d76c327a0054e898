"""`emu binfmt`: has the kernel start emu for the programs of other architectures, by binfmt_misc.

What the kernel starts is the program emu-binfmt (emu/cli/native/binfmt.c).  A registration is a line of the
kernel's Documentation/admin-guide/binfmt-misc.rst: a name, the first bytes of a program with a mask, the
interpreter, and flags.
"""

from __future__ import annotations

import os
import struct
import sys
from pathlib import Path

from accel.errors import EmuError, Unavailable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

FOLDER = Path("/proc/sys/fs/binfmt_misc")
CONFIGURATION = Path("/etc/binfmt.d/emu.conf")
# Where systemd-binfmt finds what others have it register.
OTHERS = ("/etc/binfmt.d", "/run/binfmt.d", "/usr/local/lib/binfmt.d", "/usr/lib/binfmt.d")
# Of whom the kernel takes registrations.
WHO = "be root, or in a user and mount namespace of your own on Linux 6.7 or newer (podman unshare is one)"
FLAGS = {
    "F": "the interpreter is opened now, so that it is there in containers and chroots, too",
    "P": "a program is told the argv[0] that it was called by",
    "C": "a setuid program has its owner's rights; what is wrong with the translation is so, too",
}
# Of ELF's header: identification, whose OS/ABI and padding count as the mask says, e_type (a program, or a
# position-independent one) and e_machine.
MASK = b"\xff\xff\xff\xff\xff\xff\xff\0\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff"

STATUSES = {"0": "it is done, or there was nothing to do"}


def add_arguments(parser: ArgumentParser) -> None:
    """Declares the actions of `emu binfmt`."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="print | install | remove")
    texts = {
        "print": "show the lines, as systemd-binfmt reads them from /etc/binfmt.d",
        "install": "register emu with the kernel, until the next boot",
        "remove": "take that back, and the file of --persist",
    }
    for name, text in texts.items():
        action = actions.add_parser(name, help=text)
        action.add_argument("arch", nargs="*", metavar="ARCH", help="default: all that are not the host's")
        if name != "remove":
            action.add_argument("--credentials", action="store_true", help=f"add the flag C: {FLAGS['C']}")
        if name == "install":
            action.add_argument(
                "--persist", action="store_true", help=f"at every boot, too, by {CONFIGURATION}"
            )


def main(args: Namespace) -> int:
    """Prints, registers or removes registrations; 0."""
    archs = _archs(args.arch)
    if args.action == "remove":
        _remove(archs)
        return 0
    program = str(interpreter())
    flags = "PFC" if args.credentials else "PF"
    lines = [line(arch, program, flags) for arch in archs]
    if args.action == "print":
        print(text(lines, flags), end="")
        return 0
    _mount()
    for arch, each in zip(archs, lines, strict=True):
        register(name(arch), each)
        _tell_of_others(arch)
    if args.persist:
        _persist(archs, text(lines, flags))
    return 0


def _archs(words: list[str]) -> list[str]:
    from accel.choice import host
    from isa.arch import UnknownArch, canonical, names

    try:
        archs = [canonical(word) for word in words] or [arch for arch in names() if arch != host()]
    except UnknownArch as error:
        raise EmuError(str(error)) from None
    if host() in archs:
        raise EmuError(f"the programs of {host()} are this host's own, which the kernel runs; leave it out")
    return archs


def name(arch: str) -> str:
    """What the registration is called."""
    return f"emu-{arch}"


def interpreter() -> Path:
    """The program that the kernel starts.  Raises Unavailable where it is not built."""
    beside = Path(sys.executable).parent, Path(sys.argv[0]).resolve().parent
    for folder in beside:
        if (folder / "emu-binfmt").is_file():
            return folder / "emu-binfmt"
    raise Unavailable(
        "emu-binfmt is not installed: it is built on x86-64 hosts that have a static C library"
        " (Debian's libc6-dev, Fedora's glibc-static); install emu again there"
    )


def magic(arch: str) -> bytes:
    """The first bytes of its programs."""
    from isa.arch import find

    isa = find(arch)
    identification = bytes((*b"\x7fELF", isa.elf_class, isa.elf_data, 1)) + bytes(9)
    return identification + struct.pack("<HH" if isa.elf_data == 1 else ">HH", 2, isa.elf_machine)


def line(arch: str, program: str, flags: str) -> str:
    """The registration; bytes are escaped as the kernel and systemd read them."""
    if ":" in program or len(program) > 127:
        raise EmuError(f"{program}: the kernel takes no such path of an interpreter; install emu elsewhere")
    first, mask = ("".join(f"\\x{byte:02x}" for byte in data) for data in (magic(arch), MASK))
    return f":{name(arch)}:M::{first}:{mask}:{program}:{flags}"


def text(lines: list[str], flags: str) -> str:
    """A file of /etc/binfmt.d."""
    comments = [f"# {flag}: {FLAGS[flag]}\n" for flag in flags]
    return (
        f"# Programs of other architectures are emu's.  {CONFIGURATION}\n"
        + "".join(comments)
        + "\n".join(lines)
        + "\n"
    )


def register(entry: str, each: str) -> None:
    """Tells the kernel, in the place of an older registration of that name."""
    if (FOLDER / entry).exists():
        _write(FOLDER / entry, "-1")
    _write(FOLDER / "register", each)


def register_here(arch: str) -> None:
    """In a user and mount namespace that is new.  Raises OSError or EmuError."""
    from emu.roots import kernel

    kernel.mount("binfmt_misc", str(FOLDER), "binfmt_misc")
    register(name(arch), line(arch, str(interpreter()), "PF"))


def _mount() -> None:
    """binfmt_misc, where nobody has mounted it; in a user namespace that is one of its own (Linux 6.7)."""
    if (FOLDER / "register").exists():
        return
    from emu.roots import kernel

    try:
        kernel.mount("binfmt_misc", str(FOLDER), "binfmt_misc")
    except OSError as error:
        raise EmuError(f"binfmt_misc cannot be mounted ({error.strerror}); {WHO}") from None


def _remove(archs: list[str]) -> None:
    for arch in archs:
        if (FOLDER / name(arch)).exists():
            _write(FOLDER / name(arch), "-1")
    if CONFIGURATION.exists():
        kept = [
            each for each in CONFIGURATION.read_text().splitlines(keepends=True)
            if each.split(":")[1:2] not in [[name(arch)] for arch in archs]
        ]  # fmt: skip
        if any(each.startswith(":") for each in kept):
            CONFIGURATION.write_text("".join(kept))
        else:
            CONFIGURATION.unlink()


def _persist(archs: list[str], words: str) -> None:
    CONFIGURATION.parent.mkdir(exist_ok=True)
    CONFIGURATION.write_text(words)
    for path in sorted(path for folder in OTHERS for path in Path(folder).glob("*.conf")):
        if path != CONFIGURATION and path.name > CONFIGURATION.name and _claims(path, archs):
            print(
                f"emu: {path} is read after emu's at boot, and then counts; for emu's instead:"
                f" ln -s /dev/null /etc/binfmt.d/{path.name}",
                file=sys.stderr,
            )


def _claims(path: Path, archs: list[str]) -> bool:
    try:
        written = path.read_bytes()
    except OSError:
        return False
    ends = ["".join(f"\\x{byte:02x}" for byte in magic(arch)[-2:]).encode() for arch in archs]
    return any(end + b":" in each for each in written.splitlines() for end in ends)


def _tell_of_others(arch: str) -> None:
    """Of a registration for the same programs, which ours, being newer, stands before."""
    for path in sorted(FOLDER.iterdir()):
        if path.name in ("register", "status", name(arch)):
            continue
        lines = path.read_text().splitlines()
        if lines[:1] == ["enabled"] and f"magic {magic(arch).hex()}" in lines:
            print(
                f"emu: {path.name} is registered for {arch}, too; the newer one counts, which is emu's now",
                file=sys.stderr,
            )


def _write(path: Path, words: str) -> None:
    try:
        fd = os.open(path, os.O_WRONLY)
        try:
            os.write(fd, words.encode())
        finally:
            os.close(fd)
    except OSError as error:
        raise EmuError(f"{path}: {error.strerror}; {WHO}") from None
