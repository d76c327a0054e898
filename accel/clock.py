"""The guest's time: nanoseconds that stand still while the machine does.

Devices ask `now()` and set Timers; nobody else reads the host's clock, so that a stopped or restored
machine sees no jump.
"""

from __future__ import annotations

import heapq
import itertools
import threading
from collections.abc import Callable

from accel.native import lib


class Timer:
    """One deadline.  Made by Clock.timer()."""

    def __init__(self, clock: Clock, callback: Callable[[], None]) -> None:
        self._clock = clock
        self.callback = callback
        self.deadline: int | None = None
        self._entry = -1  # the number of its one valid entry in the clock's heap

    def arm(self, deadline: int) -> None:
        """Fires once when now() reaches `deadline` (ns); replaces an earlier deadline."""
        self._clock._arm(self, deadline)

    def cancel(self) -> None:
        """Does not fire any more (unless its callback is running already)."""
        self._clock._cancel(self)


class Clock:
    """Guest time in ns since the machine's first start; it runs between start() and stop().

    Who drives the machine calls due() when next_deadline() has come: timers fire in that thread.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._elapsed = 0
        self._since: int | None = None
        self._compact_at = 64
        self._heap: list[tuple[int, int, Timer]] = []
        self._order = itertools.count()
        self.changed: Callable[[], None] | None = None

    def now(self) -> int:
        """Guest time in ns."""
        # Under the lock: without it, time read while another thread stops the clock could run ahead of it.
        with self._lock:
            return self._now()

    def start(self) -> None:
        """Lets time run."""
        with self._lock:
            if self._since is None:
                self._since = int(lib.emu_now())

    def stop(self) -> None:
        """Holds time."""
        with self._lock:
            self._elapsed = self._now()
            self._since = None

    def restore(self, now: int) -> None:
        """Sets the time, when a saved machine is loaded."""
        with self._lock:
            self._elapsed = now
            if self._since is not None:
                self._since = int(lib.emu_now())

    def timer(self, callback: Callable[[], None]) -> Timer:
        """A timer, unarmed."""
        return Timer(self, callback)

    def _now(self) -> int:
        since = self._since
        return self._elapsed if since is None else self._elapsed + int(lib.emu_now()) - since

    def _arm(self, timer: Timer, deadline: int) -> None:
        with self._lock:
            timer.deadline = deadline
            timer._entry = next(self._order)
            heapq.heappush(self._heap, (deadline, timer._entry, timer))
            if len(self._heap) >= self._compact_at:
                # A guest that sets its timer again and again must not fill our memory.
                self._heap = [entry for entry in self._heap if entry[1] == entry[2]._entry]
                heapq.heapify(self._heap)
                self._compact_at = 2 * len(self._heap) + 64
        if self.changed is not None:
            self.changed()

    def _cancel(self, timer: Timer) -> None:
        with self._lock:
            timer.deadline = None
            timer._entry = -1

    def next_deadline(self) -> int | None:
        """The earliest deadline (guest ns), or None."""
        with self._lock:
            while self._heap and self._heap[0][1] != self._heap[0][2]._entry:
                heapq.heappop(self._heap)
            return self._heap[0][0] if self._heap else None

    def due(self) -> int:
        """Fires every timer whose time has come; returns how many.

        One that is armed meanwhile waits for the next call: a timer of no period cannot hold the machine.
        """
        fired = 0
        now = self.now()
        newest = next(self._order)
        later: list[tuple[int, int, Timer]] = []
        try:
            while True:
                with self._lock:
                    if not self._heap or self._heap[0][0] > now:
                        return fired
                    entry = heapq.heappop(self._heap)
                    timer = entry[2]
                    if entry[1] != timer._entry:
                        continue
                    if entry[1] > newest:
                        later.append(entry)
                        continue
                    timer.deadline = None
                    timer._entry = -1
                timer.callback()
                fired += 1
        finally:
            with self._lock:
                for entry in later:
                    heapq.heappush(self._heap, entry)
