"""The types of objects that there are: what clients ask for to learn what a machine can be given."""

from __future__ import annotations

from typing import Any

TYPE_CHECKING = False
if TYPE_CHECKING:
    from emu.machine import Machine

# libvirt 9.0 asks for memory-backend-file's properties whatever it was told, and ends itself over an error.
OBJECTS = ("secret", "memory-backend-ram", "memory-backend-memfd", "memory-backend-file", "rng-random")
# The parts of each board's own, by QEMU's names.
PARTS = {
    "aarch64": ("pl011", "pl031", "pl061", "arm_gic", "arm-gicv3"),
    "arm": ("pl011", "pl031", "pl061", "arm_gic", "arm-gicv3"),
    "riscv64": ("serial-mm", "goldfish_rtc", "riscv.sifive.plic"),
    "x86_64": ("isa-serial", "mc146818rtc", "i8042", "ioapic"),
}
CPUS = {"aarch64": "arm-cpu", "arm": "arm-cpu", "riscv64": "riscv-cpu", "x86_64": "x86_64-cpu"}


class Type:
    """A type: what it is derived from, whether objects of it can be made, and their own properties."""

    def __init__(
        self,
        parent: str,
        *,
        abstract: bool = False,
        properties: tuple[tuple[str, str, Any], ...] = (),
    ) -> None:
        self.parent = parent
        self.abstract = abstract
        self.properties = properties


def board_name(machine: Machine) -> str:
    """What a machine's board is called."""
    return machine.board.name or type(machine.board).__name__.lower()


def cpu_type(machine: Machine) -> str:
    """The type of a machine's CPUs."""
    model = "host" if machine.accel.caps.name == "kvm" else "max"
    return f"{model}-{CPUS[machine.board.arch]}"


def types(machine: Machine) -> dict[str, Type]:
    """All types by name, for a machine of this architecture."""
    from emu.system.types import cpus, devices, machines

    arch = machine.board.arch
    found = {
        "object": Type("", abstract=True),
        "container": Type("object"),
        "device": Type("object", abstract=True),
        "sys-bus-device": Type("device", abstract=True),
        "pci-device": Type("device", abstract=True),
        "virtio-device": Type("device", abstract=True),
        "cpu": Type("device", abstract=True),
        "machine": Type("object", abstract=True),
        "accel": Type("object", abstract=True),
        "tcg-accel": Type("accel"),
        "virtio-mmio": Type("sys-bus-device"),
    }
    if arch == "x86_64":
        found["kvm-accel"] = Type("accel")
    for board in machines(arch):
        found[f"{board.name}-machine"] = Type("machine")
        for name in board.devices:
            found[name] = Type("sys-bus-device")
    for model in cpus(arch):
        found[f"{model}-{CPUS[arch]}"] = Type("cpu")
    for name in OBJECTS:
        found[name] = Type("object")
    for name in PARTS[arch]:
        found[name] = Type("sys-bus-device")
    for name, (_, takes) in devices(arch).items():
        # Whatever is on or off there is off by default.
        defaults = {"bool": False}
        listed = tuple(
            (key, kind, defaults.get(kind)) for key, (kind, _) in takes.items() if key not in ("id", "bus")
        )
        found[name] = Type(_parent(name), properties=listed)
    return found


def _parent(name: str) -> str:
    """What a type of device is derived from."""
    if name.endswith("-pci-non-transitional"):
        return name.removesuffix("-non-transitional")
    if name.endswith("-pci") or name == "pcie-root-port":
        return "pci-device"
    return "virtio-device" if name.startswith("virt") else "sys-bus-device"


def derived(known: dict[str, Type], name: str, ancestor: str) -> bool:
    """Whether a type is another, or derived from it."""
    while name:
        if name == ancestor:
            return True
        name = known[name].parent if name in known else ""
    return False
