"""What `emu-system-ARCH` does with its words: tells what there is, or runs a machine."""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack

from emu.signals import Signals
from emu.system import types
from emu.system.build import Builder, log_to
from emu.system.given import Given
from emu.system.options import Asked, help_text, parse
from emu.system.process import Background, PidFile, call_process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from emu.system.sandbox import Sandbox


def run(arch: str, words: list[str]) -> int:
    """The exit status.  Raises an EmuError for what cannot be had as asked."""
    asked = parse(words)
    text = told_text(arch, asked)
    if text:
        sys.stdout.write(text)
        return 0
    if asked.has("D"):
        log_to(asked.last("D"))
    sandbox = _sandbox(asked.all("sandbox"))
    background = Background()
    if asked.has("daemonize"):
        background.fork()
    with Signals() as signals, ExitStack() as opened:
        return _machine(arch, asked, signals, opened, background, sandbox)


def _machine(
    arch: str,
    asked: Asked,
    signals: Signals,
    opened: ExitStack,
    background: Background,
    sandbox: Sandbox | None,
) -> int:
    messages = Messages(f"emu-system-{arch}", asked)
    builder = Builder(arch, asked, messages.tell, opened)
    machine = builder.build()
    messages.guest = builder.name
    if builder.dump:
        from emu.boot import dump_tree

        dump_tree(machine, builder.dump, "-machine dumpdtb=")
        return 0
    from emu.steering import Orders, steer

    if builder.process:
        call_process(builder.process)
    for note in machine.notes if machine.cpus else ():
        messages.tell(note)
    machine.noted = messages.tell
    for name, chardev in machine.inventory.chardevs.items():
        if chardev.path:
            messages.tell(f"char device redirected to {chardev.path} (label {name})")
    pid = PidFile(asked.last("pidfile")) if asked.has("pidfile") else None

    def ready() -> None:
        if pid is not None:
            pid.write()
            opened.callback(pid.close)
        background.ready()
        if sandbox is not None:
            sandbox.install()  # the guest has not run yet, and threads there are already get it, too

    stays, ends = builder.actions()
    orders = Orders(
        builder.monitors,
        name=builder.name,
        uuid=builder.uuid,
        paused=asked.has("S"),
        incoming=asked.last("incoming"),
        gdb=builder.gdb(),
        no_shutdown=stays,
        no_reboot=ends,
        told=messages.tell,
        ready=ready,
    )
    result = steer(machine, orders, signals, builder.ends.console)
    if signals.pending():
        signals.number = 0  # it has ended in order, as it was told
        return 0
    return result.code & 0xFF


def _sandbox(asked: list[str]) -> Sandbox | None:
    if not asked:
        return None
    from emu.system.sandbox import confined

    return confined(asked)


class Messages:
    """Lines for whoever started it: on standard error, with the time where -msg wants it."""

    def __init__(self, program: str, asked: Asked) -> None:
        self.program = program
        self.guest = ""
        given = Given("-msg", asked.last("msg"))
        self.timestamp, self.named = given.switch("timestamp"), given.switch("guest-name")
        given.finish()

    def tell(self, text: str) -> None:
        """Tells one line."""
        now = time.time()
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1e6):06d}Z "
        guest = f"{self.guest} " if self.named and self.guest else ""
        sys.stderr.write(f"{stamp if self.timestamp else ''}{guest}{self.program}: {text}\n")


def told_text(arch: str, asked: Asked) -> str:
    """What was asked about instead of a machine; "" for nothing."""
    program = f"emu-system-{arch}"
    if asked.has("help"):
        return help_text(program)
    if asked.has("version"):
        from emu import __version__
        from emu.monitor.qmp import VERSION

        version = "{major}.{minor}.{micro}".format(**VERSION)
        return f"{program} {__version__}, with the command line of QEMU emulator version {version}\n"
    wanted = ("help", "?")
    if asked.last("machine") in wanted:
        rows = [(each.alias or each.name, each.text) for each in types.MACHINES[arch]]
        rows += [
            (each.name, f"{each.alias} by its whole name") for each in types.MACHINES[arch] if each.alias
        ]
        return "Supported machines are:\n" + "".join(f"{name:<20} {text}\n" for name, text in rows)
    if asked.last("cpu") in wanted:
        return "Available CPUs:\n" + "".join(f"  {name}\n" for name in types.cpus(arch))
    if asked.last("accel") in wanted:
        names = ["tcg"] + (["kvm"] if arch == "x86_64" else [])
        return "Accelerators supported:\n" + "".join(f"{name}\n" for name in names)
    for words in asked.all("device"):
        driver, _, rest = words.partition(",")
        known = types.devices(arch)
        if driver in wanted:
            return "".join(f'name "{name}", desc "{text}"\n' for name, (text, _) in sorted(known.items()))
        if rest in wanted and driver in known:
            takes = sorted(known[driver][1].items())
            lines = [f"  {name}=<{kind}> - {text}\n" for name, (kind, text) in takes]
            return f"{driver} options:\n" + "".join(lines)
    for option, there in (
        ("netdev", ("user", "tap", "socket")),
        ("chardev", ("null", "stdio", "pty", "file", "socket")),
        ("object", ("secret", "memory-backend-ram", "rng-random", "rng-builtin", "iothread")),
        ("audiodev", ("none",)),
        ("display", ("none",)),
        ("vga", ("none",)),
    ):
        if asked.last(option) in wanted:
            return "".join(f"{name}\n" for name in there)
    return ""
