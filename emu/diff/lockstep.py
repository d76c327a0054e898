"""Two sides in lockstep: after each instruction their registers are compared, at the end their memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from accel.errors import EmuError
from emu.diff.undefined import undefined

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from emu.machine import Machine
    from isa.arch import Arch

    class Side(Protocol):
        """A guest that stands before an instruction."""

        name: str
        arch: Arch
        # Registers that are compared, the program counter first.
        names: tuple[str, ...]

        def state(self) -> tuple[int, ...]:
            """The values of `names`."""

        def set(self, values: dict[str, int]) -> None: ...
        def instruction(self, address: int) -> tuple[bytes, str]:
            """The bytes there and what they mean; the guest is behind it by now."""

        def reach(self, where: int | str) -> None:
            """Runs to an address, or to a function of that name.  Raises EmuError where it ends before."""

        def step(self) -> str:
            """Executes one instruction; returns why it cannot, or why the guest has ended."""

        def memory(self, other: Side) -> tuple[int, bytes, bytes] | None:
            """The first address where the other's memory differs, and some bytes of both."""

        def agree(self, other: Side) -> None:
            """Has the other begin with what this one has."""


# Instructions that are shown before the one that made the difference.
TRAIL = 6
REPEATED = 1 << 24
# Instructions that one step of KVM's may take along.
ALONG = 16


class Difference:
    """The first one.

    number: of the instruction, from 1 on; address, code, text: where it is, its bytes and what they mean;
    before: registers before it, by name; first, second: those that differ after it, on each side; trail:
    addresses and texts of the instructions that led there; why: one line, or "".
    """

    def __init__(
        self,
        number: int,
        address: int,
        code: bytes,
        text: str,
        before: dict[str, int],
        first: dict[str, int],
        second: dict[str, int],
        trail: list[tuple[int, str]],
        why: str,
    ) -> None:
        self.number = number
        self.address = address
        self.code = code
        self.text = text
        self.before = before
        self.first = first
        self.second = second
        self.trail = trail
        self.why = why


class Found:
    """What lockstep() found: whether all was the same (true as a condition), and how far it went.

    names: of the sides; count: instructions executed; end: why it ended; difference: the first, or None.
    """

    def __init__(self, names: tuple[str, str], count: int, end: str, difference: Difference | None) -> None:
        self.names = names
        self.count = count
        self.end = end
        self.difference = difference

    def __bool__(self) -> bool:
        return self.difference is None

    def __str__(self) -> str:
        from emu.diff.text import describe

        return describe(self)


def lockstep(
    first: Machine,
    second: Machine,
    *,
    start: int | str | None = None,
    count: int | None = None,
    adopt: Iterable[str] = (),
    ignore: Iterable[str] = (),
    everything: bool = False,
) -> Found:
    """Executes the same guest on two machines, an instruction on each, up to the first difference.

    They have one CPU each, and stand: before their start, or at the same place where on_address has stopped
    them.  No interrupts come, and no timer passes.  Hooks on addresses are called.

    start: an address, or a function's name, to which both run at their own speed first; count: at most so
    many instructions; adopt: mnemonics of instructions whose results the second takes from
    the first, as they come from outside ("rdtsc", "cpuid", "mrs"); ignore: registers that are not compared;
    everything: floating-point, vector and system registers are.  x86's flags are not compared behind an
    instruction that leaves them undefined.  Raises an EmuError.
    """
    from emu.diff.machines import MachineSide

    sides = MachineSide(first, everything), MachineSide(second, everything)
    return Lockstep(*sides, count, frozenset(adopt), frozenset(ignore)).run(start)


