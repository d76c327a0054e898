"""KVM beside a plain C loop, native code and QEMU: exits, code in the guest, whole devices, starts.

    python benchmarks/bench_kvm.py [--rounds N] [--exits N] [--only exits|code|devices|start ...]
                                   [--json FILE]

exits: the same guest code in three VMs of one process, turn and turn about: ours with a register that C
serves (memory map, kicks and budget included), ours with a Python hook, and the twin (kvm_twin.c, built when
this starts; needs a C compiler).  A turn's start and end, some 20 us on our side, are in it too.
code: loops in the guest's user mode (CPL 3), and the same bytes in this process.
devices: bytes to the serial line and reads of a sector by virtio-blk, one an exit, by a bare-metal guest
(guest/requests.c) on microvm, under emu and QEMU with -accel kvm; a process with many less one with none.
start: from exec to the guest's first instruction, which ends the machine, beside Python's own start; and in a
process that runs, from the first import to the first exit.

Figures are medians over the rounds; a ratio is the median of the rounds' ratios, so that a slow moment of the
host meets all; starts are the smallest.  The time is the CPU's, with the guest's in it, so that other work on
the host counts little; for start and devices the clock's, too.  Asserts nothing.  Ctrl-C keeps what is done.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import mmap
import os
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from accel.kvm.vcpu import KvmVcpu
from accel.kvm.vm import KvmAccelerator
from accel.memory import AddressSpace, Register
from emu.loader import x86_rom
from isa.arch import find
from tests.conftest import Engine
from tests.guest.bare import DEVICE, Bare, words

CODE, PORT, MMIO = 0x8000, 0x500, 0xD000_0000
FLAT = {"base": 0, "limit": 0xFFFF_FFFF}
GUESTS = {
    "port write": "ef ebfd",  # out dx,eax; jmp back
    "port read": "ed ebfd",  # in eax,dx
    "MMIO write": "8903 ebfc",  # mov [ebx],eax
    "MMIO read": "8b03 ebfc",  # mov eax,[ebx]
}


def build_twin(name: str = "kvm_twin") -> ctypes.CDLL:
    """Compiles and loads a plain C loop; twin_open's arguments are the caller's to declare."""
    source = Path(__file__).with_name(f"{name}.c")
    with tempfile.TemporaryDirectory(prefix="emu-bench-") as folder:
        target = Path(folder) / "twin.so"
        command = [os.environ.get("CC", "cc"), "-std=c11", "-O2", "-D_GNU_SOURCE", "-shared", "-fPIC"]
        subprocess.run([*command, "-o", str(target), str(source)], check=True)
        library = ctypes.CDLL(str(target))
    library.twin_open.restype = ctypes.c_void_p
    library.twin_run.restype = ctypes.c_uint64
    library.twin_run.argtypes = [ctypes.c_void_p, ctypes.c_uint64]
    return library


class Ours:
    """The same guest under accel.kvm, its register served by C or by a Python hook."""

    def __init__(self, code: bytes, hook: bool) -> None:
        self.memory = AddressSpace()
        self.ports = AddressSpace("ports", 1 << 16)
        self.memory.add_ram("ram", 0, 1 << 20)
        for space, base in ((self.memory, MMIO), (self.ports, PORT)):
            region = space.new_io("device", 16)
            if hook:
                region.trap(0, 4, read=lambda offset, width: 1, write=lambda offset, width, value: None)
            else:
                region.registers([Register(0, 4, write_mask=0xFFFF_FFFF)])
            space.place(region, base)
        self.memory.load(CODE, code)
        self.kvm = KvmAccelerator(find("x86_64"), self.memory, self.ports)
        self.vcpu: KvmVcpu = self.kvm.vcpu(0)
        parts: dict[str, int] = {"cr0": 0x11}
        for name, selector, attributes in (("cs", 8, 0xC09B), ("ds", 16, 0xC093), ("ss", 16, 0xC093)):
            parts |= {name: selector, f"{name}_attr": attributes}
            parts |= {f"{name}_{part}": value for part, value in FLAT.items()}
        self.vcpu.set(**parts, rip=CODE, rflags=2, rdx=PORT, rbx=MMIO)

    def run(self, exits: int) -> int:
        """Nanoseconds for so many exits."""
        start = time.thread_time_ns()
        self.vcpu.run(budget=exits)
        return time.thread_time_ns() - start

    def close(self) -> None:
        self.kvm.close()
        self.memory.close()
        self.ports.close()


def measure(rounds: int, exits: int) -> Iterator[dict[str, Any]]:
    """A row of figures for each kind of access."""
    twin = build_twin()
    twin.twin_open.argtypes = [ctypes.c_char_p, ctypes.c_size_t]
    for name, text in GUESTS.items():
        code = bytes.fromhex(text)
        other = twin.twin_open(code, len(code))
        if not other:
            raise SystemExit("the plain C loop cannot use /dev/kvm; see why with: emu doctor")
        ours, hooked = Ours(code, False), Ours(code, True)

        def plain(count: int, other: int = other) -> int:
            return int(twin.twin_run(other, count))

        runs: dict[str, Callable[[int], int]] = {"c": plain, "register": ours.run, "hook": hooked.run}
        series: dict[str, list[float]] = {kind: [] for kind in runs}
        for run in runs.values():
            run(exits)  # warm up
        for turn in range(rounds):
            # The order changes, so that none always comes first.
            for kind in list(runs)[turn % 3 :] + list(runs)[: turn % 3]:
                series[kind].append(runs[kind](exits) / exits)
        row: dict[str, Any] = {"access": name, "rounds": rounds, "exits": exits}
        for kind, values in series.items():
            ratios = [mine / theirs for mine, theirs in zip(values, series["c"], strict=True)]
            row[f"{kind}_ns"] = round(statistics.median(values), 1)
            row[f"{kind}_ratio"] = round(statistics.median(ratios), 3)
        ours.close()
        hooked.close()
        yield row


# ---- code at CPL 3 ---------------------------------------------------------------------------------

LOOPS = {
    "integers": """
    b9 11 11 11 11           ; mov ecx,0x11111111  how often
    b8 01 00 00 00           ; mov eax,0x1
    48 69 c0 95 e9 d1 5b     ; imul rax,rax,0x5bd1e995
    48 01 c8                 ; add rax,rcx
    48 89 c2                 ; mov rdx,rax
    48 c1 ea 0d              ; shr rdx,0xd
    48 31 d0                 ; xor rax,rdx
    89 c6                    ; mov esi,eax
    81 e6 f8 0f 00 00        ; and esi,0xff8
    48 33 04 37              ; xor rax,[rdi+rsi]
    48 89 04 37              ; mov [rdi+rsi],rax
    ff c9                    ; dec ecx
    75 d8                    ; jne to the imul
    """,
    "SSE": """
    b9 11 11 11 11           ; mov ecx,0x11111111
    0f 10 07                 ; movups xmm0,[rdi]
    0f 10 4f 10              ; movups xmm1,[rdi+0x10]
    0f 59 c1                 ; mulps xmm0,xmm1
    0f 58 c1                 ; addps xmm0,xmm1
    0f 51 d0                 ; sqrtps xmm2,xmm0
    66 0f fe da              ; paddd xmm3,xmm2
    66 0f 5b e2              ; cvtps2dq xmm4,xmm2
    0f 11 5f 20              ; movups [rdi+0x20],xmm3
    ff c9                    ; dec ecx
    75 e7                    ; jne to the mulps
    """,
}
USER = 0x10_0080
TO_USER = """
    bf 00 00 20 00           ; mov edi,0x200000
    6a 23                    ; push 0x23
    68 00 00 0d 00           ; push 0xd0000
    6a 02                    ; push 0x2
    6a 2b                    ; push 0x2b
    68 80 00 10 00           ; push 0x100080
    48 cf                    ; iretq
