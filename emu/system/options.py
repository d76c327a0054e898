"""QEMU's options: each with what becomes of it.  The parser, -help and docs/qemu.md are made of it."""

from __future__ import annotations

from accel.errors import DeviceError, nearest

# What becomes of an option: it is done; it has no effect here by its nature; it is refused, and why is said.
DONE, IDLE, REFUSED = "done", "idle", "refused"


class Option:
    """One option.

    names: the first is how it is asked for; value: what stands behind it, "" for nothing; text: what it does,
    or why it has no effect or is refused.
    """

    def __init__(self, names: str, value: str, text: str, becomes: str = DONE) -> None:
        self.names = names.split()
        self.value = value
        self.text = text
        self.becomes = becomes


OPTIONS = (
    Option("help h", "", "tells these options"),
    Option("version", "", "tells the version"),
    # The machine.
    Option(
        "machine M", "TYPE[,...]", "the board: `-machine help` lists them; `none` is for those who only ask"
    ),
    Option("accel", "kvm|tcg", "what executes the guest; again for the next one to be tried"),
    Option("enable-kvm", "", "-accel kvm"),
    Option("cpu", "MODEL[,...]", "the CPU's model: `-cpu help` lists them"),
    Option("smp", "N[,...]", "how many CPUs; sockets, cores and threads must multiply to it"),
    Option("m", "SIZE", "RAM, in MiB or with a suffix"),
    Option("name", "TEXT", "what monitors call the machine; process=NAME: what the process is called"),
    Option("uuid", "UUID", "the machine's, for monitors"),
    Option("rtc", "base=utc|localtime|TIME", "where the guest's clock starts"),
    Option("no-reboot", "", "ends when the guest resets the machine"),
    Option("no-shutdown", "", "stays, for monitors, when the guest has ended"),
    Option("action", "reboot=reset|shutdown,shutdown=poweroff|pause", "what a guest's reset and end do"),
    Option("S", "", "holds the machine until a monitor lets it go"),
    Option("incoming", "defer|URI", "waits for a machine's state: migrate-incoming says from where"),
    # What it starts.
    Option("kernel", "FILE", "a Linux kernel, an ELF file or a raw image"),
    Option("initrd", "FILE", "the kernel's initial RAM disk"),
    Option("append", "WORDS", "the kernel's command line"),
    Option("dtb", "FILE", "a device tree instead of the board's own"),
    Option("bios", "FILE", "what the CPU starts with; also looked for in -L and /usr/share/qemu"),
    Option("pflash", "FILE", "-drive if=pflash: the firmware, then its variables"),
    Option(
        "fw_cfg", "name=NAME,file=FILE|string=TEXT", "an item that the guest's firmware and kernel can read"
    ),
    Option("L", "DIR", "where -bios is looked for"),
    # Disks.
    Option("drive", "file=FILE[,if=virtio|none|pflash][,format=raw|qcow2][,id=ID][,...]", "a disk"),
    Option("blockdev", "driver=file|raw|qcow2,node-name=NAME,...", "a block node, as names or as JSON"),
    Option("hda", "FILE", "-drive file=FILE"),
    Option("hdb", "FILE", "-drive file=FILE"),
    Option("hdc", "FILE", "-drive file=FILE"),
    Option("hdd", "FILE", "-drive file=FILE"),
    Option("cdrom", "FILE", "-drive file=FILE,media=cdrom"),
    Option("snapshot", "", "disks forget what is written to them"),
    # Devices.
    Option(
        "device",
        "TYPE[,...]",
        "a device, as names or as JSON: `-device help` lists them, `-device TYPE,help` what one takes",
    ),
    Option("object", "TYPE,id=ID[,...]", "secret, memory-backend-ram, rng-random, rng-builtin, iothread"),
    Option("nodefaults", "", "no devices that were not asked for"),
    Option("virtfs", "local,path=DIR,mount_tag=TAG,security_model=...", "a folder of the host's, by 9p"),
    Option("fsdev", "local,id=ID,path=DIR,security_model=...", "a folder for a virtio-9p device"),
    # Networks.
    Option("netdev", "user|tap|socket,id=ID[,...]", "the host's end of a network card's cable"),
    Option(
        "nic", "user|tap|socket|none[,model=virtio][,mac=...][,...]", "a card and the host's end of its cable"
    ),
    Option("net", "nic[,...]|user[,...]|none", "the older way to ask for these"),
    # Lines.
    Option(
        "chardev",
        "null|stdio|pty|file|socket,id=ID[,...]",
        "the host's end of a line; one that nothing uses waits for device_add",
    ),
    Option(
        "serial", "stdio|mon:stdio|null|pty|file:F|unix:P|tcp:H:P|telnet:H:P|chardev:ID|none", "a serial line"
    ),
    Option("monitor", "stdio|unix:P|tcp:H:P|telnet:H:P|pty|none", "a monitor for people"),
    Option("mon", "chardev=ID[,mode=readline|control]", "a monitor at a chardev"),
    Option("qmp", "unix:P,server=on,wait=off|tcp:H:P|stdio", "a monitor for programs"),
    Option("qmp-pretty", "as -qmp", "a monitor for programs; replies stay on one line"),
    Option(
        "nographic",
        "",
        "the first serial line and a monitor on the terminal: Ctrl-A C changes, Ctrl-A X ends",
    ),
    Option("debugcon", "stdio|file:F|...", "where PC firmware's debug port ends, as -serial"),
    Option("display", "none", "there is none"),
    Option("s", "", "-gdb tcp::1234"),
    Option("gdb", "tcp:[HOST]:PORT|unix:PATH", "a GDB can be connected there"),
    # The process.
    Option("daemonize", "", "goes into the background once its sockets listen"),
    Option("pidfile", "FILE", "where the process's number is written"),
    Option("add-fd", "fd=N,set=M", "makes an inherited descriptor /dev/fdset/M, for files"),
    Option("D", "FILE", "messages go there instead of standard error"),
    Option("msg", "timestamp=on[,guest-name=on]", "messages begin with the time, and the machine's name"),
    Option(
        "sandbox",
        "on|off[,obsolete=allow][,elevateprivileges=deny|children][,spawn=deny][,resourcecontrol=deny]",
        "confines this process by a filter of system calls",
    ),
    # What changes nothing.
    Option("no-user-config", "", "no configuration file is read", IDLE),
    Option("nodefconfig", "", "no configuration file is read", IDLE),
    Option(
        "boot", "WORDS", "firmware decides by its own variables; the kernel of -kernel starts at once", IDLE
    ),
    Option("overcommit", "mem-lock=off|cpu-pm=off", "memory is given to the guest as it uses it"),
    Option("no-acpi", "", "virt describes itself by its device tree; microvm keeps its tables", IDLE),
    Option("no-hpet", "", "there is none", IDLE),
    Option("vga", "none", "there is none"),
    Option("audiodev", "none,id=ID", "there is no sound"),
    Option("audio", "none", "there is no sound"),
    Option("parallel", "none", "there is none"),
    Option("no-fd-bootchk", "", "there are no floppy disks", IDLE),
    Option("async-teardown", "", "memory is given back at once", IDLE),
    Option("enable-sync-profile", "", "locks are not measured", IDLE),
    Option("preconfig", "", "the machine is built from the command line alone", REFUSED),
    Option("compat", "WORDS", "nothing here is deprecated", REFUSED),
    Option("echr", "CODE", "the terminal's escape is Ctrl-A", REFUSED),
    Option("win2k-hack", "", "there are no IDE disks", REFUSED),
    Option("seed", "NUMBER", "entropy is the host's", REFUSED),
    Option("option-rom", "FILE", "firmware finds no option ROMs", REFUSED),
    Option("old-param", "", "kernels of that age are not started", REFUSED),
    Option("dfilter", "RANGES", "events are not logged by item", REFUSED),
    Option("dump-vmstate", "FILE", "saved machines are emu's own", REFUSED),
    Option("iscsi", "WORDS", "disks are files and block devices", REFUSED),
    Option("audio-help", "", "there is no sound", REFUSED),
    Option("portrait", "", "there is no display", REFUSED),
    Option("rotate", "DEGREES", "there is no display", REFUSED),
    Option("xen-attach", "", "Xen's guests are Xen's", REFUSED),
    Option("xen-domid", "ID", "Xen's guests are Xen's", REFUSED),
    Option("xen-domid-restrict", "", "Xen's guests are Xen's", REFUSED),
    Option("usbdevice", "KIND", "there is no USB", REFUSED),
    Option("usb", "", "there is no USB; say usb=off, or leave it out", REFUSED),
    Option("d", "ITEMS", "events are not logged by item; strace and stats are emu's for programs", REFUSED),
    Option("vnc", "DISPLAY", "there is no display", REFUSED),
    Option("spice", "WORDS", "there is no display", REFUSED),
    Option("sdl", "", "there is no display", REFUSED),
    Option("gtk", "", "there is no display", REFUSED),
    Option("curses", "", "there is no display; -nographic is on the terminal", REFUSED),
    Option("smbios", "WORDS", "there are no SMBIOS tables", REFUSED),
    Option("acpitable", "WORDS", "ACPI tables are the board's own", REFUSED),
    Option("numa", "WORDS", "there is one node", REFUSED),
    Option("global", "WORDS", "give properties where the device is made (-device)", REFUSED),
    Option("set", "WORDS", "give properties where the device is made (-device)", REFUSED),
    Option("readconfig", "FILE", "give the options themselves", REFUSED),
    Option("loadvm", "NAME", "use -incoming with a saved machine", REFUSED),
    Option("mem-path", "PATH", "RAM is anonymous memory", REFUSED),
    Option("mem-prealloc", "", "RAM is taken from the host as the guest uses it", REFUSED),
    Option("icount", "WORDS", "guest time is the host's", REFUSED),
    Option("semihosting", "", "not there yet", REFUSED),
    Option("semihosting-config", "WORDS", "not there yet", REFUSED),
    Option("watchdog", "MODEL", "there is none", REFUSED),
    Option("watchdog-action", "WORDS", "there is none", REFUSED),
    Option("tpmdev", "WORDS", "there is none", REFUSED),
    Option("trace", "WORDS", "there are no trace points", REFUSED),
    Option("plugin", "WORDS", "there are no plugins", REFUSED),
    Option("runas", "USER", "start it as that user", REFUSED),
    Option("chroot", "DIR", "start it in there", REFUSED),
    Option("singlestep", "", "there is no such mode", REFUSED),
    Option("only-migratable", "", "not there yet", REFUSED),
    Option("fda", "FILE", "there are no floppy disks", REFUSED),
    Option("fdb", "FILE", "there are no floppy disks", REFUSED),
    Option("sd", "FILE", "there are no SD cards; use -drive", REFUSED),
    Option("mtdblock", "FILE", "there is no such flash; use -pflash", REFUSED),
    Option("soundhw", "WORDS", "there is no sound", REFUSED),
    Option("full-screen", "", "there is no display", REFUSED),
    Option("g", "WxH", "there is no display", REFUSED),
    Option("k", "LANGUAGE", "there is no display", REFUSED),
)
BY_NAME = {name: option for option in OPTIONS for name in option.names}


