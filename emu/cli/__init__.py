"""The command `emu`: finds what is asked for, imports only that, and tells errors in one line.

`emu PROGRAM` is started thousands of times by shell scripts, so its options are scanned by hand here and
nothing else is imported on that path but what runs the program; the subcommands, which people start, use
argparse, where their words need it.  A subcommand's name counts only as the first word: `emu -- boot` or
`emu ./boot` run a program of that name.
"""

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

USAGE = """\
usage: emu [--accel auto|kvm|tcg|kvm:tcg] [-L DIR | --root DIR] [-E VAR=VAL] [-0 ARGV0]
           [--engine NAME] [--strace] [--stats] [-o FILE] [--gdb END] PROGRAM [ARGS ...]
       emu boot | top | images | doctor | demo [OPTIONS ...]        (emu SUBCOMMAND --help tells more)

Runs a Linux program of another architecture (arm64, armhf, riscv64, x86-64), or a whole machine.
Everything after PROGRAM is the program's own; it sees this process's files, environment and terminal,
and its exit status is emu's.

options:
  --accel SPEC        what executes the guest: kvm, tcg (translation), kvm:tcg (the first that can),
                      auto (the default: kvm where guest and host agree and it works, else tcg)
  --engine NAME       what translates: translator (arm64 programs) or unicorn
  -L, --sysroot DIR   look for the guest's files, its libraries above all, in DIR first
  --root DIR          let the guest see DIR as /, and no file outside it
  -E VAR=VAL          set a variable in the guest's environment; -E VAR removes it
  -0 ARGV0            the program's argv[0], if it is not PROGRAM
  --strace            print the system calls, signals and ends of PROGRAM and its children on stderr
  --stats             print counts and times by system call when all of them have ended
  -o FILE             print that into FILE
  -g, --gdb END       wait for a debugger at END: a port, tcp::PORT or unix:PATH
  --dump-code FILE    append translated code to FILE, guest code beside it (translator)
  --perf-map          write /tmp/perf-PID.map, for Linux's perf (translator)
  --                  what follows is PROGRAM, even if it is called like a subcommand
  -h, --help          this text
  --version           the version

subcommands:
  boot                start a machine        emu boot debian-arm64
  top                 what machines do now   emu top
  images              ready guests           emu images list
  doctor              what this host can do  emu doctor --json
  demo                a first look           emu demo

examples:
  emu ./busybox-arm64 sh -c 'uname -m'
  emu -L /srv/arm64-root /usr/bin/python3 -c 'print(6 * 7)'
  emu -E LANG=C -0 sh ./busybox-arm64 -c 'echo $LANG'

environment: EMU_TRACEBACK=1 shows where an error was raised.
Exit status: the program's own; 2 for a wrong use, 126 or 127 for a program that cannot be run or found.
"""

# Options of `emu PROGRAM` that take a value.
VALUED = frozenset(
    ("--accel", "--sysroot", "-L", "--root", "-E", "-0", "-o", "--engine", "--dump-code", "-g", "--gdb")
)
# Name: the module with add_arguments(parser) and main(args), what it does, examples.
SUBCOMMANDS: "dict[str, tuple[str, str, tuple[str, ...]]]" = {
    "boot": (
        "emu.boot",
        "Starts a machine: a board with firmware, its serial port on the terminal.  Ctrl-A X ends it.",
        (
            "emu boot debian-arm64 --share .",
            "emu boot --machine virt --firmware /usr/lib/u-boot/qemu_arm64/u-boot.bin",
            "emu boot --machine microvm --accel kvm --firmware /usr/lib/u-boot/qemu-x86/u-boot.rom",
        ),
    ),
    "demo": (
        "emu.cli.demo",
        "Runs a Debian arm64 program by translation and an x86-64 guest through /dev/kvm, or guests made\n"
        "from the project's own sources where there is no network.",
        ("emu demo", "emu demo --offline"),
    ),
    "top": (
        "emu.top",
        "Shows what this user's running machines take of CPUs and memory, and move to disks and networks.\n"
        "Keys: q ends it; c, m, n, p sort by CPU, memory, name, process.",
        ("emu top", "emu top --once --json"),
    ),
    "images": (
        "emu.images.command",
        "Lists the guests that `emu boot NAME` starts, makes them of packages that it fetches, removes them.",
        ("emu images", "emu images fetch debian-arm64", "emu images remove debian-arm64"),
    ),
    "doctor": (
        "emu.doctor",
        "Says what this host can do: kvm usable or why not, engines and versions, the native core.",
        ("emu doctor", "emu doctor --json", "emu doctor --syscalls aarch64"),
    ),
}


# What the lines that tell an error begin with.
program_name = "emu"


def main(
    argv: list[str] | None = None,
    *,
    ready: "Callable[[], object] | None" = None,
    command: "Callable[[list[str]], int] | None" = None,
    program: str = "emu",
) -> int:
    """Runs the command line `argv` (default: this process's) and returns its exit status.

    ready: called once an interrupt ends the process in order; the launcher has held it off so far.  command,
    program: what does the words instead of emu's subcommands, and what it is called.

    Never raises for a user's mistake: it is told in one line on stderr.  SIGINT and SIGPIPE end the process
    by the signal itself, as a shell expects.
    """
    global program_name
    program_name = program
    words = sys.argv[1:] if argv is None else argv
    if sys.stdout is None or sys.stderr is None:
        # Closed by whoever started us: what we would write goes nowhere, as with any program.
        from io import StringIO

        sys.stdout, sys.stderr = sys.stdout or StringIO(), sys.stderr or StringIO()
    try:
        try:
            if ready is not None:
                if words[:1] == ["boot"]:
                    _end_at_once()
                ready()
            return dispatch(words) if command is None else command(words)
        finally:
            sys.stdout.flush()
    except KeyboardInterrupt:
        return die_of("SIGINT")
    except BrokenPipeError:
        return die_of("SIGPIPE")
    except OSError as error:
        if error.filename is None:
            import errno

            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                return unwritten(error)
            # Without a file's name it is a bug of ours, and the traceback is what is wanted.
            raise
        return report(error, f"{error.filename}: {error.strerror}", 2)
    except Exception as error:
        from accel.errors import EmuError

        if not isinstance(error, EmuError):
            raise
        status = report(error, str(error), error.status)
        sys.stderr.write(getattr(error, "report", ""))
        return status


