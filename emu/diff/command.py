"""`emu diff`: a machine or a program on two engines in lockstep; status 0: the same, 1: different."""

from __future__ import annotations

import argparse
import json
from contextlib import ExitStack
from typing import Any

from accel.errors import EmuError
from emu.diff.lockstep import Found, lockstep
from emu.diff.programs import ENGINES, compare
from emu.diff.text import as_json, describe

STATUSES = {"0": "all was the same", "1": "something was different"}
ACCELS = ("kvm", "tcg")


def pair(known: tuple[str, ...]) -> Any:
    """A type of argparse's: two names after one comma."""

    def parse(text: str) -> tuple[str, str]:
        names = text.split(",")
        if len(names) != 2 or not set(names) <= {*known}:
            raise argparse.ArgumentTypeError(
                f"{text!r} are not two of {', '.join(known)}, as {known[0]},{known[1]}"
            )
        return names[0], names[1]

    parse.__name__ = "pair"
    return parse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options of `emu diff`."""
    add = parser.add_argument
    add("--accel", type=pair(ACCELS), metavar="A,B", help="a machine's accelerators (default: kvm,tcg)")
    add(
        "--engine",
        type=pair(ENGINES),
        metavar="A,B",
        help="a program's engines: translator (arm64), unicorn, kvm (x86-64); default: translator,unicorn",
    )
    add("-M", "--machine", metavar="BOARD", help="microvm, pc or virt (default: what fits --arch)")
    add("--arch", metavar="ARCH", help="x86_64 (the default), aarch64, arm or riscv64")
    add("--cpu", default="", metavar="NAME", help="the CPU's name and features, as for emu boot")
    add("-m", "--memory", metavar="SIZE", help="RAM, in MiB or with a suffix k, M, G")
    add("--firmware", metavar="FILE", help="what the CPU starts with")
    add("--kernel", metavar="FILE", help="a kernel, an ELF file or a raw image")
    add("--initrd", metavar="FILE", help="the kernel's initial RAM disk")
    add("--append", default="", metavar="WORDS", help="the kernel's command line")
    add("-L", "--sysroot", metavar="DIR", help="look for the program's files in DIR first")
    add(
        "--start", metavar="WHERE", help="run to an address or function at full speed, and compare from there"
    )
    add(
        "--count",
        type=int,
        metavar="N",
        help="end after N instructions (default: a machine 1000000)",
    )
    add(
        "--adopt",
        default="",
        metavar="NAME,...",
        help="instructions whose results B takes from A, as they come from outside: cpuid,rdtsc",
    )
    add("--ignore", default="", metavar="REGISTER,...", help="registers that are not compared")
    add("--all", action="store_true", help="compare floating-point, vector and system registers, too")
    add("--json", action="store_true", help="tell it as JSON")
    add("program", nargs=argparse.REMAINDER, metavar="PROGRAM", help="a Linux program and its arguments")


def main(args: argparse.Namespace) -> int:
    """Runs `emu diff`; 0: the same, 1: a difference."""
    words = args.program[1:] if args.program[:1] == ["--"] else args.program
    with ExitStack() as opened:
        found = programs(args, words) if words else machines(args, opened)
        print(json.dumps(as_json(found)) if args.json else describe(found))
    return 0 if found else 1


def machines(args: argparse.Namespace, opened: ExitStack) -> Found:
    from emu.boot import size
    from emu.machine import Machine

    if args.engine is not None:
        raise EmuError("--engine is for programs; a machine's are --accel kvm,tcg")
    if not (args.kernel or args.firmware):
        raise EmuError("nothing to compare; give --kernel FILE, --firmware FILE or a program")
    arch = args.arch or (None if args.machine else "x86_64")
    board = args.machine or ("microvm" if arch == "x86_64" else "virt")
    one, two = (
        opened.enter_context(
            Machine(
                board,
                arch=arch,
                accel=accel,
                cpu=args.cpu,
                ram=None if args.memory is None else size(args.memory),
                firmware=args.firmware,
                kernel=args.kernel,
                initrd=args.initrd,
                append=args.append,
            )
        )
        for accel in args.accel or ("kvm", "tcg")
    )
    return lockstep(one, two, count=1_000_000 if args.count is None else args.count, **_common(args))


def programs(args: argparse.Namespace, words: list[str]) -> Found:
    if args.accel is not None:
        raise EmuError("--accel is for machines; a program's engines are --engine translator,unicorn")
    engines = args.engine or ("translator", "unicorn")
    return compare(words, engines, count=args.count, sysroot=args.sysroot, **_common(args))


def place(text: str | None) -> int | str | None:
    """An address, if it is a number, else a name."""
    try:
        return None if text is None else int(text, 0)
    except ValueError:
        return text


def _common(args: argparse.Namespace) -> dict[str, Any]:
    return {
        "start": place(args.start),
        "adopt": [name for name in args.adopt.split(",") if name],
        "ignore": [name for name in args.ignore.split(",") if name],
        "everything": args.all,
    }