class Asked:
    """The options of one command line: their values by name, in order."""

    def __init__(self) -> None:
        self._values: dict[str, list[str]] = {}
        self.order: list[tuple[str, str]] = []

    def add(self, name: str, value: str) -> None:
        """Enters one."""
        self._values.setdefault(name, []).append(value)
        self.order.append((name, value))

    def all(self, name: str) -> list[str]:
        """Every value of an option."""
        return self._values.get(name, [])

    def last(self, name: str, default: str = "") -> str:
        """The value that was given last."""
        return self._values.get(name, [default])[-1]

    def has(self, name: str) -> bool:
        """Whether it was given."""
        return name in self._values


def parse(words: list[str]) -> Asked:
    """The options that the words are.  Raises DeviceError for one that there is not, or that is refused."""
    asked = Asked()
    at = 0
    while at < len(words):
        word = words[at]
        at += 1
        if not word.startswith("-") or word == "-":
            asked.add("hda", word)  # QEMU takes a file without an option as a disk
            continue
        option = BY_NAME.get(word[2:] if word.startswith("--") else word[1:])
        if option is None:
            meant = nearest(word, [f"-{name}" for name in BY_NAME])
            raise DeviceError(f"{word}: there is no such option{meant}; -help lists those there are")
        value = ""
        if option.value:
            if at == len(words):
                raise DeviceError(f"{word} needs a value: {option.value}")
            value = words[at]
            at += 1
        if option.becomes == REFUSED:
            raise DeviceError(f"{word} is not supported: {option.text}")
        asked.add(option.names[0], value)
    return asked