"""
TIMES = 10_000_000
FLOATS = struct.pack("<8f", *(0.5 + n / 8 for n in range(8)))


def loop(name: str) -> bytes:
    return words(LOOPS[name]).replace(b"\x11" * 4, struct.pack("<I", TIMES))


class GuestCode:
    """A loop in the guest's user mode, which stores to a device behind it and begins again."""

    def __init__(self, name: str) -> None:
        self.machine = Bare(Engine("kvm"), "x86_64")
        self.machine.device.registers([Register(0, 4, write_mask=0xFFFF_FFFF)])
        self.machine.attach()
        code = loop(name)
        # mov edx, DEVICE; mov [rdx], eax; jmp to the start
        code += b"\xba" + struct.pack("<I", DEVICE) + b"\x89\x02\xe9" + struct.pack("<i", -(len(code) + 12))
        self.machine.load(words(TO_USER))
        self.machine.memory.load(USER, code)
        self.machine.memory.load(0x20_0000, FLOATS)
        self.machine.vcpu.run(budget=1)

    def run(self) -> int:
        start = time.thread_time_ns()
        self.machine.vcpu.run(budget=1)
        return time.thread_time_ns() - start


class NativeCode:
    """The same loop, called."""

    def __init__(self, name: str) -> None:
        self.place = mmap.mmap(-1, 0x2000, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        code = loop(name) + b"\xc3"  # ret
        self.place[: len(code)] = code
        self.place[0x1000 : 0x1000 + len(FLOATS)] = FLOATS
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self.place))
        self.call = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(self.address)

    def run(self) -> int:
        start = time.thread_time_ns()
        self.call(self.address + 0x1000)
        return time.thread_time_ns() - start


