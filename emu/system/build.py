"""From QEMU's options to a machine that runs (emu/steering.py)."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from accel.errors import DeviceError, nearest
from emu.inventory import Inventory
from emu.system.blocks import Blocks
from emu.system.chardevs import Ends
from emu.system.devices import Devices
from emu.system.given import Given
from emu.system.options import Asked
from emu.system.process import Descriptors
from emu.system.types import MACHINES, MachineType, cpus, machine

TYPE_CHECKING = False
if TYPE_CHECKING:
    from emu.backends.chardev import Chardev
    from emu.board import Board
    from emu.machine import Machine
    from emu.steering import Monitor

# Where -bios is looked for besides -L.
DATA = ("/usr/share/qemu", "/usr/share/seabios")
OBJECTS = ("secret", "memory-backend-ram", "rng-random", "rng-builtin", "iothread")
# Options of -machine without an effect here by their nature: they say how the host keeps the guest.
MACHINE_IDLE = (
    "dump-guest-core",
    "mem-merge",
    "suppress-vmdesc",
    "acpi",
    "hmat",
    "graphics",
    "nvdimm",
    "vmport",
)
# Features that are so whatever is said, and libvirt says them.
ALWAYS = {("aarch64", True), ("pmu", False), ("sve", False), ("hypervisor", True), ("lahf-lm", True)}
UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


class Builder:
    """One machine's options, taken one kind after the other; what is opened is closed with `opened`."""

    def __init__(self, arch: str, asked: Asked, told: Callable[[str], None], opened: ExitStack) -> None:
        self.arch = arch
        self.asked = asked
        self.told = told
        self.opened = opened
        self.inventory = Inventory()
        self.descriptors = Descriptors()
        self.name, self.process = "", ""
        self.monitors: list[Monitor] = []
        self.firmware: Any = None
        self.firmware_vars: str | None = None
        self.ends = Ends(self.inventory, self.descriptors)

    def build(self) -> Machine:
        """The machine, its host ends open.  Raises an EmuError for what cannot be had as asked."""
        asked = self.asked
        for words in asked.all("add-fd"):
            self.descriptors.add(words)
        self._name()
        self._idle()
        for words in asked.all("object"):
            self._object(words)
        type, board, accels = self._machine()
        for words in asked.all("chardev"):
            self.ends.define(words)
        self.blocks = Blocks(self.inventory, self.descriptors, self.opened, snapshot=asked.has("snapshot"))
        self.devices = Devices(self.arch, type, self.inventory, self.blocks, self.ends, self.opened)
        self._disks()
        self._networks()
        self._lines(type)
        for words in asked.all("fsdev"):
            self.devices.folder(words)
        for words in asked.all("device"):
            self.devices.define(words)
        self._short_disks(type)
        self._short_networks(type)
        for words in asked.all("virtfs"):
            name, tag = self.devices.folder(words, "-virtfs")
            self.devices.define(f"virtio-9p-{'pci' if type.bus else 'device'},fsdev={name},mount_tag={tag}")
        self.devices.fill_ports()
        self._flash()
        idle = self.ends.idle()
        made = self._made(type, board, accels)
        for chardev in idle:
            chardev.open(made.loop)
        return made

    # -- what the process is -----------------------------------------------------------

    def _name(self) -> None:
        if self.asked.has("name"):
            given = Given("-name", self.asked.last("name"), first="guest", json=False)
            self.name, self.process = given.word("guest"), given.word("process")
            given.idle("debug-threads")
            given.finish()
        uuid = self.asked.last("uuid")
        if uuid and not UUID.fullmatch(uuid):
            raise DeviceError(f"-uuid {uuid}: write it as 8-4-4-4-12 hexadecimal digits")
        self.uuid = uuid.lower()

    def _idle(self) -> None:
        """Options that may say only what is so anyway."""
        for name, words in (("display", "none"), ("vga", "none"), ("parallel", "none")):
            for value in self.asked.all(name):
                if value.partition(",")[0] != words:
                    raise DeviceError(f"-{name} {value} is not supported; use -{name} {words}, or -nographic")
        for option in ("audiodev", "audio"):
            for value in self.asked.all(option):
                given = Given(f"-{option}", value, first="driver")
                driver = given.needed("driver")
                if driver != "none":
                    raise DeviceError(f"-{option} {driver} is not supported: there is no sound; use none")
        for value in self.asked.all("overcommit"):
            given = Given("-overcommit", value)
            given.only("mem-lock", "off", "no", "false")
            given.only("cpu-pm", "off", "no", "false")
            given.finish()

    def _object(self, words: str) -> None:
        given = Given("-object", words, first="qom-type")
        kind = given.needed("qom-type")
        given.option = f"-object {kind}"
        if kind not in OBJECTS:
            raise DeviceError(
                f"-object {kind} is not supported{nearest(kind, OBJECTS)}; use {', '.join(OBJECTS)}"
            )
        name = given.needed("id")
        if name in self.inventory.objects:
            raise DeviceError(f"two objects have the id {name!r}; rename one")
        properties: dict[str, Any] = {key: values[-1] for key, values in given.values.items()}
        if kind == "memory-backend-ram":
            properties["size"] = given.bytes("size", 0)
            for property in ("prealloc", "share", "merge", "dump"):
                given.idle(property)
            given.idle("x-use-canonical-path-for-ramblock-id")
        elif kind == "secret":
            given.only("format", "raw", "base64")
            given.idle("data", "file", "keyid", "iv")
        elif kind == "rng-random":
            given.only("filename", "/dev/urandom", "/dev/random", why="entropy is getrandom(2)'s")
        elif kind == "iothread":
            given.idle(
                "poll-max-ns",
                "poll-grow",
                "poll-shrink",
                "aio-max-batch",
                "thread-pool-min",
                "thread-pool-max",
            )
        given.finish()
        self.inventory.objects[name] = kind, properties

    def gdb(self) -> str | None:
        """Where a debugger may come in: -gdb, or -s."""
        if self.asked.last("gdb") == "none":
            return None
        return self.asked.last("gdb") or ("tcp::1234" if self.asked.has("s") else None)

    # -- the board ------------------------------------------------------------------------

    def _machine(self) -> tuple[MachineType, Board, str]:
        from emu.board import open_board

        accels: list[str] = []
        given = Given("-machine", "")
        for words in self.asked.all("machine"):
            for key, values in Given("-machine", words, first="type", json=False).values.items():
                given.values.setdefault(key, []).extend(values)
        name = given.word("type")
        known = ", ".join(each.alias or each.name for each in MACHINES[self.arch])
        name = name or next((each.name for each in MACHINES[self.arch] if each.default), "")
        if not name:
            raise DeviceError(f"which machine? give -machine TYPE; there are {known}")
        type = machine(self.arch, name)
        if type is None:
            names = [each for type in MACHINES[self.arch] for each in (type.name, type.alias) if each]
            raise DeviceError(f"-machine {name} is not supported{nearest(name, names)}; use {known}")
        board = open_board(type.board, self.arch)
        if "accel" in given.values:
            accels.append(given.word("accel"))
        given.idle(*MACHINE_IDLE)
        for switch in ("usb", "secure", "mte", "memory-encryption"):
            given.only(switch, "off", "no", "false")
        if not type.bus:
            given.idle("gic-version", "its", "highmem")
        given.idle("highmem", "compact-highmem", "iommu") if given.values.get("iommu", ["none"])[
            -1
        ] == "none" else None
        self._memory_backend = given.word("memory-backend")
        self._pflash = [given.word("pflash0"), given.word("pflash1")]
        for short, option in (
            ("kernel", "kernel"),
            ("initrd", "initrd"),
            ("append", "append"),
            ("dtb", "dtb"),
        ):
            if short in given.values and not self.asked.has(option):
                self.asked.add(option, given.word(short))
        if type.board == "virt" and given.values.get("gic-version", [""])[-1] == "max":
            given.values["gic-version"] = ["3"]
        for key in [key for key in given.values if key != "dumpdtb"]:
            board.configure(key, given.word(key))
        self.dump = given.word("dumpdtb")
        given.finish()
        for words in self.asked.all("accel"):
            given = Given("-accel", words, first="accel", json=False)
            accels.append(given.needed("accel"))
            given.idle("thread", "tb-size", "dirty-ring-size")
            given.finish()
        if self.asked.has("enable-kvm"):
            accels.append("kvm")
        return type, board, ":".join(accels) or "tcg"

    def _cpu(self) -> str:
        """The CPU's model and features, as the engines take them; "" for the usual one."""
        given = Given("-cpu", self.asked.last("cpu"), first="model", json=False)
        model = given.word("model")
        if not model:
            return ""
        models = cpus(self.arch)
        found = next((name for name in models if name.lower() == model.lower()), None)
        if found is None:
            raise DeviceError(
                f"-cpu {model} is not supported{nearest(model, models)}; use {', '.join(models)}"
            )
        words = [found]
        for key, values in given.values.items():
            feature, value = key.lstrip("+-"), values[-1]
            on = key.startswith("+") or (not key.startswith("-") and value in ("on", "true", "yes"))
            if (feature, on) not in ALWAYS:
                words.append(key if key[:1] in ("+", "-") or feature == "enforce" else f"{feature}={value}")
        if self.arch == "aarch64" and len(words) > 1:
            raise DeviceError(f"-cpu {model}: {words[1]} is not supported; leave it out")
        return ",".join(words)

    def _cpus(self, type: MachineType) -> int:
        if not type.cpus:
            return 0
        given = Given("-smp", self.asked.last("smp", "1"), first="cpus", json=False)
        parts = [given.number(name) for name in ("sockets", "dies", "clusters", "cores", "threads")]
        product = 1
        for part in parts:
            product *= part or 1
        count = given.number("cpus", product)
        most = given.number("maxcpus", count)
        given.finish()
        if most != count:
            raise DeviceError(f"-smp: maxcpus={most}: CPUs are not plugged in later; use {count}")
        if parts.count(0) == 0 and product != count:
            raise DeviceError(f"-smp: sockets, cores and threads make {product} CPUs, not {count}")
        return count

    def _ram(self, type: MachineType) -> int:
        given = Given("-m", self.asked.last("m"), first="size", json=False)
        ram = given.bytes("size", type.ram, "m")
        most = given.bytes("maxmem", ram, "m")
        given.idle("slots")
        given.finish()
        if most != ram:
            raise DeviceError("-m: maxmem: memory is not plugged in later; the balloon takes and gives it")
        if self._memory_backend:
            kind, properties = self.inventory.objects.get(self._memory_backend, ("", {}))
            if kind != "memory-backend-ram":
                raise DeviceError(
                    f"-machine memory-backend={self._memory_backend}: there is no such memory-backend-ram"
                )
            if properties["size"] != ram:
                raise DeviceError(
                    f"-machine memory-backend={self._memory_backend} has {properties['size']} bytes;"
                    f" -m says {ram}"
                )
        return ram

    # -- disks, networks, lines -------------------------------------------------------------

    def _disks(self) -> None:
        for name, words in self.asked.order:
            if name == "blockdev":
                self.blocks.define(words)
            elif name == "drive":
                self.blocks.drive(words)
            elif name == "pflash":
                self.blocks.drive(f"file={_comma(words)}", "-pflash", interface="pflash")
            elif name in ("hda", "hdb", "hdc", "hdd", "cdrom"):
                media = "cdrom" if name == "cdrom" else "disk"
                self.blocks.drive(f"file={_comma(words)}", f"-{name}", media=media)

    def _short_disks(self, type: MachineType) -> None:
        """The disks of -drive if=virtio, which name no device."""
        for drive in list(self.blocks.drives.values()):
            if drive.interface == "virtio" and not drive.used:
                self.devices.define(
                    f"virtio-blk-{'pci' if type.bus else 'device'},drive={_comma(drive.name)}"
                )

    def _networks(self) -> None:
        from emu.system.nets import Nets

        self.nets = Nets(self.inventory, self.descriptors, self.opened)
        for words in self.asked.all("netdev"):
            self.nets.define(words)

    def _short_networks(self, type: MachineType) -> None:
        """-nic and -net, and the card that a machine has if nobody says anything of networks."""
        from emu.net import NetError
        from emu.system.nets import MODELS, card_words

        cards = [words for words in self.asked.all("nic") if words != "none"]
        for words in cards:
            rest, model, mac = card_words(words)
            if model and model not in MODELS:
                raise DeviceError(f"-nic model={model} is not supported; use model=virtio")
            given = Given("-nic", rest, first="type", json=False)
            name = given.word("id") or f"nic{len(self.inventory.netdevs)}"
            self.devices.card(self.nets.end(given, name).name, model, mac)
        older = [words for words in self.asked.all("net") if words != "none"]
        ends = [words for words in older if words.partition(",")[0] != "nic"]
        nics = [words for words in older if words.partition(",")[0] == "nic"]
        if len(ends) > 1 or len(nics) > 1 or len(ends) != len(nics):
            raise DeviceError("-net: give one -net nic and one -net user, or -nic for each card")
        for end, nic in zip(ends, nics, strict=True):
            given = Given("-net nic", nic.partition(",")[2])
            model, mac = given.word("model", "virtio"), given.word("macaddr")
            given.idle("netdev", "name", "vectors", "addr")
            given.finish()
            if model not in MODELS:
                raise DeviceError(f"-net nic,model={model} is not supported; use model=virtio")
            given = Given("-net", end, first="type", json=False)
            given.idle("name")
            self.devices.card(self.nets.end(given, "net0").name, model, mac)
        silent = not any(self.asked.has(name) for name in ("nic", "net", "netdev", "nodefaults"))
        if silent and type.cpus and not any("virtio-net" in words for words in self.asked.all("device")):
            try:
                default = self.nets.end(Given("-nic", "user", first="type"), "nic0")
            except NetError as error:
                self.told(f"the guest has no network: {error}")
            else:
                self.devices.card(default.name, "", "")

    def _lines(self, type: MachineType) -> None:
        """Serial lines and monitors, those of -nographic among them."""
        asked = self.asked
        serial = asked.all("serial")
        monitors = asked.all("monitor")
        defaults = not asked.has("nodefaults")
        if asked.has("nographic"):
            taken = [*serial, *monitors, *asked.all("qmp"), *asked.all("qmp-pretty")]
            stdio = any(words in ("stdio", "mon:stdio") for words in taken) or self._stdio_chardev()
            if not serial and defaults and type.cpus and not stdio:
                serial = ["mon:stdio"] if not monitors else ["stdio"]
        elif not serial and defaults and not asked.has("display") and type.cpus:
            self.told(
                "there is no display; the first serial line is here, as with -nographic (Ctrl-A X ends)"
            )
            serial = ["mon:stdio"]
        for number, words in enumerate(serial):
            if words == "none":
                continue
            backend = self.ends.legacy("-serial", words, f"serial{number}")
            self.devices.serial[number] = self.ends.chardev(backend, f"serial line {number}")
        for number, words in enumerate(monitors):
            if words != "none":
                self._monitor("hmp", self.ends.legacy("-monitor", words, f"compat_monitor{number}"))
        for words in (*asked.all("qmp"), *asked.all("qmp-pretty")):
            backend = self.ends.legacy("-qmp", words, f"compat_monitor{len(self.monitors)}")
            self._monitor("qmp", backend)
        for words in asked.all("mon"):
            given = Given("-mon", words, first="chardev", json=False)
            name, mode = (
                given.needed("chardev"),
                given.word("mode", "readline", among=("readline", "control")),
            )
            given.idle("pretty", "id")
            given.finish()
            if name not in self.ends.backends:
                raise DeviceError(f"-mon: no chardev has the id {name!r}; give -chardev ...,id={name}")
            self._monitor("qmp" if mode == "control" else "hmp", self.ends.backends[name])

    def _stdio_chardev(self) -> bool:
        return any(backend.kind == "stdio" for backend in self.ends.backends.values())

    def _monitor(self, kind: str, backend: Any) -> None:
        from emu.steering import Monitor

        if backend.mux or (backend.kind == "stdio" and backend.given.values.get("mux", ["off"])[-1] == "on"):
            if kind == "qmp":
                raise DeviceError(
                    f"chardev {backend.name}: a terminal that is a line too has the monitor for people"
                )
            if backend.used_by:
                return  # Ctrl-A C at the line that is there
        self.monitors.append(Monitor(kind, self.ends.monitor(backend, "a monitor"), backend.name))

    # -- what it starts ------------------------------------------------------------------------

    def _flash(self) -> None:
        """The firmware: -bios, -pflash, or block nodes."""
        nodes = [self.inventory.nodes.get(name) for name in self._pflash]
        for name, node in zip(self._pflash, nodes, strict=True):
            if name and node is None:
                raise DeviceError(f"-machine pflash0/1={name}: there is no such block node; give -blockdev")
        drives = [drive.node for drive in self.blocks.drives.values() if drive.interface == "pflash"]
        banks = [node for node in (*nodes, *drives) if node is not None]
        if len(banks) > 2:
            raise DeviceError(f"{len(banks)} banks of flash: there are two, the firmware and its variables")
        if banks and self.asked.has("bios"):
            raise DeviceError("-bios and -pflash are both the firmware; leave one out")
        if banks:
            image = self.blocks.open(banks[0])
            self.firmware = image.read(0, image.size)
        if len(banks) > 1:
            if banks[1].driver == "qcow2":
                raise DeviceError(
                    f"{banks[1].filename}: variables are kept in a raw file; qemu-img convert it"
                )
            self.firmware_vars = banks[1].filename
        if self.asked.has("bios"):
            self.firmware = self._found(self.asked.last("bios"))

    def _found(self, name: str) -> str:
        """Where a firmware's file is: as named, or in the data folders."""
        for folder in ("", *self.asked.all("L"), *DATA):
            path = Path(folder) / name
            if path.is_file():
                return str(path.absolute())
        return name  # opening it will say what is wrong

    def _made(self, type: MachineType, board: Board, accels: str) -> Machine:
        from emu.backends.chardev import Chardev
        from emu.machine import Machine

        lines = self.devices.serial
        serial = [lines.get(number) or Chardev() for number in range(max(lines, default=-1) + 1)]
        started: dict[str, Any] = {
            name: str(Path(self.asked.last(name)).absolute()) if self.asked.has(name) else None
            for name in ("kernel", "initrd", "dtb")
        }
        made = Machine(
            board,
            accel=accels,
            cpu=self._cpu() if type.cpus else "",
            cpus=self._cpus(type),
            ram=self._ram(type),
            firmware=self.firmware,
            firmware_vars=self.firmware_vars,
            append=self.asked.last("append"),
            serial=serial,
            virtio=self.devices.virtio,
            pci=self.devices.functions,
            inventory=self.inventory,
            fw_cfg=[self._item(words) for words in self.asked.all("fw_cfg")],
            ahead=self._clock(),
            debugcon=self._debugcon(),
            **started,
        )
        self.opened.callback(made.close)
        return made

    def _debugcon(self) -> Chardev | None:
        if not self.asked.has("debugcon"):
            return None
        backend = self.ends.legacy("-debugcon", self.asked.last("debugcon"), "debugcon")
        return self.ends.chardev(backend, "the debug port")

    def actions(self) -> tuple[bool, bool]:
        """Whether the process stays when the guest has ended, and ends when it resets."""
        given = Given("-action", "")
        for words in self.asked.all("action"):
            given.values |= Given("-action", words).values
        pause = given.word("shutdown", "poweroff", among=("poweroff", "pause")) == "pause"
        ends = given.word("reboot", "reset", among=("reset", "shutdown")) == "shutdown"
        given.idle("panic", "watchdog")
        given.finish()
        return pause or self.asked.has("no-shutdown"), ends or self.asked.has("no-reboot")

    def _item(self, words: str) -> tuple[str, bytes]:
        given = Given("-fw_cfg", words, first="name", json=False)
        name, file, text = given.needed("name"), given.word("file"), given.word("string")
        given.finish()
        if len(name.encode()) > 55:
            raise DeviceError(f"-fw_cfg {name}: a name has at most 55 bytes; shorten it")
        if not file:
            return name, text.encode()
        try:
            return name, Path(file).read_bytes()
        except OSError as error:
            raise DeviceError(f"-fw_cfg {file}: {error.strerror}; name a file that can be read") from None

    def _clock(self) -> int:
        """Seconds that the guest's clock is before the host's UTC."""
        given = Given("-rtc", self.asked.last("rtc"), json=False)
        base = given.word("base", "utc")
        given.only("clock", "host", "rt")
        given.only("driftfix", "none", "slew")
        given.finish()
        if base == "utc":
            return 0
        now = int(time.time())
        if base == "localtime":
            return time.localtime(now).tm_gmtoff
        for form in ("%Y-%m-%dT%H:%M:%S", "%Y-%m-%d"):
            try:
                import calendar

                return calendar.timegm(time.strptime(base, form)) - now
            except ValueError:
                continue
        raise DeviceError(f"-rtc base={base}: use utc, localtime or a time as 2026-01-31T12:00:00")


def _comma(words: str) -> str:
    """A value as it stands among others: commas doubled."""
    return words.replace(",", ",,")


def log_to(path: str) -> None:
    """-D: what would go to standard error goes into a file.  Raises DeviceError."""
    try:
        sys.stderr = open(path, "a", buffering=1)  # noqa: SIM115  until the process ends
    except OSError as error:
        raise DeviceError(f"-D {path}: {error.strerror}; name a file that can be written") from None
