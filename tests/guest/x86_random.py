"""Random sequences of x86-64 user instructions whose every outcome the manual defines.

A flag that an instruction leaves undefined is not read before another sets it, and is not compared if it is
undefined at the end (Intel SDM volume 2, "Flags Affected").  Nothing faults: addresses go through r14,
divisors are odd, and the stack is balanced.
"""

from __future__ import annotations

from random import Random

from tests.guest.x86 import ARITHMETIC_FLAGS, DATA_SIZE, REGISTERS, Case

CF, PF, AF, ZF, SF, OF = 0x1, 0x4, 0x10, 0x40, 0x80, 0x800
ALL = CF | PF | AF | ZF | SF | OF
RSP, R14 = 4, 14
FREE = [n for n in range(16) if n not in (RSP, R14)]
SIZES = (8, 16, 32, 64)
# what a condition reads, by its number / 2: O B Z BE S P L LE
CONDITION = (OF, CF, ZF, CF | ZF, SF, PF, SF | OF, ZF | SF | OF)

PACKED = (
    [0x60 + n for n in range(12)]  # unpack low, pack, compare, unpack high
    + [0x6C, 0x6D, 0x74, 0x75, 0x76]
    + [0xD1, 0xD2, 0xD3, 0xD4, 0xD5, 0xD8, 0xD9, 0xDA, 0xDB, 0xDC, 0xDD, 0xDE, 0xDF]
    + [0xE0, 0xE1, 0xE2, 0xE3, 0xE4, 0xE5, 0xE8, 0xE9, 0xEA, 0xEB, 0xEC, 0xED, 0xEE, 0xEF]
    + [0xF1, 0xF2, 0xF3, 0xF4, 0xF5, 0xF6, 0xF8, 0xF9, 0xFA, 0xFB, 0xFC, 0xFD, 0xFE]
    + [0x14, 0x15, 0x54, 0x55, 0x56, 0x57]
)
FLOAT = (0x51, 0x58, 0x59, 0x5C, 0x5D, 0x5E, 0x5F)  # sqrt add mul sub min div max