class Lockstep:
    """A comparison under way."""

    def __init__(
        self, first: Side, second: Side, count: int | None, adopt: frozenset[str], ignore: frozenset[str]
    ) -> None:
        if first.arch is not second.arch:
            raise EmuError(f"an {first.arch.name} and an {second.arch.name} guest cannot be compared")
        self.first, self.second = first, second
        self.limit = count
        self.adopt = adopt
        unknown = ignore - {*first.names, *second.names}
        if unknown:
            raise EmuError(f"{', '.join(sorted(unknown))} is no register that is compared; leave it out")
        self.names = tuple(name for name in first.names if name in second.names)
        self.kept = tuple(name not in ignore for name in self.names)
        self.count = 0
        self.trail: deque[int] = deque(maxlen=TRAIL)

    def run(self, start: int | str | None = None) -> Found:
        first, second = self.first, self.second
        first.agree(second)
        if start is not None:
            first.reach(start)
            second.reach(start)
        before, there = self._states()
        if before != there:
            return self._found("", self._differ(0, before, before, there, "they begin differently"))
        while self.limit is None or self.count < self.limit:
            pc = before[0]
            ends = first.step(), second.step()
            self.count += 1
            self.trail.append(pc)
            if ends[0] or ends[1]:
                if ends[0] != ends[1]:
                    why = "; ".join(
                        f"{side.name}: {end or 'goes on'}"
                        for side, end in zip((first, second), ends, strict=True)
                    )
                    return self._found("", self._differ(pc, before, before, before, why))
                return self._ended(ends[0], before)
            after, there = self._states()
            if after == there == before:
                return self._ended("it does nothing any more", before)
            if after != there:
                after, there = self._settled(pc, after, there)
                if after != there:
                    return self._found("", self._differ(pc, before, after, there, ""))
            before = after
        return self._ended(f"{self.limit} instructions were asked for", before)

    def _states(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        pair = []
        for side in (self.first, self.second):
            values = side.state()
            if side.names != self.names or not all(self.kept):
                known = dict(zip(side.names, values, strict=True))
                values = tuple(
                    known[name] if keep else 0 for name, keep in zip(self.names, self.kept, strict=True)
                )
            pair.append(values)
        return pair[0], pair[1]

    def _settled(
        self, pc: int, after: tuple[int, ...], there: tuple[int, ...]
    ) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The states, when what may differ has been made the same."""
        code, text = self.first.instruction(pc)
        words = text.split()
        if words[:1] and words[0].startswith("rep") and pc in (after[0], there[0]):
            # An engine's step is one turn of it, or all.
            for side, at in ((self.first, after[0]), (self.second, there[0])):
                turns = 0
                while at == pc and turns < REPEATED and not side.step():
                    at = side.state()[0]
                    turns += 1
            after, there = self._states()
        elif after[0] != there[0] and self._went_on(pc + len(code), after[0], there[0]):
            one, two = self._states()
            if one == two:
                return one, two
        mnemonic = next((word for word in words if not word.startswith(("rep", "lock"))), "")
        if after != there and mnemonic in self.adopt:
            self.second.set(self._values(after, there))
            return after, after
        if after != there and self.first.arch.name == "x86_64":
            open_flags = undefined(mnemonic)
            flags = self.names.index("eflags")
            if open_flags and (after[flags] ^ there[flags]) & ~open_flags == 0:
                self.second.set({"eflags": after[flags]})
                there = (*there[:flags], after[flags], *there[flags + 1 :])
        return after, there

    def _went_on(self, behind: int, one: int, two: int) -> bool:
        """Lets the other side follow where KVM's step has taken the next instructions along; whether it can.

        It does so behind one that waits for its device's answer (IN and OUT), or holds traps off (MOV SS).
        """
        if two == behind and self.first.name == "kvm":
            side, at, end = self.second, two, one
        elif one == behind and self.second.name == "kvm":
            side, at, end = self.first, one, two
        else:
            return False
        turns = 0
        while at != end and turns < ALONG:
            self.trail.append(at)
            if side.step():
                return False
            at = side.state()[0]
            turns += 1
        self.count += turns
        return at == end

    def _values(self, after: tuple[int, ...], there: tuple[int, ...]) -> dict[str, int]:
        pairs = zip(self.names, after, there, strict=True)
        return {name: value for name, value, other in pairs if value != other}

    def _ended(self, end: str, before: tuple[int, ...]) -> Found:
        found = self.first.memory(self.second)
        if found is None:
            return self._found(end, None)
        address, one, two = found
        why = f"memory differs at {address:#x}: {one.hex(' ')} and {two.hex(' ')}, registers do not"
        return self._found(end, self._differ(before[0], before, before, before, why))

    def _found(self, end: str, difference: Difference | None) -> Found:
        return Found((self.first.name, self.second.name), self.count, end, difference)

    def _differ(
        self, pc: int, before: tuple[int, ...], after: tuple[int, ...], there: tuple[int, ...], why: str
    ) -> Difference:
        code, text = self.first.instruction(pc) if self.count else (b"", "")
        first, second = {}, {}
        for name, one, two in zip(self.names, after, there, strict=True):
            if one != two:
                first[name], second[name] = one, two
        trail = [(at, self.first.instruction(at)[1]) for at in list(self.trail)[:-1]]
        values = dict(zip(self.names, before, strict=True))
        return Difference(self.count, pc, code, text, values, first, second, trail, why)
