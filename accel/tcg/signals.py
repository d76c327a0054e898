"""Host signals while the guest runs in Python's main thread.

Python's handlers run between its own instructions, in the main thread; a guest that runs there would keep
them waiting for ever (Ctrl-C included).  The signal's arrival is told to a file descriptor
(signal.set_wakeup_fd) that a thread reads: it kicks the vCPU, run() returns, and the handler has its turn.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable


class Waker:
    """Calls `kick` when a signal arrives between enter() and leave(), both made by the main thread."""

    def __init__(self, kick: Callable[[], None]) -> None:
        self._kick = kick
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        self._before = -1
        self._thread: threading.Thread | None = None

    def enter(self) -> None:
        """The guest is about to run."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._wait, name="tcg signals", daemon=True)
            self._thread.start()
        self._before = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)

    def leave(self) -> None:
        """It has stopped."""
        signal.set_wakeup_fd(self._before, warn_on_full_buffer=False)

    def close(self) -> None:
        """Ends the thread."""
        os.close(self._write)
        if self._thread is not None:
            self._thread.join()
        os.close(self._read)

    def _wait(self) -> None:
        while numbers := os.read(self._read, 64):
            self._kick()
            if self._before >= 0:  # whose turn it was, an event loop's
                try:
                    os.write(self._before, numbers)
                except OSError:
                    continue
