"""A machine that is traced, `emu trace boot ...`: devices, registers and interrupts by the board's names."""

from __future__ import annotations

import os
import sys
from threading import Thread

from accel.errors import EmuError
from accel.native import ffi, lib
from emu.trace import record
from emu.trace.record import Ring
from emu.trace.session import Session
from emu.trace.symbols import Image

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from typing import Any

    from emu.machine import Machine
    from emu.trace.filters import Filters
    from emu.trace.record import Record
    from emu.trace.writer import Writer

WHAT = {
    "instructions": lib.EMU_TRACE_INSTRUCTIONS,
    "mmio": lib.EMU_TRACE_MMIO,
    "interrupts": lib.EMU_TRACE_INTERRUPTS,
    "exceptions": lib.EMU_TRACE_EXCEPTIONS,
    "exits": lib.EMU_TRACE_EXITS,
}
# Linux' include/uapi/linux/kvm.h
_EXITS = {
    0: "unknown", 1: "exception", 2: "io", 3: "hypercall", 4: "debug", 5: "hlt", 6: "mmio", 7: "irq window",
    8: "shutdown", 9: "fail entry", 10: "intr", 11: "set tpr", 12: "tpr access", 16: "nmi",
    17: "internal error", 24: "system event", 26: "ioapic eoi", 29: "rdmsr", 30: "wrmsr",
}  # fmt: skip
# As the engine counts them: QEMU's for Arm, mcause, vectors.
_ARM = {1: "undefined", 2: "svc", 3: "prefetch abort", 4: "data abort", 7: "breakpoint", 11: "hvc", 13: "smc"}
_EXCEPTIONS = {
    "aarch64": _ARM,
    "arm": _ARM,
    "riscv64": {
        0: "misaligned fetch", 1: "fetch fault", 2: "illegal instruction", 3: "breakpoint",
        4: "misaligned load", 5: "load fault", 6: "misaligned store", 7: "store fault", 8: "ecall from U",
        9: "ecall from S", 11: "ecall from M", 12: "fetch page fault", 13: "load page fault",
        15: "store page fault",
    },
    "x86_64": {
        0: "#DE", 1: "#DB", 2: "NMI", 3: "#BP", 4: "#OF", 5: "#BR", 6: "#UD", 7: "#NM", 8: "#DF", 10: "#TS",
        11: "#NP", 12: "#SS", 13: "#GP", 14: "#PF", 16: "#MF", 17: "#AC", 18: "#MC", 19: "#XM",
    },
}  # fmt: skip


class Kernel:
    """Symbols of what a machine runs, by the addresses of its ELF file."""

    def __init__(self, image: Image) -> None:
        self.image = image

    def text(self, address: int) -> str:
        found = self.image.name(address)
        if found is None:
            return ""
        return f"{found[0]}+{found[1]:#x}" if found[1] else found[0]


