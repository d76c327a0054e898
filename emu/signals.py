"""What SIGINT, SIGTERM and SIGHUP do to a process that runs a machine."""

from __future__ import annotations

import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType
    from typing import NoReturn


class Signals:
    """SIGINT, SIGTERM and SIGHUP end the process in order: files closed, the terminal restored.

    Until the machine runs a signal is an exception at once.  While it runs it is a note that the machine's
    loop looks at: an exception between any two lines may come in what C has called, where it would be lost.
    The second signal is an exception again.
    """

    CAUGHT = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def __init__(self) -> None:
        self.number = 0
        self.running = False

    def __enter__(self) -> Signals:
        self.before = {
            number: signal.signal(number, self.caught)
            for number in self.CAUGHT
            if signal.getsignal(number) != signal.SIG_IGN
        }
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)
        # Python makes other exceptions of ours here and there, or drops them.
        if self.number and (kind is None or issubclass(kind, Exception)):
            self.stop()

    def caught(self, number: int, frame: FrameType | None) -> None:
        again, self.number = self.number != 0, self.number or number
        if again or not self.running:
            self.stop()

    def pending(self) -> bool:
        """Whether one has come."""
        return self.number != 0

    def stop(self) -> NoReturn:
        """Unwinds the stack."""
        if self.number == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(128 + self.number)
