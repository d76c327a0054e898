"""A PC's interrupt controllers: the board's own, the kernel's, or both together; and who takes each line.

    kernel   PICs, I/O APIC, local APICs and the 8254 are the engine's; the board's own stand there in silence
    split    local APICs are the engine's; the board's I/O APIC and PICs use them
    board    all are the board's own

A guest that goes to another engine takes their state along (pc_handover.py): an engine that has none of them
in the kernel leaves them to the board.

Lines 0 to 15 end at the PICs and the I/O APIC, the timer's at another input of that; 16 to 23 there alone.
"""

from __future__ import annotations

from typing import Any

from accel.errors import AccelError
from accel.irq import IrqLine
from accel.native import lib
from emu.boards import pc_handover as handover
from emu.devices.apic import IO_BASE, LOCAL_BASE, IoApic, LocalApic
from emu.devices.i8254 import I8254, PortB
from emu.devices.i8259 import Pics
from emu.devices.native import ffi

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from accel.api import Accelerator
    from emu.machine import Cpu, Machine

# Of the APIC base register, and of the timer's entry (Intel SDM vol. 3, 11.12.1 and 11.5.1).
X2APIC, TSC_DEADLINE = 1 << 10, 1 << 18
NOT_OUR_APIC = (
    "the guest uses the kernel's local APIC as the board's own does not work (x2APIC mode or the"
    " deadline timer); start it with --cpu host,-x2apic,-tsc-deadline or kernel-irqchip=off"
)
# Of CR4 (Intel SDM vol. 3, 4.10.1): MOV to CR3 then has a bit 63 that Unicorn takes for an address.
PCIDE = 1 << 17
ISA_LINES, PIT_LINE, PIT_INPUT = 16, 0, 2


