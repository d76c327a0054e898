"""Machine: a board, its accelerator, and the threads that run them.

Each vCPU has a thread; the thread that calls run() serves the host (serial lines, timers, signals).  States
have QMP's names:

    prelaunch --start--> running <--pause, resume--> paused          running --end--> shutdown
                                                                     reset: back to prelaunch

What ends a run is a Result, an exception out of a device's hook (raised from run()), or a signal.

Lock order: a device's lock, then Machine._lock; neither is held while a vCPU runs.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from accel.api import ExitKind, open_accelerator
from accel.errors import AccelError, DeviceError, EmuError, GuestFault
from accel.memory import AddressSpace
from emu.backends.chardev import Chardev, open_chardev
from emu.board import Board, open_board
from emu.bus import Bus
from emu.device import Context, Device
from emu.inventory import Inventory
from emu.loop import Loop
from emu.stops import Registers, Stops, VirtualMemory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from accel.api import Accelerator, Exit, Vcpu
    from accel.irq import IrqLine
    from emu.devices.pci import PciFunction
    from emu.devices.pci_bridge import PciBridge
    from emu.expect import Console
    from emu.gdb.server import MachineServer
    from emu.hotplug import Hotplug
    from emu.loader.raw import Image
    from emu.monitor.client import Control
    from emu.snapshot.changes import Followed
    from emu.stops import Hit, Table
    from emu.virtio.device import VirtioDevice

# What the map's addresses go up to: 48 bits are enough for every board.
ADDRESS_SPACE = 1 << 48
PORT_SPACE = 1 << 16


class Result:
    """Why a run ended.

    reason: QMP's word (guest-shutdown, guest-reset, guest-panic, host-ui), or timeout, until, or hook; code:
    the exit code the guest gave, 0 where it gave none; text: one line for people, or ""; cpu: the number of
    the CPU whose triple fault is the reason, else None.
    """

    __slots__ = ("code", "cpu", "reason", "text")

    def __init__(self, reason: str, code: int = 0, text: str = "", cpu: int | None = None) -> None:
        self.reason = reason
        self.code = code
        self.text = text
        self.cpu = cpu

    def __repr__(self) -> str:
        return f"<Result {self.reason} {self.code}{' ' + self.text if self.text else ''}>"


class Cpu:
    """A vCPU and its thread."""

    def __init__(self, machine: Machine, vcpu: Vcpu) -> None:
        self.machine = machine
        self.vcpu = vcpu
        self.initial = vcpu.save()
        self.initial.pop("count", None)  # time goes on through a reset
        self.parked = True
        self.stops: Table | None = None  # what the vCPU has been told
        self.told = False  # of anything
        self.past: int | None = None  # an address whose hooks have been called
        self.sleeps = False
        self.held = False  # by a debugger, which lets it go on
        self._spent = 0.0  # what the thread took, once it has ended
        if hasattr(vcpu, "sleeps"):
            self.sleeps = vcpu.sleeps = True
        self._woken = threading.Event()
        self.thread = threading.Thread(target=self._run, name=f"vcpu{vcpu.index}", daemon=True)

    def interrupt(self, line: int, level: int) -> None:
        """Drives an input of the CPU (Vcpu.interrupt), and wakes it if it waits; from any thread."""
        self.vcpu.interrupt(line, level)
        if level:
            self._woken.set()

    def wire(self, number: int, line: IrqLine) -> None:
        """Ends a line at an input of the CPU (Vcpu.interrupt), in C where the engine has it there."""
        if hasattr(self.vcpu, "wire"):
            self.vcpu.wire(number, line)
        else:
            line.connect(lambda level: self.interrupt(number, level))

    def seconds(self) -> float:
        """What its thread has taken of the host's CPU."""
        if self.thread.is_alive() and self.thread.native_id is not None:
            try:
                # As pthread_getcpuclockid gives it, which must not be asked for a thread that is gone.
                return time.clock_gettime(~self.thread.native_id << 3 | 6)
            except OSError:
                pass
        return self._spent

    @property
    def registers(self) -> Registers:
        """By isa's names, while the CPU is out of the guest: in hooks, and while the machine is paused."""
        return Registers(self.vcpu, self.machine.accel.arch)

    @property
    def memory(self) -> VirtualMemory:
        """As the CPU sees it through its page tables, while it is out of the guest."""
        return VirtualMemory(self.machine, self.vcpu)

    def begin(self) -> int:
        """Starts the thread, which waits while the machine does not run; returns its number on the host."""
        if self.thread.ident is None:
            try:
                self.thread.start()
            except RuntimeError:
                raise AccelError("the host gives no thread for a vCPU; see ulimit -u") from None
        assert self.thread.native_id is not None
        return self.thread.native_id

    def kick(self) -> None:
        """Takes the vCPU out of the guest, or out of its sleep."""
        self._woken.set()
        self.vcpu.kick()

    def reset(self) -> None:
        """Back to the architectural reset state."""
        self.past = None
        self.vcpu.load(self.initial)

    def _run(self) -> None:
        try:
            while self.machine._may_run(self):
                self._woken.clear()
                stops = self.machine.stops
                entered = (
                    stops.enter(self) if self.stops is not stops.table or self.past is not None else None
                )
                exit = self.vcpu.run() if entered is None else entered
                if exit.kind == ExitKind.DEBUG:
                    left = stops.met(self, exit)
                    if left is None:
                        continue
                    exit = left
                if exit.kind == ExitKind.HALT:
                    if exit.text:
                        self.machine._asleep(self, exit.text)
                    if not self.sleeps:
                        self._woken.wait()
                else:
                    self.machine._concerned(self, exit)
        except BaseException as error:
            self.machine.fail(error)
        finally:
            self._spent = time.thread_time()
            with self.machine._changed:
                self.parked = True
                self.machine._changed.notify_all()


