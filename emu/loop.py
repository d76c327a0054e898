"""The event loop of a machine: host descriptors, the guest's timers, and calls from other threads.

One thread runs it, the one that called Machine.run(); vCPUs are in threads of their own.  poll(2) is used
because it takes regular files too, and tells of a hang-up where nothing is read.
"""

from __future__ import annotations

import math
import os
import select
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

Handler = Callable[[], None]
# poll(2) takes no longer waits; a guest may set an alarm for the year 10000.
LONGEST = 86_400.0
GONE = select.POLLHUP | select.POLLERR | select.POLLNVAL
READABLE, WRITABLE = select.POLLIN | GONE, select.POLLOUT | GONE


class Loop:
    """Waits for descriptors, deadlines and calls.

    call(), call_later() and wake() from any thread, the rest from the loop's.
    """

    def __init__(self) -> None:
        self._poll = select.poll()
        self._event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._poll.register(self._event, select.POLLIN)
        self._handlers: dict[int, dict[int, Handler]] = {}
        self._calls: deque[Handler] = deque()
        self._later: list[tuple[float, Handler]] = []
        self._lock = threading.Lock()
        self._signal, self._signalled = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.watch(self._signal, read=self._forget_signals)

    @contextmanager
    def hearing(self) -> Iterator[None]:
        """Within it a signal ends the step that waits, whichever thread the kernel gave it to.

        Python's handlers run in the main thread alone; in another this does nothing.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.set_wakeup_fd(self._signalled, warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(before)

    def watch(
        self,
        fd: int,
        *,
        read: Handler | None = None,
        write: Handler | None = None,
        hangup: Handler | None = None,
    ) -> None:
        """Calls `read` while the descriptor is readable and `write` while it is writable, either also while
        it is hung up; `hangup` is for who waits for neither.  None of them forgets it."""
        given = ((READABLE, read), (WRITABLE, write), (GONE, hangup))
        wanted = {events: handler for events, handler in given if handler is not None}
        mask = (select.POLLIN if read is not None else 0) | (select.POLLOUT if write is not None else 0)
        if wanted:
            self._poll.register(fd, mask)  # again changes what is waited for
            self._handlers[fd] = wanted
        elif self._handlers.pop(fd, None) is not None:
            self._poll.unregister(fd)

    def call(self, function: Handler) -> None:
        """Calls `function` in the loop's thread soon."""
        self._calls.append(function)
        self.wake()

    def call_later(self, seconds: float, function: Handler) -> None:
        """Calls `function` in the loop's thread after a delay of host time."""
        with self._lock:
            self._later.append((time.monotonic() + seconds, function))
        self.wake()

    def wake(self) -> None:
        """Ends the step that is waiting, or the next one at once."""
        try:
            os.eventfd_write(self._event, 1)
        except BlockingIOError:
            pass  # full: it is awake already

    def _forget_signals(self) -> None:
        os.read(self._signal, 4096)  # their handlers have run, or do so at once

    def step(self, timeout: float | None) -> None:
        """Waits at most `timeout` seconds (None: for ever) and serves what has come."""
        with self._lock:
            if self._later:
                soonest = max(0.0, min(due for due, _ in self._later) - time.monotonic())
                timeout = soonest if timeout is None else min(timeout, soonest)
        if timeout is not None:
            timeout = min(timeout, LONGEST)
        # poll(2) counts whole milliseconds: what is due in less is not waited for in circles.
        for fd, events in self._poll.poll(None if timeout is None else math.ceil(timeout * 1000)):
            if fd == self._event:
                os.eventfd_read(self._event)
                continue
            for wanted, handler in list(self._handlers.get(fd, {}).items()):
                # A handler may have forgotten or changed the descriptor.
                if events & wanted and self._handlers.get(fd, {}).get(wanted) == handler:
                    handler()
        with self._lock:
            now = time.monotonic()
            ready = [function for due, function in self._later if due <= now]
            self._later = [entry for entry in self._later if entry[0] > now]
        for function in ready:
            function()
        for _ in range(len(self._calls)):
            self._calls.popleft()()

    def close(self) -> None:
        """Forgets everything; the watched descriptors stay open."""
        for fd in (self._event, self._signal, self._signalled):
            os.close(fd)
        self._event = self._signal = self._signalled = -1
        self._handlers.clear()

    def __enter__(self) -> Loop:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()
