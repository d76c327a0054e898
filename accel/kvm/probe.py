"""What this host's KVM can do, for people: found out by asking, and by running tiny guests for milliseconds.

Every finding is a plain value with its cause and, where something is amiss, the remedy.  Nothing here is on
the path of a program's start; `accel.kvm.device.open_device` is the cheap question.
"""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple

from accel.api import ExitKind
from accel.errors import EmuError, Unavailable
from accel.kvm import device
from accel.kvm.vm import KvmAccelerator
from accel.memory import AddressSpace, Register

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from accel.kvm.vcpu import KvmVcpu

# A CPU runs an instruction of a counting loop in well under 5 ns, an emulator needs hundreds.
EMULATED_NS = 50
# A measurement ends when a guest has run that long (s), and is given up after LIMIT.
LONG_ENOUGH = 0.01
LIMIT = 2.0

CODE = 0x8000
STUB = 0x9000
MMIO = 0xD000_0000
PORT = 0x500

MODULES = ("kvm_intel", "kvm_amd", "kvm_pvm")

OPTIONAL = {
    "irqchip": (device.CAP_IRQCHIP, "the board's own interrupt controllers are used"),
    "pit": (device.CAP_PIT2, "the board's own timer is used"),
    "ioeventfd": (device.CAP_IOEVENTFD, "doorbells go through the run loop"),
    "sync_regs": (device.CAP_SYNC_REGS, "registers cost a system call more"),
    "signal_msi": (device.CAP_SIGNAL_MSI, "message-signalled interrupts do not work"),
    "debug": (device.CAP_SET_GUEST_DEBUG, "no breakpoints and single steps by hardware"),
}


class Finding(NamedTuple):
    """One thing that was found out.

    name: what; value: a bool, a number, a word, or None where it could not be found out; ok: whether it is
    as on an ordinary host; cause: why the value is what it is, "" if that goes without saying; remedy: what a
    person can do about it, "" if nothing is amiss.
    """

    name: str
    value: Any
    ok: bool = True
    cause: str = ""
    remedy: str = ""


def probe(path: str = "/dev/kvm", *, measure: bool = True) -> list[Finding]:
    """What KVM at `path` can do, "usable" first; where that is False nothing follows.

    measure: also run guests: "cpl0_ns", "cpl0_emulated", "exit_us", "syscall_cpl".  Takes at most some
    seconds on the worst of hosts, and some 50 ms usually.
    """
    machine = os.uname().machine
    if machine != "x86_64":
        cause = f"KVM runs x86_64 guests on x86_64 hosts, and this host is {machine}"
        return [Finding("usable", False, False, cause, "use --accel tcg")]
    try:
        fd = device.open_device(path)
    except Unavailable as error:
        cause, _, remedy = str(error).partition("; ")
        return [Finding("usable", False, False, cause, remedy)]
    try:
        found = [Finding("usable", True), Finding("api", device.API_VERSION), _module()]
        found += _capabilities(fd)
    finally:
        os.close(fd)
    if measure:
        found += _measured(path)
    return found


def _module() -> Finding:
    loaded = [name for name in MODULES if Path("/sys/module", name).is_dir()]
    if "kvm_pvm" in loaded and len(loaded) == 1:
        return Finding(
            "module",
            "kvm_pvm",
            False,
            "KVM works without hardware virtualization here",
            "for guest kernels at full speed use a host with kvm_intel or kvm_amd",
        )
    return Finding("module", loaded[0] if loaded else None, True, "" if loaded else "built into the kernel")


def _capabilities(fd: int) -> Iterator[Finding]:
    for name, (capability, without) in OPTIONAL.items():
        if device.extension(fd, capability):
            yield Finding(name, True)
        else:
            yield Finding(name, False, False, f"this kernel lacks it: {without}", "update the host's kernel")
    yield Finding("max_vcpus", device.extension(fd, device.CAP_MAX_VCPUS) or 4)


class _Guest:
    """A VM with 1 MiB of RAM, a port, an MMIO register, and a vCPU that is kicked when it takes too long."""

    def __init__(self, path: str, code: str) -> None:
        from isa.arch import find

        self.memory = AddressSpace("probe")
        self.ports = AddressSpace("probe ports", 1 << 16)
        self.memory.add_ram("ram", 0, 1 << 20)
        everything = Register(0, 4, write_mask=0xFFFF_FFFF)
        self.memory.add_io("register", MMIO, 0x1000).registers([everything])
        self.ports.add_io("port", PORT, 4).registers([everything])
        self.memory.load(CODE, bytes.fromhex(code))
        try:
            self.kvm = KvmAccelerator(find("x86_64"), self.memory, self.ports, device_path=path)
        except BaseException:
            self._free()
            raise
        self.vcpu: KvmVcpu = self.kvm.vcpu(0)
        self._timer = threading.Timer(LIMIT, self.vcpu.kick)
        self._timer.daemon = True
        self._timer.start()

    def _free(self) -> None:
        self.memory.close()
        self.ports.close()

    def __enter__(self) -> _Guest:
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        self._timer.join()
        self.kvm.close()
        self._free()


def _measured(path: str) -> list[Finding]:
    found: list[Finding] = []
    try:
        found += kernel_mode(path)
        found.append(_exit_cost(path))
        found.append(_syscall(path))
    except EmuError as error:
        cause, _, remedy = str(error).partition("; ")
        found.append(Finding("guests", False, False, cause, remedy))
    return found


