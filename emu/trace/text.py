"""Lines for people."""

from __future__ import annotations

from emu.trace.writer import Output, Writer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def nzcv(flags: int) -> str:
    """Arm's condition flags, capitals where they are set."""
    return "".join(
        (letter if flags >> bit & 1 else letter.lower())
        for letter, bit in (("N", 31), ("Z", 30), ("C", 29), ("V", 28))
    )


class TextWriter(Writer):
    """One line an event; the thread's id stands before it where there is more than one."""

    def __init__(self, output: Output) -> None:
        super().__init__(output)
        self._first = 0
        self._several = False

    def _before(self, tid: int) -> str:
        if tid != self._first:
            if self._first:
                self._several = True
            else:
                self._first = tid
        return f"[{tid}] " if self._several else ""

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
        line = f"{self._before(tid)}{at:12x}  {where:<28} {text}"
        if changes:
            values = " ".join(
                f"{name}={nzcv(value)}" if name == "nzcv" else f"{name}={value:#x}" for name, value in changes
            )
            line = f"{line:<84} {values}"
        self.output.put(line + "\n")

    def block(self, ns: int, pid: int, tid: int, at: int, size: int, where: str) -> None:
        self.output.put(f"{self._before(tid)}{at:12x}  {where:<28} block of {size} bytes\n")

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
        self.output.put(f"{self._before(tid)}{text}\n")

    def event(self, kind: str, ns: int, pid: int, tid: int, **fields: int | str) -> None:
        if fields["text"]:
            self.output.put(f"{self._before(tid)}{fields['text']}\n")
