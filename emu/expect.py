"""A machine's console from a script: expect text, type an answer.

    with Machine("virt", kernel="Image", initrd="initrd.gz", append="console=ttyAMA0") as machine:
        machine.console.expect("login: ", timeout=60)
        machine.console.sendline("root")
        version = machine.console.expect(re.compile(r"Linux (\\S+)")).group(1)

The guest runs while something is expected and stands still otherwise, so nothing that it says is missed and a
slow test changes nothing for it.
"""

from __future__ import annotations

import codecs
import re

from accel.errors import EmuError
from emu.backends.chardev import Chardev, MemoryChardev

TYPE_CHECKING = False
if TYPE_CHECKING:
    from emu.machine import Machine

# Characters of the guest's that are kept at least, and bytes that may be typed ahead of it.
KEPT = 1 << 20
# Lines of the console that an error shows.
LINES = 12
TIMEOUT = 30.0


class NotSeen(EmuError):
    """What was expected has not come; the text has the last lines of the console.

    reason: "timeout", or QMP's word for the guest's end, as in a Result.
    """

    status = 1

    def __init__(self, text: str, reason: str) -> None:
        super().__init__(text)
        self.reason = reason


class Heard(MemoryChardev):
    """A serial line's end that keeps what the guest says as text; of one that says too much, the end."""

    def __init__(self) -> None:
        super().__init__()
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._pieces: list[str] = []
        self._size = 0
        self._begin = 0  # how much has been dropped

    write = Chardev.write

    def quiet(self) -> Heard:
        return Heard()

    def send(self, data: memoryview) -> int:
        piece = self._decode(bytes(data)).replace("\r", "")
        self._pieces.append(piece)
        self._size += len(piece)
        if self._size > 2 * KEPT:
            text = "".join(self._pieces)[-KEPT:]
            self._begin += self._size - len(text)
            self._pieces, self._size = [text], len(text)
        if self._loop is not None:
            self._loop.wake()
        return len(data)

    def heard(self) -> tuple[int, str]:
        """What is kept, and at which character of all that was said it begins."""
        with self._lock:
            self._push()
            if len(self._pieces) != 1:
                self._pieces = ["".join(self._pieces)]
            return self._begin, self._pieces[0]

    @property
    def text(self) -> str:
        return self.heard()[1]


class Console:
    """A serial line of a machine, from a script.

    text: what the guest has said, without carriage returns; before: of that, what came between the last match
    and the one before it; timeout: seconds that expect() waits if it is not told.
    """

    def __init__(self, machine: Machine, line: Heard) -> None:
        self.timeout = TIMEOUT
        self._machine = machine
        self._line = line
        self._taken = 0  # characters of all that was said, up to the end of the last match
        self.before = ""

    @property
    def text(self) -> str:
        return self._line.text

    def expect(self, wanted: str | re.Pattern[str], timeout: float | None = None) -> re.Match[str]:
        """Runs the machine until it says `wanted`, a text or a compiled regular expression; then it pauses.

        A pattern matches as soon as it can, by what has come so far: end it with the end of the line.  What
        came up to the end of one match is not looked at for the next.  Raises NotSeen when it has not come
        for `timeout` seconds (None: self.timeout), or the guest has ended; and what Machine.run raises.
        """
        timeout = self.timeout if timeout is None else timeout
        pattern = re.compile(re.escape(wanted)) if isinstance(wanted, str) else wanted
        found: list[tuple[int, re.Match[str]]] = []
        size = -1

        def seen() -> bool:
            nonlocal size
            begin, text = self._line.heard()
            if begin + len(text) != size:  # the machine asks after every event
                size = begin + len(text)
                match = pattern.search(text, max(0, self._taken - begin))
                if match is not None:
                    found.append((begin, match))
            return bool(found)

        if not seen():
            if self._machine.state == "shutdown":
                raise self._not_seen(pattern, "the machine has ended", "shutdown")
            result = self._machine.run(timeout, until=seen)
            if not seen():
                late = result.reason == "timeout"
                why = f"{timeout:g} s have passed" if late else f"the guest has ended ({result.reason})"
                raise self._not_seen(pattern, why, result.reason)
        begin, match = found[0]
        self.before = match.string[max(0, self._taken - begin) : match.start()]
        self._taken = begin + match.end()
        return match

    def send(self, text: str | bytes) -> None:
        """Types something; the guest reads it while it runs, as it has room."""
        self._line.type(text)

    def sendline(self, text: str = "") -> None:
        """Types something and the Enter key."""
        self.send(text + "\r")

    def last_lines(self, count: int = LINES) -> str:
        """The end of what the guest has said."""
        return "\n".join(self.text.rstrip().split("\n")[-count:])

    def _not_seen(self, pattern: re.Pattern[str], why: str, reason: str) -> NotSeen:
        lines = self.last_lines()
        said = f"its last lines:\n{lines}" if lines else "it has said nothing"
        return NotSeen(f"{why} without {pattern.pattern!r} on the console; {said}", reason)