def _end_at_once() -> None:
    """Lets Ctrl-C end the process without Python: while modules are loaded there is nothing to put in order.

    An exception might come out of that as another, or not at all.  emu.boot has its own from where it has to.
    """
    import signal

    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def unwritten(error: OSError) -> int:
    """Tells that standard output cannot be written; returns the exit status."""
    import os

    # What stands in the buffer would fail again when Python ends.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return report(error, f"standard output cannot be written: {error.strerror}", 2)


def dispatch(words: list[str]) -> int:
    """The subcommand or the program that `words` name."""
    if words and words[0] in SUBCOMMANDS:
        return subcommand(words[0], words[1:])
    return program(words)


def program(words: list[str]) -> int:
    """`emu [OPTIONS] PROGRAM [ARGS]`."""
    accel = "auto"
    sysroot: str | None = None
    root: str | None = None
    argv0: str | None = None
    seeing: dict[str, Any] = {}
    engine: dict[str, Any] = {}
    changes: list[str] = []
    at = 0
    while at < len(words):
        word = words[at]
        if word == "--":
            at += 1
            break
        if word == "-" or not word.startswith("-"):
            break
        at += 1
        if word in ("-h", "--help"):
            sys.stdout.write(USAGE)
            return 0
        if word in ("-V", "--version"):
            from emu import __version__

            sys.stdout.write(f"emu {__version__}\n")
            return 0
        if word in ("--strace", "--stats"):
            seeing[word[2:]] = True
            continue
        if word == "--perf-map":
            engine["perf_map"] = True
            continue
        # An option with a value: --name=value, --name value, -Xvalue, -X value.
        if word.startswith("--"):
            name, joined, value = word.partition("=")
        else:
            name, joined, value = word[:2], word[2:], word[2:]
        if name not in VALUED:
            return misuse(f"there is no option {name}")
        if not joined:
            if at == len(words):
                return misuse(f"{name} needs a value")
            value = words[at]
            at += 1
        if name == "--accel":
            accel = value
        elif name in ("-L", "--sysroot"):
            sysroot = value
        elif name == "--root":
            root = value
        elif name == "-0":
            argv0 = value
        elif name in ("-g", "--gdb"):
            engine["gdb"] = value
        elif name == "-o":
            seeing["output"] = value
        elif name in ("--engine", "--dump-code"):
            engine[name[2:].replace("-", "_")] = value
        else:
            changes.append(value)
    if at == len(words):
        return misuse("which program shall be run?")
    if "output" in seeing and len(seeing) == 1:
        return misuse("-o FILE is for what --strace or --stats print")

    environ = None
    if changes:
        from emu.linux.process import own_environ

        environ = dict(own_environ())
        for change in changes:
            name, sets, value = change.partition("=")
            if not name:
                return misuse(f"-E {change} names no variable; write -E VAR=VAL")
            if sets:
                environ[name] = value
            else:
                environ.pop(name, None)

    from emu.linux.run import run_program

    path = words[at]
    options: dict[str, Any] = {"accel": accel, "environ": environ, "argv0": argv0, **seeing, **engine}
    return run_program(path, words[at:], sysroot=sysroot, root=root, **options)


def subcommand(name: str, words: list[str]) -> int:
    """`emu NAME [OPTIONS]`, by argparse, or without where a start's time counts."""
    from importlib import import_module

    path, description, examples = SUBCOMMANDS[name]
    body: Any = import_module(path)
    status: int
    if name == "boot":
        from emu.cli.plain import Plain

        plain = Plain()
        body.add_arguments(plain)
        said = plain.parse(words)
        if said is not None:
            status = body.main(said)
            return status
    from argparse import ArgumentParser, RawDescriptionHelpFormatter

    parser = ArgumentParser(
        prog=f"emu {name}",
        formatter_class=RawDescriptionHelpFormatter,
        description=description,
        epilog="\n  ".join(("examples:", *examples)),
    )
    body.add_arguments(parser)
    status = body.main(parser.parse_args(words))
    return status


def misuse(cause: str) -> int:
    """Tells a wrong use of the command line; returns its exit status."""
    sys.stderr.write(f"emu: {cause} (emu --help tells more)\n")
    return 2


def report(error: Exception, text: str, status: int) -> int:
    """Tells `error` in one line; returns `status`."""
    import os

    if os.environ.get("EMU_TRACEBACK"):
        import traceback

        traceback.print_exception(error)
    line = " ".join(text.split())
    # A file's name may hold anything, and a terminal would obey it.
    line = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)
    sys.stderr.write(f"{program_name}: {line}\n")
    return status


def die_of(name: str) -> int:
    """Ends this process by a signal, so that a shell sees what happened (and stops its loop on Ctrl-C)."""
    import os
    import signal

    number = getattr(signal, name)
    # What stdout still holds can go nowhere; closing it now keeps the interpreter quiet about it.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    return 128 + int(number)