def measure_code(rounds: int) -> Iterator[dict[str, Any]]:
    """A row for each loop."""
    for name in LOOPS:
        both = (GuestCode(name), NativeCode(name))
        for one in both:
            one.run()
        series: list[tuple[int, int]] = []
        for turn in range(rounds):
            order = both if turn % 2 else both[::-1]
            took = {one: one.run() for one in order}
            series.append((took[both[0]], took[both[1]]))
        yield {
            "code": name,
            "rounds": rounds,
            "guest_ms": round(statistics.median(mine for mine, _ in series) / 1e6, 2),
            "native_ms": round(statistics.median(other for _, other in series) / 1e6, 2),
            "ratio": round(statistics.median(mine / other for mine, other in series), 3),
        }
        both[0].machine.close()


# ---- whole processes -------------------------------------------------------------------------------

ENTRY = 0x9000
COUNTS = {"serial byte": (1, 20000), "virtio-blk read": (2, 5000)}
EMU = str(Path(sys.executable).with_name("emu"))
IN_PROCESS = """
import time
start = time.perf_counter_ns(), time.process_time_ns()
from accel.kvm.vm import KvmAccelerator
from accel.memory import AddressSpace
from isa.arch import find
memory, ports = AddressSpace(), AddressSpace("ports", 1 << 16)
memory.add_ram("ram", 0xFFFF0000, 0x10000)
memory.load(0xFFFFFFF0, bytes.fromhex("e6f4"))  # out 0xf4, al
kvm = KvmAccelerator(find("x86_64"), memory, ports)
kvm.vcpu(0).run(budget=1)
print(time.perf_counter_ns() - start[0], time.process_time_ns() - start[1])
"""


def firmware(folder: Path, kind: int, count: int) -> str:
    """guest/requests.c as a ROM."""
    target = folder / f"{kind}-{count}"
    source = Path(__file__).with_name("guest") / "requests.c"
    flags = "-O2 -ffreestanding -nostdlib -static -fno-pic -mcmodel=kernel -mno-red-zone -mgeneral-regs-only"
    flags += f" -fno-stack-protector -fno-asynchronous-unwind-tables -Wl,-Ttext={x86_rom.BASE + ENTRY:#x}"
    command = [os.environ.get("CC", "cc"), *flags.split(), f"-DKIND={kind}", f"-DCOUNT={count}"]
    command += ["-Wl,--build-id=none,-e,_start", "-o", f"{target}.elf", str(source)]
    subprocess.run(command, check=True)
    subprocess.run(["objcopy", "-O", "binary", "-j", ".text*", f"{target}.elf", f"{target}.bin"], check=True)
    code = Path(f"{target}.bin").read_bytes()
    image = bytearray(x86_rom.long_mode(x86_rom.BASE + ENTRY))
    image[ENTRY : ENTRY + len(code)] = code
    target.write_bytes(image)
    return str(target)


