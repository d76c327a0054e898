"""The XSAVE area: x87, SSE, AVX, AVX-512 and protection-key state by register name.

A component whose bit in XSTATE_BV is clear is in its initial state; its bytes mean nothing.

Source: Intel SDM vol. 1, 10.5 and 13.4.
"""

from __future__ import annotations

from collections.abc import Iterator

SIZE = 4096

X87, SSE, AVX, OPMASK, ZMM_HIGH, ZMM_16, PKRU = 0, 1, 2, 5, 6, 7, 9

XSTATE_BV = 512
MXCSR_RESET = 0x1F80
MXCSR_MASK = 0xFFFF
FCW_RESET = 0x37F

# Fields of the legacy region: offset and bytes.  FTW is abridged there, one bit a register.
_LEGACY = {
    "fctrl": (0, 2),
    "fstat": (2, 2),
    "fop": (6, 2),
    "fioff": (8, 4),
    "fiseg": (12, 4),
    "fooff": (16, 4),
    "foseg": (20, 4),
}
_FTW = 4
_MXCSR = 24
_ST = 32
_XMM = 160


CONTROL = ("fctrl", "fstat", "ftag", "fop", "fioff", "fiseg", "fooff", "foseg", "mxcsr")


def is_name(name: str) -> bool:
    """Whether a register of that name could be part of an XSAVE area."""
    return name in CONTROL or name == "pkru" or name.rstrip("0123456789") in ("st", "k", "xmm", "ymm", "zmm")


def layout(leaves: dict[tuple[int, int], list[int]]) -> dict[int, tuple[int, int]]:
    """Offset and size of each component beyond x87 and SSE, from CPUID leaf 0DH."""
    return {
        index: (values[2], values[1])
        for (function, index), values in leaves.items()
        if function == 0xD and index >= 2 and values[1] and values[2] and values[2] + values[1] <= SIZE
    }


