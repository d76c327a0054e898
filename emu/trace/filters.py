"""What of all that runs is wanted: by address, symbol, thread and device."""

from __future__ import annotations

from accel.errors import EmuError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from emu.trace.record import Ring
    from emu.trace.symbols import Space


def address_range(words: str) -> tuple[int, int]:
    """`A-B`: from A to before B; `A`: that address alone.  Both hexadecimal with 0x, or decimal."""
    first, dash, last = words.partition("-")
    try:
        start = int(first, 0)
        end = int(last, 0) if dash else start + 1
    except ValueError:
        raise EmuError(f"--address {words} is no range; write it as 0x400000-0x401000") from None
    if not 0 <= start < end <= 1 << 64:
        raise EmuError(f"--address {words} is empty; its end comes after its start, as in 0x400000-0x401000")
    return start, end


class Filters:
    """addresses, symbols: instructions and blocks there alone; threads: by their number, from 1 on, in the
    order of their appearance; devices: accesses and interrupts of these.  None of a kind: all."""

    def __init__(
        self,
        addresses: Sequence[str] = (),
        symbols: Sequence[str] = (),
        threads: Sequence[int] = (),
        devices: Sequence[str] = (),
    ) -> None:
        self.addresses = [address_range(words) for words in addresses]
        self.symbols = frozenset(symbols)
        self.threads = frozenset(threads)
        self.devices = tuple(devices)
        self.found: set[str] = set()  # symbols that were anywhere
        for number in threads:
            if number < 1:
                raise EmuError(f"--thread {number}: threads are counted from 1, the program's first")

    @property
    def places(self) -> bool:
        """Whether instructions of certain places alone are wanted."""
        return bool(self.addresses or self.symbols)

    def begin(self, ring: Ring) -> None:
        if self.places:
            ring.only()
        for start, end in self.addresses:
            ring.range(start, end)

    def mapped(self, ring: Ring, space: Space) -> None:
        """The process has mapped code: where the symbols are now."""
        for name in self.symbols:
            for start, end in space.places(name):
                self.found.add(name)
                ring.range(start, end)

    def missing(self) -> list[str]:
        """Symbols that were nowhere."""
        return sorted(self.symbols - self.found)