class MachineSession(Session):
    """The same with a machine's events."""

    def __init__(self, ring: Ring, filters: Filters, writer: Writer, image: Image, *, limit: int = 0) -> None:
        super().__init__(ring, filters, lambda path: -1, writer=writer, limit=limit)
        self.machine: Machine | None = None
        self._regions: dict[int, tuple[str, dict[int, str]]] = {}
        self._lines: dict[int, str] = {}
        self._kinds |= {
            record.MMIO: self._mmio,
            record.INTERRUPT: self._interrupt,
            record.EXCEPTION: self._exception,
            record.EXIT: self._exit,
        }
        self.put_space(os.getpid(), Kernel(image))

    def built(self, machine: Machine) -> None:
        """From here on there are names."""
        self.machine = machine
        self._look(machine)

    def _look(self, machine: Machine) -> None:
        """Names of what there is, now: when the last records are read the machine may be closed."""
        for space in (machine.memory, *([machine.ports.space] if machine.ports is not None else [])):
            for region in list(space.regions):
                self._regions.setdefault(int(ffi.cast("uintptr_t", region.pointer)), (region.name, {}))
        for device in machine.devices():
            if device.region is not None:
                names = {reg.offset: name for name, reg in device.registers.items()}
                self._regions[int(ffi.cast("uintptr_t", device.region.pointer))] = (device.name, names)
            for each, line in device.interrupt_lines().items():
                self._lines[int(ffi.cast("uintptr_t", line.pointer))] = f"{device.name}.{each}"

    def _region(self, pointer: int) -> tuple[str, dict[int, str]]:
        """The name of a region, and its registers' by offset."""
        found = self._regions.get(pointer)
        if found is None and self.machine is not None:
            self._look(self.machine)  # something has been plugged in
            found = self._regions.setdefault(pointer, (f"{pointer:#x}", {}))
        return found or ("?", {})

    def _chosen(self, name: str) -> bool:
        return not self._filters.devices or name in self._filters.devices

    def _mmio(self, entry: Record, behind: Any) -> None:
        _, ns, pid, tid, _, _, size, write, _, at, value, region, offset = entry
        device, registers = self._region(region)
        if self.writer is None or not self._chosen(device) or not self.wanted(tid):
            return
        name = registers.get(offset, f"{offset:#x}")
        value &= (1 << 8 * size) - 1
        way = "write" if write else "read "
        text = f"{way} {device}.{name} {value:#x} ({size} byte{'s'[: size > 1]} at {at:#x})"
        self.writer.event(
            "mmio", ns, pid, tid, name=f"{device}.{name}", way=way.strip(), device=device, register=name,
            address=hex(at), size=size, value=hex(value), text=text,
        )  # fmt: skip

    def _interrupt(self, entry: Record, behind: Any) -> None:
        line, level = entry[10], entry[12]
        name = self._lines.get(line)
        if name is None and self.machine is not None:
            self._look(self.machine)
            name = self._lines.setdefault(line, f"line {line:#x}")
        name = name or f"line {line:#x}"
        device = name.partition(".")[0]
        if self.writer is not None and self._chosen(device) and self.wanted(entry[3]):
            text = f"interrupt {name} is {'high' if level else 'low'}"
            self.writer.event(
                "interrupt", entry[1], entry[2], entry[3], name=name, device=device, level=level, text=text
            )

    def _exception(self, entry: Record, behind: Any) -> None:
        isa, at, number = record.ISAS[entry[8]], entry[9], entry[10]
        name = _EXCEPTIONS[isa].get(number, str(number))
        if self.writer is not None and self.wanted(entry[3]):
            where = self.space(entry[2]).text(at)
            text = f"exception {name} at {at:#x}" + (f" {where}" if where else "")
            self.writer.event(
                "exception",
                entry[1],
                entry[2],
                entry[3],
                name=name,
                number=number,
                address=hex(at),
                text=text,
            )

    def _exit(self, entry: Record, behind: Any) -> None:
        ns, reason, cpu, inside = entry[1], entry[10], entry[11], entry[12]
        name = _EXITS.get(reason, str(reason))
        if self.writer is not None and self.wanted(entry[3]):
            text = f"exit {name} of CPU {cpu} after {inside / 1000:.1f} us in the guest"
            self.writer.event(
                "exit", ns - inside, entry[2], entry[3], name=name, cpu=cpu, duration=inside, text=text
            )


def trace_machine(
    words: Sequence[str],
    what: Collection[str],
    filters: Filters,
    writer: Writer,
    *,
    symbols: str | None = None,
    limit: int = 0,
) -> int:
    """Boots with the words of `emu boot`; returns its exit status."""
    from emu import boot
    from emu.cli import words_of

    options = words_of("boot", list(words))
    bits = 0
    for name in what:
        if name not in WHAT:
            raise EmuError(f"--what {name} is for programs; of a machine there are {', '.join(WHAT)}")
        bits |= WHAT[name]
    accel = options.accel or "auto"
    if "instructions" in what and accel != "tcg":
        text = "a machine's instructions are seen where it is translated"
        raise EmuError(f"{text}; add --accel tcg to the words of boot (or ask for mmio, interrupts, exits)")
    path = symbols or options.kernel
    image = Image()
    if path:
        try:
            with open(path, "rb") as file:
                image = Image(file.read())
        except OSError as error:
            if symbols:
                raise EmuError(f"--symbols {path}: {error.strerror}; give an ELF file, as vmlinux") from None
    ring = Ring(bits)
    filters.begin(ring)
    for name in filters.symbols:
        for start, end in image.find(name):
            filters.found.add(name)
            ring.range(start, end)
    for name in filters.missing():
        raise EmuError(
            f"--symbol {name} is no function of {path or 'a file that is known'}; give --symbols FILE"
        )
    session = MachineSession(ring, filters, writer, image, limit=limit)

    def failed() -> None:
        if session.machine is not None:
            session.machine.fail(_unwritten(session.error))

    options.built = session.built
    pump = Thread(target=session.pump, args=(failed,), daemon=True)
    lib.emu_trace_machines(ffi.cast("emu_trace *", ring.address))
    pump.start()
    try:
        status = boot.main(options)
    finally:
        lib.emu_trace_machines(ffi.NULL)
        session.end()
        pump.join()
    if session.error is not None:
        raise _unwritten(session.error)
    sys.stdout.flush()
    return status


def _unwritten(error: BaseException | None) -> BaseException:
    if isinstance(error, OSError):
        text = error.strerror or "its file is closed"
        return EmuError(f"the trace cannot be written: {text}; it is not whole")
    return error or EmuError("the trace cannot be written")
