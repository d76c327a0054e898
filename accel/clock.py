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

    def arm(self, deadline: int) -> None:
        """Fires once when now() reaches `deadline` (ns); replaces an earlier deadline."""
        self._clock._arm(self, deadline)

    def cancel(self) -> None:
        """Does not fire any more."""
        self.deadline = None


class Clock:
    """Guest time in ns since the machine's first start; it runs between start() and stop().

    Who drives the machine calls due() when next_deadline() has come: timers fire in that thread.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._elapsed = 0
        self._since: int | None = None
        self._heap: list[tuple[int, int, Timer]] = []
        self._order = itertools.count()
        self.changed: Callable[[], None] | None = None

    def now(self) -> int:
        """Guest time in ns."""
        since = self._since
        return self._elapsed if since is None else self._elapsed + int(lib.emu_now()) - since

    def start(self) -> None:
        """Lets time run."""
        with self._lock:
            if self._since is None:
                self._since = int(lib.emu_now())

    def stop(self) -> None:
        """Holds time."""
        with self._lock:
            if self._since is not None:
                self._elapsed += int(lib.emu_now()) - self._since
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

    def _arm(self, timer: Timer, deadline: int) -> None:
        with self._lock:
            timer.deadline = deadline
            heapq.heappush(self._heap, (deadline, next(self._order), timer))
        if self.changed is not None:
            self.changed()

    def next_deadline(self) -> int | None:
        """The earliest deadline (guest ns), or None."""
        with self._lock:
            while self._heap and self._heap[0][2].deadline != self._heap[0][0]:
                heapq.heappop(self._heap)
            return self._heap[0][0] if self._heap else None

    def due(self) -> int:
        """Fires every timer whose time has come; returns how many."""
        fired = 0
        while True:
            with self._lock:
                if not self._heap or self._heap[0][0] > self.now():
                    return fired
                deadline, _, timer = heapq.heappop(self._heap)
                if timer.deadline != deadline:
                    continue
                timer.deadline = None
            timer.callback()
            fired += 1
