"""`emu shell ROOTFS [COMMAND]`: chroot into a foreign system's root, without being root.

Where the host has user namespaces the program gets some (emu/roots/namespace.py), and nobody but the host's
kernel looks at paths.  Where it has none the runtime keeps paths in the root, as `emu --root` does.
"""

from __future__ import annotations

import os
import sys

from accel.errors import BadImage, EmuError
from emu.cli import program

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from emu.roots.archive import Image
    from emu.roots.namespace import Bind, User

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# Roots that are made of packages (emu/roots/debian.py).
READY = ("debian-arm64",)
# What of the caller's environment is of use in another system.
KEPT = (
    "TERM", "COLORTERM", "NO_COLOR", "COLUMNS", "LINES",
    "http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy",
    "HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY",
)  # fmt: skip

# It ends as the program does.
STATUSES = program.STATUSES


def add_arguments(parser: ArgumentParser) -> None:
    """Declares the options of `emu shell`."""
    from argparse import REMAINDER

    add = parser.add_argument
    add(
        "rootfs",
        metavar="ROOTFS",
        help="folder of a foreign system, a tar of one or of an image, or debian-arm64, made of packages",
    )
    add("command", metavar="COMMAND", nargs=REMAINDER, help="with its arguments; default: the user's shell")
    add(
        "--bind", action="append", default=[], metavar="SRC[:DST[:ro]]",
        help="show a file or folder of the host's, at the same path or at DST; ro: not to be written to",
    )  # fmt: skip
    add(
        "--read-only",
        action="store_true",
        help="nothing in the root can be written to, but /tmp and /dev/shm",
    )
    add(
        "-E", "--env", action="append", default=[], metavar="VAR[=VALUE]",
        help="set a variable, without a value to the caller's; no other is passed on, but TERM and proxies",
    )  # fmt: skip
    add("--workdir", "-w", metavar="DIR", help="start in this folder of the root (default: /)")
    add("--user", "-u", default="", metavar="NAME[:GROUP]", help="names or numbers (default: root)")
    add(
        "--fresh",
        action="store_true",
        help="make the root of an archive or of packages anew, without what has changed in it since",
    )
    add("--network", choices=("host", "none"), default="host", help="default: the host's")
    add("--accel", default="auto", metavar="NAME", help="auto, kvm, tcg or kvm:tcg (default: auto)")
    add("--engine", metavar="NAME", help="what translates: translator or unicorn")


def main(args: Namespace) -> int:
    """Runs the command; it never returns where that could be started."""
    from emu.roots import namespace

    image, root = _image(args)
    top = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    args.user = args.user or image.user
    user = namespace.User.find(args.user or "0", top)
    words = args.command or [_shell(root, user)]
    arch = _arch(root)
    environ = _environ(args.env, user, args.rootfs, image.environ)
    workdir = os.path.join("/", args.workdir or image.workdir)
    os.close(top)
    program = words[0]
    if "/" in program:
        program = os.path.join(workdir, program)
    from emu.linux.process import Files
    from emu.linux.run import run_program

    program = Files(root=root).search(program, environ.get("PATH", ""))
    options = {"root": root, "accel": args.accel, "engine": args.engine, "environ": environ}
    if obstacle := namespace.obstacle():
        _confine(args, root, workdir, obstacle)
        run_program(program, words, **options)
    binds = [_bind(words) for words in args.bind]
    import accel.choice

    place = namespace.Namespace(
        root,
        binds=binds,
        read_only=args.read_only,
        network=args.network == "host",
        devices=("kvm",) if args.accel != "tcg" and arch == accel.choice.host() else (),
        user=args.user,
        workdir=workdir,
        foreign=arch if arch != accel.choice.host() else "",
    )
    run_program(program, words, enter=place.enter, **options)


