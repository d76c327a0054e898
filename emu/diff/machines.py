"""A machine as a side of a comparison: its CPU is stepped where it stands, and its devices answer at once."""

from __future__ import annotations

from accel.api import ExitKind
from accel.errors import AccelError, EmuError, GuestFault
from accel.memory import RAM
from emu.report import CpuView

TYPE_CHECKING = False
if TYPE_CHECKING:
    from emu.diff.lockstep import Side
    from emu.machine import Machine

LONGEST = 15
# Bytes that are shown where memory differs.
SHOWN = 8
PIECE = 1 << 20
# Registers that tell the time, by how their names begin: never the same.
TIMES = ("CNT", "PMCCNTR", "tsc", "time", "cycle", "instret", "mcycle", "minstret")


class MachineSide:
    """A machine that has not been started."""

    def __init__(self, machine: Machine, everything: bool) -> None:
        if len(machine.cpus) != 1:
            raise EmuError(f"a machine of {len(machine.cpus)} CPUs cannot be compared; make it with one")
        if not machine.accel.caps.single_step:
            raise AccelError(f"{machine.accel_name} cannot execute single instructions on this host")
        if machine.state == "running":
            raise EmuError("a machine that runs cannot be compared; pause it")
        self.machine = machine
        self.name = machine.accel_name
        machine.power_on()
        self.arch = machine.accel.arch
        self.cpu = machine.cpus[0]
        self.vcpu = self.cpu.vcpu
        registers = [*self.arch.registers, *(self.arch.system_registers if everything else ())]
        wanted = [r for r in registers if everything or r.group == "general"]
        names = [r.name for r in wanted if not r.name.startswith(TIMES)]
        self.names = (self.arch.pc, *(name for name in names if name != self.arch.pc and self._has(name)))

    def _has(self, name: str) -> bool:
        try:
            self.vcpu.get(name)
        except (KeyError, AccelError):
            return False
        return True

    def state(self) -> tuple[int, ...]:
        return self.vcpu.get(*self.names)

    def set(self, values: dict[str, int]) -> None:
        try:
            self.vcpu.set(**values)
        except (KeyError, AccelError) as error:
            raise EmuError(f"{self.name} does not set {error}; ignore what differs there") from None

    def instruction(self, address: int) -> tuple[bytes, str]:
        view = CpuView(self.vcpu, self.arch, self.machine.memory)
        decoder, _ = view.decoder()
        data = view.peek(view.base("cs") + address, LONGEST)
        for _, size, name, operands in decoder.disasm_lite(data, address, 1):
            return data[:size], f"{name} {operands}".rstrip()
        return data[:4], "(no instruction)"

    def reach(self, where: int | str) -> None:
        remove = self.machine.on_address(where, lambda hit: hit.stop())
        try:
            result = self.machine.run()
        finally:
            remove()
        if result.reason != "hook":
            raise EmuError(f"{self.name}: the guest has ended ({result.reason}) before it came to {where}")

    def step(self) -> str:
        machine = self.machine
        if machine.stops.table:
            machine.stops.call(self.cpu)
        try:
            for _ in range(1000):
                exit = self.vcpu.step()
                if machine._failure is not None:
                    raise machine._failure
                if machine._result is not None:
                    return machine._result.reason
                if exit.kind == ExitKind.DEBUG:
                    return ""
                if exit.kind == ExitKind.HALT:
                    return "it waits for an interrupt"
                if exit.kind not in (ExitKind.KICKED, ExitKind.BUDGET):
                    return exit.text or exit.kind.name.lower()
        except GuestFault as error:
            return str(error)
        return "it does not get over an instruction"

    def memory(self, other: Side) -> tuple[int, bytes, bytes] | None:
        assert isinstance(other, MachineSide)
        for piece in self.machine.memory.flat():
            if piece.region.kind != RAM:
                continue
            for at in range(piece.base, piece.base + piece.size, PIECE):
                size = min(PIECE, piece.base + piece.size - at)
                here, there = (side.machine.memory.peek(at, size) for side in (self, other))
                if here != there:
                    n = next(n for n, (a, b) in enumerate(zip(here, there, strict=True)) if a != b)
                    return at + n, here[n : n + SHOWN], there[n : n + SHOWN]
        return None

    def agree(self, other: Side) -> None:
        """What a CPU holds after a reset is its model's: RDX on x86."""
        assert isinstance(other, MachineSide)
        if self.machine.state != "prelaunch":
            return
        names = [name for name in self.names if name in other.names and name != self.arch.pc]
        mine, theirs = self.vcpu.get(*names), other.vcpu.get(*names)
        differing = {name: a for name, a, b in zip(names, mine, theirs, strict=True) if a != b}
        if differing:
            other.set(differing)
