"""What a format does with events, and where its bytes go."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


class Output:
    """A descriptor that is written in large pieces."""

    ROOM = 1 << 16

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._pieces: list[str] = []
        self._size = 0

    def put(self, text: str) -> None:
        self._pieces.append(text)
        self._size += len(text)
        if self._size >= self.ROOM:
            self.flush()

    def flush(self) -> None:
        """Raises OSError where it cannot be written; what could not be is lost then."""
        data = "".join(self._pieces).encode("utf-8", "surrogateescape")
        self._pieces.clear()
        self._size = 0
        while data:
            data = data[os.write(self._fd, data) :]


class Writer:
    """One format.  Times are nanoseconds of CLOCK_MONOTONIC; `where` is main+0x10, "" for nowhere known."""

    def __init__(self, output: Output) -> None:
        self.output = output

    def start(self) -> None:
        """Before all others."""

    def instruction(
        self,
        ns: int,
        pid: int,
        tid: int,
        at: int,
        code: bytes,
        where: str,
        text: str,
        changes: Sequence[tuple[str, int]],
    ) -> None:
        """It has been executed, and has changed registers."""

    def block(self, ns: int, pid: int, tid: int, at: int, size: int, where: str) -> None:
        """It is entered."""

    def call(
        self,
        ns: int,
        end: int,
        pid: int,
        tid: int,
        name: str,
        args: Sequence[int],
        result: int | None,
        text: str,
    ) -> None:
        """A system call has returned, or does not (None); text: as strace prints it."""

    def event(self, kind: str, ns: int, pid: int, tid: int, **fields: int | str) -> None:
        """Anything else; `text` says it to people."""

    def close(self) -> None:
        """The whole of it is there."""
        self.output.flush()
