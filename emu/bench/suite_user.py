"""Debian's busybox: natively and under kvm this host's, by translation arm64's."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path

from accel.choice import host
from accel.errors import Unavailable
from emu.bench.peers import program_ways
from emu.bench.process import program
from emu.bench.work import Job, Ran, Work
from emu.samples.debian import unpacked

ABOUT = "Debian's busybox, this host's natively and under kvm, arm64's by translation; whole processes"
FOREIGN = "aarch64"
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "arm": "armhf"}
# {busybox}: the program, with what runs it; {file}: data, {starts}: how often.
LOOP = "i=0; while [ $i -lt {starts} ]; do {busybox} true; i=$((i+1)); done; echo $i"
AWK = 'BEGIN {{ for (i = 1; i < {turns}; i++) x += i * 0.37 / (i + 0.5); printf "%.6f\\n", x }}'
COUNTING = "i=0; s=0; while [ $i -lt {turns} ]; do s=$((s+i*3%7)); i=$((i+1)); done; echo $s"
SIZE, STARTS, AWK_TURNS, SHELL_TURNS = 2 << 20, 20, 60_000, 10_000


def data(size: int) -> bytes:
    """Text that can be compressed, the same on each host."""
    words = [bytes(random.Random(n).choices(b"etaoinshrdlu", k=2 + n % 9)) for n in range(500)]
    choose = random.Random(1)
    text = b" ".join(choose.choices(words, k=size // 6))
    return text[:size].ljust(size, b".")


def rows(file: Path, quick: bool) -> list[tuple[str, str, list[str], int]]:
    """Each work's name, what its time is for, the words after busybox, and of how many it is."""
    by = 10 if quick else 1
    spawn = LOOP.format(starts=STARTS, busybox="{busybox}")
    return [
        ("sha256sum", "run", ["sha256sum", str(file)], 1),
        ("gzip", "run", ["gzip", "-c", str(file)], 1),
        ("sort", "run", ["sort", str(file.with_name("lines"))], 1),
        ("awk, floating point", "run", ["awk", AWK.format(turns=AWK_TURNS // by)], 1),
        ("sh, a loop", "run", ["sh", "-c", COUNTING.format(turns=SHELL_TURNS // by)], 1),
        ("a program's start", "start", ["true"], 1),
        ("fork, exec and wait", "start", ["sh", "-c", spawn], STARTS),
    ]


def jobs(folder: Path, quick: bool, suites: Collection[str] = ()) -> list[Job]:
    """A job for each row."""
    programs, reasons = busyboxes({host(), FOREIGN})
    file = folder / "data"
    size = SIZE // 10 if quick else SIZE
    text = data(size)
    file.write_bytes(text)
    (folder / "lines").write_bytes(text[: size // 8].replace(b" ", b"\n"))
    found = []
    for name, per, words, each in rows(file, quick):
        found.append(
            Job(
                [Work("user", name, per)],
                program_ways(partial(_way, programs, name, words, each), FOREIGN, reasons),
            )
        )
    return found


def busyboxes(isas: set[str]) -> tuple[dict[str, Path], dict[str, str]]:
    """busybox by ISA; where there is none, why."""
    programs: dict[str, Path] = {}
    reasons: dict[str, str] = {}
    for isa in isas:
        if isa not in ARCHITECTURES:
            reasons[isa] = f"Debian has no busybox for {isa}"
            continue
        try:
            programs[isa] = unpacked("busybox-static", ARCHITECTURES[isa]) / "bin" / "busybox"
        except Unavailable as error:
            reasons[isa] = str(error)
    return programs, reasons


def _way(
    programs: dict[str, Path], name: str, words: list[str], each: int, isa: str, before: list[str]
) -> Callable[[], Ran]:
    """emu's guests execute guest programs; QEMU's cannot, and are given QEMU itself, as by binfmt_misc."""
    busybox = str(programs[isa])
    again = f"{before[0]} {busybox}" if before and Path(before[0]).name.startswith("qemu-") else busybox
    command = [*before, busybox, *(word.replace("{busybox}", again) for word in words)]
    return partial(_run, command, name, each)


def _run(command: list[str], name: str, each: int) -> Ran:
    sample, output = program(command)
    return Ran({name: sample.each(each)}, output)
