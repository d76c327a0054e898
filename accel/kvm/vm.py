"""KvmAccelerator: one VM of Linux's KVM under the accelerators' contract (accel/api.py)."""

from __future__ import annotations

import os

from accel.api import Caps
from accel.clock import Clock
from accel.errors import AccelError, Unavailable, Unsupported, nearest
from accel.kvm import device
from accel.kvm.cpuid import missing, supported
from accel.kvm.device import checked, extension
from accel.kvm.planted import Planted
from accel.kvm.registers import msr_list
from accel.kvm.slots import PAGE, Doorbells, Slots
from accel.kvm.vcpu import KvmVcpu
from accel.memory import IO, RAM, ROM
from accel.native import ffi, lib
from isa.x86_64_cpus import CPUS, Wish

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from accel.kvm.cpuid import Leaves
    from accel.kvm.irqchip import KernelIrqchip, KernelLapics
    from accel.memory import AddressSpace, Range, Region
    from isa.arch import Arch

# By QEMU's words for kernel-irqchip: the kind of irqchip(), and the capability behind it.
IRQCHIPS = {"on": ("pc", device.CAP_IRQCHIP), "split": ("lapic", device.CAP_SPLIT_IRQCHIP), "off": ("", 0)}
CHIPS = {"pc": lib.EMU_KVM_CHIP_ALL, "lapic": lib.EMU_KVM_CHIP_LOCAL}

# Four pages that Intel CPUs without "unrestricted guest" need below 4 GiB, outside the guest's map: one for
# an identity page table, three for a task state segment.  The first place tried is below the firmware's.
HIDDEN_PAGES = 4
HIDDEN_TOP = 0xFEFF_C000
HIDDEN_STEP = 0x10_0000


