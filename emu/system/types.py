"""What machines, CPUs and devices there are, by QEMU's names: for the command line, and for those who ask.

Each table is the only place where its names stand.
"""

from __future__ import annotations


class MachineType:
    """A board by QEMU's name for it.

    alias: a shorter name; board: emu's; cpu: the model if nobody says; cpus: how many there may be; ram_id:
    the name that a memory backend for its RAM must have; bus: the PCI bus of its host bridge, "" for none;
    default: whether it is meant if nobody names one; mmio: whether it has slots for virtio by MMIO; devices:
    types that are part of it.
    """

    def __init__(
        self,
        name: str,
        board: str,
        text: str,
        *,
        alias: str = "",
        cpu: str = "",
        cpus: int = 1,
        ram: int = 128 << 20,
        ram_id: str = "",
        bus: str = "",
        mmio: bool = False,
        default: bool = False,
        devices: tuple[str, ...] = (),
    ) -> None:
        self.name = name
        self.board = board
        self.text = text
        self.alias = alias
        self.cpu = cpu
        self.cpus = cpus
        self.ram = ram
        self.ram_id = ram_id
        self.bus = bus
        self.mmio = mmio
        self.default = default
        self.devices = devices


NONE = MachineType("none", "none", "no machine: for those who ask what there is", cpus=0, ram=0)
MACHINES: dict[str, tuple[MachineType, ...]] = {
    "aarch64": (
        MachineType(
            "virt-7.2",
            "virt",
            "the board virt, as QEMU 7.2 has it",
            alias="virt",
            cpu="cortex-a53",
            ram_id="mach-virt.ram",
            bus="pcie.0",
            mmio=True,
            devices=("pl011", "pl031", "pl061", "gpex-pcihost", "fw_cfg_mem"),
        ),
        NONE,
    ),
    "x86_64": (
        MachineType(
            "pc-i440fx-7.2",
            "pc",
            "the board pc (i440FX and PIIX3), as QEMU 7.2 has it, without IDE and screen",
            alias="pc",
            cpu="qemu64",
            cpus=16,
            ram_id="pc.ram",
            bus="pci.0",
            default=True,
            devices=("i440FX", "PIIX3", "isa-serial", "mc146818rtc", "i8042", "fw_cfg_io"),
        ),
        MachineType(
            "microvm",
            "microvm",
            "the board microvm (i386)",
            cpu="qemu64",
            cpus=16,
            ram_id="microvm.ram",
            mmio=True,
            devices=("isa-serial", "mc146818rtc", "i8042", "fw_cfg_io"),
        ),
        NONE,
    ),
}
# Arm's models, as tcg has them (accel/tcg); max is the usual one.
ARM_CPUS = ("cortex-a53", "cortex-a57", "cortex-a72", "max")


class DeviceType:
    """A kind of device that -device makes.

    text: what it is; properties: name to (type, what it means), as device-list-properties has them.  idle:
    those that have no effect here; needs: what it is plugged into.
    """

    def __init__(
        self,
        text: str,
        properties: dict[str, tuple[str, str]] | None = None,
        *,
        idle: tuple[str, ...] = (),
        needs: str = "",
    ) -> None:
        self.text = text
        self.properties = properties or {}
        self.idle = idle
        self.needs = needs