def _protected(vcpu: KvmVcpu) -> None:
    """32-bit protected mode, flat, CPL 0."""
    parts: dict[str, int] = {"cr0": 0x11, "cs": 8, "cs_base": 0, "cs_limit": 0xFFFF_FFFF, "cs_attr": 0xC09B}
    for name in ("ds", "es", "ss"):
        parts |= {name: 16, f"{name}_base": 0, f"{name}_limit": 0xFFFF_FFFF, f"{name}_attr": 0xC093}
    vcpu.set(**parts, rip=CODE, rflags=2)


def _timed(guest: _Guest, count: int) -> float | None:
    """Seconds that a loop of `count` turns takes up to its HLT; None when it does not get there."""
    guest.vcpu.set(rip=CODE, rcx=count, rdx=PORT)
    start = time.perf_counter()
    if guest.vcpu.run().kind != ExitKind.HALT:
        return None
    return time.perf_counter() - start


def _rate(guest: _Guest) -> float | None:
    """Seconds a turn of the guest's loop takes, the cost of starting and stopping taken off."""
    base = _timed(guest, 1)
    count = 64
    while base is not None and count < 1 << 28:
        took = _timed(guest, count)
        if took is None:
            return None
        if took > LONG_ENOUGH:
            return max(0.0, took - base) / (count - 1)
        count *= 4
    return None


def kernel_mode(path: str = "/dev/kvm") -> list[Finding]:
    """How long an instruction takes in kernel mode: "cpl0_ns", and "cpl0_emulated" where it could be told.

    Raises what making a guest raises, Unavailable.
    """
    with _Guest(path, "49 75fd f4") as guest:  # dec ecx; jnz; hlt
        _protected(guest.vcpu)
        turn = _rate(guest)
    if turn is None:
        cause = f"a counting loop did not end within {LIMIT} s"
        return [Finding("cpl0_ns", None, False, cause, "use --accel tcg")]
    ns = turn * 1e9 / 2
    if ns < EMULATED_NS:
        return [Finding("cpl0_ns", round(ns, 2)), Finding("cpl0_emulated", False)]
    cause = f"kernel-mode code of a guest is emulated, {ns:.0f} ns an instruction"
    remedy = (
        "programs and firmware run; for guest kernels use a host with kvm_intel or kvm_amd, or --accel tcg"
    )
    return [
        Finding("cpl0_ns", round(ns, 2), False, cause, remedy),
        Finding("cpl0_emulated", True, False, cause, remedy),
    ]


def _exit_cost(path: str) -> Finding:
    """What an access to a register costs that is answered without Python, in us."""
    with _Guest(path, "ee 49 75fc f4") as guest:  # out dx,al; dec ecx; jnz; hlt
        _protected(guest.vcpu)
        turn = _rate(guest)
    if turn is None:
        return Finding("exit_us", None, False, "a loop of port writes did not end in time", "use --accel tcg")
    return Finding("exit_us", round(turn * 1e6, 2))


def _syscall(path: str) -> Finding:
    """The privilege level in which SYSCALL, executed at CPL 3, arrives: 0, or 3 on some hosts."""
    with _Guest(path, "0f05 ebfe") as guest:  # syscall; jmp $
        memory = guest.memory
        memory.load(STUB, bytes.fromhex("89042500002000 ebfe"))  # mov [0x200000],eax; jmp $
        # PML4, PDPT, PD: 2 MiB pages, present, writable, user: 0 is RAM, 2 MiB the MMIO register
        memory.load(0x1000, (0x2007).to_bytes(8, "little"))
        memory.load(0x2000, (0x3007).to_bytes(8, "little"))
        memory.load(0x3000, (0x87).to_bytes(8, "little") + (MMIO | 0x87).to_bytes(8, "little"))
        parts: dict[str, int] = {}
        for name in ("ds", "es", "ss"):
            parts |= {name: 0x2B, f"{name}_base": 0, f"{name}_limit": 0xFFFF_FFFF, f"{name}_attr": 0xC0F3}
        guest.vcpu.set(
            **parts,
            **{"cr0": 0x8000_0031, "cr3": 0x1000, "cr4": 0x20, "efer": 0x501, "rflags": 2, "rip": CODE},
            **{"cs": 0x33, "cs_base": 0, "cs_limit": 0xFFFF_FFFF, "cs_attr": 0xA0FB},
            **{"star": 0x23 << 48 | 0x08 << 32, "lstar": STUB, "sfmask": 0},
        )
        exit = guest.vcpu.run(budget=1)
        level = guest.vcpu.get("ss_attr")[0] >> 5 & 3
    if exit.kind != ExitKind.BUDGET:
        cause = f"a program's SYSCALL did not arrive ({exit.kind.name.lower()}: {exit.text or hex(exit.pc)})"
        return Finding("syscall_cpl", None, False, cause, "run programs with --accel tcg")
    if level == 0:
        return Finding("syscall_cpl", 0)
    cause = "SYSCALL loads RIP from LSTAR and stays in user mode here"
    return Finding(
        "syscall_cpl", level, False, cause, "nothing to do: programs get an entry that allows for it"
    )
