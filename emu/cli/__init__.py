"""The command `emu`: finds what is asked for, imports only that, and tells errors in one line.

`emu PROGRAM` is started thousands of times by shell scripts, so its options are scanned by hand (program.py)
and nothing is imported on that path but what runs the program; the subcommands, which people start, use
argparse (parser.py), where their words need it.  A subcommand's name counts only as the first word:
`emu -- boot` or `emu ./boot` run a program of that name.
"""

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

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
    "shell": (
        "emu.shell",
        "Runs a shell, or a command, in the root of a foreign system (a folder, or an archive of one), as\n"
        "chroot would, but without being root: every program in it runs under emu.",
        (
            "emu shell ./arm64-root",
            "emu shell --bind .:/src --workdir /src ./arm64-root make",
            "emu shell image.tar python3 -c 'print(6 * 7)'",
        ),
    ),
    "trace": (
        "emu.trace.command",
        "Shows what a program or a machine does: instructions with what they change, blocks, system calls;\n"
        "accesses to devices, interrupts, exits; as text, JSON lines or a picture (Perfetto).  Writes\n"
        "coverage (drcov) and profiles (flame graphs).",
        (
            "emu trace -o trace.txt ./busybox-arm64 true",
            "emu trace --symbol main --what instructions,syscalls ./hello",
            "emu trace --coverage cover.drcov ./busybox-arm64 sha256sum /etc/passwd",
            "emu trace --what mmio,interrupts --device serial0 boot --machine virt --kernel Image",
        ),
    ),
    "binfmt": (
        "emu.binfmt",
        "Has the kernel run programs of other architectures by emu, wherever they are started.\n"
        "Nothing else of emu needs that.",
        ("emu binfmt print", "emu binfmt install arm64", "emu binfmt remove"),
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
    "bench": (
        "emu.bench.command",
        "Compares kvm, tcg, QEMU and the host's own CPU at the same work, in turn, and tells the spread.\n"
        "CPU time is what is compared; what is missing here is a row that says so.",
        (
            "emu bench --quick",
            "emu bench --suite user --json now.json --html now.html",
            "emu bench --compare before.json now.json",
        ),
    ),
    "diff": (
        "emu.diff.command",
        "Runs a machine, or a program, on two engines in lockstep and shows the first difference: registers\n"
        "before and after, and the instructions that led there.  Status 0: the same; 1: different.",
        (
            "emu diff --accel kvm,tcg --firmware u-boot.rom --adopt cpuid,rdtsc --count 100000",
            "emu diff --engine translator,unicorn ./program-arm64 argument",
        ),
    ),
    "doctor": (
        "emu.doctor",
        "Says what this host can do: kvm usable or why not, engines and versions, the native core.",
        ("emu doctor", "emu doctor --json", "emu doctor --syscalls aarch64"),
    ),
    "completion": (
        "emu.cli.completion",
        "Prints a script by which a shell completes emu's command lines.",
        (
            "emu completion bash > ~/.local/share/bash-completion/completions/emu",
            "emu completion zsh > ~/.zfunc/_emu",
            "emu completion fish > ~/.config/fish/completions/emu.fish",
        ),
    ),
    "man": (
        "emu.cli.man",
        "Shows the manual page on a terminal, and prints it for man(1) elsewhere.",
        ("emu man", "emu man > ~/.local/share/man/man1/emu.1"),
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
    if command is not None or words[:1] == ["boot"]:
        _show_native_faults()
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
    except Exception as error:
        from accel.errors import EmuError

        if isinstance(error, EmuError):
            status = report(error, str(error), error.status)
            sys.stderr.write(getattr(error, "report", ""))
            return status
        if isinstance(error, OSError):
            import errno

            if error.filename is not None:
                return report(error, f"{error.filename}: {error.strerror}", 2)
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                return unwritten(error)
        if isinstance(error, MemoryError):
            return report(error, "there is not enough memory; see ulimit -v and free", 2)
        from emu.cli.crash import told

        return report(error, told(error, program, words), 70)


def _show_native_faults() -> None:
    """Has Python say on stderr where it was, when a signal as SIGSEGV ends a machine's process."""
    import faulthandler

    if not faulthandler.is_enabled():
        faulthandler.enable(2)


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
    from emu.cli import program

    return program.main(words)


def subcommand(name: str, words: list[str]) -> int:
    """`emu NAME [OPTIONS]`."""
    from importlib import import_module

    body: Any = import_module(SUBCOMMANDS[name][0])
    status: int = body.main(words_of(name, words))
    return status


def words_of(name: str, words: list[str]) -> "Any":
    """What a subcommand's words say, by argparse, or without where a start's time counts."""
    from importlib import import_module

    body: Any = import_module(SUBCOMMANDS[name][0])
    said: Any = None
    if name == "boot":
        from emu.cli.plain import Plain
        from emu.folders import configuration

        plain = Plain()
        body.add_arguments(plain)
        said = plain.parse(words) if not configuration() else None
    if said is None:
        from emu.cli.parser import parser_of

        said = parser_of(name).parse_args(words)
    return said


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