# Virtio by kind; each comes as virtio-KIND-pci, -pci-non-transitional and (MMIO) -device.
VIRTIO = {
    "blk": DeviceType(
        "disk",
        {
            "drive": ("str", "the block node, or -drive's id"),
            "serial": ("str", "what the guest reads as its serial number"),
            "bootindex": ("int32", "place among what firmware boots from"),
            "share-rw": ("bool", "on is not supported"),
            "write-cache": ("OnOffAuto", "off is not supported"),
            "iothread": ("link<iothread>", "every disk has a thread of its own"),
            "num-queues": ("uint16", "there is one"),
            "queue-size": ("uint16", "there is one size"),
        },
        idle=(
            "bootindex",
            "iothread",
            "num-queues",
            "queue-size",
            "physical_block_size",
            "logical_block_size",
        ),
    ),
    "net": DeviceType(
        "network card",
        {
            "netdev": ("str", "the host's end of its cable"),
            "mac": ("str", "its address"),
            "bootindex": ("int32", "place among what firmware boots from"),
            "host_mtu": ("uint16", "not supported"),
            "mq": ("bool", "there is one pair of queues"),
        },
        idle=("bootindex", "mq", "vectors", "rx_queue_size", "tx_queue_size"),
    ),
    "balloon": DeviceType(
        "memory balloon",
        {
            "deflate-on-oom": ("bool", "the guest may take pages back rather than run out"),
            "free-page-reporting": ("bool", "the guest gives back what is free"),
            "guest-stats": ("guest statistics", "what the guest told last"),
            "guest-stats-polling-interval": ("int", "seconds between its reports"),
        },
    ),
    "rng": DeviceType(
        "entropy",
        {
            "rng": ("link<rng-backend>", "where it comes from"),
            "max-bytes": ("uint64", "how much in a period"),
            "period": ("uint32", "milliseconds"),
        },
    ),
    "serial": DeviceType(
        "consoles and ports, plugged into it",
        {"max_ports": ("uint32", "how many there may be")},
        idle=("vectors",),
    ),
    "9p": DeviceType(
        "a folder of the host's",
        {"fsdev": ("str", "the folder's id"), "mount_tag": ("str", "what the guest mounts it by")},
    ),
}
COMMON = {"id": ("str", "its name"), "bus": ("str", "what it is plugged into")}
PCI = {"addr": ("int32", "slot and function on the bus"), "multifunction": ("bool", "others are in its slot")}
# What QEMU's transports take besides, without an effect here.
VIRTIO_IDLE = (
    "disable-legacy",
    "disable-modern",
    "romfile",
    "rombar",
    "ats",
    "page-per-vq",
    "event_idx",
    "packed",
)
VIRTIO_PCI = {
    "disable-legacy": ("OnOffAuto", "off is not supported"),
    "disable-modern": ("bool", "on is not supported"),
}
SUFFIXES = {"-pci": "by PCI", "-pci-non-transitional": "by PCI", "-device": "by MMIO"}
PORTS = {
    "chardev": ("str", "the host's end"),
    "name": ("str", "what the guest finds it by"),
    "nr": ("uint32", "its number"),
}
OTHERS = {
    "virtserialport": DeviceType("a port that the guest finds by name", PORTS, needs="virtio-serial"),
    "virtconsole": DeviceType("a console, Linux' hvc0", PORTS, needs="virtio-serial"),
    "pcie-root-port": DeviceType(
        "a PCI bus behind a root port",
        {
            "port": ("uint8", "number of the port"),
            "chassis": ("uint8", "number of its slot"),
            "slot": ("uint16", "not told to the guest"),
            "hotplug": ("bool", "devices may come and go while the guest runs"),
            **PCI,
        },
        idle=(
            "slot",
            "io-reserve",
            "mem-reserve",
            "pref32-reserve",
            "pref64-reserve",
            "bus-reserve",
        ),
        needs="PCI",
    ),
    "isa-serial": DeviceType(
        "a serial port of the PC's",
        {"chardev": ("str", "the host's end"), "index": ("uint32", "which of them")},
        needs="ISA",
    ),
}


def machines(arch: str) -> tuple[MachineType, ...]:
    """The machine types of an architecture; of one that has no emu-system the boards' own names."""
    if arch in MACHINES:
        return MACHINES[arch]
    from emu.board import BOARDS

    return (*(MachineType(board, board, "", cpu="max") for board, of in BOARDS if of == arch), NONE)


def machine(arch: str, name: str) -> MachineType | None:
    """The machine type of that name or alias."""
    return next((each for each in MACHINES[arch] if name in (each.name, each.alias)), None)


def cpus(arch: str) -> tuple[str, ...]:
    """The CPU models of an architecture; not every accelerator has all of them."""
    if arch == "aarch64":
        return ARM_CPUS
    if arch != "x86_64":
        return ("max",)
    from isa.x86_64_cpus import CPUS

    return (*CPUS, "max", "host")


def virtio_kind(driver: str) -> tuple[str, str] | None:
    """Kind and transport ("pci" or "mmio") of a virtio device type; None for what is none."""
    for suffix in ("-pci-non-transitional", "-pci", "-device", ""):
        if driver.startswith("virtio-") and driver.endswith(suffix):
            kind = driver[len("virtio-") : len(driver) - len(suffix)]
            if kind in VIRTIO:
                return kind, "mmio" if suffix == "-device" else "pci"
    return None


def devices(arch: str) -> dict[str, tuple[str, dict[str, tuple[str, str]]]]:
    """What -device makes on the machines of an architecture: what it is, and its properties."""
    found: dict[str, tuple[str, dict[str, tuple[str, str]]]] = {}
    boards = machines(arch)
    for kind, type in VIRTIO.items():
        for suffix, way in SUFFIXES.items():
            by_pci = suffix != "-device"
            if any(each.bus if by_pci else each.mmio for each in boards):
                more = {**PCI, **VIRTIO_PCI} if by_pci else {}
                found[f"virtio-{kind}{suffix}"] = (
                    f"{type.text}, {way}",
                    {**COMMON, **type.properties, **more},
                )
    for name, type in OTHERS.items():
        there = {"PCI": any(each.bus for each in boards), "ISA": arch == "x86_64"}
        if there.get(type.needs, True):
            found[name] = (type.text, {**COMMON, **type.properties})
    return found
