"""`emu trace`: what a program or a machine does, as text, JSON lines or a picture; coverage and profiles."""

from __future__ import annotations

import os

from accel.errors import EmuError
from emu.cli import program

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from emu.trace.writer import Writer

# It ends as the program does.
STATUSES = program.STATUSES
FORMATS = ("text", "jsonl", "perfetto")
WHAT = ("instructions", "blocks", "syscalls", "mmio", "interrupts", "exceptions", "exits")
# Option: its value's name, how often it may be given, what it does.
OPTIONS = (
    ("--what", "KINDS", False, "what is told, with commas; of a program: instructions (the default), blocks, "
     "syscalls; of a machine: mmio (the default), interrupts, instructions, exceptions (tcg), exits (kvm)"),
    ("--address", "A-B", True, "instructions and blocks there alone"),
    ("--symbol", "NAME", True, "the same, of a function"),
    ("--device", "NAME", True, "accesses to this device and its interrupts alone"),
    ("--symbols", "FILE", False, "a machine's kernel as an ELF file, if its --kernel is none"),
    ("--output", "FILE", False, "the trace's file (default: stderr)"),
    ("--coverage", "FILE", False, "write drcov's format; %%p in the name is a process's id"),
    ("--profile", "FILE", False, "write folded stacks, or a flame graph if the name ends in .svg"),
    ("--accel", "SPEC", False, "as for emu PROGRAM"),
    ("--engine", "NAME", False, "as for emu PROGRAM"),
    ("--sysroot", "DIR", False, "as for emu PROGRAM"),
    ("--root", "DIR", False, "as for emu PROGRAM"),
)  # fmt: skip
SHORT = {"--output": ("-o",), "--sysroot": ("-L",)}


def add_arguments(parser: ArgumentParser) -> None:
    import argparse

    words = ("PROGRAM [ARGS ...]", "boot [OPTIONS OF emu boot ...]")
    parser.usage = "\n       ".join(f"emu trace [OPTIONS ...] {each}" for each in words)
    for name, value, several, text in OPTIONS:
        if several:
            parser.add_argument(name, metavar=value, action="append", default=[], help=text)
        else:
            parser.add_argument(*SHORT.get(name, ()), name, metavar=value, help=text)
    add = parser.add_argument
    text = "the Nth thread alone; 1 is the first"
    add("--thread", metavar="N", action="append", default=[], type=int, help=text)
    text = "so many events; what runs goes on without a trace"
    add("--limit", metavar="N", type=int, default=0, help=text)
    add("--format", choices=FORMATS, default="text", help="perfetto: for ui.perfetto.dev, chrome://tracing")
    text = "a program and its arguments, or boot and a machine's"
    add("program", metavar="PROGRAM", nargs=argparse.REMAINDER, help=text)


def _kinds(args: Namespace, machine: bool) -> set[str]:
    if args.what is None:
        if machine:
            return {"mmio"}
        return set() if args.coverage or args.profile else {"instructions"}
    kinds = {word.strip() for word in args.what.split(",") if word.strip()}
    for word in sorted(kinds - set(WHAT)):
        raise EmuError(f"--what {word} is nothing that can be traced; there are {', '.join(WHAT)}")
    return kinds


def _writer(args: Namespace) -> Writer:
    from emu.trace.writer import Output

    try:
        if args.output is None:
            os.fstat(2)
        fd = 2 if args.output is None else os.open(args.output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
        if args.output is not None:
            fd = _high(fd)
    except OSError as error:
        raise EmuError(
            f"{args.output or 'stderr'}: {error.strerror}; give -o a file that can be written"
        ) from None
    output = Output(fd)
    if args.format == "jsonl":
        from emu.trace.jsonl import JsonWriter

        return JsonWriter(output)
    if args.format == "perfetto":
        from emu.trace.perfetto import PerfettoWriter

        return PerfettoWriter(output)
    from emu.trace.text import TextWriter

    return TextWriter(output)


def _high(fd: int) -> int:
    """The same file where the program's own 0, 1 and 2 are not, if those were closed."""
    if fd > 2:
        return fd
    import fcntl

    made = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)
    os.close(fd)
    return made


def main(args: Namespace) -> int:
    """Runs `emu trace`; ends as the program does, or returns the machine's exit status."""
    machine = args.program[:1] == ["boot"]
    words = args.program[1:] if args.program[:1] in (["--"], ["boot"]) else args.program
    if not words and not machine:
        raise EmuError("which program shall be traced? As in: emu trace ./hello")
    from emu.trace.filters import Filters

    kinds = _kinds(args, machine)
    filters = Filters(args.address, args.symbol, args.thread, args.device)
    if machine:
        if args.coverage or args.profile:
            raise EmuError("--coverage and --profile are of programs; for a machine there is --what")
        from emu.trace.machine import trace_machine

        return trace_machine(words, kinds, filters, _writer(args), symbols=args.symbols, limit=args.limit)
    coverage = profile = None
    if args.coverage:
        from emu.trace.drcov import Coverage

        coverage = Coverage(args.coverage)
    if args.profile:
        from emu.trace.flame import Profile

        profile = Profile(args.profile)
    from emu.trace.program import trace_program

    trace_program(
        words[0],
        words,
        kinds,
        filters,
        writer=_writer(args) if kinds else None,
        coverage=coverage,
        profile=profile,
        limit=args.limit,
        sysroot=args.sysroot,
        root=args.root,
        accel=args.accel or "auto",
        engine=args.engine,
    )