def _image(args: Namespace) -> tuple[Image, str]:
    """What is to be entered: a folder, or an archive, which says more than a folder does."""
    from emu.roots.archive import Image, kept, unpacked

    if os.path.isdir(args.rootfs):
        return Image(args.rootfs, {}), args.rootfs
    if os.path.exists(args.rootfs):
        image = unpacked(args.rootfs, fresh=args.fresh)
    elif args.rootfs in READY:
        from emu.roots.debian import make
        from emu.roots.namespace import Mapping

        alone = Mapping.of_caller().single
        image = kept(args.rootfs, args.rootfs, lambda new: make(args.rootfs, new, alone), args.fresh)
    else:
        raise EmuError(
            f"{args.rootfs} is not there; give the root of a foreign system, or {' or '.join(READY)}"
        )
    return image, image.root


def _arch(root: str) -> str:
    """The isa's name of what the root is for, by its shell; "" where it has none."""
    from emu.linux.process import Files, isa_of

    files = Files(root=root)
    fd = files.peek("/bin/sh")
    if fd < 0:
        return ""
    os.close(fd)
    isa = isa_of("/bin/sh", files)
    if not isa:
        from isa.arch import names

        raise BadImage(
            f"{root}: its /bin/sh is for none of {', '.join(names())}; give a root for one of these"
        )
    return isa


def _shell(root: str, user: User) -> str:
    """The user's, or what every system has."""
    from emu.linux.process import Files

    files = Files(root=root)
    for path in (user.shell, "/bin/sh"):
        if path.startswith("/") and files.has(path):
            return path
    raise EmuError(f"{root} has no /bin/sh; give the root of a whole system, or name a command of it")


def _environ(changes: list[str], user: User, root: str, image: list[str]) -> dict[str, str]:
    """What the program is told: little of the host's, and what the image says."""
    environ = {
        "PATH": PATH,
        "HOME": user.home,
        "USER": user.name or str(user.number),
        "LOGNAME": user.name or str(user.number),
        "debian_chroot": os.path.basename(os.path.realpath(root)),  # Debian's prompt has it
    }
    environ.update((name, os.environ[name]) for name in KEPT if name in os.environ)
    environ.update((name, value) for name, sets, value in (each.partition("=") for each in image) if sets)
    for change in changes:
        name, sets, value = change.partition("=")
        if not name:
            raise EmuError(f"-E {change} names no variable; write -E VAR=VALUE")
        if sets:
            environ[name] = value
        elif name in os.environ:
            environ[name] = os.environ[name]
    return environ


def _bind(words: str) -> Bind:
    from emu.roots.namespace import Bind

    source, _, rest = words.partition(":")
    place, _, mode = rest.partition(":")
    if place in ("ro", "rw") and not mode:
        place, mode = "", place
    if mode not in ("", "ro", "rw") or not source:
        raise EmuError(f"--bind {words}: write SRC, SRC:DST or SRC:DST:ro")
    if not os.path.exists(source):
        raise EmuError(f"--bind {words}: {source} is not there")
    source = os.path.realpath(source)
    if place and not place.startswith("/"):
        raise EmuError(f"--bind {words}: {place} is no path of the root; begin it with /")
    return Bind(source, place or source, mode == "ro")


def _confine(args: Namespace, root: str, workdir: str, obstacle: str) -> None:
    """Without namespaces: what is possible then, and where the program starts."""
    asked = {
        "--bind": args.bind, "--read-only": args.read_only, "--user": args.user,
        "--network none": args.network == "none",
    }  # fmt: skip
    for word, given in asked.items():
        if given:
            raise EmuError(
                f"{obstacle}, and {word} needs them; leave it out, or ask the host's administrator"
            )
    print(
        f"emu: {obstacle}; paths are kept in {root} as emu --root does it, you stay who you are",
        file=sys.stderr,
    )
    from emu.roots import kernel

    top = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fchdir(kernel.open_in(top, workdir, os.O_PATH | os.O_DIRECTORY))
    except OSError as error:
        raise EmuError(f"--workdir {workdir}: {error.strerror}; name a folder of the root") from None
    os.close(top)