def help_text(program: str) -> str:
    """What -help tells."""
    lines = [f"usage: {program} [OPTIONS ...] [DISK]", "", "Takes QEMU's command line.  Options:"]
    for option in OPTIONS:
        if option.becomes == DONE:
            head = " ".join([" ".join(f"-{name}" for name in option.names), option.value]).rstrip()
            lines += [f"  {head}", f"        {option.text}"]
    for becomes, title in ((IDLE, "Without an effect here:"), (REFUSED, "Not supported:")):
        lines += ["", title]
        lines += [f"  -{each.names[0]:<20} {each.text}" for each in OPTIONS if each.becomes == becomes]
    return "\n".join(lines) + "\n"


def document() -> str:
    """docs/qemu.md."""
    lines = [
        "# QEMU's command line",
        "",
        "`emu-system-aarch64` and `emu-system-x86_64` take these options of QEMU 7.2. What there is of",
        "each kind is listed by `-machine help`, `-cpu help`, `-device help` and `-device TYPE,help`.",
        "Defaults are QEMU's, but where it would open a window the first serial line and a monitor are on",
        "the terminal, as with `-nographic`; TCP ends are for this host alone.",
        "",
        "This page is made of the table in emu/system/options.py.",
        "",
    ]
    for becomes, title in (
        (DONE, "Options"),
        (IDLE, "Options without an effect here"),
        (REFUSED, "Options that are refused"),
    ):
        lines += [f"## {title}", "", "| option | |", "|---|---|"]
        for option in OPTIONS:
            if option.becomes == becomes:
                words = " ".join((*(f"-{name}" for name in option.names), option.value)).strip()
                cells = (text.replace("|", "\\|") for text in (f"`{words}`", option.text))
                lines.append("| " + " | ".join(cells) + " |")
        lines.append("")
    return "\n".join(lines)