class Seat:
    """An engine that the guest runs on, or did: its vCPU, and the vCPU's state after reset."""

    __slots__ = ("engine", "initial", "vcpu")

    def __init__(self, engine: Accelerator, vcpu: Vcpu, initial: dict[str, Any]) -> None:
        self.engine = engine
        self.vcpu = vcpu
        self.initial = initial


class Machine:
    """A whole machine; a context manager.

    board: virt, microvm, pc, or a Board; arch: of a board that comes in several; accel: auto, kvm, tcg,
    kvm:tcg, and options after commas, as kvm,kernel-irqchip=off; cpu: a CPU's name and features, as
    Haswell,-avx2;
    cpus: how many vCPUs; ram: bytes (default: the board's); firmware, kernel, initrd, dtb: a path, or the
    bytes; append: the kernel's command line; firmware_vars: path of the file that keeps the firmware's
    variables, made when it is not there;
    devices: (device, base) or (device, base, irq) besides the board's; serial: Chardevs, or words as for
    --serial, None: the first line is `console`; virtio: devices for the board's virtio slots, closed with the
    machine; force_legacy: by the transport's version 1; debugcon: where PC firmware's debug ports end, as one
    of serial; pci: functions for the board's PCI bus; inventory: what all that is called; fw_cfg: items for
    firmware and kernels, by name; ahead: seconds of the guest's calendar before the host's.

    notes: what a person should know before it starts, a line each; noted: called, in a vCPU's thread, with
    what there is to know while it runs.

    Raises an EmuError of one line for everything that cannot be had as asked.
    """

    def __init__(
        self,
        board: str | Board = "virt",
        *,
        arch: str | None = None,
        accel: str = "auto",
        cpu: str = "",
        cpus: int = 1,
        ram: int | None = None,
        firmware: Image | None = None,
        firmware_vars: str | os.PathLike[str] | None = None,
        kernel: Image | None = None,
        initrd: Image | None = None,
        append: str = "",
        dtb: Image | None = None,
        devices: Iterable[tuple[Any, ...]] = (),
        serial: Iterable[Chardev | str] | Chardev | str | None = None,
        debugcon: Chardev | str | None = None,
        virtio: Iterable[VirtioDevice] = (),
        force_legacy: bool = False,
        pci: Iterable[PciFunction] = (),
        inventory: Inventory | None = None,
        fw_cfg: Iterable[tuple[str, bytes]] = (),
        ahead: int = 0,
    ) -> None:
        self.state = "prelaunch"
        self.board = board if isinstance(board, Board) else open_board(board, arch)
        # What fork() builds another one of.
        self.unbuilt = (type(self.board), dict(vars(self.board)), accel)
        self.ram = self.board.default_ram if ram is None else ram
        self.firmware = firmware
        self.firmware_vars = firmware_vars
        self.kernel = kernel
        self.initrd = initrd
        self.append = append
        self.dtb = dtb
        self.cpu = cpu
        self.cpu_count = cpus
        self.virtio = list(virtio)
        self.force_legacy = force_legacy
        self.pci = list(pci)
        self.fw_cfg = list(fw_cfg)
        self.ahead = ahead
        self.notes: list[str] = []
        self.inventory = Inventory() if inventory is None else inventory
        self.noted: Callable[[str], None] = lambda text: None
        self._deaf: dict[int, str] = {}
        self.cpus: list[Cpu] = []
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._result: Result | None = None
        self._suspended: Result | None = None
        self._failure: BaseException | None = None
        self._closed = False
        self._fresh = True
        self._forking = threading.Lock()
        self.restarted = False
        self._followed: Followed | None = None
        # Who is told, in the loop's thread, of breakpoints that CPUs have met.
        self.debugger: Callable[[Cpu, Exit], None] | None = None
        self.stops = Stops(self)
        self._accel: Accelerator | None = None
        self._seats: dict[str, Seat] = {}
        self._opened: list[Chardev] = []
        self._served: list[Chardev] | None = []  # until it is built
        self.debugcon = open_chardev(debugcon) if isinstance(debugcon, str) else debugcon
        self._check(cpus)
        self.loop = Loop()
        self._debugging: MachineServer | None = None
        self._hotplug: Hotplug | None = None
        self._console: Console | None = None
        self.memory = AddressSpace("memory", ADDRESS_SPACE)
        port_space = AddressSpace("ports", PORT_SPACE) if self.board.ports else None
        self._port_space = port_space
        self.bus = Bus(self.memory, self._context, self.board.line)
        self.ports = None if port_space is None else Bus(port_space, self._context, self.board.line)
        try:
            self._build(accel, cpus, devices, serial, port_space)
        except BaseException:
            self.close()
            raise

    def _check(self, cpus: int) -> None:
        board = self.board
        if not board.min_cpus <= cpus <= board.max_cpus:
            raise DeviceError(f"{cpus} CPUs: this board has 1 to {board.max_cpus}{board.cpus_reason}")
        if self.firmware_vars is not None and not board.keeps_variables:
            raise DeviceError("this board's firmware keeps no variables; leave --firmware-vars out")
        if self.debugcon is not None and not board.ports:
            raise DeviceError("this board has no debug port, which is a PC's; leave --debugcon out")
        least = min(1 << 20, board.ram_limit)
        if not least <= self.ram <= board.ram_limit or self.ram % 4096:
            most = board.ram_limit >> 20
            raise DeviceError(f"{self.ram} bytes of RAM: this board takes 1 to {most} MiB, in pages of 4 KiB")

    def _build(
        self,
        accel: str,
        cpus: int,
        devices: Iterable[tuple[Any, ...]],
        serial: Iterable[Chardev | str] | Chardev | str | None,
        port_space: AddressSpace | None,
    ) -> None:
        from accel.choice import choose_machine
        from isa.arch import find

        ends = {part.serial for part in self.board.parts if part.serial is not None}
        if serial is None:
            from emu.expect import Heard

            serial = [Heard()] if ends else []
        lines = [serial] if isinstance(serial, (str, Chardev)) else list(serial)
        for line in lines:
            self._opened.append(open_chardev(line) if isinstance(line, str) else line)
        if len(lines) > len(ends):
            raise DeviceError(
                f"{len(lines)} serial lines were given, and this board has {len(ends)}; leave some out"
            )
        name, words, note = choose_machine(accel, self.board.arch, self.cpu)
        if note:
            self.notes.append(note)
        words = {**self.board.engine, **words}
        engine = open_accelerator(name, find(self.board.arch), self.memory, port_space, **words)
        self._accel = engine
        self.notes += engine.cpu_notes
        self.clock = engine.clock()
        self.clock.changed = self.loop.wake
        if cpus > engine.caps.max_vcpus:
            raise AccelError(f"{cpus} CPUs: {name} has at most {engine.caps.max_vcpus}; ask for fewer")
        # The order matters: KVM wants its interrupt controller before the first vCPU.
        self.board.memory(self)
        self.board.interrupts(self)
        for index in range(cpus):
            cpu = Cpu(self, engine.vcpu(index))
            self.cpus.append(cpu)
            self.board.connect_cpu(self, cpu)
        self.inventory.complete(self._opened, self.virtio)
        self.board.build(self)
        for number, attached in enumerate(devices):
            if not 2 <= len(attached) <= 3:
                raise DeviceError(f"devices[{number}]: give (device, base) or (device, base, irq)")
            device, base, *irq = attached
            name = f"{type(device).__name__.lower()}{number}"
            self.bus.attach(name, device, base, irq=irq[0] if irq else None)
        if self.plugs:
            self.hotplug  # noqa: B018  a guest may let go of a device though nobody asked
        served, self._served = self._served or [], None
        for chardev in (*self._opened, *served, *filter(None, (self.debugcon,))):
            chardev.open(self.loop)
        self.memory.freeze()
        if port_space is not None:
            port_space.freeze()

    def _context(self, chardev: Chardev | None) -> Context:
        return Context(
            self.clock,
            self.memory,
            chardev=chardev,
            shutdown=self.guest_shutdown,
            reset=self.guest_reset,
            fail=self.fail,
            serve=self.lend,
            ahead=self.ahead,
        )

    def lend(self, end: Chardev) -> None:
        """Opens the host's end of a device's line once the machine is built; the inventory's are open."""
        if self._served is not None:
            self._served.append(end)
        elif end not in self.inventory.chardevs.values():
            end.open(self.loop)

    # -- what it is made of ---------------------------------------------------

    @property
    def accel(self) -> Accelerator:
        """The engine."""
        assert self._accel is not None
        return self._accel

    @property
    def accel_name(self) -> str:
        """The accelerator that the guest runs on now: kvm or tcg."""
        return self.accel.caps.name

    def engines(self) -> dict[str, list[Vcpu]]:
        """The accelerators that the guest has run on, the present one among them, with their vCPUs."""
        if self._seats:
            return {name: [seat.vcpu] for name, seat in self._seats.items()}
        return {self.accel_name: [cpu.vcpu for cpu in self.cpus]}

    def done(self) -> list[str]:
        """What the engines did so far, for people; a CPU that runs is counted as far as it is."""
        lines = [f"CPU {cpu.vcpu.index} took {cpu.seconds():.2f} s of the host's CPU" for cpu in self.cpus]
        for name, vcpus in self.engines().items():
            lines.append(f"{name} ran {len(vcpus)} CPU{'s' if len(vcpus) > 1 else ''} of the guest")
            lines += [f"CPU {vcpu.index}, {name}: {line}" for vcpu in vcpus for line in vcpu.done()]
        return lines

    @property
    def console(self) -> Console:
        """The first serial line, to expect what the guest says and to type (emu/expect.py)."""
        if self._console is None:
            from emu.expect import Console, Heard

            line = self.serial_line(0)
            if not isinstance(line, Heard):
                raise DeviceError(
                    "the first serial line ends elsewhere; leave serial= out, or begin it with Heard()"
                )
            self._console = Console(self, line)
        return self._console

    def serial_line(self, number: int) -> Chardev | None:
        """Serial line `number`, or None where the user gave fewer."""
        return self._opened[number] if number < len(self._opened) else None

    def serial_paths(self) -> list[tuple[int, str]]:
        """Serial lines that can be found at a path (a pty, a socket), by number."""
        return [(n, line.path) for n, line in enumerate(self._opened) if line.path]

    def devices(self) -> list[Device]:
        """All devices, the port bus' last."""
        return self.bus.devices() + (self.ports.devices() if self.ports is not None else [])

    # -- running ------------------------------------------------------------------

    def start(self) -> None:
        """Lets the vCPUs run; from prelaunch or paused.  Serial lines and timers need run()."""
        with self._changed:
            if self._closed or self.state not in ("prelaunch", "paused"):
                state = "closed" if self._closed else self.state
                raise DeviceError(f"a machine starts when it is prelaunch or paused, and this one is {state}")
        self.power_on()
        for device in self.devices():
            device.resume()
        self.clock.start()
        with self._changed:
            self.state = "running"
            self._changed.notify_all()
        for cpu in self.cpus:
            cpu.begin()

    resume = start

    def run(
        self,
        timeout: float | None = None,
        until: Callable[[], bool] | None = None,
        *,
        paused: bool = False,
    ) -> Result:
        """Runs until the guest ends, `until()` is true (asked after every event) or `timeout` seconds passed.

        paused: the host is served, and the vCPUs wait for start(), from a debugger or a handler of the loop.
        After the guest's end the state is shutdown, else, after Ctrl-C too, paused: run() again goes on.
        Raises what a device's hook raised, GuestFault for what no engine can continue from, KeyboardInterrupt
        for Ctrl-C.
        """
        end = None if timeout is None else time.monotonic() + timeout
        if paused:
            self.power_on()
        elif self.state != "running":
            self.start()
        try:
            with self.loop.hearing():
                return self._serve(end, timeout, until)
        except KeyboardInterrupt:
            self.pause()
            raise
        except BaseException:
            self._failure = None
            self._park("shutdown")
            raise

    def _serve(self, end: float | None, timeout: float | None, until: Callable[[], bool] | None) -> Result:
        while True:
            ended = self._ended()
            if ended is not None:
                return ended
            if self._suspended is not None:
                self.pause()
                suspended, self._suspended = self._suspended, None
                return suspended
            if until is not None and until():
                self.pause()
                return Result("until")
            wait = None if end is None else end - time.monotonic()
            if wait is not None and wait <= 0:
                self.pause()
                return Result("timeout", text=f"the machine still ran after {timeout} s")
            self._step(wait)

    def turn(self, wait: float | None = None) -> Result | None:
        """Serves what comes within `wait` seconds (None: waits for something), in any state but closed.

        For who steers the machine and serves while it is paused too (emu/run_state.py).  Returns why the run
        has ended, once; raises as run() does.
        """
        ended = None if self.state == "shutdown" else self._ended()
        if self._suspended is not None:
            self.pause()
            self._suspended = None
        if ended is None:
            self._step(wait)
        return ended

    def _step(self, wait: float | None) -> None:
        deadline = self.clock.next_deadline() if self.state == "running" else None
        if deadline is not None:
            left = max(0, deadline - self.clock.now()) / 1e9
            wait = left if wait is None else min(wait, left)
        self.loop.step(wait)
        if self.state == "running":
            self.clock.due()

    def _ended(self) -> Result | None:
        if self._failure is not None:
            raise self._failure
        result = self._result
        if result is not None:
            self._park("shutdown")
        return result

    def pause(self) -> None:
        """Holds vCPUs and time.  Returns when every vCPU is out of the guest."""
        if self.state == "running":
            self._park("paused")

    def stop(self) -> None:
        """Ends the run; only reset() or close() come after it."""
        self._park("shutdown")

    def switch(self, name: str) -> None:
        """Moves the guest to the accelerator `name`, kvm or tcg; there it goes on, if it was running.

        Memory, devices and the guest's time do not notice.  From any thread but a vCPU's.  Raises AccelError,
        Unavailable or Unsupported where the guest cannot go there; it is then where it was.
        """
        if self._closed:
            raise DeviceError("this machine is closed; make a new one")
        if name == self.accel_name:
            return
        if len(self.cpus) != 1:
            raise AccelError(f"{len(self.cpus)} CPUs cannot move to {name}: tcg has one; use cpus=1")
        running = self.state == "running"
        self.pause()
        try:
            self._move(name)
        finally:
            if running:
                self.start()

    def _move(self, name: str) -> None:
        (cpu,) = self.cpus
        here = self._seats.setdefault(self.accel_name, Seat(self.accel, cpu.vcpu, cpu.initial))
        there = self._seat(name)
        state = cpu.vcpu.save()
        self.board.may_hand_over(there.engine, state)
        try:
            due = self._sit(here, there, dict(state))
        except EmuError:
            self._sit(there, here, state)
            raise
        left = due - time.monotonic_ns()
        if due and left > 0:
            time.sleep(left / 1e9)

    def _sit(self, here: Seat, there: Seat, state: dict[str, Any]) -> int:
        due = self.board.hand_over(there.engine, here.vcpu, there.vcpu, state)
        there.vcpu.load(state)
        here.engine.leave()
        there.engine.enter()
        (cpu,) = self.cpus
        cpu.vcpu, cpu.initial = there.vcpu, there.initial
        cpu.stops = None
        self._accel = there.engine
        return due

    def _seat(self, name: str) -> Seat:
        """The engine of that name, opened when first wanted: then the controllers stay the board's."""
        if name not in self._seats:
            from accel.choice import choose_machine
            from isa.arch import find

            # The host's own CPU is kvm's alone; elsewhere what is usual comes nearest.
            cpu = "" if self.cpu.split(",")[0] == "host" else self.cpu
            spec = "kvm,kernel-irqchip=off" if name == "kvm" else name
            _, words, _ = choose_machine(spec, self.board.arch, cpu)
            words = {**self.board.engine, **words}
            engine = open_accelerator(name, find(self.board.arch), self.memory, self._port_space, **words)
            try:
                vcpu = engine.vcpu(0)
                if hasattr(vcpu, "sleeps"):
                    vcpu.sleeps = True
                self._seats[name] = Seat(engine, vcpu, vcpu.save())
            except BaseException:
                engine.close()
                raise
        return self._seats[name]

    def on_address(self, where: int | str, hook: Callable[[Hit], object]) -> Callable[[], None]:
        """Calls a function when a CPU is about to execute the instruction at an address; returns its end.

        where: a virtual address (x86: linear), or the name of a function of the kernel or firmware, if that
        is an ELF file with symbols.  The hook gets a Hit (emu/stops.py): registers and memory, which it may
        change, and stop().  It is called in the CPU's thread; what it raises ends the run and is raised from
        run().

            machine.on_address(0x4008_0000, lambda hit: print(hex(hit.registers["x0"])))

        Copies have no hooks.  Nothing is slower away from the address.  Raises AccelError where the
        accelerator has no stops, or no more of them.
        """
        from emu.stops import address_of

        return self.stops.hook(address_of(self, where), hook)

    def _park(self, state: str) -> None:
        with self._changed:
            self.state = state
            self._changed.notify_all()
        for cpu in self.cpus:
            if cpu.thread is threading.current_thread():
                raise DeviceError("a device's hook cannot wait for its own CPU; use context.shutdown()")
            while not cpu.parked:
                # Again and again: a kick may come just before the guest is entered.
                cpu.kick()
                with self._changed:
                    if not cpu.parked:
                        self._changed.wait(timeout=0.05)
        for device in self.devices():
            device.pause()
        if self._accel is not None:
            self.clock.stop()

    def reset(self) -> None:
        """Back to power-on, with memory loaded anew; the state is prelaunch."""
        self._park("prelaunch")
        self._result = None
        self._failure = None
        self._suspended = None
        self._fresh = True
        self.restarted = True

    def power_on(self) -> None:
        """Resets devices and CPUs and loads memory; start() does it too, where this has not been."""
        if not self._fresh:
            return
        self._fresh = False
        for device in self.devices():
            device.power_on()
        self.board.load(self)
        for index, cpu in enumerate(self.cpus):
            cpu.reset()
            self.board.start_cpu(self, index, cpu.vcpu)

    # -- snapshots ---------------------------------------------------------------

    def save(self, path: str | os.PathLike[str], *, track: bool = False, changes: bool = False) -> int:
        """Writes the whole machine into a file; returns its size.  It goes on, if it was running.

        track: notes the pages that are written from now on; changes: writes only what was written since the
        last save(track=True), load(track=True) or save(changes=True), whose file stays beside this one.

        Disks are not in it: what the guest wrote is on them when this returns.  The file is whole, or is what
        was there before.  From any thread but a vCPU's.  Raises SnapshotError.
        """
        from emu.snapshot.changes import Followed
        from emu.snapshot.save import save_file

        if changes and self._followed is None:
            raise DeviceError("no snapshot's changes are noted; save or load one with track=True first")
        running = self._held_for("save")
        try:
            more = {"running": running, "id": os.urandom(16).hex()}
            size = save_file(self, path, more, changes=self._followed if changes else None)
            if track or changes:
                self._followed = Followed(self, str(more["id"]), path)
            return size
        finally:
            if running:
                self.start()

    def load(self, path: str | os.PathLike[str], *, track: bool = False) -> None:
        """Makes the machine what a file of save() says; it was built with the same options.

        track: as save().  It goes on, if it was running, or else waits for start().  Raises SnapshotError: it
        is then as it was.
        """
        from emu.snapshot.changes import Followed
        from emu.snapshot.save import load_file

        running = self._held_for("load")
        try:
            fresh = self.prepare_to_load()
            state = load_file(self, path, at_once=fresh)
            self.loaded()
            self._followed = Followed(self, str(state.head["id"]), path) if track else None
        finally:
            if running:
                self.start()

    def fork(
        self,
        *,
        accel: str | None = None,
        devices: Iterable[tuple[Any, ...]] = (),
        serial: Iterable[Chardev | str] | Chardev | str | None = None,
        virtio: Iterable[VirtioDevice] = (),
        pci: Iterable[PciFunction] = (),
        plugged: Iterable[tuple[VirtioDevice | PciFunction, str]] = (),
    ) -> Machine:
        """Another machine, in the same state, that waits for run(); each goes its own way.

        Memory is common until one of them writes to it.  The copy has no host ends but those it is given: its
        serial lines are null (a `console` is a new one); devices, virtio devices and PCI functions are named
        here as for Machine, of the same kinds in the same order; disks should hold what the first ones do.
        plugged: those that were plugged in later, each with its port; accel: another one.

        This one goes on, if it was running; its balloon gives the host nothing any more.  From any thread but
        a vCPU's.  Raises an EmuError; this machine is then as it was.
        """
        from emu.snapshot.fork import fork

        with self._forking:
            running = self._held_for("fork")
            try:
                if serial is None:
                    serial = [line.quiet() for line in self._opened]
                return fork(self, accel, plugged, devices=devices, serial=serial, virtio=virtio, pci=pci)
            finally:
                if running:
                    self.start()

    def _held_for(self, doing: str) -> bool:
        if self._closed:
            raise DeviceError(f"this machine is closed and cannot {doing}; make a new one")
        if doing != "load":
            self.power_on()
        running = self.state == "running"
        self.pause()
        return running

    def prepare_to_load(self) -> bool:
        """Makes ready for a state in place of a power-on; returns whether there was nothing to lose."""
        fresh = self._fresh
        self._result = None
        if fresh:
            self.restarted = False
            for device in self.devices():
                device.power_on()
            for cpu in self.cpus:
                cpu.reset()
        return fresh

    def loaded(self) -> None:
        """A state was given: start() goes on from there."""
        self._fresh = False
        self.state = "paused"

    def describe(self, number: int) -> str:
        """The state of a CPU as lines of text (emu.report); when no CPU runs."""
        from emu.report import describe

        return describe(self.cpus[number].vcpu, self.accel.arch, self.memory)

    def gdb(self, words: str, control: Control | None = None) -> MachineServer:
        """Lets a debugger come in, at a place as of --gdb (tcp::1234, unix:PATH), while it is served.

        control: of a machine that is steered from outside, too.  Raises an EmuError when it cannot be had.
        """
        from emu.gdb.machine import MachineTarget
        from emu.gdb.server import MachineServer

        if self._debugging is not None:
            raise DeviceError(f"a debugger comes in at {self._debugging.place}; one place is enough")
        self._debugging = MachineServer(MachineTarget(self, control), words)
        return self._debugging

    def gdb_end(self) -> bool:
        """Lets no debugger in any more, and goes on without one that is there; whether one could come in.

        For the loop's thread.
        """
        server, self._debugging = self._debugging, None
        if server is not None:
            server.leave()
        return server is not None

    @property
    def plugs(self) -> bool:
        """Whether it may have places for devices that come and go while the guest runs."""
        return bool(self.pci) or self.board.virtio_by_pci

    @property
    def hotplug(self) -> Hotplug:
        """Its places for devices that come and go while the guest runs."""
        if self._hotplug is None:
            from emu.hotplug import Hotplug

            self._hotplug = Hotplug(self)
        return self._hotplug

    def plug(self, device: VirtioDevice | PciFunction, port: PciBridge | str | None = None) -> PciFunction:
        """Plugs a device in, while the guest runs; returns its function.  Raises DeviceError.

        port: an empty port of PCI Express, or pci.0, a PC's bus; None: the first that has room.  In the
        loop's thread (loop.call), or while nobody serves the machine.
        """
        return self.hotplug.plug(device, port)

    def unplug(self, device: VirtioDevice | PciFunction) -> None:
        """Asks the guest to let go of a device in such a place; inventory.gone is told when it has.

        As plug(); the guest may take seconds, or never do it.
        """
        self.hotplug.unplug(device)

    def powerdown(self) -> None:
        """Presses the power button: a guest that heeds it shuts down.  Raises DeviceError where none is."""
        self.board.powerdown(self)

    # -- what the guest and its devices ask for; from any thread ---------------------------

    def guest_shutdown(self, code: int = 0) -> None:
        """The guest switched the machine off."""
        self.end(Result("guest-shutdown", code))

    def guest_reset(self) -> None:
        """The guest asked for a reset; run() returns, and reset() does it."""
        self.end(Result("guest-reset"))

    def end(self, result: Result) -> None:
        """Makes run() return `result`; the first one counts."""
        with self._lock:
            if self._result is None:
                self._result = result
        self._out()

    def suspend(self, result: Result) -> None:
        """Makes run() return `result` with the machine paused."""
        with self._lock:
            if self._suspended is None:
                self._suspended = result
        self._out()

    def fail(self, error: BaseException) -> None:
        """Makes run() raise `error`; the first one counts."""
        with self._lock:
            if self._failure is None:
                self._failure = error
        self._out()

    def _out(self) -> None:
        for cpu in self.cpus:
            cpu.kick()
        self.loop.wake()

    # -- the vCPUs' threads ------------------------------------------------------------------

    def _may_run(self, cpu: Cpu) -> bool:
        """Waits while the machine does not run; False when the thread is to end."""
        if (
            self.state == "running"
            and self._result is None
            and self._failure is None
            and self._suspended is None
            and not self._closed
            and not cpu.held
        ):
            cpu.parked = False
            if self.state == "running":
                return True
        with self._changed:
            while True:
                if self._closed:
                    return False
                ended = self._result is not None or self._failure is not None
                idle = ended or self._suspended is not None or cpu.held
                if self.state == "running" and not idle:
                    cpu.parked = False
                    return True
                cpu.parked = True
                self._changed.notify_all()
                self._changed.wait()

    def _concerned(self, cpu: Cpu, exit: Exit) -> None:
        kind = exit.kind
        if kind in (ExitKind.KICKED, ExitKind.BUDGET):
            return
        if kind == ExitKind.SHUTDOWN and exit.text:
            number = cpu.vcpu.index
            text = f"{exit.text} at pc {exit.pc:#x} of CPU {number}"
            self.end(Result(self.board.shutdown, text=text, cpu=number))
        elif kind == ExitKind.SHUTDOWN:
            self.end(Result("guest-shutdown"))
        elif kind == ExitKind.RESET:
            self.guest_reset()
        elif kind == ExitKind.DEBUG and self.debugger is not None:
            cpu.held = True
            self.loop.call(partial(self.debugger, cpu, exit))
        else:
            what = exit.text or kind.name.lower()
            code = f" at {exit.data.hex(' ')}" if exit.data else ""
            number = cpu.vcpu.index
            raise GuestFault(f"CPU {number} stopped at pc {exit.pc:#x}{code}: {what}", cpu=number)

    def _asleep(self, cpu: Cpu, text: str) -> None:
        """A CPU waits, and takes no interrupts; told once, when they all do."""
        if self._deaf.get(cpu.vcpu.index) is None:
            self._deaf[cpu.vcpu.index] = text
            if len(self._deaf) == len(self.cpus):
                self.noted(f"the guest is {text}: it does nothing any more (Ctrl-A X ends it)")

    # -- end ----------------------------------------------------------------------------

    def close(self) -> None:
        """Ends everything and frees it; again does nothing."""
        if self._closed:
            return
        self._park("shutdown")
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for cpu in self.cpus:
            if cpu.thread.ident is not None:
                cpu.thread.join()
        if self._debugging is not None:
            self._debugging.ended(self._result.code if self._result is not None else 0)
            self._debugging.close()
        for device in self.devices():
            device.close()
        if self._hotplug is not None:
            self._hotplug.close()
        for netdev in self.inventory.netdevs.values():
            netdev.peer.close()  # those that no card took
        for carried in self.virtio:
            carried.close()  # those that no slot took
        ends = [*self._opened, *self.inventory.chardevs.values(), *filter(None, (self.debugcon,))]
        for chardev in ends:
            chardev.close()
        if self._accel is not None:
            self.clock.changed = None
            for engine in {self._accel, *(seat.engine for seat in self._seats.values())}:
                engine.close()
        self.memory.close()
        if self._port_space is not None:
            self._port_space.close()
        self.loop.close()

    def __enter__(self) -> Machine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