class Xsave:
    """An XSAVE area of 4096 bytes, standard format.  `places`: what layout() gave."""

    def __init__(self, places: dict[int, tuple[int, int]], data: bytes | None = None) -> None:
        self.places = places
        self.data = bytearray(data if data is not None else SIZE)
        if data is None:
            self._start(X87)
            self._start(SSE)

    def _in_use(self, component: int) -> bool:
        return bool(self._number(XSTATE_BV, 8) >> component & 1)

    def _start(self, component: int) -> None:
        """Puts a component in use, in its initial state."""
        if self._in_use(component):
            return
        self._store(XSTATE_BV, 8, self._number(XSTATE_BV, 8) | 1 << component)
        if component == X87:
            self.data[0:_MXCSR] = bytes(_MXCSR)
            self.data[_ST:_XMM] = bytes(_XMM - _ST)
            self._store(0, 2, FCW_RESET)
        elif component == SSE:
            self.data[_XMM : _XMM + 256] = bytes(256)
            if not self._in_use(AVX):
                self._store(_MXCSR, 4, MXCSR_RESET)
        else:
            offset, size = self.places[component]
            self.data[offset : offset + size] = bytes(size)

    def _number(self, offset: int, size: int) -> int:
        return int.from_bytes(self.data[offset : offset + size], "little")

    def _store(self, offset: int, size: int, value: int) -> None:
        self.data[offset : offset + size] = (value & (1 << 8 * size) - 1).to_bytes(size, "little")

    def _parts(self, name: str) -> list[tuple[int, int, int, int]] | None:
        """Where a register lies: (component, offset, bytes, shift in bits) for each part; None: not here."""
        if name in _LEGACY:
            return [(X87, *_LEGACY[name], 0)]
        if name == "mxcsr":
            return [(SSE, _MXCSR, 4, 0)]
        if name == "pkru":
            return [(PKRU, self.places[PKRU][0], 4, 0)] if PKRU in self.places else None
        if name.startswith("ymm") and name.endswith("h"):  # GDB's: the upper half alone
            number = int(name[3:-1])
            return [(AVX, self.places[AVX][0] + 16 * number, 16, 0)] if AVX in self.places else None
        kind, digits = name.rstrip("0123456789"), name[len(name.rstrip("0123456789")) :]
        if not digits:
            return None
        number = int(digits)
        if kind == "st" and number < 8:
            return [(X87, _ST + 16 * number, 10, 0)]
        if kind == "k" and number < 8 and OPMASK in self.places:
            return [(OPMASK, self.places[OPMASK][0] + 8 * number, 8, 0)]
        if kind not in ("xmm", "ymm", "zmm") or number > 31:
            return None
        if number > 15:
            if ZMM_16 not in self.places:
                return None
            width = {"xmm": 16, "ymm": 32, "zmm": 64}[kind]
            return [(ZMM_16, self.places[ZMM_16][0] + 64 * (number - 16), width, 0)]
        parts = [(SSE, _XMM + 16 * number, 16, 0)]
        for wanted, component, step in (("ymm zmm", AVX, 16), ("zmm", ZMM_HIGH, 32)):
            if kind in wanted:
                if component not in self.places:
                    return None
                parts.append((component, self.places[component][0] + step * number, step, 8 * step))
        return parts

    def get(self, name: str) -> int:
        """A register's value; raises KeyError where it is not part of this area."""
        if name == "ftag":
            return self._full_tag() if self._in_use(X87) else 0xFFFF
        parts = self._parts(name)
        if parts is None:
            raise KeyError(name)
        value = 0
        for component, offset, size, shift in parts:
            in_use = self._in_use(component) or (name == "mxcsr" and self._in_use(AVX))
            if in_use:
                value |= self._number(offset, size) << shift
            elif name == "mxcsr":
                value = MXCSR_RESET
            elif name == "fctrl":
                value = FCW_RESET
        return value

    def set(self, name: str, value: int) -> None:
        """Sets a register; raises KeyError where it is not part of this area."""
        if name == "ftag":
            self._start(X87)
            self._store(_FTW, 1, sum(1 << n for n in range(8) if value >> 2 * n & 3 != 3))
            return
        parts = self._parts(name)
        if parts is None:
            raise KeyError(name)
        for component, offset, size, shift in parts:
            self._start(component)
            self._store(offset, size, value >> shift)
        if name == "mxcsr":
            # A reserved bit would make KVM refuse the whole area.
            self._store(_MXCSR, 4, value & MXCSR_MASK)

    def names(self) -> Iterator[str]:
        """The registers that make up the state: everything once, vectors in the widest form in use."""
        yield from CONTROL
        yield from (f"st{n}" for n in range(8))
        wide = "ymm" if self._in_use(AVX) else "xmm"
        if self._in_use(ZMM_HIGH) and ZMM_HIGH in self.places:
            wide = "zmm"
        yield from (f"{wide}{n}" for n in range(16))
        if ZMM_16 in self.places and self._in_use(ZMM_16):
            yield from (f"zmm{n}" for n in range(16, 32))
        if OPMASK in self.places and self._in_use(OPMASK):
            yield from (f"k{n}" for n in range(8))
        if PKRU in self.places and self._in_use(PKRU):
            yield "pkru"

    def _full_tag(self) -> int:
        """The x87 tag word, two bits a register: 0 valid, 1 zero, 2 special, 3 empty (SDM vol. 1, 8.1.7)."""
        abridged = self._number(_FTW, 1)
        top = self._number(2, 2) >> 11 & 7
        tags = 0
        for physical in range(8):
            tag = 3
            if abridged >> physical & 1:
                value = self._number(_ST + 16 * ((physical - top) % 8), 10)
                exponent, mantissa = value >> 64 & 0x7FFF, value & (1 << 64) - 1
                if exponent == 0:
                    tag = 1 if mantissa == 0 else 2
                else:
                    tag = 0 if exponent != 0x7FFF and mantissa >> 63 else 2
            tags |= tag << 2 * physical
        return tags