def process(command: list[str]) -> tuple[float, float, str]:
    """Seconds of the clock and of the CPU that a whole process took, and what it printed."""
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    before = time.monotonic()
    child = subprocess.Popen(
        command,
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert child.stdout
    text = child.stdout.read()
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode not in (0, 1):
        raise RuntimeError(f"{command[0]} ended with {child.returncode}: {text[-300:]}")
    return time.monotonic() - before, usage.ru_utime + usage.ru_stime, text


def machines(folder: Path) -> dict[str, list[str]]:
    """emu and QEMU with one disk; the firmware comes behind.  QEMU only where it runs at all."""
    (folder / "disk").write_bytes(bytes(1 << 20))
    disk = f"{folder / 'disk'},format=raw"
    options = f"--machine microvm --accel kvm --serial null --memory 128 --drive {disk} --firmware"
    found = {"emu": [EMU, "boot", *options.split()]}
    qemu = shutil.which("qemu-system-x86_64")
    if qemu is None:
        print("qemu-system-x86_64 is not installed: emu alone", file=sys.stderr)
        return found
    words = "-M microvm -accel kvm -m 128 -nodefaults -display none -serial null -no-reboot"
    words += " -global virtio-mmio.force-legacy=false -device isa-debug-exit,iobase=0xf4,iosize=1"
    words += f" -drive if=none,id=disk,file={disk} -device virtio-blk-device,drive=disk"
    for model in ("host", "qemu64"):
        command = [qemu, *words.split(), "-cpu", model, "-bios"]
        try:
            process([*command, first_instruction(folder)])
            return {**found, "qemu": command}
        except RuntimeError as error:
            print(f"QEMU's kvm with -cpu {model}: {' '.join(str(error).split())}", file=sys.stderr)
    return found


def first_instruction(folder: Path) -> str:
    """A ROM whose first instruction ends the machine."""
    rom = folder / "first"
    rom.write_bytes(bytes.fromhex("e6f4 ebfc").ljust(16, b"\x90").rjust(65536, b"\x90"))
    return str(rom)


def measure_devices(rounds: int) -> Iterator[dict[str, Any]]:
    """A row for each device, of us a request."""
    with tempfile.TemporaryDirectory(prefix="emu-bench-") as name:
        ways = machines(Path(name))
        for row, (kind, count) in COUNTS.items():
            none, many = firmware(Path(name), kind, 0), firmware(Path(name), kind, count)
            series: dict[str, list[tuple[float, ...]]] = {}
            for turn in range(rounds):
                for way in list(ways) if turn % 2 else list(ways)[::-1]:
                    few, all_ = process([*ways[way], none]), process([*ways[way], many])
                    spent = tuple((b - a) / count * 1e6 for a, b in zip(few[:2], all_[:2], strict=True))
                    series.setdefault(way, []).append(spent)
            yield {"device": row, "rounds": rounds, **figures(series, statistics.median)}


def measure_start(rounds: int) -> Iterator[dict[str, Any]]:
    """From exec to the guest's first instruction and the process's end, in ms; Python's own beside it."""
    with tempfile.TemporaryDirectory(prefix="emu-bench-") as name:
        rom = first_instruction(Path(name))
        ways = {way: [*command, rom] for way, command in machines(Path(name)).items()}
        ways["python"] = [sys.executable, "-c", "pass"]
        series: dict[str, list[tuple[float, ...]]] = {}
        for _ in range(rounds):
            for way in ways:
                took = process(ways[way])
                series.setdefault(way, []).append((took[0] * 1e3, took[1] * 1e3))
            inside = process([sys.executable, "-c", IN_PROCESS])[2].split()
            series.setdefault("inside", []).append(tuple(int(value) / 1e6 for value in inside))
        yield {"start": "first instruction", "rounds": rounds, **figures(series, min)}


def figures(
    series: dict[str, list[tuple[float, ...]]], middle: Callable[[list[float]], float]
) -> dict[str, float]:
    """By way: `_wall` and `_cpu`."""
    found = {}
    for way, values in series.items():
        for which, unit in enumerate(("wall", "cpu")):
            found[f"{way}_{unit}"] = round(middle([value[which] for value in values]), 3)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description="KVM beside a plain C loop, native code and QEMU.")
    parser.add_argument(
        "--rounds", type=int, default=40, help="turns of each kind (40); a quarter of whole processes"
    )
    parser.add_argument("--exits", type=int, default=1000, help="exits a turn (1000)")
    parts = ["exits", "code", "devices", "start"]
    parser.add_argument("--only", nargs="+", choices=parts, default=parts)
    parser.add_argument("--json", metavar="FILE", help="write the rows there too")
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    few = max(1, options.rounds // 4)
    series = {
        "exits": lambda: measure(options.rounds, options.exits),
        "code": lambda: measure_code(options.rounds),
        "devices": lambda: measure_devices(few),
        "start": lambda: measure_start(few),
    }
    try:
        for part in options.only:
            for row in series[part]():
                rows.append(row)
                show(row)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
    if options.json:
        Path(options.json).write_text(json.dumps(rows, indent=2) + "\n")
    return 0


def show(row: dict[str, Any]) -> None:
    """Prints a row."""
    if "access" in row:
        print(
            f"exit, {row['access']:<12} plain C {row['c_ns'] / 1000:6.2f} us,"
            f" register in C {row['register_ns'] / 1000:6.2f} us ({row['register_ratio']:.3f}),"
            f" Python hook {row['hook_ns'] / 1000:6.2f} us ({row['hook_ratio']:.3f})"
        )
    elif "code" in row:
        print(
            f"code at CPL 3, {row['code']:<9} guest {row['guest_ms']:.2f} ms,"
            f" native {row['native_ms']:.2f} ms ({row['ratio']:.3f})"
        )
    elif "device" in row:
        cells = [
            f"{way} {row[f'{way}_cpu']:.2f} us of the CPU, {row[f'{way}_wall']:.2f} of the clock"
            for way in ("emu", "qemu")
            if f"{way}_cpu" in row
        ]
        print(f"{row['device']}: " + "; ".join(cells))
    else:
        for way, what in (
            ("python", "python -c pass"),
            ("emu", "emu boot, whole"),
            ("qemu", "qemu, whole"),
            ("inside", "VM and vCPU, from import to first exit"),
        ):
            if f"{way}_cpu" in row:
                print(f"start: {what}: {row[f'{way}_wall']:.1f} ms, CPU {row[f'{way}_cpu']:.1f} ms")


if __name__ == "__main__":
    sys.exit(main())
