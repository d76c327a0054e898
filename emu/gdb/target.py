"""What the stub needs of what is debugged: a machine (machine.py) or a Linux program (process.py)."""

from __future__ import annotations

from enum import Enum

from accel.errors import EmuError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Protocol

    from isa.arch import Arch, Register

# GDB's numbers of signals, where they differ from what every Linux has (include/gdb/signals.def).
SIGINT, SIGTRAP = 2, 5


class Refused(EmuError):
    """What the client asked for cannot be had here; the text is for its user."""


class Kind(Enum):
    """Z packets' types."""

    SOFTWARE = 0
    HARDWARE = 1
    WRITE = 2
    READ = 3
    ACCESS = 4


class Stop:
    """Why what is debugged has stopped.

    thread; signal: GDB's number; reason: "", "swbreak", "hwbreak", "watch", "rwatch", "awatch", "exec",
    "exited" (signal is the exit code) or "killed"; value: the watched address, or the program executed.
    """

    __slots__ = ("reason", "signal", "thread", "value")

    def __init__(self, thread: int, signal: int = SIGTRAP, reason: str = "", value: int | str = 0) -> None:
        self.thread = thread
        self.signal = signal
        self.reason = reason
        self.value = value


class Action:
    """What a thread does when it is resumed.

    step: one instruction; within: step until the pc is outside of [start, end); signal: GDB's number of one
    that it gets, 0 for none.
    """

    __slots__ = ("signal", "step", "within")

    def __init__(self, step: bool = False, signal: int = 0, within: tuple[int, int] | None = None) -> None:
        self.step = step
        self.signal = signal
        self.within = within


if TYPE_CHECKING:

    class Target(Protocol):
        """Threads have numbers from 1 on.  All are stopped but between resume() and a call of `stopped`.

        Everything that is asked may raise Refused.
        """

        arch: Arch
        # In the order of their numbers in the protocol.
        registers: tuple[Register, ...]
        osabi: str
        pid: int
        # It ran before the client came, who leaves it running.
        attached: bool
        stopped: Callable[[Stop], None]
        # Kinds of breakpoints that insert() knows.
        kinds: frozenset[Kind]

        def threads(self) -> list[int]: ...
        def thread_text(self, thread: int) -> str: ...
        def read_registers(self, thread: int, names: tuple[str, ...]) -> list[int | None]:
            """None for one that cannot be had."""

        def write_registers(self, thread: int, values: Mapping[str, int]) -> None: ...
        def read(self, address: int, size: int) -> bytes:
            """As many as there are, at least one."""

        def write(self, address: int, data: bytes) -> None: ...
        def insert(self, kind: Kind, address: int, size: int) -> None: ...
        def remove(self, kind: Kind, address: int, size: int) -> None: ...
        def status(self) -> Stop:
            """Why it stands, as `stopped` was told the last time."""

        def resume(self, actions: Mapping[int, Action]) -> None:
            """Threads that are not named stay where they are."""

        def interrupt(self) -> None: ...
        def kill(self) -> None: ...
        def detach(self) -> None: ...
        def reset(self) -> None: ...
        def monitor(self, words: str) -> str:
            """What `monitor WORDS` prints."""

        def setting(self, name: str, value: str | None) -> str | None:
            """qqemu.NAME and Qqemu.NAME: the value, set first where one is given; None: there is no such."""

        def object(self, name: str, annex: str, thread: int = 0) -> bytes | None:
            """What qXfer:NAME:read:ANNEX is about, of that thread; None: there is no such thing."""

        def open(self, path: str) -> int:
            """A descriptor of a file that the target sees, for reading; raises OSError."""
