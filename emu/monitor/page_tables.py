"""The virtual memory that a guest's page tables make: all of it, in ranges, as `info mem` shows.

x86-64 with 4 and 5 levels; AArch64's EL1 with granules of 4 KiB; RISC-V's Sv39 to Sv57.  They are read, never
written, and a guest whose tables have no end of ranges is shown the first ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from emu.monitor.command import CommandError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from accel.memory import AddressSpace

MOST = 4096
# Tables that are read for one answer: a hostile guest's may all point at each other.
MOST_TABLES = 20_000
ENTRIES, PAGE_BITS, INDEX_BITS = 512, 12, 9
ADDRESS = 0x000F_FFFF_FFFF_F000

Leaf = tuple[int, int, str]


class _Walk:
    def __init__(self, memory: AddressSpace) -> None:
        self.memory = memory
        self.left = MOST_TABLES

    def table(self, at: int) -> list[int]:
        """The entries of a table; none where there is no memory."""
        self.left -= 1
        if self.left < 0:
            return []
        data = self.memory.peek(at, 8 * ENTRIES)
        return [int.from_bytes(data[n : n + 8], "little") for n in range(0, len(data) - 7, 8)]


def _x86(walk: _Walk, table: int, level: int, base: int, rights: int) -> Iterator[Leaf]:
    """rights: bit 0 writable, bit 1 the user's, as every level above allows."""
    size = 1 << PAGE_BITS + INDEX_BITS * (level - 1)
    for number, entry in enumerate(walk.table(table)):
        if not entry & 1:
            continue
        at, allowed = base + number * size, rights & (entry >> 1 & 3)
        if level == 1 or (entry & 0x80 and level <= 3):
            yield at, at + size, f"{'u' if allowed & 2 else '-'}r{'w' if allowed & 1 else '-'}"
        else:
            yield from _x86(walk, entry & ADDRESS, level - 1, at, allowed)


def _arm(walk: _Walk, table: int, level: int, base: int) -> Iterator[Leaf]:
    size = 1 << PAGE_BITS + INDEX_BITS * (3 - level)
    for number, entry in enumerate(walk.table(table)):
        if not entry & 1:
            continue
        at = base + number * size
        if level < 3 and entry & 2:
            yield from _arm(walk, entry & 0x0000_FFFF_FFFF_F000, level + 1, at)
        elif (level == 3) == bool(entry & 2):
            yield at, at + size, f"{'u' if entry & 0x40 else '-'}r{'-' if entry & 0x80 else 'w'}"


def _riscv(walk: _Walk, table: int, level: int, base: int) -> Iterator[Leaf]:
    size = 1 << PAGE_BITS + INDEX_BITS * level
    for number, entry in enumerate(walk.table(table)):
        if not entry & 1:
            continue
        at = base + number * size
        if entry & 0xE:
            letters = zip("rwx", (1, 2, 3), strict=True)
            rights = "".join(letter if entry >> bit & 1 else "-" for letter, bit in letters)
            yield at, at + size, f"{'u' if entry & 0x10 else '-'}{rights}"
        elif level > 0:
            yield from _riscv(walk, (entry >> 10 & (1 << 44) - 1) << PAGE_BITS, level - 1, at)


def _leaves(vcpu: Any, arch: str, walk: _Walk) -> Iterator[Leaf]:
    if arch == "x86_64":
        cr0, cr3, cr4, efer = vcpu.get("cr0", "cr3", "cr4", "efer")
        if not cr0 >> 31:
            raise CommandError("PG disabled")
        if not efer & 1 << 10:
            raise CommandError("info mem knows tables of 64-bit mode, and the CPU is not in it; use x and xp")
        levels = 5 if cr4 & 1 << 12 else 4
        yield from _extended(_x86(walk, cr3 & ADDRESS, levels, 0, 3), PAGE_BITS + INDEX_BITS * levels)
    elif arch == "aarch64":
        sctlr, tcr, low, high = vcpu.get("SCTLR_EL1", "TCR_EL1", "TTBR0_EL1", "TTBR1_EL1")
        if not sctlr & 1:
            raise CommandError("the MMU is off: virtual addresses are physical ones")
        # (T0SZ, TG0 for 4 KiB, EPD0), then those of the upper half.
        halves = (
            (low, False, tcr & 63, tcr >> 14 & 3 == 0, tcr >> 7 & 1),
            (high, True, tcr >> 16 & 63, tcr >> 30 & 3 == 2, tcr >> 23 & 1),
        )
        for root, upper, unused, small, off in halves:
            if off:
                continue
            bits = 64 - unused
            if not small or not 25 <= bits <= 48:
                raise CommandError(
                    "info mem knows tables of 4 KiB pages, and the guest has others; use x and xp"
                )
            levels = -(-(bits - PAGE_BITS) // INDEX_BITS)
            base = (1 << 64) - (1 << bits) if upper else 0
            table = root & 0x0000_FFFF_FFFF_F000
            for start, end, rights in _arm(walk, table, 4 - levels, 0):
                if start < 1 << bits:
                    yield base + start, base + end, rights
    elif arch == "riscv64":
        (satp,) = vcpu.get("satp")
        mode = satp >> 60
        if mode not in (8, 9, 10):
            raise CommandError("no page table is in force: virtual addresses are physical ones")
        levels = mode - 5
        root = (satp & (1 << 44) - 1) << PAGE_BITS
        yield from _extended(_riscv(walk, root, levels - 1, 0), PAGE_BITS + INDEX_BITS * levels)
    else:
        raise CommandError(f"info mem does not know {arch}'s tables; use x and xp")


def _extended(leaves: Iterator[Leaf], bits: int) -> Iterator[Leaf]:
    """Addresses of the upper half with their sign extended."""
    top = (1 << 64) - (1 << bits)
    for start, end, rights in leaves:
        upper = top if start >> (bits - 1) else 0
        yield start + upper, end + upper, rights


def ranges(vcpu: Any, arch: str, memory: AddressSpace) -> list[Leaf]:
    """First address, the one behind the last, and rights of each range.  Raises CommandError."""
    found: list[Leaf] = []
    for start, end, rights in _leaves(vcpu, arch, _Walk(memory)):
        if found and found[-1][1] == start and found[-1][2] == rights:
            found[-1] = (found[-1][0], end, rights)
        elif len(found) < MOST:
            found.append((start, end, rights))
        else:
            break
    return found
