"""-device: what is made of a type's name and properties, and where it is plugged in."""

from __future__ import annotations

from typing import Any

from accel.errors import DeviceError, nearest
from emu.inventory import Entry, Folder
from emu.system.given import Given
from emu.system.types import OTHERS, VIRTIO, VIRTIO_IDLE, MachineType, devices, virtio_kind

TYPE_CHECKING = False
if TYPE_CHECKING:
    from contextlib import ExitStack

    from emu.backends.chardev import Chardev
    from emu.devices.pci import PciFunction
    from emu.devices.pci_bridge import PciBridge
    from emu.inventory import Inventory
    from emu.system.blocks import Blocks
    from emu.system.chardevs import Ends
    from emu.virtio.console import Port
    from emu.virtio.device import VirtioDevice

SERIAL_LINES = 4
MOST_PORTS = 31


class SerialBus:
    """A virtio-serial device that is being filled with ports, of which there may be `most` in time."""

    def __init__(self, entry: Entry, place: Given, most: int) -> None:
        self.entry = entry
        self.place = place
        self.most = most
        self.ports: list[tuple[Port, Entry]] = []


class Devices:
    """What is made.  virtio: for slots of the board; functions: for its PCI bus; serial: lines by number."""

    def __init__(
        self,
        arch: str,
        machine: MachineType,
        inventory: Inventory,
        blocks: Blocks,
        ends: Ends,
        opened: ExitStack,
    ) -> None:
        self.arch = arch
        self.machine = machine
        self.inventory = inventory
        self.blocks = blocks
        self.ends = ends
        self.opened = opened
        self.virtio: list[VirtioDevice] = []
        self.functions: list[PciFunction] = []
        self.serial: dict[int, Chardev] = {}
        self._bridges: dict[str, PciBridge] = {}
        self._buses: dict[str, SerialBus] = {}
        self._cards = len(list(inventory.of_kind("virtio-net")))

    # -- -device ---------------------------------------------------------------------

    def define(self, words: str) -> None:
        """Makes the device that the words name.  Raises DeviceError."""
        given = Given("-device", words, first="driver")
        driver = given.needed("driver")
        given.option = f"-device {driver}"
        name = given.word("id")
        if name and self.inventory.device(name) is not None:
            raise DeviceError(f"{given.option}: two devices have the id {name!r}; rename one")
        if driver == "pcie-root-port":
            self._root_port(given, driver, name)
        elif driver in ("virtserialport", "virtconsole"):
            self._port(given, driver, name)
        elif driver == "isa-serial":
            self._isa_serial(given, driver, name)
        else:
            found = virtio_kind(driver)
            if found is None:
                known = devices(self.arch)
                meant = nearest(driver, known)
                raise DeviceError(f"-device {driver} is not supported{meant}; use {', '.join(known)}")
            self._virtio(given, driver, name, *found)

    def _virtio(self, given: Given, driver: str, name: str, kind: str, way: str) -> None:
        self._allowed(given, way)
        self.transport(given, kind)
        properties = {key: values[-1] for key, values in given.values.items()}
        entry = Entry(name, driver, properties=properties)
        if kind == "serial":
            place = Given(given.option, "")
            for key in ("bus", "addr", "multifunction"):
                if key in given.values:
                    place.values[key] = given.values.pop(key)
            most = self._most_ports(given)
            given.finish()
            bus = SerialBus(self.inventory.add_device(entry), place, most)
            self._buses[name or f"virtio-serial{len(self._buses)}"] = bus
            entry.bus = way
            entry.behind = f"{list(self._buses)[-1]}.0"
            return
        device = self.make(given, entry, kind)
        self._plug(given, entry, device, way)
        given.finish()
        self.inventory.add_device(entry)

    def make(self, given: Given, entry: Entry, kind: str) -> VirtioDevice:
        """Makes the virtio device of a kind.  Raises DeviceError."""
        made = {
            "blk": self._blk,
            "net": self._net,
            "balloon": self._balloon,
            "rng": self._rng,
            "9p": self._p9,
            "serial": self._serial,
        }[kind](given, entry)
        self.opened.callback(made.close)
        return made

    @staticmethod
    def transport(given: Given, kind: str) -> None:
        """Takes what is said of the transport.  Raises DeviceError."""
        given.only("disable-legacy", "on", "auto", why="the devices are modern")
        given.only("disable-modern", "off", "false", why="the devices are modern")
        given.idle(*VIRTIO_IDLE, *VIRTIO[kind].idle)

    def _allowed(self, given: Given, way: str) -> None:
        if way == "pci" and not self.machine.bus:
            raise DeviceError(
                f"{given.option}: {self.machine.name} has no PCI bus; use the type that ends in -device"
            )
        if way == "mmio" and not self.machine.mmio:
            raise DeviceError(
                f"{given.option}: {self.machine.name} has no slots for virtio by MMIO; use -pci"
            )

    def _plug(self, given: Given, entry: Entry, device: VirtioDevice, way: str) -> None:
        """Puts a device into a slot, or in a PCI function on a bus."""
        entry.virtio = device
        if way == "mmio":
            bus = given.word("bus")
            if bus and not bus.startswith("virtio-mmio-bus."):
                raise DeviceError(f"{given.option}: bus={bus}: it is found by MMIO; leave bus out")
            entry.bus = bus or f"virtio-mmio-bus.{len(self.virtio)}"
            self.virtio.append(device)
            return
        from emu.virtio.pci import VirtioPci

        entry.function = VirtioPci(device)
        self._on_bus(given, entry)

    def _on_bus(self, given: Given, entry: Entry) -> None:
        """Puts an entry's function on the bus that it names, at its address."""
        function = entry.function
        assert function is not None
        given.idle("multifunction")
        entry.bus = given.word("bus", self.machine.bus)
        if "addr" in given.values:
            function.place = self._place(given)
        if entry.bus in (self.machine.bus, "pci.0", "pcie.0"):
            self.functions.append(function)
        elif entry.bus in self._bridges:
            self._bridges[entry.bus].plug(function)
        else:
            known = ", ".join((self.machine.bus, *self._bridges))
            raise DeviceError(f"{given.option}: there is no bus {entry.bus!r}; use {known}")

    @staticmethod
    def _place(given: Given) -> tuple[int, int]:
        """addr=SLOT or SLOT.FUNCTION, hexadecimal as everywhere with PCI."""
        words = given.word("addr")
        slot, _, function = words.partition(".")
        try:
            return int(slot, 16), int(function or "0", 16)
        except ValueError:
            raise DeviceError(f"{given.option}: addr={words} is no place; use 0x1 or 0x1.0x2") from None

    def _blk(self, given: Given, entry: Entry) -> VirtioDevice:
        from emu.virtio.blk import VirtioBlk

        for name, values in (
            ("write-cache", ("on", "auto")),
            ("share-rw", ("off", "false")),
            ("scsi", ("off",)),
        ):
            given.only(name, *values)
        node, drive = self.blocks.take(given.needed("drive"), given.option)
        serial = given.word("serial") or ("" if drive is None else drive.serial)
        entry.node, entry.drive = node, "" if drive is None else drive.name
        return VirtioBlk(self.blocks.open(node), serial=serial)

    def _net(self, given: Given, entry: Entry) -> VirtioDevice:
        from emu.net import MAC, address
        from emu.system.nets import again
        from emu.virtio.net import VirtioNet

        name = given.needed("netdev")
        netdev = self.inventory.netdevs.get(name)
        if netdev is None:
            raise DeviceError(
                f"{given.option}: netdev={name}: there is no such end; give -netdev ...,id={name}"
            )
        user = next((each for each in self.inventory.devices if each.netdev == name), None)
        if user is not None:
            raise DeviceError(
                f"{given.option}: netdev={name} is used by {user.name or 'another card'} already"
            )
        if not netdev.peer.free:
            netdev.peer = again(netdev, given.option)
        words = given.word("mac")
        mac = address(words) if words else MAC[:5] + bytes((MAC[5] + self._cards & 0xFF,))
        self._cards += 1
        given.only("host_mtu", "0")
        entry.netdev = name
        return VirtioNet(netdev.peer, mac)

    def _balloon(self, given: Given, entry: Entry) -> VirtioDevice:
        from emu.virtio.balloon import VirtioBalloon

        if any(True for _ in self.inventory.of_kind("virtio-balloon")):
            raise DeviceError(f"{given.option}: there is a balloon already; leave one out")
        return VirtioBalloon(
            deflate_on_oom=given.switch("deflate-on-oom"),
            free_page_reporting=given.switch("free-page-reporting"),
        )

    def _rng(self, given: Given, entry: Entry) -> VirtioDevice:
        from emu.virtio.rng import VirtioRng

        source = given.word("rng")
        if source and self.inventory.objects.get(source, ("", {}))[0] not in ("rng-random", "rng-builtin"):
            raise DeviceError(
                f"{given.option}: rng={source}: there is no such source; give -object rng-random,id=..."
            )
        most, period = given.number("max-bytes"), given.number("period", 65536)
        if most and period <= 0:
            raise DeviceError(f"{given.option}: period={period}: give milliseconds")
        return VirtioRng(max(1, most * 1000 // period)) if most else VirtioRng()

    def _p9(self, given: Given, entry: Entry) -> VirtioDevice:
        from emu.virtio.p9 import VirtioP9

        name = given.needed("fsdev")
        folder = self.inventory.folders.get(name)
        if folder is None:
            raise DeviceError(
                f"{given.option}: fsdev={name}: there is no such folder; give -fsdev local,id={name},..."
            )
        return VirtioP9(folder.path, tag=given.needed("mount_tag"), read_only=folder.read_only)

    def _serial(self, given: Given, entry: Entry) -> VirtioDevice:
        """One without ports, which come later."""
        from emu.virtio.console import VirtioConsole

        number = sum(1 for _ in self.inventory.of_kind("virtio-console"))
        entry.behind = f"{entry.name or f'virtio-serial{number}'}.0"
        return VirtioConsole(most=self._most_ports(given))

    @staticmethod
    def _most_ports(given: Given) -> int:
        most = given.number("max_ports", MOST_PORTS)
        if not 1 <= most <= MOST_PORTS:
            raise DeviceError(f"{given.option}: max_ports={most}: there may be 1 to {MOST_PORTS}")
        return most

    # -- buses and ports -----------------------------------------------------------------

    def _root_port(self, given: Given, driver: str, name: str) -> None:
        from emu.devices.pci_bridge import PciBridge

        self._allowed(given, "pci")
        bus = name or f"root-port{len(self._bridges)}"
        if bus in self._bridges:
            raise DeviceError(f"{given.option}: two buses are called {bus!r}; rename one")
        properties = {key: values[-1] for key, values in given.values.items()}
        given.idle(*OTHERS[driver].idle)
        port, chassis = given.number("port") & 0xFF, given.number("chassis") & 0xFF
        function = PciBridge(bus, port=port, chassis=chassis, hotplug=given.switch("hotplug", True))
        entry = Entry(name, driver, properties=properties, function=function)
        self._on_bus(given, entry)
        given.finish()
        self._bridges[bus] = function
        self.inventory.add_device(entry)

    def _port(self, given: Given, driver: str, name: str) -> None:
        from emu.backends.chardev import Chardev
        from emu.virtio.console import Port

        properties = {key: values[-1] for key, values in given.values.items()}
        wanted = given.word("bus").rpartition(".")[0] or given.word("bus")
        bus = self._buses.get(wanted) if wanted else next(iter(self._buses.values()), None)
        if bus is None:
            raise DeviceError(
                f"{given.option}: there is no virtio-serial device {wanted!r}; give -device virtio-serial-..."
            )
        chardev, end = given.word("chardev"), Chardev()
        if chardev:
            if chardev not in self.ends.backends:
                raise DeviceError(
                    f"{given.option}: chardev={chardev}: there is no such end; give -chardev ...,id={chardev}"
                )
            end = self.ends.chardev(self.ends.backends[chardev], name or driver)
        console, number = driver == "virtconsole", given.number("nr", -1)
        port = Port(end, name=given.word("name"), console=console, number=number)
        given.finish()
        entry = Entry(name, driver, properties=properties, bus=bus.entry.behind, chardev=chardev)
        entry.port = port
        bus.ports.append((port, self.inventory.add_device(entry)))

    def _isa_serial(self, given: Given, driver: str, name: str) -> None:
        if "isa-serial" not in self.machine.devices:
            raise DeviceError(f"{given.option}: {self.machine.name} has no ISA bus; use -serial")
        properties = {key: values[-1] for key, values in given.values.items()}
        number = given.number("index", min(set(range(SERIAL_LINES)) - set(self.serial)))
        chardev = given.word("chardev")
        given.idle("iobase", "irq")
        given.finish()
        if number in self.serial:
            raise DeviceError(f"{given.option}: index={number} is taken; choose another")
        if chardev not in self.ends.backends:
            raise DeviceError(
                f"{given.option}: chardev={chardev}: there is no such end; give -chardev ...,id={chardev}"
            )
        self.serial[number] = self.ends.chardev(self.ends.backends[chardev], name or driver)
        self.inventory.add_device(Entry(name, driver, properties=properties, bus="isa.0", chardev=chardev))

    def fill_ports(self) -> None:
        """Makes the virtio-serial devices, when all their ports are known."""
        from emu.virtio.console import VirtioConsole

        for bus in self._buses.values():
            device = VirtioConsole((port for port, _ in bus.ports), most=bus.most)
            self.opened.callback(device.close)
            self._plug(bus.place, bus.entry, device, bus.entry.bus)

    # -- folders and cards -------------------------------------------------------------------

    def folder(self, words: str, option: str = "-fsdev") -> tuple[str, str]:
        """-fsdev, and the first half of -virtfs; the folder's id and the tag.  Raises DeviceError."""
        given = Given(option, words, first="fsdriver")
        driver = given.needed("fsdriver")
        if driver != "local":
            raise DeviceError(f"{option} {driver} is not supported; use local")
        given.only("security_model", "mapped-xattr", "passthrough", "mapped", "mapped-file", "none")
        given.only("security-model", "mapped-xattr", "passthrough", "mapped", "mapped-file", "none")
        given.idle("writeout", "fmode", "dmode", "multidevs")
        name = given.word("id") or f"fsdev{len(self.inventory.folders)}"
        tag = given.word("mount_tag")
        self.inventory.folders[name] = Folder(given.needed("path"), given.switch("readonly"))
        given.finish()
        return name, tag

    def card(self, netdev: str, model: str, mac: str) -> None:
        """The card of -nic and -net, by the machine's favourite transport.  Raises DeviceError."""
        way = "pci" if self.machine.bus else "device"
        driver = {"virtio-net-device": "virtio-net-device"}.get(model, f"virtio-net-{way}")
        values: list[Any] = [driver, f"netdev={netdev}"] + ([f"mac={mac}"] if mac else [])
        self.define(",".join(values))
