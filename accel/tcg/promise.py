"""What another engine told a guest of its CPU and Unicorn lacks: the host's CPU does it (native/cross.c)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from accel.crossings import Crossings
from accel.native import ffi, lib

AREA = 4096
COMPONENTS = 32


class Promise:
    """Kept for a machine of Unicorn's until close(), which comes before the machine's end.

    rows: the `cpuid` of accel.kvm.state.
    """

    def __init__(self, pointer: Any, rows: Sequence[Sequence[int]]) -> None:
        from accel.kvm import cpuid

        self._pointer = pointer
        self.rows = rows
        leaves = {(leaf, subleaf): list(values) for leaf, subleaf, *values in rows}
        table = cpuid.packed(cpuid.after_a_move(leaves))
        lib.emu_cross_cpuid(pointer, ffi.from_buffer(table), len(table))
        place = ffi.new("uint32_t[2]")
        self._places = {
            number: (place[0], place[1])
            for number in range(COMPONENTS)
            if lib.emu_cross_component(number, place, place + 1) == 0
        }

    @classmethod
    def make(cls, machine: Any, memory: Any, rows: Sequence[Sequence[int]]) -> Promise | None:
        """None: not on this host."""
        pointer = lib.emu_cross_adopt(machine, memory)
        return cls(pointer, rows) if pointer != ffi.NULL else None

    def load(self, state: dict[str, Any]) -> None:
        """Takes what is wide out of a state; what remains of vectors are xmm0 to xmm15."""
        from accel.kvm.xsave import Xsave

        area = Xsave(self._places)
        for name in [name for name in state if _is_wide(name)]:
            try:
                area.set(name, state[name])
            except KeyError:
                continue  # nothing of this host's
            value = state.pop(name)
            if name[:3] in ("ymm", "zmm") and int(name[3:]) < 16:
                state[f"xmm{name[3:]}"] = value & (1 << 128) - 1
        self._buffer()[:] = bytes(area.data)
        lib.emu_cross_cr4(self._pointer, state.get("cr4", 0))

    def save(self, state: dict[str, Any]) -> None:
        """Makes the vectors of a state as wide as they are."""
        from accel.kvm.xsave import Xsave

        area = Xsave(self._places, bytes(self._buffer()))
        for name in filter(_is_wide, list(area.names())):
            state[name] = area.get(name)
            low = f"xmm{name[3:]}"
            if low in state:
                state[name] = state[name] >> 128 << 128 | state.pop(low)

    def crossings(self) -> Crossings:
        """How often the host's CPU did what."""
        out = ffi.new("emu_cross_counts *")
        lib.emu_cross_get_counts(self._pointer, out)
        return Crossings(out)

    def _buffer(self) -> Any:
        return ffi.buffer(lib.emu_cross_xsave(self._pointer), AREA)

    def close(self) -> None:
        """The machine is as it was."""
        lib.emu_cross_free(self._pointer)


def _is_wide(name: str) -> bool:
    kind = name.rstrip("0123456789")
    return kind in ("ymm", "zmm", "k") or name == "pkru" or (kind == "xmm" and int(name[3:]) > 15)
