"""`emu trace`: what a program or a machine does, as text, JSON lines or a picture; coverage."""

from __future__ import annotations

import os

from accel.errors import EmuError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from emu.trace.writer import Writer

WHAT = ("instructions", "blocks", "syscalls")
FORMATS = ("text", "jsonl", "perfetto")


def add_arguments(parser: ArgumentParser) -> None:
    import argparse

    parser.usage = "emu trace [OPTIONS ...] PROGRAM [ARGS ...]"
    add = parser.add_argument
    add("--what", metavar="KINDS", help=f"what is told, with commas: {', '.join(WHAT)}")
    add("--address", metavar="A-B", action="append", default=[], help="instructions and blocks there alone")
    add("--symbol", metavar="NAME", action="append", default=[], help="the same, of a function")
    add(
        "--thread",
        metavar="N",
        action="append",
        default=[],
        type=int,
        help="the Nth thread alone; 1 is the first",
    )
    add(
        "--limit",
        metavar="N",
        type=int,
        default=0,
        help="so many events; the program runs on without a trace",
    )
    add("--format", choices=FORMATS, default="text", help="perfetto: for ui.perfetto.dev, chrome://tracing")
    add("-o", "--output", metavar="FILE", help="the trace's file (default: stderr)")
    add("--coverage", metavar="FILE", help="write drcov's format; %%p in the name is a process's id")
    add("--accel", metavar="SPEC", default="auto", help="as for emu PROGRAM")
    add("--engine", metavar="NAME", help="as for emu PROGRAM")
    add("-L", "--sysroot", metavar="DIR", help="as for emu PROGRAM")
    add("--root", metavar="DIR", help="as for emu PROGRAM")
    add("program", metavar="PROGRAM", nargs=argparse.REMAINDER, help="and its arguments")


def _kinds(args: Namespace) -> set[str]:
    if args.what is None:
        return set() if args.coverage else {"instructions"}
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
    words = args.program[1:] if args.program[:1] == ["--"] else args.program
    if not words:
        raise EmuError("which program shall be traced? As in: emu trace ./hello")
    from emu.trace.filters import Filters

    kinds = _kinds(args)
    filters = Filters(args.address, args.symbol, args.thread)
    coverage = None
    if args.coverage:
        from emu.trace.drcov import Coverage

        coverage = Coverage(args.coverage)
    from emu.trace.program import trace_program

    trace_program(
        words[0],
        words,
        kinds,
        filters,
        writer=_writer(args) if kinds else None,
        coverage=coverage,
        limit=args.limit,
        sysroot=args.sysroot,
        root=args.root,
        accel=args.accel,
        engine=args.engine,
    )