class KvmAccelerator:
    """An x86-64 guest on an x86-64 host.

    memory, ports: the machine's maps; the VM follows their changes.  device: the KVM device's path.
    features: CPU features to add (True) or hide (False) by name, as accel.kvm.cpuid lists them.
    cpu: a CPU's name and features, as --cpu has them.
    crossing: whether instructions that KVM refuses are done by the host's CPU or by tcg; else they end run()
    with FAULT.
    moves: whether the only vCPU goes on under tcg when KVM keeps refusing, or it is in kernel mode for long;
    for hosts whose KVM emulates kernel mode, without an interrupt controller in the kernel, in threads that
    have no signals to hear.
    irqchip: which interrupt controllers the kernel may have: "on" all, "split" the local APICs, "off" none.

    Raises Unsupported for another ISA (guest's or host's), Unavailable where the host has no usable KVM.
    """

    def __init__(
        self,
        arch: Arch,
        memory: AddressSpace,
        ports: AddressSpace | None = None,
        *,
        device_path: str = "/dev/kvm",
        features: Mapping[str, bool] | None = None,
        crossing: bool = True,
        moves: bool = False,
        cpu: str = "",
        irqchip: str = "on",
    ) -> None:
        if arch.name != "x86_64" or os.uname().machine != "x86_64":
            raise Unsupported(
                f"KVM cannot run {arch.name} on {os.uname().machine}: it runs x86_64 guests on x86_64 hosts;"
                " use --accel tcg"
            )
        self.arch = arch
        self.memory = memory
        self.ports = ports
        self._features = dict(features or {})
        self._supported: Leaves = {}
        self.cpu = _wish(cpu)
        self.cpu_notes: list[str] = []
        self.crossing = crossing
        self._moves = moves and crossing
        self._clock = Clock()
        self._msrs: tuple[int, ...] = ()
        self._vcpus: dict[int, KvmVcpu] = {}
        self.planted: Planted | None = None  # where this KVM tells of INT3
        self._irqchip: KernelIrqchip | KernelLapics | None = None
        self.fd = -1
        self.device = device.open_device(device_path)
        try:
            self._compare()
            self._create(irqchip)
        except BaseException:
            self.close()
            raise

    def _compare(self) -> None:
        """What was asked for against what the host has."""
        if self.cpu.name == "host" and not self.cpu.features:
            return
        lacks = missing(self.supported(), self.cpu)
        if lacks:
            text = f"CPU {self.cpu.name}: this host's KVM does not offer {', '.join(lacks)}"
            if self.cpu.enforce:
                raise AccelError(f"{text}; leave them out, or enforce")
            self.cpu_notes.append(f"{text}; the guest does not see them")

    def supported(self) -> Leaves:
        """The CPUID leaves that this host's KVM offers."""
        if not self._supported:
            self._supported = supported(self.device)
        return self._supported

    def _create(self, irqchip: str) -> None:
        self.fd = checked(
            lib.emu_kvm_control(self.device, lib.EMU_KVM_CREATE_VM, 0),
            "create a VM",
            "free memory on the host, or use --accel tcg",
        )
        os.set_inheritable(self.fd, False)
        self._run_size = checked(
            lib.emu_kvm_control(self.device, lib.EMU_KVM_GET_VCPU_MMAP_SIZE, 0),
            "tell the size of a vCPU",
            "update the host's kernel",
        )
        self.sync = extension(self.fd, device.CAP_SYNC_REGS)
        ioeventfd = bool(extension(self.fd, device.CAP_IOEVENTFD))
        debug = bool(extension(self.fd, device.CAP_SET_GUEST_DEBUG))
        # What KVM's emulator refuses comes by way of the crossing.
        if debug and device.tells_of_int3(self.fd) and (self.crossing or not device.emulates_cpl0()):
            self.planted = Planted(self.memory, kernel_only=device.emulates_cpl0())
        notes = []
        kind, capability = IRQCHIPS[irqchip]
        if capability and not extension(self.fd, capability):
            raise Unavailable(f"this host's KVM has no kernel-irqchip={irqchip}; use kernel-irqchip=off")
        if device.emulates_cpl0():
            notes.append(
                "kernel-mode code of the guest is emulated by this host's KVM, instruction by instruction"
            )
        self.caps = Caps(
            "kvm",
            max_vcpus=extension(self.fd, device.CAP_MAX_VCPUS)
            or extension(self.fd, device.CAP_NR_VCPUS)
            or 4,
            irqchips=(kind,) if kind else (),
            single_step=debug,
            breakpoints=debug,
            watchpoints=debug and not device.emulates_cpl0(),  # KVM's emulator does not look for them
            user_breakpoints=debug and not device.emulates_cpl0(),  # ... and nobody else for breakpoints
            ioeventfd=ioeventfd,
            dirty_log=True,
            notes=tuple(notes),
        )
        self._listeners: list[tuple[AddressSpace, Any]] = []
        slots = extension(self.fd, device.CAP_NR_MEMSLOTS) or 32
        self._spare = slots - 1
        self._slots = Slots(self.fd, slots - self.crossing)
        self._follow(self.memory, self._slots)
        if ioeventfd:
            any_width = bool(extension(self.fd, device.CAP_IOEVENTFD_ANY_LENGTH))
            self.doorbells = Doorbells(self.fd, False, any_width)
            self._follow(self.memory, self.doorbells)
            if self.ports is not None:
                self._follow(self.ports, Doorbells(self.fd, True, any_width))
        if self.crossing:
            self._follow(self.memory, Companions(self))

    def _follow(self, space: AddressSpace, listener: Any) -> None:
        space.subscribe(listener)
        self._listeners.append((space, listener))

    # -- vCPUs ---------------------------------------------------------------------

    def vcpu(self, index: int, **features: Any) -> KvmVcpu:
        """Creates vCPU number `index`, at the reset vector in real mode (Intel SDM vol. 3, 9.1.4).

        features: as the accelerator's, for this vCPU alone.  Raises AccelError for an index that is taken
        or too high, or a feature nobody knows.
        """
        if index in self._vcpus:
            raise AccelError(f"vCPU {index} exists already; count them from 0, each once")
        if not 0 <= index < self.caps.max_vcpus:
            raise AccelError(
                f"vCPU {index} is beyond this host's {self.caps.max_vcpus}; give the machine fewer CPUs"
            )
        if not self._vcpus:
            self._hide_pages()
        chip = 0 if self._irqchip is None else CHIPS[self._irqchip.kind]
        vcpu = KvmVcpu(self, index, self._run_size, self.sync, chip, {**self._features, **features})
        if self.crossing:
            from accel.kvm.crossing import prepare

            prepare(vcpu, self._spare)
        self._vcpus[index] = vcpu
        # Under tcg instructions are atomic for one CPU alone.
        stays = self._moves and self._irqchip is None and len(self._vcpus) == 1
        for each in self._vcpus.values():
            lib.emu_kvm_vcpu_stays(each.pointer, stays)
        return vcpu

    def _hide_pages(self) -> None:
        if not extension(self.fd, device.CAP_SET_TSS_ADDR):
            return
        base = hidden_base(self.memory.flat())
        if extension(self.fd, device.CAP_SET_IDENTITY_MAP_ADDR):
            address = ffi.new("uint64_t *", base)
            checked(
                lib.emu_kvm_ioctl(self.fd, lib.EMU_KVM_SET_IDENTITY_MAP_ADDR, address),
                f"hide a page at {base:#x}",
                "leave room below 4 GiB in the memory map",
            )
        checked(
            lib.emu_kvm_control(self.fd, lib.EMU_KVM_SET_TSS_ADDR, base + PAGE),
            f"hide three pages at {base + PAGE:#x}",
            "leave room below 4 GiB in the memory map",
        )

    def msr_list(self) -> tuple[int, ...]:
        """The MSRs that belong to a guest's state on this host."""
        if not self._msrs:
            self._msrs = msr_list(self.device)
        return self._msrs

    # -- interrupts and time -------------------------------------------------------

    def irqchip(self, kind: str) -> Any:
        """The kernel's PIC, IOAPIC, LAPIC and PIT for kind "pc", its LAPICs for "lapic"; else None.

        Ask before the first vCPU is created; raises AccelError afterwards.
        """
        if kind not in self.caps.irqchips:
            return None
        if self._irqchip is None:
            if self._vcpus:
                raise AccelError(
                    "the in-kernel interrupt controller comes before the first vCPU; call irqchip() earlier"
                )
            from accel.kvm.irqchip import KernelIrqchip, KernelLapics

            self._irqchip = KernelIrqchip(self.fd) if kind == "pc" else KernelLapics(self.fd)
        return self._irqchip

    def clock(self) -> Clock:
        """The guest's time, for the devices outside the kernel."""
        return self._clock

    def track(self, region: Region, on: bool = True) -> None:
        """Notes which pages of a region are written; see accel.api.Accelerator."""
        region.track(on)
        self._slots.track(region, on)

    def dirty(self, region: Region) -> bytes:
        """The pages that were written; see accel.api.Accelerator."""
        self._slots.note(region)
        return region.take_dirty()

    def enter(self) -> None:
        """The guest comes from another engine: goes on noting which pages are written."""
        for region in self.memory.regions:
            if region.tracked != self._slots.tracks(region):
                self._slots.track(region, region.tracked)

    def leave(self) -> None:
        """The guest goes to another engine: what the kernel has seen written is noted with the regions."""
        for region in self.memory.regions:
            if self._slots.tracks(region):
                self._slots.note(region)
                self._slots.track(region, False)

    # -- end -------------------------------------------------------------------------

    def close(self) -> None:
        """Frees the VM.  No vCPU may be running."""
        for space, listener in getattr(self, "_listeners", ()):
            space.unsubscribe(listener)
        self._listeners = []
        for vcpu in self._vcpus.values():
            vcpu.close()
        self._vcpus.clear()
        if self._irqchip is not None:
            self._irqchip.close()
        for fd in (self.fd, self.device):
            if fd >= 0:
                os.close(fd)
        self.fd = self.device = -1

    def __enter__(self) -> KvmAccelerator:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Companions:
    """Tells the vCPUs' companions (cross.h) of changes of the memory map."""

    def __init__(self, accelerator: KvmAccelerator) -> None:
        self._accelerator = accelerator

    def range_removed(self, piece: Range) -> None:
        """The map lost a piece."""
        for vcpu in self._accelerator._vcpus.values():
            lib.emu_kvm_vcpu_remap(vcpu.pointer)

    range_added = range_removed


def _wish(words: str) -> Wish:
    try:
        wish = Wish(words)
    except ValueError as error:
        raise AccelError(str(error)) from None
    if not wish.known:
        raise AccelError(
            f"kvm has no CPU model {wish.name!r}{nearest(wish.name, CPUS)}; use host, {', '.join(CPUS)}"
        )
    return wish


def hidden_base(flat: list[Range]) -> int:
    """Where HIDDEN_PAGES pages below 4 GiB are free of every piece of the map, else of RAM and ROM at least.

    Raises AccelError when there is no such place.
    """
    for kinds in ((RAM, ROM, IO), (RAM, ROM)):
        for base in range(HIDDEN_TOP, 0, -HIDDEN_STEP):
            end = base + HIDDEN_PAGES * PAGE
            if not any(
                piece.base < end and base < piece.base + piece.size and piece.region.kind in kinds
                for piece in flat
            ):
                return base
    raise AccelError(
        "the memory map leaves no four free pages below 4 GiB, which KVM needs; give it less RAM there"
    )
