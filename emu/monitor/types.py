"""The types of objects that there are: what clients ask for to learn what a machine can be given."""

from __future__ import annotations

from typing import Any

TYPE_CHECKING = False
if TYPE_CHECKING:
    from emu.machine import Machine

# Kinds of virtio devices, and the properties that each takes: name, type in QOM's words, default.
VIRTIO: dict[str, tuple[tuple[str, str, Any], ...]] = {
    "virtio-balloon": (
        ("deflate-on-oom", "bool", True),
        ("free-page-reporting", "bool", True),
        ("guest-stats-polling-interval", "int", None),
        ("guest-stats", "guest statistics", None),
    ),
    "virtio-blk": (("drive", "str", None), ("serial", "str", None), ("bootindex", "int32", None)),
    "virtio-net": (("netdev", "str", None), ("mac", "str", None), ("bootindex", "int32", None)),
    "virtio-rng": (("rng", "link<rng-backend>", None),),
    "virtio-serial": (("max_ports", "uint32", 31),),
    "virtio-9p": (("fsdev", "str", None), ("mount_tag", "str", None)),
}
OBJECTS = ("secret", "memory-backend-ram", "memory-backend-memfd", "rng-random")
# The parts of each board's own, by QEMU's names.
PARTS = {
    "aarch64": ("pl011", "pl031", "pl061", "arm_gic", "arm-gicv3"),
    "arm": ("pl011", "pl031", "pl061", "arm_gic", "arm-gicv3"),
    "riscv64": ("serial-mm", "goldfish_rtc", "riscv.sifive.plic"),
    "x86_64": ("isa-serial", "mc146818rtc", "i8042", "ioapic"),
}
PCI_BOARDS = ("aarch64", "arm")
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
    from emu.board import BOARDS

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
    for board, of in BOARDS:
        if of == arch:
            found[f"{board}-machine"] = Type("machine")
    found["none-machine"] = Type("machine")
    for model in ("host", "max") if arch == "x86_64" else ("max",):
        found[f"{model}-{CPUS[arch]}"] = Type("cpu")
    for name in OBJECTS:
        found[name] = Type("object")
    for name in PARTS[arch]:
        found[name] = Type("sys-bus-device")
    for kind, properties in VIRTIO.items():
        found[f"{kind}-device"] = Type("virtio-device", properties=properties)
    if arch in PCI_BOARDS:
        found["gpex-pcihost"] = Type("sys-bus-device")
        found["pcie-root-port"] = Type("pci-device")
        for kind, properties in VIRTIO.items():
            found[f"{kind}-pci"] = Type("pci-device", properties=properties)
            found[f"{kind}-pci-non-transitional"] = Type(f"{kind}-pci", properties=properties)
    return found


def derived(known: dict[str, Type], name: str, ancestor: str) -> bool:
    """Whether a type is another, or derived from it."""
    while name:
        if name == ancestor:
            return True
        name = known[name].parent if name in known else ""
    return False
