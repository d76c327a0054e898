"""A whole machine as a debugger sees it: a thread for each CPU, memory through its page tables."""

from __future__ import annotations

from functools import partial

from accel.api import ExitKind
from accel.errors import AccelError, EmuError, MapError
from emu.gdb.target import SIGINT, Action, Kind, Refused, Stop

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from accel.api import Exit
    from emu.machine import Cpu, Machine
    from emu.monitor.client import Control
    from emu.monitor.hmp import Hmp
    from isa.arch import Register

PAGE = 4096
# What runs between two looks at the client, while stepping over a range.
STEPS_AT_ONCE = 200
REASONS = {"w": "watch", "r": "rwatch", "rw": "awatch"}
# QEMU's names of what a step does without; a step without interrupts is all there is.
STEP_BITS = "ENABLE=1,NOIRQ=2,NOTIMER=4"
HELP = """
Of the debugger's own:
physical on|off -- Takes addresses of memory for physical ones, or through the page tables.
"""


class MachineTarget:
    """A Machine.  All of it is called in the machine's loop, also when CPUs stop.

    control: of one that monitors steer, too; `monitor` has their commands then.
    """

    osabi = ""
    pid = 1
    attached = True

    def __init__(self, machine: Machine, control: Control | None = None) -> None:
        self.machine = machine
        self._run = None if control is None else control.run
        self._control = control
        self._human: Hmp | None = None
        self.arch = machine.accel.arch
        self.stopped: Callable[[Stop], None] = lambda stop: None
        self._stop = Stop(1)
        self._going = False
        self._physical = False
        self._sstep = "0x7"
        self._breaks: dict[tuple[Kind, int, int], int] = {}
        self._applied: object = None  # what the engine has been told
        vcpu = machine.cpus[0].vcpu
        known = []
        for register in (*self.arch.registers, *self.arch.system_registers):
            if register.feature and register not in known:
                known.append(register)
        if getattr(vcpu, "avx", False):
            known += self.arch.extensions
        self.registers: tuple[Register, ...] = tuple(sorted(known, key=lambda r: r.number))
        self._missing = frozenset(r.name for r in known if not _has(vcpu, r.name))
        caps = machine.accel.caps
        kinds = set()
        if caps.breakpoints:
            kinds |= {Kind.SOFTWARE, Kind.HARDWARE}
        if caps.watchpoints:
            kinds |= {Kind.WRITE, Kind.ACCESS} | ({Kind.READ} if caps.name != "kvm" else set())
        self.kinds = frozenset(kinds)
        self.lacks = [] if caps.breakpoints else ["breakpoints"]
        if caps.breakpoints and not caps.user_breakpoints:
            self.lacks.append("breakpoints in user mode")
        if not caps.watchpoints:
            self.lacks.append("watchpoints (gdb: set can-use-hw-watchpoints 0)")
        # x86's debuggers expect the access to have been made; the others step over it by themselves.
        self._stop_behind = caps.name != "kvm" and self.arch.name == "x86_64"

    def attach(self) -> None:
        """A client has come: everything stops."""
        self.machine.debugger = self._met
        self._halt()
        self._stop = Stop(1, SIGINT)

    # -- what there is ------------------------------------------------------------------------

    def threads(self) -> list[int]:
        return [cpu.vcpu.index + 1 for cpu in self.machine.cpus]

    def thread_text(self, thread: int) -> str:
        state = " (halted)" if getattr(self._cpu(thread).vcpu, "halted", False) else ""
        return f"CPU {thread - 1}{state}"

    def _cpu(self, thread: int) -> Cpu:
        if not 1 <= thread <= len(self.machine.cpus):
            raise Refused(f"there is no CPU {thread - 1}")
        return self.machine.cpus[thread - 1]

    def object(self, name: str, annex: str, thread: int = 0) -> bytes | None:
        return None

    def open(self, path: str) -> int:
        raise FileNotFoundError(2, "a machine has no files of the host's")

    def status(self) -> Stop:
        return self._stop

    # -- registers and memory --------------------------------------------------------------------

    def read_registers(self, thread: int, names: tuple[str, ...]) -> list[int | None]:
        vcpu = self._cpu(thread).vcpu
        if not self._missing:
            return list(vcpu.get(*names))
        there = tuple(name for name in names if name not in self._missing)
        values = dict(zip(there, vcpu.get(*there), strict=True))
        return [values.get(name) for name in names]

    def write_registers(self, thread: int, values: Mapping[str, int]) -> None:
        try:
            self._cpu(thread).vcpu.set(**values)
        except (KeyError, AccelError) as error:
            raise Refused(f"the engine does not set {error}") from None

    def _pieces(self, address: int, size: int) -> list[tuple[int, int]]:
        """Physical addresses and sizes of a range, up to where nothing is mapped."""
        if self._physical:
            return [(address, size)]
        translate = self._cpu(self._stop.thread).vcpu.translate
        pieces = []
        while size > 0:
            physical = translate(address)
            if physical is None:
                break
            length = min(size, PAGE - address % PAGE)
            pieces.append((physical, length))
            address, size = address + length & (1 << self.arch.bits) - 1, size - length
        return pieces

    def read(self, address: int, size: int) -> bytes:
        found = []
        for physical, length in self._pieces(address, size):
            piece = self.machine.memory.peek(physical, length)
            found.append(piece)
            if len(piece) < length:
                break
        data = b"".join(found)
        if not data:
            raise Refused(f"nothing can be read at {address:#x}")
        return data

    def write(self, address: int, data: bytes) -> None:
        pieces = self._pieces(address, len(data))
        if sum(length for _, length in pieces) < len(data):
            raise Refused(f"not all of {len(data)} bytes at {address:#x} are mapped")
        at = 0
        for physical, length in pieces:
            try:
                self.machine.memory.load(physical, data[at : at + length])
            except MapError as error:
                raise Refused(str(error)) from None
            at += length

    # -- breakpoints --------------------------------------------------------------------------------

    def insert(self, kind: Kind, address: int, size: int) -> None:
        key = (kind, address, size)
        self._breaks[key] = 1
        if self.machine.accel.caps.name == "kvm":  # it has few: whether one is free is said at once
            try:
                self._apply()
            except EmuError as error:
                del self._breaks[key]
                raise Refused(str(error)) from None

    def remove(self, kind: Kind, address: int, size: int) -> None:
        self._breaks.pop((kind, address, size), None)

    def _apply(self) -> None:
        """Tells the engine, where something has changed: clients take all away and put them back often."""
        addresses = sorted({at for kind, at, _ in self._breaks if kind in (Kind.SOFTWARE, Kind.HARDWARE)})
        words = {Kind.WRITE: "w", Kind.READ: "r", Kind.ACCESS: "rw"}
        watched = sorted((at, max(size, 1), words[kind]) for kind, at, size in self._breaks if kind in words)
        if (addresses, watched) == self._applied or (self._applied is None and not self._breaks):
            return
        self._applied = None
        self.machine.stops.debugger(addresses, watched)
        self._applied = (addresses, watched)

    def _why(self, cpu: Cpu, exit: Exit) -> Stop:
        thread = cpu.vcpu.index + 1
        what, address = cpu.vcpu.stopped_by(exit)
        if what in REASONS:
            for kind, at, size in self._breaks:
                inside = at <= address < at + max(size, 1) or address <= at < address + 8
                if inside and kind in (Kind.ACCESS, Kind.WRITE if what == "w" else Kind.READ):
                    reason = {Kind.ACCESS: "awatch", Kind.WRITE: "watch", Kind.READ: "rwatch"}[kind]
                    return Stop(thread, reason=reason, value=at if address < at else address)
            return Stop(thread, reason=REASONS[what], value=address)
        hardware = any(k is Kind.HARDWARE and at == exit.pc for k, at, _ in self._breaks)
        return Stop(thread, reason="hwbreak" if hardware else "swbreak")

    # -- running -------------------------------------------------------------------------------------

    def _halt(self) -> None:
        if self._run is not None:
            self._run.stop("debug")
        self.machine.pause()
        for cpu in self.machine.cpus:
            settle = getattr(cpu.vcpu, "settle", None)
            if settle is not None:
                settle()

    def _met(self, cpu: Cpu, exit: Exit) -> None:
        """A CPU has met a breakpoint; in the loop's thread."""
        self._halt()
        if not self._going:  # it was held already, by another's
            return
        if self._stop_behind and cpu.vcpu.stopped_by(exit)[0] != "breakpoint":
            cpu.vcpu.step()
        self._tell(self._why(cpu, exit))

    def _tell(self, stop: Stop) -> None:
        self._going = False
        self._stop = stop
        self.stopped(stop)

    def ended(self, code: int) -> None:
        """The machine's run has ended."""
        self._going = False
        self.stopped(Stop(1, code, "exited"))

    def resume(self, actions: Mapping[int, Action]) -> None:
        steps = [(thread, action) for thread, action in actions.items() if action.step]
        if self.machine._result is not None:
            raise Refused("the machine has ended; monitor system_reset starts it again")
        if steps:
            # The others wait meanwhile: time stands, too.
            self._going = True
            thread, action = steps[0]
            self._step(self._cpu(thread), action.within)
            return
        try:
            self._apply()
        except EmuError as error:
            raise Refused(str(error)) from None
        self._going = True
        for cpu in self.machine.cpus:
            cpu.held = bool(actions) and cpu.vcpu.index + 1 not in actions
        self._go()

    def _go(self) -> None:
        if self._run is not None:
            self._run.cont()
        elif self.machine.state in ("prelaunch", "paused"):
            self.machine.start()

    def _step(self, cpu: Cpu, within: tuple[int, int] | None) -> None:
        if not self._going:
            return  # interrupted meanwhile
        thread = cpu.vcpu.index + 1
        for _ in range(STEPS_AT_ONCE):
            exit = cpu.vcpu.step()
            if exit.kind == ExitKind.KICKED:
                continue
            if exit.kind not in (ExitKind.DEBUG, ExitKind.HALT, ExitKind.BUDGET):
                self._going = False
                self.machine._concerned(cpu, exit)
                return
            if within is None:
                self._tell(Stop(thread))
                return
            (pc,) = cpu.vcpu.get(self.arch.pc)
            at_break = any(k in (Kind.SOFTWARE, Kind.HARDWARE) and at == pc for k, at, _ in self._breaks)
            if at_break or not within[0] <= pc < within[1] or exit.kind == ExitKind.HALT:
                self._tell(Stop(thread))
                return
        self.machine.loop.call(partial(self._step, cpu, within))

    def interrupt(self) -> None:
        if self._going:
            self._halt()
            self._tell(Stop(self._stop.thread, SIGINT))

    def detach(self) -> None:
        """The client has gone: as if it had never been there."""
        self._breaks.clear()
        self._apply()
        self.machine.debugger = None
        for cpu in self.machine.cpus:
            cpu.held = False
        self._going = False
        self._go()

    def kill(self) -> None:
        from emu.machine import Result

        if self._run is not None:
            self._run.quit("host-ui")
        else:
            self.machine.end(Result("host-ui"))

    def reset(self) -> None:
        if self._run is not None:
            self._run.reset()
        else:
            self.machine.guest_reset()

    # -- what else a client may ask --------------------------------------------------------------------

    def setting(self, name: str, value: str | None) -> str | None:
        if name == "PhyMemMode":
            if value is not None:
                self._physical = value.strip() not in ("0", "")
            return str(int(self._physical))
        if name == "sstepbits" and value is None:
            return STEP_BITS
        if name == "sstep":
            self._sstep = self._sstep if value is None else value
            return self._sstep
        return "system" if name == "Supported" and value is None else None

    def monitor(self, words: str) -> str:
        words = " ".join(words.split())
        if words in ("physical on", "physical off"):
            self._physical = words == "physical on"
            return f"addresses are {'physical' if self._physical else 'virtual'}\n"
        if self._control is None:
            return f"there is no command {words!r} here; emu boot's machines have a monitor\n"
        if words in ("c", "cont"):
            raise Refused("the debugger holds the machine; continue there")
        if self._human is None:
            from emu.monitor.client import Client
            from emu.monitor.hmp import Hmp

            self._human = Hmp(Client(self._control))
        shown = self._human.execute(words)
        text = shown if isinstance(shown, str) else shown.finish()
        return text + (HELP if words in ("help", "?") else "")


def _has(vcpu: Any, name: str) -> bool:
    try:
        vcpu.get(name)
    except (KeyError, AccelError):
        return False
    return True