class Writer:
    """Appends instructions and keeps account of which flags are undefined."""

    def __init__(self, chance: Random) -> None:
        self.chance = chance
        self.code = bytearray()
        self.undefined = 0

    # -- encoding --------------------------------------------------------------------

    def op(
        self, size: int, opcode: bytes, reg: int, rm: int, *, prefix: bytes = b"", memory: int | None = None
    ):
        """An instruction with a ModRM byte: registers, or [r14 + memory] in the place of rm."""
        if size == 16:
            self.code += b"\x66"
        self.code += prefix
        rex = (size == 64) << 3 | (reg > 7) << 2
        if memory is None:
            rex |= rm > 7
            tail = bytes([0xC0 | (reg & 7) << 3 | rm & 7])
        else:
            rex |= 1
            tail = bytes([0x40 | (reg & 7) << 3 | R14 & 7, memory & 0xFF])
        if rex or size == 8:
            self.code.append(0x40 | rex)
        self.code += opcode + tail

    def flags(self, *, sets: int = ALL, leaves_undefined: int = 0) -> None:
        self.undefined = self.undefined & ~sets | leaves_undefined

    def needs(self, flags: int) -> None:
        """Makes flags defined that the next instruction reads."""
        if self.undefined & flags:
            self.op(64, b"\x39", self.any(), self.any())  # cmp
            self.flags()

    def any(self) -> int:
        return self.chance.choice(FREE)

    def place(self) -> int | None:
        """Memory, one time in three."""
        return (
            self.chance.randrange(-DATA_SIZE // 2, DATA_SIZE // 2 - 16)
            if self.chance.random() < 0.3
            else None
        )

    # -- instructions ----------------------------------------------------------------

    def alu(self) -> None:
        number, size = self.chance.randrange(8), self.chance.choice(SIZES)
        if number in (2, 3):
            self.needs(CF)
        memory = self.place()
        prefix = b""
        direction = self.chance.choice((0, 2))
        if memory is not None and direction == 0 and number != 7 and self.chance.random() < 0.3:
            prefix = b"\xf0"
        opcode = number * 8 + (size != 8) + direction
        self.op(size, bytes([opcode]), self.any(), self.any(), memory=memory, prefix=prefix)
        self.flags(leaves_undefined=AF if number in (1, 4, 6) else 0)

    def alu_immediate(self) -> None:
        number, size = self.chance.randrange(8), self.chance.choice(SIZES)
        if number in (2, 3):
            self.needs(CF)
        self.op(size, b"\x80" if size == 8 else b"\x83", number, self.any(), memory=self.place())
        self.code.append(self.chance.randrange(256))
        self.flags(leaves_undefined=AF if number in (1, 4, 6) else 0)

    def test(self) -> None:
        size = self.chance.choice(SIZES)
        self.op(size, bytes([0x84 + (size != 8)]), self.any(), self.any(), memory=self.place())
        self.flags(leaves_undefined=AF)

    def one_operand(self) -> None:
        size, number = self.chance.choice(SIZES), self.chance.randrange(4)
        memory = self.place()
        if number < 2:  # inc, dec
            self.op(size, bytes([0xFE + (size != 8)]), number, self.any(), memory=memory)
            self.flags(sets=ALL & ~CF)
        else:  # not, neg
            self.op(size, bytes([0xF6 + (size != 8)]), number, self.any(), memory=memory)
            if number == 3:
                self.flags()

    def shift(self) -> None:
        size = self.chance.choice(SIZES)
        number = self.chance.choice((0, 1, 2, 3, 4, 5, 7))
        if number in (2, 3):
            self.needs(CF)
        count = self.chance.choice((1, self.chance.randrange(1, min(size, 32))))
        self.op(size, bytes([0xC0 + (size != 8)]), number, self.any(), memory=self.place())
        self.code.append(count)
        self._shifted(number, count)

    def _shifted(self, number: int, count: int | None) -> None:
        overflow = 0 if count == 1 else OF
        if number < 4:  # rotations
            self.flags(sets=(CF | OF) if count else 0, leaves_undefined=overflow)
        else:
            self.flags(sets=ALL if count else 0, leaves_undefined=overflow | AF)

    def shift_by_cl(self) -> None:
        size, number = self.chance.choice((32, 64)), self.chance.choice((0, 1, 2, 3, 4, 5, 7))
        if number in (2, 3):
            self.needs(CF)
        self.op(size, b"\xd3", number, self.any(), memory=self.place())
        self._shifted(number, None)

    def double_shift(self) -> None:
        size = self.chance.choice((32, 64))
        count = self.chance.randrange(1, size if size == 32 else 64)
        self.op(
            size, self.chance.choice((b"\x0f\xa4", b"\x0f\xac")), self.any(), self.any(), memory=self.place()
        )
        self.code.append(count)
        self.flags(leaves_undefined=(OF if count != 1 else 0) | AF)

    def multiply(self) -> None:
        kind, size = self.chance.randrange(3), self.chance.choice((16, 32, 64))
        if kind == 0:
            self.op(size, b"\x0f\xaf", self.any(), self.any(), memory=self.place())
        elif kind == 1:
            self.op(size, b"\x6b", self.any(), self.any(), memory=self.place())
            self.code.append(self.chance.randrange(256))
        else:
            size = self.chance.choice(SIZES)
            number = self.chance.choice((4, 5))
            self.op(size, bytes([0xF6 + (size != 8)]), number, self.any(), memory=self.place())
        self.flags(leaves_undefined=SF | ZF | AF | PF)

    def divide(self) -> None:
        size = self.chance.choice((32, 64))
        divisor = self.chance.choice([n for n in FREE if n not in (0, 2)])
        self.op(32, b"\x31", 2, 2)  # xor edx, edx
        self.op(size, b"\x83", 1, divisor)  # or divisor, 1
        self.code.append(1)
        self.op(size, b"\xf7", 6, divisor)
        self.flags(leaves_undefined=ALL)

    def bit(self) -> None:
        size = self.chance.choice((16, 32, 64))
        opcode = self.chance.choice((0xA3, 0xAB, 0xB3, 0xBB))
        self.op(size, bytes([0x0F, opcode]), self.any(), self.any())
        self.flags(sets=CF, leaves_undefined=OF | SF | AF | PF)

    def scan(self) -> None:
        size, source = self.chance.choice((16, 32, 64)), self.any()
        self.op(size, b"\x83", 1, source)  # or source, 64: not zero
        self.code.append(0x40)
        self.op(size, self.chance.choice((b"\x0f\xbc", b"\x0f\xbd")), self.any(), source)
        self.flags(leaves_undefined=ALL & ~ZF)

    def condition(self) -> None:
        number = self.chance.randrange(16)
        self.needs(CONDITION[number // 2])
        if self.chance.random() < 0.5:
            self.op(8, bytes([0x0F, 0x90 + number]), 0, self.any(), memory=self.place())
        else:
            size = self.chance.choice((16, 32, 64))
            self.op(size, bytes([0x0F, 0x40 + number]), self.any(), self.any(), memory=self.place())

    def branch(self) -> None:
        number = self.chance.randrange(16)
        self.needs(CONDITION[number // 2])
        before = self.undefined
        at = len(self.code)
        self.code += bytes([0x70 + number, 0])
        self.chance.choice((self.alu, self.move, self.shift, self.vector))()
        self.code[at + 1] = len(self.code) - at - 2
        self.undefined |= before

    def move(self) -> None:
        kind = self.chance.randrange(5)
        if kind == 0:
            size = self.chance.choice(SIZES)
            opcode = self.chance.choice((0x88, 0x8A)) + (size != 8)
            self.op(size, bytes([opcode]), self.any(), self.any(), memory=self.place())
        elif kind == 1:  # movzx, movsx
            size = self.chance.choice((32, 64))
            self.op(size, bytes([0x0F, self.chance.choice((0xB7, 0xBF))]), self.any(), self.any())
        elif kind == 2:
            # of a byte: REX, so that the low byte of any register is meant
            reg, rm = self.any(), self.any()
            self.code.append(0x48 | (reg > 7) << 2 | (rm > 7))
            self.code += bytes([0x0F, self.chance.choice((0xB6, 0xBE)), 0xC0 | (reg & 7) << 3 | rm & 7])
        elif kind == 3:
            self.op(64, b"\x63", self.any(), self.any(), memory=self.place())
        else:
            self.op(64, b"\x8d", self.any(), self.any(), memory=self.chance.randrange(-128, 128))

    def exchange(self) -> None:
        size, kind = self.chance.choice(SIZES), self.chance.randrange(3)
        memory = self.place()
        if kind == 2 and size == 32 and memory is None:
            size = 64  # tcg is wrong here: test_x86_instructions.py says how
        lock = b"\xf0" if memory is not None and self.chance.random() < 0.5 else b""
        opcode = (b"\x86", b"\x0f\xc0", b"\x0f\xb0")[kind]
        opcode = opcode[:-1] + bytes([opcode[-1] + (size != 8)])
        self.op(size, opcode, self.any(), self.any(), memory=memory, prefix=lock)
        if kind:
            self.flags()

    def reverse(self) -> None:
        reg, wide = self.any(), self.chance.choice((0, 8))
        self.code += bytes([0x40 | wide | (reg > 7), 0x0F, 0xC8 | reg & 7])

    def stack(self) -> None:
        for opcode in (0x50, 0x58):
            reg = self.any()
            self.code += bytes([0x40 | (reg > 7), opcode | reg & 7])

    def extend(self) -> None:
        self.code += self.chance.choice(
            (b"\x98", b"\x66\x98", b"\x48\x98", b"\x99", b"\x66\x99", b"\x48\x99")
        )

    def flag_register(self) -> None:
        kind = self.chance.randrange(5)
        if kind == 0:
            self.needs(CF)
            self.code += b"\xf5"  # cmc
        elif kind < 3:
            self.code += (b"\xf8", b"\xf9")[kind - 1]  # clc, stc
            self.flags(sets=CF)
        elif kind == 3:
            self.needs(ALL & ~OF)
            self.code += b"\x9f"  # lahf
        else:
            self.code += b"\x9e"  # sahf
            self.flags(sets=ALL & ~OF)

    def string(self) -> None:
        kind = self.chance.choice((0xA4, 0xAA, 0xA6, 0xAE, 0xAC))  # movs stos cmps scas lods
        size = self.chance.choice(SIZES)
        self.op(64, b"\x8d", 6, 0, memory=-128)  # lea rsi, [r14 - 128]
        self.op(64, b"\x8d", 7, 0, memory=self.chance.randrange(-120, 0))  # lea rdi, [r14 + d]
        self.code += b"\xb9" + self.chance.randrange(1, 12).to_bytes(4, "little")  # mov ecx, n
        if kind != 0xAC:
            self.code += self.chance.choice((b"\xf3", b"\xf2")) if kind in (0xA6, 0xAE) else b"\xf3"
        if size == 16:
            self.code += b"\x66"
        elif size == 64:
            self.code += b"\x48"
        self.code.append(kind + (size != 8))
        if kind in (0xA6, 0xAE):
            self.flags()

    def vector(self) -> None:
        kind, chance = self.chance.randrange(8), self.chance
        reg, rm = chance.randrange(16), chance.randrange(16)
        if kind < 3:
            self._sse(b"\x66", chance.choice(PACKED), reg, rm)
        elif kind == 3:
            self._sse(chance.choice((b"\x66", b"\xf2", b"\xf3")), 0x70, reg, rm)
            self.code.append(chance.randrange(256))
        elif kind == 4:
            self._finite(reg, rm)
            self._sse(chance.choice((b"\x66", b"\xf2", b"\xf3", b"")), chance.choice(FLOAT), reg, rm)
        elif kind == 5:  # cvtsi2sd, cvttsd2si, cvtsd2si
            opcode = chance.choice((0x2A, 0x2C, 0x2D))
            general = self.any()
            pair = (reg, general) if opcode == 0x2A else (general, rm)
            self._sse(b"\xf2", opcode, *pair, wide=chance.random() < 0.5)
        elif kind == 6:  # movq both ways
            opcode = chance.choice((0x6E, 0x7E))
            self._sse(b"\x66", opcode, reg, self.any(), wide=True)
        else:  # ucomisd, comisd, ucomiss, comiss
            self._sse(chance.choice((b"\x66", b"")), chance.choice((0x2E, 0x2F)), reg, rm)
            self.flags()

    def _finite(self, reg: int, rm: int) -> None:
        """Makes the second operand a number: of two NaNs tcg takes the larger, the processor the first."""
        general, mask = self.any(), self.chance.choice([n for n in range(16) if n not in (reg, rm)])
        self.code += bytes([0x48 | (general > 7), 0xB8 | general & 7]) + b"\xff\xff\xff\xbf" * 2
        self._sse(b"\x66", 0x6E, mask, general, wide=True)  # movq
        self._sse(b"\x66", 0x6C, mask, mask)  # punpcklqdq
        self._sse(b"", 0x54, rm, mask)  # andps: exponents below all ones

    def _sse(self, prefix: bytes, opcode: int, reg: int, rm: int, *, wide: bool = False) -> None:
        self.code += prefix
        rex = wide << 3 | (reg > 7) << 2 | (rm > 7)
        if rex:
            self.code.append(0x40 | rex)
        self.code += bytes([0x0F, opcode, 0xC0 | (reg & 7) << 3 | rm & 7])


KINDS = (
    Writer.alu, Writer.alu, Writer.alu_immediate, Writer.test, Writer.one_operand, Writer.shift,
    Writer.shift_by_cl, Writer.double_shift, Writer.multiply, Writer.divide, Writer.bit, Writer.scan,
    Writer.condition, Writer.branch, Writer.move, Writer.move, Writer.exchange, Writer.reverse, Writer.stack,
    Writer.extend, Writer.flag_register, Writer.string, Writer.vector, Writer.vector, Writer.vector,
)  # fmt: skip


def number(chance: Random) -> int:
    """64 bits: anything, or one of the numbers where carries and signs turn."""
    edge = 1 << chance.choice((7, 8, 15, 16, 31, 32, 63))
    return chance.choice(
        (
            chance.getrandbits(64),
            chance.getrandbits(8),
            edge,
            edge - 1,
            -edge & (1 << 64) - 1,
            0,
            (1 << 64) - 1,
        )
    )


def double(chance: Random) -> int:
    """64 bits that are often an ordinary double, sometimes zero, infinite, tiny or no number at all."""
    kind = chance.randrange(8)
    if kind < 5:
        exponent = chance.randrange(1023 - 40, 1023 + 40)
    elif kind == 5:
        return number(chance)
    else:
        exponent = chance.choice((0, 1, 0x7FE, 0x7FF))
    return chance.getrandbits(1) << 63 | exponent << 52 | chance.choice((0, chance.getrandbits(52)))


def case(seed: int) -> tuple[Case, int]:
    """The case of a seed, and the flags that are defined at its end."""
    chance = Random(seed)
    writer = Writer(chance)
    for _ in range(chance.randrange(1, 14)):
        chance.choice(KINDS)(writer)
    registers = {name: number(chance) for name in REGISTERS if name not in ("rsp", "r14")}
    made = Case(
        bytes(writer.code),
        registers,
        flags=chance.getrandbits(12) & ARITHMETIC_FLAGS,
        vectors=[double(chance) | double(chance) << 64 for _ in range(16)],
        data=chance.randbytes(DATA_SIZE),
    )
    return made, ARITHMETIC_FLAGS & ~writer.undefined
