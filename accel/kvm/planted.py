"""Breakpoints in the guest's code: INT3 over instructions, for those that debug registers have no room for.

They are there while a vCPU runs, and nobody else sees them: where all are out of the guest, memory is as the
guest has it.  Each is a byte of physical memory, wherever the guest maps it.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager

from accel.errors import MapError
from accel.memory import RAM, ROM

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from accel.memory import AddressSpace

INT3 = b"\xcc"
USER, LARGE = 4, 0x80
PAGE_ADDRESS = 0x000F_FFFF_FFFF_F000


class Planted:
    """A machine's: want() says where each vCPU wants them, enter() and leave() that one runs.

    kernel_only: who executes one in user mode raises the guest's exception, and nobody is told.
    """

    def __init__(self, memory: AddressSpace, kernel_only: bool) -> None:
        self._memory = memory
        self.kernel_only = kernel_only
        self._lock = threading.Lock()
        self._wanted: dict[int, frozenset[int]] = {}  # physical addresses, by vCPU
        self._there: dict[int, bytes] = {}  # what stood there
        self._running = 0

    def possible(self, address: int) -> bool:
        """Whether a byte of memory is at that physical address."""
        found = self._memory.find(address)
        return found is not None and found.region.kind in (RAM, ROM)

    def for_users(self, address: int, cr3: int, levels: int) -> bool:
        """Whether user mode may come to a linear address that is mapped (Intel SDM vol. 3, 4.6)."""
        table = cr3 & PAGE_ADDRESS
        for level in range(levels - 1, -1, -1):
            at = table + 8 * (address >> 12 + 9 * level & 511)
            entry = int.from_bytes(self._memory.peek(at, 8), "little")
            if not entry & USER:
                return False
            if entry & LARGE:
                break
            table = entry & PAGE_ADDRESS
        return True

    def want(self, vcpu: int, addresses: Iterable[int]) -> None:
        """Where a vCPU wants them from now on."""
        with self._lock:
            self._wanted[vcpu] = frozenset(addresses)
            self._change()

    def __contains__(self, address: int) -> bool:
        return any(address in wanted for wanted in self._wanted.values())

    def __bool__(self) -> bool:
        return any(self._wanted.values())

    def enter(self) -> None:
        """A vCPU is about to run."""
        with self._lock:
            self._running += 1
            self._change()

    def leave(self) -> None:
        """It is out of the guest."""
        with self._lock:
            self._running -= 1
            self._change()

    @contextmanager
    def without(self, address: int) -> Iterator[None]:
        """For one vCPU's step: others that come there meanwhile do not stop."""
        with self._lock:
            self._lift(address)
        try:
            yield
        finally:
            with self._lock:
                self._change()

    def _change(self) -> None:
        wanted = frozenset[int]().union(*self._wanted.values()) if self._running else frozenset()
        for address in [each for each in self._there if each not in wanted]:
            self._lift(address)
        for address in wanted - self._there.keys():
            before = self._memory.peek(address, 1)
            try:
                self._memory.load(address, INT3)
            except MapError:
                continue  # the guest has moved what was there
            self._there[address] = before

    def _lift(self, address: int) -> None:
        before = self._there.pop(address, None)
        # What the guest has written since is not undone.
        if before is not None and self._memory.peek(address, 1) == INT3:
            self._memory.load(address, before)