class PcInterrupts:
    """The controllers of one machine; made before its CPUs."""

    def __init__(self, engine: Accelerator, cpus: int) -> None:
        self.pics = Pics()
        self.apic = LocalApic(cpus)
        self.io_apic = IoApic(self.apic)
        self.pics.connect_apic(self.apic)
        self.timer = I8254()
        self.port_b = PortB(self.timer)
        self.who = ""
        self._lines: dict[int, IrqLine] = {}
        self._quiet: dict[str, Any] = {}  # the kernel's local APIC after reset, and as it was when last seen
        self._kernel_apic: dict[str, int] = {}
        self._choose(engine)

    def _choose(self, engine: Accelerator) -> None:
        """Leaves to the engine what it has."""
        self.kernel: Any = engine.irqchip("pc")
        local = engine.irqchip("lapic")
        if local is not None:
            self.apic.leave_to(local)
        if self.kernel is not None:
            self.apic.leave_messages_to(self.kernel)
        self.who = "kernel" if self.kernel is not None else "board" if local is None else "split"

    def connect_cpu(self, cpu: Cpu) -> None:
        """Gives the next CPU its interrupts."""
        if self.who == "kernel":
            self._quiet = {"lapic": cpu.initial["lapic"]}
        else:
            self.apic.connect_cpu(cpu)

    def power_on(self) -> None:
        """The kernel's after a reset; the board's own are devices like others."""
        if self.who == "kernel":
            self.kernel.reset()

    def by_level(self, numbers: Iterable[int]) -> None:
        """Has the older controllers take these lines by level, as firmware does; after power_on()."""
        first, second = (sum(1 << n % 8 for n in numbers if n // 8 == chip) for chip in (0, 1))
        if self.kernel is not None:
            state = self.kernel.save()
            del state["clock"]
            state["pic0"]["elcr"], state["pic1"]["elcr"] = first, second
            self.kernel.load(state)
        else:
            saved = self.pics.elcr.save()
            saved["registers"] |= {"ELCR1": first, "ELCR2": second}
            self.pics.elcr.load(saved)
            self.pics.master.elcr, self.pics.slave.elcr = first, second

    # -- another engine ------------------------------------------------------------------

    def may_hand_over(self, engine: Accelerator, state: dict[str, Any]) -> None:
        """Raises AccelError where a vCPU of such a state could not go on under `engine`."""
        if engine.caps.name == "tcg" and state["cr4"] & PCIDE:
            raise AccelError(
                "the guest tags its address spaces (PCID), as tcg cannot; start it with --cpu host,-pcid"
            )
        if self.who == "split":
            raise AccelError(
                "with kernel-irqchip=split the kernel holds an interrupt of the older controllers where"
                " nobody can read it; to move between accelerators use kernel-irqchip=on or off"
            )
        if self.who == "board":
            own = self.apic.state_in_c()
            if engine.caps.irqchips and own.hz != handover.KERNEL_APIC_HZ:
                raise AccelError(
                    "the guest was reset under tcg and knows the local APIC's timer at another pace than the"
                    " kernel's; start it with kernel-irqchip=off"
                )
        elif not engine.caps.irqchips and (
            state["apic_base"] & X2APIC or state["lapic"]["lvt_timer"] & TSC_DEADLINE
        ):
            raise AccelError(NOT_OUR_APIC)

    def hand_over(self, engine: Accelerator, before: Any, after: Any, state: dict[str, Any]) -> int:
        """Goes over from the vCPU `before` to `after` of `engine`, whose `state` is about to be loaded.

        The state then fits the controllers there.  Returns the host's time (ns) before which the guest must
        not run, so that the timer is where it was.
        """
        if self.who == "kernel":
            self._leave_kernel(before, state)
        self.apic.leave_cpu(after.index)
        self._choose(engine)
        due = 0
        if self.who == "kernel":
            state["lapic"] = handover.local_to_kernel(self.apic, self._kernel_apic)
            due = self._enter_kernel()
        else:
            own = self.apic.state_in_c()
            state["cr8"] = own.local[0].priority >> 4
            self.apic.take_cpu(after.index, after)
        self._end_lines()
        return due

    def _leave_kernel(self, before: Any, state: dict[str, Any]) -> None:
        """What the kernel has goes to the board's own."""
        self.apic.leave_messages_to(None)
        # The kernel's timers never rest: what interrupts between these two does so twice, and is not lost.
        del state["lapic"]
        saved = self.kernel.save()
        self._kernel_apic = before.save()["lapic"]
        before.load(self._quiet)
        levels = 0
        for number, line in self._lines.items():
            if number != PIT_LINE:
                levels |= line.level << number
                self.kernel.lower(number)
        self.kernel.reset()
        handover.pics_from_kernel(self.pics, saved)
        handover.io_apic_from_kernel(self.apic, saved["ioapic"], levels)
        handover.timer_from_kernel(self.timer, self.port_b, saved["pit"])
        handover.local_from_kernel(self.apic, self._kernel_apic)

    def _enter_kernel(self, clock: int | None = None) -> int:
        """What the board's own have goes to the kernel's, and they fall silent."""
        timer, gone = handover.timer_to_kernel(self.timer, self.port_b)
        io_apic = handover.io_apic_to_kernel(self.apic, IO_BASE)
        state = {**handover.pics_to_kernel(self.pics), "ioapic": io_apic, "pit": timer}
        self.kernel.load(state if clock is None else {**state, "clock": clock})
        due = int(lib.emu_now()) + gone if gone else 0
        for line in self._lines.values():
            line.disconnect()
        for device in (self.timer, self.pics.slave, self.pics.master, self.apic):
            device.power_on()
        return due

    def _end_lines(self) -> None:
        """All lines end at the controllers in use, which know their levels, but for the kernel's."""
        for number, line in self._lines.items():
            level = line.level
            self._end(number, line)
            if self.who == "kernel":
                line.restore(0)
                line.set(level)
            elif number < ISA_LINES:
                self.pics.line(number).restore(level)
                self.io_apic.line(PIT_INPUT if number == PIT_LINE else number).restore(level)

    # -- snapshots -------------------------------------------------------------------------

    def save(
        self, cpus: list[Cpu], states: list[dict[str, Any]], devices: dict[str, Any]
    ) -> dict[str, Any] | None:
        """Makes of what the silent devices have saved the state of the kernel's, which goes on."""
        if self.who == "board":
            return None
        # In this order: see _leave_kernel().
        saved, state = self.kernel.save(), self.apic.state_in_c()
        for number, cpu in enumerate(cpus):
            states[number]["lapic"] = cpu.vcpu.save()["lapic"]
            handover.local_saved(state, number, states[number]["lapic"])
        levels = sum(line.level << number for number, line in self._lines.items() if number != PIT_LINE)
        handover.pics_saved(devices, saved)
        handover.io_apic_saved(state, saved["ioapic"], levels)
        handover.timer_saved(devices["pit"], devices["port-b"], self.timer.ticks(), saved["pit"])
        devices["apic"]["state"]["contents"] = bytes(ffi.buffer(state))
        return {"clock": saved["clock"]}

    def load_state(self, cpus: list[Cpu], states: list[dict[str, Any]], kept: dict[str, Any] | None) -> int:
        """Takes up what save() gave, when the devices have theirs: it goes to the kernel, if that has it.

        The CPUs' states then fit.  Returns the host's time (ns) before which the guest must not run, or 0.
        Raises AccelError where it cannot go on with these controllers.
        """
        if kept is not None:
            self.timer.go_on()  # the kernel's had no timer of ours
        if self.who == "board":
            for state in states:
                lapic = state.pop("lapic", None)
                if lapic is not None and (state["apic_base"] & X2APIC or lapic["lvt_timer"] & TSC_DEADLINE):
                    raise AccelError(NOT_OUR_APIC)
            self._end_lines()
            return 0
        if kept is None and self.apic.state_in_c().hz != handover.KERNEL_APIC_HZ:
            raise AccelError(
                "the guest knows the local APIC's timer at another pace than the kernel's; restore it with"
                " kernel-irqchip=off, or under tcg"
            )
        for number, (cpu, state) in enumerate(zip(cpus, states, strict=True)):
            if "lapic" not in state:
                state["lapic"] = handover.local_to_kernel(self.apic, cpu.initial["lapic"], number)
        due = self._enter_kernel(None if kept is None else kept["clock"])
        self._end_lines()
        return due

    def start_cpu(self, index: int, vcpu: Any) -> None:
        """The first CPU starts by itself, the others when it tells them to; the kernel sees to its own."""
        if self.who == "board" and index != 0:
            vcpu.park()

    def line(self, number: int) -> IrqLine:
        """Line 0 to 23; the same object each time."""
        if number not in self._lines:
            line = IrqLine()
            self._end(number, line)
            self._lines[number] = line
        return self._lines[number]

    def _end(self, number: int, line: IrqLine) -> None:
        if self.kernel is not None:
            if number == PIT_LINE:  # the kernel's own timer drives it
                line.disconnect()
            else:
                self.kernel.wire(number, line)
        elif number >= ISA_LINES:
            self.io_apic.wire(number, line)
        else:
            old = self.pics.line(number)
            new = self.io_apic.line(PIT_INPUT if number == PIT_LINE else number)

            def drive(level: int) -> None:
                old.set(level)
                new.set(level)

            line.connect(drive)

    def attach(self, machine: Machine) -> None:
        """Puts the board's own where every PC has them; what the kernel has never comes to them."""
        ports = machine.ports
        assert ports is not None
        ports.attach("pic0", self.pics.master, 0x20)
        ports.attach("pic1", self.pics.slave, 0xA0)
        ports.attach("elcr", self.pics.elcr, 0x4D0)
        ports.attach("pit", self.timer, 0x40, irq=PIT_LINE)
        ports.attach("port-b", self.port_b, 0x61, priority=1)
        machine.bus.attach("apic", self.apic, LOCAL_BASE)
        machine.bus.attach("io-apic", self.io_apic, IO_BASE)
